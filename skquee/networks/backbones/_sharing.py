"""Copies of modules that share their weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Geometry", "copy_sharing_weights", "keep_geometry", "twice"]

Module = TypeVar("Module", bound=nn.Module)

# What layers say of themselves, for code around them that asks.
GEOMETRY = (
    "in_features out_features in_channels out_channels kernel_size stride padding padding_mode "
    "dilation groups"
).split()


@dataclass(frozen=True)
class Geometry:
    """How a convolution goes over its input."""

    stride: tuple[int, int]
    padding: str | tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry:
        """Return that of a layer."""
        padding = layer.padding if isinstance(layer.padding, str) else twice(layer.padding)
        return cls(twice(layer.stride), padding, twice(layer.dilation), layer.groups)

    def conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the convolution of an input (n, channels, height, width)."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def twice(size: int | Sequence[int]) -> tuple[int, int]:
    """Return a size along both axes, given as torch takes it."""
    sizes = (size,) if isinstance(size, int) else size
    return sizes[0], sizes[-1]


def copy_sharing_weights(module: Module) -> Module:
    """Copy a module tree whose parameters and buffers stay those of the original."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


def keep_geometry(layer: nn.Module, replacement: nn.Module) -> None:
    """Give what stands in for a layer the layer's sizes.

    Some networks ask their layers: DaViT pads its maps by ``conv.kernel_size``.
    """
    for name in GEOMETRY:
        if hasattr(layer, name):
            setattr(replacement, name, getattr(layer, name))
