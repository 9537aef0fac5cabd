"""A product of two activations, as a module."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["MatMul"]


class MatMul(nn.Module):
    """A product of two activations, as a module so that it can be observed and replaced."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left @ right``."""
        return left @ right
