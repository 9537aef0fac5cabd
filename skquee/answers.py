"""Answers: which of the visited paths' probabilities a stopped sample is given."""

from skquee.method._answers import AnswerRule, EnsembleAnswer, RecallAnswer, cross_fitted_answers

__all__ = ["AnswerRule", "EnsembleAnswer", "RecallAnswer", "cross_fitted_answers"]
