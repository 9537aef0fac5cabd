"""A whole network as one block: a member of a cascade of networks."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from skquee.networks._costs import count_flops
from skquee.networks._images import ImageFormat
from skquee.networks._multi_exit import MultiExitNetwork
from skquee.networks._parameters import check_data_config
from skquee.networks._parts import FLOAT, Parts
from skquee.networks._training import is_probability
from skquee.networks.backbones._cut import build_backbone
from skquee.networks.backbones._sized import channels_of
from skquee.networks.backbones._types import Level, Options, Size
from skquee.values import PathTree
from skquee.values._checks import check_sequence
from skquee.values._types import Labels

__all__ = [
    "MOST_PATHS",
    "Logs",
    "NetworkLike",
    "build_member",
    "cascade_tree",
    "check_classes",
    "check_networks",
    "joined_blocks",
    "named",
    "whole_network",
]

MOST_PATHS = 255

#: A module, the name of a timm model (with its pretrained weights), or a fitted network.
NetworkLike: TypeAlias = nn.Module | str | MultiExitNetwork


class Logs(nn.Module):
    """Logarithms of probabilities: logits that softmax maps back to them."""

    def forward(self, probabilities: Tensor) -> Tensor:
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say of which network, by its name, an error or a warning is."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            yield
        except (TypeError, ValueError) as error:
            raise type(error)(f"Network {name!r}: {error}") from error
    for warning in told:
        warnings.warn(f"Network {name!r}: {warning.message}", warning.category, stacklevel=5)


def check_networks(networks: object) -> None:
    """Raise where networks are no mapping of names to what can be a member."""
    if not isinstance(networks, Mapping) or not networks:
        raise TypeError(
            "networks must be a mapping of names to torch modules, names of timm models or fitted "
            f"networks, cheapest first: {{'small': module, 'large': other}}, got {networks!r:.80}."
        )
    for name, network in networks.items():
        if not isinstance(name, str) or not name or "@" in name:
            raise ValueError(f"Names of networks must be texts without '@', got {name!r}.")
        if isinstance(network, type) or not isinstance(network, (nn.Module, str, MultiExitNetwork)):
            raise TypeError(
                f"Network {name!r} must be a torch module, the name of a timm model or a fitted "
                f"MultiExitNetwork, got {network!r:.60}."
            )


def whole_network(
    name: str,
    network: NetworkLike,
    img_size: Size | None,
    data_config: Options | None,
    classes: Sequence[object] | None,
    device: torch.device,
) -> MultiExitNetwork:
    """Return a network as one of a single block that answers in logits, not compiled yet.

    As :meth:`skquee.MultiPathClassifierBank.from_networks` takes its options; a module is copied.
    Raises ValueError if it does not run, or does not answer with (n, n_classes).
    """
    own: Labels | None
    if isinstance(network, MultiExitNetwork):
        module, image_format, own = joined_blocks(network, classes)
    else:
        module = build_member(network, seed=0, pretrained=True)
        image_format = _format(module, img_size, data_config)
        own = None if classes is None else np.asarray(check_sequence(classes, "classes", "labels"))
    module = module.to(device)
    images = image_format.noise(4, device)
    answer = _answer(module, images)
    n_classes = answer.shape[1]
    labels: Labels = np.arange(n_classes) if own is None else own
    if len(labels) != n_classes:
        raise ValueError(f"it answers {n_classes} classes, but classes has {len(labels)} labels")
    blocks = nn.ModuleList([module])
    made = MultiExitNetwork(network if isinstance(network, str) else module, blocks=(name,))
    made.parts_ = Parts(
        backbone=module,
        blocks=blocks,
        pools=nn.ModuleList([nn.Identity()]),
        heads=nn.ModuleList([Logs() if is_probability(answer) else nn.Identity()]),
        head_widths=(n_classes,),
        final_head_kept=True,
        format=image_format,
        device=device,
        seed=0,
        exits=(name,),
        classes=labels,
        flops=count_flops(blocks, images[:1]),
        head_flops=np.zeros(1, dtype=np.int64),
        levels={FLOAT: blocks},
        paths=PathTree.from_paths([(FLOAT,)], [1.0], classes=labels.tolist()),
    )
    return made


def check_classes(member: MultiExitNetwork, first: MultiExitNetwork) -> None:
    """Raise where a network answers other classes than the first one."""
    if len(first.classes_) != len(member.classes_):
        raise ValueError(
            f"it answers {len(member.classes_)} classes, those before it {len(first.classes_)}"
        )
    if not np.array_equal(first.classes_, member.classes_):
        raise ValueError(
            f"its classes are {member.classes_[:5]}, those of the networks before it "
            f"{first.classes_[:5]}"
        )


def build_member(
    network: nn.Module | str, *, seed: int, pretrained: bool = False, n_outputs: int | None = None
) -> nn.Module:
    """Build a network by its name, or copy a module."""
    return build_backbone(
        network,
        img_size=None,
        in_chans=3,
        pretrained=pretrained and isinstance(network, str),
        checkpoint=None,
        backbone_kwargs=None,
        seed=seed,
        n_outputs=n_outputs,
    )


def joined_blocks(
    network: MultiExitNetwork, classes: Sequence[object] | None
) -> tuple[nn.Module, ImageFormat, Labels]:
    """Return the whole float network of one with exits: all blocks, the last pool and head."""
    if not hasattr(network, "parts_"):
        raise ValueError("it is not fitted yet: call fit")
    parts = network.parts_
    if classes is not None and list(classes) != parts.classes.tolist():
        raise ValueError(f"classes={list(classes)[:5]}, it was fitted on {parts.classes[:5]}")
    if parts.format.size is None:
        raise ValueError("it takes images of any size: give img_size= before fit")
    whole = nn.Sequential(*parts.blocks, parts.pools[-1], parts.heads[-1])
    return whole, parts.format, parts.classes


def _format(module: nn.Module, img_size: Size | None, data_config: Options | None) -> ImageFormat:
    """Return what a module takes: its own configuration, as timm's have one, or what is given."""
    own: Options = getattr(module, "pretrained_cfg", None) or {}
    shape = own.get("input_size")
    size = img_size if img_size is not None else None if shape is None else tuple(shape[1:])
    if size is None:
        raise ValueError("the size of its images is not known: give img_size=, in pixels")
    if isinstance(size, int):
        size = (size, size)
    sides = int(size[0]), int(size[1])
    channels = channels_of(module, sides)
    given = check_data_config(data_config, channels)
    return replace(ImageFormat.of(channels, sides, own), **given)


