"""What a router knows once it is fitted: its classes, its tree, and which tables it takes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import check_labels, correctness, encode_labels, path_answers

__all__ = ["FittedMixin", "Trace", "as_now", "check_as_fitted", "remember", "with_tree"]

Fitted = TypeVar("Fitted", bound="FittedMixin")


class FittedMixin(ClassifierMixin):
    """Reads tables for fit and for prediction; the base of :class:`skquee.walk.RoutingMixin`."""

    #: Parameters that fit alone reads: set after fit, prediction asks for another fit.
    _read_in_fit: ClassVar[tuple[str, ...]] = ("classes",)

    #: Parameters whose None stands for a default estimator: name to its maker.
    _parts: ClassVar[dict[str, Callable[[], BaseEstimator]]] = {}

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
            table = self._read_more(X)
        n_rows, _, n_classes = table.shape
        if not reset and n_classes != self.n_classes_:
            raise ValueError(
                f"X has {n_classes} classes, but this estimator was fitted with {self.n_classes_}."
            )
        if n_rows == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={table.shape}) while a minimum of 1 is "
                "required."
            )
        if reset or not isinstance(X, PathProbabilities):  # a tree of one structure says as much
            validate_data(self, table, reset=reset, skip_check_array=True)
        return table

    def _read_more(self, X: ArrayLike) -> PathProbabilities:
        """Return rows to predict over the costs that hold: of X, else ``paths``, ``path_costs``."""
        fitted, own = self._fitted_paths, self.paths
        if not isinstance(X, PathProbabilities):
            tree = fitted if own is None else fitted.with_costs(own.costs, cost_unit=own.cost_unit)
            return as_path_probabilities(X, tree, path_costs=self.path_costs)
        tree = X.paths
        if tree is not fitted and not tree.same_structure(fitted):
            raise ValueError(
                f"X carries {tree!r}, but this estimator was fitted with {fitted!r}. "
                "Transform X with the bank used in fit."
            )
        if X.facts.call_costs is not None:
            # Where each row has its prices the tree's are their means on some rows or other.
            tree = fitted
        elif tree.classes != fitted.classes:
            tree = tree.with_classes(fitted.classes)
        if own is not None:
            tree = tree.with_costs(own.costs, cost_unit=own.cost_unit)
        if self.path_costs is not None:
            tree = tree.with_costs(self.path_costs)
            if X.facts.call_costs is not None:
                X = X.with_call_costs(None)  # in place of those that rows bring
        return X if tree is X.paths else X.with_paths(tree)

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

    def take_fitted(self, router: FittedMixin) -> None:
        """Take over what another router learned of its rows: tree, classes and columns."""
        for name in ("_fitted_paths", "classes_", "n_classes_", "n_paths_", "n_features_in_"):
            setattr(self, name, getattr(router, name))

    @property
    def paths_(self) -> PathTree:
        """The tree of paths, with the costs that hold now."""
        self.check_fitted()
        tree = self._fitted_paths
        if self.path_costs is not None:
            return tree.with_costs(self.path_costs)
        own = self.paths
        return tree if own is None else tree.with_costs(own.costs, cost_unit=own.cost_unit)

    def check_fitted(self) -> None:
        """Raise where this is not fitted."""
        # scikit-learn's check makes tags, which costs more than the rest: only where it will fail.
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)

    def check_as_fitted(self) -> None:
        """Raise where this is not fitted, or a parameter that fit reads was set since."""
        self.check_fitted()
        check_as_fitted(self, getattr(self, "_of_fit", {}))
        own, tree = getattr(self, "paths", None), getattr(self, "_fitted_paths", None)
        if own is None or tree is None:
            return
        if not (isinstance(own, PathTree) and own.same_structure(tree)):
            raise ValueError(
                f"paths={own!r} was set after fit, which knew {tree!r}: call fit again."
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


def with_tree(router: Fitted, tree: PathTree) -> Fitted:
    """Return a copy of a fitted router, and of the routers in it, over other costs."""
    other = copy.copy(router)
    if hasattr(other, "_fitted_paths"):
        own = other._fitted_paths
        other._fitted_paths = own.with_costs(tree.costs, cost_unit=tree.cost_unit)
    if hasattr(other, "router_"):
        other.router_ = with_tree(other.router_, tree)
    if hasattr(other, "routers_"):
        other.routers_ = {name: with_tree(r, tree) for name, r in other.routers_.items()}
    return other


class Trace(TypedDict, total=False):
    """A value, and those of an estimator's parameters or of a sequence's items."""

    value: object
    params: dict[str, Trace]
    items: list[Trace]


def remember(estimator: BaseEstimator, names: Iterable[str]) -> dict[str, Trace]:
    """Return the parameters that fit uses, with those of the estimators among them.

    `names`: parameters that are read in fit alone. Returns for :func:`check_as_fitted`. It holds
    the parameters themselves, no copies.
    """
    return {name: _trace(getattr(estimator, name)) for name in names}


def check_as_fitted(estimator: BaseEstimator, remembered: dict[str, Trace]) -> None:
    """Raise where a parameter is another than the one that fit used.

    It costs microseconds: identity, and equality of plain values.

    `remembered`: from :func:`remember`. ValueError naming the parameter.

    >>> from sklearn.svm import SVC
    >>> from skquee.walk._fitted import check_as_fitted, remember
    >>> model = SVC(C=1.0)
    >>> remembered = remember(model, ["C"])
    >>> check_as_fitted(model.set_params(C=2.0), remembered)
    Traceback (most recent call last):
        ...
    ValueError: C=2.0 was set after fit, and has to be fitted: call fit again.
    """
    found = _changed_among(estimator, remembered, "")
    if found is not None:
        raise ValueError(
            f"{found[0]}={found[1]!r:.200} was set after fit, and has to be fitted: call fit again."
        )


def as_now(remembered: dict[str, Trace], name: str, value: object) -> dict[str, Trace]:
    """Return what fit used with another value of a parameter, which acts without a fit.

    `remembered`: from :func:`remember`; it stays as it is. `name`: nested with double underscores.
    `value`: what is not to be noticed as a change.
    """
    key, _, rest = name.partition("__")
    if key not in remembered:
        return remembered
    if not rest:
        return {**remembered, key: _trace(value)}
    inner = as_now(remembered[key].get("params", {}), rest, value)
    return {**remembered, key: {**remembered[key], "params": inner}}


def _trace(value: object) -> Trace:
    """Return a value, with the parameters of an estimator, or those among the items of a list."""
    if isinstance(value, (list, tuple, dict)):
        parts = list(value.values() if isinstance(value, dict) else value)
        items = [_trace(part) for part in parts]
        known = any(len(item) > 1 for item in items)
        return {"value": value, "items": items} if known else {"value": value}
    # What is frozen is as it was fitted, whatever its parameters say.
    if not hasattr(value, "get_params") or isinstance(value, (type, FrozenEstimator)):
        return {"value": value}
    given = value.get_params(deep=False)
    inner = {
        name: _trace(part)
        for name, part in given.items()
        if _equal(getattr(value, name, None), part)  # some houses keep theirs elsewhere
    }
    return {"value": value, "params": inner}


def _changed(now: object, trace: Trace, name: str) -> tuple[str, object] | None:
    """Return the name and value of a parameter that differs, or None."""
    if "value" not in trace:  # a file was changed by hand
        raise ValueError("What fit used is not whole: fit again.")
    then = trace["value"]
    if "items" in trace:
        return _changed_items(now, trace, name)
    if "params" not in trace:
        if isinstance(then, FrozenEstimator) and isinstance(now, FrozenEstimator):
            now, then = now.estimator, then.estimator
        return None if _equal(now, then) else (name, now)
    # A part may be set in place (`regressor__max_epochs`), or be another with the same parameters.
    if type(now) is not type(then):
        return name, now
    return _changed_among(now, trace["params"], f"{name}__")


def _changed_among(
    owner: object, traces: dict[str, Trace], outer: str
) -> tuple[str, object] | None:
    """Return the same for the parameters of an estimator."""
    for inner, given in traces.items():
        part = getattr(owner, inner, None)
        if len(given) == 1 and part is given.get("value", given):  # most: asked at every call
            continue
        found = _changed(part, given, f"{outer}{inner}")
        if found is not None:
            return found
    return None


def _changed_items(now: object, trace: Trace, name: str) -> tuple[str, object] | None:
    """Return the same for a list, tuple or dict with estimators in it."""
    then, items = trace["value"], trace["items"]
    if type(now) is not type(then) or not isinstance(now, (list, tuple, dict)):
        return name, now
    if len(now) != len(items):
        return name, now
    if isinstance(now, dict) and isinstance(then, dict):
        if list(now) != list(then):
            return name, now
        parts = [(f"{name}[{key!r}]", part) for key, part in now.items()]
    else:
        # An estimator with a name, (name, estimator), is called as scikit-learn does.
        outer = name.rpartition("__")[0]
        named = [isinstance(p, tuple) and len(p) > 0 and isinstance(p[0], str) for p in now]
        parts = [(f"{outer}__{p[0]}" if n else name, p) for n, p in zip(named, now, strict=True)]
    for (own, part), given in zip(parts, items, strict=True):
        found = _changed(part, given, own)
        if found is not None:
            return found
    return None


def _equal(now: object, then: object) -> bool:
    if now is then:
        return True
    plain = (list, tuple, np.ndarray)
    if isinstance(now, plain) and isinstance(then, plain):
        ours, theirs = (v.tolist() if isinstance(v, np.ndarray) else v for v in (now, then))
        if not (isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple))):
            return bool(ours == theirs)
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    try:
        return bool(now == then) or (now != now and then != then)
    except Exception:  # what cannot be compared is another
        return False
