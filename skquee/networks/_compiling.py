"""Compiling a network: engines as levels, in place of simulated bit widths, and their times."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skquee.networks._execution import choose_device
from skquee.networks._images import ImageRows
from skquee.networks._levels import FLOAT
from skquee.networks._parameters import check_tree_options
from skquee.networks._running import BlockRunner, run_with_exit
from skquee.networks.engines import (
    BITS,
    build_engine,
    check_engines,
    device_engines,
    input_ranges,
)
from skquee.networks.engines._cuda import GraphedBlock, has_8_bit_layers
from skquee.networks.engines._engines import time_blocks
from skquee.networks.engines._gate import gate_like
from skquee.networks.engines._latency import LatencyTable, check_sizes, this_machine
from skquee.networks.engines._openvino import OpenVinoBlock, openvino_available, openvino_blocks
from skquee.networks.quantization._operations import searched_ranges
from skquee.values import PathTree
from skquee.values._checks import check_integer, check_option

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompiledRunner"]

N_CALIBRATION = 128
GAIN = 0.97
# What runs a block on each type of device.
RUNTIMES = {"cpu": ("torch", "openvino"), "cuda": ("torch", "graphs")}


class CompiledRunner(BlockRunner):
    """What a network offers beside running blocks: to compile them, and to time them."""

    _blocks: nn.ModuleList
    _seed: int
    flops_: NDArray[np.int64]
    latency_: LatencyTable
    runtimes_: dict[str, tuple[str, ...]]

    def compile(
        self,
        levels: Sequence[str] | None = None,
        *,
        calibration: Any = None,
        device: str | None = None,
        batch_size: int = 64,
        runtime: str = "auto",
        **tree_options: Any,
    ) -> Self:
        """Run each block on real kernels: "int8", "fp8", "fp16", "bf16" or "fp32".

        Each engine is timed here once, and kept only if it runs some block faster than every
        dearer one; this replaces earlier levels. The costs of the paths are measured
        milliseconds, the exits' included.

        Parameters
        ----------
        levels : sequence of str, default=None
            Engines. int8 on a CPU: linear layers and convolutions on int8 products, a static scale
            for each input, batch normalisation folded in, all else in float32. int8 and fp8 on a
            GPU (``pip install skquee[cuda]``): linear layers, a scale for each row, all else in
            bfloat16. bf16, fp16: everything in that type; fp16 on a GPU. Default: all that the
            device runs.
        calibration : images, default=None
            As in ``fit``, for the ranges of int8 inputs. Default: those seen in ``fit``; where
            ``quantize`` made a level of 8 bits, the scales it found for its inputs (those on a
            uniform grid; a twin grid is more than one product).
        device : str, default=None
            Where to run: that of the network.
        batch_size : int, default=64
            Rows run together while engines are timed, and on a CPU at most so many afterwards:
            more no longer fit the processor's cache.
        runtime : {"auto", "torch", "openvino", "graphs"}, default="auto"
            What runs the kernels: torch; on a CPU, OpenVINO (``pip install skquee[openvino]``);
            on a GPU, torch's kernels recorded as CUDA graphs. "auto" times what there is, and takes
            the fastest for each block.
        **tree_options
            As of ``quantize``, but the first block may run on any engine by default
            (``first="free"``): engines differ little in accuracy.

        Returns
        -------
        network
            Itself. If the call fails, the earlier levels stay.

        Warns
        -----
        UserWarning
            If an engine does not pay on this machine, or answers NaN, and is left out.

        Raises
        ------
        ValueError
            If an engine or runtime is unknown, or int8 has no ranges to go by.
        ImportError
            If OpenVINO is asked for and not installed.
        """
        check_is_fitted(self)
        check_integer(batch_size, "batch_size", at_least=1)
        check_tree_options(tree_options)
        engines = check_engines(levels, device_engines(self._device))
        runtimes = self._runtimes_for(runtime)
        if device is not None and choose_device(device) != self._device:
            raise ValueError(
                f"device={device!r}, but the network is on {self._device}: "
                "MultiExitNetwork.load(folder, device=...) moves it."
            )
        ranges = self._ranges_of(calibration)
        if "int8" in engines and self._device.type == "cpu" and not ranges and calibration is None:
            raise ValueError(
                "int8 needs the ranges of activations, and this network was saved without: give "
                f"calibration=, some {N_CALIBRATION} images."
            )
        images = None if calibration is None else self._format.rows(calibration)[:batch_size]
        built, times, chosen = self._fastest(engines, runtimes, ranges, batch_size, images)
        kept = _that_pay(times)
        costs = np.stack([times[engine] for engine in kept], axis=1) / batch_size
        paths = PathTree.from_levels(
            len(costs),
            kept,
            costs,
            classes=self.classes_.tolist(),
            cost_unit="ms",
            **{"random_state": self._seed, "first": "free", **tree_options},
        )
        self._levels = {engine: built[engine] for engine in kept}
        self.runtimes_ = {engine: chosen[engine] for engine in kept}
        self._tree_options = tree_options
        self._ranges = ranges
        self._group = batch_size if self._device.type == "cpu" else None
        for name in ("level_accuracy_", "path_accuracy_", "latency_"):
            self.__dict__.pop(name, None)
        self.levels_, self.paths_ = tuple(kept), paths
        return self

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
        self.latency_ = LatencyTable(
            tuple(map(str, self.levels_)),
            sizes,
            blocks,
            gates,
            threads or before,
            this_machine(self._device),
        )
        return self.latency_.to_frame()

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
        if not hasattr(self, "latency_"):
            raise ValueError("Nothing was measured: call network.measure_costs() first.")
        tree, table = self.paths_, self.latency_
        steps = table.step_costs(batch_size)
        column = {level: number for number, level in enumerate(table.levels)}
        levels = [column[str(level)] for level in tree.levels]
        return steps[np.arange(tree.n_exits), np.array(levels)[tree.ancestors]].sum(
            axis=1, where=tree.ancestors >= 0
        )

    @property
    def float_blocks(self) -> nn.ModuleList:
        """The blocks in float32, as ``fit`` made them."""
        check_is_fitted(self)
        return self._blocks

    def _ranges_of(self, calibration: Any) -> dict[str, tuple[float, float]]:
        if calibration is None:
            own = getattr(self, "_ranges", {})
            return {**own, **searched_ranges(self._levels.get(8, ()))} if own else {}
        rows = self._format.rows(calibration)
        if not len(rows):
            raise ValueError("calibration holds no image.")
        batches = (batch.to(self._device) for batch in rows.batches(64))
        return input_ranges(self._blocks, batches)

    def _states(self, n_rows: int) -> list[Tensor]:
        """Return random images and what each block makes of them: input of every block."""
        generator = torch.Generator().manual_seed(0)
        height, width = self._image_size()
        shape = (n_rows, self._format.channels, height, width)
        states = [torch.randn(shape, generator=generator).to(self._device)]
        with torch.inference_mode():
            for block in self._blocks:
                states.append(block(states[-1]))
        return states

    def _image_size(self) -> tuple[int, int]:
        if self._format.size is None:
            raise ValueError("The network takes images of any size: give img_size= before fit.")
        return self._format.size

    def _measure(self, n_rows: int) -> tuple[NDArray[np.float64], ...]:
        states = self._states(n_rows)
        # As routing runs them: in groups, where a compiled network runs groups.
        runs: dict[str, Any] = {
            str(level): [partial(self.run_exit, block=b, level=level) for b in range(len(blocks))]
            for level, blocks in self._levels.items()
        }
        blocks = time_blocks(runs, states[:-1])
        gate = gate_like(n_rows, len(self.classes_), self.paths_.n_paths)
        gates = time_blocks({"gate": [lambda _: gate()]}, states[:1])
        return np.stack([blocks[str(level)] for level in self.levels_], axis=1), gates["gate"][0]

    def _runtimes_for(self, runtime: str) -> tuple[str, ...]:
        known = RUNTIMES.get(self._device.type, ("torch",))
        check_option(runtime, "runtime", ("auto", *known), besides=f" on {self._device}")
        if runtime == "openvino" and not openvino_available():
            raise ImportError("runtime='openvino' needs OpenVINO: pip install skquee[openvino].")
        if runtime != "auto":
            return (runtime,)
        return tuple(name for name in known if name != "openvino" or openvino_available())

    def _build(
        self, engine: str, runtime: str, ranges: dict[str, tuple[float, float]], n_rows: int = 2
    ) -> nn.ModuleList:
        if runtime != "openvino":
            built = build_engine(engine, self._blocks, ranges, self._states(2)[:-1])
            # torchao's int8 product waits for the device, which no graph can record.
            if runtime == "torch" or engine == "int8":
                return built
            return nn.ModuleList(map(GraphedBlock, built, self._pools, self._heads))
        exits = list(zip(self._pools, self._heads, strict=True))
        return openvino_blocks(engine, self._blocks, exits, ranges, self._states(n_rows)[:-1])

    def _restored(self, engine: str) -> nn.ModuleList:
        """Return the blocks of an engine as they were compiled, of a network that was saved."""
        chosen = getattr(self, "runtimes_", {}).get(engine, ("torch",) * len(self._blocks))
        absent = set(chosen) - set(self._runtimes_for("auto"))
        if absent:
            warnings.warn(
                f"This network ran {engine} by {sorted(absent)}, not at hand here: torch runs it. "
                "Measured costs no longer hold: call measure_costs again.",
                UserWarning,
                stacklevel=4,
            )
            chosen = ("torch",) * len(chosen)
            self.runtimes_ = {**self.runtimes_, engine: chosen}
        built = {r: self._build(engine, r, self._ranges) for r in dict.fromkeys(chosen)}
        return nn.ModuleList(built[r][b] for b, r in enumerate(chosen))

    def _fastest(
        self,
        engines: Sequence[str],
        runtimes: Sequence[str],
        ranges: dict[str, tuple[float, float]],
        n_rows: int,
        images: ImageRows | None,
    ) -> tuple[
        dict[str, nn.ModuleList], dict[str, NDArray[np.float64]], dict[str, tuple[str, ...]]
    ]:
        """Return each engine's blocks, their milliseconds and what runs each: the fastest."""
        states = self._states(n_rows)[:-1]
        if self._device.type == "cuda" and not has_8_bit_layers(self._blocks):
            engines = [e for e in engines if BITS[e] > 8]
            if not engines:
                raise ValueError("No linear layer suits 8-bit products here: add 'bf16' to levels.")
        if self._device.type == "cpu" and "int8" in engines and not ranges:
            warnings.warn(
                "No linear layer or convolution here suits int8 products: int8 is left out.",
                UserWarning,
                stacklevel=3,
            )
            engines = [e for e in engines if e != "int8"]
        built = {(e, r): self._build(e, r, ranges) for e in engines for r in runtimes}
        # Half precision may overflow where float does not: rather on images than on noise.
        probe = states[0] if images is None else images.tensor().to(self._device)
        for engine in [e for e in engines if e != "fp32" and runtimes[0] != "openvino"]:
            block = _first_not_finite(built[engine, runtimes[0]], probe)
            if block is None:
                continue
            warnings.warn(
                f"{engine} answers NaN or infinity after block {block}, where float32 does not: "
                f"{engine} is left out.",
                UserWarning,
                stacklevel=3,
            )
            engines = [e for e in engines if e != engine]
        if not engines:
            raise ValueError("No engine is left: add 'fp32' to levels.")
        if "openvino" in runtimes:
            for engine in engines:
                others = built.get((engine, "torch"))
                _leave_out_what_fails(built[engine, "openvino"], others, states)
        runs: dict[str, Any] = {
            f"{engine} {runtime}": [partial(self._exit, b, block) for b, block in enumerate(blocks)]
            for (engine, runtime), blocks in built.items()
        }
        times = time_blocks(runs, states)
        chosen: dict[str, tuple[str, ...]] = {}
        for engine in engines:
            table = np.stack([times[f"{engine} {runtime}"] for runtime in runtimes])
            best = table.argmin(axis=0)
            chosen[engine] = tuple(
                _runtime_of(built[engine, runtimes[k]][b]) for b, k in enumerate(best)
            )
        return (
            {
                engine: nn.ModuleList(built[engine, r][b] for b, r in enumerate(chosen[engine]))
                for engine in engines
            },
            {e: np.min([times[f"{e} {r}"] for r in runtimes], axis=0) for e in engines},
            chosen,
        )

    def _exit(self, number: int, block: nn.Module, state: Tensor) -> None:
        """Run a block and the exit after it, for timing."""
        if getattr(block, "exit_head", None) is not None:
            run_with_exit(block, state, None)
        else:
            self.head(block(state), number, None)


