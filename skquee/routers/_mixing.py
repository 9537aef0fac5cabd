"""Operating points: which to mix for a budget, and which bound costly samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["OperatingPoints", "bracket", "crossings", "points_within_bound"]


@dataclass(frozen=True)
class OperatingPoints:
    """Mean cost, and accuracy where known, at values of a knob.

    `knobs`, `costs` (n_points,): values, rising, and mean costs. `accuracy` (n_points,).
    """

    knobs: NDArray[np.float64]
    costs: NDArray[np.float64]
    accuracy: NDArray[np.float64] | None

    @classmethod
    def of(
        cls,
        knobs: NDArray[np.float64],
        costs: Callable[[NDArray[np.intp]], NDArray[np.float64]],
        share: NDArray[np.float64],
        paths: NDArray[np.intp],
        right: NDArray[np.bool_ | np.floating] | None,
    ) -> OperatingPoints:
        """Average over rows.

        `knobs` (n_points,). `costs`: what each row costs on the path it takes. `share`
        (n_samples,): weights that sum to 1. `paths` (n_points, n_samples): path each row takes.
        `right` (n_points, n_samples): whether its answer is right.
        """
        accuracy = None if right is None else right @ share
        return cls(knobs, costs(paths) @ share, accuracy)

    def refined(
        self,
        measure: Callable[[NDArray[np.float64]], OperatingPoints],
        takes: Callable[[NDArray[np.float64]], bool],
        budget: float | None,
    ) -> OperatingPoints:
        """Return more points: between neighbours far apart in cost, and close to a budget.

        `measure`: returns the points at given values. `takes`: tells whether values can be
        measured. `budget`: mean cost to close in on by repeated section.
        """
        points = self
        for close_in in (False, False, True, True, True, True):
            gaps, span = np.abs(np.diff(points.costs)), np.ptp(points.costs)
            if not close_in:
                wide = np.flatnonzero(gaps > 0.02 * span)
            elif budget is not None:
                nearest = crossings(points.costs, budget)[:1]
                wide = nearest[gaps[nearest] > 1e-4 * span]
            else:
                return points
            inner = np.linspace(points.knobs[wide], points.knobs[wide + 1], 6)[1:-1].ravel()
            inner = np.setdiff1d(inner[np.isfinite(inner)], points.knobs)
            if not inner.size:
                continue
            if not takes(inner):
                return points
            points = points.joined(measure(inner))
        return points

    def joined(self, other: OperatingPoints) -> OperatingPoints:
        """Return the points of both, by rising knob."""
        knobs = np.concatenate([self.knobs, other.knobs])
        order = np.argsort(knobs, kind="stable")
        accuracy = None
        if self.accuracy is not None and other.accuracy is not None:
            accuracy = np.concatenate([self.accuracy, other.accuracy])[order]
        return OperatingPoints(
            knobs[order], np.concatenate([self.costs, other.costs])[order], accuracy
        )


def crossings(costs: NDArray[np.float64], budget: float) -> NDArray[np.intp]:
    """Return where neighbouring points stand on either side of a budget, the closest first.

    `costs` (n_points,): mean costs, in the order of the knob; they need not be monotone. Returns :
    ``k`` where the budget lies between points ``k`` and ``k + 1``.
    """
    left, right = costs[:-1], costs[1:]
    found = np.flatnonzero(
        (np.minimum(left, right) <= budget) & (budget <= np.maximum(left, right))
    )
    return found[np.argsort(np.abs(left - right)[found], kind="stable")]


def bracket(
    costs: ArrayLike, budget: float, accuracy: ArrayLike | None = None
) -> tuple[int, int, float]:
    """Return the two points to mix for a mean cost, and the share of the dearer one.

    `costs` (n_points,): mean costs, in the order of the knob; they need not be monotone. `budget`:
    mean cost, clipped to the range of `costs`. `accuracy` (n_points,): with it the pair of greatest
    mixed accuracy is taken, a segment of the upper concave hull. Without it, neighbours in the
    knob, the closest in cost where several bracket. Returns `low`, `high`: points; `share`:
    ``(budget - costs[low]) / (costs[high] - costs[low])``, 0 where they cost the same.

    >>> from skquee.routers._mixing import bracket
    >>> bracket([1.0, 0.75, 0.25], 0.5)
    (2, 1, 0.5)
    >>> bracket([1.0, 0.75, 0.25], 0.5, accuracy=[1.0, 0.0, 0.9])
    (2, 0, 0.3333333333333333)
    """
    prices = np.asarray(costs, dtype=np.float64)
    target = float(np.clip(budget, prices.min(), prices.max()))
    if accuracy is None:
        pairs = crossings(prices, target)
        if not len(pairs):  # one point only
            return 0, 0, 0.0
        low, high = int(pairs[0]), int(pairs[0]) + 1
        if prices[low] > prices[high]:
            low, high = high, low
    else:
        heights = np.asarray(accuracy, dtype=np.float64)
        below, above = np.flatnonzero(prices <= target), np.flatnonzero(prices >= target)
        gaps = prices[above] - prices[below][:, None]
        shares = np.where(
            gaps > 0, (target - prices[below][:, None]) / np.where(gaps > 0, gaps, 1), 0
        )
        mixed = (1 - shares) * heights[below][:, None] + shares * heights[above]
        # Of equal pairs the closest, so that few rows are treated differently.
        place = np.argmax(mixed - 1e-9 * gaps / max(gaps.max(), np.finfo(float).tiny))
        i, j = np.unravel_index(place, mixed.shape)
        low, high = int(below[i]), int(above[j])
    gap = prices[high] - prices[low]
    return low, high, float((target - prices[low]) / gap) if gap > 0 else 0.0


def points_within_bound(costs: NDArray[np.float64], limit: float, alpha: float) -> int:
    """Return how many points, from cheap to dear, keep the risk of a costly sample bounded.

    A row that costs more than `limit` at one point counts as too dear at all later ones; the
    loss is then monotone, and conformal risk control holds (equation 4, with ``B = 1``).

    `costs` (n_points, n_samples): cost of every row at every point, cheap points first, in an order
    not chosen on the rows. `alpha`: probability allowed. Returns length of the run of points that
    hold the bound, at least 1. ValueError if there are too few rows for such a bound, or the
    cheapest point does not hold it.

    >>> import numpy as np
    >>> from skquee.routers._mixing import points_within_bound
    >>> points_within_bound(np.array([[1, 1, 1, 1], [1, 1, 1, 9], [1, 9, 9, 1]]), 2, alpha=0.4)
    2
    """
    n = costs.shape[1]
    if (n + 1) * alpha < 1:
        raise ValueError(
            f"exceed_probability={alpha:g} needs at least {int(np.ceil(1 / alpha)) - 1} rows, got "
            f"{n}. Give more rows or raise it."
        )
    seen = np.logical_or.accumulate(costs > limit * (1 + 1e-12), axis=0).sum(axis=1)
    n_held = int(((seen + 1) / (n + 1) <= alpha).sum())
    if not n_held:
        raise ValueError(
            f"No point of the grid keeps Pr(cost > {limit:g}) within {alpha:g}: at the cheapest "
            f"one, {seen[0]} of {n} rows cost more, and costs run from {costs[0].min():.4g} to "
            f"{costs[0].max():.4g}. Raise exceed_cost or exceed_probability."
        )
    return n_held
