"""What every estimator that routes has in common."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,
)

from skquee.bank import MultiPathClassifierBank
from skquee.evaluation import CostCurve
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import (
    check_labels,
    check_weights,
    correctness,
    default_lambdas,
    encode_labels,
    path_answers,
    stored,
)
from skquee.values._remembered import check_as_fitted, remember
from skquee.walk._decider import Decider
from skquee.walk._knob import Knob
from skquee.walk._report import ReportMixin
from skquee.walk._snapshot import Snapshot, TableReader
from skquee.walk._stream import StreamError, stream
from skquee.walk._visit import Routes
from skquee.walk._walk import walk

__all__ = ["RoutingMixin", "check_curve_rows"]


def check_curve_rows(
    lambdas: ArrayLike | None,
    X: ArrayLike | None,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
) -> None:
    """Raise where ``cost_curve`` is not given trade-offs first, then rows with their labels.

    Parameters
    ----------
    lambdas, X, y, sample_weight
        What ``cost_curve`` was given.

    Raises
    ------
    ValueError
        If rows stand where trade-offs belong, of rows and labels only one is given, or weights
        come without rows.
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


class RoutingMixin(ReportMixin, ClassifierMixin):
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
    knob: ClassVar[Knob] = Knob("lambda_", order="falls")

    #: Parameters that fit alone reads: set after fit, prediction asks for another fit.
    _read_in_fit: ClassVar[tuple[str, ...]] = ("classes",)

    paths: PathTree | None
    path_costs: ArrayLike | None
    classes: Sequence[object] | None
    classes_: NDArray[np.generic]

    def __sklearn_is_fitted__(self) -> bool:
        # `lambda_` ends in an underscore, which alone would count as a fitted attribute.
        return hasattr(self, "classes_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags

    #: Parameters whose None stands for a default estimator: name to its maker.
    _parts: ClassVar[dict[str, Callable[[], BaseEstimator]]] = {}

    def set_params(self, **params: object) -> Self:
        """Set parameters, also of parts left at their default (``targets__n_clusters``).

        Parameters
        ----------
        **params
            Parameters, nested ones with a double underscore.

        Returns
        -------
        self
        """
        for name, make in self._parts.items():
            nested = any(key.startswith(f"{name}__") for key in params)
            if nested and params.get(name, getattr(self, name)) is None:
                params = {**params, name: make()}
        return super().set_params(**params)

    # ------------------------------------------------------------------ fit side

    def read_table(self, X: ArrayLike, *, reset: bool) -> PathProbabilities:
        """Return X as a table whose tree carries the costs that hold now.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Rows.
        reset : bool
            Whether these are the rows of fit, which say what others have to look like.

        Returns
        -------
        PathProbabilities
        """
        if reset:
            table = as_path_probabilities(
                X, self.paths, path_costs=self.path_costs, classes=self.classes
            )
        else:
            tree = self._fitted_paths
            if isinstance(X, PathProbabilities):
                if not X.paths.same_structure(tree):
                    raise ValueError(
                        f"X carries {X.paths!r}, but this estimator was fitted with {tree!r}. "
                        "Transform X with the bank used in fit."
                    )
                # Where each row has its prices the tree's are their means on some rows or other.
                # Else X's own tree, which has worked out what a walk asks it.
                if X.facts.call_costs is None:
                    tree = X.paths.with_classes(tree.classes)
            if self.paths is not None:
                tree = tree.with_costs(self.paths.costs, cost_unit=self.paths.cost_unit)
            table = as_path_probabilities(
                X.with_paths(tree) if isinstance(X, PathProbabilities) else X,
                tree,
                path_costs=self.path_costs,
            )
            if self.path_costs is not None and table.facts.call_costs is not None:
                table = table.with_call_costs(None)  # in place of those that rows bring
            if table.shape[2] != self.n_classes_:
                raise ValueError(
                    f"X has {table.shape[2]} classes, but this estimator was fitted with "
                    f"{self.n_classes_}."
                )
        if len(table) == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={table.shape}) while a minimum of 1 is "
                "required."
            )
        if reset or not isinstance(X, PathProbabilities):  # a tree of one structure says as much
            validate_data(self, table, reset=reset, skip_check_array=True)
        return table

    def start_fit(
        self, X: ArrayLike, y: ArrayLike | None
    ) -> tuple[PathProbabilities, NDArray[np.intp]]:
        """Check X and y, and set the fitted attributes all routers share: first thing in ``fit``.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Rows of fit.
        y : array-like of shape (n_samples,) or None
            Labels; None for a table of outcomes.

        Returns
        -------
        table : PathProbabilities
            The rows, over a tree with classes.
        codes : ndarray of shape (n_samples,)
            Class index of each label.
        """
        outcomes = isinstance(X, PathProbabilities) and X.facts.outcomes
        if y is None and not outcomes:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        if getattr(X, "trained_on", False):
            warnings.warn(
                "The classifiers of this table were fitted on these very rows, where they err less "
                "than on others: a router that learns from them trusts them too much. Fit it on "
                "other rows, or let RoutedClassifier keep some apart.",
                UserWarning,
                stacklevel=3,
            )
        self._of_fit = remember(self, self._read_in_fit)
        table = self.read_table(X, reset=True)
        classes, codes = encode_labels(table, y)
        # The models of a table of outcomes are what is predicted, but no classes of its values.
        self._fitted_paths = table.paths.with_classes(None if outcomes else classes.tolist())
        self.classes_ = classes
        self.n_classes_ = table.shape[2]
        self.n_paths_ = table.paths.n_paths
        return table.with_paths(self._fitted_paths), codes

    @property
    def paths_(self) -> PathTree:
        """The tree of paths, with the costs that hold now."""
        check_is_fitted(self)
        tree = self._fitted_paths
        if self.path_costs is not None:
            return tree.with_costs(self.path_costs)
        own = self.paths
        return tree if own is None else tree.with_costs(own.costs, cost_unit=own.cost_unit)

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

    def check_as_fitted(self) -> None:
        """Raise where this is not fitted, or a parameter that fit reads was set since."""
        check_is_fitted(self)
        check_as_fitted(self, getattr(self, "_of_fit", {}))
        tree = getattr(self, "_fitted_paths", None)
        if self.paths is not None and tree is not None and not self.paths.same_structure(tree):
            raise ValueError(
                f"paths={self.paths!r} was set after fit, which knew {tree!r}: call fit again."
            )

    def path_answers(self, table: PathProbabilities) -> NDArray[np.int32]:
        """Return the class index that each path answers, shape (n_samples, n_paths)."""
        return path_answers(self.answered_table(table), check=True)

    def answered_table(self, table: PathProbabilities) -> PathProbabilities:
        """Return the table of what every path answers: itself, where the last exit answers."""
        inner = getattr(self, "router_", None)
        if inner is None:
            return table
        told: PathProbabilities = inner.answered_table(table)
        return told

    def correct_paths(self, table: PathProbabilities, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return whether each path's answer is right, or its loss, shape (n_samples, n_paths)."""
        return correctness(self.answered_table(table), codes)

    def class_codes(self, table: PathProbabilities, y: ArrayLike | None) -> NDArray[np.intp]:
        """Return class indices of labels, 0 for rows of which outcomes are known."""
        if not table.facts.outcomes and not (y is None and table.losses is not None):
            assert y is not None
            return check_labels(y, self.classes_, len(table))
        if table.losses is None:
            raise ValueError("These outcomes have no losses to measure on: give some.")
        return np.zeros(len(table), dtype=np.intp)

    # ------------------------------------------------------------------ predict side

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
        return walk(self.make_decider(table.paths), table).of_rows(X)

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
        bank: MultiPathClassifierBank,
        batches: Iterable[object],
        *,
        group_size: int = 64,
        max_waiting: int = 1024,
    ) -> Iterator[Routes | StreamError]:
        """Route batches one after the other; see :func:`skquee.walk.stream`.

        Parameters
        ----------
        bank : MultiPathClassifierBank
            Over a network.
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
