"""Blocks on a GPU: 8-bit linear layers by torchao, and whole blocks replayed as CUDA graphs."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["GraphedBlock", "cuda_engines", "torchao_available", "with_8_bits"]

# Kernels of 8-bit products take these multiples of columns.
MULTIPLE = 16

Capture = Callable[[nn.Module, Tensor], tuple[Callable[[], None], Tensor]]


def torchao_available() -> bool:
    """Tell whether torchao is installed.

    Returns
    -------
    bool
    """
    return importlib.util.find_spec("torchao") is not None


def cuda_engines(capability: tuple[int, int], torchao: bool) -> tuple[str, ...]:
    """Return the engines a GPU has kernels for, cheapest first.

    Parameters
    ----------
    capability : (int, int)
        Of ``torch.cuda.get_device_capability``.
    torchao : bool
        Whether torchao is at hand.

    Returns
    -------
    tuple of str
    """
    ampere, ada = capability >= (8, 0), capability >= (8, 9)
    has = {"int8": torchao and ampere, "fp8": torchao and ada, "fp16": True, "bf16": ampere}
    return (*(engine for engine, there in has.items() if there), "fp32")


def with_8_bits(blocks: nn.ModuleList, engine: str) -> nn.ModuleList:
    """Return blocks in bfloat16 whose linear layers multiply 8-bit numbers.

    A scale for each row of the input, found as it comes, and one for each output's weights.

    Parameters
    ----------
    blocks : ModuleList
        In float; not changed.
    engine : {"int8", "fp8"}
        Type of the numbers.

    Returns
    -------
    ModuleList
    """
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
        quantize_,
    )

    if engine == "int8":
        config = Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    else:
        config = Float8DynamicActivationFloat8WeightConfig(
            granularity=PerRow(), set_inductor_config=False
        )
    half = copy.deepcopy(blocks).to(torch.bfloat16)
    quantize_(half, config, filter_fn=_fits)
    return half


def _fits(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and not (
        module.in_features % MULTIPLE or module.out_features % MULTIPLE
    )


def capture(block: nn.Module, static: Tensor) -> tuple[Callable[[], None], Tensor]:
    """Record what a block does to a tensor as a CUDA graph.

    Parameters
    ----------
    block : Module
        On a GPU.
    static : Tensor
        Input; fill it anew before each replay.

    Returns
    -------
    replay : callable
        Runs the block.
    answer : Tensor
        What it fills.
    """
    beside = torch.cuda.Stream(device=static.device)
    beside.wait_stream(torch.cuda.current_stream(static.device))
    with torch.cuda.stream(beside):  # kernels are chosen and loaded before they are recorded
        for _ in range(3):
            block(static)
    torch.cuda.current_stream(static.device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = block(static)
    return graph.replay, answer


class GraphedBlock(nn.Module):
    """A block replayed as a CUDA graph: one launch in place of one for each of its kernels.

    Rows are filled up to a power of two, so that few graphs serve all numbers of rows.

    Parameters
    ----------
    block : Module
        On a GPU.
    capture : callable, default=capture
        Records a block; a test's own where there is no GPU.
    """

    def __init__(self, block: nn.Module, capture: Capture = capture) -> None:
        super().__init__()
        self.block = block
        self._capture = capture
        self._graphs: dict[Any, tuple[Tensor, Callable[[], None], Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_graphs": {}}  # recorded anew where they are needed

    def forward(self, state: Tensor) -> Tensor:
        """Run the block.

        Parameters
        ----------
        state : Tensor of shape (n, ...)
            Input.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        n = len(state)
        size = 1 << (n - 1).bit_length()
        key = (size, *state.shape[1:], state.dtype)
        if key not in self._graphs:
            static = state[-1:].repeat(size, *(1 for _ in state.shape[1:]))
            self._graphs[key] = (static, *self._capture(self.block, static))
        static, replay, answer = self._graphs[key]
        static[:n].copy_(state)
        replay()
        # The next replay fills the same memory.
        return answer[:n].clone()
