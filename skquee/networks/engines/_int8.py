"""Linear layers on oneDNN's int8 products: unsigned activations, signed weights per channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn

__all__ = ["Int8Linear", "Int8Mlp", "input_ranges", "int8_available", "to_int8"]

Range = tuple[float, float]
CODES = 255  # of unsigned activations
TOP = 127  # of signed weights


@cache
def int8_available() -> bool:
    """Tell whether torch has oneDNN's int8 products here, and they are right.

    On processors without int8 instructions of their own (AVX2 without VNNI) oneDNN adds pairs of
    products in 16 bits, which overflow: 255 * 127 twice gives 32,767. So one is tried.

    Returns
    -------
    bool
    """
    if not (
        hasattr(torch.ops.onednn, "qlinear_pointwise") and torch.backends.mkldnn.is_available()
    ):
        return False
    linear = nn.Linear(4, 16, bias=False)
    linear.weight.data.fill_(1.0)
    with torch.inference_mode():
        answer = Int8Linear(linear, (0.0, 1.0))(torch.ones(2, 4))
    return bool(torch.allclose(answer, torch.full_like(answer, 4.0), rtol=1e-2))


def input_ranges(blocks: nn.ModuleList, batches: Iterable[Tensor]) -> dict[str, Range]:
    """Run images and note the least and the largest input of every linear layer.

    Parameters
    ----------
    blocks : ModuleList
        In float.
    batches : iterable of Tensor of shape (n, C, H, W)
        Input of the first block.

    Returns
    -------
    dict of str to (float, float)
        By the layer's name in `blocks`; zero is always inside.
    """
    found: dict[str, Range] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(value) for value in inputs[0].aminmax())
            known = found.get(name, (0.0, 0.0))
            found[name] = min(known[0], low), max(known[1], high)

        return hook

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in blocks.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.inference_mode():
            for state in batches:
                for block in blocks:
                    state = block(state)
    finally:
        for handle in handles:
            handle.remove()
    return found


class Int8Linear(nn.Module):
    """A linear layer on int8 products.

    ``y = s_x s_w (q_x - z) q_w + bias`` with ``q_x = clip(round(x / s_x) + z, 0, 255)``, one
    scale for the input, from its range, and one for each output's weights. Rounding is half up.

    Parameters
    ----------
    linear : Linear
        In float; kept for pickling, shared.
    span : (float, float)
        Range of its input.
    gelu_span : (float, float), default=None
        Apply GELU, and hand on its codes over this range in place of floats.
    """

    def __init__(self, linear: nn.Linear, span: Range, gelu_span: Range | None = None) -> None:
        super().__init__()
        # In a list: the float weights are not this module's own.
        self._float = [linear]
        self.span = span
        self.gelu_span = gelu_span
        self._pack()

    def _pack(self) -> None:
        (linear,) = self._float
        self.scale, self.zero = grid(self.span)
        weight = linear.weight.detach()
        self.weight_scale = weight.abs().amax(dim=1).clamp(min=1e-12) / TOP
        codes = (weight / self.weight_scale[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = None if linear.bias is None else linear.bias.detach()
        # The half makes truncation a rounding.
        self._offset = torch.tensor(self.zero + 0.5)

    def __getstate__(self) -> dict[str, Any]:
        # oneDNN's packed weights have no storage to copy or pickle.
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pack()

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of an input.

        Parameters
        ----------
        x : Tensor, float32
            Input.

        Returns
        -------
        Tensor, uint8
        """
        shifted = torch.add(self._offset, x, alpha=1 / self.scale)
        return shifted.clamp_(0, CODES).to(torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer.

        Parameters
        ----------
        x : Tensor of shape (..., n_in)
            Floats, or codes of this layer's input.

        Returns
        -------
        Tensor of shape (..., n_out)
            float32, or uint8 with a `gelu_span`.
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


class Int8Mlp(nn.Module):
    """Two linear layers with GELU between, which happens inside the first.

    Parameters
    ----------
    first, second : Linear
        In float.
    first_span, second_span : (float, float)
        Ranges of their inputs.
    """

    def __init__(
        self, first: nn.Linear, second: nn.Linear, first_span: Range, second_span: Range
    ) -> None:
        super().__init__()
        self.fc1 = Int8Linear(first, first_span, gelu_span=second_span)
        self.fc2 = Int8Linear(second, second_span)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer.

        Parameters
        ----------
        x : Tensor of shape (..., n_in)
            Input.

        Returns
        -------
        Tensor of shape (..., n_out)
        """
        return self.fc2(self.fc1(x))


def grid(span: Range) -> tuple[float, int]:
    """Return scale and zero point of unsigned codes over a range that holds zero.

    Parameters
    ----------
    span : (float, float)
        Least and largest value.

    Returns
    -------
    scale : float
    zero : int

    Examples
    --------
    >>> from skquee.networks.engines._int8 import grid
    >>> grid((-0.5, 127.0))
    (0.5, 1)
    """
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = max((high - low) / CODES, 1e-12)
    return scale, round(-low / scale)


def to_int8(module: nn.Module, ranges: Mapping[str, Range], prefix: str = "") -> nn.Module:
    """Replace the linear layers of a module, in place.

    Parameters
    ----------
    module : Module
        Its children are replaced.
    ranges : mapping of str to (float, float)
        Of :func:`input_ranges`; a layer without one (it never ran) stays in float.
    prefix : str, default=""
        Name of `module` in `ranges`, with a dot.

    Returns
    -------
    Module
        The same.
    """
    for name, child in list(module.named_children()):
        path = f"{prefix}{name}"
        pair = _mlp_layers(child)
        spans = [ranges.get(f"{path}.{layer}") for layer in pair]
        if pair and all(spans):
            first, second = (child.get_submodule(layer) for layer in pair)
            setattr(module, name, Int8Mlp(first, second, *spans))  # type: ignore[arg-type]
        elif isinstance(child, nn.Linear) and path in ranges:
            setattr(module, name, Int8Linear(child, ranges[path]))
        else:
            to_int8(child, ranges, f"{path}.")
    return module


def _mlp_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the two layers of an MLP with nothing but GELU between; else none."""
    if isinstance(module, Mlp):
        names, act, plain = ("fc1", "fc2"), module.act, isinstance(module.norm, nn.Identity)
    elif isinstance(module, nn.Sequential) and len(module) in (3, 4):
        rest = all(isinstance(part, nn.Dropout) for part in module[3:])
        names, act, plain = ("0", "2"), module[1], rest
    else:
        return ()
    exact = isinstance(act, nn.GELU) and act.approximate == "none"
    linear = all(isinstance(module.get_submodule(name), nn.Linear) for name in names)
    return names if exact and linear and plain else ()
