"""Baselines: what a router has to beat, with a router's face."""

from skquee.baselines._fixed import FixedPath, RandomMixing
from skquee.baselines._next_step import NextStepRouter
from skquee.baselines._oracle import OracleRouter
from skquee.baselines._threshold import BudgetedThresholdRouter, PatienceRouter, ThresholdRouter

__all__ = [
    "BudgetedThresholdRouter",
    "FixedPath",
    "NextStepRouter",
    "OracleRouter",
    "PatienceRouter",
    "RandomMixing",
    "ThresholdRouter",
]
