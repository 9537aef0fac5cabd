"""Rows of the speed table: routed, against the fastest fixed engine and the best single path."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _data import load_images
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from skquee import MultiPathClassifierBank
from skquee.router import default_router
from skquee.speed._engines import external_engines
from skquee.speed._runs import float_run, frozen, predict_at

Run = Callable[[Tensor], Any]

# Engines that take so many times the fastest one are told, but take no part in the rounds.
HOPELESS = 1.6
CALIBRATION = 256  # images for the ranges of int8
CALLS, SINGLE = 512, 96  # images of a round; where each is a call
SOME = 16  # images at least that tell who takes part in the rounds
INSIDE = ("run_exit", "run_block", "head")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `what`, `size`: what was routed, and images a call. `accuracy`: routed, cross-fitted over all
    test images. `reference`: of the whole float network on the same images. `routed`: images a
    second, median. `fixed`, `single`: name, accuracy, and the ratio's median and quartiles over
    the rounds. `deciding`: share of the routed time outside of networks.
    """

    what: str
    size: int
    accuracy: float
    reference: float
    routed: float
    fixed: tuple[str, float, NDArray[np.float64]]
    single: tuple[str, float, NDArray[np.float64]]
    deciding: float

    def __str__(self) -> str:
        parts = [
            f"{self.what}, {self.size} images a call: {self.accuracy:.2%} (float "
            f"{self.reference:.2%}), {self.routed:,.0f} images/s, deciding {self.deciding:.1%}"
        ]
        for kind, (name, accuracy, ratios) in (
            ("fastest fixed engine", self.fixed),
            ("best single path", self.single),
        ):
            low, middle, high = ratios
            parts.append(
                f"  {middle:.2f} times ({low:.2f} to {high:.2f}) the {kind}: {name}, {accuracy:.2%}"
            )
        return "\n".join(parts)


def halves(n_rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return two halves of rows: each calibrates what the other one measures."""
    first, second = np.random.default_rng(1).permutation(n_rows).reshape(2, -1)
    return first, second


def operating_point(router: Any, table: Any, y: NDArray[Any], wanted: float) -> Any:
    """Return the router at the cheapest point that reaches an accuracy on these rows."""
    curve = router.cost_curve(None, table, y)
    enough = np.flatnonzero(curve.accuracy >= wanted - 1e-9)
    if not enough.size:
        enough = np.array([int(curve.accuracy.argmax())])
    knob = float(curve.knobs[enough[curve.cost[enough].argmin()]])
    return router.set_params(**{router.knob.name: router.knob.of(knob)})


def cross_fitted(
    router: Any, table: Any, y: NDArray[Any], right: NDArray[np.bool_], loss: float
) -> tuple[Any, float, float]:
    """Fit on each half, measure on the other one.

    `right` (n,): whether the float network is right. `loss`: accuracy given up on the rows of fit.
    Returns the router of the first half, accuracy, and mean cost of a row.
    """
    first, second = halves(len(y))
    found, hits, costs = [], [], []
    for mine, others in ((first, second), (second, first)):
        fitted = clone(router).fit(table[mine], y[mine])
        found.append(operating_point(fitted, table[mine], y[mine], right[mine].mean() - loss))
        routes = fitted.route(table[others])
        hits.append(routes.labels == y[others])
        costs.append(routes.costs.mean())
    return found[0], float(np.mean(hits)), float(np.mean(costs))


def engines_of(network: Any, images: NDArray[Any], sample: Tensor) -> dict[str, Run]:
    """Return a whole float network on every engine there is, own levels included."""
    runs: dict[str, Run] = {"float32, eager": float_run(network)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs.update(frozen(network, sample[:1]))
        others, missing = external_engines(network, images, threads=torch.get_num_threads())
    runs.update(others)
    for name, why in missing.items():
        print(f"  left out: {name}: {why}")
    return runs


def promising(runs: Mapping[str, Run], batches: Sequence[Any]) -> dict[str, Run]:
    """Time each once on batches of images, tell, and keep those that are not far behind."""
    took = {}
    for name, run in runs.items():
        run(batches[0])
        began = time.perf_counter()
        for batch in batches:
            run(batch)
        took[name] = (time.perf_counter() - began) / len(batches)
    text = "; ".join(f"{name} {1000 * s:.1f}" for name, s in sorted(took.items(), key=_second))
    print(f"  {len(batches[0])} images a call, ms: {text}", flush=True)
    return {name: run for name, run in runs.items() if took[name] < HOPELESS * min(took.values())}


def accurate(
    singles: Mapping[str, tuple[float, Run]], enough: float, batches: Sequence[Any]
) -> dict[str, tuple[float, Run]]:
    """Return the single paths that reach an accuracy and are not far behind the fastest of them."""
    good = {name: run for name, (own, run) in singles.items() if own >= enough - 1e-9}
    return {name: (singles[name][0], run) for name, run in promising(good, batches).items()}


def _second(item: tuple[str, float]) -> float:
    return item[1]


def race(runs: Mapping[str, Run], batches: Sequence[Tensor], rounds: int) -> dict[str, Any]:
    """Return the seconds of every round, shape (rounds,): all take turns."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for batch in batches:
            run(batch)
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            for batch in batches:
                run(batch)
            spent[name].append(time.perf_counter() - began)
    return {name: np.array(seconds) for name, seconds in spent.items()}


def deciding(networks: Sequence[Any], run: Run, batches: Sequence[Tensor]) -> float:
    """Return the share of time that a routed run spends outside of networks."""
    inside, depth = 0.0, 0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any) -> Any:
            nonlocal inside, depth
            depth += 1
            began = time.perf_counter()
            try:
                return method(*args)
            finally:
                depth -= 1
                if not depth:
                    inside += time.perf_counter() - began

        return inner

    noted = [(n, name) for n in networks for name in INSIDE if hasattr(n, name)]
    for network, name in noted:
        setattr(network, name, timed(getattr(network, name)))
    try:
        began = time.perf_counter()
        for batch in batches:
            run(batch)
        whole = time.perf_counter() - began
    finally:
        for network, name in noted:
            delattr(network, name)
    return 1 - inside / whole


