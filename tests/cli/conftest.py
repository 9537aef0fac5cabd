"""A small bank, built once by the command, for the tests of every action on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from skquee.cli import main


@pytest.fixture(scope="session")
def images():
    X, y = load_digits(n_class=4, return_X_y=True)
    pixels = np.repeat((X.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), 3, axis=3)
    return pixels[:300], np.array([f"digit {label}" for label in y[:300]])


@pytest.fixture(scope="session")
def files(images, tmp_path_factory):
    """Train and validation images as .npz and as folders, and weights of a small ResNet."""
    import timm

    X, y = images
    root = tmp_path_factory.mktemp("images")
    np.savez(root / "train.npz", X=X[:220], y=y[:220])
    np.savez(root / "held.npz", images=X[220:], labels=y[220:])
    for row in range(220, 300):
        place = root / "held" / y[row]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[row]).save(place / f"{row}.png")
    torch.manual_seed(0)
    model = timm.create_model("t2t_vit_7", img_size=16, num_classes=4)
    save_file(model.state_dict(), root / "t2t.safetensors")
    return root


@pytest.fixture(scope="session")
def built(files):
    out = files / "bank"
    arguments = (
        f"bank build --network t2t_vit_7 --checkpoint {files}/t2t.safetensors --img-size 16 "
        f"--exits 1 7 --train {files}/train.npz --validation {files}/held.npz --levels 8 4 "
        f"--calibration-images 16 --max-epochs 5 --max-drop 1 --method base --out {out}"
    )
    assert main(arguments.split()) == 0
    return out
