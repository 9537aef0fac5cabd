"""Copies of modules that share their weights."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

__all__ = ["copy_sharing_weights", "keep_geometry"]

# What layers say of themselves, for code around them that asks.
GEOMETRY = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "padding_mode",
    "dilation",
    "groups",
)


def copy_sharing_weights(module: nn.Module) -> Any:
    """Copy a module tree whose parameters and buffers stay those of the original.

    `module`: the module.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


def keep_geometry(layer: nn.Module, replacement: nn.Module) -> None:
    """Give what stands in for a layer the layer's sizes.

    Some networks ask their layers: DaViT pads its maps by ``conv.kernel_size``.

    `layer`: the layer. `replacement`: gets its ``in_features``, ``kernel_size``, ``stride`` and
    the like.
    """
    for name in GEOMETRY:
        if hasattr(layer, name):
            setattr(replacement, name, getattr(layer, name))
