"""Evaluation: curves, metrics, intervals and scorers. Arrays in, arrays out."""

from skquee.evaluation._betting import wsr_p_value, wsr_upper_bound
from skquee.evaluation._certify import Certificate, certify
from skquee.evaluation._compare import compare, oracle_share
from skquee.evaluation._curve import CostCurve, hull_points
from skquee.evaluation._intervals import (
    bootstrap_interval,
    subset_interval,
)
from skquee.evaluation._metrics import (
    brier_score,
    calibration_bins,
    calibration_error,
    rmse,
    wilson_interval,
)
from skquee.evaluation._paired import PairedComparison, holm_adjusted, paired_bootstrap
from skquee.evaluation._risk import (
    binomial_p_value,
    conformal_risk_threshold,
    hoeffding_bentkus_p_value,
    learn_then_test,
    paired_p_value,
)
from skquee.evaluation._scorers import (
    _Scorer,
    area_scorer,
    budget_scorer,
    cost_curve,
    price_scorer,
    route,
    unpack,
)
from skquee.values._public import publish

__all__ = [
    "Certificate",
    "CostCurve",
    "PairedComparison",
    "area_scorer",
    "binomial_p_value",
    "bootstrap_interval",
    "brier_score",
    "budget_scorer",
    "calibration_bins",
    "calibration_error",
    "certify",
    "compare",
    "conformal_risk_threshold",
    "cost_curve",
    "hoeffding_bentkus_p_value",
    "holm_adjusted",
    "hull_points",
    "learn_then_test",
    "oracle_share",
    "paired_bootstrap",
    "paired_p_value",
    "price_scorer",
    "rmse",
    "route",
    "subset_interval",
    "unpack",
    "wilson_interval",
    "wsr_p_value",
    "wsr_upper_bound",
]

publish(__name__, *(globals()[name] for name in __all__))
# Not offered, but stored in files under this name.
publish(__name__, _Scorer)
