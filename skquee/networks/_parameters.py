"""What a network's parameters may be: checked before a backbone is built."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

import timm
from torch import nn
from torchvision.transforms import InterpolationMode

from skquee.networks._head_trainer import HeadTrainer
from skquee.networks.backbones._types import Level, Options, Size
from skquee.values._checks import (
    check_integer,
    check_number,
    check_numbers,
    check_option,
    check_path,
    check_seed,
    check_sequence,
)
from skquee.values._types import Seed, TreeOptions

__all__ = [
    "MOST_PIXELS",
    "PRETRAINED",
    "NetworkParameters",
    "check_data_config",
    "check_parameters",
    "check_tree_options",
    "check_widths",
    "trainer_of",
]

PRETRAINED = "pretrained"  # the weights that timm knows

MOST_PIXELS = 8192  # a side of an image
MOST_CLASSES = 10**6
MOST_BITS = 32  # float: no quantisation


class NetworkParameters(Protocol):
    """The parameters of a network, as they stand in it: what building and cutting read."""

    backbone: str | nn.Module
    exits: Sequence[Level] | None
    blocks: Sequence[str] | None
    weights: str | os.PathLike[str] | None
    backbone_kwargs: Options | None
    img_size: Size | None
    in_chans: int
    data_config: Options | None
    n_classes: int | None
    trainer: HeadTrainer | None
    device: str | None
    random_state: Seed


def trainer_of(network: NetworkParameters) -> HeadTrainer:
    """Return the trainer that holds: the one given, or one with default options."""
    trainer = HeadTrainer() if network.trainer is None else network.trainer
    if not isinstance(trainer, HeadTrainer):
        raise TypeError(
            f"trainer must be a HeadTrainer, HeadTrainer(max_epochs=50), or None, got {trainer!r}."
        )
    return trainer


def check_parameters(network: NetworkParameters) -> None:
    """Raise for the first parameter that cannot be used."""
    _check_backbone(network)
    _check_exits(network.exits, network.blocks)
    if network.n_classes is not None:
        check_integer(network.n_classes, "n_classes", at_least=2, at_most=MOST_CLASSES)
    if network.img_size is not None:
        _check_size(network.img_size)
    check_integer(network.in_chans, "in_chans", at_least=1)
    check_seed(network.random_state)
    trainer_of(network).check()


def check_widths(levels: Sequence[int]) -> list[int]:
    """Return bit widths, lowest first: distinct, from 2 to 32; 8.0 passes for 8."""
    given = check_sequence(levels, "levels", "bit widths, (4, 8)")
    name = "Each bit width of levels"
    widths = [
        check_integer(level, name, at_least=2, at_most=MOST_BITS, whole_floats=True)
        for level in given
    ]
    if not widths or len(set(widths)) != len(widths):
        raise ValueError(f"levels must be distinct bit widths, at least one, got {tuple(given)}.")
    return sorted(widths)


def check_tree_options(options: Mapping[str, object]) -> None:
    """Raise where an option is none that a tree of paths over levels takes."""
    for name in options:
        check_option(name, "A further option", TreeOptions.__annotations__)


def check_data_config(config: Options | None, channels: int) -> dict[str, Any]:
    """Return what a user says of how images are prepared, or raise where something does not fit."""
    known = ("mean", "std", "interpolation", "crop_pct")
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ValueError(f"data_config must be a dict with any of {known}, got {config!r}.")
    unknown = sorted(set(config) - set(known), key=str)
    if unknown:
        raise ValueError(f"data_config holds {unknown}; it takes {', '.join(known)}.")
    # None leaves it to the backbone.
    given = {key: value for key, value in config.items() if value is not None}
    for key, above in (("mean", None), ("std", 0)):
        if key in given:
            numbers = check_numbers(
                given[key],
                f"data_config[{key!r}]",
                shape=(channels,),
                what="one a channel, on a scale of 0 to 1",
                above=above,
            )
            given[key] = tuple(numbers.tolist())
    if "interpolation" in given:
        modes = [mode.value for mode in InterpolationMode]
        check_option(given["interpolation"], "data_config['interpolation']", modes)
    if "crop_pct" in given:
        check_number(given["crop_pct"], "data_config['crop_pct']", above=0, at_most=1)
    return given


def _check_backbone(network: NetworkParameters) -> None:
    backbone, kwargs = network.backbone, network.backbone_kwargs
    pretrained = isinstance(network.weights, str) and network.weights == PRETRAINED
    if network.weights is not None and not pretrained:
        check_path(network.weights, "weights")
    texts = isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)
    if kwargs is not None and not texts:
        raise ValueError(
            f"backbone_kwargs must be a dict of timm's arguments by name, or None, got {kwargs!r}."
        )
    own = {"model_name", "pretrained"} & set(kwargs or ())
    if own:
        raise ValueError(
            f"backbone_kwargs holds {sorted(own)}: give the parameters backbone= and weights=."
        )
    if not isinstance(backbone, str):
        for name, given in (("weights='pretrained'", pretrained), ("backbone_kwargs", kwargs)):
            if given:
                raise ValueError(
                    f"{name} is for a backbone that timm builds by name; this one is a "
                    f"{type(backbone).__name__}, built already. Leave {name} out."
                )
        return
    source, colon, _ = backbone.partition(":")
    if colon and (source == "local-dir" or pretrained):
        return
    if colon:
        raise ValueError(
            f"backbone={backbone!r} asks the network for what the model is: say "
            "weights='pretrained', or take one of timm.list_models()."
        )
    if not timm.is_model(backbone):
        shapes = (f"{backbone}*", f"*{backbone}*") if backbone.isidentifier() else ()
        close = list(dict.fromkeys(name for shape in shapes for name in timm.list_models(shape)))
        hint = f" (such as {', '.join(close[:5])})" if close else ""
        raise ValueError(
            f"backbone must be the name of a model that the installed timm {timm.__version__} has, "
            f"or a torch module, got {backbone!r}. timm.list_models() names them{hint}."
        )


def _check_exits(exits: Sequence[Level] | None, blocks: Sequence[str] | None) -> None:
    if blocks is not None:
        for name in check_sequence(blocks, "blocks", "names of submodules"):
            if not isinstance(name, str):
                raise ValueError(f"blocks must hold names of submodules, got {name!r}.")
    if exits is None:
        return
    for layer in check_sequence(exits, "exits", "layers, (2, 4)"):
        whole = isinstance(layer, Integral) and not isinstance(layer, bool)
        if not whole and not (blocks is not None and isinstance(layer, str)):
            kinds = "numbers of layers, from 1" + (", or names" if blocks is not None else "")
            raise ValueError(f"exits must hold {kinds}, got {layer!r}.")


def _check_size(size: Size) -> None:
    sides = list(size) if isinstance(size, (list, tuple)) else [size]
    if isinstance(size, (list, tuple)) and len(sides) != 2:
        raise ValueError(f"img_size must be pixels, or (height, width), got {size!r}.")
    for side in sides:
        check_integer(side, "img_size, in pixels,", at_least=1, at_most=MOST_PIXELS)
