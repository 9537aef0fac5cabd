"""The operations a quantiser replaces: linear layers, convolutions, attention products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.backbones._sharing import copy_sharing_weights

__all__ = [
    "QuantizedConv2d",
    "QuantizedLinear",
    "QuantizedMatMul",
    "UniformGrid",
    "explicit_copy",
    "operations",
]


class ExplicitAttention(nn.Module):
    """timm's attention with its two products as modules.

    Parameters
    ----------
    attention : timm Attention
        Its submodules are used as they are.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.norm = getattr(attention, "norm", nn.Identity())
        self.gate = getattr(attention, "gate", None)
        self.query_key = MatMul()
        self.weight_value = MatMul()

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Attend; timm's layers pass a mask that is always None here."""
        n, n_tokens, _ = x.shape
        heads = self.qkv(x).reshape(n, n_tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        weights = self.query_key(query * self.scale, key.transpose(-2, -1)).softmax(dim=-1)
        mixed = self.norm(self.weight_value(weights, value).transpose(1, 2).flatten(2))
        if self.gate is not None:
            mixed = mixed * self.gate(x).sigmoid()
        return self.proj(mixed)


class UniformGrid(nn.Module):
    """Symmetric uniform quantiser: ``clip(round(x / scale), -2**(bits-1), 2**(bits-1) - 1)``.

    Parameters
    ----------
    scale : Tensor
        Step between codes, broadcastable to what is quantised.
    bits : int
        Bit width.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.quantization._operations import UniformGrid
    >>> grid = UniformGrid.over(torch.tensor(3.0), bits=3)
    >>> grid.codes(torch.tensor([-9.0, -1.2, 0.7, 3.0]))
    tensor([-4., -1.,  1.,  3.])
    """

    def __init__(self, scale: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("scale", scale)
        self.scale: Tensor

    @classmethod
    def over(cls, largest: Tensor, bits: int) -> UniformGrid:
        """Put the largest code, ``2**(bits-1) - 1``, on the largest value.

        Parameters
        ----------
        largest : Tensor
            Largest absolute value; where it is 0, any scale will do.
        bits : int
            Bit width.

        Returns
        -------
        UniformGrid
        """
        scale = largest.to(torch.float32) / (2 ** (bits - 1) - 1)
        return cls(torch.where(scale > 0, scale, 1.0), bits)

    def codes(self, x: Tensor) -> Tensor:
        """Return whole numbers in the type of `x`.

        Parameters
        ----------
        x : Tensor
            Values.

        Returns
        -------
        Tensor
        """
        half = 2 ** (self.bits - 1)
        return (x / self.scale).round_().clamp_(-half, half - 1)

    def stored_codes(self, x: Tensor) -> Tensor:
        """Return codes in the smallest integer type: one byte each up to 8 bits.

        Parameters
        ----------
        x : Tensor
            Values.

        Returns
        -------
        Tensor of int8, int16 or int32
        """
        kept = torch.int8 if self.bits <= 8 else torch.int16 if self.bits <= 16 else torch.int32
        return self.codes(x.detach().double()).to(kept)


# Products are taken between codes and scaled afterwards, as integer hardware does. Up to 8
# bits and 1,024 terms every partial sum is a whole number that float32 holds exactly, so
# the answer does not depend on how rows are batched.


class _QuantizedWeight(nn.Module):
    """Integer weight codes on one grid, inputs rounded to another."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, weight: UniformGrid, input: UniformGrid):
        super().__init__()
        self.input_grid = input
        self.bias = layer.bias
        self.register_buffer("codes", weight.stored_codes(layer.weight))
        self.register_buffer("weight_scale", weight.scale.flatten())
        self.codes: Tensor
        self.weight_scale: Tensor


class QuantizedLinear(_QuantizedWeight):
    """A linear layer at a bit width.

    Parameters
    ----------
    layer : Linear
        The float layer; its bias stays float.
    weight, input : UniformGrid
        Grids of its weight (a scale for each output channel, or one) and of its input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        grid = self.input_grid
        out = F.linear(grid.codes(x), self.codes.to(x.dtype)) * (grid.scale * self.weight_scale)
        return out if self.bias is None else out + self.bias


class QuantizedConv2d(_QuantizedWeight):
    """A convolution at a bit width.

    Parameters
    ----------
    layer : Conv2d
        The float layer; its bias stays float.
    weight, input : UniformGrid
        Grids of its weight (a scale for each output channel, or one) and of its input.
    """

    def __init__(self, layer: nn.Conv2d, weight: UniformGrid, input: UniformGrid) -> None:
        if layer.padding_mode != "zeros":
            raise TypeError(f"Cannot quantise a convolution with {layer.padding_mode} padding.")
        super().__init__(layer, weight, input)
        self._geometry: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        grid = self.input_grid
        out = F.conv2d(grid.codes(x), self.codes.to(x.dtype), **self._geometry)
        out = out * (grid.scale * self.weight_scale).view(-1, 1, 1)
        return out if self.bias is None else out + self.bias.view(-1, 1, 1)


class QuantizedMatMul(nn.Module):
    """A product of two activations at a bit width.

    Parameters
    ----------
    left, right : UniformGrid
        Grids of the factors.
    """

    def __init__(self, left: UniformGrid, right: UniformGrid) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the product."""
        product = self.left.codes(left) @ self.right.codes(right)
        return product * (self.left.scale * self.right.scale)


def explicit_copy(block: nn.Module) -> nn.Module:
    """Copy a block, weights shared, with the products of its attention as modules.

    Parameters
    ----------
    block : Module
        A block of timm layers.

    Returns
    -------
    Module

    Raises
    ------
    TypeError
        If a layer attends in a way whose products cannot be reached.
    """
    copied = copy_sharing_weights(block)
    for name, module in list(copied.named_modules()):
        if type(module) is Attention:
            copied.set_submodule(name, ExplicitAttention(module))
        elif hasattr(module, "fused_attn"):
            raise TypeError(
                f"Layer {name!r} is a {type(module).__name__}; only timm's plain Attention can be "
                "quantised. Choose a backbone with attn_layer=Attention."
            )
    return copied


def operations(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the quantisable operations of an explicit block, with their names.

    Parameters
    ----------
    block : Module
        Output of :func:`explicit_copy`.

    Yields
    ------
    str, Linear or Conv2d or MatMul
    """
    for name, module in block.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, MatMul)):
            yield name, module
