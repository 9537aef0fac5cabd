"""Where the examples find data sets that do not come with the package."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image


def find_data(name: str) -> Path | None:
    """Return the folder of a data set, or None."""
    places = [os.environ.get("SKQUEE_DATA"), Path(__file__).resolve().parents[2] / "shared/data"]
    folders = (Path(place) / name for place in places if place)
    return next((folder for folder in folders if folder.is_dir()), None)


def data_folder(name: str) -> Path:
    """Return the folder of a data set, or end the example with one line that says why."""
    folder = find_data(name)
    if folder is None:
        print(
            f"This example needs the data set {name!r}, which is neither in $SKQUEE_DATA nor in "
            "../shared/data beside the repository."
        )
        raise SystemExit(0)
    return folder


def cache_folder() -> Path:
    """Return a folder for what is dear to compute and cheap to keep."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "skquee"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_images(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, H, W, 3) uint8 and the labels of CIFAR: `part` "train" or "test"."""
    (file,) = data_folder(name).glob(f"{name}_{part}_*.npz")
    with np.load(file) as archive:
        data, offsets, labels = (archive[key] for key in ("data", "offsets", "labels"))
    encoded = data.tobytes()
    images = [
        np.asarray(Image.open(io.BytesIO(encoded[start:stop])).convert("RGB"))
        for start, stop in zip(offsets, offsets[1:], strict=False)
    ]
    return np.stack(images), labels.astype(int)
