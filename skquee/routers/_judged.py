"""A bank and a router after fit, and the rows that judge them: curves, summary, verdict."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError

from skquee.bank import LazyPathProbabilities, MultiPathClassifierBank
from skquee.evaluation import CostCurve
from skquee.routers._live import LiveParameters, check_rows
from skquee.routers._summary import (
    Clock,
    Models,
    Verdict,
    models_of,
    summary_frame,
    summary_lines,
)
from skquee.values._checks import check_number
from skquee.values._labels import check_labels, correctness
from skquee.walk import RoutingMixin
from skquee.walk._curves import check_curve_rows
from skquee.walk._report import knobs_with_own, place_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JudgedMixin", "RowReader", "judged_alone"]


class JudgedMixin(LiveParameters, RoutingMixin):
    """Gives :class:`skquee.RoutedClassifier` its curves, its summary and its verdict."""

    max_error_increase: float
    # Of the rows that judge the router: whether each model alone is right, weights, labels.
    _alone: NDArray[np.bool_]
    _weights: NDArray[np.float64] | None
    _judged_codes: NDArray[np.int32]
    # Their curve, where the router keeps none; names of the models; what calls took.
    _curve: CostCurve | None
    _names: tuple[str, ...] | None
    _clock: tuple[NDArray[np.float64], float, int] | None

    def table_reader(self) -> RowReader:
        return RowReader(self.bank_, getattr(self, "feature_names_in_", None))

    @property
    def cv_curve_(self) -> CostCurve:
        """Operating points on the rows that judge the router, the one in use among them."""
        curve = self._judging_curve()
        if curve.tree.costs != self.paths_.costs:
            # A ValueError that dir(), which asks for every property, takes for an absent one.
            raise NotFittedError(
                "The costs of the paths have changed since this curve was measured in fit: give "
                "rows and labels, summary(X, y) or cost_curve(None, X, y), or call fit again."
            )
        return curve

    def _judging_curve(self) -> CostCurve:
        """Return the same, with the costs of fit where the curve was kept."""
        self.check_fitted()
        if self._curve is not None:
            return self._curve
        knobs = None
        if hasattr(self.router_, "keep_judged"):
            own = self.router_.lambda_
            grid = self.router_.default_knobs(self.paths_)
            knobs = np.unique(np.append(grid, [] if own is None else own))
        curve: CostCurve = self.router_.cost_curve(knobs)
        own = knobs_with_own(self.router_, curve)
        return curve if own is curve.knobs else self.router_.cost_curve(own)

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return the router's curve, on raw rows or on those that judged it in fit.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs.
        X : array-like, data frame or sequence, default=None
            Rows to measure on. Default: those of fit that judged the router.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self.check_as_fitted()
        check_curve_rows(lambdas, X, y, sample_weight)
        table = None if X is None else self.table_reader()(X)
        curve: CostCurve = self.router_.cost_curve(lambdas, table, y, sample_weight=sample_weight)
        return curve

    def at_accuracy(self, accuracy: float) -> Self:
        """Return this classifier at the cheapest point of an accuracy; nothing is fitted anew.

        Parameters
        ----------
        accuracy : float
            To reach on the rows that judge the router, between 0 and 1.

        Returns
        -------
        RoutedClassifier
            Fitted; a copy.

        Raises
        ------
        ValueError
            If no operating point reaches it; the message gives the range.
        """
        self.check_as_fitted()
        wanted = check_number(accuracy, "accuracy", at_least=0, at_most=1)
        curve = self.cv_curve_
        reached = np.flatnonzero(curve.accuracy >= wanted - 1e-12)
        if not len(reached):
            raise ValueError(
                f"accuracy={accuracy!r} is out of reach: on {curve.source}, operating points have "
                f"from {curve.accuracy.min():.4f} to {curve.accuracy.max():.4f}, for "
                f"{curve.cost.min():.4g} to {curve.cost.max():.4g} "
                f"{curve.tree.cost_unit or 'of cost'} a row."
            )
        place = reached[np.argmin(curve.cost[reached])]
        other = copy.copy(self)
        other.router = copy.copy(self.router)
        knob = float(curve.knobs[place])
        if self.best_lambda_ is not None:
            other.best_lambda_ = knob
        return other.set_params(**{f"router__{curve.knob}": knob})

    def summary(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> pd.DataFrame:
        """Compare every model alone with routed operating points.

        Parameters
        ----------
        X : array-like, data frame or sequence, default=None
            Rows to measure on. Default: those of fit that judged the router.
        y : array-like of shape (n_samples,), default=None
            Their labels.

        Returns
        -------
        DataFrame
            A row for every model alone, for the point in use ("routed") and some more along the
            curve: the knob, accuracy with its 95 % interval (Wilson's), mean cost in the unit of
            the costs, milliseconds a row on the clock, and the share of the rows that each model
            ran on. ``verdict`` tells whether the point in use pays: cheaper than the cheapest
            model whose accuracy is within ``max_error_increase`` of the best one's, within that
            itself, and no slower on the clock. ``attrs["reason"]`` says why,
            ``attrs["source"]`` on which rows.
        """
        return summary_frame(*self._summed(X, y))

    def summary_of(self, router: RoutingMixin, X: ArrayLike, y: ArrayLike) -> pd.DataFrame:
        """Return :meth:`summary` where another router chooses, over the same bank."""
        return summary_frame(*self._summed(X, y, router))

    def _summed(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        router: RoutingMixin | None = None,
    ) -> tuple[list[dict[str, object]], Verdict, str]:
        """Return the lines of the summary, its verdict, and on which rows."""
        self.check_as_fitted()
        chooses = self.router_ if router is None else router
        models, alone = self._models(), self._alone
        clock = None if self._clock is None else Clock(*self._clock)
        if X is not None or y is not None:
            if X is None or y is None:
                given, absent = ("X", "y") if y is None else ("y", "X")
                raise ValueError(
                    f"summary was given {given} without {absent}: give rows and their labels, or "
                    "neither for the rows of fit that judged the router."
                )
            table, milliseconds = self.table_reader()(X).timed()
            codes = check_labels(y, self.classes_, len(table))
            alone = correctness(table, codes)[:, models.paths]
            first = self._judging_curve() if router is None else router.cost_curve(None, table, y)
            curve = chooses.cost_curve(knobs_with_own(chooses, first), table, y)
            if clock is not None:
                taken = np.array([milliseconds[name] for name in models.names])
                clock = Clock(taken, clock.deciding, len(table))
        else:
            curve = self.cv_curve_
        place = place_of(chooses, curve)
        lines, verdict = summary_lines(curve, place, models, alone, clock, self.max_error_increase)
        if place is None and knobs_with_own(chooses, curve) is not curve.knobs:
            verdict = Verdict(
                "",
                f"the curve that was measured in fit has no point at the {curve.knob} in use: give "
                "summary rows with their labels",
            )
        return lines, verdict, curve.source

    def _models(self) -> Models:
        return models_of(self.paths_, self._names)

    @property
    def verdict_(self) -> str:
        """Whether routing pays: "route", or which model to use alone; "" if that is not known."""
        return self._summed()[1].text

    @property
    def reason_(self) -> str:
        """Why."""
        return self._summed()[1].reason


def judged_alone(model: JudgedMixin) -> tuple[Models, NDArray[np.bool_]]:
    """Return the models of a fitted classifier, and whether each is right on the rows of fit.

    Shape (n_rows, n_models): the rows of ``cv_curve_``.
    """
    return model._models(), model._alone


class RowReader:
    """Makes a table of raw rows.

    `feature_names`: columns seen in fit.
    """

    def __init__(self, bank: MultiPathClassifierBank, feature_names: Sequence[str] | None) -> None:
        self.bank, self.feature_names = bank, feature_names

    def __call__(self, X: ArrayLike) -> LazyPathProbabilities:
        return self.bank.transform(check_rows(X, self.feature_names))
