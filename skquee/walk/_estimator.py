"""What every estimator that routes has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from skquee.bank import MultiPathClassifierBank
from skquee.values import PathProbabilities
from skquee.values._labels import check_weights
from skquee.walk._report import ReportMixin
from skquee.walk._snapshot import Snapshot, TableReader
from skquee.walk._stream import StreamError, TakesRows, stream
from skquee.walk._visit import Routes
from skquee.walk._walk import walk

__all__ = ["RoutingMixin"]


class RoutingMixin(ReportMixin):
    """Prediction, scoring and cost curves for whatever can decide at a gate.

    A subclass has parameters ``paths``, ``path_costs`` and ``classes``, calls ``start_fit`` first
    in ``fit``, and defines ``make_decider(tree)``, which returns a :class:`Decider` that holds all
    that a decision needs. Nothing is written to the estimator after ``fit``. Where it trades by
    something else than ``lambda_`` it says so in ``knob``, and defines ``default_knobs(tree)``;
    ``check_knobs()`` raises where a parameter that prediction reads is not usable.
    :func:`skquee.testing.check_router` says what is amiss.

    Attributes
    ----------
    knob : Knob
        Parameter that ``cost_curve`` sweeps.
    mixes : bool
        Whether two operating points share one walk over any table: then they can be mixed.
    takes_fitted : bool
        Whether the parameter ``router`` has to be fitted on other rows than this estimator.
    needs_labels : bool
        Whether it chooses by the labels of the very rows it routes.

    Examples
    --------
    A router that leaves at the first exit but for the rows it finds hard, and its whole protocol:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skquee.testing import check_router, make_path_probabilities
    >>> from skquee.walk import Follow, Knob, RoutingMixin
    >>> class LeaveWhenSure(RoutingMixin, BaseEstimator):
    ...     knob = Knob("least", order="rises")
    ...
    ...     def __init__(self, least=0.8, *, paths=None, path_costs=None, classes=None):
    ...         self.least, self.paths, self.path_costs = least, paths, path_costs
    ...         self.classes = classes
    ...
    ...     def fit(self, X, y=None):
    ...         self.start_fit(X, y)
    ...         return self
    ...
    ...     def make_decider(self, tree):
    ...         line, least = tree.prefixes(tree.fullest), self.least
    ...         return Follow(tree, self.classes_, line, lambda seen: seen.now.max(axis=1) >= least)
    ...
    ...     def default_knobs(self, tree):
    ...         return np.linspace(0, 1, 21)
    >>> check_router(LeaveWhenSure())
    >>> probs, y = make_path_probabilities(200)
    >>> router = LeaveWhenSure(0.9).fit(probs, y)
    >>> bool(router.predict_cost(probs).mean() < router.paths_.costs[-1])
    True
    """

    mixes = True
    takes_fitted = False
    needs_labels = False

    def route(self, X: ArrayLike) -> Routes:
        """Route samples, running only what each one's path needs.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        Routes
            Label, path, cost, predicted error at each gate, and what was run.
        """
        self.check_as_fitted()
        self.check_knobs()
        table = self.read_table(X, reset=False)
        routes = walk(self.make_decider(table.paths), table)
        return routes.of_rows(X) if hasattr(X, "iloc") else routes  # of a bank's router

    def freeze(self) -> Snapshot:
        """Return an immutable snapshot of this router at its operating point.

        It predicts as this router does now, whatever is set or fitted later; threads may share
        it, and a single row costs it microseconds.

        Returns
        -------
        Snapshot

        Raises
        ------
        NotFittedError
            If the router is not fitted.
        """
        return Snapshot(self.decider(), self.table_reader())

    def table_reader(self) -> Callable[[ArrayLike], PathProbabilities] | None:
        """Return what makes a table of X for a snapshot; None: X is a table."""
        return None if self.path_costs is None else TableReader(self.paths_, prices=False)

    def innermost(self) -> tuple[RoutingMixin, MultiPathClassifierBank | None]:
        """Return the router that decides, and the bank before it or None."""
        return self, None

    def stream(
        self,
        bank: TakesRows,
        batches: Iterable[object],
        *,
        group_size: int = 64,
        max_waiting: int = 1024,
    ) -> Iterator[Routes | StreamError]:
        """Route batches one after the other; see :func:`skquee.walk.stream`.

        Parameters
        ----------
        bank : MultiPathClassifierBank or pipeline
            Its ``transform`` turns a batch into a lazy table of a network.
        batches : iterable
            Of images, or of (images, labels).
        group_size : int, default=64
            Rows run together in deeper blocks, of several batches.
        max_waiting : int, default=1024
            Rows that may wait: bounds memory.

        Yields
        ------
        Routes or StreamError
            One a batch, in order.
        """
        check_is_fitted(self)
        return stream(self, bank, batches, group_size=group_size, max_waiting=max_waiting)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Predict labels.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.route(X).labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict class probabilities: those of the path each sample takes.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self.route(X).probabilities

    def predict_path(self, X: ArrayLike) -> NDArray[np.intp]:
        """Tell the path each sample takes.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        ndarray of shape (n_samples,)
            Indices into ``paths_.names``.
        """
        return self.route(X).paths

    def predict_cost(self, X: ArrayLike) -> NDArray[np.float64]:
        """Tell the cost of the path each sample takes.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        ndarray of shape (n_samples,)
            In the unit of the tree's (``paths_.cost_unit``).
        """
        return self.route(X).costs

    def predict_error(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the probability that each sample's answer is wrong.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        ndarray of shape (n_samples,)
            As judged by the last gate the sample passed; NaN where no gate predicts.
        """
        return self.route(X).predicted_error

    def score(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return accuracy less the price paid: ``accuracy - lambda_ * mean cost``.

        Equation 1 turned round. It moves with ``lambda_``: to choose ``lambda_`` by search use
        a scorer of :mod:`skquee.evaluation`. Estimators without ``lambda_`` return accuracy.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.
        y : array-like of shape (n_samples,), default=None
            Labels; None where X knows losses, and accuracy is 1 less their mean.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
        """
        routes = self.route(X)
        weights = check_weights(sample_weight, len(routes.costs))
        losses = X.losses if isinstance(X, PathProbabilities) else None
        if losses is not None:
            told = self.answered_table(self.read_table(X, reset=False))
            columns = told.paths.path_columns[routes.paths]
            assert told.losses is not None
            lost = told.losses[np.arange(len(columns)), columns]
            accuracy = 1 - np.average(lost, weights=weights)
        else:
            accuracy = accuracy_score(y, routes.labels, sample_weight=sample_weight)
        price = getattr(self, "lambda_", 0.0)
        return float(accuracy - price * np.average(routes.costs, weights=weights))
