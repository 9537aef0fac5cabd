"""Benchmarks of the network wing on T2T-ViT-7: one command prints every figure.

Run ``python examples/benchmarks/networks.py`` (about 20 minutes; needs the data sets
``cifar10`` and ``t2t_vit_7_cifar10``), or name the parts wanted: ``heads memory materialize``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cifar_t2t_vit import DATA_CONFIG, split_rows
from _data import data_folder, load_images

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ

LEVELS = (5, 6, 7, 8)


def report(name: str, value: str, goal: str) -> None:
    print(f"{name:<52} {value:<52} goal: {goal}", flush=True)


def make_network(n_images: int, **options) -> MultiExitNetwork:
    images, labels = load_images("cifar10", "train")
    train, validation = split_rows(len(labels))
    network = MultiExitNetwork(
        "t2t_vit_7",
        exits=(2, 4, 7),
        weights=data_folder("t2t_vit_7_cifar10") / "model.safetensors",
        img_size=64,
        data_config=DATA_CONFIG,
        random_state=0,
        **options,
    )
    rows, held = train[:n_images], validation[:500]
    network.fit(images[rows], labels[rows], validation_data=(images[held], labels[held]))
    # How a level was found does not matter to what running it costs.
    return network.quantize(LEVELS, calibration=images[train[:32]], method=UniformPTQ())


def heads() -> None:
    """Time an epoch of three heads on features of 45,000 images; their values do not matter."""
    from skquee.networks._training import make_heads, train_heads

    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(45_000, 256, generator=generator) for _ in range(3)]
    labels = torch.randint(10, (45_000,), generator=generator)
    took = []
    for epochs in (1, 4):
        start = time.perf_counter()
        train_heads(
            make_heads([256] * 3, 10, "linear", generator),
            features,
            labels,
            [f[:5000] for f in features],
            labels[:5000],
            learning_rate=1e-3,
            weight_decay=1e-4,
            batch_size=128,
            max_epochs=epochs,
            patience=100,
            generator=generator,
        )
        took.append(time.perf_counter() - start)
    report("heads: one epoch, 45,000 images, 3 exits", f"{(took[1] - took[0]) / 3:.2f} s", "< 15 s")


def memory(network: MultiExitNetwork) -> None:
    def size(modules) -> int:
        tensors = {
            t.data_ptr(): t.nbytes
            for module in modules
            for t in (*module.parameters(), *module.buffers())
        }
        return sum(tensors.values())

    whole = size(network.parts_.levels[level] for level in LEVELS)
    alone = size([network.float_blocks])
    report(
        "memory: float network and its 4 levels, over float",
        f"{size([network.float_blocks, *network.parts_.levels.values()]) / alone:.2f} "
        f"({alone / 2**20:.1f} MiB float, 4 levels alone {whole / 2**20:.1f} MiB)",
        "< 2.2",
    )


def materialize(network: MultiExitNetwork, n_images: int) -> None:
    images, _ = load_images("cifar10", "test")
    images, tree = images[:n_images], network.paths_
    bank = MultiPathClassifierBank(network)
    batches = list(network.rows(images).batches(bank.batch_size))

    def run(state: torch.Tensor, path: int) -> torch.Tensor:
        return network.parts_.levels[tree.levels[path]][int(tree.depths[path]) - 1](state)

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                tree.fold(batch, run)

    times: dict[str, list[float]] = {"bare": [], "bank": []}
    for _ in range(3):
        for name, call in (("bare", bare), ("bank", lambda: bank.materialize(images))):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    ratios = np.array(times["bank"]) / np.array(times["bare"])
    report(
        f"materialise {n_images} images x {tree.n_paths} paths, over the blocks alone",
        f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f}; "
        f"{np.median(times['bank']):.0f} s)",
        "< 1.3",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["heads", "memory", "materialize"])
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if "heads" in options.parts:
        heads()
    if {"memory", "materialize"} & set(options.parts):
        network = make_network(1000, trainer=HeadTrainer(max_epochs=3))
    if "memory" in options.parts:
        memory(network)
    if "materialize" in options.parts:
        materialize(network, options.images)


if __name__ == "__main__":
    main()
