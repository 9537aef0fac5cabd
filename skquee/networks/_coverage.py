"""Which share of a network's multiplications runs at which width."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skquee.networks._costs import FLOAT_BITS, count_flops
from skquee.networks.engines import BITS
from skquee.networks.engines._int8 import suits_int8
from skquee.networks.quantization._coverage import counted, multiplications

if TYPE_CHECKING:
    from skquee.networks._parts import Level, Parts

__all__ = ["mean_bits", "widths_of"]

Shares = dict[int, float]


def widths_of(parts: Parts) -> dict[Level, list[Shares]]:
    """Run each level on one image, and count what multiplies at which width.

    Parameters
    ----------
    parts : Parts
        A fitted network.

    Returns
    -------
    dict of level to list of dict
        Of each block: bits to the share of its multiplications; they sum to 1.
    """
    generator = torch.Generator().manual_seed(0)
    # One that takes images of any size is asked at 64 pixels.
    shape = (1, parts.format.channels, *(parts.format.size or (64, 64)))
    image = torch.randn(shape, generator=generator).to(parts.device)
    totals = count_flops(parts.blocks, image) / 2
    whole = [{} if total else {FLOAT_BITS: 1.0} for total in totals]

    def width(name: str, module: nn.Module) -> int | None:
        covered = isinstance(module, nn.Linear) if image.is_cuda else name in parts.ranges
        return 8 if covered and suits_int8(module) else None

    found: dict[Level, list[Shares]] = {}
    for level, blocks in parts.levels.items():
        bits, rest = BITS[level] if isinstance(level, str) else level, FLOAT_BITS
        if bits == FLOAT_BITS:
            counts = [Counter[int]() for _ in blocks]
        elif isinstance(level, int):
            counts = multiplications(blocks, image)
            if not any(counts):  # by a quantiser that is not ours, taken at its word
                counts = [Counter({level: total}) for total in totals]
        elif bits == 8:
            counts = counted(parts.blocks, image, width)
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


def mean_bits(parts: Parts, level: int, *, power: int = 1) -> NDArray[np.float64]:
    """Return the bits of a level: of each block, the mean over its multiplications.

    Parameters
    ----------
    parts : Parts
        A fitted network.
    level : int
        One of its levels.
    power : int, default=1
        2 for the root of the mean square: bits of weights times those of activations.

    Returns
    -------
    ndarray of shape (n_exits,)
        Those of the level itself where it quantises all, or where there is nothing to.
    """
    found = np.full(len(parts.blocks), float(level))
    for block, shares in enumerate(parts.widths[level]):
        if parts.flops[block] and set(shares) != {level}:
            mean = sum(share * bits**power for bits, share in shares.items())
            found[block] = mean ** (1 / power)
    return found
