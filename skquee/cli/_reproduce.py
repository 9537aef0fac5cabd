"""``skquee reproduce``: images, network, and the experiment on them."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from skquee import datasets
from skquee.cli._bank import read_images
from skquee.cli._demo import Labelled, make_network, split_digits
from skquee.networks import MultiExitNetwork, PTQ4ViT
from skquee.paper import Setting, reproduce
from skquee.paper._store import Store
from skquee.values._archives import open_arrays

# Of the CIFAR networks; 64 x 64 pixels show the whole image.
CIFAR_CONFIG = {
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "interpolation": "bicubic",
    "crop_pct": 1.0,
}
N_VALIDATION = 5_000
QUICK_ROWS = {"train": 4_000, "val": 1_000, "test": 1_000}
NAMES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "scikit-learn's digits",
}
DEMO = {"width": 64, "depth": 6}  # of the network for digits

Split = dict[str, Labelled]


def run_reproduce(options: argparse.Namespace) -> None:
    """Run the experiment and print where its report is."""
    folder = options.out / options.dataset
    cache = folder / "cache"
    Store(cache).bind("options", _what_counts(options))
    # One thread for digits: more are slower on matrices this small, and sum in varying order.
    with threadpool_limits(1 if options.dataset == "digits" else None):
        if options.dataset == "digits":
            torch.set_num_threads(1)
            splits, names = dict(zip(QUICK_ROWS, split_digits(options.seed), strict=True)), None
        else:
            splits, names = read_cifar(options.data, options.dataset)
            if options.quick:
                splits = {
                    part: (X[: QUICK_ROWS[part]], y[: QUICK_ROWS[part]])
                    for part, (X, y) in splits.items()
                }
        network = _network(options, splits, cache)
        changes = {"n_clusters": options.clusters, "random_state": options.seed}
        setting = Setting.quick(**changes) if options.quick else Setting(**changes)
        what = "small vision transformer" if options.dataset == "digits" else options.network
        study = reproduce(
            network,
            splits,
            folder,
            title=f"{what} on {NAMES[options.dataset]}",
            setting=setting,
            class_names=names,
        )
    _report(study.folder)


def _report(folder: Path) -> None:
    areas = pd.read_csv(folder / "figure_3.csv", index_col=0)
    shown = ["area", "low", "high", "difference", "difference_low", "difference_high"]
    print("Area under each curve over the costs that all reach, its 95 % interval, and QuEE's area")
    print(f"less its own:\n\n{areas[shown].to_string(float_format='{:.4f}'.format)}\n")
    print("The paper's claims here:\n")
    for claim in pd.read_csv(folder / "claims.csv").itertuples():
        print(f"{claim.holds:>12}  {claim.claim}\n{'':>14}{claim.measured}")
    print(f"\nReport: {folder / 'report.html'}")


def read_cifar(folder: Path, name: str) -> tuple[Split, list[str] | None]:
    """Read CIFAR and part it as the paper does.

    `folder`: of torchvision's files, or with one ``*train*.npz`` and one ``*test*.npz``. `name`
    {"cifar10", "cifar100"}: which. Returns `splits`: ``"train"``, ``"val"`` and ``"test"``.
    ``"val"`` is 5,000 training images, of archives drawn by ``numpy.random.default_rng(0)``, of
    torchvision's files by :mod:`skquee.datasets`; the network must not have been trained on them.
    Returns `class_names`: where the files tell. Raises FileNotFoundError if the folder holds
    neither. Raises ValueError if an archive is missing, there are several, or one lacks images or
    labels.
    """
    files = {part: sorted(folder.glob(f"*{part}*.npz")) for part in ("train", "test")}
    if not any(files.values()):
        load = datasets.load_cifar10 if name == "cifar10" else datasets.load_cifar100
        try:
            found: Any = load(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"--data {folder} holds neither one *train*.npz and one *test*.npz nor "
                f"torchvision's own files of {name}."
            ) from error
        splits = {part: _as_arrays(data) for part, data in zip(QUICK_ROWS, found, strict=True)}
        return splits, list(found.test.dataset.classes)
    for part, matches in files.items():
        if len(matches) != 1:
            raise ValueError(
                f"{folder} must hold one *{part}*.npz, it has {[file.name for file in matches]}."
            )
    X, y, names = _read_archive(files["train"][0])
    rows = np.random.default_rng(0).permutation(len(y))
    n_held = min(N_VALIDATION, len(y) // 5)
    train, held = rows[n_held:], rows[:n_held]
    X_test, y_test, _ = _read_archive(files["test"][0])
    return {"train": (X[train], y[train]), "val": (X[held], y[held]), "test": (X_test, y_test)}, (
        names
    )


def _read_archive(file: Path) -> tuple[NDArray[np.generic], NDArray[np.generic], list[str] | None]:
    with open_arrays(file, "file of images") as archive:
        names = archive["class_names"].tolist() if "class_names" in archive else None
        encoded = {"data", "offsets", "labels"} <= set(archive.files)
        if encoded:
            data, offsets = archive["data"].tobytes(), archive["offsets"]
            labels = archive["labels"].astype(np.int64)
            fits = offsets.dtype.kind in "iu" and offsets.shape == (len(labels) + 1,)
            if not fits or not (np.diff(offsets.astype(np.int64)) > 0).all():
                raise ValueError(
                    f"{file}: offsets must be {len(labels) + 1} integers that rise, where each of "
                    f"{len(labels)} labelled images begins and ends."
                )
    if not encoded:
        X, y = read_images(file)
        return np.asarray(X), y, names
    images = [
        np.asarray(Image.open(io.BytesIO(data[start:stop])).convert("RGB"))
        for start, stop in zip(offsets, offsets[1:], strict=False)
    ]
    return np.stack(images), labels, names


def _as_arrays(data: Iterable[tuple[Image.Image, int]]) -> Labelled:
    pairs = [(np.asarray(image), label) for image, label in data]
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


def _network(options: argparse.Namespace, splits: Split, cache: Path) -> MultiExitNetwork:
    """Make the network, or read what an earlier run made."""
    saved = cache / "network"
    train, held = splits["train"], splits["val"]
    if options.dataset == "digits":
        # Its backbone has no name to be loaded by; training it takes seconds.
        return make_network(train, held, argparse.Namespace(**{**vars(options), **DEMO}))
    if saved.exists():
        return MultiExitNetwork.load(saved)
    network = MultiExitNetwork(
        options.network,
        exits=options.exits,
        weights=options.weights,
        img_size=options.img_size,
        data_config=CIFAR_CONFIG,
        random_state=options.seed,
    )
    network.fit(*train, validation_data=held)
    network.quantize(
        sorted(options.levels),
        calibration=train[0][:128],
        method=PTQ4ViT(random_state=options.seed),
        cache=cache / "quantization",
    )
    if not options.keep_levels:
        network.select_levels(*held)
    network.save(saved)
    return network


def _what_counts(options: argparse.Namespace) -> dict[str, object]:
    """Return the options that results depend on."""
    left_out = {"out", "check", "run", "parser"}
    return {
        key: str(value.resolve()) if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key not in left_out
    }
