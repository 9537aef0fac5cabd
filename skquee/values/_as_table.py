"""Whatever a user gives as a table, as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from skquee.values._costs import check_costs
from skquee.values._sources import no_table, numeric
from skquee.values._table import PathProbabilities
from skquee.values._tree import PathTree
from skquee.values._types import Rows

__all__ = ["TakesTables", "as_path_probabilities"]


class TakesTables(BaseEstimator):
    """An estimator that learns from tables and labels."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags


def as_path_probabilities(
    X: Rows,
    paths: PathTree | None = None,
    *,
    path_costs: ArrayLike | None = None,
    classes: Sequence[object] | None = None,
) -> PathProbabilities:
    """Return `X` as a table with the tree, costs and classes that hold.

    `X` (n_samples, n_columns, n_classes). `paths`: the tree; needed for a bare array unless
    `path_costs` is given. `path_costs` (n_paths,): path costs in place of the tree's. For a bare
    array without `paths`: a chain. `classes`: labels in place of the tree's. Returns nothing is
    copied or computed.
    """
    if paths is not None and not isinstance(paths, PathTree):
        raise ValueError(f"paths must be a PathTree or None, got {paths!r:.80}.")
    carried = getattr(X, "paths", None)
    if not isinstance(X, PathProbabilities):
        if hasattr(X, "toarray"):
            raise TypeError("X is sparse; give a dense array of probabilities (see toarray).")
        values = numeric(X)
        if values.dtype.kind not in "fiub":
            if values.dtype.kind == "c":
                raise ValueError("Complex data not supported: X must hold probabilities.")
            try:
                values = np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"X must hold probabilities, numbers: {error}") from error
        if values.ndim != 3:
            raise ValueError(no_table(values.shape))
        if paths is None and path_costs is None:
            raise ValueError(
                "X is a bare array, so the paths are not known: give paths= a PathTree, or "
                "path_costs= for a plain chain, or a PathProbabilities that carries its tree."
            )
    tree = paths if paths is not None else carried
    if tree is None:
        assert path_costs is not None
        tree = PathTree.chain(np.ones(check_costs(path_costs, None, "path_costs").size))
    elif paths is not None and carried is not None and not paths.same_structure(carried):
        raise ValueError(
            f"X carries {carried!r}, but {paths!r} is expected. Transform X with the bank used in "
            "fit, or pass the matching paths=."
        )
    if path_costs is not None:
        tree = tree.with_costs(path_costs)
    if classes is not None:
        tree = tree.with_classes(classes)
    elif tree.classes is None and carried is not None and carried.classes is not None:
        tree = tree.with_classes(carried.classes)
    if not isinstance(X, PathProbabilities):
        return PathProbabilities(values, tree)
    return X.with_paths(tree)
