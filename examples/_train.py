"""Training a network on CIFAR, kept after every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH_SIZE = 128


def normalise(images: np.ndarray) -> Tensor:
    """Return images (n, H, W, 3) uint8 as the network takes them."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def shift_and_mirror(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shift each image by up to 4 pixels and mirror half of them."""
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    top, left = random.integers(0, 9, size=(2, n, 1, 1))
    columns = np.arange(width)[None, None, :]
    columns = np.where(random.random((n, 1, 1)) < 0.5, columns[..., ::-1], columns)
    rows = np.arange(height)[None, :, None]
    return padded[np.arange(n)[:, None, None], top + rows, left + columns]


def rise_and_fall(part: float, peak: float = 0.15) -> float:
    """Return the learning rate's height at a part of the training: up to 1, then down to 0."""
    return part / peak if part < peak else (1 - part) / (1 - peak)


def train(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    done: Path,
    *,
    epochs: int,
    prepare: Callable[[np.ndarray], Tensor] = normalise,
    mixed: bool = False,
    rate: float = 1e-3,
    compiled: bool = False,
) -> Path:
    """Train a model and write its weights; 5,000 rows are held out (seed 0) for validation.

    Weights, optimiser and epoch are kept after every epoch: a run that was interrupted goes on.

    Parameters
    ----------
    model : Module
        With initial weights.
    images : ndarray of shape (n, H, W, 3), uint8
        Training images.
    labels : ndarray of shape (n,)
        Their labels.
    done : Path
        File of the weights, safetensors.
    epochs : int
        Number of epochs, of a one-cycle schedule.
    prepare : callable
        Images to tensors.
    mixed : bool
        Run forward and backward in bfloat16.
    rate : float
        Highest learning rate.
    compiled : bool
        Train what ``torch.compile`` makes of the model.
    """
    held = np.random.default_rng(0).permutation(len(labels))
    rows, validation = held[5000:], held[:5000]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.05
    )
    steps = len(rows) // BATCH_SIZE
    parts = {"model": model, "optimizer": optimizer}
    # Numbers near zero, which a CPU computes many times slower, count as zero.
    torch.set_flush_denormal(True)
    run = torch.compile(model) if compiled else model
    partial, first = done.with_suffix(".partial.pt"), 0
    if partial.exists():
        saved = torch.load(partial, weights_only=True)
        first = saved["epoch"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(first, epochs):
        began, random = time.time(), np.random.default_rng([0, epoch])
        model.train()
        order = random.permutation(rows)[: len(rows) // BATCH_SIZE * BATCH_SIZE]
        for step, batch in enumerate(order.reshape(-1, BATCH_SIZE)):
            for group in optimizer.param_groups:
                group["lr"] = rate * rise_and_fall((epoch + step / steps) / epochs)
            x = prepare(shift_and_mirror(images[batch], random))
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                logits = run(x)
            loss = F.cross_entropy(
                logits.float(), torch.from_numpy(labels[batch]), label_smoothing=0.1
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            right = [
                (model(prepare(images[b])).argmax(1).numpy() == labels[b]).mean()
                for b in validation.reshape(-1, 500)
            ]
        print(
            f"epoch {epoch + 1} of {epochs}: loss {float(loss.detach()):.2f}, validation accuracy "
            f"{np.mean(right):.2%}, {time.time() - began:.0f} s",
            flush=True,
        )
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**state, "epoch": epoch + 1}, partial.with_suffix(".new"))
        partial.with_suffix(".new").replace(partial)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        done.with_suffix(".new"),
    )
    done.with_suffix(".new").replace(done)
    partial.unlink()
    return done
