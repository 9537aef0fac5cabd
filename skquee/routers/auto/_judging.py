"""Candidates judged on folds, at operating points that were chosen on the other ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.evaluation._curve import hull_area, hull_points, points_of
from skquee.routers.auto._search import Swept

__all__ = [
    "FoldCurves",
    "fold_curves",
    "held_out",
    "ladder",
    "paired",
    "places_at",
    "prices_of",
    "row_losses",
]


@dataclass(frozen=True)
class FoldCurves:
    """Accuracy and cost of operating points on every fold.

    `accuracy`, `cost` (n_folds, n_points): on the rows of each fold. `weight` (n_folds,): of the
    folds.
    """

    accuracy: NDArray[np.float64]
    cost: NDArray[np.float64]
    weight: NDArray[np.float64]

    def joined(self, other: FoldCurves) -> FoldCurves:
        """Return the operating points of both, on the same folds."""
        return FoldCurves(
            np.concatenate([self.accuracy, other.accuracy], axis=1),
            np.concatenate([self.cost, other.cost], axis=1),
            self.weight,
        )

    def without(self, fold: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return accuracy and cost (n_points,) on all other folds; on all where it is alone."""
        share = self.weight.copy()
        if len(share) > 1:
            share[fold] = 0
        share /= share.sum()
        return share @ self.accuracy, share @ self.cost


def held_out(
    curves: FoldCurves, prices: NDArray[np.float64], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return area and mean loss on each fold, at operating points chosen on the others.

    `curves`: operating points. `prices` (n_prices,): values of lambda to average the loss over.
    `low`, `high`: range of cost of the area. Returns `areas`, `losses` (n_folds,).
    """
    areas, losses = [], []
    for fold in range(len(curves.weight)):
        accuracy, cost = curves.without(fold)
        corners = np.stack(hull_points(cost, accuracy), axis=1)
        on_hull = (np.stack([cost, accuracy], axis=1)[:, None] == corners).all(axis=2).any(axis=1)
        seen = hull_points(curves.cost[fold][on_hull], curves.accuracy[fold][on_hull])
        areas.append(hull_area(*seen, low, high))
        chosen = (1 - accuracy + prices[:, None] * cost).argmin(axis=1)
        loss = 1 - curves.accuracy[fold][chosen] + prices * curves.cost[fold][chosen]
        losses.append(loss.mean())
    return np.array(areas), np.array(losses)


def row_losses(
    swept: Sequence[Swept],
    curves: FoldCurves,
    prices: NDArray[np.float64],
    costs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what each row loses, the mean over prices, at points chosen as in :func:`held_out`.

    `swept`: one candidate on every fold. `curves`: of the same folds. `prices` (n_prices,): values
    of lambda. `costs` (n_paths,): costs of the paths. Returns (n_samples,): rows in the order of
    the folds.
    """
    losses = []
    for fold, part in enumerate(swept):
        accuracy, cost = curves.without(fold)
        chosen = (1 - accuracy + prices[:, None] * cost).argmin(axis=1)
        points, place = np.unique(chosen, return_inverse=True)
        # Prices that share a point are added up first: rows are many.
        times = np.bincount(place) / len(prices)
        priced = np.bincount(place, weights=prices) / len(prices)
        paid = costs[part.paths[points]] if part.costs is None else part.costs[points]
        losses.append(times @ (1 - part.correct[points]) + priced @ paid)
    return np.concatenate(losses)


def paired(
    losses: NDArray[np.float64], others: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[float, float]:
    """Return the mean of what the first loses more than the others, and its standard error."""
    share = np.full(len(losses), 1 / len(losses)) if weights is None else weights / weights.sum()
    more = losses - others
    mean = float(more @ share)
    return mean, float(np.sqrt(((more - mean) ** 2) @ share**2))


# How much more than they cost dearer points as good as the most accurate one may gain.
DEARER = 16.0

# Prices and places, then the order of points; see :func:`ladder`.
Rungs: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]


def ladder(
    accuracy: NDArray[np.float64],
    cost: NDArray[np.float64],
    between: NDArray[np.bool_],
    slack: float,
) -> Rungs:
    """Return how prices become points, from the corners of their hull.

    A corner is best for a range of prices, and taken at the middle of it (of its logarithm);
    towards the next corner the prices go over the points between that are at most `slack` below
    the hull. Corners are the luckiest of noisy points: those so near are as good on new rows, and
    are more. The most accurate one is the luckiest of all: dearer ones so near it follow, at
    prices at which they cost little more.

    `accuracy`, `cost` (n_points,): of operating points. `between` (n_points,): whether a point
    may be taken without being a corner. Returns `prices`, `places` (n_knots,): logarithms, rising;
    and places in `order` (n_kept,): points by rising cost.
    """
    hull = hull_points(cost, accuracy)
    x, y = hull
    corners = points_of(hull, cost, accuracy)
    kept = between & (np.interp(cost, x, y) - accuracy <= slack) & (cost >= x[0])
    kept &= (cost <= x[-1]) | (slack > 0)
    kept[corners] = True
    order = np.flatnonzero(kept)
    order = order[np.lexsort((-accuracy[order], cost[order]))]
    at = np.flatnonzero(np.isin(order, corners)).astype(np.float64)
    prices, places = np.zeros((2, 2 * len(x) - 1))
    places[::2], places[1::2] = at, (at[1:] + at[:-1]) / 2
    if len(x) > 1:
        # Between two corners the price at which both are equal: it falls as they get dearer.
        breaks = np.log(np.diff(y) / np.diff(x))
        prices[1::2] = breaks
        prices[2:-1:2] = (breaks[1:] + breaks[:-1]) / 2
        prices[0], prices[-1] = breaks[0] + np.log(2), breaks[-1] - np.log(2)
    beyond = cost[order[-1]] - x[-1]
    if beyond > 0:
        low = min(np.log(slack / (DEARER * beyond)), prices[-1] - np.log(2))
        prices, places = np.append(prices, low), np.append(places, len(order) - 1)
    else:
        order = order[: int(at[-1]) + 1]  # no price picks what costs the same and is no better
    return prices[::-1], places[::-1], order


def places_at(rungs: Rungs, prices: ArrayLike) -> NDArray[np.intp]:
    """Return the point that each price picks, of two as good the cheaper one."""
    known, places, order = rungs
    with np.errstate(divide="ignore"):
        wanted = np.log(np.asarray(prices, dtype=np.float64))
    return order[np.ceil(np.interp(wanted, known, places) - 0.5).astype(np.intp)]


def prices_of(rungs: Rungs) -> NDArray[np.float64]:
    """Return a price for each point that one picks, rising."""
    known, places, order = rungs
    return np.exp(np.interp(np.arange(len(order)), places[::-1], known[::-1]))[::-1]


def fold_curves(
    swept: Sequence[Swept],
    costs: NDArray[np.float64],
    weights: Sequence[NDArray[np.float64]] | None,
) -> FoldCurves:
    """Return accuracy and cost of a candidate on each fold."""
    rows = [None] * len(swept) if weights is None else weights
    parts = list(zip(swept, rows, strict=True))
    return FoldCurves(
        np.stack([np.average(s.correct, axis=1, weights=w) for s, w in parts]),
        np.stack(
            [
                np.average(costs[s.paths] if s.costs is None else s.costs, axis=1, weights=w)
                for s, w in parts
            ]
        ),
        np.array([float(s.correct.shape[1] if w is None else w.sum()) for s, w in parts]),
    )
