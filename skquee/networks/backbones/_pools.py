"""What a head reads of the state after a block: its positions averaged, whatever the layout."""

from __future__ import annotations

import contextlib
import copy
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from skquee.networks.backbones._layout import channel_axes
from skquee.networks.backbones._sized import NOT_RUN, does_not_run
from skquee.networks.backbones._types import Level

__all__ = [
    "GlobalPool",
    "PoolKind",
    "check_pool",
    "make_pools",
    "plain_pool",
    "restored_pools",
    "run_once",
]

#: "auto", "channels_first", "channels_last" or a function of a state, or a list of these.
Kind: TypeAlias = str | Callable[[Tensor], Tensor]
PoolKind: TypeAlias = Kind | Sequence[Kind]
NAMED = ("auto", "channels_first", "channels_last")


class GlobalPool(nn.Module):
    """Features of any state: the mean over its positions.

    `axis`: of channels, from 1. Default: the first of maps and the last of tokens, as saved
    networks of before have it.
    """

    def __init__(self, axis: int | None = None) -> None:
        super().__init__()
        self.axis = axis

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"axis={self.axis}"

    def forward(self, state: Tensor) -> Tensor:
        """Return (n, n_features)."""
        axis = self.axis
        if axis is None:
            axis = 1 if state.ndim == 4 else 2
            state = state if state.ndim in (2, 3, 4) else state.flatten(1)
        positions = [other for other in range(1, state.ndim) if other != axis]
        return state.mean(dim=positions) if positions and state.ndim > 2 else state


class _Given(nn.Module):
    """A user's function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, state: Tensor) -> Tensor:
        return self.function(state)


def check_pool(pool: PoolKind) -> None:
    """Raise where `pool` is nothing that heads can read by."""
    parts = [pool] if isinstance(pool, str) or not isinstance(pool, Sequence) else list(pool)
    good = all(part in NAMED if isinstance(part, str) else callable(part) for part in parts)
    if not (parts and good) or any(isinstance(part, type) for part in parts):
        raise ValueError(
            f"pool must be one of {NAMED}, a function of a state to features (n, n_features), or "
            f"a list of these, one a block, got {pool!r:.100}."
        )


def plain_pool(pool: PoolKind) -> str | list[str] | None:
    """Return `pool` as a file holds it: None where it is, or holds, a function."""
    if isinstance(pool, str):
        return pool
    texts = [] if callable(pool) else [part for part in pool if isinstance(part, str)]
    return None if callable(pool) or len(texts) < len(pool) else texts


def _one_each(pool: PoolKind, names: Sequence[Level]) -> list[Kind]:
    """Return what makes the features after each of some names."""
    if isinstance(pool, str) or not isinstance(pool, Sequence):
        return [pool] * len(names)
    if len(pool) != len(names):
        raise ValueError(
            f"pool must list {len(names)}, one for each of {list(names)}, got {list(pool)}."
        )
    return list(pool)


def restored_pools(
    built: nn.ModuleList, axes: Sequence[int | None], pool: PoolKind, names: Sequence[Level]
) -> nn.ModuleList:
    """Return the pools of a network that was saved.

    `built`: as it was cut: a transformer's own, or those of before. `axes`: of channels, as saved;
    None where something else pools. `pool`: functions that were given again. `names`: after what
    each block ends.
    """
    kinds = _one_each(pool, names)
    made = nn.ModuleList()
    for own, axis, kind in zip(built, axes or [None] * len(built), kinds, strict=True):
        if axis is not None:
            made.append(GlobalPool(axis))
        else:
            made.append(own if isinstance(kind, str) else _given(kind))
    return made


def _given(kind: Callable[[Tensor], Tensor]) -> nn.Module:
    module = copy.deepcopy(kind) if isinstance(kind, nn.Module) else _Given(kind)
    return module.requires_grad_(False).eval()


def make_pools(
    pool: PoolKind,
    blocks: Iterable[nn.Module],
    tail: nn.Module | None,
    states: Sequence[Tensor],
    names: Sequence[Level],
) -> nn.ModuleList:
    """Return what makes the features of each head.

    `pool`: as checked. `tail`: takes what the last block gives. `states`: an image, and the state
    after each block. `names`: after what each ends. Raises ValueError if it is not clear what axis
    of a state holds channels, or features are no table.
    """
    kinds = _one_each(pool, names)
    axes: Sequence[int] = ()
    if any(isinstance(kind, str) and kind == "auto" for kind in kinds):
        axes = channel_axes(blocks, tail, states[0], names)
    made = nn.ModuleList()
    for number, (kind, state) in enumerate(zip(kinds, states[1:], strict=True)):
        if not isinstance(kind, str):
            made.append(_given(kind).to(state.device))
        elif kind == "auto":
            made.append(GlobalPool(axes[number]))
        else:
            made.append(GlobalPool(1 if kind == "channels_first" else state.ndim - 1))
        _look(made[-1], state, names[number])
    return made


def _look(pool: nn.Module, state: Tensor, name: Level) -> None:
    """Pool one state, and refuse what no head can read."""
    with torch.inference_mode():
        try:
            features = pool(state)
        except Exception as error:
            raise ValueError(
                f"pool does not run on the state after {name!r}, {tuple(state.shape)}: {error}"
            ) from error
    table = isinstance(features, Tensor) and features.ndim == 2 and len(features) == len(state)
    if not table or not features.shape[1]:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"pool must map the state after {name!r}, {tuple(state.shape)}, to features "
            f"({len(state)}, n_features), got {got}."
        )


def _quietly(block: nn.Module, state: Tensor) -> Tensor:
    """Run a block; where it fails, keep back the code that torch.fx prints before it raises."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        made: Tensor = block(state)
    sys.stderr.write(printed.getvalue())
    return made


def run_once(blocks: Iterable[nn.Module], image: Tensor, names: Sequence[Level]) -> list[Tensor]:
    """Run one image (1, C, H, W), and return it with the state after each block.

    Raises ValueError if a block does not run on it, or what crosses a cut, after one of `names`, is
    not one tensor (n, ...).
    """
    states = [image]
    with torch.inference_mode():
        for block, name in zip(blocks, names, strict=True):
            try:
                state = _quietly(block, states[-1])
            except NOT_RUN as error:
                raise does_not_run(image.shape[1:], error, len(states)) from error
            if not isinstance(state, Tensor):
                count = f" of {len(state)}" if isinstance(state, (tuple, list)) else ""
                raise ValueError(
                    f"{name!r} returns a {type(state).__name__}{count}, and a block hands on "
                    "exactly one tensor: cut after a module that returns one, further in or out, "
                    "or wrap these modules in one of your own that does."
                )
            if state.ndim < 2 or len(state) != len(image):
                raise ValueError(
                    f"{name!r} returns a tensor {tuple(state.shape)} for {len(image)} image: a "
                    "state needs its first axis for images. Cut after another module."
                )
            states.append(state)
    return states
