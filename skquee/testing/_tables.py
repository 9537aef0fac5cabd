"""Tables and a network that looks them up, for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer

__all__ = ["TableNetwork", "make_path_probabilities"]


def make_path_probabilities(
    n_samples: int = 300,
    paths: PathTree | None = None,
    n_classes: int = 4,
    random_state: int = 0,
) -> tuple[PathProbabilities, NDArray[np.intp]]:
    """Make a table whose deeper and higher paths are more often right.

    Parameters
    ----------
    n_samples : int, default=300
        Rows.
    paths : PathTree, default=None
        The tree. Default: 3 exits at 2 levels.
    n_classes : int, default=4
        Classes.
    random_state : int, default=0
        Seed.

    Returns
    -------
    PathProbabilities
        float64.
    ndarray of shape (n_samples,)
        Labels, from 0.

    Examples
    --------
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(50)
    >>> table
    PathProbabilities(50 samples, 6 paths, 4 classes, float64)
    """
    check_integer(n_samples, "n_samples", at_least=1)
    check_integer(n_classes, "n_classes", at_least=2)
    if not isinstance(paths, (PathTree, type(None))):
        raise TypeError(f"paths must be a PathTree or None, got {type(paths).__name__}.")
    tree = PathTree.from_levels(n_exits=3, levels=(4, 8)) if paths is None else paths
    rng = np.random.default_rng(random_state)
    y = np.arange(n_samples) % n_classes
    skill = np.zeros(tree.n_columns)
    skill[tree.path_columns] = 0.5 + 3 * tree.path_costs / tree.path_costs.max()
    ease = rng.gamma(2.0, 0.5, size=n_samples)
    logits = rng.normal(size=(n_samples, 1, n_classes)) + 0.7 * rng.normal(
        size=(n_samples, tree.n_columns, n_classes)
    )
    logits[np.arange(n_samples), :, y] += skill * ease[:, None]
    values = np.exp(logits - logits.max(axis=2, keepdims=True))
    return PathProbabilities(values / values.sum(axis=2, keepdims=True), tree), y


class TableNetwork:
    """A network that looks its answers up in a table, counting every block it runs.

    Its input X is row numbers, shape (n_samples, 1). For tests of lazy routing.

    Parameters
    ----------
    table : PathProbabilities
        One column a path.

    Attributes
    ----------
    paths_ : PathTree
        The table's tree.
    blocks_run : int
        Rows times blocks run so far.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.testing import TableNetwork, make_path_probabilities
    >>> network = TableNetwork(make_path_probabilities(200)[0])
    >>> level = network.paths_.levels[0]
    >>> state = network.run_block(network.start(np.arange(5)[:, None]), 0, level)
    >>> network.head(state, 0, level).shape, network.blocks_run
    ((5, 4), 5)
    """

    def __init__(self, table: PathProbabilities) -> None:
        classes = table.paths.classes or tuple(range(table.shape[2]))
        self.table = table
        self.paths_ = table.paths.with_classes(classes)
        self.blocks_run = 0

    def __sklearn_clone__(self) -> TableNetwork:
        return self

    def start(self, X: ArrayLike) -> NDArray[np.intp]:
        """Return a state: row number and path of every sample."""
        given = np.asarray(X)
        rows = given.reshape(len(given), -1)[:, 0].astype(np.intp)
        return np.column_stack([rows, np.full(len(rows), -1)])

    def run_block(self, state: NDArray[np.intp], block: int, level: object) -> NDArray[np.intp]:
        """Step every sample to the path that goes on at this level."""
        self.blocks_run += len(state)
        tree = self.paths_
        after = state.copy()
        for path in np.unique(state[:, 1]).tolist():
            child = [c for c in tree.children(path).tolist() if tree.levels[c] == level]
            after[state[:, 1] == path, 1] = child[0]
        return after

    def head(self, state: NDArray[np.intp], block: int, level: object) -> NDArray[np.float32]:
        """Look the answers up."""
        values = np.asarray(self.table)
        found = values[state[:, 0], self.paths_.path_columns[state[:, 1]]]
        return found.astype(np.float32)

    def take(self, state: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Select rows."""
        return state[rows]

    def concat(self, states: list[NDArray[np.intp]]) -> NDArray[np.intp]:
        """Join rows."""
        return np.concatenate(states)
