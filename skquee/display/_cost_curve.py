"""Accuracy against mean cost."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skquee.baselines import FixedPath, OracleRouter
from skquee.display._curve_parts import (
    check_positive,
    draw_band,
    name_best_paths,
    rows_of,
    to_the_dearest,
)
from skquee.display._style import (
    QUIET,
    cost_label,
    legend_of,
    line_style,
    log_costs,
    new_axes,
    tidy,
)
from skquee.evaluation import CostCurve, bootstrap_interval
from skquee.evaluation import cost_curve as sweep
from skquee.evaluation._scorers import router_of
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import stored
from skquee.values._types import Rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["CostCurveDisplay"]

# Up to so many lines each shows its operating points in full, and its band.
FEW = 3
# Costs at which the interval of a hull is drawn.
N_COSTS = 61

Item = TypeVar("Item")


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
    >>> from skquee.evaluation import CostCurve, bootstrap_interval
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
        estimator: BaseEstimator,
        X: Rows,
        y: ArrayLike,
        *,
        lambdas: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        fixed: bool = True,
        oracle: bool = True,
        name: str | None = None,
        log_cost: bool = False,
        legend: str = "auto",
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
        log_cost, legend, ax, **kwargs
            As of :meth:`plot`.

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

        def baseline(method: BaseEstimator) -> CostCurve:
            fitted = method.fit(table, y)
            return fitted.cost_curve(None, table, y, sample_weight=sample_weight)

        return cls.from_predictions(
            curve,
            fixed=baseline(FixedPath()) if fixed else None,
            oracle=baseline(OracleRouter()) if oracle else None,
            names=None if name is None else [name],
            log_cost=log_cost,
            legend=legend,
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
        log_cost: bool = False,
        legend: str = "auto",
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
        log_cost, legend, ax, **kwargs
            As of :meth:`plot`.

        Returns
        -------
        CostCurveDisplay
        """
        if isinstance(curves, CostCurve):
            curves = [curves]
            intervals = None if intervals is None else [intervals]
        given = list(curves) if hasattr(curves, "__iter__") else curves
        display = cls(curves=given, intervals=intervals, fixed=fixed, oracle=oracle, names=names)
        return display.plot(ax, log_cost=log_cost, legend=legend, **kwargs)

    @classmethod
    def from_comparison(
        cls,
        table: pd.DataFrame,
        *,
        bands: bool | None = None,
        fixed: CostCurve | None = None,
        oracle: CostCurve | None = None,
        log_cost: bool = False,
        legend: str = "auto",
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CostCurveDisplay:
        """Plot the curves of a comparison.

        Parameters
        ----------
        table : DataFrame
            As :func:`skquee.evaluation.compare` returned it.
        bands : bool, default=None
            Whether to draw the interval of each hull, at the confidence of the comparison, along
            the whole line. Default: where there are at most three methods. Bands may overlap where
            methods on the same rows do differ: the table tells.
        fixed, oracle : CostCurve, default=None
            Curves of the fixed paths and of the oracle.
        log_cost, legend, ax, **kwargs
            As of :meth:`plot`.

        Returns
        -------
        CostCurveDisplay

        Raises
        ------
        ValueError
            If the table has lost its curves: pandas keeps ``attrs`` in most operations, files not.

        Examples
        --------
        >>> from skquee.baselines import FixedPath, ThresholdRouter
        >>> from skquee.display import CostCurveDisplay
        >>> from skquee.evaluation import compare
        >>> from skquee.testing import make_path_probabilities
        >>> X, y = make_path_probabilities(300)
        >>> methods = {"threshold": ThresholdRouter(), "fixed": FixedPath()}
        >>> fitted = {name: method.fit(X[:150], y[:150]) for name, method in methods.items()}
        >>> table = compare(fitted, X[150:], y[150:], n_resamples=20, random_state=0)
        >>> display = CostCurveDisplay.from_comparison(table)
        >>> [line.get_label() for line in display.lines_]
        ['threshold', 'fixed']
        """
        attrs = getattr(table, "attrs", {})
        known = attrs.get("curves")
        if not known:
            raise ValueError(
                f"table must be what compare(...) returned, with its curves in attrs, got "
                f"{type(table).__name__} with attrs {sorted(map(str, attrs))}."
            )
        drawn = len(known) <= FEW if bands is None else bands
        intervals = [
            bootstrap_interval(
                curve,
                costs=N_COSTS,
                n_resamples=attrs["n_resamples"],
                confidence=attrs["confidence"],
                random_state=attrs["random_state"],
            )
            if drawn
            else None
            for curve in known.values()
        ]
        return cls.from_predictions(
            list(known.values()),
            intervals=intervals,
            fixed=fixed,
            oracle=oracle,
            names=list(known),
            log_cost=log_cost,
            legend=legend,
            ax=ax,
            **kwargs,
        )

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

    def plot(
        self,
        ax: Axes | None = None,
        *,
        log_cost: bool = False,
        legend: str = "auto",
        **kwargs: Any,
    ) -> CostCurveDisplay:
        """Plot.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        log_cost : bool, default=False
            Whether the axis of costs is logarithmic: for costs that differ by orders of magnitude.
            Lines stay what mixing reaches, which bends between distant points there.
        legend : {"auto", "beside", "inside", "none"}, default="auto"
            Where it stands. "auto": beside the axes where the figure's layout makes room for it and
            there are several names, inside otherwise.
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
        if log_cost:
            log_costs(ax, check_positive(drawn), high)
        sources = {curve.source for curve in drawn}
        self.lines_, self.points_, self.bands_ = [], [], []
        # Where lines are many, dots of all of them would hide which is which.
        many = n > FEW
        for i, (curve, name, frame) in enumerate(zip(self.curves, names, frames, strict=True)):
            label = name or f"curve {i + 1}"
            if len(sources) > 1:
                label = f"{label} ({rows_of(curve)})"
            style = {"linewidth": 2.0, "zorder": 4, **line_style(i), **kwargs}
            # Among few the line shows no markers itself, but its entry in the legend does.
            every = (0.12 * i / n, 0.12) if many else []
            (line,) = ax.plot(
                *to_the_dearest(*curve.hull(), high, log_cost),
                **{"label": label, "markersize": 6 if many else 4, "markevery": every, **style},
            )
            (points,) = ax.plot(
                curve.cost,
                curve.accuracy,
                linestyle="none",
                marker=style["marker"],
                markersize=1.8 if many else 4.0,
                markeredgewidth=0.0 if many else 0.3,
                markeredgecolor="white",
                color=line.get_color(),
                alpha=0.6 if many else None,
                zorder=4,
            )
            self.lines_.append(line)
            self.points_.append(points)
            self.bands_.append(
                None if frame is None else draw_band(ax, frame, high, line.get_color(), log_cost)
            )
        self.line_ = self.lines_[0]
        self._plot_oracle(ax, high, log_cost)
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
                f"Measured on {rows_of(self.curves[0])}", loc="left", fontsize="medium", color=QUIET
            )
        ax.margins(y=0.08)  # room for a name below the lowest path
        tidy(ax)
        if legend == "auto" and len(ax.get_legend_handles_labels()[1]) == 1:
            legend = "inside"  # a single name is not worth a fifth of the width
        self.legend_ = legend_of(ax, legend, handlelength=3.2)
        self.ax_, self.figure_ = ax, ax.figure
        self.texts_ = [] if self.fixed is None else name_best_paths(ax, self.fixed, self.curves)
        return self

    def _plot_oracle(self, ax: Axes, high: float, log_cost: bool) -> None:
        self.oracle_ = None
        if self.oracle is None:
            return
        (self.oracle_,) = ax.plot(
            *to_the_dearest(*self.oracle.hull(), high, log_cost),
            color="black",
            linestyle=":",
            linewidth=1.6,
            label="Oracle",
            zorder=3,
        )

    def _per_curve(
        self, what: str, given: Sequence[Item] | None, default: list[Item]
    ) -> list[Item]:
        if given is None:
            return default
        if len(given) != len(default):
            raise ValueError(f"{what} has {len(given)} entries for {len(default)} curves.")
        return list(given)
