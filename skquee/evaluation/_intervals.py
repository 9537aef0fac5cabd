"""How sure a curve, or the difference of two, is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.utils.validation import check_random_state

from skquee.evaluation._curve import CostCurve, hull_area, hull_points

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PairedComparison", "bootstrap_interval", "paired_bootstrap", "subset_interval"]


def subset_interval(
    curve: CostCurve,
    *,
    n_subsets: int = 10,
    confidence: float = 0.95,
    cost_range: tuple[float, float] | None = None,
    random_state: object = None,
) -> pd.DataFrame:
    """Return means and intervals over disjoint subsets of the rows, as the paper reports.

    The rows are shuffled and cut into subsets of equal size; the interval is
    ``mean +- t * s / sqrt(n_subsets)`` with Student's t.

    Parameters
    ----------
    curve : CostCurve
        The curve.
    n_subsets : int, default=10
        Subsets.
    confidence : float, default=0.95
        Level of the intervals.
    cost_range : (float, float), default=None
        Range of the area. Default: from the cheapest to the dearest path.
    random_state : int, RandomState or None, default=None
        Seed of the shuffle.

    Returns
    -------
    DataFrame
        One row a point: knob, cost, accuracy, ``accuracy_low``, ``accuracy_high``.
        ``attrs["area"]`` holds the area as ``{"mean", "low", "high"}``.

    Raises
    ------
    ValueError
        If there are fewer rows with a weight than subsets.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.evaluation import CostCurve, subset_interval
    >>> correct = np.tile([True, True, True, False], 10)[None]
    >>> curve = CostCurve([1.0], np.zeros((1, 40)), correct, PathTree.chain([1]))
    >>> list(subset_interval(curve, random_state=0).columns)
    ['lambda_', 'cost', 'accuracy', 'accuracy_low', 'accuracy_high']
    """
    _check_confidence(confidence)
    rows = np.flatnonzero(curve.sample_weight)
    if not 2 <= n_subsets <= len(rows):
        raise ValueError(
            f"n_subsets must lie between 2 and the {len(rows)} rows that have a weight, got "
            f"{n_subsets}."
        )
    rows = check_random_state(random_state).permutation(rows)
    share = np.zeros((n_subsets, curve.paths.shape[1]))
    for line, part in zip(share, np.array_split(rows, n_subsets), strict=True):
        line[part] = curve.sample_weight[part]
    share /= share.sum(axis=1, keepdims=True)
    values = np.array(
        [
            [*accuracy, hull_area(*hull_points(cost, accuracy), *(cost_range or curve.cost_range))]
            for cost, accuracy in _points(curve, share)
        ]
    )
    t = stats.t.ppf((1 + confidence) / 2, n_subsets - 1)
    half = t * values.std(axis=0, ddof=1) / n_subsets**0.5
    mean = values.mean(axis=0)
    return _interval_frame(curve, mean, mean - half, mean + half)


def bootstrap_interval(
    curve: CostCurve,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: object = None,
) -> pd.DataFrame:
    """Return percentile intervals over bootstrap resamples of the rows.

    Parameters
    ----------
    curve : CostCurve
        The curve.
    n_resamples : int, default=1000
        Resamples.
    confidence : float, default=0.95
        Level of the intervals.
    random_state : int, RandomState or None, default=None
        Seed.

    Returns
    -------
    DataFrame
        As of :func:`subset_interval`; accuracy and area are those of all rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.evaluation import CostCurve, bootstrap_interval
    >>> correct = np.tile([True, True, True, False], 10)[None]
    >>> curve = CostCurve([1.0], np.zeros((1, 40)), correct, PathTree.chain([1]))
    >>> bootstrap_interval(curve, random_state=0)[["accuracy_low", "accuracy_high"]].round(2)
       accuracy_low  accuracy_high
    0           0.6           0.88
    """
    _check_confidence(confidence)
    rng = check_random_state(random_state)
    values = np.array(
        [
            [*accuracy, hull_area(*hull_points(cost, accuracy), *curve.cost_range)]
            for share in _resamples(rng, curve.sample_weight, n_resamples)
            for cost, accuracy in _points(curve, share)
        ]
    )
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return _interval_frame(curve, np.append(curve.accuracy, curve.area()), low, high)


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two curves on the same rows.

    Attributes
    ----------
    difference : float
        First less second, on all rows.
    low, high : float
        Bootstrap percentile interval.
    p_value : float
        Two-sided: how often resampling turns the sign.
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    first: CostCurve,
    second: CostCurve,
    *,
    at_cost: float | None = None,
    cost_range: tuple[float, float] | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: object = None,
) -> PairedComparison:
    """Compare two curves by resampling the same rows for both.

    Parameters
    ----------
    first, second : CostCurve
        Curves over the same rows, in the same order.
    at_cost : float, default=None
        Compare the hulls' accuracy at this mean cost. Default: compare areas.
    cost_range : (float, float), default=None
        Range of the areas. Default: where both curves have operating points, up to the
        dearest path.
    n_resamples : int, default=1000
        Resamples.
    confidence : float, default=0.95
        Level of the interval.
    random_state : int, RandomState or None, default=None
        Seed.

    Returns
    -------
    PairedComparison

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.evaluation import CostCurve, paired_bootstrap
    >>> correct = np.random.default_rng(0).random((1, 40)) < 0.7
    >>> curve = CostCurve([1.0], np.zeros((1, 40)), correct, PathTree.chain([1, 1]))
    >>> paired_bootstrap(curve, curve, random_state=0).difference
    0.0
    """
    _check_confidence(confidence)
    n_samples = first.paths.shape[1]
    if second.paths.shape[1] != n_samples:
        raise ValueError(
            f"The curves must be measured on the same rows, but they have {n_samples} and "
            f"{second.paths.shape[1]}."
        )
    if not np.array_equal(first.sample_weight, second.sample_weight):
        raise ValueError("The curves must have the same sample weights.")
    low, high = cost_range or (
        max(first.cost.min(), second.cost.min()),
        max(first.cost_range[1], second.cost_range[1]),
    )

    def value(cost: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float:
        hull = hull_points(cost, accuracy)
        if at_cost is not None:
            return float(np.interp(at_cost, *hull, left=0.0))
        return hull_area(*hull, low, high)

    rng = check_random_state(random_state)
    whole = value(first.cost, first.accuracy) - value(second.cost, second.accuracy)
    differences = np.array(
        [
            value(*a) - value(*b)
            for share in _resamples(rng, first.sample_weight, n_resamples)
            for a, b in zip(_points(first, share), _points(second, share), strict=True)
        ]
    )
    tail = (1 - confidence) / 2
    turned = min((differences <= 0).sum(), (differences >= 0).sum())
    return PairedComparison(
        difference=whole,
        low=float(np.quantile(differences, tail)),
        high=float(np.quantile(differences, 1 - tail)),
        # The given rows count as one resample: no finite number of draws shows p = 0.
        p_value=float(min(1.0, 2 * (turned + 1) / (n_resamples + 1))),
    )


def _resamples(
    rng: np.random.RandomState, weights: NDArray[np.float64], n_resamples: int
) -> Iterator[NDArray[np.float64]]:
    """Yield row weights of resamples, some at a time to bound memory."""
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}.")
    weighted = np.flatnonzero(weights)
    n_samples, n_rows = len(weights), len(weighted)
    size = max(1, min(n_resamples, 8_000_000 // n_samples))
    for start in range(0, n_resamples, size):
        k = min(size, n_resamples - start)
        drawn = weighted[rng.randint(n_rows, size=(k, n_rows))]
        draws = drawn + n_samples * np.arange(k)[:, None]
        counts = np.bincount(draws.ravel(), minlength=k * n_samples).reshape(k, n_samples)
        share = counts * weights
        yield share / share.sum(axis=1, keepdims=True)


def _points(
    curve: CostCurve, share: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    accuracy = share @ curve.correct.T.astype(np.float64)
    cost = share @ curve.sample_costs.T
    yield from zip(cost, accuracy, strict=True)


def _interval_frame(
    curve: CostCurve,
    mean: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> pd.DataFrame:
    """Frame of intervals at every point; the last entry is the area's."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            curve.knob: curve.knobs,
            "cost": curve.cost,
            "accuracy": mean[:-1],
            "accuracy_low": low[:-1],
            "accuracy_high": high[:-1],
        }
    )
    frame.attrs["source"] = curve.source
    frame.attrs["area"] = {"mean": float(mean[-1]), "low": float(low[-1]), "high": float(high[-1])}
    return frame


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
