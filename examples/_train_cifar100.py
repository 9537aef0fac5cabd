"""Fine-tunes T2T-ViT-7 on CIFAR-100, from weights trained on CIFAR-10."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import timm
import torch
from _data import cache_folder, data_folder, load_images
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

import skquee.networks  # noqa: F401  registers T2T-ViT with timm

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
EPOCHS, BATCH_SIZE = 8, 128


def prepare(images: np.ndarray) -> Tensor:
    """Normalise, then enlarge to 64 x 64, as the CIFAR-10 weights were trained."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return F.interpolate(x, size=64, mode="bicubic")


def shift_and_mirror(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shift each image by up to 4 pixels and mirror half of them."""
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    top, left = random.integers(0, 9, size=(2, n, 1, 1))
    columns = np.arange(width)[None, None, :]
    columns = np.where(random.random((n, 1, 1)) < 0.5, columns[..., ::-1], columns)
    rows = np.arange(height)[None, :, None]
    return padded[np.arange(n)[:, None, None], top + rows, left + columns]


def trained_weights() -> Path:
    """Return the file of the trained weights; train them first where there is none.

    Weights, optimiser and epoch are kept after every epoch: a run that was interrupted goes on.
    """
    done = cache_folder() / "cifar100_t2t_vit_7.safetensors"
    if done.exists():
        return done
    images, labels = load_images("cifar100", "train")
    held = np.random.default_rng(0).permutation(len(labels))
    rows, validation = held[5000:], held[:5000]
    torch.manual_seed(0)
    model = timm.create_model("t2t_vit_7", img_size=64, num_classes=100)
    start = load_file(data_folder("t2t_vit_7_cifar10") / "model.safetensors")
    start = {name: value for name, value in start.items() if not name.startswith("head.")}
    model.load_state_dict(start, strict=False)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.05
    )
    steps = EPOCHS * (len(rows) // BATCH_SIZE)
    schedule = OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.15)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    partial, first = done.with_suffix(".partial.pt"), 0
    if partial.exists():
        saved = torch.load(partial, weights_only=True)
        first = saved["epoch"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(first, EPOCHS):
        began, random = time.time(), np.random.default_rng([0, epoch])
        model.train()
        order = random.permutation(rows)[: len(rows) // BATCH_SIZE * BATCH_SIZE]
        for batch in order.reshape(-1, BATCH_SIZE):
            x = prepare(shift_and_mirror(images[batch], random))
            loss = F.cross_entropy(model(x), torch.from_numpy(labels[batch]), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            right = [
                (model(prepare(images[b])).argmax(1).numpy() == labels[b]).mean()
                for b in validation.reshape(-1, 500)
            ]
        print(
            f"epoch {epoch + 1} of {EPOCHS}: loss {float(loss.detach()):.2f}, validation accuracy "
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


if __name__ == "__main__":
    print(trained_weights())
