"""How many multiplications of blocks run at which width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from skquee.networks.quantization._operations import (
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedMatMul,
)

__all__ = ["counted", "multiplications"]


def multiplications(blocks: Iterable[nn.Module], image: Tensor) -> list[Counter[int]]:
    """Run quantised blocks on one image, and count the multiplications of each width.

    `blocks`: a level of a quantiser's ``quantize``. `image` (1, C, H, W): any image. Returns of
    each block: bits to multiplications. Those in float are not counted.
    """

    def width(name: str, module: nn.Module) -> int | None:
        if isinstance(module, (QuantizedLinear, QuantizedConv2d)):
            return module.bits
        return module.left.bits if isinstance(module, QuantizedMatMul) else None

    return counted(blocks, image, width)


def counted(
    blocks: Iterable[nn.Module], image: Tensor, width: Callable[[str, nn.Module], int | None]
) -> list[Counter[int]]:
    """Run blocks on one image, and count the multiplications of some layers.

    `blocks`: each takes what the one before gives. `image` (1, C, H, W): any image. `width`: bits
    of a layer by its name, with the block's number first, and itself; None for one that is not to
    be counted. Returns of each block: bits to multiplications.
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
        try:
            with torch.inference_mode():
                state = block(state)
        finally:
            for handle in handles:
                handle.remove()
        found.append(counts)
    return found


def _counting(counts: Counter[int], bits: int) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        weight: Any = getattr(module, "codes", None)
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            weight = module.weight
        terms = inputs[0].shape[-1] if weight is None else weight[0].numel()
        counts[bits] += out.numel() * terms

    return hook
