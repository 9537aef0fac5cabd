"""Blocks on a GPU: 8-bit linear layers by torchao, and whole blocks replayed as CUDA graphs."""

from __future__ import annotations

import copy
import importlib.util
import threading
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from skquee.networks.engines._with_exit import WithExit

__all__ = ["GraphedBlock", "cuda_engines", "has_8_bit_layers", "torchao_available", "with_8_bits"]

# What torchao 0.18, the oldest that we take, asks for.
TORCH_OF_TORCHAO = (2, 11)

# Kernels of 8-bit products take these multiples of columns.
MULTIPLE = 16

# With more rows than that, launching kernels is no longer what takes the time.
MOST = 512

Run = Callable[[Tensor], list[Tensor]]
Capture = Callable[[Run, Tensor], tuple[Callable[[], None], list[Tensor]]]


class _Shared:
    """What the graphs of a device, the current one, share.

    A stream to warm up on, one to record on, the memory that graphs need between their kernels
    (one replays at a time), and a graph that keeps it: torch takes no memory up again that had no
    graph left. On a stream where products have run, a graph would take over their workspace, which
    others may clear: graphs then crashed.
    """

    def __init__(self, device: torch.device) -> None:
        self.beside, self.recording = torch.cuda.Stream(), torch.cuda.Stream()
        self.pool, self.first = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.first, pool=self.pool, stream=self.recording):
            torch.zeros(1, device=device)


_shared_on = cache(_Shared)


def torchao_available() -> bool:
    """Tell whether torchao is installed, and torch new enough for it."""
    version = tuple(int(number) for number in torch.__version__.split(".")[:2])
    return version >= TORCH_OF_TORCHAO and importlib.util.find_spec("torchao") is not None


def cuda_engines(capability: tuple[int, int], torchao: bool) -> tuple[str, ...]:
    """Return the engines a GPU of some capability has kernels for, cheapest first."""
    ampere, ada = capability >= (8, 0), capability >= (8, 9)
    has = {"int8": torchao and ampere, "fp8": torchao and ada, "fp16": True, "bf16": ampere}
    return (*(engine for engine, there in has.items() if there), "fp32")


def with_8_bits(blocks: nn.ModuleList, engine: str) -> nn.ModuleList:
    """Return blocks in bfloat16 whose linear layers multiply 8-bit numbers.

    A scale for each row of the input, found as it comes, and one for each output's weights. None
    of the steps is fused with another, which makes them slower than bfloat16 on an H200.

    `blocks`: in float; not changed. `engine` {"int8", "fp8"}: type of the numbers.
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


def capture(run: Run, static: Tensor) -> tuple[Callable[[], None], list[Tensor]]:
    """Record what is done to a tensor as a CUDA graph.

    `static`: input; fill it anew before each replay. Returns what does it again, and what it fills.
    """
    device = static.device
    with torch.cuda.device(device):
        shared = _shared_on(device)
        shared.beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            shared.beside
        ):  # kernels are chosen and loaded before they are recorded
            for _ in range(3):
                run(static)
        torch.cuda.current_stream().wait_stream(shared.beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=shared.pool, stream=shared.recording):
            answers = run(static)
    return graph.replay, answers


def has_8_bit_layers(blocks: nn.ModuleList) -> bool:
    """Tell whether some layer of float blocks suits 8-bit products."""
    return any(_fits(module, name) for name, module in blocks.named_modules())


def filled(n_rows: int) -> int:
    """Return how many rows a graph is recorded for, to serve a number of rows.

    `n_rows`: at least 1. Returns a power of two up to 64, where a GPU takes as long for fewer;
    beyond, four steps an octave.

    >>> from skquee.networks.engines._cuda import filled
    >>> [filled(n) for n in (1, 3, 64, 65, 100, 130, 256)]
    [1, 4, 64, 80, 112, 160, 256]
    """
    power: int = 1 << (n_rows - 1).bit_length()
    step = power // 8 if power > 64 else power
    return -(-n_rows // step) * step


class GraphedBlock(WithExit):
    """A block replayed as a CUDA graph: one launch in place of one for each of its kernels.

    Rows are filled up to one of few numbers, so that few graphs serve all; more than 512 rows
    keep a GPU busy without a graph, and run as they are. A number of rows that is new takes
    some milliseconds more, once.

    `block`: on a GPU. `pool`, `head`: the exit after it, recorded in a graph with it for
    :meth:`run`. Shared. `capture`: records what is run; a test's own where there is no GPU.
    """

    def __init__(
        self,
        block: nn.Module,
        pool: nn.Module | None = None,
        head: nn.Module | None = None,
        *,
        capture: Capture = capture,
    ) -> None:
        super().__init__()
        self.block = block
        # In a list: the exit is not this block's own.
        self._exit = [pool, head]
        self._capture = capture
        self._reset()

    _compiled = ("_graphs", "_lock")

    def _reset(self) -> None:
        self._graphs: dict[tuple[object, ...], tuple[Tensor, Callable[[], None], list[Tensor]]] = {}
        self._lock = threading.Lock()

    @property
    def exit_head(self) -> nn.Module | None:
        """The head that is recorded with the block."""
        return self._exit[1]

    def forward(self, state: Tensor) -> Tensor:
        """Return what the block makes of a state (n, ...)."""
        return self._replayed(self._alone, state)[0]

    def run(self, state: Tensor) -> list[Tensor]:
        return self._replayed(self._with_exit, state)

    def _alone(self, state: Tensor) -> list[Tensor]:
        return [self.block(state)]

    def _with_exit(self, state: Tensor) -> list[Tensor]:
        pool, head = self._exit
        assert pool is not None and head is not None
        state = self.block(state)
        return [state, head(pool(state.float())).softmax(dim=1)]

    def _replayed(self, run: Run, state: Tensor) -> list[Tensor]:
        n = len(state)
        if not 1 <= n <= MOST:
            return run(state)
        size = filled(n)
        key = (run.__name__, size, *state.shape[1:], state.dtype)
        with self._lock:  # the memory between copying, replaying and copying is one caller's
            if key not in self._graphs:
                static = state[-1:].repeat(size, *(1 for _ in state.shape[1:]))
                self._graphs[key] = (static, *self._capture(run, static))
            static, replay, answers = self._graphs[key]
            static[:n].copy_(state)
            replay()
            # The next replay fills the same memory.
            return [answer[:n].clone() for answer in answers]
