"""Evaluation: curves, metrics, intervals and scorers. Arrays in, arrays out."""

from skquee.evaluation._compare import compare
from skquee.evaluation._curve import CostCurve, hull_points
from skquee.evaluation._intervals import (
    PairedComparison,
    bootstrap_interval,
    paired_bootstrap,
    subset_interval,
)
from skquee.evaluation._metrics import brier_score, calibration_bins, calibration_error, rmse
from skquee.evaluation._scorers import (
    area_scorer,
    budget_scorer,
    cost_curve,
    price_scorer,
    route,
    unpack,
)

__all__ = [
    "CostCurve",
    "PairedComparison",
    "area_scorer",
    "bootstrap_interval",
    "brier_score",
    "budget_scorer",
    "calibration_bins",
    "calibration_error",
    "compare",
    "cost_curve",
    "hull_points",
    "paired_bootstrap",
    "price_scorer",
    "rmse",
    "route",
    "subset_interval",
    "unpack",
]
