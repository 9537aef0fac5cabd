"""What the paths of a network cost: bit operations, milliseconds, parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skquee.networks._costs import bit_operations, gate_flops
from skquee.networks._parts import FLOAT
from skquee.networks._running import BlockRunner
from skquee.networks.backbones._types import Level
from skquee.networks.engines import BITS, LatencyTable
from skquee.networks.engines._engines import time_blocks
from skquee.networks.engines._latency import check_sizes, this_machine
from skquee.values import PathTree
from skquee.values._checks import check_integer, check_option
from skquee.values._tree import relative_to_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CostedRunner", "time_gate"]

GATE_WIDTHS = (8, 16)


class CostedRunner(BlockRunner):
    """What a network says of the costs of its paths."""

    def measure_costs(
        self, batch_sizes: Sequence[int] = (1, 16, 64, 256), *, threads: int | None = None
    ) -> pd.DataFrame:
        """Measure how long every block takes at every level, for some numbers of rows.

        A block's time holds that of the exit after it; a gate is measured too. Measure on a
        machine that does nothing else.

        Parameters
        ----------
        batch_sizes : sequence of int, default=(1, 16, 64, 256)
            Numbers of rows.
        threads : int, default=None
            Threads of torch. Default: as they are.

        Returns
        -------
        DataFrame
            Milliseconds; also kept as ``latency_``, for ``path_costs(kind="latency")`` and
            ``MultiPathClassifierBank(network, path_costs="latency")``.

        Warns
        -----
        UserWarning
            If levels are bit widths that are simulated.
        """
        check_is_fitted(self)
        sizes = check_sizes(batch_sizes)
        if threads is not None:
            check_integer(threads, "threads", at_least=1)
        before = torch.get_num_threads()
        simulated = [level for level in self.levels_ if level not in (*BITS, FLOAT)]
        if simulated:
            warnings.warn(
                f"The bit widths {simulated} are simulated in float, and no faster: their times "
                "say nothing of real kernels. Call compile() first for levels that pay here.",
                UserWarning,
                stacklevel=2,
            )
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            found = [self._measure(size) for size in sizes]
        finally:
            torch.set_num_threads(before)
        blocks, gates = (np.stack(parts, axis=-1) for parts in zip(*found, strict=True))
        latency = LatencyTable(
            tuple(map(str, self.levels_)),
            sizes,
            blocks,
            gates,
            threads or before,
            this_machine(self.parts_.device),
        )
        self.parts_ = replace(self.parts_, latency=latency)
        return latency.to_frame()

    def latency_costs(self, batch_size: int = 64) -> NDArray[np.float64]:
        """Return the milliseconds that every path takes for one row, head and gate included.

        Parameters
        ----------
        batch_size : int, default=64
            Rows expected to run together.

        Returns
        -------
        ndarray of shape (n_paths,)

        Raises
        ------
        ValueError
            If nothing was measured.
        """
        check_is_fitted(self)
        tree, table = self.paths_, self.parts_.latency
        if table is None:
            raise ValueError("Nothing was measured: call network.measure_costs() first.")
        steps = table.step_costs(batch_size)
        column = {level: number for number, level in enumerate(table.levels)}
        levels = [column[str(level)] for level in tree.levels]
        return steps[np.arange(tree.n_exits), np.array(levels)[tree.ancestors]].sum(
            axis=1, where=tree.ancestors >= 0
        )

    def path_costs(
        self,
        kind: str = "bitops",
        *,
        batch_size: int = 64,
        product: bool = False,
        heads: bool = False,
        gates: bool = False,
        embedding_size: int = 8,
        hidden_size: int = 16,
    ) -> NDArray[np.float64]:
        """Return what every path costs, for ``path_costs=`` of a bank or router.

        Parameters
        ----------
        kind : {"bitops", "flops", "latency"}, default="bitops"
            Bit operations, what a level does not quantise in float, an engine counting by the
            bits of its type; floating-point
            operations, whatever the level; or milliseconds of ``measure_costs``, head and gate
            included.
        batch_size : int, default=64
            Rows expected to run together, for "latency".
        product : bool, default=False
            Count weight bits times activation bits in place of bits once (equation 17).
        heads, gates : bool, default=False
            Count the heads passed, and a gate after each exit but the last.
        embedding_size, hidden_size : int, default=8, 16
            Of the gates.

        Returns
        -------
        ndarray of shape (n_paths,)
            For one image.

        See Also
        --------
        costed_paths : The tree with these costs.
        """
        check_is_fitted(self)
        tree, n_exits = self.paths_, len(self.flops_)
        check_option(kind, "kind", ("bitops", "flops", "latency"))
        if kind == "latency":
            return self.latency_costs(batch_size)
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size}
        for name, size in sizes.items():
            check_integer(size, name, at_least=1)
        steps = [tree.steps(path) for path in range(tree.n_paths)]
        bits: dict[Hashable, NDArray[np.float64]] = {}
        for level in self.levels_:
            if kind == "flops":
                bits[level] = np.ones(n_exits)
            elif isinstance(level, str):
                bits[level] = np.full(n_exits, float(BITS[level]))
            else:
                bits[level] = self.parts_.bits(level, power=2 if product else 1)
        return bit_operations(
            [[bits[level][block] for block, level in enumerate(path)] for path in steps],
            self.flops_,
            product=product,
            head_flops=self.head_flops_ if heads else None,
            gate=gate_flops(len(self.classes_), n_exits, tree.n_paths, **sizes) if gates else 0,
        )

    def coverage(self) -> pd.DataFrame:
        """Return which share of the multiplications runs at which width.

        Counted on one image. What takes no multiplications (norms, softmax, sums) is left out, as
        it is of the costs; so are the heads, which run in float.

        Returns
        -------
        DataFrame
            A row for each level and block, and one for the whole of each level; a column for
            each number of bits. Rows sum to 1.
        """
        import pandas as pd

        check_is_fitted(self)
        widths = self.parts_.widths
        columns = sorted({bits for shares in widths.values() for s in shares for bits in s})
        weights = self.flops_ / max(1, self.flops_.sum())
        rows: dict[tuple[Level, str], NDArray[np.float64]] = {}
        for level, shares in widths.items():
            table = np.array([[share.get(bits, 0.0) for bits in columns] for share in shares])
            rows.update({(level, f"block {b + 1}"): row for b, row in enumerate(table)})
            rows[level, "all"] = weights @ table
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        frame.index = pd.MultiIndex.from_tuples(frame.index, names=["level", "block"])
        frame.columns.name = "bits"
        return frame

    def costed_paths(self, kind: str = "bitops", **options: Any) -> PathTree:
        """Return the tree with costs of a kind and their unit.

        Parameters
        ----------
        kind : {"bitops", "flops", "latency"}, default="bitops"
            As of ``path_costs``.
        **options
            Of ``path_costs``.

        Returns
        -------
        PathTree
            In milliseconds for "latency", else as fractions of the whole network: 1 is its
            fullest path.
        """
        tree = self.paths_.with_costs(self.path_costs(kind, **options), cost_unit="ms")
        return tree if kind == "latency" else relative_to_whole(tree)

    def summary(self) -> pd.DataFrame:
        """Return what every path is and costs.

        Returns
        -------
        DataFrame
            A row a path: its exit (layers run), blocks run, parameters (of blocks run and
            the head that answers), FLOPs, BitOPS (FLOPs times bits), cost (equation 17,
            or milliseconds once compiled; ``attrs["cost_unit"]`` says which) and, once
            ``select_levels`` or ``evaluate`` has measured it, accuracy.
        """
        import pandas as pd

        check_is_fitted(self)
        tree = self.paths_
        weights = np.cumsum([_n_parameters(block) for block in self.parts_.blocks])
        weights += [_n_parameters(head) for head in self.parts_.heads]
        last = tree.depths - 1
        columns = {
            "exit": np.array(self.exits_)[last],
            "blocks": tree.depths,
            "parameters": weights[last],
            "flops": np.cumsum(self.flops_)[last],
            "bitops": self.path_costs().astype(np.int64),
            "cost": tree.path_costs,
        }
        if self.parts_.path_accuracy is not None:
            columns["accuracy"] = self.parts_.path_accuracy
        frame = pd.DataFrame(columns, index=pd.Index(tree.names, name="path"))
        frame.attrs["cost_unit"] = tree.cost_unit
        return frame

    def _measure(self, n_rows: int) -> tuple[NDArray[np.float64], float]:
        states = self.parts_.states(n_rows)
        # As routing runs them: in groups, where a compiled network runs groups.
        runs = {
            str(level): [partial(self.run_exit, block=b, level=level) for b in range(len(blocks))]
            for level, blocks in self.parts_.levels.items()
        }
        blocks = time_blocks(runs, states[:-1])
        gate = time_gate(n_rows, len(self.classes_), self.paths_.n_paths)
        return np.stack([blocks[str(level)] for level in self.levels_], axis=1), gate


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def time_gate(n_rows: int, n_classes: int, n_paths: int) -> float:
    """Return the milliseconds of a gate on so many rows."""
    gate = _gate_like(n_rows, n_classes, n_paths)
    return float(time_blocks({"gate": [gate]}, [torch.zeros(1)])["gate"][0])


def _gate_like(n_rows: int, n_classes: int, n_paths: int) -> Callable[[Tensor], object]:
    """Return what does as much as a gate of usual size and the walk around it; it means nothing.

    Networks may not import what decides, but have to tell its time.
    """
    embedding, hidden = GATE_WIDTHS
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(n_classes), size=n_rows).astype(np.float32)
    first = random.normal(size=(2 * n_classes + 4, embedding)).astype(np.float32)
    codes = random.normal(size=(n_paths, embedding)).astype(np.float32)
    second = random.normal(size=(embedding, hidden)).astype(np.float32)
    third = random.normal(size=hidden).astype(np.float32)
    costs, rows, paths = random.random(n_paths), np.arange(n_rows), np.zeros(n_rows, dtype=np.intp)

    def run(state: Tensor) -> NDArray[np.intp]:
        # What comes out of a block is checked and noted.
        good = (np.abs(p.sum(axis=1) - 1) < 1).all() and (p.min(axis=1) >= 0).all()
        answers, final = p.argmax(axis=1), p.copy()
        # The gate's input, for this exit and the one before.
        u = np.zeros((n_rows, 2 * n_classes + 4), dtype=np.float32)
        u[:, :n_classes] = u[:, n_classes:-4] = p
        for place in (-4, -3):
            u[:, place] = -np.einsum("nc,nc->n", p, np.log(np.maximum(p, 1e-30)))
            u[:, place + 2] = p.max(axis=1)
        # Errors of every path, and the best one.
        for prefix in np.unique(paths[rows]):
            mine = np.flatnonzero(paths == prefix)
            inner = np.maximum((u[mine] @ first)[:, None] + codes, 0)
            errors = 1 / (1 + np.exp(-(np.maximum(inner @ second, 0) @ third)))
            order = np.argsort(costs, kind="stable")
            scores = errors[:, order] + costs[order]
            best = order[np.argmax(scores <= scores.min(axis=1, keepdims=True), axis=1)]
        # Rows that go on, and where they stand.
        going = np.flatnonzero((best >= 0) & good)
        place_of = np.full(n_rows, -1)
        place_of[rows[going]] = np.arange(len(going))
        final[going] = p[going]
        return np.where(best[going] >= 0, paths[going], answers[going])

    return run
