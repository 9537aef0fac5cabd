"""The knob of a router, and its curve: accuracy and cost at every value."""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.evaluation import CostCurve
from skquee.values import PathProbabilities, PathTree
from skquee.values._labels import default_lambdas, stored
from skquee.walk._decider import Decider
from skquee.walk._fitted import FittedMixin
from skquee.walk._knob import Knob
from skquee.walk._walk import walk

__all__ = ["CurveMixin", "check_curve_rows"]


def check_curve_rows(
    lambdas: ArrayLike | None,
    X: ArrayLike | None,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
) -> None:
    """Raise where ``cost_curve`` is not given trade-offs first, then rows with their labels.

    `lambdas`, `X`, `y`, `sample_weight`: what ``cost_curve`` was given. ValueError if rows stand
    where trade-offs belong, of rows and labels only one is given, or weights come without rows.
    """
    if X is None and sample_weight is not None:
        raise ValueError(
            "sample_weight weighs the rows X, which are left out: give X and y, or weights in fit."
        )
    swapped = lambdas is not None and (
        hasattr(lambdas, "paths")
        or hasattr(lambdas, "columns")
        or np.ndim(lambdas) > 1
        or np.asarray(lambdas).dtype.kind not in "biuf"
    )
    unlabelled = X is not None and y is None and getattr(X, "losses", None) is None
    if swapped or unlabelled or (X is None and y is not None):
        got = ", ".join(
            f"{name} {type(value).__name__}"
            for name, value in (("lambdas", lambdas), ("X", X), ("y", y))
            if value is not None
        )
        raise ValueError(
            "cost_curve takes lambdas first, then rows with their labels: cost_curve(None, X, y), "
            f"or cost_curve(X=X, y=y); got {got}."
        )


class CurveMixin(FittedMixin):
    """Gives a router that has ``make_decider`` its ``decider`` and ``cost_curve``."""

    knob: ClassVar[Knob] = Knob("lambda_", order="falls")

    def make_decider(self, tree: PathTree) -> Decider:
        """Return what decides over a tree, frozen at the parameters that are set.

        Parameters
        ----------
        tree : PathTree
            Of the structure of fit, with the costs that hold.

        Returns
        -------
        Decider
            Holds all it needs: later changes of this estimator do not reach it.
        """
        raise TypeError(
            f"{type(self).__name__} does not decide gate by gate: it has no make_decider. Use its "
            "own predict on the whole table."
        )

    def check_knobs(self) -> None:
        """Raise where a parameter that prediction reads is not usable."""

    def knob_in_use(self) -> float | None:
        """Return where this stands on its own curve, as ``CostCurve.knobs`` tells points.

        Returns
        -------
        float or None
            None where that is no number: a price that is still open, say.
        """
        own = getattr(self, self.knob.name, getattr(self, "best_lambda_", None))
        return float(own) if isinstance(own, (int, float)) and np.isfinite(own) else None

    def decider(self, knob: float | None = None) -> Decider:
        """Return what decides at a gate, frozen at an operating point.

        Parameters
        ----------
        knob : float, default=None
            Value of the parameter that ``cost_curve`` sweeps. Default: the one that is set.

        Returns
        -------
        Decider
            Immutable: later changes of this estimator do not reach it.
        """
        self.check_as_fitted()
        router = self if knob is None else self.at_knob(knob)
        router.check_knobs()
        return router.make_decider(router.paths_)

    def at_knob(self, knob: float | None) -> Self:
        """Return a copy at another value of the knob."""
        other = copy.copy(self)
        return other if knob is None else other.set_params(**{self.knob.name: knob})

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        """Return the values that ``cost_curve`` sweeps by itself.

        Parameters
        ----------
        tree : PathTree
            With the costs that hold.

        Returns
        -------
        ndarray of shape (n_points,)
        """
        return default_lambdas(tree)

    def search_knobs(self, table: PathProbabilities) -> NDArray[np.float64]:
        """Return values of the knob that differ on these rows; labels are not looked at."""
        return self.default_knobs(table.paths)

    def knob_values(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        """Return values of the knob, checked; None: those of ``default_knobs(tree)``."""
        knobs = self.default_knobs(tree) if values is None else np.asarray(values, np.float64)
        knobs = np.atleast_1d(knobs)
        if knobs.ndim != 1 or knobs.size == 0:
            raise ValueError(f"lambdas must be a non-empty list, got shape {knobs.shape}.")
        if np.isnan(knobs).any():
            raise ValueError("lambdas must be numbers, got NaN.")
        return knobs

    def sweep_table(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the path of every sample at every knob, shape (n_knobs, n_samples)."""
        taken = np.empty((len(knobs), len(table)), dtype=np.intp)
        for line, knob in zip(taken, knobs.tolist(), strict=True):
            router = self.at_knob(knob)
            router.check_knobs()
            line[:] = walk(router.make_decider(table.paths), table).paths
        return taken

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Sweep the trade-off and return accuracy and cost at every value.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Values of ``lambda_``, or of the parameter this estimator trades with.
            Default: a grid that spans the range.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure on. Every path of a lazy table is run once.
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
        if X is None:
            raise ValueError(
                f"{type(self).__name__} keeps no held-out rows: give cost_curve X and y."
            )
        table = stored(self.read_table(X, reset=False))
        knobs = self.knob_values(lambdas, table.paths)
        right = self.correct_paths(table, self.class_codes(table, y))
        taken = self.sweep_table(table, knobs)
        return CostCurve(
            knobs,
            taken,
            np.take_along_axis(right.T, taken, axis=0),
            table.paths,
            knob=self.knob.name,
            sample_weight=sample_weight,
            label=type(self).__name__,
            row_costs=table.row_path_costs(),
        )
