"""From what a user names to blocks, with something to read after each."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol, runtime_checkable

import timm
import torch
from torch import nn

from skquee.networks.backbones._checkpoint import load_checkpoint, read_checkpoint
from skquee.networks.backbones._modules import cut_modules
from skquee.networks.backbones._pools import GlobalPool
from skquee.networks.backbones._sized import channels_of
from skquee.networks.backbones._transformers import (
    Pool,
    Transformer,
    check_exits,
    cut_blocks,
    image_shape,
    own_head,
)
from skquee.networks.backbones._types import Level, Options, Size

__all__ = ["Cut", "build_backbone", "cut_backbone"]


@dataclass
class Cut:
    """A backbone in pieces that share its weights.

    `blocks`: block 0 maps images to a state; each other one maps the state before it to its own.
    `pools`: state of each block to the features (n, n_features) its head reads. `tail`: state of
    the last block to the backbone's own answer, as (pool, head); None where it has no head.
    `exits`: layers or names after which the blocks end. `channels`: channels of images. `size`:
    height and width of images, None where any will do.
    """

    blocks: nn.ModuleList
    pools: nn.ModuleList
    tail: tuple[nn.Module, nn.Module] | None
    exits: tuple[Level, ...]
    channels: int
    size: tuple[int, int] | None


def build_backbone(
    backbone: str | nn.Module,
    *,
    img_size: Size | None,
    in_chans: int,
    pretrained: bool,
    checkpoint: str | os.PathLike[str] | None,
    backbone_kwargs: Options | None,
    seed: int,
    n_outputs: int | None = None,
) -> nn.Module:
    """Build a backbone by name, or copy the one given, and load its weights.

    `backbone`: name of a timm model, or the model itself (never changed). `img_size`, `in_chans`,
    `pretrained`, `backbone_kwargs`: for timm, where `backbone` is a name. `checkpoint`: weights to
    load, strictly. `seed`: seed of its initial weights. `n_outputs`: of its own head, where it is
    built by name. Default: as the checkpoint has, or timm. Returns in evaluation mode, without
    gradients.
    """
    if checkpoint is not None and pretrained:
        raise ValueError("Give pretrained=True or a checkpoint, not both.")
    state = None if checkpoint is None else read_checkpoint(checkpoint)
    if isinstance(backbone, str):
        kwargs: dict[str, object] = dict(backbone_kwargs or {})
        if img_size is not None:
            kwargs["img_size"] = img_size
        # timm draws initial weights from torch's global generator: keep the caller's state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            kwargs = {"pretrained": pretrained, "in_chans": in_chans, **kwargs}
            model = _timm_model(backbone, kwargs)
            if isinstance(model, _Classifier):
                own = (state or {}).get(f"{_own_head(model)}.weight")
                wanted = own.shape[0] if n_outputs is None and own is not None else n_outputs
                if wanted not in (None, model.num_classes):
                    model.reset_classifier(wanted)
    elif isinstance(backbone, torch.jit.ScriptModule):
        raise TypeError(
            f"backbone is a {type(backbone).__name__}, whose layers torch runs by itself: give the "
            "module that it was made of."
        )
    elif isinstance(backbone, nn.Module):
        model = _copied(backbone)
    else:
        raise TypeError(
            f"backbone must be the name of a timm model or a torch module, got {backbone!r}."
        )
    if state is not None:
        load_checkpoint(model, state, source=str(checkpoint))
    return model.float().eval().requires_grad_(False)


def _copied(backbone: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(backbone)
    except RuntimeError as error:
        raise ValueError(
            f"This {type(backbone).__name__} cannot be copied ({str(error):.90}): some weight "
            "of it is computed from others. Where that is torch.nn.utils.weight_norm, take "
            "torch.nn.utils.parametrizations.weight_norm, or remove_weight_norm first."
        ) from error


@runtime_checkable
class _Classifier(Protocol):
    """What timm's models have, but for a few that give features only."""

    num_classes: int

    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        """Return what the model's own head ends in."""

    def reset_classifier(self, num_classes: int) -> None:
        """Put another head in place."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Iterate over modules, as any module does."""


