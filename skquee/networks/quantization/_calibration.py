"""One pass of calibration images through float blocks, observed a unit at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.quantization._operations import operations
from skquee.networks.quantization._products import Factors, importance, output_as, take

__all__ = ["Observation", "Unit", "check_images", "cut_units", "sample_labels", "walk"]


@dataclass
class Unit:
    """Layers that are calibrated together, named from the list of blocks: ``"0.layer1"``."""

    name: str
    module: nn.Module

    def operations(self) -> Iterator[tuple[str, nn.Module]]:
        """Iterate over quantisable operations, named from the list of blocks."""
        for name, operation in operations(self.module):
            yield ".".join(filter(None, (self.name, name))), operation


def cut_units(blocks: nn.ModuleList) -> list[Unit]:
    """Cut explicit blocks into units: children of a Sequential, or whole blocks, in their order."""
    units = []
    for number, block in enumerate(blocks):
        if type(block) is nn.Sequential:
            units += [Unit(f"{number}.{name}", child) for name, child in block.named_children()]
        else:
            units.append(Unit(str(number), block))
    return units


def check_images(images: Tensor) -> None:
    """Raise if calibration images (n, ...) cannot tell the range of an activation."""
    if len(images) == 0:
        raise ValueError("The calibration images hold no image.")
    if not torch.isfinite(images).all():
        raise ValueError("The calibration images hold NaN or infinity.")
    if len(images) > 1 and bool((images == images[:1]).all()):
        raise ValueError(
            f"All {len(images)} calibration images are the same. Give images like those the "
            "network will run on."
        )


@dataclass
class Observation:
    """What calibration saw of one operation.

    `operation`: the operation. `low`, `high`: smallest and largest value of each operand; of each
    head, as (heads, 1, 1), where operands of a MatMul have four axes. `largest_sum`: largest sum
    of a row of the left factor of a MatMul. `left`, `right`, `gradient`: a part of the operands
    (see :class:`Factors`) and of the loss gradient with respect to the output for each sub-batch;
    nothing where only ranges are asked for.
    """

    operation: nn.Module
    low: list[Tensor] = field(default_factory=list)
    high: list[Tensor] = field(default_factory=list)
    largest_sum: float = 0.0
    left: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    gradient: list[Tensor] = field(default_factory=list)

    def see(self, name: str, operands: Sequence[Tensor]) -> None:
        """Widen the ranges to operands, or raise where one is not finite."""
        ends = []
        for x in operands:
            if isinstance(self.operation, MatMul) and x.ndim == 4:
                flat = x.transpose(0, 1).flatten(1)
                low, high = torch.aminmax(flat, dim=1)
                ends.append((low.view(-1, 1, 1), high.view(-1, 1, 1)))
            else:
                ends.append(torch.aminmax(x))
        if not all(bool(torch.isfinite(end).all()) for pair in ends for end in pair):
            raise ValueError(_not_finite("input", "layer", name))
        lows, highs = [low for low, _ in ends], [high for _, high in ends]
        if self.low:
            lows = [torch.minimum(a, b) for a, b in zip(lows, self.low, strict=True)]
            highs = [torch.maximum(a, b) for a, b in zip(highs, self.high, strict=True)]
        self.low, self.high = lows, highs
        if isinstance(self.operation, MatMul):
            self.largest_sum = max(self.largest_sum, float(operands[0].sum(dim=-1).amax()))

    @property
    def is_softmax(self) -> bool:
        """Whether the left operand is never negative and its rows sum to 1 at most, some to 1."""
        return bool((self.low[0] >= 0).all()) and abs(self.largest_sum - 1) < 1e-3

    def keep(
        self,
        operands: Sequence[Tensor],
        gradient: Tensor | None,
        budget: float,
        generator: torch.Generator,
    ) -> None:
        """Keep so many rows of a sub-batch, drawn by chance, for the search.

        `gradient`: of the loss with respect to the output, where the metric needs it.
        """
        factors = Factors.of(self.operation, operands)
        if gradient is not None:
            gradient = output_as(self.operation, gradient)
        rows, weight = importance(factors, gradient, budget, generator)
        left, right, gradient = take(factors, gradient, rows)
        self.left.append(left)
        if right is not None:
            self.right.append(right)
        if gradient is not None:
            self.gradient.append(gradient if weight is None else gradient * weight.sqrt())


def sample_labels(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a label for each image from the model's own probabilities.

    The gradient of the cross-entropy at these is that of the Fisher information; at the
    probabilities themselves it would be zero, whatever the network.
    """
    probabilities = logits.detach().double().softmax(dim=1).cpu()
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1).to(logits.device)


