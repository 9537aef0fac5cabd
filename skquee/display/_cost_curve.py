"""Accuracy against mean cost."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from skquee.baselines import FixedPath, OracleRouter
from skquee.display._style import COLORS, MARKERS, QUIET, beside, cost_label, new_axes, tidy
from skquee.evaluation import CostCurve
from skquee.evaluation import cost_curve as sweep
from skquee.evaluation._scorers import router_of
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import stored

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["CostCurveDisplay"]


class CostCurveDisplay:
    """Accuracy against mean cost of one or more routers (figure 4 of the paper).

    Dots are operating points; the line is their hull, which mixing two points at random
    reaches. Costs are in the unit of the curves' tree, named on the axis. Build it with
    :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    curves : sequence of CostCurve
        One a router.
    intervals : sequence of DataFrame or None, default=None
        For each curve its :func:`~skquee.evaluation.subset_interval` or
        :func:`~skquee.evaluation.bootstrap_interval`, drawn as a band, or None.
    fixed : CostCurve, default=None
        Curve of :class:`~skquee.baselines.FixedPath`: each path a grey cross.
    oracle : CostCurve, default=None
        Curve of :class:`~skquee.baselines.OracleRouter`: a dotted line.
    names : sequence of str, default=None
        Names for the legend. Default: the curves' labels.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where it was drawn.
    line_ : matplotlib Line2D
        Hull of the first curve.
    lines_ : list of Line2D
        Hull of every curve.
    points_ : list of Line2D
        Operating points of every curve.
    bands_ : list of PolyCollection or None
        Band of every curve.
    fixed_ : PathCollection or None
        The fixed paths.
    texts_ : list of Text
        Names of the fixed paths that no other path beats.
    oracle_ : Line2D or None
        The oracle.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.display import CostCurveDisplay
    >>> from skquee.evaluation import CostCurve
    >>> paths, correct = [[1, 1], [0, 0]], [[True, True], [True, False]]
    >>> curve = CostCurve([0.0, 1.0], paths, correct, PathTree.chain([1, 1]), label="router")
    >>> display = CostCurveDisplay.from_predictions(curve)
    >>> display.line_.get_label()
    'router'
    """

    def __init__(
        self,
        *,
        curves: Sequence[CostCurve],
        intervals: Sequence[pd.DataFrame | None] | None = None,
        fixed: CostCurve | None = None,
        oracle: CostCurve | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.curves = curves
        self.intervals = intervals
        self.fixed = fixed
        self.oracle = oracle
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        lambdas: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        fixed: bool = True,
        oracle: bool = True,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CostCurveDisplay:
        """Sweep a fitted router over given rows and plot, beside every fixed path and the oracle.

        Parameters
        ----------
        estimator : estimator
            Fitted router, Pipeline that ends in one, or RoutedClassifier.
        X : input
            As the estimator takes it. Every path is run once.
        y : array-like of shape (n_samples,)
            Labels.
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs. Default: the router's own grid.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        fixed, oracle : bool, default=True
            Whether to draw the fixed paths and the oracle.
        name : str, default=None
            Name for the legend. Default: the class of the router.
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        **kwargs
            Of ``Axes.plot``, for the line.

        Returns
        -------
        CostCurveDisplay
        """
        router, inputs = router_of(estimator, X)
        known = router.paths_ if getattr(inputs, "paths", None) is None else None
        table = stored(as_path_probabilities(inputs, known))
        curve = sweep(router, lambdas, table, y, sample_weight=sample_weight)
        # The curve's tree carries the costs and classes that held in the sweep.
        table = table.with_paths(curve.tree)

        def baseline(method: Any) -> CostCurve:
            fitted = method.fit(table, y)
            return fitted.cost_curve(None, table, y, sample_weight=sample_weight)

        return cls.from_predictions(
            curve,
            fixed=baseline(FixedPath()) if fixed else None,
            oracle=baseline(OracleRouter()) if oracle else None,
            names=None if name is None else [name],
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        curves: CostCurve | Sequence[CostCurve],
        *,
        intervals: Sequence[pd.DataFrame | None] | pd.DataFrame | None = None,
        fixed: CostCurve | None = None,
        oracle: CostCurve | None = None,
        names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CostCurveDisplay:
        """Plot finished curves.

        Parameters
        ----------
        curves : CostCurve or sequence of CostCurve
            One a router.
        intervals : DataFrame or sequence of DataFrame or None, default=None
            Their intervals, drawn as bands.
        fixed, oracle : CostCurve, default=None
            Curves of the fixed paths and of the oracle.
        names : sequence of str, default=None
            Names for the legend. Default: the curves' labels.
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        **kwargs
            Of ``Axes.plot``, for the lines.

        Returns
        -------
        CostCurveDisplay
        """
        if isinstance(curves, CostCurve):
            curves = [curves]
            intervals = None if intervals is None else [intervals]
        given = list(curves) if hasattr(curves, "__iter__") else curves
        display = cls(curves=given, intervals=intervals, fixed=fixed, oracle=oracle, names=names)
        return display.plot(ax, **kwargs)

    def _check_curves(self) -> None:
        """Raise unless there is something to plot."""
        curves = self.curves if isinstance(self.curves, (list, tuple)) else [self.curves]
        wrong = [c for c in curves if not isinstance(c, CostCurve)]
        wrong += [c for c in (self.fixed, self.oracle) if not isinstance(c, (CostCurve, NoneType))]
        if wrong or not curves:
            raise TypeError(
                "curves must hold CostCurves, at least one, and fixed and oracle be one or None, "
                f"got {type(wrong[0]).__name__ if wrong else 'none'}: see router.cost_curve(...)."
            )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> CostCurveDisplay:
        """Plot.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        **kwargs
            Of ``Axes.plot``, for the lines.

        Returns
        -------
        self
        """
        self._check_curves()
        n = len(self.curves)
        names = self._per_curve("names", self.names, [curve.label for curve in self.curves])
        frames = self._per_curve("intervals", self.intervals, [None] * n)
        drawn = [c for c in (*self.curves, self.fixed, self.oracle) if c is not None]
        label_of_costs = cost_label(curve.tree.cost_unit for curve in drawn)
        ax = new_axes(ax, (8.0, 4.6))
        high = max(curve.cost_range[1] for curve in drawn)
        sources = {curve.source for curve in drawn}
        self.lines_, self.points_, self.bands_ = [], [], []
        for i, (curve, name, frame) in enumerate(zip(self.curves, names, frames, strict=True)):
            color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
            label = name or f"curve {i + 1}"
            style = {"color": color, "linewidth": 2.0, "zorder": 4, **kwargs}
            if len(sources) > 1:
                label = f"{label} ({_rows(curve)})"
            cost, accuracy = curve.hull()
            # The line shows no markers itself, but its entry in the legend does.
            (line,) = ax.plot(
                np.append(cost, max(high, cost[-1])),
                np.append(accuracy, accuracy[-1]),
                **{"label": label, "marker": marker, "markersize": 4, "markevery": [], **style},
            )
            (points,) = ax.plot(
                curve.cost,
                curve.accuracy,
                linestyle="none",
                marker=marker,
                markersize=4.0,
                markeredgewidth=0.3,
                markeredgecolor="white",
                color=line.get_color(),
                zorder=4,
            )
            band = None
            if frame is not None:
                frame = frame.sort_values("cost")
                band = ax.fill_between(
                    frame["cost"],
                    frame["accuracy_low"],
                    frame["accuracy_high"],
                    color=line.get_color(),
                    alpha=0.18,
                    linewidth=0,
                    zorder=2,
                )
            self.lines_.append(line)
            self.points_.append(points)
            self.bands_.append(band)
        self.line_ = self.lines_[0]
        self._plot_oracle(ax, high)
        self.fixed_ = None
        if self.fixed is not None:
            self.fixed_ = ax.scatter(
                self.fixed.cost,
                self.fixed.accuracy,
                marker="x",
                s=32,
                color=QUIET,
                linewidths=1.2,
                label="One path for all",
                zorder=5,
            )
        ax.set_xlabel(label_of_costs)
        ax.set_ylabel("Accuracy")
        if len(sources) == 1:
            ax.set_title(
                f"Measured on {_rows(self.curves[0])}", loc="left", fontsize="medium", color=QUIET
            )
        ax.margins(y=0.08)  # room for a name below the lowest path
        tidy(ax)
        self.legend_ = beside(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.texts_: list[Any] = []
        if self.fixed is not None:
            self._name_best_paths(self.fixed)
        return self

    def _plot_oracle(self, ax: Axes, high: float) -> None:
        self.oracle_ = None
        if self.oracle is None:
            return
        cost, accuracy = self.oracle.hull()
        (self.oracle_,) = ax.plot(
            np.append(cost, max(high, cost[-1])),
            np.append(accuracy, accuracy[-1]),
            color="black",
            linestyle=":",
            linewidth=1.6,
            label="Oracle",
            zorder=3,
        )

    def _name_best_paths(self, fixed: CostCurve) -> None:
        """Name the paths on the hull of fixed paths, where the names do not collide."""
        ax = self.ax_
        # Room for the legend is made when the figure is laid out; only then boxes are known.
        root: Any = ax.figure.figure
        root.draw_without_rendering()
        frame = ax.get_window_extent()
        drawn = [np.column_stack([fixed.cost, fixed.accuracy])]
        steps = np.linspace(*ax.get_xlim(), 400)
        for curve in self.curves:
            drawn.append(np.column_stack([curve.cost, curve.accuracy]))
            drawn.append(np.column_stack([steps, np.interp(steps, *curve.hull(), left=np.nan)]))
        marks = ax.transData.transform(np.concatenate(drawn))
        taken: list[Any] = []
        costs, heights = fixed.hull()
        for cost, height in zip(costs, heights, strict=True):
            point = np.flatnonzero((fixed.cost == cost) & (fixed.accuracy == height))[0]
            text = ax.annotate(
                fixed.tree.names[int(fixed.paths[point, 0])],
                (cost, height),
                xytext=(0, 0),
                textcoords="offset points",
                fontsize="small",
                color="0.3",
                zorder=6,
            )
            for right, up in ((1, -1), (-1, -1), (-1, 1), (1, 1)):
                text.set(ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top")
                text.set_position((5 * right, 4 * up))
                box = text.get_window_extent()
                low, high = box.padded(3.0).get_points()
                inside = ((marks > low) & (marks < high)).all(axis=1)
                if (
                    frame.x0 < box.x0 < box.x1 < frame.x1
                    and frame.y0 < box.y0 < box.y1 < frame.y1
                    and not inside.any()
                    and not any(box.overlaps(other) for other in taken)
                ):
                    taken.append(box.padded(1.0))
                    self.texts_.append(text)
                    break
            else:
                text.remove()

    def _per_curve(self, what: str, given: Any, default: list[Any]) -> list[Any]:
        if given is None:
            return default
        if len(given) != len(default):
            raise ValueError(f"{what} has {len(given)} entries for {len(default)} curves.")
        return list(given)


def _rows(curve: CostCurve) -> str:
    """Which rows a curve is measured on, with their number."""
    # "450 rows held out in fit" brings its own count.
    return curve.source if curve.source[:1].isdigit() else f"{curve.paths.shape[1]} {curve.source}"
