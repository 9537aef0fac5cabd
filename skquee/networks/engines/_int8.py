"""Layers on oneDNN's int8 products: unsigned activations, signed weights per channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Generic, TypeVar

import torch
from timm.layers import BatchNormAct2d, Mlp
from torch import Tensor, nn

from skquee.networks.backbones._calls import hooked
from skquee.networks.backbones._sharing import Geometry, keep_geometry
from skquee.networks.backbones._types import Range, Ranges
from skquee.networks.quantization._functional import slow_path

__all__ = [
    "Int8Conv2d",
    "Int8Linear",
    "Int8Mlp",
    "folded",
    "input_ranges",
    "int8_available",
    "suits_int8",
    "to_int8",
    "weight_top",
    "without_norm",
]

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
CODES = 255  # of unsigned activations
# Its name in torch from 2.7, and before.
CONVOLVE = next(
    (n for n in ("qconv_pointwise", "qconv2d_pointwise") if hasattr(torch.ops.onednn, n)), ""
)


@cache
def weight_top() -> int:
    """Return the largest code of a weight with which oneDNN's int8 products are right here.

    On processors without int8 instructions of their own (AVX2 without VNNI) oneDNN adds pairs of
    products in 16 bits, which overflow: 255 * 127 twice gives 32,767. 255 * 63 twice does not, so
    weights there have one bit less. One product is tried.

    Returns 127, 63, or 0 where there are no such products.
    """
    if not (
        hasattr(torch.ops.onednn, "qlinear_pointwise")
        and bool(CONVOLVE)
        and torch.backends.mkldnn.is_available()
    ):
        return 0
    linear, convolution = nn.Linear(4, 16, bias=False), nn.Conv2d(4, 16, 3, bias=False)
    for layer in (linear, convolution):
        layer.weight.data.fill_(1.0)
    with torch.inference_mode():
        for top in (127, 63):
            answers = [
                Int8Linear(linear, (0.0, 1.0), top=top)(torch.ones(2, 4)) / 4,
                Int8Conv2d(convolution, (0.0, 1.0), top=top)(torch.ones(2, 4, 5, 5)) / 36,
            ]
            if all(torch.allclose(a, torch.ones_like(a), rtol=1e-2) for a in answers):
                return top
    return 0


def int8_available() -> bool:
    """Tell whether torch has oneDNN's int8 products here, and they are right."""
    return weight_top() > 0


def suits_int8(module: nn.Module) -> bool:
    """Tell whether a module is a plain linear layer, or a plain convolution padded with zeros.

    A subclass with a ``forward`` of its own computes something else, and stays in float.
    """
    if isinstance(module, nn.Conv2d):
        plain = type(module).forward is nn.Conv2d.forward
        return plain and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def input_ranges(blocks: nn.ModuleList, batches: Iterable[Tensor]) -> dict[str, Range]:
    """Run images and note the least and the largest input of every layer that suits int8.

    `blocks`: in float. `batches` (n, C, H, W): input of the first block. Returns by the layer's
    name in `blocks`; zero is always inside.
    """
    found: dict[str, Range] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(value) for value in inputs[0].aminmax())
            known = found.get(name, (0.0, 0.0))
            found[name] = min(known[0], low), max(known[1], high)

        return hook

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in blocks.named_modules()
        if suits_int8(module)
    ]
    with hooked(handles), torch.inference_mode():
        for state in batches:
            for block in blocks:
                state = block(state)
    return found


