"""How sure a curve, or the difference of two, is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.utils.validation import check_random_state

from skquee.evaluation._curve import CLOSE, CostCurve, check_cost_range, hull_area, hull_corners
from skquee.values._checks import check_integer, check_number, check_seed
from skquee.values._costs import common_unit
from skquee.values._optional import require

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PairedComparison",
    "bootstrap_areas",
    "bootstrap_interval",
    "corrected_interval",
    "paired_bootstrap",
    "paired_comparison",
    "subset_interval",
]

# Areas and accuracies differ by less than this only by rounding: one row of a million by more.
ROUNDING = 1e-12


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

    The hull of few rows lies too high, so that the interval of the area covers the true one less
    often than its level says: at 95 % in 48 to 89 of 100 simulations with 100 to 1,000 rows
    (``examples/benchmarks/interval_coverage.py``). :func:`bootstrap_interval` corrects for that.

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
    _check_options(confidence, random_state)
    reach = curve.cost_range if cost_range is None else check_cost_range(cost_range)
    rows = np.flatnonzero(curve.sample_weight)
    check_integer(n_subsets, "n_subsets")
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
            [*accuracy, hull_area(*hull_corners(cost, accuracy), *reach)]
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
    cost_range: tuple[float, float] | None = None,
    random_state: object = None,
) -> pd.DataFrame:
    """Return intervals over bootstrap resamples of the rows.

    Those of the points are percentile intervals. That of the area is corrected for what the hull
    of few rows lies too high, which resampling shows, and has the shape of Wilson's interval, which
    does not shrink to nothing where hardly any answer is wrong. At 95 % it covered the true area in
    93 to 96 of 100 simulations with 100 to 1,000 rows, at accuracies of 0.75 and 0.98
    (``examples/benchmarks/interval_coverage.py``).

    Parameters
    ----------
    curve : CostCurve
        The curve.
    n_resamples : int, default=1000
        Resamples.
    confidence : float, default=0.95
        Level of the intervals.
    cost_range : (float, float), default=None
        Range of the area. Default: from the cheapest to the dearest path.
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
    _check_options(confidence, random_state)
    reach = curve.cost_range if cost_range is None else check_cost_range(cost_range)
    rng = check_random_state(random_state)
    values = np.array(
        [
            [*accuracy, hull_area(*hull_corners(cost, accuracy), *reach)]
            for share in _resamples(rng, curve.sample_weight, n_resamples)
            for cost, accuracy in _points(curve, share)
        ]
    )
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    area = curve.area(reach)
    low[-1], high[-1] = corrected_interval(area, values[:, -1], curve.sample_weight, confidence)
    return _interval_frame(curve, np.append(curve.accuracy, area), low, high)


