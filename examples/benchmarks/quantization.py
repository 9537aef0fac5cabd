"""Benchmarks of the quantisers: one command prints every figure.

Run ``python examples/benchmarks/quantization.py`` (about an hour on two cores), or name the
parts wanted: ``cifar10 cifar100 shortcuts large``. ``--images 2000`` tests on fewer images.
``cifar100`` needs the weights that ``examples/cifar100_t2t_vit.py`` trains.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cifar_t2t_vit import DATA_CONFIG, split_rows
from _data import data_folder, load_images
from _train_cifar100 import trained_weights

from skquee import MultiPathClassifierBank
from skquee.networks import BasePTQ, HeadTrainer, MultiExitNetwork, PTQ4ViT, UniformPTQ

WIDTHS = (8, 6, 5, 4)


def float_network(name: str) -> MultiExitNetwork:
    """Return the network as one block with its own head: a path is a bit width."""
    checkpoint = (
        data_folder("t2t_vit_7_cifar10") / "model.safetensors"
        if name == "cifar10"
        else trained_weights()
    )
    network = MultiExitNetwork(
        "t2t_vit_7",
        exits=(7,),
        weights=checkpoint,
        img_size=64,
        data_config=DATA_CONFIG,
        trainer=HeadTrainer(max_epochs=0),
    )
    images, labels = load_images(name, "train")
    rows = split_rows(len(labels))[0][:2000]
    return network.fit(images[rows], labels[rows])


def calibration_images(name: str) -> np.ndarray:
    images, labels = load_images(name, "train")
    return images[split_rows(len(labels))[0][:128]]


def right_answers(network: MultiExitNetwork, name: str, n_images: int) -> np.ndarray:
    """Run the only level there is on test images."""
    images, labels = load_images(name, "test")
    rows = np.random.default_rng(0).permutation(len(labels))[:n_images]
    table = MultiPathClassifierBank(network).materialize(images[rows])
    answers = network.classes_[np.asarray(table)[:, 0].argmax(axis=1)]
    return answers == labels[rows]


def points(one: np.ndarray, other: np.ndarray) -> str:
    """Describe the difference of two accuracies on the same images."""
    difference = 100 * (one.astype(float) - other)
    error = difference.std() / len(difference) ** 0.5
    return f"{difference.mean():+.2f} points (s.e. {error:.2f})"


def accuracy(name: str, n_images: int) -> None:
    """T2T-ViT-7 at 64 x 64, 128 calibration images, every operation at one width."""
    network, calibration = float_network(name), calibration_images(name)
    exact = right_answers(network, name, n_images)
    print(f"{name}, {len(exact)} test images: float {exact.mean():.2%}", flush=True)
    for bits in WIDTHS:
        found = {}
        for method in (UniformPTQ(), BasePTQ(), PTQ4ViT()):
            start = time.perf_counter()
            network.quantize((bits,), calibration=calibration, method=method)
            seconds = time.perf_counter() - start
            right = right_answers(network, name, n_images)
            found[type(method).__name__] = right
            print(
                f"  {bits} bits {type(method).__name__:<11} {right.mean():.2%}, lost "
                f"{points(exact, right)}, quantised in {seconds:.1f} s",
                flush=True,
            )
        for rival in ("UniformPTQ", "BasePTQ"):
            gain = points(found["PTQ4ViT"], found[rival])
            print(f"  {bits} bits PTQ4ViT less {rival}: {gain}", flush=True)


def shortcuts(n_images: int) -> None:
    """What the coarse search and the choice of rows cost against trying all on all."""
    network, calibration = float_network("cifar10"), calibration_images("cifar10")[:32]
    for bits in (6, 4):
        for options in ({"stride": 1, "max_rows": None}, {"max_rows": None}, {"max_rows": 512}):
            start = time.perf_counter()
            network.quantize((bits,), calibration=calibration, method=PTQ4ViT(**options))
            seconds = time.perf_counter() - start
            right = right_answers(network, "cifar10", min(n_images, 2000))
            print(
                f"{bits} bits, 32 images, {options}: {right.mean():.2%} of {len(right)}, "
                f"{seconds:.1f} s",
                flush=True,
            )


def large(n_images: int) -> None:
    """ViT-S/16 at 224 x 224 with random weights, 32 images: time and memory."""
    del n_images
    images = np.random.default_rng(0).integers(0, 256, size=(32, 224, 224, 3), dtype=np.uint8)
    network = MultiExitNetwork(
        "vit_small_patch16_224",
        exits=(12,),
        trainer=HeadTrainer(max_epochs=1, batch_size=8),
        random_state=0,
    )
    network.fit(images, np.arange(32) % 10)
    start = time.perf_counter()
    network.quantize((6,), calibration=images, method=PTQ4ViT())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"ViT-S/16, 32 images, 6 bits: {seconds:.0f} s, peak {peak:.2f} GiB", flush=True)


PARTS = {
    "large": large,  # first: the peak of memory is that of the whole process
    "cifar10": lambda n_images: accuracy("cifar10", n_images),
    "cifar100": lambda n_images: accuracy("cifar100", n_images),
    "shortcuts": shortcuts,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=" ".join(PARTS))
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        PARTS[part](options.images)
