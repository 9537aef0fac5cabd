"""Training a vision transformer with exits on CIFAR on a GPU, in minutes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _train import MEAN, STD
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_SIZE = 1000
PEAK, DECAY, WARM = 1e-3, 0.05, 0.08
EARLY_WEIGHT = 0.3  # of an early exit's loss; the last one's is 1
KEEP, EVERY = 0.997, 5  # of the averaged weights a step, and steps between averagings
MIXED = 0.5  # share of the batches whose images are mixed
HOLE = 8  # pixels of the square that is cut out


class WithExits(nn.Module):
    """The logits of every exit: each reads the first token after the model's own norm."""

    def __init__(self, model: VisionTransformer, exits: Sequence[int]) -> None:
        super().__init__()
        self.model, self.exits = model, tuple(exits[:-1])
        width, n_classes = model.head.in_features, model.head.out_features
        self.heads = nn.ModuleList(nn.Linear(width, n_classes) for _ in self.exits)

    def forward(self, images: Tensor) -> list[Tensor]:
        places = [layer - 1 for layer in self.exits]
        final, early = self.model.forward_intermediates(
            images, indices=places, output_fmt="NLC", norm=True, return_prefix_tokens=True
        )
        logits = [head(prefix[:, 0]) for head, (_, prefix) in zip(self.heads, early, strict=True)]
        return [*logits, self.model.forward_head(final)]


def normalise(images: Tensor) -> Tensor:
    """Return images (n, 3, H, W) of uint8 as the network takes them."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def change(images: Tensor) -> Tensor:
    """Turn, stretch, shift, mirror, recolour and cut each image otherwise."""
    n, device = len(images), images.device

    def draw(*shape: int, spread: float = 1.0) -> Tensor:
        return (2 * torch.rand(*shape, device=device) - 1) * spread

    angle, shear = draw(n, spread=0.26), draw(n, spread=0.15)
    scale_x, scale_y = 1 + draw(n, spread=0.15), 1 + draw(n, spread=0.15)
    # A third of the images is only shifted and mirrored.
    plain = torch.rand(n, device=device) < 1 / 3
    angle, shear = angle.masked_fill(plain, 0.0), shear.masked_fill(plain, 0.0)
    scale_x, scale_y = scale_x.masked_fill(plain, 1.0), scale_y.masked_fill(plain, 1.0)
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    shift = (draw(n, 2) * 4).round() / 16  # whole pixels of 32
    first = torch.stack([mirror * cos * scale_x, (shear - sin) * scale_y, shift[:, 0]], dim=1)
    second = torch.stack([mirror * sin * scale_x, cos * scale_y, shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), images.shape, align_corners=False)
    x = F.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
    # Contrast, colour and brightness.
    x = x * (1 + draw(n, 1, 1, 1, spread=0.3))
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (1 + draw(n, 1, 1, 1, spread=0.4)) + draw(n, 1, 1, 1, spread=0.15)
    x = x.clamp(0, 1)
    top, left = (torch.randint(0, x.shape[2], (n, 1, 1), device=device) for _ in range(2))
    lines = torch.arange(x.shape[2], device=device)
    hole = ((lines[None, :, None] - top).abs() < HOLE // 2) & (
        (lines[None, None, :] - left).abs() < HOLE // 2
    )
    x = x.masked_fill(hole[:, None], 0.5)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def mix(x: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """Mix each image with another: a box of it (half of the batches), or all of it faintly."""
    other = torch.randperm(len(x), device=x.device)
    height, width = x.shape[2:]
    if random.random() < 0.5:
        part = math.sqrt(1 - random.beta(1.0, 1.0))
        tall, wide = round(height * part), round(width * part)
        top, left = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
        x = x.clone()
        box = (..., slice(top, top + tall), slice(left, left + wide))
        x[box] = x[other][box]
        return x, other, 1 - tall * wide / (height * width)
    own = float(random.beta(0.2, 0.2))
    own = max(own, 1 - own)
    return own * x + (1 - own) * x[other], other, own


def loss_of(logits: Sequence[Tensor], labels: Tensor, others: Tensor, own: float) -> Tensor:
    """Sum the exits' losses, early ones at a weight."""
    weights = [EARLY_WEIGHT] * (len(logits) - 1) + [1.0]
    total = logits[0].new_zeros(())
    for weight, answer in zip(weights, logits, strict=True):
        first = F.cross_entropy(answer.float(), labels, label_smoothing=0.1)
        second = F.cross_entropy(answer.float(), others, label_smoothing=0.1)
        total = total + weight * (own * first + (1 - own) * second)
    return total


