"""Copies of modules that share their weights."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

__all__ = ["copy_sharing_weights"]


def copy_sharing_weights(module: nn.Module) -> Any:
    """Copy a module tree whose parameters and buffers stay those of the original.

    Parameters
    ----------
    module : Module
        The module.

    Returns
    -------
    Module
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)
