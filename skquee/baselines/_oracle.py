"""The bound: a router that knows the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from skquee.evaluation import CostCurve
from skquee.method.policy import open_loop
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_number, is_flat
from skquee.values._labels import check_weights, correctness, stored, wrong_of
from skquee.walk import Decider, Routes, RoutingMixin
from skquee.walk._walk import labels_of

__all__ = ["OracleRouter"]


class OracleRouter(RoutingMixin, BaseEstimator):
    """Take the cheapest path that answers right, and the cheapest of all where none does.

    A bound, not a method: its predictions need the labels. With ``lambda_`` above 0 a right
    answer is bought only where it is worth its cost.

    Parameters
    ----------
    lambda_ : float, default=0.0
        Price of one unit of cost. Read at prediction.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import OracleRouter
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]])
    >>> oracle = OracleRouter(paths=PathTree.chain([1, 1])).fit(probs, [0, 1])
    >>> oracle.predict_path(probs, [0, 1])
    array([0, 1])
    """

    mixes = False
    needs_labels = True

    def __init__(
        self,
        lambda_: float = 0.0,
        *,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
    ) -> None:
        self.lambda_ = lambda_
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> OracleRouter:
        """Check the table and its labels.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Ignored: nothing is learned.

        Returns
        -------
        self
        """
        self.start_fit(X, y)
        self.check_knobs()
        return self

    def check_knobs(self) -> None:
        check_number(self.lambda_, "lambda_", at_least=0)

    def route(self, X: ArrayLike, y: ArrayLike | None = None) -> Routes:
        """Route samples, given their labels. Every path of a lazy table is run.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        Routes
        """
        self.check_as_fitted()
        self.check_knobs()
        if y is None and getattr(X, "losses", None) is None:
            raise ValueError("The oracle needs the labels: give y as well as X.")
        table = stored(self.read_table(X, reset=False))
        tree, n = table.paths, len(table)
        right = correctness(table, self.class_codes(table, y))
        paths = open_loop(wrong_of(right), _prices(table), self.lambda_)
        probabilities = table.walk().advance(np.arange(n), paths)
        parents, said = np.array(tree.parents), paths
        while (silent := is_flat(probabilities) & (parents[said] >= 0)).any():
            said = np.where(silent, parents[said], said)
            probabilities = table.walk().advance(np.arange(n), said)
        return Routes(
            labels=labels_of(Decider(tree, self.classes_), table, paths, probabilities),
            paths=paths,
            costs=np.broadcast_to(_prices(table), right.shape)[np.arange(n), paths],
            probabilities=probabilities,
            predicted_errors=np.full((n, tree.n_exits), np.nan),
            visited=tree.ancestors[paths],
            counts={},
            tree=tree,
        )

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.generic]:
        """Return the labels answered; see :meth:`route`."""
        return self.route(X, y).labels

    def predict_proba(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.floating]:
        """Return the class probabilities of the answers; see :meth:`route`."""
        return self.route(X, y).probabilities

    def predict_path(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.intp]:
        """Return the path each sample takes; see :meth:`route`."""
        return self.route(X, y).paths

    def predict_cost(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the cost of each sample's path; see :meth:`route`."""
        return self.route(X, y).costs

    def score(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return ``accuracy - lambda_ * mean cost``, the best any router can do.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
        """
        routes = self.route(X, y)
        losses = getattr(X, "losses", None)
        if losses is None:
            right = routes.labels == np.asarray(y)
        else:
            right = 1 - losses[np.arange(len(losses)), routes.tree.path_columns[routes.paths]]
        gain = right - self.lambda_ * routes.costs
        return float(np.average(gain, weights=check_weights(sample_weight, len(gain))))

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return the best reachable accuracy at every cost.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Rows to measure on.
        y : array-like of shape (n_samples,)
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self.check_as_fitted()
        if X is None or (y is None and getattr(X, "losses", None) is None):
            raise ValueError("The oracle needs the labels: give cost_curve X and y.")
        table = stored(self.read_table(X, reset=False))
        right = correctness(table, self.class_codes(table, y))
        knobs = self.knob_values(lambdas, table.paths)
        wrong = wrong_of(right)
        paths = np.stack([open_loop(wrong, _prices(table), k) for k in knobs.tolist()])
        return CostCurve(
            knobs,
            paths,
            np.take_along_axis(right.T, paths, axis=0),
            table.paths,
            sample_weight=sample_weight,
            label=type(self).__name__,
            row_costs=table.row_path_costs(),
        )

    def predicted_along(
        self, curve: CostCurve, table: PathProbabilities | None, rows: NDArray[np.intp]
    ) -> None:
        """Return None: an oracle knows errors, it predicts none."""


def _prices(table: PathProbabilities) -> NDArray[np.float64]:
    costs = table.row_path_costs()
    return table.paths.path_costs if costs is None else costs
