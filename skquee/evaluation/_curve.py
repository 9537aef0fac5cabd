"""Accuracy against cost as a trade-off is swept."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from skquee.values import PathTree
from skquee.values._atomic import write_text
from skquee.values._checks import check_numbers, check_output
from skquee.values._html import block, curve_svg, table
from skquee.values._optional import require

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Mean costs this close, relatively, are one: a mean of equal costs is a rounding error off.
CLOSE = 1e-9

__all__ = ["CostCurve", "hull_area", "hull_points"]


class CostCurve:
    """Operating points of one router on some rows.

    Routers give which path each row took at every value of the knob, and whether the answer
    was right; everything else is derived.

    Parameters
    ----------
    knobs : array-like of shape (n_points,)
        Values swept.
    paths : array-like of shape (n_points, n_samples)
        Path each row took.
    correct : array-like of shape (n_points, n_samples)
        Whether its answer was right, or 1 less its loss.
    tree : PathTree
        Names and costs of the paths.
    knob : str
        Name of what was swept. Default: ``"lambda_"``.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    source : str, default="given rows"
        Which rows these are.
    label : str, default=None
        Name of the method, for legends.
    row_costs : array-like of shape (n_samples, n_paths), default=None
        What each path costs for each row. Default: the costs of the tree.

    Attributes
    ----------
    knobs, lambdas : ndarray of shape (n_points,)
        Values swept (two names for one array).
    accuracy, cost : ndarray of shape (n_points,)
        Means over the rows.
    path_shares : ndarray of shape (n_points, n_paths)
        Share of the rows on each path.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> from skquee import PathTree
    >>> from skquee.evaluation import CostCurve
    >>> tree = PathTree.chain([1, 1])
    >>> curve = CostCurve([0.0, 1.0], [[1, 1], [0, 0]], [[True, True], [True, False]], tree)
    >>> curve
    CostCurve(2 points of lambda_, 2 given rows, cost 1 to 2, accuracy 0.5 to 1)
    >>> curve.area()
    0.75
    >>> curve.accuracy_at(1.5)
    0.75
    """

    def __init__(
        self,
        knobs: ArrayLike,
        paths: ArrayLike,
        correct: ArrayLike,
        tree: PathTree,
        *,
        knob: str = "lambda_",
        sample_weight: ArrayLike | None = None,
        source: str = "given rows",
        label: str | None = None,
        row_costs: ArrayLike | None = None,
    ) -> None:
        self.knobs = check_numbers(knobs, "knobs", finite=False)
        self.paths = _whole(paths, "paths", np.int32, "indices of paths")
        self.correct = _right(correct)
        self.tree = tree
        self.knob = knob
        self.source = source
        self.label = label
        if self.paths.ndim != 2 or self.paths.shape != self.correct.shape or 0 in self.paths.shape:
            raise ValueError(
                "paths and correct must both have shape (n_points, n_samples), not empty, got "
                f"{self.paths.shape} and {self.correct.shape}."
            )
        if self.knobs.shape != self.paths.shape[:1]:
            raise ValueError(f"knobs must have shape ({len(self.paths)},), got {self.knobs.shape}.")
        if self.paths.min() < 0 or self.paths.max() >= tree.n_paths:
            raise ValueError(f"paths must be indices from 0 to {tree.n_paths - 1}.")
        n_samples = self.paths.shape[1]
        weights = np.ones(n_samples) if sample_weight is None else np.asarray(sample_weight, float)
        if weights.shape != (n_samples,) or not (weights.sum() > 0 and (weights >= 0).all()):
            raise ValueError(
                f"sample_weight must hold {n_samples} numbers >= 0 with a positive sum, got shape "
                f"{weights.shape}."
            )
        self.sample_weight = weights
        self.row_costs: NDArray[np.float64] | None = None
        if row_costs is not None:
            self.row_costs = np.asarray(row_costs, dtype=np.float64)
            if self.row_costs.shape != (n_samples, tree.n_paths):
                raise ValueError(
                    f"row_costs must have shape {(n_samples, tree.n_paths)}, got "
                    f"{self.row_costs.shape}."
                )

    def __len__(self) -> int:
        return len(self.knobs)

    def __repr__(self) -> str:
        n = self.paths.shape[1]
        # "450 rows held out in fit" brings its own count.
        rows = self.source if self.source[:1].isdigit() else f"{n} {self.source}"
        unit = f" {self.tree.cost_unit}" if self.tree.cost_unit else ""
        return (
            f"CostCurve({len(self)} points of {self.knob}, {rows}, "
            f"cost {self.cost.min():.4g} to {self.cost.max():.4g}{unit}, "
            f"accuracy {self.accuracy.min():.4g} to {self.accuracy.max():.4g})"
        )

    def _repr_html_(self) -> str:
        cost, accuracy = self.cost, self.accuracy
        corners = self.hull()
        on_hull = points_of(corners, cost, accuracy)
        unit = self.tree.cost_unit
        return block(
            repr(self),
            curve_svg(cost, accuracy, corners, unit=unit),
            table(
                [self.knob, f"mean cost ({unit})" if unit else "mean cost", "accuracy"],
                zip(self.knobs[on_hull].tolist(), *(c.tolist() for c in corners), strict=True),
                caption="Operating points that no mix of others beats",
            ),
        )

    @property
    def lambdas(self) -> NDArray[np.float64]:
        """Values swept."""
        return self.knobs

    @property
    def sample_costs(self) -> NDArray[np.float64]:
        """Cost of every row at every point, shape (n_points, n_samples)."""
        if self.row_costs is not None:
            return self.row_costs[np.arange(self.paths.shape[1]), self.paths]
        return self.tree.path_costs[self.paths]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracy at every point."""
        return self.correct @ self.sample_weight / self.sample_weight.sum()

    @property
    def cost(self) -> NDArray[np.float64]:
        """Mean cost at every point, in ``tree.cost_unit``."""
        if self.row_costs is not None:
            return self.sample_costs @ self.sample_weight / self.sample_weight.sum()
        return self.path_shares @ self.tree.path_costs

    @property
    def path_shares(self) -> NDArray[np.float64]:
        """Share of the rows on each path at every point, shape (n_points, n_paths)."""
        n_points, n_paths = len(self), self.tree.n_paths
        flat = self.paths + n_paths * np.arange(n_points)[:, None]
        weights = np.tile(self.sample_weight, n_points)
        counts = np.bincount(flat.ravel(), weights=weights, minlength=n_points * n_paths)
        mass = counts.reshape(n_points, n_paths)
        # Their own total: where all rows take one path its share is 1 to the last bit.
        return np.asarray(mass / mass.sum(axis=1, keepdims=True), dtype=np.float64)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a point: knob, accuracy, mean cost, and the share of every path.

        Returns
        -------
        DataFrame
            ``attrs["cost_unit"]`` is the unit of cost, or None.
        """
        pd = require("pandas", "CostCurve.to_frame")

        shares = {f"share {n}": s for n, s in zip(self.tree.names, self.path_shares.T, strict=True)}
        frame = pd.DataFrame(
            {self.knob: self.knobs, "accuracy": self.accuracy, "cost": self.cost, **shares}
        )
        frame.attrs.update(source=self.source, cost_unit=self.tree.cost_unit)
        return frame

    def plot(self, ax: Axes | None = None, **kwargs: object) -> Any:
        """Draw accuracy against cost.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        **kwargs
            Of :meth:`skquee.display.CostCurveDisplay.from_predictions`.

        Returns
        -------
        CostCurveDisplay
        """
        # Pictures stand on a floor above: named, as the package names what it loads on first use.
        display = import_module("skquee.display")
        return display.CostCurveDisplay.from_predictions(self, ax=ax, **kwargs)

    def to_html(
        self,
        file: str | os.PathLike[str] | None = None,
        *,
        y: ArrayLike | None = None,
        title: str | None = None,
        max_rows: int = 10_000,
    ) -> str | None:
        """Return or write a page to play with: sliders, curve, path shares, rows.

        One HTML file that loads nothing; ``report`` of a router adds predicted errors and what
        single models reach.

        Parameters
        ----------
        file : path, default=None
            Where to. Default: the page is returned.
        y : array-like of shape (n_samples,), default=None
            Labels of the rows, for shares by class.
        title : str, default=None
            Heading.
        max_rows : int, default=10000
            Rows to inspect at most; of more as many are drawn at random. Up to 10,000 the page
            stays under 1 MB: what was rounded or left out for that stands at its end.

        Returns
        -------
        str or None
            None where it is written.
        """
        if file is not None:
            check_output(file)
        display = import_module("skquee.display._interactive")
        page: str = display.report_page(self, labels=y, title=title, max_rows=max_rows)
        if file is None:
            return page
        write_text(file, page)
        return None

    def hull(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the non-decreasing concave hull: what mixing operating points can reach.

        Returns
        -------
        cost, accuracy : ndarray
            Corners, cheapest first.
        """
        return hull_corners(self.cost, self.accuracy)

    @property
    def cost_range(self) -> tuple[float, float]:
        """Cheapest and dearest path a sample can take."""
        costs = self.tree.path_costs
        return float(costs.min()), float(costs.max())

    def area(self, cost_range: tuple[float, float] | None = None) -> float:
        """Return the mean height of the hull over a range of cost.

        Right of the dearest point the hull is flat. Left of the cheapest there is no way to
        answer, which counts as accuracy 0: compare curves over a range that both reach.

        Parameters
        ----------
        cost_range : (float, float), default=None
            From and to. Default: from the cheapest to the dearest path of the tree.

        Returns
        -------
        float
            Between 0 and 1.
        """
        low, high = self.cost_range if cost_range is None else check_cost_range(cost_range)
        return hull_area(*self.hull(), low, high)

    def accuracy_at(self, cost: ArrayLike) -> float | NDArray[np.float64]:
        """Return the hull's accuracy at a mean cost; NaN below the cheapest point.

        Parameters
        ----------
        cost : float or array-like
            Mean cost.

        Returns
        -------
        float or ndarray
        """
        wanted = check_numbers(cost, "cost", finite=False)
        found = np.interp(wanted, *self.hull(), left=np.nan)
        return found if np.ndim(cost) else float(found)

    def cost_at(self, accuracy: ArrayLike) -> float | NDArray[np.float64]:
        """Return the least mean cost at which the hull has an accuracy; NaN out of reach.

        Parameters
        ----------
        accuracy : float or array-like
            Accuracy wanted.

        Returns
        -------
        float or ndarray
        """
        costs, heights = self.hull()
        wanted = check_numbers(accuracy, "accuracy", finite=False)
        found = np.interp(wanted, heights, costs, right=np.nan)
        return found if np.ndim(accuracy) else float(found)


