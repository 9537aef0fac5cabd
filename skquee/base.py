"""What every estimator that routes has in common."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,
)

from skquee.evaluation import CostCurve
from skquee.paths import PathTree
from skquee.probabilities import PathProbabilities, as_path_probabilities, check_probabilities
from skquee.tables import (
    check_labels,
    check_weights,
    default_lambdas,
    encode_labels,
    path_answers,
    stored,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Routes", "RoutingMixin", "Visit"]


@dataclass(frozen=True)
class Routes:
    """Everything known about how some samples were routed.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,)
        Answers.
    paths : ndarray of shape (n_samples,)
        Index of the path each sample took.
    costs : ndarray of shape (n_samples,)
        Cost of that path.
    probabilities : ndarray of shape (n_samples, n_classes)
        Class probabilities of the answer.
    predicted_errors : ndarray of shape (n_samples, n_exits)
        Column ``t``: predicted error of the path aimed at by the gate after ``t`` blocks, NaN
        where that gate was not asked. Column 0 is the gate before anything has run.
    visited : ndarray of shape (n_samples, n_exits)
        Path reached after each block, -1 once the sample has left.
    counts : dict of str to int
        What a lazy table ran: samples per block and level, or per classifier. Empty for a
        stored table.
    tree : PathTree
        Names and costs of the paths.
    """

    labels: NDArray[Any]
    paths: NDArray[np.intp]
    costs: NDArray[np.float64]
    probabilities: NDArray[np.floating]
    predicted_errors: NDArray[np.float64]
    visited: NDArray[np.intp]
    counts: dict[str, int]
    tree: PathTree

    @property
    def path_names(self) -> NDArray[np.object_]:
        """Name of the path each sample took."""
        return np.array(self.tree.names, dtype=object)[self.paths]

    @property
    def gates_visited(self) -> NDArray[np.intp]:
        """Number of gates that judged each sample."""
        return np.isfinite(self.predicted_errors).sum(axis=1)

    @property
    def predicted_error(self) -> NDArray[np.float64]:
        """Predicted error of the path taken, by the last gate that judged the sample."""
        seen = np.isfinite(self.predicted_errors)
        last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        return np.take_along_axis(self.predicted_errors, last[:, None], axis=1)[:, 0]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a sample: label, path, cost, predicted error, gates visited."""
        import pandas as pd

        return pd.DataFrame(
            {
                "label": self.labels,
                "path": self.path_names,
                "cost": self.costs,
                "predicted_error": self.predicted_error,
                "gates_visited": self.gates_visited,
            }
        )


@dataclass(frozen=True)
class Visit:
    """What a gate sees of the samples that stand before it.

    Attributes
    ----------
    depth : int
        Blocks run so far; 0 before anything has run.
    prefixes : ndarray of shape (m,)
        Path each sample has taken, -1 at depth 0.
    now, previous : ndarray of shape (m, n_classes) or None
        Probabilities at this exit and at the one before; None where there is none.
    answers : ndarray of shape (m, depth)
        Class index answered at each exit so far.
    rows : ndarray of shape (m,)
        Row of each sample in the table.
    tree : PathTree
        The tree, with the costs that hold.
    history : callable
        Returns the probabilities at every exit so far, a list of `depth` ndarrays of shape
        (m, n_classes).
    activations : callable or None
        Returns the state of these samples after the last block, as the network holds it. None
        where no network runs.
    memory : dict of str to ndarray
        What a gate keeps for later ones of the same walk: arrays with an entry for each sample,
        which go on with the samples.
    context : ndarray of shape (m, n_context) or None
        What the table knows of the samples beforehand.
    """

    depth: int
    prefixes: NDArray[np.intp]
    now: NDArray[np.floating] | None
    previous: NDArray[np.floating] | None
    answers: NDArray[np.intp]
    rows: NDArray[np.intp]
    tree: PathTree
    history: Callable[[], list[NDArray[np.floating]]]
    activations: Callable[[], Any] | None
    memory: dict[str, NDArray[Any]]
    context: NDArray[np.float64] | None = None


