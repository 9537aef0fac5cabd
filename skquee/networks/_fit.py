"""Fitting a multi-exit network: build, cut, look once, cache features, train heads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from torch import Tensor, nn

from skquee.networks._costs import count_flops
from skquee.networks._execution import choose_device
from skquee.networks._head_trainer import HeadTrainer
from skquee.networks._images import ImageFormat, ImageRows
from skquee.networks._labels import encode_labels, known_codes, labels_of
from skquee.networks._parameters import (
    PRETRAINED,
    NetworkParameters,
    check_data_config,
    check_parameters,
    trainer_of,
)
from skquee.networks._parts import FLOAT, Parts
from skquee.networks._sources import image_of, source_of
from skquee.networks._training import check_head, check_trainable, is_probability
from skquee.networks.backbones._cut import Cut, build_backbone, cut_backbone
from skquee.networks.backbones._pools import make_pools, run_once
from skquee.networks.engines import input_ranges
from skquee.values import PathTree
from skquee.values._tree import relative_to_whole
from skquee.values._types import Labels, Rows

__all__ = ["assemble", "fit_network"]

WHO = "validation_data, which is no tuple (X, y),"
N_LOOKED_AT = 32  # images whose scale is looked at
N_RANGES = 128  # images that show the ranges of activations, for int8 engines


def assemble(
    network: NetworkParameters, seed: int, *, n_outputs: int | None = None, empty: bool = False
) -> tuple[nn.Module, Cut, ImageFormat]:
    """Build and cut the backbone that a network's parameters describe.

    `network`: fitted or not. `seed`: of initial weights. `n_outputs`: of the backbone's own head,
    where that is known. `empty`: load none of its weights: those of a file follow.
    """
    weights = None if empty else network.weights
    backbone = build_backbone(
        network.backbone,
        img_size=network.img_size,
        in_chans=network.in_chans,
        pretrained=weights == PRETRAINED,
        checkpoint=None if weights == PRETRAINED else weights,
        backbone_kwargs=network.backbone_kwargs,
        n_outputs=n_outputs,
        seed=seed,
    )
    cut = cut_backbone(
        backbone,
        network.exits,
        network.blocks,
        img_size=network.img_size,
        in_chans=network.in_chans,
    )
    own = getattr(backbone, "pretrained_cfg", None) or {}
    given = check_data_config(network.data_config, cut.channels)
    return backbone, cut, replace(ImageFormat.of(cut.channels, cut.size, own), **given)


@torch.inference_mode(False)  # heads are trained, wherever this is called
def fit_network(
    network: NetworkParameters, X: Rows, y: ArrayLike | None, validation_data: Rows
) -> Parts:
    """Fit a network, which is left as it was, and return its parts, in float."""
    check_parameters(network)
    device, trainer = choose_device(network.device), trainer_of(network)
    random = check_random_state(network.random_state)
    seed = int(random.randint(2**31 - 1))
    backbone, cut, image_format = assemble(network, seed)
    image_format, train, codes, held, held_codes, classes = _rows(
        image_format, _own_size(backbone), X, y, validation_data, network.n_classes, seed
    )
    _warn_of_scaled(train)
    blocks = cut.blocks.to(device)
    states = run_once(blocks, next(train[:1].batches(1)).to(device), cut.exits)
    if network.blocks is not None or trainer.pool != "auto":
        tail = None if cut.tail is None else nn.Sequential(*cut.tail).to(device)
        cut.pools = make_pools(trainer.pool, blocks, tail, states, cut.exits)
    pools = cut.pools.to(device)
    with torch.inference_mode():
        widths = [pool(state).shape[1] for pool, state in zip(pools, states[1:], strict=True)]
    generator = torch.Generator().manual_seed(seed)
    heads = trainer.make(widths, len(classes), generator).to(device)
    for head, width in zip(heads, widths, strict=True):
        check_head(head, width, len(classes))
    keep = _place_own_head(network, trainer, cut, heads, states[-1], len(classes))
    check_trainable(list(heads)[: len(heads) - keep], trainer.max_epochs)
    trainer.look(train)
    answering = [nn.Sequential(*parts) for parts in zip(pools, heads, strict=True)]
    accuracy = trainer.train(
        heads,
        blocks,
        pools,
        (train, codes),
        (held, held_codes),
        train_last=not keep,
        device=device,
        generator=generator,
    )
    flops = count_flops(blocks, states[0])
    tree = PathTree.from_levels(
        len(flops), [FLOAT], flops, classes=classes.tolist(), random_state=seed
    )
    return Parts(
        backbone=backbone,
        blocks=blocks,
        pools=pools,
        heads=heads.requires_grad_(False).eval(),
        head_widths=tuple(widths),
        final_head_kept=keep,
        format=image_format,
        device=device,
        seed=seed,
        exits=cut.exits,
        classes=classes,
        flops=flops,
        head_flops=np.concatenate(
            [count_flops([part], state) for part, state in zip(answering, states[1:], strict=True)]
        ),
        levels={FLOAT: blocks},
        paths=relative_to_whole(tree),
        validation_accuracy=accuracy,
        ranges=input_ranges(blocks, (b.to(device) for b in train[:N_RANGES].batches(64))),
    )


def _rows(
    image_format: ImageFormat,
    own_size: Sequence[int] | None,
    X: Rows,
    y: ArrayLike | None,
    validation_data: Rows,
    n_classes: int | None,
    seed: int,
) -> tuple[ImageFormat, ImageRows, NDArray[np.int64], ImageRows, NDArray[np.int64], Labels]:
    images = image_format.rows(X)
    image_format = image_format.settled(images, own_size)
    images = image_format.rows(images)
    labels = labels_of(images) if y is None else y
    classes, codes = encode_labels(labels, n_classes, len(images))
    if validation_data is None:
        train, held = train_test_split(np.arange(len(images)), test_size=0.1, random_state=seed)
        return image_format, images[train], codes[train], images[held], codes[held], classes
    if isinstance(validation_data, tuple):
        if len(validation_data) != 2:
            raise ValueError(f"validation_data must be (X, y), got {len(validation_data)} parts.")
        held_X, held_y = validation_data
    else:
        held_X, held_y = validation_data, None
        if isinstance(source_of(held_X).data, (np.ndarray, Tensor)):
            labels_of(held_X, WHO)  # says that an array brings none
    held_images = image_format.rows(held_X)
    if not len(held_images):
        raise ValueError("validation_data holds no image: give some, or None for a tenth of X.")
    if held_y is None:
        held_y = labels_of(held_images, WHO)
    held_codes = known_codes(held_y, classes, len(held_images))
    return image_format, images, codes, held_images, held_codes, classes


def _warn_of_scaled(images: ImageRows) -> None:
    """Warn of tensors of floats that no normalisation has touched: they are taken as they are."""
    data = images.data
    first = data[int(images.order[0])] if len(images) else None
    image = first if isinstance(data, Tensor) else image_of(first)
    ready = images.collate is None and isinstance(image, Tensor) and image.is_floating_point()
    if not ready or not any(images.format.mean):
        return
    some = next(images[:N_LOOKED_AT].batches(N_LOOKED_AT))
    low, high = float(some.min()), float(some.max())
    if 0 <= low < high <= 1:
        warnings.warn(
            f"The first tensors of images lie from {low:.3g} to {high:.3g}: floats of tensors are "
            "taken as normalised, and these seem to be scaled only. Normalise them by the mean "
            f"{images.format.mean} and std {images.format.std}, or give uint8 or PIL images.",
            UserWarning,
            stacklevel=5,
        )


def _own_size(backbone: nn.Module) -> Sequence[int] | None:
    """Return the height and width that timm says a model was trained for."""
    size = (getattr(backbone, "pretrained_cfg", None) or {}).get("input_size")
    return None if size is None else size[1:]


def _place_own_head(
    network: NetworkParameters,
    trainer: HeadTrainer,
    cut: Cut,
    heads: nn.ModuleList,
    state: Tensor,
    n_classes: int,
) -> bool:
    """Put the backbone's own head last where it fits; return whether it stays as it is."""
    fits = False
    if cut.tail is not None:
        pool, head = (part.to(state.device) for part in cut.tail)
        with torch.inference_mode():
            answer = head(pool(state))
        fits = answer.shape[1:] == (n_classes,)
    named = isinstance(network.backbone, str)
    own_outputs = "num_classes" not in (network.backbone_kwargs or {})
    pretrained = network.weights == PRETRAINED
    trained = not named or (own_outputs if pretrained else network.weights is not None)
    if trainer.final_head == "keep" and not fits:
        raise ValueError(
            f"final_head='keep', but the backbone has no head of {n_classes} outputs for the "
            f"{n_classes} classes. Let it be trained: final_head='train'."
        )
    keep = trainer.final_head == "keep" or (trainer.final_head == "auto" and fits and trained)
    if keep and is_probability(answer):
        raise ValueError(
            "The backbone's own head answers probabilities (not negative, of sum 1), where logits "
            "are needed: their softmax would be taken twice. Give the backbone without its last "
            "softmax, or let a head be trained: final_head='train'."
        )
    if keep:
        cut.pools[-1], heads[-1] = pool, head
    elif fits and pool is cut.pools[-1] and trainer.heads == "linear":
        heads[-1].load_state_dict(head.state_dict())
    return keep