class _Int8Layer(nn.Module, ABC, Generic[Layer]):
    """What both kinds of layers share: codes of the input, and packed weights."""

    _packed: Tensor

    def __init__(self, layer: Layer, span: Range, top: int | None) -> None:
        super().__init__()
        # In a list: the float weights are not this module's own.
        self._float: list[Layer] = [layer]
        keep_geometry(layer, self)
        self.span = span
        self.top = top
        self._pack()

    def _pack(self) -> None:
        self.scale, self.zero = grid(self.span)
        weight, bias = self._weights()
        self.weight_scale = weight_scales(weight, self.top)
        by_row = self.weight_scale.view(-1, *[1] * (weight.ndim - 1))
        self._packed = self._prepacked((weight / by_row).round().to(torch.int8))
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = bias
        # The half makes truncation a rounding.
        self._offset = torch.tensor(self.zero + 0.5)

    @abstractmethod
    def _weights(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias in float."""

    @abstractmethod
    def _prepacked(self, codes: Tensor) -> Tensor:
        """Return codes of the weight as oneDNN wants them."""

    @property
    def weight(self) -> Tensor:
        """The float weight, for code around the layer that asks for its type or device."""
        return self._float[0].weight

    @property
    def bias(self) -> Tensor | None:
        """The float bias."""
        return self._float[0].bias

    def __getstate__(self) -> dict[str, object]:
        # oneDNN's packed weights have no storage to copy or pickle.
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._pack()

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (uint8) of an input of floats."""
        shifted = torch.add(self._offset, x, alpha=1 / self.scale)
        return shifted.clamp_(0, CODES).to(torch.uint8)


class Int8Linear(_Int8Layer[nn.Linear]):
    """A linear layer on int8 products.

    ``y = s_x s_w (q_x - z) q_w + bias`` with ``q_x = clip(round(x / s_x) + z, 0, 255)``, one
    scale for the input, from its range, and one for each output's weights. Halves round up
    (those of the simulation, :class:`FakeInt8Linear`, to even).

    Parameters
    ----------
    linear : Linear
        In float; kept for pickling, shared.
    span : (float, float)
        Range of its input.
    gelu_span : (float, float), default=None
        Apply GELU, and hand on its codes over this range in place of floats.
    top : int, default=None
        Largest code of a weight. Default: of :func:`weight_top`.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.engines import Int8Linear
    >>> layer = Int8Linear(torch.nn.Linear(8, 4), (-1.0, 1.0))  # doctest: +SKIP
    >>> layer(torch.rand(2, 8)).shape  # doctest: +SKIP
    """

    def __init__(
        self,
        linear: nn.Linear,
        span: Range,
        gelu_span: Range | None = None,
        *,
        top: int | None = None,
    ) -> None:
        super().__init__(linear, span, top)
        self.gelu_span = gelu_span

    def _weights(self) -> tuple[Tensor, Tensor | None]:
        (linear,) = self._float
        return linear.weight.detach(), None if linear.bias is None else linear.bias.detach()

    def _prepacked(self, codes: Tensor) -> Tensor:
        return torch.ops.onednn.qlinear_prepack(codes, None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer (..., n_out): float32, or uint8 with a `gelu_span`.

        `x` (..., n_in): floats, or codes of this layer's input.
        """
        codes = x if x.dtype == torch.uint8 else self.encode(x)
        scale, zero, kind, after = 1.0, 0, torch.float32, "none"
        if self.gelu_span is not None:
            (scale, zero), kind, after = grid(self.gelu_span), torch.uint8, "gelu"
        return torch.ops.onednn.qlinear_pointwise(
            codes.flatten(0, -2).contiguous(),
            self.scale,
            self.zero,
            self._packed,
            self.weight_scale,
            self._zeros,
            self._bias,
            scale,
            zero,
            kind,
            after,
            [],
            "none",
        ).unflatten(0, codes.shape[:-1])

    def extra_repr(self) -> str:
        """Return what the layer is."""
        return f"range={self.span[0]:.3g} to {self.span[1]:.3g}, gelu={self.gelu_span is not None}"


class Int8Conv2d(_Int8Layer[nn.Conv2d]):
    """A convolution on int8 products, with the batch normalisation after it folded in.

    Codes and scales as in :class:`Int8Linear`; groups, depthwise ones too, as in torch.

    `convolution`: in float, padded with zeros; kept for pickling, shared. `span`: range of its
    input. `norm`: what follows it, in evaluation. `top`: largest code of a weight. Default: of
    :func:`weight_top`.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        span: Range,
        norm: nn.BatchNorm2d | None = None,
        *,
        top: int | None = None,
    ) -> None:
        self._norm = [norm]
        super().__init__(convolution, span, top)

    def _weights(self) -> tuple[Tensor, Tensor | None]:
        return folded(self._float[0], self._norm[0])

    def _geometry(self) -> tuple[object, ...]:
        """Return stride, padding, dilation and groups."""
        return tuple(vars(Geometry.of(self._float[0])).values())

    def _prepacked(self, codes: Tensor) -> Tensor:
        return torch.ops.onednn.qconv_prepack(
            codes, self.weight_scale, self.scale, self.zero, *self._geometry()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer: float32, channels last in memory."""
        codes = self.encode(x).contiguous(memory_format=torch.channels_last)
        return getattr(torch.ops.onednn, CONVOLVE)(
            codes,
            self.scale,
            self.zero,
            self._packed,
            self.weight_scale,
            self._zeros,
            self._bias,
            *self._geometry(),
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "none",
        )

    def extra_repr(self) -> str:
        """Return what the layer is."""
        (conv,), low, high = self._float, *self.span
        shape = f"{conv.in_channels}, {conv.out_channels}, kernel_size={conv.kernel_size}"
        return f"{shape}, range={low:.3g} to {high:.3g}, norm={self._norm[0] is not None}"


def weight_scales(weight: Tensor, top: int | None = None) -> Tensor:
    """Return the scale of each output's weights, whose largest code is `top`."""
    return weight.abs().flatten(1).amax(dim=1).clamp(min=1e-12) / (top or weight_top())


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a convolution that does what a batch normalisation does, too."""
    weight, bias = convolution.weight.detach(), convolution.bias
    bias = None if bias is None else bias.detach()
    if norm is None or norm.running_mean is None or norm.running_var is None:
        return weight, bias
    factor = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.detach()
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    shift = shift * factor
    if norm.bias is not None:
        shift = shift + norm.bias.detach()
    return weight * factor.view(-1, 1, 1, 1), shift


def without_norm(norm: nn.Module) -> nn.Module:
    """Return what a batch normalisation does beside normalising: timm's have an activation."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


class Int8Mlp(nn.Module):
    """Two linear layers with GELU between, which happens inside the first."""

    def __init__(
        self, first: nn.Linear, second: nn.Linear, first_span: Range, second_span: Range
    ) -> None:
        super().__init__()
        self.fc1 = Int8Linear(first, first_span, gelu_span=second_span)
        self.fc2 = Int8Linear(second, second_span)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer."""
        return self.fc2(self.fc1(x))


def grid(span: Range) -> tuple[float, int]:
    """Return scale and zero point of unsigned codes over a range that holds zero.

    `span`: least and largest value.

    >>> from skquee.networks.engines._int8 import grid
    >>> grid((-0.5, 127.0))
    (0.5, 1)
    """
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = max((high - low) / CODES, 1e-12)
    return scale, round(-low / scale)


def to_int8(
    module: nn.Module, ranges: Ranges, prefix: str = "", norms: Mapping[str, str] | None = None
) -> nn.Module:
    """Replace layers of a module, in place, as :func:`replace_layers` does, and whole MLPs."""
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.TransformerEncoderLayer):
            slow_path(child)
        if name and (pair := _mlp_layers(child)):
            (one, first), (two, second) = pair
            before, between = (ranges.get(f"{prefix}{name}.{layer}") for layer in (one, two))
            if before and between:
                module.set_submodule(name, Int8Mlp(first, second, before, between))
    return replace_layers(module, ranges, Int8Linear, Int8Conv2d, prefix, norms)


def replace_layers(
    module: nn.Module,
    ranges: Ranges,
    linear: Callable[[nn.Linear, Range], nn.Module],
    convolution: Callable[[nn.Conv2d, Range, nn.BatchNorm2d | None], nn.Module],
    prefix: str = "",
    norms: Mapping[str, str] | None = None,
) -> nn.Module:
    """Replace the linear layers and convolutions of a module, in place.

    `ranges`: of :func:`input_ranges`; a layer without one (it never ran) stays in float. `linear`,
    `convolution`: make what takes their place. `prefix`: name of `module` in `ranges`, with a dot.
    `norms`: names in `module` of convolutions, and of the batch normalisations to fold into them.
    Returns the same.
    """
    norms = norms or {}
    for name, child in list(module.named_modules()):
        span = ranges.get(f"{prefix}{name}")
        if span is None or not suits_int8(child):
            continue
        if isinstance(child, nn.Linear):
            module.set_submodule(name, linear(child, span))
            continue
        assert isinstance(child, nn.Conv2d)
        norm = module.get_submodule(norms[name]) if name in norms else None
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        module.set_submodule(name, convolution(child, span, norm))
        if norm is not None:
            module.set_submodule(norms[name], without_norm(norm))
    return module


def _mlp_layers(module: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Return the two layers of an MLP with nothing but GELU between, by name; else none."""
    if isinstance(module, Mlp):
        names, act, plain = ("fc1", "fc2"), module.act, isinstance(module.norm, nn.Identity)
    elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        # By their own names, and one by one: kinds of their own cannot be sliced.
        children = list(module.named_children())
        if len(module) != len(children) or len(children) not in (3, 4):
            return []
        names, act = (children[0][0], children[2][0]), children[1][1]
        plain = all(isinstance(part, nn.Dropout) for _, part in children[3:])
    else:
        return []
    exact = isinstance(act, nn.GELU) and act.approximate == "none"
    found = ((name, module.get_submodule(name)) for name in names)
    linear = [(name, layer) for name, layer in found if isinstance(layer, nn.Linear)]
    return linear if exact and plain and len(linear) == 2 else []
