"""Answers: which of the visited paths' probabilities a stopped sample is given."""

from skquee.method._answers import EnsembleAnswer, RecallAnswer, cross_fitted_answers

__all__ = ["EnsembleAnswer", "RecallAnswer", "cross_fitted_answers"]
