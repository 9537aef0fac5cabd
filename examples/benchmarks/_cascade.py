"""Cascades of whole networks, against the largest on every engine and against single paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from _cifar_resnet import MEAN, STD, load_resnet, load_resnet8
from _data import load_images
from _rows import Row, Run, accurate, engines_of, halves, measured_row, promising
from numpy.typing import NDArray
from torch import nn

from skquee import MultiPathClassifierBank, PathProbabilities
from skquee.networks import NetworkCascade
from skquee.router import default_router
from skquee.values import PathTree

CALIBRATION = 256  # images for the ranges of int8
CALLS = 512  # images of a round


def resnet_cascade(members: Sequence[int]) -> dict[str, nn.Module]:
    """Return the ResNets of some depths."""
    return {f"r{n}": load_resnet8() if n == 8 else load_resnet(n) for n in members}


def cascade_rows(
    what: str,
    networks: Mapping[str, nn.Module],
    sizes: Sequence[int],
    *,
    loss: float,
    allowed: float,
    n_images: int = 10_000,
    rounds: int = 7,
    **options: Any,
) -> list[Row]:
    """Measure a cascade of networks, cheapest first, each asked after the one before.

    Chains have one gate after each network. Trees of every increasing sequence have gates that
    fewer rows teach, and took more time for less accuracy.

    `loss`: accuracy that the router may lose on the rows it is fitted on, against the last network
    in float. `allowed`: accuracy that the best single path may lose on all rows. `options`: of
    ``from_networks``.
    """
    images, y = (part[:: 10_000 // n_images] for part in load_images("cifar10", "test"))
    first, second = halves(len(y))
    calibration = images[first[:CALIBRATION]]
    whole = MultiPathClassifierBank.from_networks(
        networks, levels=("int8", "fp32"), paths="chain", calibration=calibration, **options
    )
    cascade: Any = whole.classifiers
    cascade.measure_costs(sizes)
    # Networks of one size are given images that are normalised; of several, bytes to resize.
    ready = len({member.parts_.format for member in cascade.members.values()}) == 1
    network = list(cascade.members.values())[-1]
    held = network.start(images[second[:CALLS]]) if ready else images[second[:CALLS]]
    # int8 alone is routed: float32 takes twice the time and is no more accurate. The largest
    # network in float32 is what accuracies are measured against.
    top = list(networks)[-1]
    labels = [f"{n}@int8" if f"{n}@int8" in cascade.levels_ else f"{n}@fp32" for n in networks]
    columns, runs = {}, {}
    for level in dict.fromkeys([*labels, f"{top}@fp32"]):
        name, engine = level.split("@")
        runs[level] = partial(_alone, cascade.members[name], engine)
        columns[level] = _answers(runs[level], images)
        print(f"  {level}: {(columns[level].argmax(axis=1) == y).mean():.2%}", flush=True)
    singles = {n: (float((c.argmax(1) == y).mean()), runs[n]) for n, c in columns.items()}
    right = columns[f"{top}@fp32"].argmax(axis=1) == y
    fixed = {n: run for n, run in runs.items() if n.startswith(f"{top}@")}
    for name, engine in engines_of(network, calibration, network.start(images[:2])).items():
        fixed[name] = partial(_started, network, engine)
    known = {name: accuracy for name, (accuracy, _) in singles.items()}

    def accuracy_of(name: str) -> float:
        if name not in known:
            known[name] = float((_answers(fixed[name], images).argmax(axis=1) == y).mean())
        return known[name]

    values = np.stack([columns[label] for label in labels], axis=1)
    start = held[: max(sizes[0], 64)]
    fixed, singles = promising(fixed, start), accurate(singles, right.mean() - allowed, start)
    found = []
    for size in sizes:
        tree = _tree(cascade, labels, size)
        row = measured_row(
            what,
            size,
            bank=MultiPathClassifierBank(cascade, paths=tree, batch_size=max(sizes)),
            networks=[cascade],
            router=default_router(1.0, answer="ensemble"),
            table=PathProbabilities(values, tree),
            y=y,
            right=right,
            aim=loss,
            fixed=fixed,
            fixed_accuracy=accuracy_of,
            singles=singles,
            batches=[held[n : n + size] for n in range(0, len(held) - size + 1, size)],
            rounds=rounds,
        )
        print(row, flush=True)
        found.append(row)
    return found


def resnet_options() -> dict[str, Any]:
    """Return how the ResNets take images."""
    return {"img_size": 32, "data_config": {"mean": MEAN, "std": STD}}


def _alone(network: Any, engine: str, images: Any) -> NDArray[np.floating]:
    """Return what one network answers on one engine."""
    return network.run_exit(network.start(images), 0, engine)[1]


def _started(network: Any, run: Run, images: Any) -> NDArray[np.floating]:
    return run(network.start(images))


def _answers(run: Run, images: NDArray[Any]) -> NDArray[np.floating]:
    return np.concatenate([run(images[n : n + 250]) for n in range(0, len(images), 250)])


def _tree(cascade: NetworkCascade, labels: Sequence[str], size: int) -> PathTree:
    """Return every path over some levels, with the costs of a number of rows."""
    costs = cascade.path_costs("latency", batch_size=size).tolist()
    kept = {
        tuple(name.split("-")): cost
        for name, cost in zip(cascade.paths_.names, costs, strict=True)
        if set(name.split("-")) <= set(labels)
    }
    return PathTree.from_paths(
        list(kept),
        list(kept.values()),
        columns=[labels.index(steps[-1]) for steps in kept],
        classes=cascade.classes_.tolist(),
        cost_unit="ms",
    )
