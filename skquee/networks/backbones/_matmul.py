"""A product of two activations, as a module."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["MatMul"]


class MatMul(nn.Module):
    """A product of two activations, as a module so that it can be observed and replaced.

    Products by ``@`` and other functions are found and quantised, too; this one has a name.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks import MatMul
    >>> MatMul()(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [3., 4.]])
    """

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left @ right``."""
        return left @ right