@dataclass(frozen=True)
class TestImages:
    """Images (n, H, W, 3) and labels to measure on.

    `calibration`: some of the half that does not take part in the rounds, for the ranges of int8.
    `held`: those of the other half that do.
    """

    images: NDArray[Any]
    y: NDArray[Any]
    calibration: NDArray[Any]
    held: NDArray[Any]


def test_images(n_images: int, calls: int = CALLS) -> TestImages:
    """Return some of CIFAR-10's test images, of which `calls` take part in a round."""
    images, y = (part[:: 10_000 // n_images] for part in load_images("cifar10", "test"))
    first, second = halves(len(y))
    return TestImages(images, y, images[first[:CALIBRATION]], images[second[:calls]])


def measured_rows(
    what: str,
    sizes: Sequence[int],
    at: Callable[[int], tuple[MultiPathClassifierBank, Any]],
    *,
    network: Any,
    y: NDArray[Any],
    right: NDArray[np.bool_],
    loss: float,
    allowed: float,
    fixed: Mapping[str, Run],
    fixed_accuracy: Callable[[str], float],
    singles: Mapping[str, tuple[float, Run]],
    held: Any,
    rounds: int,
) -> list[Row]:
    """Fit, choose the point, and time everything in turns, for some numbers of images a call.

    `at`: from that number the bank and the stored table of all test rows, with its costs.
    `network`: what the bank runs. `right` (n,): whether the float network is right. `loss`:
    accuracy that the router may lose on the rows it is fitted on, against the float network.
    `allowed`: accuracy that the best single path may lose on all rows. `singles`: accuracy and
    run of single paths. `held`: images of the half that did not calibrate.
    """
    start = [held[n : n + sizes[0]] for n in range(0, max(sizes[0], SOME), sizes[0])]
    fixed = promising(fixed, start)
    singles = accurate(singles, right.mean() - allowed, start)
    paths = {f"path {name}": run for name, (_, run) in singles.items()}
    found = []
    for size in sizes:
        rows = held[:SINGLE] if size == 1 else held
        batches = [rows[n : n + size] for n in range(0, len(rows) - size + 1, size)]
        bank, table = at(size)
        router = default_router(1.0, answer="ensemble")
        fitted, accuracy, _ = cross_fitted(router, table, y, right, loss)
        routed = predict_at(fitted, bank)
        spent = race({"routed": routed, **fixed, **paths}, batches, rounds)
        fastest, ratios = _fastest(spent, fixed)
        single, others = _fastest(spent, paths)
        row = Row(
            what,
            size,
            accuracy,
            float(right.mean()),
            size * len(batches) / float(np.median(spent["routed"])),
            (fastest, fixed_accuracy(fastest), ratios),
            (single, singles[single.removeprefix("path ")][0], others),
            deciding([network], routed, batches),
        )
        print(row, flush=True)
        found.append(row)
    return found


def _fastest(
    spent: Mapping[str, NDArray[np.float64]], names: Mapping[str, Run]
) -> tuple[str, NDArray[np.float64]]:
    """Return the fastest of some, and quartiles of its time over the routed one's."""
    name = min(names, key=lambda n: float(np.median(spent[n])))
    return name, np.quantile(spent[name] / spent["routed"], (0.25, 0.5, 0.75))