def _answer(module: nn.Module, images: Tensor) -> Tensor:
    """Return what a module answers, (n, n_classes): logits or probabilities."""
    with torch.inference_mode():
        try:
            answer = module(images)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"it does not run on images {tuple(images.shape[1:])}, (C, H, W): {error}. Give "
                "img_size= that it takes"
            ) from error
    if isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == len(images):
        if answer.shape[1] > 1:
            return answer
    got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    raise ValueError(f"it must answer {len(images)} images with (n, n_classes), got {got}")


def cascade_tree(
    steps: Mapping[str, tuple[str, Level]],
    costs: Mapping[str, float],
    paths: str,
    classes: Labels,
) -> PathTree:
    """Return every increasing sequence of networks, or each after the one before.

    `steps`: network and engine of each level, in the order of the networks. `costs`: of each
    level. `paths`: "cascade" or "chain". Raises ValueError if there are too many.
    """
    labels = list(steps)
    networks = dict.fromkeys(name for name, _ in steps.values())
    of = [[x for x in labels if steps[x][0] == name] for name in networks]
    count = math.prod(1 + len(own) for own in of) - 1
    if paths == "chain":
        count = sum(math.prod(map(len, of[: end + 1])) for end in range(len(of)))
    if count > MOST_PATHS:
        raise ValueError(
            f"{len(of)} networks on {[len(own) for own in of]} engines make {count} paths, "
            f"more than {MOST_PATHS}: give fewer of either, or paths='chain'."
        )
    picked = [
        run
        for length in range(1, len(of) + 1)
        for run in itertools.combinations(range(len(of)), length)
        if paths == "cascade" or run == tuple(range(length))
    ]
    sequences = [s for run in picked for s in itertools.product(*(of[k] for k in run))]
    return PathTree.from_paths(
        sequences,
        [sum(costs[label] for label in sequence) for sequence in sequences],
        columns=[labels.index(sequence[-1]) for sequence in sequences],
        classes=classes.tolist(),
        cost_unit="ms",
    )
