"""Compiling a network: engines as levels, in place of simulated bit widths."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Self, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skquee.networks._execution import choose_device
from skquee.networks._images import ImageRows
from skquee.networks._measuring import CostedRunner
from skquee.networks._parameters import check_tree_options
from skquee.networks._parts import Parts
from skquee.networks._running import run_with_exit
from skquee.networks.backbones._types import Range
from skquee.networks.engines import BITS, build_engine, check_engines, device_engines, input_ranges
from skquee.networks.engines._cuda import GraphedBlock, has_8_bit_layers
from skquee.networks.engines._engines import time_blocks
from skquee.networks.engines._openvino import OpenVinoBlock, openvino_available, openvino_blocks
from skquee.networks.engines._with_exit import WithExit
from skquee.networks.quantization._operations import searched_ranges
from skquee.values import PathTree
from skquee.values._checks import check_integer, check_option
from skquee.values._types import Rows, TreeOptions

__all__ = ["N_CALIBRATION", "CompiledRunner", "ranges_of", "rebuilt"]

N_CALIBRATION = 128
GAIN = 0.97
# How far, over its norm, a row of OpenVINO's may be from torch's. A state that is rounded otherwise
# is some hundredths away, a wrong one 0.2 to 1; probabilities of a doubtful row move by a tenth.
MOST_AWAY = (0.1, 0.5)
# What runs a block on each type of device.
RUNTIMES = {"cpu": ("torch", "openvino"), "cuda": ("torch", "graphs")}


class CompiledRunner(CostedRunner):
    """What a network offers beside running blocks: to compile them."""

    def compile(
        self,
        levels: Sequence[str] | None = None,
        *,
        calibration: Rows = None,
        device: str | None = None,
        batch_size: int = 64,
        runtime: str = "auto",
        **tree_options: Unpack[TreeOptions],
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
        parts = self.parts_
        engines = check_engines(levels, device_engines(parts.device))
        runtimes = _runtimes_for(parts, runtime)
        if device is not None and choose_device(device) != parts.device:
            raise ValueError(
                f"device={device!r}, but the network is on {parts.device}: "
                "MultiExitNetwork.load(folder, device=...) moves it."
            )
        ranges = ranges_of(parts, calibration)
        if "int8" in engines and parts.device.type == "cpu" and not ranges and calibration is None:
            raise ValueError(
                "int8 needs the ranges of activations, and this network was saved without: give "
                f"calibration=, some {N_CALIBRATION} images."
            )
        images = None if calibration is None else parts.format.rows(calibration)[:batch_size]
        built, times, chosen = _fastest(
            replace(parts, ranges=ranges), engines, runtimes, batch_size, images
        )
        kept = _that_pay(times)
        costs = np.stack([times[engine] for engine in kept], axis=1) / batch_size
        which: TreeOptions = {"random_state": parts.seed, "first": "free", **tree_options}
        paths = PathTree.from_levels(
            len(costs), kept, costs, classes=self.classes_.tolist(), cost_unit="ms", **which
        )
        self.parts_ = parts.with_levels(
            {engine: built[engine] for engine in kept},
            paths,
            runtimes={engine: chosen[engine] for engine in kept},
            tree_options=tree_options,
            ranges=ranges,
            group=batch_size if parts.device.type == "cpu" else None,
        )
        return self

    @property
    def float_blocks(self) -> nn.ModuleList:
        """The blocks in float32, as ``fit`` made them."""
        check_is_fitted(self)
        return self.parts_.blocks


def ranges_of(parts: Parts, calibration: Rows) -> dict[str, Range]:
    """Return the least and greatest input of each layer: on images, or by default as known.

    That is as seen in ``fit``, or by the scales found for 8 bits.
    """
    if calibration is None:
        own = dict(parts.ranges)
        return {**own, **searched_ranges(parts.levels.get(8, ()))} if own else {}
    rows = parts.format.rows(calibration)
    if not len(rows):
        raise ValueError("calibration holds no image.")
    return input_ranges(parts.blocks, (batch.to(parts.device) for batch in rows.batches(64)))


def rebuilt(parts: Parts, engine: str) -> tuple[nn.ModuleList, tuple[str, ...]]:
    """Return the blocks of an engine as they were compiled, of a network that was saved.

    And what runs each: torch, with a warning, where what ran them is not at hand.
    """
    chosen = tuple(parts.runtimes.get(engine, ("torch",) * len(parts.blocks)))
    absent = set(chosen) - set(_runtimes_for(parts, "auto"))
    if absent:
        warnings.warn(
            f"This network ran {engine} by {sorted(absent)}, not at hand here: torch runs it. "
            "Measured costs no longer hold: call measure_costs again.",
            UserWarning,
            stacklevel=4,
        )
        chosen = ("torch",) * len(chosen)
    built = {runtime: _build(parts, engine, runtime) for runtime in dict.fromkeys(chosen)}
    return nn.ModuleList(built[runtime][b] for b, runtime in enumerate(chosen)), chosen


def _runtimes_for(parts: Parts, runtime: str) -> tuple[str, ...]:
    known = RUNTIMES.get(parts.device.type, ("torch",))
    check_option(runtime, "runtime", ("auto", *known), besides=f" on {parts.device}")
    if runtime == "openvino" and not openvino_available():
        raise ImportError("runtime='openvino' needs OpenVINO: pip install skquee[openvino].")
    if runtime != "auto":
        return (runtime,)
    return tuple(name for name in known if name != "openvino" or openvino_available())


def _build(parts: Parts, engine: str, runtime: str) -> nn.ModuleList:
    ranges, states = dict(parts.ranges), parts.states(2)[:-1]
    if runtime != "openvino":
        built = build_engine(engine, parts.blocks, ranges, states)
        # torchao's int8 product waits for the device, which no graph can record.
        if runtime == "torch" or engine == "int8":
            return built
        return nn.ModuleList(map(GraphedBlock, built, parts.pools, parts.heads))
    exits = list(zip(parts.pools, parts.heads, strict=True))
    return openvino_blocks(engine, parts.blocks, exits, ranges, states)


def _fastest(
    parts: Parts,
    engines: Sequence[str],
    runtimes: Sequence[str],
    n_rows: int,
    images: ImageRows | None,
) -> tuple[dict[str, nn.ModuleList], dict[str, NDArray[np.float64]], dict[str, tuple[str, ...]]]:
    """Return each engine's blocks, their milliseconds and what runs each: the fastest."""
    states = parts.states(n_rows)[:-1]
    if parts.device.type == "cuda" and not has_8_bit_layers(parts.blocks):
        engines = [e for e in engines if BITS[e] > 8]
        if not engines:
            raise ValueError("No linear layer suits 8-bit products here: add 'bf16' to levels.")
    if parts.device.type == "cpu" and "int8" in engines and not parts.ranges:
        warnings.warn(
            "No linear layer or convolution here suits int8 products: int8 is left out.",
            UserWarning,
            stacklevel=3,
        )
        engines = [e for e in engines if e != "int8"]
    built = {(e, r): _build(parts, e, r) for e in engines for r in runtimes}
    # Half precision may overflow where float does not: rather on images than on noise.
    probe = states[0] if images is None else images.tensor().to(parts.device)
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
    runs = {
        f"{engine} {runtime}": [partial(_exit, parts, b, block) for b, block in enumerate(blocks)]
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


def _exit(parts: Parts, number: int, block: nn.Module, state: Tensor) -> None:
    """Run a block and the exit after it, for timing."""
    if isinstance(block, WithExit) and block.exit_head is not None:
        run_with_exit(block, state, None)
        return
    with torch.inference_mode():
        features = parts.pools[number](block(state).float())
        parts.heads[number](features).softmax(dim=1).cpu().numpy()


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


def _check_rows(block: OpenVinoBlock, state: Tensor) -> None:
    """Raise where a row of a batch, or the last one alone, is far from what torch makes of it."""
    expected = block.simulated(state)
    for n in (len(state), 1):
        for most, found, told in zip(MOST_AWAY, block.run(state[-n:]), expected, strict=False):
            told = told[-n:].flatten(1)
            away = (found.flatten(1) - told).norm(dim=1) / told.norm(dim=1).clamp(min=1e-6)
            if not bool((away < most).all()):
                raise ValueError(
                    f"in a batch of {n} it answers otherwise than torch, by {float(away.max()):.2g}"
                )


def _leave_out_what_fails(
    compiled: nn.ModuleList, others: nn.ModuleList | None, states: Sequence[Tensor]
) -> None:
    """Put the other block where one does not compile, or answers a row wrongly.

    2026.4 does so with sums of int8 convolutions without a bias where a graph is for any number of
    rows, and with more rows of T2T-ViT than it has tokens; both without an error.
    """
    failed, reason = [], ""
    for number, state in enumerate(states):
        try:
            block = compiled[number]
            if isinstance(block, OpenVinoBlock):
                _check_rows(block, state)
                if len(state) > 1:
                    block.forget_one()  # it would take memory where no single row ever comes
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
