"""Where the examples find data sets that do not come with the package.

In the folder named by $SKQUEE_DATA or beside the repository where they lie there; else they are
fetched, once, with a checksum, by ``skquee.datasets`` and torchvision.
"""

from __future__ import annotations

import csv
import gzip
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


def fetched(fetch, *arguments):
    """Return what is fetched, or end the example with one line that says why not."""
    try:
        return fetch(*arguments)
    except OSError as error:
        print(f"This example needs data: {error}")
        raise SystemExit(0) from None


def load_frugalml(name: str) -> tuple:
    """Return labels, the services' labels and scores, and their names and prices."""
    folder = find_data("frugalml_api_tables")
    if folder is None:
        from skquee.datasets import fetch_frugalml

        found = fetched(fetch_frugalml, name)
        return found.labels, found.predictions, found.scores, found.names, found.prices
    with np.load(folder / f"{name}.npz") as archive:
        content = {key: archive[key] for key in archive.files}
    rows = list(csv.reader(str(content["meta_csv"]).strip().splitlines()))[1:]
    services = sorted((float(price), service, index) for index, service, price, _ in rows)
    prices, names, indices = zip(*services, strict=True)
    labels = np.column_stack([content[f"Model{i}_prediction"] for i in indices])
    scores = np.column_stack([content[f"Model{i}_confidence"] for i in indices])
    return content["labels"], labels, scores, [name.split("(")[0] for name in names], prices


def load_routellm(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return questions with their subjects, and whether each of two models was wrong."""
    folder = find_data("llm_routing_tables")
    if folder is None:
        from skquee.datasets import fetch_routellm

        found = fetched(fetch_routellm, name)
        questions = list(zip(found.prompts, found.subjects, strict=True))
        return np.array(questions, dtype=object), ~found.correct
    with gzip.open(folder / f"routellm_{name}.csv.gz", "rt", newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    questions = [[row["prompt"], row.get("subject", "")] for row in rows]
    right = [[int(row["mixtral_8x7b_correct"]), int(row["gpt4_1106_correct"])] for row in rows]
    return np.array(questions, dtype=object), np.array(right) == 0


def load_trec() -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Return texts and labels to train on, then those to measure."""
    folder = find_data("text_classification")
    if folder is None:
        from skquee.datasets import fetch_trec

        found = fetched(fetch_trec)
        return found.data, found.target, found.test_data, found.test_target
    parts = []
    for part in ("train", "test"):
        file = folder / "sent_conv" / f"TREC.{part}.all.gz"
        with gzip.open(file, "rt", encoding="latin-1") as lines:
            rows = [line.rstrip("\n").split(" ", 1) for line in lines]
        parts += [[text for _, text in rows], np.array([int(label) for label, _ in rows])]
    return tuple(parts)


def resnet_weights(depth: int) -> Path:
    """Return the checkpoint of a ResNet trained on CIFAR-10."""
    folder = find_data("weights_cifar10_resnet")
    if folder is None:
        from skquee.datasets import fetch_cifar10_resnet

        return fetched(fetch_cifar10_resnet, depth)
    (file,) = folder.glob(f"resnet{depth}-*.th")
    return file


def cache_folder() -> Path:
    """Return a folder for what is dear to compute and cheap to keep."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "skquee"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_images(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, H, W, 3) uint8 and the labels of CIFAR: `part` "train" or "test"."""
    folder = find_data(name)
    if folder is None:
        import torchvision

        kind = getattr(torchvision.datasets, name.upper())
        root = cache_folder() / name
        found = fetched(lambda: kind(root, train=part == "train", download=True))
        return found.data, np.array(found.targets)
    (file,) = folder.glob(f"{name}_{part}_*.npz")
    with np.load(file) as archive:
        data, offsets, labels = (archive[key] for key in ("data", "offsets", "labels"))
    encoded = data.tobytes()
    images = [
        np.asarray(Image.open(io.BytesIO(encoded[start:stop])).convert("RGB"))
        for start, stop in zip(offsets, offsets[1:], strict=False)
    ]
    return np.stack(images), labels.astype(int)
