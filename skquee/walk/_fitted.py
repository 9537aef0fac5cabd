"""What a router knows once it is fitted: its classes, its tree, and which tables it takes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import check_labels, correctness, encode_labels, path_answers
from skquee.values._remembered import check_as_fitted, remember

__all__ = ["FittedMixin", "with_tree"]

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

    def take_fitted(self, router: FittedMixin) -> None:
        """Take over what another router learned of its rows: tree, classes and columns."""
        for name in ("_fitted_paths", "classes_", "n_classes_", "n_paths_", "n_features_in_"):
            setattr(self, name, getattr(router, name))

    @property
    def paths_(self) -> PathTree:
        """The tree of paths, with the costs that hold now."""
        check_is_fitted(self)
        tree = self._fitted_paths
        if self.path_costs is not None:
            return tree.with_costs(self.path_costs)
        own = self.paths
        return tree if own is None else tree.with_costs(own.costs, cost_unit=own.cost_unit)

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


def with_tree(router: Fitted, tree: PathTree) -> Fitted:
    """Return a copy of a fitted router, and of the routers in it, over other costs."""
    other = copy.copy(router)
    if hasattr(other, "_fitted_paths"):
        own = other._fitted_paths
        other._fitted_paths = own.with_costs(tree.costs, cost_unit=tree.cost_unit)
    if hasattr(other, "router_"):
        other.router_ = with_tree(other.router_, tree)
    return other
