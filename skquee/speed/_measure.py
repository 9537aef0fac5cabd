"""Accuracy and images a second of a routed network and of every fixed alternative, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from torch import Tensor
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
from skquee.baselines import FixedPath
from skquee.networks import MultiExitNetwork
from skquee.networks._images import ImageRows
from skquee.networks.engines import LatencyTable
from skquee.routers import CostAwareRouter
from skquee.speed._engines import external_engines
from skquee.speed._runs import (
    Classify,
    along,
    answers,
    device_of,
    float_run,
    frozen,
    graphed,
    predict_at,
    route_at,
)
from skquee.values._fields import Level
from skquee.values._public import publish
from skquee.values._types import Rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measure_speed"]

# The paper's router, and the one that gained most on cascades of similar networks.
ROUTERS = {
    "paper": CostAwareRouter(),
    "ensemble": CostAwareRouter(
        targets="bernoulli",
        regressor="logistic",
        features="rich",
        answer="ensemble",
        policy="option-value",
    ),
}


def measure_speed(
    network: MultiExitNetwork,
    validation: tuple[Rows, ArrayLike],
    test: tuple[Rows, ArrayLike],
    *,
    batch_sizes: Sequence[int] = (1, 16, 64, 256),
    threads: Sequence[int] = (1,),
    max_losses: Sequence[float] = (0.0, 0.005, 0.01, 0.02),
    compiled: bool = True,
    repeats: int = 5,
    images_a_round: int = 512,
    routers: Mapping[str, object] = ROUTERS,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Measure a compiled network, routed and fixed.

    Everything is timed turn by turn, so that all meet the same machine; images are resized
    and normalised beforehand for all alike, and lie on the network's device. Every time ends
    with answers in the host's memory. Run it where nothing else runs.

    Parameters
    ----------
    network : MultiExitNetwork
        Compiled; its float blocks are the reference.
    validation : (images, labels)
        Fit the router and choose its operating points, for every batch size by the costs measured
        at that size.
    test : (images, labels)
        Measure accuracy and speed.
    batch_sizes : sequence of int, default=(1, 16, 64, 256)
        Rows given together.
    threads : sequence of int, default=(1,)
        Threads of torch and of every engine.
    max_losses : sequence of float, default=(0, 0.005, 0.01, 0.02)
        Operating points, of the router and of one path for all images: the cheapest that loses at
        most so much accuracy against float, on validation images.
    compiled : bool, default=True
        Time ``torch.compile`` with frozen weights, ONNX Runtime and OpenVINO on the whole network
        too, where they are at hand; the last two on a CPU only. On a GPU, the whole network as one
        CUDA graph is always among the alternatives.
    repeats : int, default=5
        Rounds; the median counts.
    images_a_round : int, default=512
        Images of a round at most; of single rows a sixteenth.
    routers : mapping of str to router
        What routes, by name, not fitted. Default: the paper's, and one with logistic gates whose
        visited exits answer together.
    random_state : int, default=0
        Seed of the routers.

    Returns
    -------
    DataFrame
        A row for each alternative, batch size and number of threads: ``accuracy`` on all test
        images, ``images_per_second``, its quartiles ``low`` and ``high``, and ``ratio`` to the
        float network. For single images ``p50_ms`` and ``p99_ms``, quantiles of the milliseconds of
        all calls. For routed rows: ``overhead``, the time over that of its blocks run alone
        on the same groups; ``deciding``, the share of the time outside of blocks and exits; and
        ``predicted``, the time that ``latency_``, calibrated by routed validation images, predicts
        over the clock's. ``attrs["missing"]`` says why an engine is not among the alternatives.

    Examples
    --------
    >>> from skquee.report import measure_speed, speed_verdict
    >>> found = measure_speed(network.compile(), validation, test)  # doctest: +SKIP
    >>> print(speed_verdict(found))  # doctest: +SKIP
    """
    import pandas as pd

    validation_rows, test_rows = network.rows(validation[0]), network.rows(test[0])
    y = np.asarray(test[1])
    if len(y) < max(batch_sizes):
        raise ValueError(f"test holds {len(y)} images, fewer than a batch of {max(batch_sizes)}.")
    bank = MultiPathClassifierBank(network, batch_size=max(batch_sizes))
    table, held = bank.materialize(validation_rows), bank.materialize(test_rows)
    fitted = {kind: clone(router) for kind, router in routers.items()}
    for router in fitted.values():
        if "random_state" in router.get_params(deep=False):
            router.set_params(random_state=random_state)
        router.fit(table, validation[1])
    right = answers(network, float_run(network), validation_rows) == np.asarray(validation[1])
    wanted = {
        f"{100 * loss:g} points allowed": float(right.mean()) - loss - 1e-9 for loss in max_losses
    }
    device = device_of(network)
    images = test_rows[: max(images_a_round, max(batch_sizes))].tensor().to(device)
    accuracy: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    missing: dict[str, str] = {}
    before = torch.get_num_threads()
    try:
        for n_threads in threads:
            torch.set_num_threads(n_threads)
            network.measure_costs(batch_sizes, threads=n_threads)
            measured = network.latency_
            latency = {
                kind: _calibrated(network, router, bank, validation_rows, batch_sizes)
                for kind, router in fitted.items()
            }
            fixed: dict[str, Classify] = {"float32, eager": float_run(network)}
            for level in network.levels_:
                fixed[f"{level}, every block"] = along(network, [level] * len(network.flops_))
            fixed.update(graphed(network))
            if compiled:
                fixed.update(frozen(network, images[:1]))
            if compiled and device.type == "cpu":
                others, missing = external_engines(network, validation[0], threads=n_threads)
                fixed.update(others)
            for name, run in fixed.items():
                if name not in accuracy:
                    accuracy[name] = float((answers(network, run, test_rows) == y).mean())
            for size in tqdm(batch_sizes, desc=f"{n_threads} threads", disable=None):
                limit = images_a_round // 16 if size == 1 else images_a_round
                batches = images[: max(size, limit)].split(size)
                batches = [batch for batch in batches if len(batch) == size]
                runs: dict[str, Callable[[Tensor], object]] = dict(fixed)
                tables: dict[str, LatencyTable] = {}
                routes: dict[str, Callable[[Tensor], Any]] = {}
                for kind, router in {**fitted, "one path": FixedPath()}.items():
                    timed = network.with_latency(latency.get(kind, measured))
                    costs = timed.path_costs("latency", batch_size=size)
                    router.set_params(path_costs=costs)
                    if kind not in fitted:
                        router.fit(table, validation[1])
                    for loss, knob in _operating_points(router, table, validation[1], wanted):
                        router.set_params(**{router.knob.name: knob})
                        name = f"{kind}, {loss}"
                        if kind in fitted:
                            name = f"routed ({kind}), {loss}"
                            runs[name] = predict_at(router, bank)
                            routes[name], tables[name] = route_at(router, bank), latency[kind]
                        else:
                            steps = table.paths.prefixes(knob)
                            runs[name] = along(network, [table.paths.levels[p] for p in steps])
                        accuracy[name] = float((router.route(held).labels == y).mean())
                for name, calls in _rounds(runs, batches, repeats).items():
                    spent = calls.sum(axis=1)
                    speed = size * len(batches) / spent
                    row = {
                        "alternative": name,
                        "threads": n_threads,
                        "batch": size,
                        "accuracy": accuracy[name],
                        "images_per_second": float(np.median(speed)),
                        "low": float(np.quantile(speed, 0.25)),
                        "high": float(np.quantile(speed, 0.75)),
                    }
                    if size == 1:
                        p50, p99 = 1000 * np.quantile(calls, (0.5, 0.99))
                        row |= {"p50_ms": float(p50), "p99_ms": float(p99)}
                    if name in tables:
                        seconds = float(np.median(spent))
                        row |= _parts(network, runs[name], batches, seconds)
                        predicted = [tables[name].predict(routes[name](b).counts) for b in batches]
                        row["predicted"] = sum(predicted) / 1000 / seconds
                    rows.append(row)
    finally:
        torch.set_num_threads(before)
    found = pd.DataFrame(rows)
    reference = found[found["alternative"] == "float32, eager"].set_index(["threads", "batch"])
    keys = pd.MultiIndex.from_frame(found[["threads", "batch"]])
    found["ratio"] = (
        found["images_per_second"].to_numpy()
        / reference["images_per_second"].reindex(keys).to_numpy()
    )
    found.attrs["missing"] = missing
    return found


