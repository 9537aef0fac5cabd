"""Grids of values that codes of some bits can hold: uniform, and the twins of PTQ4ViT.

A grid gives whole numbers in units of its finest step, so that a product is taken between
whole numbers and scaled once, as integer hardware does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from skquee.values._types import Json

__all__ = ["GELU_MINIMUM", "GRIDS", "GELUGrid", "Grid", "SoftmaxGrid", "UniformGrid"]

GELU_MINIMUM = 0.16997124254703522  # by how far GELU dips below 0


class Grid(nn.Module, ABC):
    """What grids have in common: the finest step between values, and the bits of a code."""

    options: ClassVar[tuple[str, ...]] = ()  # attributes a description holds beside the bits
    scale: Tensor

    def __init__(self, scale: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("scale", scale)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return ", ".join(f"{key}={getattr(self, key)}" for key in ("bits", *self.options))

    @abstractmethod
    def codes(self, x: Tensor) -> Tensor:
        """Return whole numbers, in units of ``scale``, in the type of `x`."""

    def forward(self, x: Tensor) -> Tensor:
        """Round values to the grid."""
        return self.codes(x).mul_(self.scale)

    def describe(self) -> Json:
        """Return what :meth:`placeholder` needs, as JSON holds it."""
        described = {key: getattr(self, key) for key in ("bits", *self.options)}
        shapes = {name: list(buffer.shape) for name, buffer in self.named_buffers()}
        return {"kind": type(self).__name__, **described, "shapes": shapes}

    @staticmethod
    def placeholder(description: Json) -> Grid:
        """Make a grid as :meth:`describe` described it, to load its buffers into."""
        options = {key: description[key] for key in description if key not in ("kind", "shapes")}
        buffers = {name: torch.ones(shape) for name, shape in description["shapes"].items()}
        return GRIDS[description["kind"]](**buffers, **options)


class UniformGrid(Grid):
    """Uniform quantiser: ``clip(round(x / scale), -2**(bits-1), 2**(bits-1) - 1)``.

    `scale`: step between codes, broadcastable to what is quantised. `bits`: bit width. `signed`:
    whether codes are symmetric about 0, or run from 0 to ``2**bits - 1``, for values that are
    never negative.

    >>> import torch
    >>> from skquee.networks.quantization._grids import UniformGrid
    >>> grid = UniformGrid.over(torch.tensor(3.0), bits=3)
    >>> grid.codes(torch.tensor([-9.0, -1.2, 0.7, 3.0]))
    tensor([-4., -1.,  1.,  3.])
    """

    options = ("signed",)

    def __init__(self, scale: Tensor, bits: int, signed: bool = True) -> None:
        super().__init__(scale, bits)
        self.signed = signed
        self.ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    @classmethod
    def over(cls, largest: Tensor, bits: int) -> UniformGrid:
        """Put the largest code, ``2**(bits-1) - 1``, on the largest value, be it 0."""
        scale = largest.to(torch.float32) / (2 ** (bits - 1) - 1)
        return cls(torch.where(scale > 0, scale, 1.0), bits)

    def codes(self, x: Tensor) -> Tensor:
        """Return whole numbers in the type of `x`."""
        return (x / self.scale).round_().clamp_(*self.ends)

    def stored_codes(self, x: Tensor) -> Tensor:
        """Return codes in the smallest signed integer type: one byte each up to 8 bits."""
        kept = torch.int8 if self.bits <= 8 else torch.int16 if self.bits <= 16 else torch.int32
        return self.codes(x.detach().double()).to(kept)


class SoftmaxGrid(Grid):
    """Twin grid of what a softmax gives: small values on a fine step, large ones on a coarse.

    One bit of a code says which range a value is in, ``bits - 1`` bits where. Values below the
    split ``scale * (2**(bits-1) - 1)`` are multiples of ``scale``, others of ``ratio * scale``
    (section 3.2 of [1]_, in its piecewise form: a value is in one range only).

    Parameters
    ----------
    scale : Tensor
        Step below the split.
    ratio : Tensor
        Coarse step over fine step, a power of two.
    bits : int
        Bit width.

    References
    ----------
    .. [1] Yuan et al. "PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin
       Uniform Quantization." ECCV 2022.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.quantization._grids import SoftmaxGrid
    >>> grid = SoftmaxGrid.split(torch.tensor(0.25), bits=3)  # steps 1/12 and 1/3
    >>> grid.codes(torch.tensor([0.01, 0.1, 0.25, 0.6, 1.0]))
    tensor([ 0.,  1.,  4.,  8., 12.])
    """

    ratio: Tensor

    def __init__(self, scale: Tensor, ratio: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        self.register_buffer("ratio", ratio)
        self._top = 2 ** (bits - 1) - 1

    @classmethod
    def split(cls, at: Tensor, bits: int) -> SoftmaxGrid:
        """Make the grid whose ranges end at a split, a power of two up to 1, and at 1."""
        return cls(at / (2 ** (bits - 1) - 1), 1 / at, bits)

    def codes(self, x: Tensor) -> Tensor:
        """Return whole numbers, in units of the fine step, in the type of `x`, from 0 to 1."""
        fine = x / self.scale
        coarse = (fine / self.ratio).round_().clamp_(0, self._top).mul_(self.ratio)
        return torch.where(fine < self._top, fine.round_().clamp_(min=0), coarse)


class GELUGrid(Grid):
    """Twin grid of what GELU gives: a fine step below 0, a coarse one above.

    One bit of a code says which side a value is on, ``bits - 1`` bits where. Codes are
    ``clip(round(x / scale), -2**(bits-1), 0)`` below 0 and ``ratio`` times
    ``clip(round(x / (ratio * scale)), 0, 2**(bits-1) - 1)`` above (section 3.2 of PTQ4ViT).

    `scale`: step below 0. `ratio`: step above 0 over step below, a power of two. `bits`: bit
    width.

    >>> import torch
    >>> from skquee.networks.quantization._grids import GELUGrid
    >>> grid = GELUGrid.above(torch.tensor(0.5), bits=3)
    >>> float(grid.scale)
    0.0625
    >>> grid(torch.tensor([-0.17, -0.1, 0.1, 0.7, 9.0]))
    tensor([-0.1875, -0.1250,  0.0000,  0.5000,  1.5000])
    """

    ratio: Tensor

    def __init__(self, scale: Tensor, ratio: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        self.register_buffer("ratio", ratio)
        self._half = 2 ** (bits - 1)

    @classmethod
    def above(cls, step: Tensor, bits: int) -> GELUGrid:
        """Make the grid of a step above 0; the step below just covers GELU's minimum."""
        power = torch.floor(torch.log2(step) + (bits - 1) - math.log2(GELU_MINIMUM))
        ratio = torch.exp2(power.clamp_(min=0))
        return cls(step / ratio, ratio, bits)

    def codes(self, x: Tensor) -> Tensor:
        """Return whole numbers, in units of the step below 0, in the type of `x`."""
        fine = x / self.scale
        coarse = (fine / self.ratio).round_().clamp_(0, self._half - 1).mul_(self.ratio)
        return coarse.add_(fine.round_().clamp_(-self._half, 0))


GRIDS: dict[str, Callable[..., Grid]] = {
    grid.__name__: grid for grid in (UniformGrid, SoftmaxGrid, GELUGrid)
}
