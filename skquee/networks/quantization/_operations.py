"""The operations a quantiser replaces: linear layers, convolutions, attention products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, fx, nn
from torch.nn import functional as F

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.quantization._grids import Grid, UniformGrid

__all__ = [
    "QuantizedConv2d",
    "QuantizedLinear",
    "QuantizedMatMul",
    "explicit_copy",
    "operations",
    "quantized",
    "searched_ranges",
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


# Products are taken between codes and scaled afterwards, as integer hardware does. Up to 8
# bits and 1,024 terms every partial sum on uniform grids is a whole number that float32 holds
# exactly, so the answer does not depend on how rows are batched; on twin grids as long as the
# sum of magnitudes is below 2**24, in units of the finest steps.


class _QuantizedWeight(nn.Module):
    """Integer weight codes on one grid, inputs rounded to another."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, weight: UniformGrid, input: Grid) -> None:
        super().__init__()
        self.bits = weight.bits
        self.input_grid = input
        self.bias = layer.bias
        self.register_buffer("codes", weight.stored_codes(layer.weight))
        self.register_buffer("weight_scale", weight.scale.flatten())
        self.register_buffer("float_codes", None, persistent=False)
        self.codes: Tensor
        self.weight_scale: Tensor
        self.float_codes: Tensor | None

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"shape={tuple(self.codes.shape)}, bits={self.bits}, bias={self.bias is not None}"

    def keep_float(self, keep: bool) -> None:
        """Keep a float copy of the codes, or drop it.

        Parameters
        ----------
        keep : bool
            Whether to hold four bytes more a weight, and cast nothing at each call.
        """
        self.float_codes = self.codes.float() if keep else None

    def _cast_codes(self, dtype: torch.dtype) -> Tensor:
        return (self.codes if self.float_codes is None else self.float_codes).to(dtype)


class QuantizedLinear(_QuantizedWeight):
    """A linear layer at a bit width.

    Parameters
    ----------
    layer : Linear
        The float layer; its bias stays float.
    weight : UniformGrid
        Grid of its weight: a scale for each output channel, or one.
    input : Grid
        Grid of its input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        grid = self.input_grid
        out = F.linear(grid.codes(x), self._cast_codes(x.dtype))
        out = out.mul_(grid.scale * self.weight_scale)
        return out if self.bias is None else out.add_(self.bias)


class QuantizedConv2d(_QuantizedWeight):
    """A convolution at a bit width.

    Parameters
    ----------
    layer : Conv2d
        The float layer; its bias stays float.
    weight : UniformGrid
        Grid of its weight: a scale for each output channel, or one.
    input : Grid
        Grid of its input.
    """

    def __init__(self, layer: nn.Conv2d, weight: UniformGrid, input: Grid) -> None:
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
        out = F.conv2d(grid.codes(x), self._cast_codes(x.dtype), **self._geometry)
        out = out.mul_((grid.scale * self.weight_scale).view(-1, 1, 1))
        return out if self.bias is None else out.add_(self.bias.view(-1, 1, 1))


class QuantizedMatMul(nn.Module):
    """A product of two activations at a bit width.

    Parameters
    ----------
    left, right : Grid
        Grids of the factors: one scale, or one a head.
    """

    def __init__(self, left: Grid, right: Grid) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the product."""
        product = self.left.codes(left) @ self.right.codes(right)
        return product.mul_(self.left.scale * self.right.scale)


def quantized(operation: nn.Module, left: Grid, right: Grid) -> nn.Module:
    """Return an operation on two grids.

    Parameters
    ----------
    operation : Linear, Conv2d or MatMul
        The float operation.
    left, right : Grid
        Grids of its input and weight, or of its two factors.

    Returns
    -------
    QuantizedLinear, QuantizedConv2d or QuantizedMatMul
    """
    if isinstance(operation, MatMul):
        return QuantizedMatMul(left, right)
    assert isinstance(operation, (nn.Linear, nn.Conv2d)) and isinstance(right, UniformGrid)
    if isinstance(operation, nn.Conv2d):
        return QuantizedConv2d(operation, right, left)
    return QuantizedLinear(operation, right, left)


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
        If a layer attends in a way whose products cannot be reached, or a linear layer or
        convolution does something else than these, or pads with something else than zeros.
    """
    copied = copy_sharing_weights(block).eval()
    for name, module in list(copied.named_modules()):
        kind, fused = type(module).__name__, F.scaled_dot_product_attention
        if type(module) is Attention:
            explicit = ExplicitAttention(module)
            if name == "":
                return explicit
            copied.set_submodule(name, explicit)
        elif hasattr(module, "fused_attn"):
            raise TypeError(
                f"Layer {name!r} is a {kind}; only timm's plain Attention can be quantised. "
                "Choose a backbone with attn_layer=Attention."
            )
        elif isinstance(module, nn.MultiheadAttention):
            raise TypeError(
                f"Layer {name!r} is torch's {kind}, whose products cannot be reached. "
                "Choose a backbone of timm's plain Attention, or write the attention with "
                "linear layers and skquee's MatMul modules."
            )
        elif isinstance(module, fx.GraphModule) and any(
            node.target is fused for node in module.graph.nodes
        ):
            raise TypeError(
                f"Graph {name!r} calls scaled_dot_product_attention, whose products cannot be "
                "reached. Trace it with its attention modules as leaves, or write the attention "
                "with linear layers and skquee's MatMul modules."
            )
        elif (own := _plain_forward(module)) is not None and type(module).forward is not own:
            raise TypeError(
                f"Layer {name!r} is a {kind} that computes in a way of its own (as "
                "standardised weights or 'same' padding do); only plain linear layers and "
                "convolutions can be quantised."
            )
        elif isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            raise TypeError(
                f"Layer {name!r} is a convolution with {module.padding_mode} padding; only "
                "padding with zeros can be quantised."
            )
    return copied


def _plain_forward(module: nn.Module) -> Any:
    kinds = (kind for kind in (nn.Linear, nn.Conv2d) if isinstance(module, kind))
    return next((kind.forward for kind in kinds), None)


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


def searched_ranges(blocks: Iterable[nn.Module]) -> dict[str, tuple[float, float]]:
    """Return the ranges of the inputs that a quantiser put on one uniform grid.

    Parameters
    ----------
    blocks : iterable of Module
        Quantised.

    Returns
    -------
    dict of str to (float, float)
        By the layer's name, the block's number first.
    """
    found = {}
    for number, block in enumerate(blocks):
        for name, module in block.named_modules():
            layer = isinstance(module, (QuantizedLinear, QuantizedConv2d))
            grid = module.input_grid if layer else None
            if isinstance(grid, UniformGrid) and grid.scale.numel() == 1:
                low, high = grid.ends
                found[f"{number}.{name}"] = low * float(grid.scale), high * float(grid.scale)
    return found
