"""What decides at a gate: frozen at one operating point, safe to share between threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skquee.values import PathTree
from skquee.walk._visit import Visit

__all__ = ["Clipped", "Decider", "Follow", "Mixed", "allowed_paths", "cannot_start", "takes_dearer"]

Step = tuple[NDArray[np.intp], NDArray[np.floating]]
History = Callable[[], list[NDArray[np.floating]]]


class OneDecider(Protocol):
    """A decider for one sample on plain numbers; a history is a list of lists of probabilities."""

    def start(self) -> tuple[int, float]:
        """Return the first path and the error aimed at."""
        ...

    def step(self, prefix: int, history: list[list[float]]) -> tuple[int, float]:
        """Return the next path, the prefix itself to exit, and the error aimed at."""
        ...

    def answer(self, path: int, history: list[list[float]]) -> list[float]:
        """Return the probabilities answered at the end of a path."""
        ...


@dataclass(frozen=True, eq=False)
class Decider:
    """Everything that a walk needs of a router at one operating point.

    Made by ``router.decider()``. Nothing in it changes, so that one decider may serve many
    threads, and routes stay as they are when the router is set or fitted anew. A router of
    your own subclasses it and defines :meth:`step`.

    Parameters
    ----------
    tree : PathTree
        With the costs that hold.
    classes : ndarray of shape (n_classes,)
        Labels of the class axis.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.walk import walk
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> decider = ThresholdRouter(0.9).fit(table, y).decider()
    >>> walk(decider, table[:3]).path_names
    array(['8-8', '8-8-8', '8'], dtype=object)
    """

    tree: PathTree
    classes: NDArray[np.generic]

    def step(self, visit: Visit) -> Step:
        """Decide for the samples that stand before one gate.

        Parameters
        ----------
        visit : Visit
            What is known of them.

        Returns
        -------
        goals : ndarray of shape (m,)
            Path each steps to, one step longer than its own; its own to exit.
        errors : ndarray of shape (m,)
            Predicted error of the path aimed at, NaN where none is predicted.
        """
        raise TypeError(f"{type(self).__name__} must define step.")

    def answer(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.floating]:
        """Return what samples answer that end at these paths: by default the last exit.

        Parameters
        ----------
        paths : ndarray of shape (m,)
            Where they stand.
        now : ndarray of shape (m, n_classes)
            Probabilities at this exit.
        history : callable
            Those at every exit so far, as in :class:`Visit`.

        Returns
        -------
        ndarray of shape (m, n_classes)
        """
        return now

    def answering(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.intp]:
        """Return whose answer that is, for a table of outcomes: by default the last exit's.

        Parameters
        ----------
        paths, now, history
            As of :meth:`answer`.

        Returns
        -------
        ndarray of shape (m,)
            Paths at whose end the exits that answer stand.
        """
        return paths

    def one(self) -> OneDecider | None:
        """Return what decides for one sample on plain numbers, or None.

        Returns
        -------
        OneDecider or None
            It decides as :meth:`step` does, without arrays.
        """
        return None


@dataclass(frozen=True, eq=False)
class Follow(Decider):
    """Follow one path to its end, or leave it where a rule says so.

    Parameters
    ----------
    line : ndarray of shape (n_steps,)
        The path and its prefixes, shortest first.
    leaves : callable, default=None
        ``leaves(visit) -> ndarray of bool``: who exits here. Default: nobody.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.walk import Follow, walk
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> decider = Follow(table.paths, np.arange(4), np.array([0, 2, 5]))
    >>> walk(decider, table[:2]).path_names
    array(['8-8-8', '8-8-8'], dtype=object)
    """

    line: NDArray[np.intp]
    leaves: Callable[[Visit], NDArray[np.bool_]] | None = None

    def step(self, visit: Visit) -> Step:
        """Decide; see :class:`Decider`."""
        unknown = np.full(len(visit.rows), np.nan)
        if visit.depth >= len(self.line):
            return visit.prefixes, unknown
        step = np.full(len(visit.rows), self.line[visit.depth])
        if visit.depth == 0 or self.leaves is None:
            return step, unknown
        leaving = np.asarray(self.leaves(visit))
        if leaving.shape != step.shape or leaving.dtype != np.bool_:
            raise ValueError(
                f"leaves must return True or False for each of {len(step)} samples, got "
                f"{leaving.dtype} of shape {leaving.shape}."
            )
        return np.where(leaving, visit.prefixes, step), unknown

    def one(self) -> OneDecider | None:
        """Decide for one row; see :class:`Decider`."""
        rule = None if self.leaves is None else getattr(self.leaves, "one", None)
        return None if self.leaves is not None and rule is None else _FollowOne(self.line, rule)


class _FollowOne:
    """:class:`Follow` for one row on plain numbers."""

    def __init__(
        self, line: NDArray[np.intp], leaves: Callable[[list[list[float]]], bool] | None
    ) -> None:
        self.line, self.leaves = line.tolist(), leaves

    def start(self) -> tuple[int, float]:
        return self.line[0], np.nan

    def step(self, prefix: int, history: list[list[float]]) -> tuple[int, float]:
        depth = len(history)
        stop = depth >= len(self.line) or (self.leaves is not None and self.leaves(history))
        return prefix if stop else self.line[depth], np.nan

    def answer(self, path: int, history: list[list[float]]) -> list[float]:
        return history[-1]


@dataclass(frozen=True, eq=False)
class Mixed(Decider):
    """Two operating points; a systematic sample of the rows takes the dearer one.

    Parameters
    ----------
    low, high : Decider
        The cheaper and the dearer one, over the same tree.
    share : float
        Share of the rows that take `high`.
    start : float or None
        Random start in [0, 1); None draws one for each walk.

    Examples
    --------
    >>> from skquee.baselines import FixedPath
    >>> from skquee.walk import Mixed, walk
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> cheap, dear = (FixedPath(path).fit(table, y).decider() for path in ("8", "8-8-8"))
    >>> half = Mixed(cheap.tree, cheap.classes, cheap, dear, share=0.5, start=0.0)
    >>> walk(half, table[:4]).path_names
    array(['8', '8-8-8', '8', '8-8-8'], dtype=object)
    """

    low: Decider
    high: Decider
    share: float
    start: float | None

    def step(self, visit: Visit) -> Step:
        """Decide; see :class:`Decider`."""
        if self.share <= 0 or self.share >= 1:
            return (self.high if self.share >= 1 else self.low).step(visit)
        dear = visit.memory.get("dear")
        if dear is None:  # the first gate that is asked; the draw then goes on with the rows
            start = float(np.random.default_rng().random()) if self.start is None else self.start
            dear = visit.memory["dear"] = takes_dearer(visit.rows, self.share, start)
        # Both judge all rows: what a network holds of them cannot be cut up here.
        costly, sure = self._ask("high", self.high, visit)
        cheap, seen = self._ask("low", self.low, visit)
        return np.where(dear, costly, cheap), np.where(dear, sure, seen)

    def _ask(self, name: str, decider: Decider, visit: Visit) -> Step:
        """Ask one of them, with a memory of its own."""
        memory = {
            key.removeprefix(f"{name} "): values
            for key, values in visit.memory.items()
            if key.startswith(f"{name} ")
        }
        found = decider.step(replace(visit, memory=memory))
        visit.memory.update({f"{name} {key}": values for key, values in memory.items()})
        return found

    def answer(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.floating]:
        """Answer; see :class:`Decider`. Both points answer alike."""
        return self.low.answer(paths, now, history)

    def answering(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.intp]:
        """Tell who answers; see :class:`Decider`."""
        return self.low.answering(paths, now, history)


@dataclass(frozen=True, eq=False)
class Clipped(Decider):
    """Stop before the first step that is beyond a cap.

    Parameters
    ----------
    inner : Decider
        Decides.
    cap : float
        Most a sample may cost.
    owner : str
        Name of the router, for messages.

    Examples
    --------
    >>> from skquee.baselines import FixedPath
    >>> from skquee.walk import Clipped, walk
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> inner = FixedPath().fit(table, y).decider()
    >>> capped = Clipped(inner.tree, inner.classes, inner, cap=0.7, owner="FixedPath")
    >>> walk(capped, table[:2]).path_names
    array(['8-8', '8-8'], dtype=object)
    """

    inner: Decider
    cap: float
    owner: str

    def step(self, visit: Visit) -> Step:
        """Decide; see :class:`Decider`."""
        steps, errors = self.inner.step(visit)
        barred = ~allowed_paths(self.tree, self.cap)[steps]
        if (barred & (visit.prefixes < 0)).any():
            raise cannot_start(self.tree, self.cap, self.owner, steps[barred])
        return np.where(barred, visit.prefixes, steps), errors

    def answer(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.floating]:
        """Answer; see :class:`Decider`."""
        return self.inner.answer(paths, now, history)

    def answering(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.intp]:
        """Tell who answers; see :class:`Decider`."""
        return self.inner.answering(paths, now, history)


def allowed_paths(tree: PathTree, cap: float) -> NDArray[np.bool_]:
    """Tell which paths a sample can take without any of its steps going beyond a cap.

    `cap`: most a sample may cost. Returns shape (n_paths,).
    """
    dear = np.where(tree.ancestors >= 0, tree.path_costs[tree.ancestors], 0.0)
    return np.asarray(dear.max(axis=1) <= cap)


def cannot_start(
    tree: PathTree, cap: float, owner: str, paths: NDArray[np.intp] | Sequence[int]
) -> ValueError:
    """Return the error of a router whose first step is beyond a cap."""
    first = int(tree.ancestors[paths[0], 0])
    return ValueError(
        f"{owner} starts with path {tree.names[first]!r}, which costs "
        f"{tree.path_costs[first]:.6g}, and has no policy that could aim elsewhere, so it cannot "
        f"honour max_cost_per_sample={cap!r}. Raise the cap, or use a CostAwareRouter."
    )


def takes_dearer(rows: NDArray[np.intp], share: float, start: float) -> NDArray[np.bool_]:
    """Draw a systematic sample of rows.

    `rows` (n,). `share`: share drawn, in [0, 1]. `start`: random start in [0, 1). Returns shape
    (n,): of any m rows in succession, m * share rounded up or down are drawn.

    >>> import numpy as np
    >>> from skquee.walk._decider import takes_dearer
    >>> takes_dearer(np.arange(8), 0.25, start=0.5).astype(int)
    array([0, 1, 0, 0, 0, 1, 0, 0])
    """
    if share >= 1:
        return np.ones(len(rows), dtype=bool)
    return np.floor((rows + 1) * share + start) > np.floor(rows * share + start)
