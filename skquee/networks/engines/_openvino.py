"""Blocks compiled by OpenVINO, where it is installed: fused kernels, exit and all."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skquee.networks.backbones._sharing import Geometry, copy_sharing_weights, keep_geometry
from skquee.networks.backbones._types import Range, Ranges
from skquee.networks.engines._folding import norms_to_fold
from skquee.networks.engines._int8 import CODES, folded, grid, replace_layers, weight_scales
from skquee.networks.engines._with_exit import WithExit

__all__ = [
    "FakeInt8Linear",
    "OpenVinoBlock",
    "import_openvino",
    "openvino_available",
    "openvino_blocks",
]

KEPT_ROWS = 8  # runs of more give back the memory between layers; fewer would be slowed by it
# So many rows of convolutions run one by one: a graph for any number of rows plans anew for each
# number, which takes longer than what they share. Linear layers share more.
FEW_ROWS = 3
TOP = 127  # of the signed weights that OpenVINO looks for
PRECISION = {"int8": "f32", "bf16": "bf16", "fp32": "f32"}


def openvino_available() -> bool:
    """Tell whether OpenVINO is installed (``pip install skquee[openvino]``)."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """Import OpenVINO without its reports of usage, which it sends unasked."""
    if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
        # None makes an import fail: OpenVINO does without it.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules["openvino_telemetry"]
    return importlib.import_module("openvino")


class _FakeInt8(nn.Module):
    """The rounding of an int8 layer, computed in float."""

    weight: Tensor
    weight_scale: Tensor
    zeros: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, span: Range) -> None:
        super().__init__()
        self.scale, self.zero = grid(span)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("weight_scale", weight_scales(weight))
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))

    def rounded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return an input and the weight on their grids."""
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, CODES)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.weight_scale, self.zeros, 0, -TOP, TOP
        )
        return x, weight


