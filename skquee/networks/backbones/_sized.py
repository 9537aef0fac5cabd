"""What images a network runs on, and what it makes of their size alone: positions, grids."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.node import Argument

__all__ = ["NOT_RUN", "Build", "builds_of", "channels_of", "does_not_run", "of_size_alone", "zeros"]

SIZES, METHODS = ("shape", "ndim"), ("size", "dim", "ndimension")
# The same of every state: asked of the one at hand, as a network may be moved.
ANEW = ("device", "dtype")

Value = Argument | Tensor
# What modules raise on an image that is not theirs.
NOT_RUN = (AssertionError, RuntimeError, TypeError, ValueError)
# Puts a value into the graph of a piece, given the state that the piece starts from.
Build = Callable[[Graph, Node], Argument]


def channels_of(module: nn.Module, size: tuple[int, int] | None = None, otherwise: int = 3) -> int:
    """Return the channels of a network's images: those of its first convolution, if it runs so.

    Some rearrange their images before: a patch of four by four pixels becomes 48 channels.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels == otherwise:
        return otherwise
    for channels in (first.in_channels, otherwise):
        with torch.inference_mode(), contextlib.suppress(*NOT_RUN):
            module(zeros(module, 1, channels, *(size or (64, 64))))
            return channels
    return first.in_channels


def zeros(module: nn.Module, *shape: int) -> Tensor:
    """Return zeros where a module is."""
    return torch.zeros(shape, device=next((p.device for p in module.parameters()), None))


def does_not_run(shape: Sequence[int], error: Exception, block: int = 1) -> ValueError:
    """Return what to raise where a network does not run on images (C, H, W)."""
    return ValueError(
        f"The backbone does not run on an image of shape {tuple(shape)}, (C, H, W), in block "
        f"{block}: {str(error).rstrip('.') or repr(error)}. Give img_size= and in_chans= that it "
        "takes."
    )


def of_size_alone(dependent: Sequence[Node]) -> set[Node]:
    """Return those of some nodes whose values the size of the input decides.

    `dependent`: nodes that depend on the input, in the order they run, the input first.
    """
    known, found = set(dependent), set[Node]()
    for node in dependent[1:]:
        asks = _attribute(node) in SIZES + ANEW
        asks |= node.op == "call_method" and node.target in METHODS
        made = node.op != "call_module" and known.intersection(node.all_input_nodes) <= found
        if node.op != "output" and (asks or made):
            found.add(node)
    return found


def builds_of(
    module: nn.Module, nodes: Sequence[Node], sized: Collection[Node], shape: Sequence[int]
) -> dict[Node, Build]:
    """Return how the values of nodes are made in a piece that their sources are not part of.

    They are looked at on one image and on two: what stays is a constant, tensors as buffers of
    `module`; a number that doubles is counted from the rows of the state; others are left out.

    `nodes`: of one graph of `module`. `sized`: those that :func:`of_size_alone` found; of the
    others only numbers count, as where a module returns the grid of its tokens. `shape`: of images,
    (C, H, W).
    """
    if not nodes:
        return {}
    traced = GraphModule(module, nodes[0].graph)
    try:
        one, two = (_values(traced, nodes, zeros(module, n, *shape)) for n in (1, 2))
    except NOT_RUN as error:
        raise does_not_run(shape, error) from error
    return {
        node: _build(module, node, one[node.name], two[node.name])
        for node in nodes
        if _same(one[node.name], two[node.name], tensors=node in sized)
    }


def _attribute(node: Node) -> object:
    """Return the name of the attribute that a node asks for."""
    return node.args[1] if node.op == "call_function" and node.target is getattr else None


class _Noting(Interpreter):
    """Notes what nodes give."""

    def __init__(self, module: GraphModule, nodes: Sequence[Node]) -> None:
        super().__init__(module)
        self.names = {node.name for node in nodes}
        self.values: dict[str, Value] = {}

    def run_node(self, n: Node) -> object:
        value = super().run_node(n)
        if n.name in self.names:  # a copy, as later operations may work in place
            self.values[n.name] = value.clone() if isinstance(value, Tensor) else value
        return value


def _values(module: GraphModule, nodes: Sequence[Node], images: Tensor) -> dict[str, Value]:
    noting = _Noting(module, nodes)
    with torch.no_grad():
        noting.run(images)
    return noting.values


def _same(one: Value, two: Value, *, tensors: bool) -> bool:
    """Return whether a value seen on one image and on two can be told for any number of them."""
    if isinstance(one, (tuple, list)) and isinstance(two, (tuple, list)):
        parts = zip(one, two, strict=False)
        return len(one) == len(two) and all(_same(a, b, tensors=tensors) for a, b in parts)
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return tensors and one.dtype == two.dtype and torch.equal(one, two)
    if type(one) is int and type(two) is int:
        return two in (one, 2 * one)
    plain = (bool, float, str, slice, torch.dtype, torch.device, type(None))
    return isinstance(one, plain) and one == two


def _build(module: nn.Module, node: Node, one: Value, two: Value) -> Build:
    name = f"of_size_{node.name}"

    def put(graph: Graph, state: Node, one: Value, two: Value, name: str) -> Argument:
        if isinstance(one, (torch.dtype, torch.device)):
            asked = "dtype" if isinstance(one, torch.dtype) else "device"
            return graph.call_function(getattr, (state, asked))
        if isinstance(one, (tuple, list)) and isinstance(two, (tuple, list)):
            pairs = enumerate(zip(one, two, strict=True))
            parts = [put(graph, state, a, b, f"{name}_{at}") for at, (a, b) in pairs]
            return graph.call_function(tuple, (parts,))
        if isinstance(one, Tensor):
            module.register_buffer(name, one)
            return graph.get_attr(name)
        if one == two:
            return one
        rows = graph.call_method("size", (state, 0))
        return rows if one == 1 else graph.call_function(operator.mul, (rows, one))

    return lambda graph, state: put(graph, state, one, two, name)
