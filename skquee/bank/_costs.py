"""What the paths of a bank cost: settled from parameters, networks or measured times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skquee.bank._composition import (
    DEFAULT_STEP_COSTS,
    NamedClassifiers,
    is_estimator,
    is_network,
)
from skquee.bank._estimators import Member
from skquee.bank._network import PathNetwork
from skquee.bank._times import GROUPS, CallTimes, measure_calls
from skquee.values import PathTree
from skquee.values._costs import check_costs
from skquee.values._rows import n_rows_of, take_rows
from skquee.values._types import Rows

__all__ = ["CostedPaths"]


# Rows a call that latencies are counted with, where there are so many to time.
LATENCY_ROWS = 1000


class CostedPaths(NamedClassifiers):
    """Gives a bank its tree, with the costs that hold now."""

    step_costs: ArrayLike | str | None
    path_costs: ArrayLike | str | None
    cost_unit: str | None
    paths: str | PathTree
    latency_rows: int | None
    classes_: NDArray[np.generic]
    classifiers_: list[tuple[str, BaseEstimator]]
    times_: CallTimes | None
    _members: list[Member]
    _kept_tree: tuple[tuple[object, ...], PathTree]

    @property
    def paths_(self) -> PathTree:
        """The tree, with the costs that hold now and the classes."""
        if not hasattr(self, "classes_"):
            check_is_fitted(self)
        return self._tree()

    @property
    def costs_(self) -> NDArray[np.float64]:
        """Path costs."""
        check_is_fitted(self)
        return self.paths_.path_costs

    def measure(self, X: Rows, *, groups: Sequence[int] | None = None) -> CallTimes:
        """Measure what calls of the classifiers take, by the number of rows.

        Parameters
        ----------
        X : rows
            Input of the classifiers, some thousand rows where there are.
        groups : sequence of int, default=None
            Numbers of rows to time. Default: 1, 2, 8, 64, 512 and 3,000, as far as X goes.

        Returns
        -------
        CallTimes
            Also kept as ``times_``.

        Raises
        ------
        TypeError
            If the bank is a network's (see ``network.measure_costs``) or holds callables, which
            may cost money: these are never called only to be timed.
        """
        if not hasattr(self, "classes_"):
            check_is_fitted(self)
        if self._is_network():
            raise TypeError("A network measures itself: call network.measure_costs().")
        called = [member.name for member in self._members if member.own is None]
        if called:
            raise TypeError(
                f"{called} are callables, which are never called only to be timed: give step_costs "
                "in numbers."
            )
        n_samples = n_rows_of(X)
        times = self.times_ = measure_calls(
            [member.name for member in self._members],
            lambda column, rows: self._members[column].run(rows, n_rows_of(rows)),
            lambda rows: take_rows(X, rows),
            n_samples,
            groups=GROUPS if groups is None else groups,
        )
        self._keep_tree()
        return times

    def _tree_now(self) -> PathTree:
        """Return the tree of fit where no cost has been set since, with all it has worked out."""
        kept, set_now = getattr(self, "_kept_tree", None), self._cost_parameters()
        if kept is not None and all(a is b for a, b in zip(kept[0], set_now, strict=True)):
            tree: PathTree = kept[1]
            return tree
        return self._tree()

    def _keep_tree(self) -> None:
        """Keep the tree, with all it works out; costs that do not fit are refused here."""
        self._kept_tree = self._cost_parameters(), self._tree()

    def _cost_parameters(self) -> tuple[object, ...]:
        paths = self._network().paths_ if self._is_network() else None
        return (
            self.step_costs,
            self.path_costs,
            self.cost_unit,
            self.paths,
            self.latency_rows,
            self.times_,
            paths,
        )

    def _tree(self) -> PathTree:
        """Return the tree, with classes and the costs that hold now."""
        if self._is_network():
            tree = self._network_tree()
        elif isinstance(self.paths, PathTree):
            tree = self.paths
            if self.step_costs is not None:
                raise ValueError("Give step_costs or a PathTree, which carries costs, not both.")
            if tree.n_columns != len(self.classifiers_):
                raise ValueError(
                    f"The PathTree reads {tree.n_columns} classifiers, but "
                    f"{len(self.classifiers_)} are given."
                )
            if self.path_costs is not None:
                tree = tree.with_costs(self.path_costs)
        else:
            steps, unit = self._steps()
            build = PathTree.chain if self.paths == "chain" else PathTree.cascade
            tree = build(steps, names=[name for name, _ in self.classifiers_], cost_unit=unit)
            if self.path_costs is not None:
                tree = tree.with_costs(self.path_costs, cost_unit=unit)
        return tree.with_classes(self.classes_.tolist())

    def _steps(self) -> tuple[NDArray[np.float64], str | None]:
        """Return step costs and their unit."""
        n = len(self.classifiers_)
        if self.path_costs is not None:
            if self.step_costs is not None or isinstance(self.path_costs, str):
                raise ValueError(
                    "Give a list of classifiers step_costs (numbers or 'latency') or path_costs "
                    f"(numbers), got step_costs={self.step_costs!r} and "
                    f"path_costs={self.path_costs!r}."
                )
            return np.ones(n), self.cost_unit
        if self.step_costs is None:  # one classifier alone has nothing to be compared with
            given = DEFAULT_STEP_COSTS if self.classifiers is None else (1.0,)
            return np.array(given), self.cost_unit
        if isinstance(self.step_costs, str):
            if self.times_ is None:
                raise NotFittedError(
                    "step_costs='latency' is measured on rows: call fit(X, y), or measure(X)."
                )
            rows = self.latency_rows
            if rows is None:
                rows = min(LATENCY_ROWS, int(self.times_.rows[-1]))
            return self.times_.per_row(rows), "ms"
        return check_costs(self.step_costs, n, "step_costs", each="classifier"), self.cost_unit

    def _network_tree(self) -> PathTree:
        own = self._network().paths_
        tree = self.paths if isinstance(self.paths, PathTree) else own
        if not set(tree.names) <= set(own.names):
            extra = sorted(set(tree.names) - set(own.names))
            raise ValueError(f"The PathTree has the paths {extra[:5]}, the network has not.")
        if isinstance(self.path_costs, str):
            network: Any = self._network()
            whole = network.costed_paths(self.path_costs)
            costs = dict(zip(own.names, whole.costs, strict=True))
            return tree.with_costs([costs[p] for p in tree.names], cost_unit=whole.cost_unit)
        if self.path_costs is not None:
            return tree.with_costs(self.path_costs, cost_unit=self.cost_unit)
        return tree

    def _is_network(self) -> bool:
        return is_network(self.classifiers)

    def _network(self) -> PathNetwork:
        network: PathNetwork = self.classifiers
        if not hasattr(network, "paths_"):
            raise NotFittedError(
                f"The network {network!r} has no paths yet: fit it before it goes into a bank."
            )
        return network

    def _check_costs(self) -> None:
        """Raise where costs are missing, or given twice or in a way that does not fit."""
        if isinstance(self.step_costs, str) and self.step_costs != "latency":
            raise ValueError(f"step_costs must be numbers or 'latency', got {self.step_costs!r}.")
        if self._is_network():
            if self.step_costs is not None:
                raise ValueError(
                    "A network's blocks share their steps: give path_costs, not step_costs."
                )
            return
        n_given = 0 if self.classifiers is None or not self._looks_named() else len(self._named())
        free = self.step_costs is None and self.path_costs is None
        if n_given > 1 and free and not isinstance(self.paths, PathTree):
            names = [name for name, _ in self._named()]
            raise ValueError(
                f"step_costs is missing: give what running each of {names} adds, in any one unit "
                f"(milliseconds, dollars: step_costs={[1, 10, 100][:n_given]}), or "
                "step_costs='latency' to measure milliseconds."
            )
        if isinstance(self.step_costs, str):
            called = [n for n, model in self._named() if not is_estimator(model)]
            if called:
                raise ValueError(
                    f"step_costs='latency' would call {called} only to time them, and calls may "
                    "cost money: give numbers."
                )