def _own_head(model: _Classifier) -> str | None:
    """Return the name of the module that a timm model's own head ends in."""
    last = model.get_classifier()
    last = last[0] if isinstance(last, tuple) else last
    return next((name for name, module in model.named_modules() if module is last), None)


def _timm_model(name: str, kwargs: Options) -> nn.Module:
    """Build a model, for images of a size where it is one that is built for a size."""
    try:
        return timm.create_model(name, **kwargs)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        if isinstance(e, TypeError) and "img_size" in kwargs and "img_size" in str(e):
            return _timm_model(name, {k: v for k, v in kwargs.items() if k != "img_size"})
        given = ", ".join(f"{key}={value!r:.60}" for key, value in kwargs.items())
        lead = f"timm cannot build {name!r} with {given}: {str(e) or repr(e):.300}"
        raise ValueError(
            f"{lead.rstrip('.')}. Change img_size, in_chans or backbone_kwargs, or give the module "
            "itself: backbone=timm.create_model(...)."
        ) from e


def cut_backbone(
    backbone: nn.Module,
    exits: Sequence[Level] | None,
    blocks: Sequence[str] | None,
    *,
    img_size: Size | None,
    in_chans: int,
) -> Cut:
    """Cut a backbone after each exit.

    `backbone`: the backbone. `exits`: layers of a transformer, counted from 1, or with `blocks`
    some of them by number or name. Default: with `blocks`, all. `blocks`: names of submodules to
    cut a module after. `img_size`: height and width of images, for a module cut by name.
    `in_chans`: channels of images, where the module does not tell. Raises ValueError if a module
    is no transformer and no names are given, or exits do not fit.
    """
    if blocks is None:
        if not isinstance(backbone, Transformer):
            children = [name for name, _ in backbone.named_children()]
            wanted = "..."
            if "blocks" in children and exits and all(isinstance(e, Integral) for e in exits):
                wanted = ", ".join(repr(f"blocks.{int(e) - 1}") for e in exits)
            raise ValueError(
                f"{type(backbone).__name__} is not one of timm's VisionTransformers: say after "
                f"which of its modules to cut it, blocks=[{wanted}]. It has {children}."
            )
        if exits is None:
            raise ValueError(
                f"exits is missing: give layers from 1 to {len(backbone.blocks)}, the last one "
                "included."
            )
        found = check_exits(list(exits), len(backbone.blocks))
        pool, head = Pool(backbone), own_head(backbone)
        channels, size = image_shape(backbone)
        given = _sides(img_size)
        if None not in (given, size) and given != size:
            raise ValueError(
                f"img_size={img_size!r}, but this {type(backbone).__name__} was built for images "
                f"of {size}: build it for others, or leave img_size out."
            )
        return Cut(
            cut_blocks(backbone, found),
            nn.ModuleList([pool] * len(found)),
            None if head is None else (pool, head),
            found,
            channels,
            size,
        )
    names = _exit_names(exits, list(blocks))
    size = _sides(img_size)
    channels = channels_of(backbone, size, in_chans)
    pieces, tail = cut_modules(backbone, names, None if size is None else (channels, *size))
    return Cut(
        pieces,
        nn.ModuleList([GlobalPool()] * len(names)),
        (tail, nn.Identity()),
        tuple(names),
        channels,
        size,
    )


def _sides(img_size: Size | None) -> tuple[int, int] | None:
    if img_size is None:
        return None
    height, width = img_size if isinstance(img_size, (list, tuple)) else (img_size, img_size)
    return int(height), int(width)


def _exit_names(exits: Sequence[Level] | None, blocks: list[str]) -> list[str]:
    if exits is None:
        return blocks
    numbers = [blocks.index(e) + 1 if e in blocks else e for e in exits]
    if not all(isinstance(number, Integral) for number in numbers):
        raise ValueError(f"exits must be among blocks {blocks}, or their numbers, got {exits}.")
    return [blocks[number - 1] for number in check_exits(numbers, len(blocks))]