def _right(correct: ArrayLike) -> NDArray[Any]:
    """Return booleans, or numbers between 0 and 1."""
    given = np.asarray(correct)
    if given.dtype.kind != "f" or np.isin(given, (0, 1)).all():
        return _whole(correct, "correct", np.bool_, "True or False")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("correct must hold True or False, or 1 less a loss in [0, 1].")
    return given.astype(np.float64)


def _whole(values: ArrayLike, name: str, dtype: DTypeLike, what: str) -> NDArray[Any]:
    """Return an array of another type that holds the same numbers."""
    given = np.asarray(values)
    if given.dtype == dtype:
        return given
    if given.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):
            found = given.astype(dtype)
        if np.array_equal(found, given):
            return found
    raise ValueError(f"{name} must hold {what}, got {given.dtype} values that are none.")


def hull_points(
    cost: NDArray[np.float64], accuracy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the non-decreasing concave hull of points.

    Parameters
    ----------
    cost, accuracy : ndarray of shape (n_points,)
        Points.

    Returns
    -------
    cost, accuracy : ndarray
        Corners, by strictly rising cost and accuracy.

    Examples
    --------
    >>> from skquee.evaluation import hull_points
    >>> hull_points([1, 2, 3], [0.5, 0.6, 0.9])
    (array([1., 3.]), array([0.5, 0.9]))
    """
    costs = check_numbers(cost, "cost", shape=(None,), what="one a point")
    heights = check_numbers(accuracy, "accuracy", shape=(len(costs),), what="one a point")
    return hull_corners(costs, heights)


def hull_corners(
    cost: NDArray[np.float64], accuracy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return :func:`hull_points` of points that are known to be finite."""
    order = np.lexsort((-accuracy, cost))
    heights = accuracy[order]
    # Others are no dearer and no worse than a point before them.
    rising = np.append(True, heights[1:] > np.maximum.accumulate(heights)[:-1])
    order = order[rising]
    corners: list[tuple[float, float]] = []
    for x, y in zip(cost[order].tolist(), accuracy[order].tolist(), strict=True):
        while len(corners) > 1:
            (x0, y0), (x1, y1) = corners[-2:]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            corners.pop()
        corners.append((x, y))
    points = np.array(corners)
    return points[:, 0], points[:, 1]


def points_of(
    hull: tuple[NDArray[np.float64], NDArray[np.float64]],
    cost: NDArray[np.float64],
    accuracy: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Return which points are the corners of their hull, the first of equal ones."""
    return np.array(
        [np.flatnonzero((cost == x) & (accuracy == y))[0] for x, y in zip(*hull, strict=True)]
    )


def hull_area(
    cost: NDArray[np.float64], accuracy: NDArray[np.float64], low: float, high: float
) -> float:
    """Return the mean height of a hull between two costs."""
    if not high > low:
        if high == low:  # one path only: the curve is a point
            return float(np.interp(low * (1 + CLOSE), cost, accuracy, left=0.0))
        raise ValueError(f"cost_range must rise, got ({low}, {high}).")
    start = max(low, float(cost[0]))
    if start >= high:
        return 0.0
    knots = np.concatenate([[start], cost[(cost > start) & (cost < high)], [high]])
    return float(np.trapezoid(np.interp(knots, cost, accuracy), knots) / (high - low))


def check_cost_range(cost_range: tuple[float, float]) -> tuple[float, float]:
    """Return a range of cost, checked."""
    low, high = check_numbers(cost_range, "cost_range", shape=(2,), what="from and to").tolist()
    if high < low:
        raise ValueError(f"cost_range must rise, got ({low:g}, {high:g}).")
    return low, high