class RoutingMixin(ClassifierMixin):
    """Prediction, scoring and cost curves for whatever can decide at a gate.

    A subclass has parameters ``paths``, ``costs`` and ``classes``, calls ``_start_fit`` first
    in ``fit``, and defines ``_decide(visit)``, which returns for every sample before a gate
    the path to step to (its own prefix to exit) and the predicted error of the path aimed at
    (NaN where it predicts none). A subclass that delegates overrides ``route`` alone.
    """

    #: Parameter that ``cost_curve`` sweeps.
    _knob = "lambda_"

    paths: PathTree | None
    costs: ArrayLike | None
    classes: Sequence[Any] | None
    classes_: NDArray[Any]

    def __sklearn_is_fitted__(self) -> bool:
        # `lambda_` ends in an underscore, which alone would count as a fitted attribute.
        return hasattr(self, "classes_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags

    #: Parameters whose None stands for a default estimator: name to its maker.
    _parts: ClassVar[dict[str, Callable[[], Any]]] = {}

    def set_params(self, **params: Any) -> Any:
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

    def _table(self, X: Any, *, reset: bool) -> PathProbabilities:
        """Return X as a table whose tree carries the costs that hold now."""
        if reset:
            table = as_path_probabilities(X, self.paths, self.costs, self.classes)
        else:
            tree = self._fitted_paths
            if isinstance(X, PathProbabilities):
                if not X.paths.same_structure(tree):
                    raise ValueError(
                        f"X carries {X.paths!r}, but this estimator was fitted with {tree!r}. "
                        "Transform X with the bank used in fit."
                    )
                tree = tree.with_costs(X.paths.costs)
            if self.paths is not None:
                tree = tree.with_costs(self.paths.costs)
            table = as_path_probabilities(
                X.with_paths(tree) if isinstance(X, PathProbabilities) else X, tree, self.costs
            )
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

    def _start_fit(self, X: Any, y: ArrayLike | None) -> tuple[PathProbabilities, NDArray[np.intp]]:
        """Check X and y, set the fitted attributes all routers share, return class indices."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        table = self._table(X, reset=True)
        classes, codes = encode_labels(table, y)
        self._fitted_paths = table.paths.with_classes(classes.tolist())
        self.classes_ = classes
        self.n_classes_ = len(classes)
        self.n_paths_ = table.paths.n_paths
        return table.with_paths(self._fitted_paths), codes

    @property
    def paths_(self) -> PathTree:
        """The tree of paths, with the costs that hold now."""
        check_is_fitted(self)
        tree = self._fitted_paths
        if self.costs is not None:
            return tree.with_costs(self.costs)
        return tree if self.paths is None else tree.with_costs(self.paths.costs)

    def _decide(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        raise TypeError(f"{type(self).__name__} must define _decide or route.")

    def _check_knobs(self) -> None:
        """Raise where a parameter read at predict is not usable."""

    def _answer(
        self,
        paths: NDArray[np.intp],
        now: NDArray[np.floating],
        history: Callable[[], list[NDArray[np.floating]]],
    ) -> NDArray[np.floating]:
        """Return what samples answer that end at these paths: by default the last exit."""
        return now

    def _path_answers(self, table: PathProbabilities) -> NDArray[np.int32]:
        """Return the class index that each path answers, shape (n_samples, n_paths)."""
        return path_answers(table, check=True)

    def _correct(self, table: PathProbabilities, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return whether each path's answer is right, shape (n_samples, n_paths)."""
        return self._path_answers(table) == codes[:, None]

    # ------------------------------------------------------------------ predict side

    def route(self, X: Any) -> Routes:
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
        check_is_fitted(self)
        self._check_knobs()
        table = self._table(X, reset=False)
        parts = [self._route_chunk(chunk, rows.start) for rows, chunk in table.chunks()]
        counts: dict[str, int] = {}
        for part in parts:
            for step, n_run in part.counts.items():
                counts[step] = counts.get(step, 0) + n_run
        joined = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Routes)
            if field.name not in ("counts", "tree")
        }
        return Routes(**joined, counts=counts, tree=table.paths)

    def _route_chunk(self, table: PathProbabilities, start: int) -> Routes:
        tree, n = table.paths, len(table)
        inner, names = tree.is_inner, np.array(tree.names, dtype=object)
        walk = table.walk()
        merge = getattr(walk, "merge", None)
        visited = np.full((n, tree.n_exits), -1, dtype=np.intp)
        answers = np.full((n, tree.n_exits), -1, dtype=np.intp)
        errors = np.full((n, tree.n_exits), np.nan)
        final: NDArray[np.floating] | None = None
        # What was answered at each exit, and by which rows: read only where a gate asks for it.
        passed: list[tuple[NDArray[np.intp], NDArray[np.floating]]] = []
        memory: dict[str, NDArray[Any]] = {}

        rows = np.arange(n)
        at = np.full(n, -1, dtype=np.intp)
        now = previous = None
        for depth in range(tree.n_exits):
            if depth == 0 and len(tree.roots) == 1:
                goal = np.full(n, tree.roots[0])
            else:
                visit = Visit(
                    depth,
                    at,
                    now,
                    previous,
                    answers[rows, :depth],
                    rows + start,
                    tree,
                    history=partial(_history, tuple(passed), rows),
                    activations=_activations(walk, rows) if depth else None,
                    memory=memory,
                    context=None if table.context is None else table.context[rows],
                )
                goal, errors[rows, depth] = self._decide(visit)
            going = goal != at
            if not going.all():
                rows, goal = rows[going], goal[going]
                now = None if now is None else now[going]
                memory = {name: values[going] for name, values in memory.items()}
            if rows.size == 0:
                break
            previous, at = now, goal if merge is None else merge(goal)
            now = walk.advance(rows, at)
            check_probabilities(now, rows + start, names[at])
            passed.append((rows, now))
            visited[rows, depth] = at
            answers[rows, depth] = now.argmax(axis=1)
            answer = self._answer(at, now, partial(_history, tuple(passed), rows))
            # Written at every exit reached: the last one stays.
            if final is None:
                final = answer.copy()
            else:
                final[rows] = answer
            stays = inner[at]
            if not stays.all():
                rows, at, now = rows[stays], at[stays], now[stays]
                previous = None if previous is None else previous[stays]
                memory = {name: values[stays] for name, values in memory.items()}
            if rows.size == 0:
                break
        assert final is not None
        paths = visited[np.arange(n), (visited >= 0).sum(axis=1) - 1]
        return Routes(
            labels=self.classes_[final.argmax(axis=1)],
            paths=paths,
            costs=tree.path_costs[paths],
            probabilities=final,
            predicted_errors=errors,
            visited=visited,
            counts=walk.counts,
            tree=tree,
        )

    def stream(
        self, bank: Any, batches: Iterable[Any], *, group_size: int = 64, max_waiting: int = 1024
    ) -> Iterator[Any]:
        """Route batches one after the other; see :func:`skquee.streaming.stream`.

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
        from skquee.streaming import stream

        check_is_fitted(self)
        return stream(self, bank, batches, group_size=group_size, max_waiting=max_waiting)

    def predict(self, X: Any) -> NDArray[Any]:
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

    def predict_proba(self, X: Any) -> NDArray[np.floating]:
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

    def predict_path(self, X: Any) -> NDArray[np.intp]:
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

    def predict_cost(self, X: Any) -> NDArray[np.float64]:
        """Tell the cost of the path each sample takes.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.

        Returns
        -------
        ndarray of shape (n_samples,)
            In the unit of ``paths_.costs``.
        """
        return self.route(X).costs

    def predict_error(self, X: Any) -> NDArray[np.float64]:
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

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return accuracy less the price paid: ``accuracy - lambda_ * mean cost``.

        Equation 1 turned round. It moves with ``lambda_``: to choose ``lambda_`` by search use
        a scorer of :mod:`skquee.evaluation`. Estimators without ``lambda_`` return accuracy.

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
        routes = self.route(X)
        accuracy = accuracy_score(y, routes.labels, sample_weight=sample_weight)
        price = getattr(self, "lambda_", 0.0)
        weights = check_weights(sample_weight, len(routes.costs))
        return float(accuracy - price * np.average(routes.costs, weights=weights))

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: Any = None,
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
        check_is_fitted(self)
        if X is None or y is None:
            raise ValueError(
                f"{type(self).__name__} keeps no held-out rows: give cost_curve X and y."
            )
        table = stored(self._table(X, reset=False))
        knobs = self._knobs(lambdas, table.paths)
        right = self._correct(table, check_labels(y, self.classes_, len(table)))
        taken = self._sweep(table, knobs)
        return CostCurve(
            knobs,
            taken,
            np.take_along_axis(right.T, taken, axis=0),
            table.paths,
            knob=self._knob,
            sample_weight=sample_weight,
            label=type(self).__name__,
        )

    def _default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return default_lambdas(tree)

    def _search_knobs(self, table: PathProbabilities) -> NDArray[np.float64]:
        """Return values of the knob that differ on these rows; labels are not looked at."""
        return self._default_knobs(table.paths)

    def _knobs(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = self._default_knobs(tree) if values is None else np.asarray(values, np.float64)
        knobs = np.atleast_1d(knobs)
        if knobs.ndim != 1 or knobs.size == 0:
            raise ValueError(f"lambdas must be a non-empty list, got shape {knobs.shape}.")
        if np.isnan(knobs).any():
            raise ValueError("lambdas must be numbers, got NaN.")
        return knobs

    def _sweep(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the path of every sample at every knob, shape (n_knobs, n_samples)."""
        other = copy.copy(self)
        return np.stack(
            [other.set_params(**{self._knob: knob}).route(table).paths for knob in knobs.tolist()]
        )


def _history(
    passed: Sequence[tuple[NDArray[np.intp], NDArray[np.floating]]], rows: NDArray[np.intp]
) -> list[NDArray[np.floating]]:
    """Return what rows answered at each exit; the rows of every exit stand in rising order."""
    return [answers[np.searchsorted(there, rows)] for there, answers in passed]


def _activations(walk: Any, rows: NDArray[np.intp]) -> Callable[[], Any] | None:
    read = getattr(walk, "activations", None)
    return None if read is None else partial(read, rows)
