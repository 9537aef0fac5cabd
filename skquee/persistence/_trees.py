"""Trees of scikit-learn index memory by numbers in a file: these are checked first.

skops makes neither kind of tree unless it is told to, since no check of theirs stands between
such a number and the memory. Two things are checked here. In the file, what a tree is made with;
once it is made, that every step leads from a node to a later one, down to a leaf, and that the
estimator that holds it lets in no row with fewer features than the tree looks at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

__all__ = ["check_arguments", "check_trees"]

LEAF = -1


def check_arguments(
    n_features: object, n_classes: object, n_outputs: object, node_count: object, n_nodes: int
) -> None:
    """Raise where a tree would read past what it is made with.

    `n_features`: columns of the input. `n_classes` (n_outputs,): classes of each output.
    `node_count`: nodes that the tree says it has.
    """
    fits = type(n_features) is int and n_features >= 0 and type(n_outputs) is int
    if not fits or node_count != n_nodes or type(node_count) is not int or node_count < 1:
        raise ValueError(
            f"a tree says {node_count!r} nodes on {n_features!r} features, but has {n_nodes}"
        )
    sizes = np.asarray(n_classes)
    if sizes.shape != (n_outputs,) or sizes.dtype.kind != "i" or not (sizes >= 1).all():
        raise ValueError(f"a tree of {n_outputs} outputs says {sizes.tolist()} classes")


def check_trees(items: Iterable[object], n_trees: int, elsewhere: bool) -> None:
    """Raise where a tree could read memory that is not its own.

    `items`: everything that was read. `n_trees`: trees in the file, of both kinds: each must be
    found in an estimator known here. `elsewhere`: whether the user trusts trees in other estimators
    too.
    """
    from sklearn import ensemble
    from sklearn.tree import BaseDecisionTree

    forests = (
        ensemble.RandomForestClassifier,
        ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier,
        ensemble.ExtraTreesRegressor,
        ensemble.RandomTreesEmbedding,
    )
    boosted = ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor
    binned = ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor
    single: set[int] = set()
    vouched: set[int] = set()
    for item in items:
        if isinstance(item, BaseDecisionTree) and hasattr(item, "tree_"):
            _check_tree(item.tree_, _width(item))
            single.add(id(item.tree_))
        elif isinstance(item, forests) and hasattr(item, "estimators_"):
            _check_members(item, item.estimators_)
        elif isinstance(item, boosted) and hasattr(item, "estimators_"):
            _check_boosting(item)
        elif isinstance(item, binned) and hasattr(item, "_predictors"):
            vouched |= _check_hist(item)
    if len(single) + len(vouched) != n_trees and not elsewhere:
        raise ValueError(
            "it holds a tree of scikit-learn in an estimator whose trees are not checked here"
        )


def _width(estimator: BaseEstimator) -> int:
    n_features = vars(estimator).get("n_features_in_")
    if type(n_features) is not int or n_features < 1:
        raise ValueError(f"{type(estimator).__name__} does not say its number of features")
    return n_features


def _check_tree(tree: Any, n_features: int) -> None:
    if tree.node_count < 1 or tree.node_count != tree.capacity:
        raise ValueError(f"a tree says {tree.node_count} nodes and has {tree.capacity}")
    if tree.n_features != n_features:
        raise ValueError(f"a tree on {tree.n_features} features stands in one of {n_features}")
    left, right = tree.children_left, tree.children_right
    inner = left != LEAF
    _check_steps(left[inner], right[inner], np.flatnonzero(inner), len(left))
    _check_within(tree.feature[inner], n_features, "feature")


def _check_steps(
    left: NDArray[np.integer], right: NDArray[np.integer], nodes: NDArray[np.intp], n_nodes: int
) -> None:
    for children in (left.astype(np.int64), right.astype(np.int64)):
        if not ((children > nodes) & (children < n_nodes)).all():
            raise ValueError("a node of a tree leads out of the tree, or back")


def _check_within(numbers: NDArray[np.integer], limit: int, what: str) -> None:
    found = numbers.astype(np.int64)
    if not ((found >= 0) & (found < limit)).all():
        raise ValueError(f"a node of a tree asks for a {what} that does not exist")


def _check_members(forest: BaseEstimator, members: Iterable[BaseEstimator]) -> None:
    """Raise where trees differ: a forest checks rows once, for all its trees."""
    for member in members:
        if _width(member) != _width(forest):
            raise ValueError("trees of a forest differ in their features")


def _check_boosting(model: BaseEstimator) -> None:
    """Raise where trees would be added to columns that the first guess has not."""
    members = model.estimators_
    if not isinstance(members, np.ndarray) or members.ndim != 2 or not members.size:
        raise ValueError("boosted trees are no table of trees")
    _check_members(model, members.flat)
    columns, first = members.shape[1], model.init_
    several = getattr(vars(model)["_loss"], "is_multiclass", None)
    guesses = type(first).__name__ in ("DummyClassifier", "DummyRegressor")
    n_classes = len(getattr(first, "classes_", ())) if guesses else columns
    known = isinstance(first, str) or guesses
    if (
        not known
        or model.n_trees_per_iteration_ != columns
        or several is not (columns > 1)
        or (columns > 1 and n_classes != columns)
    ):
        raise ValueError("boosted trees do not fit the number of classes, or begin unlike others")
    for member in members.flat:
        if member.tree_.n_outputs != 1 or member.tree_.max_n_classes != 1:
            raise ValueError("a boosted tree has more than one value a node")


def _check_hist(model: BaseEstimator) -> set[int]:
    state = vars(model)  # as the file gave it
    n_features, binned = _width(model), state["_bin_mapper"].is_categorical_
    n_columns = n_features
    if state["_preprocessor"] is not None:
        n_columns = _columns(state["_preprocessor"])
    if np.shape(binned) != (n_features,) or n_columns != n_features:
        raise ValueError("boosting sees another number of features than it was fitted with")
    found: set[int] = set()
    for predictor in (p for iteration in state["_predictors"] for p in iteration):
        nodes, bits = predictor.nodes, predictor.raw_left_cat_bitsets
        if not isinstance(nodes, np.ndarray) or nodes.ndim != 1 or not len(nodes):
            raise ValueError("a boosted tree has no nodes")
        inner = nodes["is_leaf"] == 0
        steps = np.flatnonzero(inner)
        _check_steps(nodes["left"][inner], nodes["right"][inner], steps, len(nodes))
        _check_within(nodes["feature_idx"][inner], n_features, "feature")
        groups = nodes["is_categorical"][inner] != 0
        if groups.any():
            shape = np.shape(bits)
            if len(shape) != 2 or shape[1] != 8 or not np.asarray(binned, dtype=bool).any():
                raise ValueError("a boosted tree asks for categories that are not there")
            _check_within(nodes["bitset_idx"][inner][groups], shape[0], "set of categories")
        found.add(id(predictor))
    return found


def _columns(preprocessor: object) -> int:
    """Return how many columns leave the encoder that boosting puts before its categories."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder
    from sklearn.utils import check_array

    if not isinstance(preprocessor, ColumnTransformer) or preprocessor.remainder != "drop":
        return 0
    count = 0
    for _, part, columns in preprocessor.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        passes = isinstance(part, FunctionTransformer) and (
            getattr(part.func, "func", None) is check_array
        )
        if not (passes or isinstance(part, OrdinalEncoder)):
            raise ValueError("boosting prepares its input in an unknown way")
        mask = np.asarray(columns)
        count += int(mask.sum()) if mask.dtype == bool else mask.size
    return count
