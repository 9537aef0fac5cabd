"""``skquee bank``: from images on disk to a bank of paths, and its accuracy."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
from skquee.networks import (
    BasePTQ,
    HeadTrainer,
    MultiExitNetwork,
    NetworkCascade,
    PTQ4ViT,
    UniformPTQ,
)
from skquee.networks._execution import choose_device
from skquee.networks._files import check_target
from skquee.networks._fit import assemble
from skquee.networks._parameters import check_parameters
from skquee.networks._sources import image_folder
from skquee.networks.quantization._operations import explicit_copies
from skquee.values._archives import open_arrays
from skquee.values._atomic import held, whole_file, write_text
from skquee.values._checks import check_output

# Images as a command reads them, and their labels.
Images: TypeAlias = NDArray[np.generic] | Dataset[tuple[Image, int]]
Split: TypeAlias = tuple[Images, NDArray[np.generic]]

ROUTER = "router.skops"
FILES = ("val_probs.npy", "val_labels.npy", "paths.csv")
METHODS = {"ptq4vit": PTQ4ViT, "base": BasePTQ, "uniform": UniformPTQ}


def build(options: argparse.Namespace) -> None:
    """Make a bank and write it."""
    # What ends hours of work otherwise: no place for its results, options that do not fit.
    for name in FILES:
        check_output(options.out / name, name)
    check_target(options.out / "network")
    network = _network(options)
    check_parameters(network)
    choose_device(options.device)
    _, cut, _ = assemble(network, options.seed)
    with _one_line():
        explicit_copies(cut.blocks, torch.randn(2, cut.channels, *(cut.size or (64, 64))))
    with held(options.out / "network", f"building a bank in {options.out}"):
        _build(options, network)


@contextmanager
def _one_line() -> Iterator[None]:
    """Say which layer cannot be quantised without a traceback."""
    try:
        yield
    except TypeError as error:
        raise ValueError(str(error)) from error


def _network(options: argparse.Namespace) -> MultiExitNetwork:
    exits = options.exits
    if exits is not None:
        exits = [int(layer) if layer.isdecimal() else layer for layer in exits]
    config = {"mean": options.mean, "std": options.std}
    return MultiExitNetwork(
        options.network,
        exits=exits,
        blocks=options.blocks,
        weights="pretrained" if options.pretrained else options.checkpoint,
        img_size=options.img_size,
        data_config={key: value for key, value in config.items() if value is not None} or None,
        trainer=HeadTrainer(max_epochs=options.max_epochs, batch_size=options.batch_size),
        device=options.device,
        random_state=options.seed,
    )


def _build(options: argparse.Namespace, network: MultiExitNetwork) -> None:
    train, validation = _split(options)
    _stage(f"training heads on {len(train[1])} images")
    network.fit(*train, validation_data=validation)
    cache = options.out / "quantization"
    n_calibration = min(options.calibration_images, len(train[1]))
    _stage(f"quantising at {', '.join(map(str, sorted(options.levels)))} bits")
    with _one_line():
        network.quantize(
            sorted(options.levels),
            calibration=take_images(train[0], np.arange(n_calibration)),
            method=METHODS[options.method](),
            cache=cache,
        )
    _stage(f"measuring levels on {len(validation[1])} images")
    network.select_levels(*validation, max_drop=options.max_drop)
    bank = MultiPathClassifierBank(network, batch_size=options.batch_size)
    _stage(f"running {network.paths_.n_paths} paths on {len(validation[1])} images")
    # A router of an earlier network does not fit this one.
    (options.out / ROUTER).unlink(missing_ok=True)
    bank.materialize(validation[0], out=options.out / "val_probs.npy", dtype="float16")
    labels = options.out / "val_labels.npy"
    with whole_file(labels) as stream:
        np.save(stream, validation[1])
    network.save(options.out / "network")
    shutil.rmtree(cache, ignore_errors=True)
    table = network.summary()
    write_text(options.out / "paths.csv", table.to_csv(float_format="%.6g"))
    found = ", ".join(f"{level}: {acc:.2%}" for level, acc in network.level_accuracy_.items())
    print(f"Accuracy of the last exit by level (32 is float): {found}\n")
    _report(table, len(validation[1]), "validation")
    print(f"\nSaved in {options.out}: network, val_probs.npy, val_labels.npy, paths.csv")
    print(f"A router beside them: skquee bank fit-router {options.out}")


def _stage(text: str) -> None:
    """Say what begins, where progress is told: beside the results, not among them."""
    print(text, file=sys.stderr, flush=True)


def evaluate(options: argparse.Namespace) -> None:
    """Print what every path of a bank gets right."""
    network = load_network(options.bank / "network", options.device)
    X, y = read_images(options.data)
    unknown = np.setdiff1d(y, network.classes_)
    if unknown.size:
        raise ValueError(
            f"{options.data} holds the labels {unknown[:5].tolist()}, but the bank knows "
            f"{network.classes_[:5].tolist()}, ... ({len(network.classes_)} classes)."
        )
    bank = MultiPathClassifierBank(network, batch_size=options.batch_size)
    lazy = bank.transform(X)
    probabilities = lazy if options.out is None else lazy.materialize(out=options.out)
    right = np.zeros(network.paths_.n_paths)
    for start in tqdm(range(0, len(y), options.batch_size), desc="accuracy", disable=None):
        rows = slice(start, start + options.batch_size)
        part = probabilities[rows]
        answers = part.run_all() if options.out is None else np.asarray(part)
        right += (network.classes_[answers.argmax(axis=2)] == y[rows, None]).sum(axis=0)
    table = network.summary().assign(accuracy=right / len(y))
    if options.csv is not None:
        write_text(options.csv, table.to_csv(float_format="%.6g"))
    _report(table, len(y), options.data.name)


def load_network(folder: Path, device: str | None) -> MultiExitNetwork | NetworkCascade:
    """Read a network, or a cascade of networks."""
    kind = NetworkCascade if (folder / "cascade.json").is_file() else MultiExitNetwork
    return kind.load(folder, device=device)


def read_images(source: Path) -> Split:
    """Read labelled images.

    `source`: a folder with a folder of images for each class, or an ``.npz`` that holds images as
    ``X`` or ``images`` (n, H, W, C) and labels as ``y`` or ``labels``. Returns `labels`: names of
    the folders, or those of the file.
    """
    if source.is_dir():
        folder = image_folder(source)
        return folder, np.asarray(folder.classes)[np.asarray(folder.targets)]
    with open_arrays(source, "file of images") as archive:
        names = [
            next((name for name in wanted if name in archive), None)
            for wanted in (("X", "images"), ("y", "labels"))
        ]
        if None in names:
            raise ValueError(
                f"{source} must hold X (or images) and y (or labels); it has {archive.files}."
            )
        X, y = (archive[name] for name in names if name is not None)
    if X.ndim < 3 or y.ndim != 1:
        raise ValueError(
            f"{source} must hold images (n, H, W) or (n, H, W, C) and labels (n,), got the shapes "
            f"{X.shape} and {y.shape}."
        )
    if len(X) != len(y) or not len(y):
        raise ValueError(f"{source} holds {len(X)} images and {len(y)} labels: one for each.")
    return X, y


def _split(options: argparse.Namespace) -> tuple[Split, Split]:
    X, y = read_images(options.train)
    rows = np.random.default_rng(options.seed).permutation(len(y))
    if options.validation is not None:
        return (take_images(X, rows), y[rows]), read_images(options.validation)
    train, held = train_test_split(rows, test_size=0.1, random_state=options.seed)
    return (take_images(X, train), y[train]), (take_images(X, held), y[held])


def take_images(X: Images, rows: NDArray[np.intp]) -> Images:
    return X[rows] if isinstance(X, np.ndarray) else Subset(X, rows.tolist())


def _report(table: pd.DataFrame, n_images: int, what: str) -> None:
    unit = table.attrs.get("cost_unit")
    cost = "Cost 1 is the whole network at the most bits." if unit != "ms" else "Cost is in ms."
    print(f"Every path on {n_images} {what} images. {cost}")
    shown = table.assign(flops=table["flops"] / 1e6, bitops=table["bitops"] / 1e6)
    shown = shown.rename(columns={"flops": "MFLOPs", "bitops": "Mbitops"})
    print(shown.to_string(float_format="{:.3f}".format))