def _runtime_of(block: nn.Module) -> str:
    if isinstance(block, OpenVinoBlock):
        return "openvino"
    return "graphs" if isinstance(block, GraphedBlock) else "torch"


def _first_not_finite(blocks: nn.ModuleList, state: Tensor) -> int | None:
    """Return the first block, from 1, whose answer holds NaN or infinity."""
    with torch.inference_mode():
        for number, block in enumerate(blocks, start=1):
            state = block(state)
            if not bool(state.isfinite().all()):
                return number
    return None


def _leave_out_what_fails(
    compiled: nn.ModuleList, others: nn.ModuleList | None, states: Sequence[Tensor]
) -> None:
    """Put the other block where one does not compile, or answers by its place in the batch."""
    failed, reason = [], ""
    for number, state in enumerate(states):
        try:
            whole, alone = compiled[number](state)[-2:], compiled[number](state[-2:])
            if not torch.allclose(whole, alone, rtol=0.05, atol=0.05 * float(alone.abs().max())):
                raise ValueError(f"in a batch of {len(state)} it answers otherwise than alone")
        except Exception as error:
            if others is None:
                raise ValueError(
                    f"OpenVINO does not run block {number + 1} rightly: {error}"
                ) from error
            failed.append(number + 1)
            reason = str(error)[:200]
            compiled[number] = others[number]
    if failed:
        warnings.warn(
            f"OpenVINO does not run the blocks {failed}, torch does: {reason}",
            UserWarning,
            stacklevel=4,
        )


def _that_pay(times: dict[str, NDArray[np.float64]]) -> list[str]:
    """Keep an engine where it runs some block faster than every dearer one; cheapest first.

    Faster by more than chance: times of several rounds differ by a hundredth or two.
    """
    kept: list[str] = []
    for engine in reversed(list(times)):
        best = np.min([times[other] for other in kept], axis=0) if kept else np.inf
        if not (times[engine] < GAIN * best).any():
            totals = ", ".join(f"{other} {times[other].sum():.3g} ms" for other in kept)
            warnings.warn(
                f"{engine} takes {times[engine].sum():.3g} ms a batch here, no block of it is the "
                f"fastest ({totals}): {engine} is left out.",
                UserWarning,
                stacklevel=3,
            )
            continue
        kept.append(engine)
    return kept[::-1]
