"""The engines a block can run on, and which of them pay on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.backbones._types import Ranges
from skquee.networks.engines._cuda import cuda_engines, torchao_available, with_8_bits
from skquee.networks.engines._folding import norms_to_fold
from skquee.networks.engines._int8 import int8_available, to_int8
from skquee.values._checks import check_sequence

__all__ = [
    "BITS",
    "ENGINES",
    "Cast",
    "build_engine",
    "check_engines",
    "device_engines",
    "time_blocks",
]

# Cheapest first, as a tree of paths wants its levels.
ENGINES = ("int8", "fp8", "fp16", "bf16", "fp32")
BITS = {"int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32}
ROUNDS = 7
ROUND_SECONDS = 0.02  # all blocks run again within a round until it has lasted so long
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Cast(nn.Module):
    """A block that runs in a type of its own, whatever the state comes in."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.block = block
        self.dtype = dtype

    def forward(self, state: Tensor) -> Tensor:
        """Run the block; a state is cast only where its type is another."""
        return self.block(state.to(self.dtype))


def device_engines(device: torch.device) -> tuple[str, ...]:
    """Return what a device runs without emulation, cheapest first."""
    if device.type == "cuda":
        return cuda_engines(torch.cuda.get_device_capability(device), torchao_available())
    # A CPU has no products of float16; int8 ones are oneDNN's, where they are right.
    whole = device.type == "cpu" and int8_available()
    return ("int8", "bf16", "fp32") if whole else ("bf16", "fp32")


def check_engines(levels: Sequence[str] | None, runs: Sequence[str]) -> tuple[str, ...]:
    """Return engines in the order of their cost, by default all that the device `runs`.

    Raises ValueError if one is unknown, named twice or not for this device, or there is none.
    """
    if levels is None:
        return tuple(runs)
    named = [levels] if isinstance(levels, str) else levels
    given = check_sequence(named, "levels", f"engines, of {ENGINES}")
    known = all(isinstance(engine, str) and engine in ENGINES for engine in given)
    if not given or not known or len(set(given)) != len(given):
        raise ValueError(f"levels must be distinct, of {ENGINES}, got {tuple(given)}.")
    if not set(given) <= set(runs):
        extra = sorted(set(given) - set(runs))
        raise ValueError(
            f"{extra} do not run on this device, which has {tuple(runs)}: leave them out. (8 bits "
            "on a GPU need torchao and torch from 2.11: pip install skquee[cuda]; on a CPU int8 "
            "products of oneDNN that do not overflow, of which none was found here.)"
        )
    return tuple(engine for engine in ENGINES if engine in given)


def build_engine(
    engine: str, blocks: nn.ModuleList, ranges: Ranges, states: Sequence[Tensor] | None = None
) -> nn.ModuleList:
    """Return blocks on an engine.

    `engine`: of ENGINES. `blocks`: in float; not changed. fp32 shares its weights, bf16 and fp16
    take half as much again, int8 a quarter. `ranges`: of the inputs of linear layers and
    convolutions, for int8 on a CPU. `states`: some input of each block, for int8 on a CPU: they
    run once, to see which batch normalisations to fold into convolutions. Default: none is folded.
    """
    if engine == "fp32":
        return nn.ModuleList(Cast(block, torch.float32) for block in blocks)
    if engine in HALF:
        half = copy.deepcopy(blocks).to(HALF[engine])
        return nn.ModuleList(Cast(block, HALF[engine]) for block in half)
    if next(blocks.parameters()).is_cuda:
        return nn.ModuleList(Cast(b, torch.bfloat16) for b in with_8_bits(blocks, engine))
    if not int8_available():
        raise RuntimeError("There are no int8 products of oneDNN here, or they overflow.")
    norms = [{}] * len(blocks) if states is None else map(norms_to_fold, blocks, states)
    return nn.ModuleList(
        Cast(to_int8(copy_sharing_weights(block), ranges, f"{number}.", fold), torch.float32)
        for number, (block, fold) in enumerate(zip(blocks, norms, strict=False))
    )


def time_blocks(
    runs: Mapping[str, Sequence[Callable[[Tensor], object]]],
    states: Sequence[Tensor],
) -> dict[str, NDArray[np.float64]]:
    """Time blocks on several engines, turn by turn so that all meet the same machine.

    `runs`: for each engine its blocks. `states`: input of each block. Returns (n_blocks,):
    milliseconds of one run of each block, the median of some rounds.
    """
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in runs}
    # A GPU works on after a call has returned.
    wait = torch.cuda.synchronize if states[0].is_cuda else _nothing
    with torch.inference_mode():
        for round_ in range(ROUNDS + 1):
            for name, blocks in runs.items():
                spent, n_runs = np.zeros(len(states)), 0
                # Block after block, as in use: none finds its weights in the cache.
                while n_runs == 0 or spent.sum() < ROUND_SECONDS:
                    for number, (block, state) in enumerate(zip(blocks, states, strict=True)):
                        wait()
                        began = time.perf_counter()
                        block(state)
                        wait()
                        spent[number] += time.perf_counter() - began
                    n_runs += 1
                if round_:  # the first one warms up
                    found[name].append(1000 * spent / n_runs)
    return {name: np.median(times, axis=0) for name, times in found.items()}


def _nothing() -> None:
    """Wait for nothing: a CPU is done when a call returns."""
