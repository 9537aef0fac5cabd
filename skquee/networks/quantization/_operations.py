"""The operations a quantiser replaces: linear layers, convolutions, attention products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.backbones._sharing import Geometry, copy_sharing_weights, keep_geometry
from skquee.networks.backbones._types import Range
from skquee.networks.quantization._functional import Functional, slow_path, with_products
from skquee.networks.quantization._grids import Grid, UniformGrid
from skquee.networks.quantization._routes import apart

__all__ = [
    "QuantizedConv2d",
    "QuantizedLinear",
    "QuantizedMatMul",
    "explicit_copies",
    "explicit_copy",
    "operations",
    "float_name",
    "quantized",
    "searched_ranges",
]


class ExplicitAttention(nn.Module):
    """timm's attention with its two products as modules; its submodules are used as they are."""

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
        keep_geometry(layer, self)
        self.register_buffer("codes", weight.stored_codes(layer.weight))
        self.register_buffer("weight_scale", weight.scale.flatten())
        self.register_buffer("float_codes", None, persistent=False)
        self.codes: Tensor
        self.weight_scale: Tensor
        self.float_codes: Tensor | None

    @property
    def weight(self) -> Tensor:
        """The weight on its grid, in float: for code around the layer that reads it."""
        scale = self.weight_scale.view(-1, *[1] * (self.codes.ndim - 1))
        return self.codes * scale

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"shape={tuple(self.codes.shape)}, bits={self.bits}, bias={self.bias is not None}"

    def keep_float(self, keep: bool) -> None:
        """Keep a float copy of the codes, four bytes more a weight, or drop it."""
        self.float_codes = self.codes.float() if keep else None

    def _cast_codes(self, dtype: torch.dtype) -> Tensor:
        return (self.codes if self.float_codes is None else self.float_codes).to(dtype)


class QuantizedLinear(_QuantizedWeight):
    """A linear layer at a bit width; its bias stays float."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        grid = self.input_grid
        out = F.linear(grid.codes(x), self._cast_codes(x.dtype))
        out = out.mul_(grid.scale * self.weight_scale)
        return out if self.bias is None else out.add_(self.bias)


class QuantizedConv2d(_QuantizedWeight):
    """A convolution at a bit width; its bias stays float."""

    def __init__(self, layer: nn.Conv2d, weight: UniformGrid, input: Grid) -> None:
        super().__init__(layer, weight, input)
        self._geometry = vars(Geometry.of(layer))  # plain: pickles hold it

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        grid = self.input_grid
        out = F.conv2d(grid.codes(x), self._cast_codes(x.dtype), **self._geometry)
        out = out.mul_((grid.scale * self.weight_scale).view(-1, 1, 1))
        return out if self.bias is None else out.add_(self.bias.view(-1, 1, 1))


class QuantizedMatMul(nn.Module):
    """A product of two activations at a bit width, each with one scale, or one a head."""

    def __init__(self, left: Grid, right: Grid) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the product."""
        product = self.left.codes(left) @ self.right.codes(right)
        return product.mul_(self.left.scale * self.right.scale)


def quantized(operation: nn.Module, left: Grid, right: Grid) -> nn.Module:
    """Return a float operation on the grids of its input and weight, or of its two factors."""
    if isinstance(operation, MatMul):
        return apart(QuantizedMatMul(left, right))
    assert isinstance(right, UniformGrid)
    if isinstance(operation, nn.Conv2d):
        return apart(QuantizedConv2d(operation, right, left))
    assert isinstance(operation, nn.Linear)
    return apart(QuantizedLinear(operation, right, left))


def explicit_copies(blocks: Iterable[nn.Module], sample: Tensor) -> nn.ModuleList:
    """Copy blocks, weights shared, with the products of their own code as modules.

    A few images (n, C, H, W) run, to see which there are. Raises TypeError if a product cannot be
    quantised; the layer is named.
    """
    made, state = [], sample
    for block in blocks:
        copied, state = with_products(explicit_copy(block), state)
        made.append(copied)
    return nn.ModuleList(made)


def explicit_copy(block: nn.Module) -> nn.Module:
    """Copy a block, weights shared, with the products of timm's plain attention as modules."""
    copied = copy_sharing_weights(block).eval()
    if type(copied) is Attention:
        return ExplicitAttention(copied)
    for name, module in list(copied.named_modules()):
        if type(module) is Attention:
            copied.set_submodule(name, ExplicitAttention(module))
        elif isinstance(module, nn.TransformerEncoderLayer):
            slow_path(module)
    return copied


def operations(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the quantisable operations of an explicit block, with their names."""
    # What a module computes in its own way is no operation, but its products are.
    own = {id(module.module) for module in block.modules() if isinstance(module, Functional)}
    for name, module in block.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, MatMul)) and id(module) not in own:
            yield name, module


def searched_ranges(blocks: Iterable[nn.Module]) -> dict[str, Range]:
    """Return the ranges of the inputs that a quantiser put on one uniform grid.

    By the layer's name, the block's number first.
    """
    found = {}
    for number, block in enumerate(blocks):
        for name, module in block.named_modules():
            layer = isinstance(module, (QuantizedLinear, QuantizedConv2d))
            grid = module.input_grid if layer else None
            if isinstance(grid, UniformGrid) and grid.scale.numel() == 1:
                low, high = grid.ends
                found[f"{number}.{float_name(block, name)}"] = (
                    low * float(grid.scale),
                    high * float(grid.scale),
                )
    return found


def float_name(block: nn.Module, name: str) -> str:
    """Return the name that a module of an explicit block has in the float one."""
    parts, at = [], block
    for part in filter(None, name.split(".")):
        if not (isinstance(at, Functional) and part == "module"):
            parts.append(part)
        at = at.get_submodule(part)
    return ".".join(parts)
