"""Products that code takes by functions (``@``, einsum, attention), led to modules instead."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skquee.networks.backbones._calls import Args, Calls, Function, Kwargs
from skquee.networks.backbones._sharing import Geometry, twice

__all__ = ["Route", "apart", "running"]

Size: TypeAlias = int | Sequence[int]


class _Running(threading.local):
    """Whose code runs, in this thread: routes, or None for a layer that is left alone."""

    def __init__(self) -> None:
        self.stack: list[Route | None] = []


running = _Running()


def apart(module: nn.Module) -> nn.Module:
    """Leave what a module computes to itself, wherever it is called from, by hooks on it."""
    module.register_forward_pre_hook(_enter)
    module.register_forward_hook(_leave, always_call=True)
    return module


def _enter(module: nn.Module, inputs: object) -> None:
    running.stack.append(None)


def _leave(module: nn.Module, inputs: object, out: object) -> None:
    running.stack.pop()


class Route(Calls):
    """Take apart each function that multiplies, down to three kinds of products."""

    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        if self.follows():
            if func in PRODUCTS:
                return PRODUCTS[func](self, *args, **kwargs)
            if func in UNKNOWN:
                self.refuse(f"{getattr(func, '__name__', func)}()")
        return func(*args, **kwargs)

    @abstractmethod
    def follows(self) -> bool:
        """Tell whether the code that runs now is what this route is for."""

    @abstractmethod
    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return ``x @ weight.T``."""

    @abstractmethod
    def conv2d(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Return a convolution."""

    @abstractmethod
    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left @ right``, of at least two axes each."""

    def refuse(self, what: str) -> NoReturn:
        """Raise, for what cannot be quantised."""
        raise TypeError(f"{what} cannot be quantised.")


def _linear(route: Route, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out = route.linear(input, weight)
    return out if bias is None else out + bias


def _conv2d(
    route: Route,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    both = padding if isinstance(padding, str) else twice(padding)
    geometry = Geometry(twice(stride), both, twice(dilation), groups)
    out = route.conv2d(input, weight, geometry)
    return out if bias is None else out + bias.view(-1, 1, 1)


def _conv1d(
    route: Route,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    def flat(size: Size, other: int) -> tuple[int, int]:
        return other, size if isinstance(size, int) else size[0]

    around = padding if isinstance(padding, str) else flat(padding, 0)
    rows, kernels = input.unsqueeze(-2), weight.unsqueeze(-2)
    steps, gaps = flat(stride, 1), flat(dilation, 1)
    return _conv2d(route, rows, kernels, bias, steps, around, gaps, groups).squeeze(-2)


def _matmul(route: Route, input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    if out is not None:
        route.refuse("matmul() with out=")
    if input.ndim == 1:
        return _matmul(route, input.unsqueeze(0), other).squeeze(-1 if other.ndim == 1 else -2)
    if other.ndim == 1:
        return _matmul(route, input, other.unsqueeze(-1)).squeeze(-1)
    if isinstance(other, nn.Parameter) and other.ndim == 2:
        return route.linear(input, other.mT)
    if isinstance(input, nn.Parameter) and input.ndim == 2:
        return route.linear(other.mT, input).mT
    return route.matmul(input, other)


def _reversed(route: Route, other: Tensor, input: Tensor) -> Tensor:
    return _matmul(route, input, other)


def _added(
    route: Route, input: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    return beta * input + alpha * _matmul(route, left, right)


def _einsum(route: Route, equation: str, *operands: Tensor | Sequence[Tensor]) -> Tensor:
    factors = [x for x in operands if isinstance(x, Tensor)]
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        factors = list(operands[0])
    if not isinstance(equation, str) or len(factors) != 2:
        route.refuse(f"einsum() of {len(factors)} operands")
    spelled = equation.replace(" ", "")
    inputs, arrow, out = spelled.partition("->")
    one, _, two = inputs.partition(",")
    if "." in spelled or not arrow or any(len(set(s)) < len(s) for s in (one, two, out)):
        route.refuse(f"einsum({equation!r})")
    batch = [i for i in one if i in two and i in out]
    inner = [i for i in one if i in two and i not in out]
    rows = [i for i in one if i not in two]
    columns = [i for i in two if i not in one]
    if not inner or not set(rows + columns) <= set(out):
        route.refuse(f"einsum({equation!r})")
    left, right = factors
    sizes = dict(zip(one + two, (*left.shape, *right.shape), strict=True))

    def arranged(x: Tensor, axes: str, *groups: list[str]) -> Tensor:
        order = [axes.index(i) for group in groups for i in group]
        shape = [sizes[i] for i in groups[0]]
        return x.permute(order).reshape(
            *shape, *(math.prod(sizes[i] for i in group) for group in groups[1:])
        )

    product = route.matmul(
        arranged(left, one, batch, rows, inner), arranged(right, two, batch, inner, columns)
    )
    made = [*batch, *rows, *columns]
    return product.reshape([sizes[i] for i in made]).permute([made.index(i) for i in out])


def _attention(
    route: Route,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p:
        route.refuse("scaled_dot_product_attention() with dropout")
    if enable_gqa:
        key, value = (
            x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value)
        )
    if is_causal:
        shape = query.shape[-2], key.shape[-2]
        attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = route.matmul(query * scale, key.mT)
    return route.matmul(_masked(scores, attn_mask, keep=True).softmax(dim=-1), value)


def _masked(scores: Tensor, mask: Tensor | None, *, keep: bool) -> Tensor:
    """Add a mask, or leave out where one of booleans says so: by True, or by False (`keep`)."""
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask if keep else mask, -torch.inf)
    return scores + mask


def _heads(
    route: Route,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Do what torch's multi_head_attention_forward does, in evaluation, product by product."""
    if add_zero_attn or any(x is not None for x in (bias_k, bias_v, static_k, static_v)):
        route.refuse("multi-head attention with add_bias_kv, add_zero_attn or static keys")
    if query.ndim != 3:
        route.refuse("multi-head attention without a batch")
    biases = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
    if query is key and key is value and in_proj_weight is not None:
        parts = list(_linear(route, query, in_proj_weight, in_proj_bias).chunk(3, dim=-1))
    else:
        weights = [w for w in (q_proj_weight, k_proj_weight, v_proj_weight) if w is not None]
        if in_proj_weight is not None:
            weights = list(in_proj_weight.chunk(3))
        given = zip((query, key, value), weights, biases, strict=True)
        parts = [_linear(route, x, weight, bias) for x, weight, bias in given]
    # From (tokens, n, width) to (n, heads, tokens, width of a head).
    q, k, v = (part.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3) for part in parts)
    scores = route.matmul(q * q.shape[-1] ** -0.5, k.mT)
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.unflatten(0, (-1, num_heads))
    scores = _masked(scores, attn_mask, keep=False)
    if key_padding_mask is not None:
        scores = _masked(scores, key_padding_mask[:, None, None], keep=False)
    attention = scores.softmax(dim=-1)
    mixed = route.matmul(attention, v).permute(2, 0, 1, 3).flatten(2)
    out = _linear(route, mixed, out_proj_weight, out_proj_bias)
    if not need_weights:
        return out, None
    return out, attention.mean(dim=1) if average_attn_weights else attention


PRODUCTS: dict[Function, Callable[..., object]] = {
    F.linear: _linear,
    F.conv2d: _conv2d,
    F.conv1d: _conv1d,
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _heads,
    torch.einsum: _einsum,
    torch.Tensor.__rmatmul__: _reversed,
    **dict.fromkeys(
        (
            *(torch.linalg.matmul, torch.matmul, torch.bmm, torch.mm, torch.mv),
            *(torch.Tensor.matmul, torch.Tensor.bmm, torch.Tensor.mm, torch.Tensor.mv),
            torch.Tensor.__matmul__,
        ),
        _matmul,
    ),
    **dict.fromkeys((torch.addmm, torch.baddbmm, torch.Tensor.addmm, torch.Tensor.baddbmm), _added),
}
UNKNOWN = {
    *(F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.bilinear),
    *(torch.tensordot, torch.chain_matmul, torch.linalg.multi_dot, torch.inner, torch.addbmm),
    *(torch.addmv, torch.Tensor.inner, torch.Tensor.addbmm, torch.Tensor.addmv),
    *(torch.Tensor.addmm_, torch.Tensor.baddbmm_, torch.Tensor.addbmm_, torch.Tensor.addmv_),
}
