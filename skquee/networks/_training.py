"""Training exit heads on cached features, and a small backbone from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from skquee.networks._execution import run_in_parts
from skquee.networks._images import ImageFormat, ImageRows
from skquee.networks._labels import encode_labels
from skquee.networks.backbones._transformers import Transformer, image_shape
from skquee.values._checks import check_integer, check_number, check_seed
from skquee.values._types import Rows, Seed

HeadKind = str | Callable[[int, int], nn.Module]

__all__ = [
    "HeadKind",
    "augmented",
    "cache_features",
    "check_head",
    "check_trainable",
    "is_probability",
    "make_heads",
    "train_backbone",
    "train_heads",
]


def make_heads(
    widths: Sequence[int], n_classes: int, kind: HeadKind, generator: torch.Generator
) -> nn.ModuleList:
    """Make a head for each exit, of so many features.

    `kind`: one linear layer, as vision transformers end in, or ``(n_features, n_classes)`` to a
    module that maps features to logits.
    """
    if callable(kind):
        # A module of the user's draws from torch's global generator: keep the caller's state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            try:
                made = [kind(width, n_classes) for width in widths]
            except TypeError as error:
                raise ValueError(
                    "heads must be a callable of (n_features, n_classes), as (16, 10), but "
                    f"calling it failed: {error}"
                ) from error
        for width, head in zip(widths, made, strict=True):
            if not isinstance(head, nn.Module):
                raise ValueError(
                    f"heads({width}, {n_classes}) must return a torch module, features "
                    f"(n, {width}) to logits (n, {n_classes}), got {head!r:.80}."
                )
        return nn.ModuleList(made)
    heads = nn.ModuleList()
    for width in widths:
        head = nn.utils.skip_init(nn.Linear, width, n_classes)
        nn.init.trunc_normal_(head.weight, std=0.02, generator=generator)
        nn.init.zeros_(head.bias)
        heads.append(head)
    return heads


def check_head(head: nn.Module, width: int, n_classes: int) -> None:
    """Raise where a head, a copy of which runs on two rows, does not map features to logits."""
    like = next(head.parameters(), None)
    features = torch.zeros(2, width, device=None if like is None else like.device)
    wanted = f"A head must map features (n, {width}) to logits (n, {n_classes})"
    try:
        with torch.no_grad():
            logits = copy.deepcopy(head).eval()(features)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{wanted}; {head!r:.80} does not run on them: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (2, n_classes):
        given = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{wanted}, but two rows gave {given}: {head!r:.80}.")


def is_probability(answer: Tensor) -> bool:
    """Tell whether answers (n, n_classes) are probabilities, not logits."""
    sums = answer.sum(dim=1)
    return bool((answer >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)


def check_trainable(heads: Sequence[nn.Module], max_epochs: int) -> None:
    """Raise where heads that are to be trained have nothing to train; 0 epochs train none."""
    for number, head in enumerate(heads, start=1):
        weights = list(head.parameters())
        if not weights or (max_epochs and not any(weight.requires_grad for weight in weights)):
            raise ValueError(
                f"Head {number} has no weights to train: {head!r:.80}. Give a head that has, as "
                "heads='linear' makes" + ("." if not weights else ", or max_epochs=0.")
            )


def augmented(
    augmentation: Callable[[Tensor], Tensor],
    images: Tensor,
    image_format: ImageFormat,
    *,
    look: bool = False,
) -> Tensor:
    """Return normalised images (n, C, H, W) changed one by one, as they were before.

    `augmentation`: an image (C, H, W) of floats from 0 to 1 to a changed one. `look`: look for NaN,
    too, which waits for the device. Raises ValueError if it returns anything else.
    """
    changed = []
    for picture in image_format.pixels(images).unbind():
        made = augmentation(picture)
        alike = isinstance(made, Tensor) and made.shape == picture.shape
        if not (alike and made.is_floating_point() and not (look and made.isnan().any())):
            given = type(made).__name__
            if isinstance(made, Tensor):
                given = f"{tuple(made.shape)} of {made.dtype}"
                given += " with NaN" if alike and made.is_floating_point() else ""
            raise ValueError(
                "augmentation must return an image of the same size, "
                f"{tuple(picture.shape)} of floats from 0 to 1, got {given}."
            )
        changed.append(made)
    return image_format.normalised(torch.stack(changed))


@torch.enable_grad()  # also where a caller turned it off
def train_heads(
    heads: nn.ModuleList,
    features: Sequence[Tensor],
    labels: Tensor,
    validation_features: Sequence[Tensor],
    validation_labels: Tensor,
    *,
    train_last: bool = True,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    max_epochs: int,
    patience: int,
    generator: torch.Generator,
) -> NDArray[np.float64]:
    """Train all heads jointly on features of a frozen backbone, each stopped on its own.

    The loss is the scaled one of JEI-DNN's warm-up, ``CE(last) + sum_l (G + 1 - l) CE_l``
    over the G earlier heads, ``l`` from 0. A head keeps the weights of best validation
    accuracy (of those, of least loss), its starting weights included, and stops when
    neither accuracy nor loss has improved for `patience` epochs: few validation rows give
    an accuracy that rests while the head still learns.

    `heads`: trained in place. `features` (n, n_features): input of each head. `labels` (n,): class
    indices. `validation_features`, `validation_labels`: the same for validation rows.
    `train_last`: train the last head too, or leave it as it is. `learning_rate`, `weight_decay`:
    of Adam. `batch_size`, `max_epochs`, `patience`: rows a step, epochs at most, epochs without
    improvement. `generator`: orders the rows. Returns (G + 1,): validation accuracy of each head.
    """

    def validate() -> list[tuple[float, float]]:
        scores = []
        with torch.no_grad(), _as_in_use(heads):
            for head, x in zip(heads, validation_features, strict=True):
                logits = head(x)
                right = (logits.argmax(dim=1) == validation_labels).double().mean()
                scores.append((float(right), -float(F.cross_entropy(logits, validation_labels))))
        return scores

    def weights_of(head: nn.Module) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in head.state_dict().items()}

    n_early = len(heads) - 1
    scales = [float(n_early + 1 - head) for head in range(n_early)] + [1.0]
    best, kept = validate(), [weights_of(head) for head in heads]
    least = [loss for _, loss in best]
    waited = [0] * len(heads)
    active = list(range(len(heads) - (not train_last)))
    if not active:  # one exit, which answers by the backbone's own head
        return np.array([accuracy for accuracy, _ in best])
    optimizer = torch.optim.Adam(heads.parameters(), lr=learning_rate, weight_decay=weight_decay)
    progress = tqdm(range(max_epochs), desc="exit heads", disable=None, leave=False)
    for _ in progress:
        if not active:
            break
        for rows in _steps(torch.randperm(len(labels), generator=generator), batch_size):
            rows = rows.to(labels.device)
            losses = [
                scales[h] * F.cross_entropy(heads[h](features[h][rows]), labels[rows])
                for h in active
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
        scores = validate()
        for h in active:
            waited[h] += 1
            if scores[h] > best[h]:
                best[h], kept[h], waited[h] = scores[h], weights_of(heads[h]), 0
            if scores[h][1] > least[h]:
                least[h], waited[h] = scores[h][1], 0
        active = [h for h in active if waited[h] < patience]
        progress.set_postfix_str(f"{len(active)} of {len(heads)} heads still improve")
    progress.close()
    for head, state in zip(heads, kept, strict=True):
        head.load_state_dict(state)
    return np.array([accuracy for accuracy, _ in best])


def _steps(rows: Tensor, batch_size: int) -> list[Tensor]:
    """Cut rows into steps; one row that is left over joins the last, as it has no variance."""
    parts = list(rows.split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


@contextmanager
def _as_in_use(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode: dropout is off, and batch statistics stay."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@torch.enable_grad()
def train_backbone(
    backbone: Transformer,
    X: Rows,
    y: ArrayLike,
    *,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    random_state: Seed = None,
) -> Transformer:
    """Train a small backbone from scratch: AdamW, one-cycle learning rate, label smoothing.

    Meant for examples, where no pretrained weights are at hand.

    Parameters
    ----------
    backbone : timm VisionTransformer or T2TViT
        With one output a class; trained in place.
    X : array-like of images
        As :meth:`MultiExitNetwork.fit` takes them.
    y : array-like of shape (n_samples,)
        Labels; sorted, they are the classes of the backbone's own head.
    epochs, batch_size : int
        Passes over the images, and images a step.
    learning_rate, weight_decay : float
        Peak rate and decay of AdamW.
    random_state : int, RandomState or None, default=None
        Seed of the order of the images and of dropout.

    Returns
    -------
    VisionTransformer or T2TViT
        The same backbone, in evaluation mode.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.networks import train_backbone
    >>> from timm.models.vision_transformer import VisionTransformer
    >>> backbone = VisionTransformer(
    ...     img_size=4, patch_size=2, in_chans=1, embed_dim=8, depth=1, num_heads=2, num_classes=2
    ... )
    >>> images = np.zeros((4, 4, 4), dtype=np.uint8)
    >>> train_backbone(backbone, images, [0, 1, 0, 1], epochs=1).training
    False
    """
    check_integer(epochs, "epochs", at_least=1)
    check_integer(batch_size, "batch_size", at_least=1)
    check_number(learning_rate, "learning_rate", above=0)
    check_number(weight_decay, "weight_decay", at_least=0)
    check_seed(random_state)
    if not isinstance(backbone, Transformer):
        raise TypeError(
            "backbone must be a VisionTransformer of timm or a T2TViT, got a "
            f"{type(backbone).__name__}."
        )
    config = getattr(backbone, "pretrained_cfg", None) or {}
    images = ImageFormat.of(*image_shape(backbone), config).rows(X).tensor()
    _, codes = encode_labels(y, backbone.num_classes, len(images))
    labels = torch.from_numpy(codes)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        backbone.parameters(), lr=learning_rate, weight_decay=weight_decay
    )
    steps = epochs * -(-len(labels) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1)
    backbone.train()
    # Dropout draws from torch's global generator: keep the caller's state.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        progress = tqdm(range(epochs), desc="backbone", disable=None, leave=False)
        for _ in progress:
            for rows in _steps(torch.randperm(len(labels), generator=order), batch_size):
                loss = F.cross_entropy(backbone(images[rows]), labels[rows], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            progress.set_postfix_str(f"loss {float(loss.detach()):.2f}")
    return backbone.eval()


def cache_features(
    blocks: nn.ModuleList,
    pools: nn.ModuleList,
    images: ImageRows,
    *,
    batch_size: int,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    augmentation: Callable[[Tensor], Tensor] | None = None,
    n_views: int = 1,
) -> list[Tensor]:
    """Run a frozen backbone once and keep what each head reads.

    Memory: 4 bytes a feature, ``n_views * n * sum(n_features) * 4`` in all, beside the
    activations of one batch.

    `blocks`, `pools`: blocks of the backbone, and the state of each to features. `images`: images.
    `batch_size`: images run at once. `device`: where the blocks are; features are kept there.
    `amp_dtype`: run under autocast of this type. `augmentation`: an image before it is normalised
    to a changed one, for every view but the first. `n_views`: times each image is run. Returns
    (n_views * n, n_features): view after view.
    """
    kept: list[Tensor] = []
    done = 0
    total = n_views * len(images)
    bar = tqdm(total=total, desc="features", unit="image", disable=None, leave=False)
    autocast = torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None)
    with bar, torch.no_grad(), autocast:
        for view in range(n_views):
            for batch in images.batches(batch_size):
                if view and augmentation is not None:
                    batch = augmented(augmentation, batch, images.format)
                state = batch.to(device)
                for number, (block, pool) in enumerate(zip(blocks, pools, strict=True)):
                    state = run_in_parts(block, state)
                    features = pool(state.float())
                    if number == len(kept):
                        shape = (total, features.shape[1])
                        kept.append(torch.empty(shape, device=device))
                    kept[number][done : done + len(features)] = features
                done += len(batch)
                bar.update(len(batch))
    return kept