class FakeInt8Linear(_FakeInt8):
    """A linear layer with the codes of :class:`Int8Linear`, computed in float.

    OpenVINO recognises it and runs int8 products; torch runs it as a simulation. A value half
    way between two codes goes to the even one.

    `linear`: in float; shared. `span`: range of its input.
    """

    def __init__(self, linear: nn.Linear, span: Range) -> None:
        bias = None if linear.bias is None else linear.bias.detach()
        super().__init__(linear.weight.detach(), bias, span)
        keep_geometry(linear, self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer (..., n_out)."""
        return F.linear(*self.rounded(x), self.bias)


class FakeInt8Conv2d(_FakeInt8):
    """A convolution with the codes of :class:`Int8Conv2d`, computed in float.

    `convolution`: in float, padded with zeros. `span`: range of its input. `norm`: what follows
    it, in evaluation: folded in.
    """

    def __init__(
        self, convolution: nn.Conv2d, span: Range, norm: nn.BatchNorm2d | None = None
    ) -> None:
        super().__init__(*folded(convolution, norm), span)
        keep_geometry(convolution, self)
        self.geometry = Geometry.of(convolution)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer (n, n_out, height, width)."""
        return self.geometry.conv2d(*self.rounded(x), self.bias)


class _WithExit(nn.Module):
    """A block that answers, too: state and probabilities."""

    def __init__(self, block: nn.Module, pool: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.block, self.pool, self.head = block, pool, head

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.block(state)
        return state, self.head(self.pool(state)).softmax(dim=1)


def openvino_blocks(
    engine: str,
    blocks: nn.ModuleList,
    exits: Sequence[tuple[nn.Module, nn.Module]],
    ranges: Ranges,
    states: Sequence[Tensor],
) -> nn.ModuleList:
    """Return blocks on an engine, to be compiled by OpenVINO when they first run.

    `engine` {"int8", "bf16", "fp32"}: kernels. `blocks`: in float; not changed. `exits`: pool and
    head after each block. `ranges`: of :func:`input_ranges`. `states`: input of each block.
    """
    made = []
    for number, (block, (pool, head), state) in enumerate(zip(blocks, exits, states, strict=True)):
        prefix = f"{number}."
        own = {k.removeprefix(prefix): v for k, v in ranges.items() if k.startswith(prefix)}
        made.append(OpenVinoBlock(engine, block, pool, head, own, state))
    return nn.ModuleList(made)


class _Any:
    """A compiled graph for any number of rows. `widths`: shapes of a row's answers."""

    def __init__(self, request: Any, widths: Sequence[tuple[int, ...]]) -> None:
        self.request, self.widths = request, widths

    def __call__(self, state: Tensor) -> list[Tensor]:
        given = state.detach().float().contiguous()
        made = [torch.empty((len(given), *width)) for width in self.widths]
        # Both sides use the same memory: nothing is copied, and nothing keeps it alive for a
        # request that would be run again without being given some.
        self.request.set_input_tensor(_shared(given.numpy()))
        for number, tensor in enumerate(made):
            self.request.set_output_tensor(number, _shared(tensor.numpy()))
        self.request.infer(share_outputs=True)
        if len(given) > KEPT_ROWS:
            # What stands between layers, four times a network's weights for 64 images, would
            # else be kept for each block of each level.
            self.request.get_compiled_model().release_memory()
        return made


class _One:
    """A compiled graph of one row, which reads it and answers at the same places every time.

    `shape`: of a row. `widths`: shapes of its answers.
    """

    def __init__(
        self, request: Any, shape: Sequence[int], widths: Sequence[tuple[int, ...]]
    ) -> None:
        self.request = request
        self.row, *self.made = (np.zeros((1, *size), np.float32) for size in (shape, *widths))
        request.set_input_tensor(_shared(self.row))
        for number, array in enumerate(self.made):
            request.set_output_tensor(number, _shared(array))

    def __call__(self, state: Tensor) -> list[Tensor]:
        self.row[:] = state.detach().float().numpy()
        self.request.infer(share_outputs=True)
        return [torch.from_numpy(array.copy()) for array in self.made]


def _shared(array: NDArray[np.float32]) -> Any:
    return import_openvino().Tensor(array, shared_memory=True)


class OpenVinoBlock(WithExit):
    """A block on one engine, compiled by OpenVINO with the exit after it.

    It is compiled when it first runs, and again where the number of torch's threads has
    changed; a number of rows that it has not met yet takes some ten milliseconds more once. A
    single row has a graph of its own, compiled when the first one comes.

    `engine` {"int8", "bf16", "fp32"}: kernels. int8: layers with the scales of
    :class:`Int8Linear`. `block`, `pool`, `head`: in float; not changed. `head` maps what `pool`
    makes to logits. `ranges`: of the inputs of layers, by their name in `block`. `sample` (n,
    ...): some input.
    """

    def __init__(
        self,
        engine: str,
        block: nn.Module,
        pool: nn.Module,
        head: nn.Module,
        ranges: Ranges,
        sample: Tensor,
    ) -> None:
        super().__init__()
        self.engine = engine
        # In a list: the float modules are not this one's own.
        self._source = [block, pool, head]
        self._ranges = dict(ranges)
        self._sample = sample[:2].detach().float().clone()
        weights = [m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d)]
        total = sum(parameter.numel() for parameter in block.parameters())
        self.few = FEW_ROWS if 2 * sum(weights) > total else 1
        self._reset()

    _compiled = ("_graphs", "_lock")

    def _reset(self) -> None:
        self._graphs: dict[tuple[int, bool], _Any | _One] = {}
        self._lock = threading.Lock()

    @property
    def exit_head(self) -> nn.Module | None:
        """The head that is compiled with the block; None for bf16, too coarse for logits."""
        return None if self.engine == "bf16" else self._source[2]

    def run(self, state: Tensor) -> list[Tensor]:
        with self._lock:
            if not 1 <= len(state) <= self.few:
                return self._graph(one=False)(state)
            graph = self._graph(one=True)
            if len(state) == 1:
                return graph(state)
            rows = [graph(state[row : row + 1]) for row in range(len(state))]
            return [torch.cat(parts) for parts in zip(*rows, strict=True)]

    def forget_one(self) -> None:
        """Give back the graph of a single row, until the next one comes."""
        with self._lock:
            self._graphs = {key: graph for key, graph in self._graphs.items() if not key[1]}

    def _graph(self, *, one: bool) -> _Any | _One:
        threads = torch.get_num_threads()
        if (threads, one) not in self._graphs:
            openvino = import_openvino()
            model, widths = self._convert(1 if one else -1)
            options = {
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": PRECISION[self.engine],
                "NUM_STREAMS": 1,
                # Else two threads of a core with two count as one.
                "ENABLE_HYPER_THREADING": True,
            }
            try:
                compiled = openvino.Core().compile_model(model, "CPU", options)
            except RuntimeError:
                if not one:
                    raise
                # 2026.4 compiles some graphs, as XCiT's in int8, for any number of rows only.
                self.few = 0
                return self._graph(one=False)
            request = compiled.create_infer_request()
            shape = self._sample.shape[1:]
            made = _One(request, shape, widths) if one else _Any(request, widths)
            kept = {key: graph for key, graph in self._graphs.items() if key[0] == threads}
            self._graphs = {**kept, (threads, one): made}
        return self._graphs[threads, one]

    def simulated(self, state: Tensor) -> list[Tensor]:
        """Return what ``run`` should, computed by torch: int8 is rounded to its codes in float."""
        with torch.inference_mode():
            out = self._module()(state)
        return [out] if isinstance(out, Tensor) else list(out)

    def _module(self) -> nn.Module:
        """Return what is compiled."""
        # It reads the float weights where they are, and keeps them alive.
        block, pool, head = copy_sharing_weights(nn.ModuleList(self._source))
        if self.engine == "int8":
            norms = norms_to_fold(block, self._sample)
            layers = FakeInt8Linear, FakeInt8Conv2d
            replace_layers(block, self._ranges, *layers, norms=norms)
        return block if self.exit_head is None else _WithExit(block, pool, head)

    def _convert(self, n_rows: int) -> tuple[Any, list[tuple[int, ...]]]:
        """Return the model for so many rows, -1 for any, and the shapes of a row's answers."""
        openvino = import_openvino()
        module = self._module()
        with torch.no_grad(), warnings.catch_warnings():
            # Tracing, by which it reads modules, warns of shapes that it takes as fixed. Checked by
            # a second run, as it is by default, a trace is never given back: in int8 more than the
            # weights take.
            warnings.simplefilter("ignore")
            out = module(self._sample)
            made = [out] if isinstance(out, Tensor) else out
            model = openvino.convert_model(
                torch.jit.trace(module, self._sample, strict=False, check_trace=False),
                example_input=self._sample,
                input=openvino.PartialShape([n_rows, *self._sample.shape[1:]]),
            )
            return model, [tuple(tensor.shape[1:]) for tensor in made]

    def extra_repr(self) -> str:
        """Return what the block runs on."""
        return f"{self.engine} by OpenVINO"
