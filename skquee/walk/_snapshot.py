"""An immutable router: one operating point, many threads, one row in microseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.method.gates._one import Passed
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import as_path_probabilities
from skquee.values._table import Walk
from skquee.walk._decider import Decider, OneDecider
from skquee.walk._visit import Routes
from skquee.walk._walk import walk

__all__ = ["Snapshot", "TableReader"]

TOLERANCE = 5e-3  # as for tables: room for float16


class Snapshot:
    """A router as it stood when it was frozen; made by ``freeze()``.

    Nothing in it can be set, and nothing that is set or fitted later reaches it; threads may
    share it. X is what the router took: a table of probabilities, or the input of the bank's
    classifiers where the router came with one. Rows are not checked again as ``fit`` checks
    them: what a classifier does not like, it says itself.

    Parameters
    ----------
    decider : Decider
        Decides.
    read : callable, default=None
        ``read(X) -> PathProbabilities`` over the decider's tree. Default: X is a table.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(100)
    >>> router = ThresholdRouter(0.7).fit(table, y)
    >>> server = router.freeze()
    >>> before = server.predict(table[:3])
    >>> bool((router.set_params(threshold=0.0).freeze().predict_cost(table) < 1).all())
    True
    >>> bool((server.predict(table[:3]) == before).all())
    True
    """

    __slots__ = ("_decider", "_one", "_read")

    _decider: Decider
    _one: OneDecider | None
    _read: Callable[[ArrayLike], PathProbabilities]

    def __init__(
        self, decider: Decider, read: Callable[[ArrayLike], PathProbabilities] | None = None
    ) -> None:
        for name, value in (
            ("_decider", decider),
            ("_one", decider.one()),
            ("_read", TableReader(decider.tree) if read is None else read),
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"A snapshot is immutable, so {name!r} cannot be set. Set it on the router and call "
            "freeze() again."
        )

    def __reduce__(self) -> tuple[type[Snapshot], tuple[object, object]]:
        return (Snapshot, (self._decider, self._read))

    def __repr__(self) -> str:
        return f"Snapshot({self.paths_!r})"

    @property
    def classes_(self) -> NDArray[np.generic]:
        """Labels."""
        return self._decider.classes

    @property
    def paths_(self) -> PathTree:
        """The tree, with the costs that held."""
        return self._decider.tree

    def route(self, X: ArrayLike) -> Routes:
        """Route samples, running only what each one's path needs.

        Parameters
        ----------
        X : table or rows
            As the router takes them.

        Returns
        -------
        Routes
        """
        return walk(self._decider, self._read(X))

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Predict labels.

        Parameters
        ----------
        X : table or rows
            As the router takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        table = self._read(X)
        if not self._is_one(table):
            return walk(self._decider, table).labels
        path, answer = self._walk_one(table)
        if table.facts.outcomes:
            return self._decider.classes[[self.paths_.path_columns[path]]]
        return self._decider.classes[[answer.index(max(answer))]]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict class probabilities.

        Parameters
        ----------
        X : table or rows
            As the router takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        table = self._read(X)
        if not self._is_one(table):
            return walk(self._decider, table).probabilities
        return np.array([self._walk_one(table)[1]])

    def predict_path(self, X: ArrayLike) -> NDArray[np.intp]:
        """Tell the path each sample takes.

        Parameters
        ----------
        X : table or rows
            As the router takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        table = self._read(X)
        if not self._is_one(table):
            return walk(self._decider, table).paths
        return np.array([self._walk_one(table)[0]], dtype=np.intp)

    def predict_cost(self, X: ArrayLike) -> NDArray[np.float64]:
        """Tell the cost of the path each sample takes.

        Parameters
        ----------
        X : table or rows
            As the router takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
            In the unit of ``paths_.cost_unit``.
        """
        return self.route(X).costs

    def _is_one(self, table: PathProbabilities) -> bool:
        """Whether plain numbers will do: one row whose costs are the tree's."""
        if self._one is None or len(table) != 1 or table.facts.call_costs is not None:
            return False
        # Of outcomes it matters which exit answers, where that may be another than the last.
        return not table.facts.outcomes or getattr(self._one, "combine", None) is None

    def _walk_one(self, table: PathProbabilities) -> tuple[int, list[float]]:
        """Route one row on plain numbers; what arrays cost is most of what a gate costs."""
        one, run = self._one, table.walk()
        assert one is not None
        read = getattr(run, "one", None) or _OneRow(run)
        at, _ = one.start()
        history = Passed()
        while True:
            answer = read(at)
            # Comparisons with NaN are false.
            if not (abs(sum(answer) - 1) <= TOLERANCE and min(answer) >= -1e-6):
                walk(self._decider, table)  # says what is wrong
            history.append(answer)
            goal, _ = one.step(at, history)
            if goal == at:
                break
            at = goal
        answer, said = one.answer(at, history), at
        # A flat answer is an abstention: the exit before answers.
        while len(history) > 1 and answer[0] == answer[-1] and min(answer) == max(answer):
            history.pop()
            said = self._decider.tree.parents[said]
            answer = one.answer(said, history)
        return at, answer


class _OneRow:
    """Reads a walk of one row that has no method for it."""

    def __init__(self, run: Walk) -> None:
        self.run, self.rows = run, np.zeros(1, dtype=np.intp)

    def __call__(self, path: int) -> list[float]:
        answer: list[float] = self.run.advance(self.rows, np.array([path]))[0].tolist()
        return answer


class TableReader:
    """Takes tables of probabilities over one tree.

    `prices`: whether prices that rows bring count; if not, the tree's costs hold for all.
    """

    def __init__(self, tree: PathTree, *, prices: bool = True) -> None:
        self.tree, self.prices = tree, prices

    def __call__(self, X: ArrayLike) -> PathProbabilities:
        if isinstance(X, PathProbabilities):
            if X.paths is not self.tree and not X.paths.same_structure(self.tree):
                raise ValueError(
                    f"X carries {X.paths!r}, but this router was fitted with {self.tree!r}. "
                    "Transform X with the bank used in fit."
                )
            if self.prices or X.facts.call_costs is None:
                return X
            return X.with_call_costs(None)
        return as_path_probabilities(X, self.tree)
