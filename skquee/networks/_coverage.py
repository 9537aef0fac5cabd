"""Which share of a network's multiplications runs at which width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skquee.networks._costs import FLOAT_BITS, count_flops
from skquee.networks.backbones._calls import hooked
from skquee.networks.backbones._types import Level, Ranges
from skquee.networks.engines import BITS
from skquee.networks.engines._int8 import suits_int8
from skquee.networks.quantization._operations import (
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedMatMul,
)

__all__ = ["Shares", "mean_bits", "multiplications", "widths_of"]

#: Bits to a share of multiplications.
Shares: TypeAlias = dict[int, float]
#: Bits of a layer by its name, with the block's number first; None for one that is not counted.
Width: TypeAlias = Callable[[str, nn.Module], int | None]


def widths_of(
    blocks: nn.ModuleList,
    levels: Mapping[Level, nn.ModuleList],
    image: Tensor,
    ranges: Ranges,
) -> dict[Level, list[Shares]]:
    """Run each level on one image, and count what multiplies at which width.

    `blocks`: in float. `levels`: the blocks at each. `image` (1, C, H, W): any. `ranges`: by the
    names of layers that engines of int8 have a scale for. Returns of each block: bits to the share
    of its multiplications; they sum to 1.
    """
    totals = count_flops(blocks, image) / 2
    whole = [{} if total else {FLOAT_BITS: 1.0} for total in totals]

    def width(name: str, module: nn.Module) -> int | None:
        covered = isinstance(module, nn.Linear) if image.is_cuda else name in ranges
        return 8 if covered and suits_int8(module) else None

    found: dict[Level, list[Shares]] = {}
    for level, own in levels.items():
        bits, rest = BITS[level] if isinstance(level, str) else level, FLOAT_BITS
        if bits == FLOAT_BITS:
            counts = [Counter[int]() for _ in own]
        elif isinstance(level, int):
            counts = multiplications(own, image)
            if not any(counts):  # by a quantiser that is not ours, taken at its word
                counts = [Counter({level: total}) for total in totals]
        elif bits == 8:
            counts = multiplications(blocks, image, width)
            rest = BITS["bf16"] if image.is_cuda else FLOAT_BITS
        else:
            counts = [Counter({bits: total}) for total in totals]
        found[level] = [
            _shares(count, total, rest) or empty
            for count, total, empty in zip(counts, totals, whole, strict=True)
        ]
    return found


def _shares(count: Counter[int], total: float, rest: int) -> Shares:
    if not total:
        return {}
    shares = {bits: min(1.0, n / total) for bits, n in sorted(count.items())}
    left = 1.0 - sum(shares.values())
    return {**shares, rest: left} if left > 0 else shares


def _quantised(name: str, module: nn.Module) -> int | None:
    if isinstance(module, (QuantizedLinear, QuantizedConv2d)):
        return module.bits
    return module.left.bits if isinstance(module, QuantizedMatMul) else None


def multiplications(
    blocks: Iterable[nn.Module], image: Tensor, width: Width = _quantised
) -> list[Counter[int]]:
    """Run blocks on one image, and count the multiplications of layers at each width.

    `image` (1, C, H, W): any. `width`: by default that of quantised layers. Returns of each block:
    bits to multiplications. Those in float are not counted.
    """
    found: list[Counter[int]] = []
    state = image
    for number, block in enumerate(blocks):
        counts: Counter[int] = Counter()
        handles = [
            module.register_forward_hook(_counting(counts, bits))
            for name, module in block.named_modules()
            if (bits := width(f"{number}.{name}", module)) is not None
        ]
        with hooked(handles), torch.inference_mode():
            state = block(state)
        found.append(counts)
    return found


def _counting(counts: Counter[int], bits: int) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(module, (QuantizedLinear, QuantizedConv2d)):
            terms = module.codes[0].numel()
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            terms = module.weight[0].numel()
        else:
            terms = inputs[0].shape[-1]
        counts[bits] += out.numel() * terms

    return hook


def mean_bits(
    level: int, widths: Sequence[Shares], flops: NDArray[np.int64], *, power: int = 1
) -> NDArray[np.float64]:
    """Return the bits of a level: of each block, the mean over its multiplications.

    `level`: a bit width. `widths`: of each block, as :func:`widths_of` gives them. `flops`
    (n_exits,): of each block. `power`: 2 for the root of the mean square: bits of weights times
    those of activations. Returns (n_exits,): those of the level itself where it quantises all, or
    where there is nothing to.
    """
    found = np.full(len(flops), float(level))
    for block, shares in enumerate(widths):
        if flops[block] and set(shares) != {level}:
            mean = sum(share * bits**power for bits, share in shares.items())
            found[block] = mean ** (1 / power)
    return found
