"""No decision at all: one path for everybody, or chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from skquee.evaluation import hull_points
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer, check_number, check_seed
from skquee.values._costs import cost_span, warn_where_nothing_binds
from skquee.values._labels import check_weights, correctness, spawn_seeds, stored
from skquee.values._types import Seed
from skquee.walk import Decider, Follow, Knob, RoutingMixin, Visit

__all__ = ["FixedPath", "RandomMixing"]


class FixedPath(RoutingMixin, BaseEstimator):
    """Send every sample along one path.

    ``cost_curve()`` gives every path as a point; its hull is what mixing fixed paths at
    random can reach.

    Parameters
    ----------
    path : int or str, default=None
        Index or name. Default: the fullest path. Read at prediction.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import FixedPath
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]])
    >>> FixedPath(paths=PathTree.chain([1, 1])).fit(probs, [0, 1]).predict(probs)
    array([0, 1])
    """

    knob = Knob("path", kind=int)

    def __init__(
        self,
        path: int | str | None = None,
        *,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
    ) -> None:
        self.path = path
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> FixedPath:
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
        self._index(self.paths_)

    @property
    def path_index_(self) -> int:
        """Index of the path that every row takes."""
        return self._index(self.paths_)

    def knob_in_use(self) -> float:
        return float(self.path_index_)

    def _index(self, tree: PathTree) -> int:
        if self.path is None:
            return tree.fullest
        return _path_index(tree, self.path)

    def make_decider(self, tree: PathTree) -> Follow:
        return Follow(tree, self.classes_, tree.prefixes(self._index(tree)))

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.arange(tree.n_paths, dtype=np.float64)

    def sweep_table(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        chosen = np.array([_path_index(table.paths, knob) for knob in knobs])
        return np.repeat(chosen[:, None], len(table), axis=1)


@dataclass(frozen=True, eq=False)
class _TwoPaths(Decider):
    """One of two paths at random for each row."""

    low: int
    high: int
    share: float
    seed: int

    def step(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        # The draw belongs to the row, so every gate of its walk sees the same one.
        rng = np.random.default_rng(self.seed)
        draws = rng.random(int(visit.rows.max()) + 1)[visit.rows]
        goal = np.where(draws < self.share, self.high, self.low)
        step = goal
        if visit.depth < self.tree.n_exits:
            step = self.tree.ancestors[goal, visit.depth]
        return np.where(step >= 0, step, goal), np.full(len(goal), np.nan)


def _path_index(tree: PathTree, path: float | str) -> int:
    # Sweeps hand over floats.
    whole = path if isinstance(path, str) else check_integer(path, "path", whole_floats=True)
    return tree.index(whole)


class RandomMixing(RoutingMixin, BaseEstimator):
    """Mix two fixed paths at random so that the expected cost is a budget.

    The two are neighbours on the hull of all fixed paths, by their accuracy on the rows
    given to fit. It is what a router must beat to have decided anything. Each sample's draw
    depends on its row number: results depend on the order of rows.

    Parameters
    ----------
    max_cost : float, default=None
        Expected cost, in the unit of the tree's. Default: no limit, the most accurate path. Read
        at prediction.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.
    random_state : int, RandomState or None, default=0
        Seed of the draws.

    Attributes
    ----------
    path_accuracy_ : ndarray of shape (n_paths,)
        Accuracy of every path on the rows given to fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import RandomMixing
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]] * 500)
    >>> mixing = RandomMixing(max_cost=1.5, paths=PathTree.chain([1, 1])).fit(probs, [0, 1] * 500)
    >>> bool(abs(mixing.predict_cost(probs).mean() - 1.5) < 0.1)
    True
    """

    knob = Knob("max_cost", order="rises")

    def __init__(
        self,
        max_cost: float | None = None,
        *,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
        random_state: Seed = 0,
    ) -> None:
        self.max_cost = max_cost
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> RandomMixing:
        """Measure the accuracy of every path.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        check_seed(self.random_state)
        table, codes = self.start_fit(X, y)
        right = correctness(stored(table), codes).astype(np.float64)
        weights = check_weights(sample_weight, len(right))
        self.path_accuracy_ = np.average(right, axis=0, weights=weights)
        self._seed = int(spawn_seeds(self.random_state, 1)[0])
        self.check_knobs()
        tree = self.paths_
        warn_where_nothing_binds("max_cost", self.max_cost, tree.costs, tree.cost_unit)
        return self

    def check_knobs(self) -> None:
        tree = self.paths_
        cheapest = tree.path_costs.min()
        if self.max_cost is not None:
            check_number(self.max_cost, "max_cost", at_least=0)
        if self.max_cost is not None and not self.max_cost >= cheapest * (1 - 1e-12):
            raise ValueError(
                f"max_cost={self.max_cost!r} is below the cheapest path: costs run from "
                f"{cost_span(tree.costs, tree.cost_unit)}."
            )

    def make_decider(self, tree: PathTree) -> _TwoPaths:
        costs, heights = hull_points(tree.path_costs, self.path_accuracy_)
        budget = costs[-1] if self.max_cost is None else min(self.max_cost, costs[-1])
        high = int(min(np.searchsorted(costs, budget), len(costs) - 1))
        low = max(high - 1, 0)
        span = costs[high] - costs[low]
        share = (budget - costs[low]) / span if span > 0 else 1.0
        corners = [
            int(
                np.flatnonzero((tree.path_costs == costs[i]) & (self.path_accuracy_ == heights[i]))[
                    0
                ]
            )
            for i in (low, high)
        ]
        return _TwoPaths(tree, self.classes_, corners[0], corners[1], share, self._seed)

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.linspace(tree.path_costs.min(), tree.path_costs.max(), 51)
