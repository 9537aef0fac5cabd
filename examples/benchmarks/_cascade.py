"""Cascades of whole networks, against the largest on every engine and against single paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from _cifar_lite import load_lite
from _cifar_resnet import MEAN, STD, load_resnet, load_resnet8
from _rows import CALLS, Row, Run, engines_of, measured_rows, test_images
from numpy.typing import NDArray
from torch import nn

from skquee import MultiPathClassifierBank, PathProbabilities
from skquee.networks import NetworkCascade
from skquee.values import PathTree


def resnet_cascade(members: Sequence[int]) -> dict[str, nn.Module]:
    """Return the ResNets of some depths."""
    return {f"r{n}": load_resnet8() if n == 8 else load_resnet(n) for n in members}


def lite_cascade(members: Sequence[tuple[int, int]]) -> dict[str, nn.Module]:
    """Return EfficientNet-Lites, each of a number and for images of some pixels a side."""
    return {f"lite{number}/{size}": load_lite(number, size) for number, size in members}


def cascade_rows(
    what: str,
    networks: Mapping[str, nn.Module],
    sizes: Sequence[int],
    *,
    rounds: int,
    loss: float,
    allowed: float,
    n_images: int = 10_000,
    calls: int = CALLS,
    **options: Any,
) -> list[Row]:
    """Measure a cascade of networks, cheapest first, each asked after the one before.

    Chains have one gate after each network. Trees of every increasing sequence have gates that
    fewer rows teach, and took more time for less accuracy. `rounds`, `loss`, `allowed`: of
    ``measured_rows``. `options`: of ``from_networks``.
    """
    test = test_images(n_images, calls)
    whole = MultiPathClassifierBank.from_networks(
        networks,
        levels=("int8", "fp32"),
        paths="chain",
        calibration=test.calibration,
        **options,
    )
    cascade: Any = whole.classifiers
    cascade.measure_costs(sizes)
    # Networks of one size are given images that are normalised; of several, bytes to resize.
    ready = len({member.parts_.format for member in cascade.members.values()}) == 1
    top, network = list(cascade.members.items())[-1]
    # int8 alone is routed: float32 takes twice the time and is no more accurate. The largest
    # network in float32 is what accuracies are measured against.
    labels = [f"{n}@int8" if f"{n}@int8" in cascade.levels_ else f"{n}@fp32" for n in networks]
    columns, runs, known = {}, {}, {}
    for level in dict.fromkeys([*labels, f"{top}@fp32"]):
        name, engine = level.split("@")
        runs[level] = partial(_alone, cascade.members[name], engine)
        columns[level] = _answers(runs[level], test.images)
        known[level] = float((columns[level].argmax(axis=1) == test.y).mean())
        print(f"  {level}: {known[level]:.2%}", flush=True)
    fixed = {n: run for n, run in runs.items() if n.startswith(f"{top}@")}
    for name, engine in engines_of(network, test.calibration, network.start(test.held[:2])).items():
        fixed[name] = partial(_started, network, engine)

    def fixed_accuracy(name: str) -> float:
        if name not in known:
            found = _answers(fixed[name], test.images).argmax(axis=1)
            known[name] = float((found == test.y).mean())
        return known[name]

    values = np.stack([columns[label] for label in labels], axis=1)

    def at(size: int) -> tuple[MultiPathClassifierBank, PathProbabilities]:
        tree = _tree(cascade, labels, size)
        bank = MultiPathClassifierBank(cascade, paths=tree, batch_size=max(sizes))
        return bank, PathProbabilities(values, tree)

    return measured_rows(
        what,
        sizes,
        at,
        network=cascade,
        y=test.y,
        right=columns[f"{top}@fp32"].argmax(axis=1) == test.y,
        loss=loss,
        allowed=allowed,
        fixed=fixed,
        fixed_accuracy=fixed_accuracy,
        singles={level: (known[level], run) for level, run in runs.items()},
        held=network.start(test.held) if ready else test.held,
        rounds=rounds,
    )


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