def _parts(
    network: Any,
    run: Callable[[Tensor], object],
    batches: Sequence[Tensor],
    seconds: float,
) -> dict[str, float]:
    """Return what part of the time of routed batches are blocks, within and alone."""
    calls: list[tuple[Tensor, int, Level]] = []
    inside = 0.0
    method = network.run_exit

    def noted(state: Tensor, block: int, level: Level) -> object:
        nonlocal inside
        began = time.perf_counter()
        answer = method(state, block, level)
        inside += time.perf_counter() - began
        calls.append((state, block, level))
        return answer

    network.run_exit = noted
    try:
        began = time.perf_counter()
        for batch in batches:
            run(batch)
        whole = time.perf_counter() - began
    finally:
        del network.run_exit
    alone = []
    for _ in range(3):
        began = time.perf_counter()
        for call in calls:
            method(*call)
        alone.append(time.perf_counter() - began)
    return {
        "overhead": seconds / float(np.median(alone)),
        "deciding": 1 - inside / whole,
    }


def _calibrated(
    network: MultiExitNetwork,
    router: BaseEstimator,
    bank: BaseEstimator,
    rows: ImageRows,
    batch_sizes: Sequence[int],
) -> LatencyTable:
    """Return the network's latency table with what this router's walk takes beside blocks."""
    knobs = np.quantile(router.default_knobs(router.paths_), (0, 0.25, 0.5, 0.75), method="lower")
    counts, took = [], []
    for size in batch_sizes:
        batch = rows[:size].tensor().to(device_of(network))
        for knob in knobs.tolist():
            router.set_params(**{router.knob.name: knob})
            counts.append(route_at(router, bank)(batch).counts)  # warms up, too
            run, seconds = predict_at(router, bank), []
            for _ in range(3):
                began = time.perf_counter()
                run(batch)
                seconds.append(time.perf_counter() - began)
            took.append(1000 * float(np.median(seconds)))
    table: LatencyTable = network.latency_
    return table.calibrated(counts, took)


def _operating_points(
    router: BaseEstimator, table: ArrayLike, y: ArrayLike, wanted: Mapping[str, float]
) -> Iterator[tuple[str, Any]]:
    """Yield the cheapest trade-off for every accuracy wanted on validation rows."""
    curve = router.cost_curve(None, table, y)
    for name, accuracy in wanted.items():
        enough = np.flatnonzero(curve.accuracy >= accuracy)
        if not enough.size:
            enough = np.array([int(curve.accuracy.argmax())])
        knob = float(curve.knobs[enough[curve.cost[enough].argmin()]])
        yield name, router.knob.of(knob)


def _rounds(
    runs: dict[str, Callable[[Tensor], object]], batches: Sequence[Tensor], repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Return the seconds of every call, shape (repeats, n_batches)."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in runs}
    for run in runs.values():  # the first one warms up
        for batch in batches:
            run(batch)
    for _ in range(repeats):
        for name, run in runs.items():
            stops = [time.perf_counter()]
            for batch in batches:
                run(batch)
                stops.append(time.perf_counter())
            seconds[name].append(np.diff(stops).tolist())
    return {name: np.array(spent) for name, spent in seconds.items()}


publish("skquee.report", measure_speed)
