"""A bank's engine over a network of blocks: each block run once per prefix and level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skquee.values import PathTree
from skquee.values._fields import Level
from skquee.values._rows import alike
from skquee.values._types import Rows

if TYPE_CHECKING:
    from skquee.networks.engines import LatencyTable

__all__ = ["NetworkEngine", "PathNetwork", "run_exit"]


# The activations of some rows, in whatever way a network keeps them.
State: TypeAlias = Any


class PathNetwork(Protocol):
    """What a network must offer to be a bank of paths.

    A *state* is the network's own: the activations of some rows after a block. A network may
    offer ``rows(X)`` too: X as something with a length that rows can be picked from; and
    ``run_exit(state, block, level)``: state and probabilities at once.

    `paths_`: its routes; the level of a step is handed back to ``run_block``.
    """

    paths_: PathTree

    def start(self, X: Rows) -> State:
        """Return the state of rows of X before the first block."""

    def run_block(self, state: State, block: int, level: Level) -> State:
        """Return the state after running a block (from 0) at a level."""

    def head(self, state: State, block: int, level: Level) -> NDArray[np.floating]:
        """Return probabilities (n, n_classes) of the exit after a block."""

    def take(self, state: State, rows: NDArray[np.intp]) -> State:
        """Return the state of some of its rows."""

    def concat(self, states: list[State]) -> State:
        """Join the rows of several states."""


def run_exit(
    network: PathNetwork, state: State, block: int, level: Level
) -> tuple[State, NDArray[np.floating]]:
    """Run a block (from 0) and the exit after it, at once where the network can.

    Returns the state after the block, and probabilities (n, n_classes).
    """
    both = getattr(network, "run_exit", None)
    if both is not None:
        return both(state, block, level)
    state = network.run_block(state, block, level)
    return state, network.head(state, block, level)


class NetworkEngine:
    """Runs a network for a bank.

    `network`: the network. `tree`: its tree, with the costs that hold. `times`: merge small groups
    by these times.
    """

    def __init__(
        self, network: PathNetwork, tree: PathTree, times: LatencyTable | None = None
    ) -> None:
        self.network = network
        self.tree = tree
        self.times = times

    def run_all(self, X: Rows) -> NDArray[np.float32]:
        """Run every path on rows of X, each (prefix, level) block once."""
        network, tree = self.network, self.tree
        answers: dict[int, NDArray[np.floating]] = {}

        def step(state: State, path: int) -> State:
            block, level = int(tree.depths[path]) - 1, tree.levels[path]
            after, answer = run_exit(network, state, block, level)
            column = int(tree.path_columns[path])
            answers.setdefault(column, answer)  # of paths that share it, the first is read
            return after

        tree.fold(network.start(X), step)
        columns = [answers[column] for column in range(tree.n_columns)]
        return np.stack(columns, axis=1).astype(np.float32, copy=False)

    def walk(self, X: Rows, n_samples: int) -> NetworkWalk:
        """Start a pass over rows of X."""
        return NetworkWalk(self, X, n_samples)


class NetworkWalk:
    """One pass: keeps the activations of the rows still active.

    `counts`: samples that each block ran on, keyed ``"block 1 at 8"``.
    """

    def __init__(self, engine: NetworkEngine, X: Rows, n_samples: int) -> None:
        self.counts: dict[str, int] = {}
        self._engine = engine
        self._X = X
        self._state: State = None
        # Where each row stands in the state, until it has left; and how many stand there.
        self._place, self._n_held = np.arange(n_samples), n_samples

    def advance(self, rows: NDArray[np.intp], paths: NDArray[np.intp]) -> NDArray[np.floating]:
        """Run the next block of some rows, grouped by level.

        `rows` (m,): rows that go on. `paths` (m,): path each arrives at, all of one depth. Returns
        (m, n_classes).
        """
        network, tree = self._engine.network, self._engine.tree
        if self._state is None:
            self._state, self._X = network.start(self._X), None
        block = int(tree.depths[paths[0]]) - 1
        places = self._place[rows]
        states, answers, order = [], [], []
        for _, members in alike(tree.level_codes[paths]):
            level = tree.levels[paths[members[0]]]
            wanted = places[members]
            whole = len(wanted) == self._n_held and (wanted[1:] > wanted[:-1]).all()
            part = self._state if whole else network.take(self._state, wanted)
            after, answer = run_exit(network, part, block, level)
            answers.append(answer)
            states.append(after)
            order.append(members)
            key = f"block {block + 1} at {level}"
            self.counts[key] = self.counts.get(key, 0) + len(members)
        self._state = states[0] if len(states) == 1 else network.concat(states)
        joined, self._n_held = np.concatenate(order), len(rows)
        self._place[rows[joined]] = np.arange(len(rows))
        out = np.empty((len(rows), answers[0].shape[1]), dtype=np.float32)
        out[joined] = np.concatenate(answers)
        return out

    def one(self, path: int) -> list[float]:
        """Run the next block of the only row; groups and places need no keeping."""
        network, tree = self._engine.network, self._engine.tree
        if self._state is None:
            self._state, self._X = network.start(self._X), None
        block, level = int(tree.depths[path]) - 1, tree.levels[path]
        self._state, answer = run_exit(network, self._state, block, level)
        key = f"block {block + 1} at {level}"
        self.counts[key] = self.counts.get(key, 0) + 1
        probabilities: list[float] = answer[0].tolist()
        return probabilities

    def merge(self, paths: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return where rows arrive if small groups join one at a dearer level, where it pays.

        `paths` (m,): path each row is to arrive at, all of one depth. Returns (m,): paths with the
        same prefixes.
        """
        tree, times = self._engine.tree, self._engine.times
        if times is None or not len(paths):
            return paths
        paths = paths.copy()
        block = int(tree.depths[paths[0]]) - 1
        steps = zip(tree.parents, tree.levels, strict=True)
        beside = {step: path for path, step in enumerate(steps)}
        order = [level for level in times.levels if level in tree.levels]

        def spent(level: str, n_rows: int) -> float:
            return float(times.milliseconds(block, level, n_rows))

        for cheap, level in enumerate(order):
            mine = np.flatnonzero(tree.level_codes[paths] == _code(tree, level))
            for other in order[cheap + 1 :]:
                theirs = int((tree.level_codes[paths] == _code(tree, other)).sum())
                moved = [beside.get((tree.parents[p], other), -1) for p in paths[mine].tolist()]
                apart = spent(level, len(mine)) + spent(other, theirs)
                if (
                    len(mine)
                    and theirs
                    and min(moved) >= 0
                    and spent(other, len(mine) + theirs) < apart
                ):
                    paths[mine] = moved
                    break
        return paths

    def activations(self, rows: NDArray[np.intp]) -> State:
        """Return the state of rows after the last block each ran.

        `rows` (m,): rows that went on at the last ``advance``. Returns as the network holds it.
        """
        return self._engine.network.take(self._state, self._place[rows])


def _code(tree: PathTree, level: Level) -> int:
    return int(tree.level_codes[tree.levels.index(level)])