def corrected_interval(
    area: float,
    resampled: NDArray[np.float64],
    sample_weight: NDArray[np.float64],
    confidence: float,
) -> tuple[float, float]:
    r"""Return an interval of the area under a hull from bootstrap resamples.

    Resampled areas lie above the area of all rows by the bias :math:`b` by which that lies above
    the true one. With their deviation :math:`s`, :math:`m = A - b`, :math:`w^2 = s^2 + b^2`, the
    rows' effective number :math:`n` and Student's :math:`t` [1]_, in the form of [2]_,

    .. math:: \frac{m + t^2 / 2n \pm t \sqrt{w^2 + t^2 / 4n^2}}{1 + t^2 / n}

    Parameters
    ----------
    area : float
        Of all rows.
    resampled : ndarray of shape (n_resamples,)
        Of resamples of the rows.
    sample_weight : ndarray of shape (n_samples,)
        Weights of the rows.
    confidence : float
        Level.

    Returns
    -------
    low, high : float

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 10.
    .. [2] Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    n = sample_weight.sum() ** 2 / (sample_weight**2).sum()
    if n <= 1:
        return 0.0, 1.0
    bias = float(resampled.mean() - area)
    width = np.hypot(resampled.std(), bias)
    t = stats.t.ppf((1 + confidence) / 2, n - 1) * (n / (n - 1)) ** 0.5
    middle = area - bias + t**2 / (2 * n)
    half = t * np.hypot(width, t / (2 * n))
    low, high = np.clip([middle - half, middle + half] / (1 + t**2 / n), 0.0, 1.0)
    return float(low), float(high)


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
        Curves over the same rows, in the same order, with costs in the same unit.
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
    _check_options(confidence, random_state)
    common_unit([first.tree.cost_unit, second.tree.cost_unit])
    low, high = (
        (
            max(first.cost.min(), second.cost.min()),
            max(first.cost_range[1], second.cost_range[1]),
        )
        if cost_range is None
        else check_cost_range(cost_range)
    )
    at = None if at_cost is None else check_number(at_cost, "at_cost", at_least=0)

    def value(cost: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float:
        hull = hull_corners(cost, accuracy)
        if at is not None:
            return float(np.interp(at * (1 + CLOSE), *hull, left=0.0))
        return hull_area(*hull, low, high)

    whole, resampled = bootstrap_areas([first, second], value, n_resamples, random_state)
    return paired_comparison(whole[0] - whole[1], resampled[0] - resampled[1], confidence)


def bootstrap_areas(
    curves: Sequence[CostCurve],
    value: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    n_resamples: int,
    random_state: object,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a number of each curve, and of resamples of the rows, the same for all curves.

    Parameters
    ----------
    curves : sequence of CostCurve
        Over the same rows, in the same order.
    value : callable
        ``value(cost, accuracy)`` of a curve's points.
    n_resamples : int
        Resamples.
    random_state : int, RandomState or None
        Seed.

    Returns
    -------
    whole : ndarray of shape (n_curves,)
    resampled : ndarray of shape (n_curves, n_resamples)

    Raises
    ------
    ValueError
        If the curves differ in rows or weights.
    """
    first = curves[0]
    for other in curves[1:]:
        found = first.paths.shape[1], other.paths.shape[1]
        if found[0] != found[1]:
            raise ValueError(
                f"The curves must be measured on the same rows, but they have {found[0]} and "
                f"{found[1]}."
            )
        if not np.array_equal(first.sample_weight, other.sample_weight):
            raise ValueError("The curves must have the same sample weights.")
    rng = check_random_state(random_state)
    whole = np.array([value(curve.cost, curve.accuracy) for curve in curves])
    resampled = [
        [[value(*points) for points in _points(curve, share)] for curve in curves]
        for share in _resamples(rng, first.sample_weight, n_resamples)
    ]
    return whole, np.concatenate([np.array(part) for part in resampled], axis=1)


def paired_comparison(
    difference: float, resampled: NDArray[np.float64], confidence: float
) -> PairedComparison:
    """Return what resampled differences say of the difference.

    Parameters
    ----------
    difference : float
        On all rows.
    resampled : ndarray of shape (n_resamples,)
        On resamples of them.
    confidence : float
        Level of the interval.

    Returns
    -------
    PairedComparison
    """
    # Two hulls over the same points may be summed in another order: that is no difference.
    values = np.where(np.abs(resampled) <= ROUNDING, 0.0, resampled)
    tail = (1 - confidence) / 2
    turned = min((values <= 0).sum(), (values >= 0).sum())
    return PairedComparison(
        difference=0.0 if abs(difference) <= ROUNDING else float(difference),
        low=float(np.quantile(values, tail)),
        high=float(np.quantile(values, 1 - tail)),
        # The given rows count as one resample: no finite number of draws shows p = 0.
        p_value=float(min(1.0, 2 * (turned + 1) / (len(values) + 1))),
    )


def _resamples(
    rng: np.random.RandomState, weights: NDArray[np.float64], n_resamples: int
) -> Iterator[NDArray[np.float64]]:
    """Yield row weights of resamples, some at a time to bound memory."""
    check_integer(n_resamples, "n_resamples", at_least=1)
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
    pd = require("pandas", "A table of intervals")

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


def _check_options(confidence: float, random_state: object) -> None:
    check_number(confidence, "confidence", above=0, below=1)
    check_seed(random_state)
