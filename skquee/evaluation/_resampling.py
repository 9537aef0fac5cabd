"""Bootstrap resamples of a curve's rows, and the numbers that are read from its hull."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_random_state

from skquee.evaluation._curve import CLOSE, CostCurve, hull_area, hull_corners, points_of
from skquee.values._checks import check_integer

__all__ = [
    "Hull",
    "Measure",
    "bootstrap_hulls",
    "effective_rows",
    "influences",
    "points",
    "resamples",
]

# Costs and accuracies of its corners.
Hull = tuple[NDArray[np.float64], NDArray[np.float64]]

# Step of a numerical derivative, of accuracies and of parts of the dearest cost.
STEP = 1e-7


@dataclass(frozen=True)
class Measure:
    """One number of a hull: its area over a range, accuracy at a cost, or cost at an accuracy.

    ``at`` is the range (from, to), the cost, or the accuracy. An accuracy out of reach costs
    infinity; left of the cheapest point a hull is taken as high as there (see :meth:`reached`).
    """

    kind: Literal["area", "accuracy", "cost"]
    at: tuple[float, ...]

    def of_hull(self, hull: Hull) -> float:
        """Return the number, from the hull's corners."""
        cost, accuracy = hull
        if self.kind == "area":
            return hull_area(cost, accuracy, *self.at)
        (at,) = self.at
        if self.kind == "accuracy":
            return float(np.interp(at * (1 + CLOSE), cost, accuracy))
        return float(np.interp(at * (1 - CLOSE), accuracy, cost, right=np.inf))

    def reached(self, drawn: Resampled) -> bool:
        """Return whether a curve answers at that cost, or at that accuracy, at all."""
        if self.kind == "accuracy":
            return bool(self.at[0] * (1 + CLOSE) >= drawn.hull[0][0])
        return bool(np.isfinite(self.of_hull(drawn.hull)))

    def name(self, unit: str | None) -> str:
        """Return its name for a table: "area", "accuracy at 2 ms", "cost at 0.9"."""
        if self.kind == "area":
            return "area"
        tail = f" {unit}" if unit and self.kind == "accuracy" else ""
        return f"{self.kind} at {self.at[0]:.6g}{tail}"


@dataclass(frozen=True)
class Resampled:
    """A curve, its hull, and the hulls of resamples of its rows.

    ``rows`` holds how far each row lies from the mean cost and accuracy of each corner of the hull,
    weighted: shape (2, n_corners, n_samples).
    """

    curve: CostCurve
    hull: Hull
    hulls: list[Hull]
    rows: NDArray[np.float64]


def bootstrap_hulls(
    curves: Sequence[CostCurve], n_resamples: int, random_state: object
) -> list[Resampled]:
    """Return the hulls of the curves on resamples of the rows, the same rows for all curves.

    Raises ValueError where the curves differ in rows or weights.
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
    drawn = [_whole(curve) for curve in curves]
    for share in resamples(rng, first.sample_weight, n_resamples):
        for own in drawn:
            own.hulls.extend(hull_corners(*means) for means in points(own.curve, share))
    return drawn


def _whole(curve: CostCurve) -> Resampled:
    cost, accuracy = curve.cost, curve.accuracy
    hull = hull_corners(cost, accuracy)
    corners = points_of(hull, cost, accuracy)
    share = curve.sample_weight / curve.sample_weight.sum()
    away = (
        curve.sample_costs[corners] - hull[0][:, None],
        curve.correct[corners] - hull[1][:, None],
    )
    return Resampled(curve, hull, [], share * np.stack(away))


def influences(drawn: Resampled, measure: Measure) -> NDArray[np.float64]:
    """Return how far each row moves a measure, to first order, shape (n_samples,).

    Rows that say the same of every operating point on the hull move it alike. The squares add up
    to the measure's variance.
    """
    cost, accuracy = drawn.hull
    slopes = np.zeros((2, len(cost)))
    now = measure.of_hull(drawn.hull)
    for k in range(len(cost)):
        for axis, scale in ((0, abs(cost[-1]) or 1.0), (1, 1.0)):
            moved = np.zeros((2, len(cost)))
            moved[axis, k] = STEP * scale
            ahead = measure.of_hull(hull_corners(cost + moved[0], accuracy + moved[1]))
            back = measure.of_hull(hull_corners(cost - moved[0], accuracy - moved[1]))
            # At the end of its reach a measure has a slope to one side only.
            sides = [s for s in (ahead - now, now - back) if np.isfinite(s)]
            slopes[axis, k] = np.mean(sides) / (STEP * scale) if sides else 0.0
    found: NDArray[np.float64] = np.tensordot(slopes, drawn.rows, axes=2)
    return found


def effective_rows(sample_weight: NDArray[np.float64]) -> float:
    """Return how many rows of equal weight are worth as much."""
    return float(sample_weight.sum() ** 2 / (sample_weight**2).sum())


def resamples(
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


def points(
    curve: CostCurve, share: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield cost and accuracy of all operating points, by the row weights of each resample."""
    accuracy = share @ curve.correct.T.astype(np.float64)
    cost = share @ curve.sample_costs.T
    yield from zip(cost, accuracy, strict=True)
