"""Fine-tunes T2T-ViT-7 on CIFAR-100, from weights trained on CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from _data import cache_folder, data_folder, load_images
from _train import normalise, train
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import skquee.networks  # noqa: F401  registers T2T-ViT with timm


def prepare(images: np.ndarray) -> Tensor:
    """Normalise, then enlarge to 64 x 64, as the CIFAR-10 weights were trained."""
    return F.interpolate(normalise(images), size=64, mode="bicubic")


def trained_weights() -> Path:
    """Return the file of the trained weights; train them first where there is none."""
    done = cache_folder() / "cifar100_t2t_vit_7.safetensors"
    if done.exists():
        return done
    torch.manual_seed(0)
    model = timm.create_model("t2t_vit_7", img_size=64, num_classes=100)
    start = load_file(data_folder("t2t_vit_7_cifar10") / "model.safetensors")
    start = {name: value for name, value in start.items() if not name.startswith("head.")}
    model.load_state_dict(start, strict=False)
    return train(model, *load_images("cifar100", "train"), done, epochs=8, prepare=prepare)


if __name__ == "__main__":
    print(trained_weights())
