"""Rows of the speed table: routed, against the fastest fixed engine and the best single path."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from skquee import MultiPathClassifierBank
from skquee.speed._engines import external_engines
from skquee.speed._runs import float_run, frozen, predict_at

Run = Callable[[Tensor], Any]

# Engines that take so many times the fastest one are told, but take no part in the rounds.
HOPELESS = 1.6
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


def promising(runs: Mapping[str, Run], batch: Any, hopeless: float = HOPELESS) -> dict[str, Run]:
    """Time each once on images (n, ...), tell, and keep those that are not far behind."""
    took = {}
    for name, run in runs.items():
        run(batch)
        began = time.perf_counter()
        run(batch)
        took[name] = time.perf_counter() - began
    text = "; ".join(f"{name} {1000 * s:.1f}" for name, s in sorted(took.items(), key=_second))
    print(f"  once {len(batch)} images, ms: {text}", flush=True)
    return {name: run for name, run in runs.items() if took[name] < hopeless * min(took.values())}


def accurate(
    singles: Mapping[str, tuple[float, Run]], enough: float, batch: Any
) -> dict[str, tuple[float, Run]]:
    """Return the single paths that reach an accuracy and are not far behind the fastest of them."""
    good = {name: run for name, (own, run) in singles.items() if own >= enough - 1e-9}
    return {name: (singles[name][0], run) for name, run in promising(good, batch).items()}


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


def measured_row(
    what: str,
    size: int,
    *,
    bank: MultiPathClassifierBank,
    networks: Sequence[Any],
    router: Any,
    table: Any,
    y: NDArray[Any],
    right: NDArray[np.bool_],
    aim: float,
    fixed: Mapping[str, Run],
    fixed_accuracy: Callable[[str], float],
    singles: Mapping[str, tuple[float, Run]],
    batches: Sequence[Any],
    rounds: int,
) -> Row:
    """Fit, choose the point, and time everything in turns.

    `table`: stored, of all test rows, with the costs of this size. `aim`: accuracy given up on
    rows of fit. `singles`: accuracy and run of single paths. `batches`: images of the half that
    did not calibrate.
    """
    fitted, accuracy, _ = cross_fitted(router, table, y, right, aim)
    routed = predict_at(fitted, bank)
    paths = {f"path {name}": run for name, (_, run) in singles.items()}
    spent = race({"routed": routed, **fixed, **paths}, batches, rounds)

    def against(names: Mapping[str, Run]) -> tuple[str, NDArray[np.float64]]:
        name = min((n for n in spent if n in names), key=lambda n: float(np.median(spent[n])))
        return name, np.quantile(spent[name] / spent["routed"], (0.25, 0.5, 0.75))

    fastest, ratios = against(fixed)
    single, others = against(paths)
    return Row(
        what,
        size,
        accuracy,
        float(right.mean()),
        size * len(batches) / float(np.median(spent["routed"])),
        (fastest, fixed_accuracy(fastest), ratios),
        (single, singles[single.removeprefix("path ")][0], others),
        deciding(networks, routed, batches),
    )
