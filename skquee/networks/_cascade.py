"""Several whole networks as the members of one bank, each on several engines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skquee.networks._costs import bit_operations
from skquee.networks._execution import choose_device
from skquee.networks._images import ImageRows
from skquee.networks._measuring import time_gate
from skquee.networks._members import NetworkLike, check_networks, named, whole_network
from skquee.networks._multi_exit import MultiExitNetwork
from skquee.networks.backbones._types import Level, Options, Size
from skquee.networks.engines import BITS, LatencyTable, device_engines
from skquee.values import PathTree
from skquee.values._checks import check_option
from skquee.values._tree import relative_to_whole
from skquee.values._types import Labels, Rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NetworkCascade"]

MOST_PATHS = 255
KINDS = ("latency", "bitops", "flops")


@dataclass(frozen=True, eq=False)
class _State:
    """Some images, as the formats asked for so far take them, and what networks answered.

    `rows`: the images, not read yet, part after part: a stream joins rows of several batches.
    `images`: by the number of the format. All states of the same rows share both, so that nothing
    is resized and no network runs twice on them.
    """

    rows: tuple[ImageRows, ...]
    images: dict[int, Tensor]
    answers: dict[str, NDArray[np.float32]]


class NetworkCascade:
    """Several networks, cheapest first, each of which answers from the images anew.

    A bank of it offers every (network, engine) as a path, and every increasing sequence of
    networks: ``"small@int8-large@fp32"`` asks the large one where the small one's answer does not
    do. Made by :meth:`skquee.MultiPathClassifierBank.from_networks`.

    Parameters
    ----------
    members : mapping of str to MultiExitNetwork
        Networks of one block, compiled; cheapest first, of the same classes.
    paths : {"cascade", "chain"}, default="cascade"
        Any increasing sequence of networks, or each after the one before.

    Attributes
    ----------
    paths_ : PathTree
        Every path, with its measured milliseconds a row and the classes; a level is
        ``"name@engine"``.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    levels_ : tuple of str
        Columns of the table: every network at every engine it kept.
    latency_ : LatencyTable
        From ``measure_costs``.
    """

    paths_: PathTree
    latency_: LatencyTable

    def __init__(self, members: Mapping[str, MultiExitNetwork], *, paths: str = "cascade") -> None:
        self.members = dict(members)
        self._steps = {
            f"{name}@{engine}": (name, engine)
            for name, member in self.members.items()
            for engine in member.levels_
        }
        self._formats = list(dict.fromkeys(m.parts_.format for m in self.members.values()))
        costs = {
            label: float(self.members[name].paths_.path_costs[self._index(name, engine)])
            for label, (name, engine) in self._steps.items()
        }
        self.paths_ = self._tree(paths, costs)

    @classmethod
    def compiled(
        cls,
        networks: Mapping[str, NetworkLike],
        levels: Sequence[str] | None = None,
        *,
        paths: str = "cascade",
        calibration: Rows = None,
        classes: Sequence[object] | None = None,
        img_size: Size | None = None,
        data_config: Options | None = None,
        batch_size: int = 64,
        runtime: str = "auto",
        device: str | None = None,
    ) -> NetworkCascade:
        """Compile networks and time them, as :meth:`MultiExitNetwork.compile` does blocks.

        Parameters
        ----------
        networks, levels, paths, calibration, classes, img_size, data_config, batch_size, runtime
            As of :meth:`skquee.MultiPathClassifierBank.from_networks`.
        device : str, default=None
            As there.

        Returns
        -------
        NetworkCascade
        """
        check_option(paths, "paths", ("cascade", "chain"))
        check_networks(networks)
        given = None if levels is None else [levels] if isinstance(levels, str) else levels
        if given is not None and any(not isinstance(level, str) for level in given):
            raise ValueError(
                f"levels must be engines, ('int8', 'fp32'), got {tuple(given)}: bit widths are "
                "simulated, and simulations cost no time less."
            )
        where = choose_device(device)
        members: dict[str, MultiExitNetwork] = {}
        for name, network in networks.items():
            with named(name):
                member = whole_network(name, network, img_size, data_config, classes, where)
                first = next(iter(members.values()), None)
                if first is not None and len(first.classes_) != len(member.classes_):
                    raise ValueError(
                        f"it answers {len(member.classes_)} classes, those before it "
                        f"{len(first.classes_)}"
                    )
                if first is not None and not np.array_equal(first.classes_, member.classes_):
                    raise ValueError(
                        f"its classes are {member.classes_[:5]}, those of the networks before it "
                        f"{first.classes_[:5]}"
                    )
                on_cpu = where.type == "cpu" and "int8" in (given or device_engines(where))
                if on_cpu and calibration is None:
                    raise ValueError(
                        "int8 needs the ranges of activations: give calibration=, some 128 "
                        "images, or levels without it"
                    )
                member.compile(
                    levels if given is None else tuple(given),
                    calibration=calibration,
                    batch_size=batch_size,
                    runtime=runtime,
                )
            members[name] = member
        return cls(members, paths=paths)

    def __repr__(self) -> str:
        return f"NetworkCascade({list(self._steps)})"

    @property
    def classes_(self) -> Labels:
        """Labels, in the order of the probabilities."""
        return next(iter(self.members.values())).classes_

    @property
    def levels_(self) -> tuple[str, ...]:
        """Columns of the table."""
        return tuple(self._steps)

    # ------------------------------------------------------------------ run

    def rows(self, X: Rows) -> ImageRows:
        """Return images as rows a bank can pick from; nothing is read or run.

        Parameters
        ----------
        X : images
            As :meth:`MultiExitNetwork.fit` takes them.

        Returns
        -------
        ImageRows

        Raises
        ------
        ValueError
            If they do not fit one of the networks.
        """
        ready = isinstance(X, Tensor) and X.dtype.is_floating_point
        if len(self._formats) > 1 and ready:
            raise ValueError(
                "Tensors of floats are taken as normalised, but these networks are for images of "
                "other sizes or normalised otherwise: give uint8, an array, a Dataset or a folder."
            )
        found = [image_format.rows(X) for image_format in self._formats]
        return found[0]

    def start(self, X: Rows) -> _State:
        """Return images to run networks on; each is read when a network first asks for it.

        Parameters
        ----------
        X : images
            Of :meth:`rows`, or as it takes them.

        Returns
        -------
        state
        """
        return _State((X if isinstance(X, ImageRows) else self.rows(X),), {}, {})

    def run_block(self, state: _State, block: int, level: str) -> _State:
        """Run a network on an engine, where it has not run on these rows yet.

        Parameters
        ----------
        state : state
            Of ``start``.
        block : int
            Steps before: every network starts from the images.
        level : str
            Of ``levels_``.

        Returns
        -------
        state
        """
        if level not in self._steps:
            raise ValueError(f"There is no level {level!r}: levels are {self.levels_}.")
        if level not in state.answers:
            name, engine = self._steps[level]
            member = self.members[name]
            images = self._images(state, self._formats.index(member.parts_.format))
            _, state.answers[level] = member.run_exit(images, 0, engine)
        return state

    def head(self, state: _State, block: int, level: str) -> NDArray[np.float32]:
        """Return what a network answered.

        Parameters
        ----------
        state : state
            Of ``run_block``.
        block : int
            Steps before.
        level : str
            Of ``levels_``.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        return self.run_block(state, block, level).answers[level]

    def take(self, state: _State, rows: NDArray[np.intp]) -> _State:
        """Return some rows of a state.

        Parameters
        ----------
        state : state
            Any.
        rows : ndarray of int
            Rows.

        Returns
        -------
        state
        """
        picked = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        images = {f: ready[picked.to(ready.device)] for f, ready in state.images.items()}
        answers = {level: answer[rows] for level, answer in state.answers.items()}
        return _State(_picked(state.rows, np.asarray(rows, dtype=np.intp)), images, answers)

    def concat(self, states: Sequence[_State]) -> _State:
        """Join the rows of states.

        Parameters
        ----------
        states : sequence of state
            Any.

        Returns
        -------
        state
        """
        known = set.intersection(*(set(state.answers) for state in states))
        answers = {level: np.concatenate([s.answers[level] for s in states]) for level in known}
        ready = set.intersection(*(set(state.images) for state in states))
        images = {f: torch.cat([state.images[f] for state in states]) for f in ready}
        return _State(_joined([part for s in states for part in s.rows]), images, answers)

    def _images(self, state: _State, number: int) -> Tensor:
        """Return the images of a state in one format; rows that left before are never resized."""
        if number not in state.images:
            device = next(iter(self.members.values())).parts_.device
            parts = [self._formats[number].rows(part).tensor() for part in state.rows]
            state.images[number] = torch.cat(parts).to(device)
        return state.images[number]

    # ------------------------------------------------------------------ costs

    def measure_costs(
        self, batch_sizes: Sequence[int] = (1, 16, 64, 256), *, threads: int | None = None
    ) -> pd.DataFrame:
        """Measure how long every network takes on every engine, for some numbers of rows.

        Parameters
        ----------
        batch_sizes : sequence of int, default=(1, 16, 64, 256)
            Numbers of rows.
        threads : int, default=None
            Threads of torch. Default: as they are.

        Returns
        -------
        DataFrame
            Milliseconds; also kept as ``latency_``, for ``path_costs="latency"`` of a bank. A
            network takes as long wherever it stands in a path.
        """
        tables = []
        for member in self.members.values():
            member.measure_costs(batch_sizes, threads=threads)
            tables.append(member.latency_)
        n_exits, shape = self.paths_.n_exits, (len(self.classes_), self.paths_.n_paths)
        times = np.concatenate([table.blocks for table in tables], axis=1)
        self.latency_ = replace(
            tables[0],
            levels=self.levels_,
            blocks=np.repeat(times, n_exits, axis=0),
            gates=np.array([time_gate(n, *shape) for n in tables[0].batch_sizes]),
        )
        return self.latency_.to_frame()

    def path_costs(self, kind: str = "latency", *, batch_size: int = 64) -> NDArray[np.float64]:
        """Return what every path costs for one image.

        Parameters
        ----------
        kind : {"latency", "bitops", "flops"}, default="latency"
            Milliseconds of ``measure_costs``, of gates too; bit operations, an engine counting by
            the bits of its type; or floating-point operations.
        batch_size : int, default=64
            Rows expected to run together, for "latency".

        Returns
        -------
        ndarray of shape (n_paths,)
        """
        check_option(kind, "kind", KINDS)
        tree = self.paths_
        steps = [tree.steps(path) for path in range(tree.n_paths)]
        if kind == "latency":
            if not hasattr(self, "latency_"):
                raise ValueError("Nothing was measured: call measure_costs() first.")
            table = self.latency_.step_costs(batch_size)
            column = {label: number for number, label in enumerate(self.levels_)}
            return np.array(
                [sum(table[at, column[str(s)]] for at, s in enumerate(path)) for path in steps]
            )
        flops = {n: int(member.flops_.sum()) for n, member in self.members.items()}
        counted = {
            label: bit_operations([(1 if kind == "flops" else BITS[str(engine)],)], [flops[name]])
            for label, (name, engine) in self._steps.items()
        }
        return np.array([sum(float(counted[str(s)][0]) for s in path) for path in steps])

    def costed_paths(self, kind: str = "latency", **options: Any) -> PathTree:
        """Return the tree with costs of a kind and their unit.

        Parameters
        ----------
        kind : {"latency", "bitops", "flops"}, default="latency"
            As of ``path_costs``.
        **options
            Of ``path_costs``.

        Returns
        -------
        PathTree
            In milliseconds for "latency", else as fractions of the dearest path.
        """
        tree = self.paths_.with_costs(self.path_costs(kind, **options), cost_unit="ms")
        return tree if kind == "latency" else relative_to_whole(tree)

    def _index(self, name: str, engine: Level) -> int:
        return self.members[name].paths_.index(str(engine))

    def _tree(self, paths: str, costs: Mapping[str, float]) -> PathTree:
        labels = list(self._steps)
        of = [[x for x in labels if self._steps[x][0] == name] for name in self.members]
        count = math.prod(1 + len(own) for own in of) - 1
        if paths == "chain":
            count = sum(math.prod(map(len, of[: end + 1])) for end in range(len(of)))
        if count > MOST_PATHS:
            raise ValueError(
                f"{len(of)} networks on {[len(own) for own in of]} engines make {count} paths, "
                f"more than {MOST_PATHS}: give fewer of either, or paths='chain'."
            )
        picked = [
            run
            for length in range(1, len(of) + 1)
            for run in itertools.combinations(range(len(of)), length)
            if paths == "cascade" or run == tuple(range(length))
        ]
        sequences = [s for run in picked for s in itertools.product(*(of[k] for k in run))]
        return PathTree.from_paths(
            sequences,
            [sum(costs[label] for label in sequence) for sequence in sequences],
            columns=[labels.index(sequence[-1]) for sequence in sequences],
            classes=self.classes_.tolist(),
            cost_unit="ms",
        )


def _picked(parts: Sequence[ImageRows], rows: NDArray[np.intp]) -> tuple[ImageRows, ...]:
    """Return rows of parts that follow each other, in the order asked for."""
    if len(parts) == 1:
        return (parts[0][rows],)
    starts = np.cumsum([0, *map(len, parts)])
    which = np.searchsorted(starts, rows, side="right") - 1
    runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(which)) + 1)
    picked = [parts[which[run[0]]][rows[run] - starts[which[run[0]]]] for run in runs if len(run)]
    return _joined(picked or [parts[0][rows]])


def _joined(parts: Sequence[ImageRows]) -> tuple[ImageRows, ...]:
    """Return parts, neighbours of the same images as one."""
    found: list[ImageRows] = []
    for part in [part for part in parts if len(part)] or parts[:1]:
        last = found[-1] if found else None
        if last is not None and last.data is part.data and last.collate is part.collate:
            found[-1] = replace(last, order=np.concatenate([last.order, part.order]))
        else:
            found.append(part)
    return tuple(found)
