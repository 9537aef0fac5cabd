"""Training exit heads on cached features, and a small backbone from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from skquee.networks._images import ImageFormat, encode_labels

__all__ = ["cache_features", "make_heads", "train_backbone", "train_heads"]


def make_heads(
    backbone: VisionTransformer,
    n_heads: int,
    n_features: int,
    n_classes: int,
    generator: torch.Generator,
) -> nn.ModuleList:
    """Make a head for each exit, of the final head's architecture.

    Parameters
    ----------
    backbone : VisionTransformer
        Its own head, where it has as many classes, starts the last one.
    n_heads, n_features, n_classes : int
        Numbers of exits, inputs and outputs.
    generator : Generator
        Draws the other weights.

    Returns
    -------
    ModuleList
    """
    heads = nn.ModuleList(
        nn.utils.skip_init(nn.Linear, n_features, n_classes) for _ in range(n_heads)
    )
    own = backbone.get_classifier()
    for head in heads:
        assert isinstance(head, nn.Linear)
        nn.init.trunc_normal_(head.weight, std=0.02, generator=generator)
        nn.init.zeros_(head.bias)
    if isinstance(own, nn.Linear) and own.weight.shape == (n_classes, n_features):
        heads[-1].load_state_dict(own.state_dict())
    return heads


def train_heads(
    heads: nn.ModuleList,
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    *,
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

    Parameters
    ----------
    heads : ModuleList of G + 1 heads
        Trained in place.
    features : Tensor of shape (G + 1, n, n_features)
        Input of each head.
    labels : Tensor of shape (n,)
        Class indices.
    validation_features, validation_labels : Tensor
        The same for validation rows.
    learning_rate, weight_decay : float
        Of Adam.
    batch_size, max_epochs, patience : int
        Rows a step, epochs at most, epochs without improvement.
    generator : Generator
        Orders the rows.

    Returns
    -------
    ndarray of shape (G + 1,)
        Validation accuracy of each head.
    """

    def validate() -> list[tuple[float, float]]:
        scores = []
        with torch.no_grad():
            for head, x in zip(heads, validation_features, strict=True):
                logits = head(x)
                right = (logits.argmax(dim=1) == validation_labels).double().mean()
                scores.append((float(right), -float(F.cross_entropy(logits, validation_labels))))
        return scores

    def weights_of(head: nn.Module) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in head.state_dict().items()}

    n_early = len(heads) - 1
    scales = [float(n_early + 1 - head) for head in range(n_early)] + [1.0]
    optimizer = torch.optim.Adam(heads.parameters(), lr=learning_rate, weight_decay=weight_decay)
    best, kept = validate(), [weights_of(head) for head in heads]
    least = [loss for _, loss in best]
    waited = [0] * len(heads)
    active = list(range(len(heads)))
    progress = tqdm(range(max_epochs), desc="exit heads", disable=None, leave=False)
    for _ in progress:
        for rows in torch.randperm(len(labels), generator=generator).split(batch_size):
            losses = [
                scales[h] * F.cross_entropy(heads[h](features[h, rows]), labels[rows])
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
        if not active:
            break
    progress.close()
    for head, state in zip(heads, kept, strict=True):
        head.load_state_dict(state)
    return np.array([accuracy for accuracy, _ in best])


def train_backbone(
    backbone: VisionTransformer,
    X: Any,
    y: ArrayLike,
    *,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    random_state: int | np.random.RandomState | None = None,
) -> VisionTransformer:
    """Train a small backbone from scratch: AdamW, one-cycle learning rate, label smoothing.

    Meant for examples, where no pretrained weights are at hand.

    Parameters
    ----------
    backbone : VisionTransformer
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
    VisionTransformer
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
    images = ImageFormat.of(backbone).tensor(X)
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        progress = tqdm(range(epochs), desc="backbone", disable=None, leave=False)
        for _ in progress:
            for rows in torch.randperm(len(labels), generator=order).split(batch_size):
                loss = F.cross_entropy(backbone(images[rows]), labels[rows], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            progress.set_postfix_str(f"loss {float(loss.detach()):.2f}")
    return backbone.eval()


def cache_features(
    blocks: Sequence[nn.Module] | nn.ModuleList, pool: nn.Module, images: Tensor, batch_size: int
) -> Tensor:
    """Run a frozen backbone once and keep what each head reads.

    Parameters
    ----------
    blocks : sequence of Module
        Its blocks.
    pool : Module
        Tokens to features.
    images : Tensor of shape (n, C, H, W)
        Images.
    batch_size : int
        Images run at once.

    Returns
    -------
    Tensor of shape (n_blocks, n, n_features)
    """
    parts = []
    with torch.no_grad():
        batches = images.split(batch_size)
        for state in tqdm(batches, desc="features", disable=None, leave=False):
            rows = []
            for block in blocks:
                state = block(state)
                rows.append(pool(state))
            parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)
