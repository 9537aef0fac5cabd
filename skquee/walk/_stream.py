"""Routing a stream of batches: survivors of several batches wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skquee.bank import LazyPathProbabilities, run_exit
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer, check_probabilities, is_flat
from skquee.values._rows import alike
from skquee.walk._decider import Decider
from skquee.walk._protocol import Router
from skquee.walk._visit import Routes, Visit
from skquee.walk._walk import ends

__all__ = ["StreamError", "stream"]


@dataclass
class StreamError:
    """What stands in the place of a batch that failed.

    Attributes
    ----------
    batch : int
        Its number, from 0.
    error : Exception
        Why.

    Examples
    --------
    >>> from skquee.walk import StreamError
    >>> StreamError(batch=3, error=OSError("no such image")).batch
    3
    """

    batch: int
    error: Exception


class TakesRows(Protocol):
    """What makes a lazy table of rows: a bank, or a pipeline that ends in one."""

    def transform(self, X: Any) -> PathProbabilities:
        """Return the table; nothing is run."""
        ...


class _Streams(Router, Protocol):
    """A router whose walk begins anywhere."""

    def read_table(self, X: Any, *, reset: bool) -> PathProbabilities: ...

    def make_decider(self, tree: PathTree) -> Decider: ...


@dataclass
class _Group:
    """Rows that have reached one path and wait for the same next step."""

    state: list[object] = field(default_factory=list)
    rows: list[NDArray[np.intp]] = field(default_factory=list)
    history: list[list[NDArray[np.floating]]] = field(default_factory=list)
    memory: list[dict[str, NDArray[np.generic]]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.rows))


class _NoNetworkError(TypeError):
    """The bank, not the batch, is at fault."""


class _Batch:
    """What is known of the rows of one batch, until all have left."""

    def __init__(
        self, start: int, n: int, n_exits: int, context: NDArray[np.float64] | None
    ) -> None:
        self.start = start
        self.left = n
        self.context = context
        self.visited = np.full((n, n_exits), -1, dtype=np.intp)
        self.errors = np.full((n, n_exits), np.nan)
        self.final: NDArray[np.floating] | None = None


def stream(
    router: _Streams,
    bank: TakesRows,
    batches: Iterable[object],
    *,
    group_size: int = 64,
    max_waiting: int = 1024,
) -> Iterator[Routes | StreamError]:
    """Route batches one after the other, and pool what goes on to deeper blocks.

    A block runs once `group_size` rows wait for it, of whatever batches; so deep blocks run full
    groups even where few rows of a batch go on. Results come in the order of the batches.

    Parameters
    ----------
    router : router
        Fitted.
    bank : MultiPathClassifierBank or pipeline
        What ``transform`` turns a batch into a lazy table of a network.
    batches : iterable
        Of images as the network takes them; of (images, labels), labels are not read.
    group_size : int, default=64
        Rows run together.
    max_waiting : int, default=1024
        Rows that may wait in all: bounds the memory of activations, and how far a result can lag
        behind its batch. Past it the fullest group runs as it is.

    Yields
    ------
    Routes or StreamError
        One a batch. ``counts`` is empty: a block run serves several batches.

    Raises
    ------
    TypeError
        If the bank is no network's.
    ValueError
        If a size is less than 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import MultiPathClassifierBank
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.walk import stream
    >>> from skquee.testing import TableNetwork, make_path_probabilities
    >>> table, y = make_path_probabilities(100)
    >>> bank = MultiPathClassifierBank(TableNetwork(table))
    >>> router = ThresholdRouter(0.7).fit(table, y)
    >>> batches = np.arange(100)[:, None].reshape(10, 10, 1)
    >>> found = list(stream(router, bank, batches, group_size=32))
    >>> bool((np.concatenate([r.paths for r in found]) == router.predict_path(table)).all())
    True
    """
    for name, value in (("group_size", group_size), ("max_waiting", max_waiting)):
        check_integer(value, name, at_least=1)
    return _Stream(router, router.decider(), bank, group_size, max_waiting).run(batches)


class _Stream:
    def __init__(
        self,
        router: _Streams,
        decider: Decider,
        bank: TakesRows,
        group_size: int,
        max_waiting: int,
    ) -> None:
        self.router, self.decider, self.bank = router, decider, bank
        self.group_size, self.max_waiting = group_size, max_waiting
        self.groups: dict[int, _Group] = {}
        self.pending: dict[int, _Batch | StreamError] = {}
        self.n_rows = 0
        self.network: Any = None
        self.tree = decider.tree
        self.inner = decider.tree.is_inner

    def run(self, batches: Iterable[object]) -> Iterator[Routes | StreamError]:
        for number, batch in enumerate(batches):
            images = batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 2 else batch
            try:
                self._start(number, images)
            except _NoNetworkError:
                raise
            except Exception as error:
                self.pending[number] = StreamError(number, error)
            while (full := self._fullest()) is not None:
                self._advance(full)
            yield from self._finished()
        while self.groups:
            # The shallowest first: what it sends on joins those that wait deeper.
            self._advance(min(self.groups, key=lambda path: int(self.tree.depths[path])))
            yield from self._finished()

    def _start(self, number: int, images: object) -> None:
        """Let the rows of a batch wait for their first block; nothing is run."""
        table = self.bank.transform(images)
        if not (isinstance(table, LazyPathProbabilities) and table.network is not None):
            raise _NoNetworkError(
                "stream pools activations, so its bank must be a network's; for a list of "
                "classifiers use router.predict batch by batch."
            )
        routed = self.router.read_table(table, reset=False)
        assert isinstance(routed, LazyPathProbabilities)
        if self.network is None:
            self.network, self.tree = routed.network, routed.paths
            self.decider = self.router.make_decider(self.tree)
        n = len(routed)
        state = self.network.start(routed.inputs)
        rows = np.arange(self.n_rows, self.n_rows + n)
        self.pending[number] = _Batch(self.n_rows, n, self.tree.n_exits, routed.context)
        self.n_rows += n
        goal = np.full(n, self.tree.roots[0])
        memory: dict[str, NDArray[np.generic]] = {}
        if len(self.tree.roots) > 1:
            goal, memory = self._decide(0, np.full(n, -1), rows, [], None, {})
        self._wait(goal, rows, state, [], memory)

    def _wait(
        self,
        goal: NDArray[np.intp],
        rows: NDArray[np.intp],
        state: object,
        history: list[NDArray[np.floating]],
        memory: dict[str, NDArray[np.generic]],
    ) -> None:
        """Let rows wait for the block that leads to their next path."""
        for path, members in alike(goal):
            whole = len(members) == len(goal)
            group = self.groups.setdefault(path, _Group())
            group.state.append(state if whole else self.network.take(state, members))
            group.rows.append(rows[members])
            group.history.append([answers[members] for answers in history])
            group.memory.append({name: values[members] for name, values in memory.items()})

    def _fullest(self) -> int | None:
        """Return a group that is to run now: a full one, or the fullest where too many wait."""
        if not self.groups:
            return None
        path = max(self.groups, key=lambda p: (len(self.groups[p]), int(self.tree.depths[p])))
        waiting = sum(map(len, self.groups.values()))
        enough = len(self.groups[path]) >= self.group_size or waiting > self.max_waiting
        return path if enough else None

    def _advance(self, path: int) -> None:
        """Run the block that leads to a path, on all who wait for it."""
        group = self.groups.pop(path)
        rows = np.concatenate(group.rows)
        parts = zip(*group.history, strict=True)
        history = [np.concatenate(part) for part in parts]
        names = group.memory[0]
        memory = {name: np.concatenate([part[name] for part in group.memory]) for name in names}
        state = group.state[0] if len(group.state) == 1 else self.network.concat(group.state)
        try:
            self._run(path, rows, state, history, memory)
        except Exception as error:
            owners = [(n, b) for n, b in self.pending.items() if self._rows_of(b, rows).size]
            if len(owners) == 1:
                self._fail(owners[0][0], error)
                return
            # One of these batches is to blame: each by itself, so that no other is lost.
            for number, batch in owners:
                mine = self._rows_of(batch, rows)
                part = self.network.take(state, mine)
                try:
                    self._run(
                        path,
                        rows[mine],
                        part,
                        [answers[mine] for answers in history],
                        {name: values[mine] for name, values in memory.items()},
                    )
                except Exception as own:
                    self._fail(number, own)

    def _run(
        self,
        path: int,
        rows: NDArray[np.intp],
        state: object,
        history: list[NDArray[np.floating]],
        memory: dict[str, NDArray[np.generic]],
    ) -> None:
        depth, level = int(self.tree.depths[path]), self.tree.levels[path]
        state, now = run_exit(self.network, state, depth - 1, level)
        names = np.full(len(rows), self.tree.names[path], dtype=object)
        check_probabilities(now, rows, names)
        history = [*history, now]
        at = np.full(len(rows), path)
        goal = at
        if self.inner[path]:
            goal, memory = self._decide(depth, at, rows, history, state, memory)
        answer = self.decider.answer(at, now, lambda: history)
        self._note(rows, depth, path, answer, goal == path)
        stays = np.flatnonzero(goal != path)
        if stays.size:
            rest = state if len(stays) == len(rows) else self.network.take(state, stays)
            self._wait(
                goal[stays],
                rows[stays],
                rest,
                [answers[stays] for answers in history],
                {name: values[stays] for name, values in memory.items()},
            )

    def _fail(self, number: int, error: Exception) -> None:
        """Put an error in the place of a batch, and let its rows wait no longer."""
        batch = self.pending[number]
        self.pending[number] = StreamError(number, error)
        for path, group in list(self.groups.items()):
            kept = _Group()
            for place, rows in enumerate(group.rows):
                rest = np.setdiff1d(np.arange(len(rows)), self._rows_of(batch, rows))
                if rest.size:
                    kept.state.append(self.network.take(group.state[place], rest))
                    kept.rows.append(rows[rest])
                    kept.history.append([answers[rest] for answers in group.history[place]])
                    memory = group.memory[place]
                    kept.memory.append({name: values[rest] for name, values in memory.items()})
            if len(kept):
                self.groups[path] = kept
            else:
                del self.groups[path]

    def _decide(
        self,
        depth: int,
        at: NDArray[np.intp],
        rows: NDArray[np.intp],
        history: list[NDArray[np.floating]],
        state: object,
        memory: dict[str, NDArray[np.generic]],
    ) -> tuple[NDArray[np.intp], dict[str, NDArray[np.generic]]]:
        places = np.empty(len(rows), dtype=np.intp)
        context: NDArray[np.float64] | None = None
        owners = list(self._batches_of(rows))
        for batch, mine in owners:
            places[mine] = rows[mine] - batch.start
            if batch.context is not None:
                if context is None:
                    context = np.empty((len(rows), batch.context.shape[1]))
                context[mine] = batch.context[places[mine]]
        visit = Visit(
            depth,
            at,
            history[-1] if depth else None,
            history[-2] if depth > 1 else None,
            places,  # in the batch, so that a stream draws as batch by batch
            self.tree,
            history=lambda: history,
            activations=(lambda: state) if depth else None,
            memory=memory,
            context=context,
        )
        goal, errors = self.decider.step(visit)
        for batch, mine in owners:
            batch.errors[places[mine], depth] = errors[mine]
        return goal, visit.memory

    @staticmethod
    def _rows_of(batch: _Batch | StreamError, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return which of the rows are a batch's."""
        if isinstance(batch, StreamError):
            return np.empty(0, dtype=np.intp)
        stop = batch.start + len(batch.visited)
        return np.flatnonzero((rows >= batch.start) & (rows < stop))

    def _batches_of(self, rows: NDArray[np.intp]) -> Iterator[tuple[_Batch, NDArray[np.intp]]]:
        for batch in self.pending.values():
            mine = self._rows_of(batch, rows)
            if mine.size:
                assert isinstance(batch, _Batch)
                yield batch, mine

    def _note(
        self,
        rows: NDArray[np.intp],
        depth: int,
        path: int,
        now: NDArray[np.floating],
        leaves: NDArray[np.bool_],
    ) -> None:
        flat = is_flat(now)  # an abstention: the exit before answers
        for batch, mine in self._batches_of(rows):
            places = rows[mine] - batch.start
            batch.visited[places, depth - 1] = path
            if batch.final is None:
                batch.final = np.zeros((len(batch.visited), now.shape[1]), dtype=now.dtype)
            said = mine if depth == 1 else mine[~flat[mine]]
            batch.final[rows[said] - batch.start] = now[said]
            batch.left -= int(leaves[mine].sum())

    def _finished(self) -> Iterator[Routes | StreamError]:
        """Hand out batches whose rows have all left, as long as they are next in order."""
        while self.pending:
            number = next(iter(self.pending))
            batch = self.pending[number]
            if isinstance(batch, StreamError):
                yield self.pending.pop(number)  # type: ignore[misc]
                continue
            if batch.left:
                return
            del self.pending[number]
            paths = ends(batch.visited)
            assert batch.final is not None
            yield Routes(
                labels=self.decider.classes[batch.final.argmax(axis=1)],
                paths=paths,
                costs=self.tree.path_costs[paths],
                probabilities=batch.final,
                predicted_errors=batch.errors,
                visited=batch.visited,
                counts={},
                tree=self.tree,
            )
