"""Accuracy and images a second of a routed network and of every fixed alternative, in one run."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold
from torch import Tensor
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
from skquee.baselines import FixedPath
from skquee.networks import MultiExitNetwork, NetworkCascade
from skquee.networks._images import ImageRows
from skquee.networks.engines import LatencyTable
from skquee.routers import CostAwareRouter
from skquee.speed._engines import external_engines
from skquee.speed._runs import (
    REFERENCE,
    Batch,
    Measured,
    alone,
    along,
    answers,
    batches_of,
    device_of,
    float_run,
    frozen,
    graphed,
    largest,
    predict_at,
    route_at,
    whole,
)
from skquee.values import PathProbabilities
from skquee.values._fields import Level
from skquee.values._public import publish
from skquee.values._types import Rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measure_speed"]

FOLDS = 5
# A fitted router, and rows that it did not see.
Fold: TypeAlias = tuple[BaseEstimator, NDArray[np.intp]]

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
    network: MultiExitNetwork | NetworkCascade,
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
    network : MultiExitNetwork or NetworkCascade
        Compiled; its float blocks are the reference. Of a cascade the last network is, and what
        whole engines run; images are resized within the time where its networks take several sizes.
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
        most so much accuracy against float, on validation images. A router's are judged by five
        routers, each on a fifth of these images that it was not fitted on.
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
    others = {kind: _of_others(router, table, validation[1]) for kind, router in fitted.items()}
    last = largest(network)
    members = network.members.values() if isinstance(network, NetworkCascade) else (network,)
    reference = whole(network, {REFERENCE: float_run(last)})[REFERENCE]
    right = answers(network, reference, validation_rows) == np.asarray(validation[1])
    wanted = {
        f"{100 * loss:g} points allowed": float(right.mean()) - loss - 1e-9 for loss in max_losses
    }
    device = device_of(network)
    images = test_rows[: max(images_a_round, max(batch_sizes))]
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
            engines = graphed(last)
            if compiled:
                engines.update(frozen(last, last.start(validation_rows[:1])))
            if compiled and device.type == "cpu":
                external, missing = external_engines(last, validation[0], threads=n_threads)
                engines.update(external)
            fixed = {REFERENCE: reference, **alone(network), **whole(network, engines)}
            for name, run in fixed.items():
                if name not in accuracy:
                    accuracy[name] = float((answers(network, run, test_rows) == y).mean())
            for size in tqdm(batch_sizes, desc=f"{n_threads} threads", disable=None):
                limit = images_a_round // 16 if size == 1 else images_a_round
                batches = batches_of(network, images[: max(size, limit)], size)
                batches = [batch for batch in batches if len(batch) == size]
                runs: dict[str, Callable[[Batch], object]] = dict(fixed)
                tables: dict[str, LatencyTable] = {}
                routes: dict[str, Callable[[Batch], Any]] = {}
                for kind, router in {**fitted, "one path": FixedPath()}.items():
                    timed = _with_latency(network, latency.get(kind, measured))
                    costs = timed.path_costs("latency", batch_size=size)
                    router.set_params(path_costs=costs)
                    if kind not in fitted:
                        router.fit(table, validation[1])
                    folds = others.get(kind, [])
                    for loss, knob in _operating_points(
                        router, folds, table, validation[1], wanted
                    ):
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
                        row |= _parts(members, runs[name], batches, seconds)
                        predicted = [tables[name].predict(routes[name](b).counts) for b in batches]
                        row["predicted"] = sum(predicted) / 1000 / seconds
                    rows.append(row)
    finally:
        torch.set_num_threads(before)
    found = pd.DataFrame(rows)
    base = found[found["alternative"] == REFERENCE].set_index(["threads", "batch"])
    keys = pd.MultiIndex.from_frame(found[["threads", "batch"]])
    found["ratio"] = (
        found["images_per_second"].to_numpy() / base["images_per_second"].reindex(keys).to_numpy()
    )
    found.attrs["missing"] = missing
    return found


def _parts(
    networks: Iterable[Any],
    run: Callable[[Batch], object],
    batches: Sequence[Batch],
    seconds: float,
) -> dict[str, float]:
    """Return what part of the time of routed batches are blocks, within and by themselves."""
    calls: list[Callable[[], object]] = []
    inside = 0.0

    def noting(method: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: Tensor | Level) -> object:
            nonlocal inside
            began = time.perf_counter()
            answer = method(*args)
            inside += time.perf_counter() - began
            calls.append(partial(method, *args))
            return answer

        return noted

    for network in networks:
        network.run_exit = noting(network.run_exit)
    try:
        began = time.perf_counter()
        for batch in batches:
            run(batch)
        took = time.perf_counter() - began
    finally:
        for network in networks:
            del network.run_exit
    again = []
    for _ in range(3):
        began = time.perf_counter()
        for call in calls:
            call()
        again.append(time.perf_counter() - began)
    return {
        "overhead": seconds / float(np.median(again)),
        "deciding": 1 - inside / took,
    }


def _with_latency(network: Measured, latency: LatencyTable) -> Measured:
    if isinstance(network, MultiExitNetwork):
        return network.with_latency(latency)
    timed: NetworkCascade = copy.copy(network)
    timed.latency_ = latency
    return timed


def _calibrated(
    network: Measured,
    router: BaseEstimator,
    bank: BaseEstimator,
    rows: ImageRows,
    batch_sizes: Sequence[int],
) -> LatencyTable:
    """Return the network's latency table with what this router's walk takes beside blocks."""
    knobs = np.quantile(router.default_knobs(router.paths_), (0, 0.25, 0.5, 0.75), method="lower")
    counts, took = [], []
    for size in batch_sizes:
        batch = batches_of(network, rows[:size], size)[0]
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


def _of_others(router: BaseEstimator, table: PathProbabilities, y: ArrayLike) -> list[Fold]:
    """Return, for each fold of the rows, a router of all others with the rows of the fold."""
    y, folds = np.asarray(y), KFold(FOLDS, shuffle=True, random_state=0).split(y)
    return [(clone(router).fit(table[others], y[others]), own) for others, own in folds]


def _operating_points(
    router: BaseEstimator,
    folds: Sequence[Fold],
    table: PathProbabilities,
    y: ArrayLike,
    wanted: Mapping[str, float],
) -> Iterator[tuple[str, Any]]:
    """Yield the cheapest trade-off for every accuracy wanted on validation rows.

    By routers that did not see the rows, of `folds`: on its own ones a router looks better.
    """
    y = np.asarray(y)
    curve = router.cost_curve(None, table, y)
    accuracy, cost = curve.accuracy, curve.cost
    if folds:
        parts = [
            fitted.set_params(path_costs=router.path_costs).cost_curve(
                curve.knobs, table[own], y[own]
            )
            for fitted, own in folds
        ]
        shares = np.array([len(own) for _, own in folds]) / len(y)
        accuracy = shares @ [part.accuracy for part in parts]
        cost = shares @ [part.cost for part in parts]
    for name, least in wanted.items():
        enough = np.flatnonzero(accuracy >= least)
        if not enough.size:
            enough = np.array([int(accuracy.argmax())])
        knob = float(curve.knobs[enough[cost[enough].argmin()]])
        yield name, router.knob.of(knob)


def _rounds(
    runs: dict[str, Callable[[Batch], object]], batches: Sequence[Batch], repeats: int
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
