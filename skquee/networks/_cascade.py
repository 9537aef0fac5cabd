"""Several whole networks as the members of one bank, each on several engines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skquee.networks._cascade_files import load_members, save_members
from skquee.networks._cascade_rows import CascadeState
from skquee.networks._costs import bit_operations
from skquee.networks._execution import choose_device
from skquee.networks._images import ImageRows
from skquee.networks._measuring import time_gate
from skquee.networks._members import (
    NetworkLike,
    cascade_tree,
    check_classes,
    check_networks,
    named,
    whole_network,
)
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

KINDS = ("latency", "bitops", "flops")


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

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skquee.networks import NetworkCascade
    >>> small, large = (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)) for _ in range(2))
    >>> options = {"levels": ("fp32",), "img_size": 8, "runtime": "torch"}
    >>> cascade = NetworkCascade.compiled({"small": small, "large": large}, **options)
    >>> cascade.paths_.names
    ('small@fp32', 'large@fp32', 'small@fp32-large@fp32')
    """

    paths_: PathTree
    latency_: LatencyTable

    def __init__(self, members: Mapping[str, MultiExitNetwork], *, paths: str = "cascade") -> None:
        self.members = dict(members)
        self.paths = paths
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
        self.paths_ = cascade_tree(self._steps, costs, paths, self.classes_)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the cascade to a folder: each network's weights in safetensors, the rest in JSON.

        The folder appears, or changes, only when everything is written.

        Parameters
        ----------
        folder : path
            Made where there is none. A folder that holds anything but a saved cascade is refused.
        """
        save_members(folder, self.members, self.paths, getattr(self, "latency_", None))

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        networks: Mapping[str, nn.Module | MultiExitNetwork] | None = None,
        device: str | None = None,
    ) -> NetworkCascade:
        """Read a cascade that was saved: it answers and costs what it did. No code runs from files.

        Parameters
        ----------
        folder : path
            Of ``save``.
        networks : dict of str to Module or MultiExitNetwork, default=None
            By name, those that were made of a module or of a fitted network, not of the name of a
            timm model: of the same architecture, whose weights do not matter.
        device : str, default=None
            Where to run. Default: CUDA where there is one.

        Returns
        -------
        NetworkCascade
            ``MultiPathClassifierBank`` takes it.

        Raises
        ------
        FileNotFoundError
            If there is no saved cascade.
        ValueError
            If a network is missing or of another architecture, or files are damaged or do not fit
            each other.
        """
        members, paths, latency = load_members(folder, networks, device)
        made = cls(members, paths=paths)
        if latency is not None:
            made.latency_ = latency
        return made

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
                if members:
                    check_classes(member, next(iter(members.values())))
                on_cpu = where.type == "cpu" and "int8" in (
                    device_engines(where) if given is None else given
                )
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

    def start(self, X: Rows) -> CascadeState:
        """Return images to run networks on; each is read when a network first asks for it.

        Parameters
        ----------
        X : images
            Of :meth:`rows`, or as it takes them.

        Returns
        -------
        state
        """
        return CascadeState((X if isinstance(X, ImageRows) else self.rows(X),), {}, {})

    def run_block(self, state: CascadeState, block: int, level: str) -> CascadeState:
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
            number = self._formats.index(member.parts_.format)
            images = state.of_format(number, member.parts_.format, member.parts_.device)
            _, state.answers[level] = member.run_exit(images, 0, engine)
        return state

    def head(self, state: CascadeState, block: int, level: str) -> NDArray[np.float32]:
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

    def take(self, state: CascadeState, rows: NDArray[np.intp]) -> CascadeState:
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
        return state.take(rows)

    def concat(self, states: Sequence[CascadeState]) -> CascadeState:
        """Join the rows of states.

        Parameters
        ----------
        states : sequence of state
            Any.

        Returns
        -------
        state
        """
        return CascadeState.joined(states)

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

    def summary(self) -> pd.DataFrame:
        """Return what every path is and costs.

        Returns
        -------
        DataFrame
            A row a path: networks it runs, FLOPs, BitOPS, and milliseconds as ``compile`` found
            them.
        """
        import pandas as pd

        tree = self.paths_
        counted = {kind: self.path_costs(kind).astype(np.int64) for kind in ("flops", "bitops")}
        frame = pd.DataFrame(
            {"networks": tree.depths, **counted, "cost": tree.path_costs},
            index=pd.Index(tree.names, name="path"),
        )
        frame.attrs["cost_unit"] = tree.cost_unit
        return frame

    def _index(self, name: str, engine: Level) -> int:
        return self.members[name].paths_.index(str(engine))