@torch.no_grad()
def follow(average: nn.Module, deep: nn.Module, keep: float) -> None:
    """Move averaged weights towards the current ones."""
    pairs = zip(average.state_dict().values(), deep.state_dict().values(), strict=True)
    for old, new in pairs:
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


@torch.no_grad()
def accuracies(deep: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Return the accuracy of every exit."""
    deep.eval()
    found = [torch.stack([a.argmax(1) for a in deep(normalise(b))]) for b in images.split(500)]
    deep.train()
    return (torch.cat(found, dim=1) == labels).double().mean(dim=1).tolist()


def train_on_gpu(
    model: VisionTransformer,
    images: np.ndarray,
    labels: np.ndarray,
    done: Path,
    *,
    exits: Sequence[int],
    epochs: int,
    seconds: float = math.inf,
    device: str = "cuda",
) -> Path:
    """Train a transformer with all its exits and write its weights, without the early heads.

    5,000 rows are held out (seed 0) for validation, as in :func:`_train.train`. What is kept are
    weights averaged over the last few hundred steps.

    Parameters
    ----------
    model : VisionTransformer
        With initial weights.
    images : ndarray of shape (n, H, W, 3), uint8
        Training images.
    labels : ndarray of shape (n,)
        Their labels.
    done : Path
        File of the weights, safetensors.
    exits : sequence of int
        Layers that end in an exit.
    epochs : int
        Passes, of a schedule that warms up and falls as a cosine.
    seconds : float
        The schedule is run through in that time, with fewer epochs, where they take longer.
    device : str
        Where.
    """
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    random = np.random.default_rng(0)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    targets = torch.from_numpy(labels).to(device)
    rows, held = (torch.from_numpy(part).to(device) for part in (order[5000:], order[:5000]))
    deep = WithExits(model, exits).to(device).train()
    average = copy.deepcopy(deep)
    decayed = [p for p in deep.parameters() if p.ndim > 1]
    rest = [p for p in deep.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
        lr=PEAK,
        fused=device != "cpu",
    )
    fast = torch.compile(deep) if device != "cpu" else deep
    steps, step, began = epochs * (len(rows) // BATCH_SIZE), 0, time.time()
    part = 0.0
    while part < 1:
        for batch in rows[torch.randperm(len(rows), device=device)].split(BATCH_SIZE):
            if len(batch) < BATCH_SIZE:
                continue
            part = max(step / steps, (time.time() - began) / seconds)
            if part >= 1:
                break
            height = part / WARM if part < WARM else (1 + math.cos(math.pi * part)) / 2
            for group in optimizer.param_groups:
                group["lr"] = PEAK * height
            x, other, own = change(pixels[batch]), torch.arange(len(batch), device=device), 1.0
            if random.random() < MIXED:
                x, other, own = mix(x, random)
            with torch.autocast(device, torch.bfloat16):
                logits = fast(x)
            loss = loss_of(logits, targets[batch], targets[batch][other], own)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(deep.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % EVERY == 0:
                follow(average, deep, min(KEEP**EVERY, step / (step + 10)))
            if step % (20 * (len(rows) // BATCH_SIZE)) == 0:
                shown = ", ".join(
                    f"{a:.2%}" for a in accuracies(average, pixels[held], targets[held])
                )
                print(
                    f"step {step} of {steps}: loss {float(loss.detach()):.2f}, "
                    f"validation {shown}, {time.time() - began:.0f} s",
                    flush=True,
                )
    shown = ", ".join(f"{a:.2%}" for a in accuracies(average, pixels[held], targets[held]))
    print(f"{step} steps, {time.time() - began:.0f} s; validation accuracy of the exits {shown}")
    weights = average.model.state_dict()
    save_file({k: v.cpu().contiguous() for k, v in weights.items()}, done.with_suffix(".new"))
    done.with_suffix(".new").replace(done)
    return done
