"""Which batch normalisations can be folded into the convolution before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from skquee.networks.backbones._calls import Args, Calls, Function, Kwargs, hooked

__all__ = ["norms_to_fold"]

FORWARDS = (nn.BatchNorm2d.forward, BatchNormAct2d.forward)


class _Uses(Calls):
    """Count the calls that make tensors of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()

    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        out = func(*args, **kwargs)
        if any(isinstance(made, Tensor) for made in _flat(out)):
            given = {id(x) for x in _flat((args, kwargs)) if isinstance(x, Tensor)}
            self.counts.update(given)
        return out


def _flat(values: object) -> list[object]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [part for value in values for part in _flat(value)]
    return [values]


def norms_to_fold(block: nn.Module, state: Tensor) -> dict[str, str]:
    """Run a block, and find each convolution whose answer a batch normalisation alone reads.

    `block`: in evaluation mode. `state` (n, ...): some input. Returns name of the convolution to
    that of the batch normalisation; both ran once.
    """
    made: dict[str, list[Tensor]] = {}
    read: dict[str, list[Tensor]] = {}
    handles, uses = [], _Uses()

    def note_made(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            made.setdefault(name, []).append(out)  # kept: no other takes over its id
            uses.counts[id(out)] = 0  # those were of one whose id it has taken over

        return hook

    def note_read(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read.setdefault(name, []).append(inputs[0])

        return hook

    for name, module in block.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(note_made(name)))
        elif isinstance(module, nn.BatchNorm2d) and type(module).forward in FORWARDS:
            if module.running_mean is not None and not module.training:
                handles.append(module.register_forward_pre_hook(note_read(name)))
    with hooked(handles), torch.no_grad(), uses:
        block(state)
    readers = {id(given[0]): name for name, given in read.items() if len(given) == 1}
    return {
        name: readers[id(out[0])]
        for name, out in made.items()
        if len(out) == 1 and id(out[0]) in readers and uses.counts[id(out[0])] == 1
    }
