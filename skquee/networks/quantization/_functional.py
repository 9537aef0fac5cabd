"""Modules whose own code multiplies by functions: found by running them, and taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skquee.networks.backbones._calls import Args, Function, Kwargs, hooked
from skquee.networks.backbones._matmul import MatMul
from skquee.networks.backbones._sharing import Geometry
from skquee.networks.quantization._routes import Route, apart, running

__all__ = ["Functional", "slow_path", "with_products"]


class Functional(nn.Module):
    """A module that runs as it is, but for its own products, which are modules.

    Attributes of the module are this one's, too.

    `module`: its ``forward`` multiplies by functions. `products`: linear, Conv2d (without bias) or
    MatMul, in the order in which they are taken.
    """

    module: nn.Module

    def __init__(self, module: nn.Module, products: nn.ModuleList) -> None:
        super().__init__()
        inner = {id(m.module) for m in module.modules() if isinstance(m, Functional)}
        for layer in module.modules():
            if layer is not module and id(layer) not in inner:
                apart(layer)
        self.module = module
        self.own_products = products

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        try:
            return super().__getattr__(name)
        except AttributeError:
            module = self.__dict__.get("_modules", {}).get("module")
            # How a module copies and pickles itself is its own.
            if module is None or name.startswith("__"):
                raise
            return getattr(module, name)

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the module.

        Raises RuntimeError if it takes more or fewer products than when it was quantised.
        """
        route = _Replay(self.own_products, type(self.module).__name__)
        running.stack.append(route)
        try:
            with route:
                out = self.module(*args, **kwargs)
        finally:
            running.stack.pop()
        route.end()
        return out


