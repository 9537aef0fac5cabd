"""Several routers on the same rows: who wins, by how much, how surely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.evaluation._curve import CostCurve, check_cost_range, hull_area, hull_corners
from skquee.evaluation._intervals import bootstrap_areas, corrected_interval, paired_comparison
from skquee.evaluation._scorers import cost_curve
from skquee.values._checks import check_integer, check_number, check_seed
from skquee.values._costs import common_unit
from skquee.values._optional import require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]


def compare(
    methods: Mapping[str, Any],
    X: Any,
    y: ArrayLike | None = None,
    *,
    reference: str | None = None,
    cost_range: tuple[float, float] | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = None,
) -> pd.DataFrame:
    """Compare the curves of several methods on the same rows.

    Parameters
    ----------
    methods : mapping of str to router, Pipeline or CostCurve
        Fitted routers, each swept over a grid of its own, or curves measured on these rows.
    X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), or mapping
        Rows to measure on; not read for curves. A mapping gives each method its own form of
        the same rows.
    y : array-like of shape (n_samples,), default=None
        Labels. Not needed where the rows carry losses.
    reference : str, default=None
        The method that others are held against. Default: the first.
    cost_range : (float, float), default=None
        Range of cost of the areas. Default: where all have operating points, up to the
        dearest path.
    n_resamples : int, default=1000
        Bootstrap resamples, the same rows for both of a pair.
    confidence : float, default=0.95
        Level of the intervals.
    random_state : int, default=None
        Seed.

    Returns
    -------
    DataFrame
        A row a method: ``area`` under its hull over the range; ``low`` and ``high``, the
        interval of its own area as of :func:`bootstrap_interval`;
        ``difference``, the reference's area less its own, with ``difference_low``,
        ``difference_high`` and ``p_value`` of :func:`paired_bootstrap`.
        ``attrs["curves"]`` holds the curves by name, for a picture.

    Raises
    ------
    ValueError
        If there is no method, the reference is not among them, or a curve was measured on
        other rows.

    Examples
    --------
    >>> from skquee.baselines import FixedPath, ThresholdRouter
    >>> from skquee.evaluation import compare
    >>> from skquee.testing import make_path_probabilities
    >>> X, y = make_path_probabilities(300)
    >>> methods = {"threshold": ThresholdRouter(), "fixed": FixedPath()}
    >>> fitted = {name: method.fit(X[:150], y[:150]) for name, method in methods.items()}
    >>> table = compare(fitted, X[150:], y[150:], n_resamples=20, random_state=0)
    >>> list(table.index), float(table.loc["threshold", "difference"])
    (['threshold', 'fixed'], 0.0)
    """
    pd = require("pandas", "compare")

    if not (isinstance(methods, Mapping) and len(methods)):
        raise ValueError(
            "methods must map names to fitted routers or curves, at least one, got "
            f"{type(methods).__name__} of {len(methods) if hasattr(methods, '__len__') else 0}."
        )
    check_number(confidence, "confidence", above=0, below=1)
    check_integer(n_resamples, "n_resamples", at_least=1)
    check_seed(random_state)
    first = next(iter(methods)) if reference is None else reference
    if first not in methods:
        raise ValueError(f"reference must be one of {list(methods)}, got {reference!r}.")
    if isinstance(X, Mapping):
        lacking = [
            name
            for name, method in methods.items()
            if name not in X and not isinstance(method, CostCurve)
        ]
        if lacking:
            raise ValueError(
                f"X is a mapping without rows for {lacking}: it must have each method's name, "
                f"got {list(X)}."
            )
    n_samples = None if y is None else len(np.asarray(y))
    curves: dict[str, CostCurve] = {}
    for name, method in methods.items():
        if isinstance(method, CostCurve):
            curves[name] = method
        else:
            curves[name] = cost_curve(method, None, X[name] if isinstance(X, Mapping) else X, y)
        found = curves[name].paths.shape[1]
        n_samples = found if n_samples is None else n_samples
        if found != n_samples:
            other = f"the others on {n_samples}" if y is None else f"y has {n_samples}"
            raise ValueError(
                f"The curve of {name!r} was measured on {found} rows, but {other}: "
                "methods can only be compared on the same rows."
            )
    unit = common_unit(curve.tree.cost_unit for curve in curves.values())
    low, high = (
        (
            max(curve.cost.min() for curve in curves.values()),
            max(curve.cost_range[1] for curve in curves.values()),
        )
        if cost_range is None
        else check_cost_range(cost_range)
    )

    def area(cost: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float:
        return hull_area(*hull_corners(cost, accuracy), low, high)

    whole, resampled = bootstrap_areas(list(curves.values()), area, n_resamples, random_state)
    ours = list(curves).index(first)
    rows_of = []
    for place, curve in enumerate(curves.values()):
        pair = paired_comparison(
            whole[ours] - whole[place], resampled[ours] - resampled[place], confidence
        )
        own = corrected_interval(whole[place], resampled[place], curve.sample_weight, confidence)
        rows_of.append(
            {
                "area": whole[place],
                "low": own[0],
                "high": own[1],
                "difference": pair.difference,
                "difference_low": pair.low,
                "difference_high": pair.high,
                "p_value": pair.p_value,
            }
        )
    table = pd.DataFrame(rows_of, index=pd.Index(list(curves), name="method"))
    table.attrs.update(
        curves=curves, reference=first, cost_range=(float(low), float(high)), cost_unit=unit
    )
    return table
