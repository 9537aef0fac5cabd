"""How much of what could be gained over single paths a router gains."""

from __future__ import annotations

import numpy as np

from skquee.evaluation._curve import CostCurve, check_cost_range
from skquee.values._costs import common_unit

__all__ = ["oracle_share"]


def oracle_share(
    ours: CostCurve,
    fixed: CostCurve,
    oracle: CostCurve,
    *,
    cost_range: tuple[float, float] | None = None,
) -> float:
    """Return the share of the oracle gap that a router closes.

    ``(ours - fixed) / (oracle - fixed)`` of the areas under the hulls over cost: 0 where routing
    does no better than mixtures of fixed paths, 1 where it does as well as if it knew each row's
    cheapest right path. Nobody reaches 1: what is right is in part luck.

    Parameters
    ----------
    ours : CostCurve
        Of the router.
    fixed : CostCurve
        Of :class:`skquee.baselines.FixedPath`, on the same rows.
    oracle : CostCurve
        Of :class:`skquee.baselines.OracleRouter`, on the same rows.
    cost_range : (float, float), default=None
        From and to. Default: from the cheapest to the dearest path of the tree.

    Returns
    -------
    float
        Negative where the router is below fixed paths; NaN where the oracle gains nothing over
        them, so that there is no gap.

    Raises
    ------
    ValueError
        If the curves were measured on different numbers of rows, or in different units.

    Examples
    --------
    >>> from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
    >>> from skquee.evaluation import oracle_share
    >>> from skquee.testing import make_path_probabilities
    >>> X, y = make_path_probabilities(600)
    >>> routers = ThresholdRouter(), FixedPath(), OracleRouter()
    >>> curves = [router.fit(X, y).cost_curve(None, X, y) for router in routers]
    >>> round(oracle_share(*curves), 2), oracle_share(curves[2], *curves[1:])
    (0.25, 1.0)
    """
    curves = ours, fixed, oracle
    sizes = [curve.paths.shape[1] for curve in curves]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"The curves of router, fixed paths and oracle were measured on {sizes} rows: measure "
            "all three on the same rows."
        )
    common_unit(curve.tree.cost_unit for curve in curves)
    span = ours.cost_range if cost_range is None else check_cost_range(cost_range)
    mine, low, high = (curve.area(span) for curve in curves)
    return (mine - low) / (high - low) if high > low else float(np.nan)