class _Replay(Route):
    """Lead each product of a module to the module kept for it."""

    def __init__(self, products: nn.ModuleList, kind: str) -> None:
        super().__init__()
        self._products, self._kind, self._taken = products, kind, 0

    def follows(self) -> bool:
        return bool(running.stack) and running.stack[-1] is self

    def _next(self) -> nn.Module:
        self._taken += 1
        if self._taken > len(self._products):
            self.end()
        return self._products[self._taken - 1]

    def end(self) -> None:
        """Raise if another number of products was taken than there are."""
        if self._taken != len(self._products):
            raise RuntimeError(
                f"A {self._kind} took {len(self._products)} products when it was quantised and "
                f"{self._taken} or more now. Give images of the size that calibration had, or a "
                "module whose steps do not depend on values."
            )

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        product = self._next()
        # A weight that depends on the input is the right factor of a product of activations.
        return product(x) if hasattr(product, "weight") else product(x, weight.mT)

    def conv2d(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        return self._next()(x)

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        return self._next()(left, right)


@dataclass
class _Call:
    """One product: its kind, and its weight where it has one."""

    kind: str
    weight: Tensor | None = None
    geometry: Geometry | None = None
    input: Tensor | None = None
    bias: Tensor | None = None
    out: object = None

    def alike(self, other: _Call) -> bool:
        """Tell whether another is the same but for what it multiplies."""
        mine, others = (None if c.weight is None else c.weight.shape for c in (self, other))
        return (self.kind, self.geometry, mine) == (other.kind, other.geometry, others)


class _Trace(Route):
    """Note the products of every module of a block, by whose code takes them."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in block.named_modules()}
        self.calls: dict[nn.Module, list[list[_Call]]] = {}
        self._runs: list[tuple[nn.Module, list[_Call]]] = []
        self.others: set[nn.Module] = set()

    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        made = super().called(func, args, kwargs)
        if func in (F.linear, F.conv2d) and self.follows():
            call = self._runs[-1][1][-1]
            call.bias, call.out = args[2] if len(args) > 2 else kwargs.get("bias"), made
        return made

    def follows(self) -> bool:
        return bool(self._runs) and not getattr(self._runs[-1][0], "float_products", False)

    def refuse(self, what: str) -> NoReturn:
        module = self._runs[-1][0]
        raise TypeError(_refused(self.names[module], module, what))

    def enter(self, module: nn.Module, inputs: object) -> None:
        """Note that a module's code begins."""
        self._runs.append((module, []))
        if isinstance(module, nn.RNNBase):
            self.refuse("a recurrent layer")

    def leave(self, module: nn.Module, inputs: tuple[object, ...], out: object) -> None:
        """Note that it has ended, with its products."""
        _, calls = self._runs.pop()
        if not calls or isinstance(module, MatMul):
            return
        self.calls.setdefault(module, []).append(calls)
        if not _is_plain(module, calls, inputs, out):
            self.others.add(module)

    def _note(self, call: _Call, out: Tensor) -> Tensor:
        self._runs[-1][1].append(call)
        return out

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._note(_Call("linear", weight, input=x), F.linear(x, weight))

    def conv2d(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        call = _Call("conv2d", weight, geometry, input=x)
        return self._note(call, geometry.conv2d(x, weight))

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        return self._note(_Call("matmul"), left @ right)


def _is_plain(
    module: nn.Module, calls: list[_Call], inputs: tuple[object, ...], out: object
) -> bool:
    """Tell whether a layer does what its kind does, and nothing else: input, weights, answer."""
    if len(calls) != 1 or not isinstance(module, (nn.Linear, nn.Conv2d)):
        return False
    (call,) = calls
    own = dict(module.named_parameters(recurse=False))
    same = call.weight is own.get("weight") and call.bias is own.get("bias")
    if not same or call.input is not inputs[0] or call.out is not out:
        return False
    if isinstance(module, nn.Linear):
        return call.kind == "linear"
    return call.kind == "conv2d" and call.geometry == Geometry.of(module)


def _refused(name: str, module: nn.Module, what: str) -> str:
    return (
        f"Layer {name!r}, a {type(module).__name__}, multiplies by {what}, which cannot be "
        "quantised. Write it with linear layers, convolutions, matmul or attention, or leave it "
        "in float: set float_products = True on the layer."
    )


def slow_path(layer: nn.TransformerEncoderLayer) -> None:
    """Make a layer of torch's call its parts, which its fast path for evaluation passes by."""
    # What torch's own check reads: "activation_relu_or_gelu was not True".
    layer.activation_relu_or_gelu = 0


def with_products(block: nn.Module, sample: Tensor) -> tuple[nn.Module, Tensor]:
    """Wrap, in place, the modules of a block whose own code multiplies by functions.

    `block`: in evaluation mode. `sample` (n, ...): some input. Returns `block`: the same, or
    around it a :class:`Functional`. Returns `out` (n, ...): what it makes of the sample. Raises
    TypeError if a product cannot be quantised; the layer is named.
    """
    first, out = _traced(block, sample)
    if not first.others:
        return block, out
    # Weights that are computed are constant if another input meets the same.
    second, _ = _traced(block, sample.flip(0) * 0.5 + 0.25 * sample.std())
    made: dict[str, nn.Module] = {}
    for module in first.others:
        name, runs = first.names[module], first.calls[module]
        others = [*runs[1:], *second.calls.get(module, [])]
        for calls in others:
            if len(calls) != len(runs[0]) or not all(map(_Call.alike, runs[0], calls)):
                raise TypeError(_refused(name, module, "other products at each call"))
        products = [
            _as_module(call, [calls[k] for calls in others], name, module)
            for k, call in enumerate(runs[0])
        ]
        made[name] = nn.ModuleList(products)
    for name in sorted(made, key=lambda name: name.count(".") + bool(name), reverse=True):
        products_ = made[name]
        assert isinstance(products_, nn.ModuleList)
        if name == "":
            return Functional(block, products_), out
        block.set_submodule(name, Functional(block.get_submodule(name), products_))
    return block, out


def _traced(block: nn.Module, sample: Tensor) -> tuple[_Trace, Tensor]:
    trace = _Trace(block)
    handles = [
        handle
        for module in block.modules()
        for handle in (
            module.register_forward_pre_hook(trace.enter),
            module.register_forward_hook(trace.leave, always_call=True),
        )
    ]
    with hooked(handles), torch.no_grad(), trace:
        return trace, block(sample)


def _as_module(call: _Call, others: list[_Call], name: str, module: nn.Module) -> nn.Module:
    weight = call.weight
    if weight is None:
        return MatMul()
    if not all(o.weight is not None and torch.equal(weight, o.weight) for o in others):
        if call.kind == "linear":
            return MatMul()
        raise TypeError(_refused(name, module, "convolutions whose weights depend on the input"))
    if call.geometry is None:
        n_out, n_in = weight.shape
        layer: nn.Module = nn.Linear(n_in, n_out, bias=False, device="meta")
    else:
        n_out, n_in, height, width = weight.shape
        n_in *= call.geometry.groups
        options = vars(call.geometry)
        layer = nn.Conv2d(n_in, n_out, (height, width), bias=False, device="meta", **options)
    shared = weight if isinstance(weight, nn.Parameter) else weight.detach()
    layer.weight = nn.Parameter(shared, requires_grad=False) if shared is not weight else weight
    return layer
