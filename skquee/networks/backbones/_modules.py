"""Cutting any torch module into blocks, by the names of its submodules."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, pairwise

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node, Tracer
from torch.fx.node import Argument

from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.backbones._sized import Build, builds_of, of_size_alone, zeros

__all__ = ["cut_modules"]

SIZED = " All but one depend on the size of the images alone: give img_size=, and they stay fixed."


def cut_modules(
    module: nn.Module, names: Sequence[str], shape: Sequence[int] | None = None
) -> tuple[nn.ModuleList, nn.Module]:
    """Cut a module after each of some submodules, in evaluation mode.

    Block ``i`` is all that `module` computes after the cut before it up to the call of
    submodule ``names[i]``, functional operations included; the tail is the rest (pooling and
    the last linear layer of most classifiers). Blocks and tail in a row give the very output
    of ``module.eval()``.

    Only `forward` of `module` and of submodules that hold a named one are traced, by
    :mod:`torch.fx`. All others stay whole, whatever control flow they hold, and keep their
    dotted names.

    What the network makes of the size of its images alone, as tables of positions that every layer
    asks for, crosses no cut where `shape` is given: it is a constant of the pieces.

    `module`: any module that maps one tensor to one tensor. It is not changed. `names`: names of
    submodules, as in ``module.named_modules()``, in the order they run. `shape`: (C, H, W) of the
    images, where they all have one. Returns `blocks`: each
    maps one tensor to one tensor, which it leaves as it was. Weights are those of `module`,
    everything else is a copy. Returns `tail`: maps the output of the last block to the output of
    `module`. Raises TypeError if `module` is no Module or `names` is no sequence of str. Raises
    ValueError if a submodule does not exist, does not run exactly once or not in this order; if
    `module` cannot be traced or takes or gives more than one value; if more than one value crosses
    a cut, as where a skip connection spans it.

    >>> import torch
    >>> from torch import nn
    >>> from torchvision.models import resnet18
    >>> from skquee.networks.backbones._modules import cut_modules
    >>> network = resnet18(weights=None, num_classes=10).eval()
    >>> blocks, tail = cut_modules(network, ["layer2", "layer4"])
    >>> images = torch.rand(2, 3, 32, 32)
    >>> with torch.inference_mode():
    ...     state = blocks[0](images)
    ...     logits = tail(blocks[1](state))
    ...     print(tuple(state.shape), torch.equal(logits, network(images)))
    (2, 128, 4, 4) True
    """
    _check(module, names)
    # A copy, as tracing leaves constants on what it traces, and as mode and layers of the
    # pieces may be changed afterwards.
    module = copy_sharing_weights(module).eval()
    nodes = _trace(module, names)
    cuts = _find_calls(module, names, nodes)
    pieces = _split(module, names, nodes, cuts, shape)
    return nn.ModuleList(pieces[:-1]).eval(), pieces[-1].eval()


# ---------------------------------------------------------------------- checks


def _check(module: nn.Module, names: Sequence[str]) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch Module, got a {type(module).__name__}.")
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be a sequence of str, got {names!r}.")
    if not names:
        raise ValueError("names is empty; name the last submodule of each block.")
    modules = dict(module.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules or name == "":
            raise ValueError(_not_found(module, name, modules))
    for one, other in combinations(names, 2):
        if modules[one] is modules[other]:
            raise ValueError(f"names holds one submodule twice: {one!r} and {other!r}.")
        for inner, outer in ((one, other), (other, one)):
            if inner.startswith(f"{outer}."):
                raise ValueError(f"{inner!r} lies inside {outer!r}; name one of them.")
    parameters = list(inspect.signature(module.forward).parameters.values())
    required = [str(p) for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    if len(required) != 1:
        raise ValueError(
            f"{type(module).__name__}.forward must take one tensor, but it takes "
            f"{', '.join(required) or 'none'}. Wrap it in a module that takes one."
        )


def _not_found(module: nn.Module, name: str, modules: Collection[str]) -> str:
    holder = name
    while holder not in modules:
        holder = holder.rpartition(".")[0]
    children = [child for child, _ in module.get_submodule(holder).named_children()]
    shown = ", ".join(map(repr, children[:20])) + (", ..." if len(children) > 20 else "")
    where = f"{type(module).__name__} holds" if holder == "" else f"{holder!r} holds"
    return f"There is no submodule {name!r}; {where} {shown or 'none'}."


# ---------------------------------------------------------------------- tracing


class _PathTracer(Tracer):
    """Trace into the modules on the path to a named one, and into no other."""

    def __init__(self, opened: Collection[nn.Module]) -> None:
        super().__init__()
        self.opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self.opened


def _trace(module: nn.Module, names: Sequence[str]) -> list[Node]:
    holders = sorted({name[:end] for name in names for end in _dots(name)})
    opened = {module.get_submodule(name) for name in holders}
    # Optional arguments of forward keep their defaults: they may steer its control flow.
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        graph = _PathTracer(opened).trace(module, concrete_args=defaults or None)
    except Exception as error:  # whatever the module's own code makes of a symbolic input
        traced = ", ".join([f"the {type(module).__name__} itself", *map(repr, holders)])
        raise ValueError(
            f"torch.fx cannot trace this module ({type(error).__name__}: {error}). Traced are "
            f"only the forward methods of modules that hold a named one ({traced}): name "
            "submodules further out, put what depends on values into a submodule, or give a "
            "plain nn.Sequential of the parts."
        ) from error
    nodes = list(graph.nodes)
    if not isinstance(nodes[-1].args[0], Node):
        raise ValueError(
            f"{type(module).__name__} must return one tensor, but it returns a "
            f"{type(nodes[-1].args[0]).__name__}. Wrap it in a module that returns the logits."
        )
    return nodes


def _dots(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "."]


def _find_calls(module: nn.Module, names: Sequence[str], nodes: Sequence[Node]) -> list[int]:
    """Return where in the graph each named submodule is called."""
    calls: dict[nn.Module, list[int]] = {module.get_submodule(name): [] for name in names}
    for place, node in enumerate(nodes):
        if node.op == "call_module":
            calls.get(module.get_submodule(str(node.target)), []).append(place)
    for name, places in zip(names, calls.values(), strict=True):
        if len(places) == 0:
            raise ValueError(
                f"{name!r} is never called when {type(module).__name__} runs, so there is no cut "
                "after it. Name a submodule that is; of a ModuleList, its last element."
            )
        if len(places) > 1:
            raise ValueError(
                f"{name!r} is called {len(places)} times, so the cut after it is ambiguous. "
                "Name a submodule that runs once."
            )
    cuts = [place for (place,) in calls.values()]
    if any(later < earlier for earlier, later in pairwise(cuts)):
        order = [name for _, name in sorted(zip(cuts, names, strict=True))]
        raise ValueError(f"names must be in the order they run, {order}, got {list(names)}.")
    return cuts


# ---------------------------------------------------------------------- splitting


def _split(
    module: nn.Module,
    names: Sequence[str],
    nodes: Sequence[Node],
    cuts: Sequence[int],
    shape: Sequence[int] | None,
) -> list[GraphModule]:
    place = {node: at for at, node in enumerate(nodes)}
    # What does not depend on the input (parameters, constants and what is made of them) is
    # made anew in each piece that needs it, and crosses no cut.
    dependent = [next(node for node in nodes if node.op == "placeholder")]
    found = set(dependent)
    for node in nodes[place[dependent[0]] + 1 :]:
        if not found.isdisjoint(node.all_input_nodes):
            dependent.append(node)
            found.add(node)
    crossing = {
        name: [
            node
            for node in dependent
            if place[node] <= cut and any(place[user] > cut for user in node.users)
        ]
        for name, cut in zip(names, cuts, strict=True)
    }
    crosses = {node for each in crossing.values() if len(each) > 1 for node in each}
    sized = of_size_alone(dependent)
    wanted = [node for node in dependent if node in crosses]
    builds = {} if shape is None else builds_of(module, wanted, sized, shape)

    states = [dependent[0]]
    for name, cut in zip(names, cuts, strict=True):
        left = [node for node in crossing[name] if node not in builds]
        if len(left) != 1:
            hint = (
                SIZED if shape is None and len(left) - len({*left}.intersection(sized)) == 1 else ""
            )
            raise ValueError(_not_one(name, [_describe(node, cut, place) for node in left]) + hint)
        states += left
    states += nodes[-1].all_input_nodes

    pieces = []
    bounds = [place[dependent[0]], *cuts, place[nodes[-1]] - 1]
    for (entering, leaving), (after, last) in zip(pairwise(states), pairwise(bounds), strict=True):
        own = [node for node in dependent if after < place[node] <= last]
        graph = _piece(entering, own, leaving, builds)
        pieces.append(GraphModule(module, graph, class_name="Piece"))
    if builds and shape is not None:
        _compare(module, pieces, shape)
    return pieces


def _compare(module: nn.Module, pieces: Sequence[nn.Module], shape: Sequence[int]) -> None:
    """Refuse pieces that answer otherwise, as where a table of positions is written into later."""
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    images = images.to(zeros(module, 0).device)
    with torch.no_grad():
        own, ours = module(images), nn.Sequential(*(piece.eval() for piece in pieces))(images)
    if not torch.allclose(own, ours, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise ValueError(
            f"{type(module).__name__} cannot be cut here: what its later layers take from the size "
            "of the images does not stay fixed. Cut it after other modules."
        )


def _piece(
    entering: Node, own: Sequence[Node], leaving: Node, builds: Mapping[Node, Build]
) -> Graph:
    graph = Graph()
    # A clone, as the first operation may work in place and callers use a state again.
    state = graph.call_method("clone", (graph.placeholder("state"),))
    made: dict[Node, Argument] = {entering: state}

    def renewed(node: Node) -> Argument:
        if node not in made:
            given = node in builds and node not in mine
            made[node] = builds[node](graph, state) if given else graph.node_copy(node, renewed)
        return made[node]

    mine = set(own)
    for node in own:
        renewed(node)
    graph.output(renewed(leaving))
    return graph


def _not_one(name: str, crossing: Sequence[str]) -> str:
    if not crossing:
        return f"Nothing that depends on the input is used after {name!r}: there is no state."
    return (
        f"{len(crossing)} values cross the cut after {name!r}: {'; '.join(crossing)}. A block "
        "hands on exactly one tensor: cut where no skip connection passes, or after the "
        "submodule that holds it whole."
    )


def _describe(node: Node, cut: int, place: dict[Node, int]) -> str:
    if node.op == "placeholder":
        what = "the input"
    elif node.op == "call_module":
        what = f"the output of {node.target!r}"
    else:
        function = node.target if isinstance(node.target, str) else node.target.__name__
        sources = [source.target for source in node.all_input_nodes if source.op == "call_module"]
        what = f"the result {node.name!r} of {function}" + (f" on {sources}" if sources else "")
    user = next(user for user in node.users if place[user] > cut)
    by = repr(user.target) if user.op == "call_module" else repr(user.name)
    return f"{what}, needed by {by}"