def walk(
    units: Sequence[Unit],
    images: Tensor,
    wanted: Collection[int],
    *,
    head: nn.Module | None,
    random_state: int,
    batch_size: int,
    max_rows: float | None,
) -> Iterator[tuple[int, dict[str, Observation]]]:
    """Run calibration images through units, and yield what each wanted one has shown.

    Without a head units come in order, and one state is held. With one, a forward pass keeps
    the state before each unit, then units come last first, each run again from its state while
    the gradient with respect to its output is propagated to its input. Captures are those of
    one unit, and of it no more than `max_rows` rows of each operation.

    Parameters
    ----------
    units : sequence of Unit
        Float units.
    images : Tensor of shape (n, ...)
        Calibration images.
    wanted : collection of int
        Numbers of the units to observe.
    head : Module or None
        Maps the last state to logits; None where gradients are not needed.
    random_state : int
        Seed of the labels and of the choice of rows; that in a unit does not depend on which
        others are wanted.
    batch_size : int
        Images of a sub-batch.
    max_rows : float or None
        Rows kept of each operation; None keeps ranges only.

    Yields
    ------
    int, dict of str to Observation
        Number of the unit and what its operations have shown, by name; an operation that has
        not run is missing.
    """
    if not wanted:
        return
    states = list(images.split(batch_size))
    n_images = len(images)

    def share(batch: Tensor) -> float | None:
        return None if max_rows is None else max_rows * len(batch) / n_images

    def watched(number: int) -> tuple[Unit | None, torch.Generator]:
        generator = torch.Generator().manual_seed(random_state + 1 + number)
        return (units[number] if number in wanted else None), generator

    if head is None:
        for number, unit in enumerate(units[: max(wanted) + 1]):
            with torch.no_grad(), _Watch(*watched(number)) as watch:
                for i, state in enumerate(states):
                    states[i] = unit.module(state)
                    watch.end_batch(share(state), need_gradients=False)
            if number in wanted:
                yield number, watch.observed
        return

    inputs = [states]
    for number, unit in enumerate(units):
        with torch.no_grad():
            inputs.append([unit.module(state) for state in inputs[-1]])
            for state, out in zip(inputs[-2], inputs[-1], strict=True):
                if not torch.isfinite(out).all():
                    with _Watch(*watched(number)):  # names the layer, where it is not the last
                        unit.module(state)
                    raise ValueError(_not_finite("output", "unit", unit.name))
    generator = torch.Generator().manual_seed(random_state)
    gradients = [_loss_gradient(head, state, generator) for state in inputs.pop()]
    for number in range(len(units) - 1, min(wanted) - 1, -1):
        unit, states = units[number], inputs.pop()
        with torch.enable_grad(), _Watch(*watched(number)) as watch:
            for i, state in enumerate(states):
                state = state.detach().requires_grad_()
                out = unit.module(state)
                (gradients[i],) = torch.autograd.grad(out, state, gradients[i])
                watch.end_batch(share(state), need_gradients=True)
        if number in wanted:
            yield number, watch.observed


def _loss_gradient(head: nn.Module, state: Tensor, generator: torch.Generator) -> Tensor:
    with torch.enable_grad():
        state = state.detach().requires_grad_()
        logits = head(state)
        if not torch.isfinite(logits).all():
            raise ValueError(_not_finite("output", "module", "head"))
        loss = F.cross_entropy(logits, sample_labels(logits, generator), reduction="sum")
        return torch.autograd.grad(loss, state)[0]


def _not_finite(what: str, kind: str, name: str) -> str:
    return (
        f"The {what} of {kind} {name!r} holds NaN or infinity during calibration. Check the "
        "weights of the backbone and the calibration images."
    )


@dataclass
class _Call:
    """One run of an operation; no gradient where the loss does not depend on its output."""

    name: str
    operands: list[Tensor]
    out: Tensor
    gradient: Tensor | None = None

    def note(self, gradient: Tensor) -> None:
        """Keep the loss gradient with respect to the output."""
        self.gradient = gradient


class _Watch:
    """Hooks on the operations of a unit while a sub-batch runs."""

    def __init__(self, unit: Unit | None, generator: torch.Generator) -> None:
        self.unit, self.generator = unit, generator
        self.observed: dict[str, Observation] = {}
        self._calls: list[_Call] = []
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> _Watch:
        for name, operation in self.unit.operations() if self.unit else ():
            self._hooks.append(operation.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, operands: tuple[Tensor, ...], out: Tensor) -> None:
            # Copies, as what follows may change an operand in place.
            call = _Call(name, [x.detach().clone() for x in operands], out.detach())
            if out.requires_grad:
                out.register_hook(call.note)
            observed = self.observed.setdefault(name, Observation(module))
            observed.see(name.partition(".")[2] or name, call.operands)
            self._calls.append(call)

        return hook

    def end_batch(self, budget: float | None, need_gradients: bool) -> None:
        """Keep rows of the sub-batch that ran, or raise if a gradient is not finite."""
        for call in self._calls if budget is not None else ():
            gradient = None
            if need_gradients:
                given = call.gradient
                gradient = torch.zeros_like(call.out) if given is None else given
                if not torch.isfinite(gradient).all():
                    name = call.name.partition(".")[2]
                    raise ValueError(_not_finite("loss gradient at the output", "layer", name))
            assert budget is not None
            self.observed[call.name].keep(call.operands, gradient, budget, self.generator)
        self._calls.clear()
