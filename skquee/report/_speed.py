"""Accuracy and images a second of a routed network and of every fixed alternative, in one run."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from torch import Tensor
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
from skquee.report._speed_engines import external_engines
from skquee.router import CostAwareRouter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measure_speed"]

Classify = Callable[[Tensor], NDArray[np.floating]]


def measure_speed(
    network: Any,
    validation: tuple[Any, ArrayLike],
    test: tuple[Any, ArrayLike],
    *,
    batch_sizes: Sequence[int] = (1, 16, 64, 256),
    threads: Sequence[int] = (1,),
    max_losses: Sequence[float] = (0.0, 0.005, 0.01, 0.02),
    compiled: bool = True,
    repeats: int = 5,
    images_a_round: int = 512,
    router: Any = None,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Measure a compiled network, routed and fixed.

    Everything is timed turn by turn, so that all meet the same machine; images are resized
    and normalised beforehand for all alike. Run it where nothing else runs.

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
        Operating points: the cheapest that loses at most so much accuracy against float, on
        validation images.
    compiled : bool, default=True
        Time ``torch.compile`` with frozen weights, ONNX Runtime and OpenVINO on the whole network
        too, where they are at hand.
    repeats : int, default=5
        Rounds; the median counts.
    images_a_round : int, default=512
        Images of a round at most; of single rows a sixteenth.
    router : router, default=None
        What routes, not fitted. Default: ``CostAwareRouter()``.
    random_state : int, default=0
        Seed of the router.

    Returns
    -------
    DataFrame
        A row for each alternative, batch size and number of threads: ``accuracy`` on all test
        images, ``images_per_second``, its quartiles ``low`` and ``high``, and ``ratio`` to the
        float network. For routed rows: ``overhead``, the time over that of its blocks run alone
        on the same groups; ``deciding``, the share of the time outside of blocks and exits; and
        ``predicted``, the time that ``latency_`` predicts over the clock's. ``attrs["missing"]``
        says why an engine is not among the alternatives.
    """
    import pandas as pd

    validation_rows, test_rows = network.rows(validation[0]), network.rows(test[0])
    y = np.asarray(test[1])
    if len(y) < max(batch_sizes):
        raise ValueError(f"test holds {len(y)} images, fewer than a batch of {max(batch_sizes)}.")
    bank = MultiPathClassifierBank(network, batch_size=max(batch_sizes))
    table, held = bank.materialize(validation_rows), bank.materialize(test_rows)
    fitted = CostAwareRouter() if router is None else clone(router)
    if "random_state" in fitted.get_params(deep=False):
        fitted.set_params(random_state=random_state)
    fitted.fit(table, validation[1])
    right = _answers(network, _float(network), validation_rows) == np.asarray(validation[1])
    images = test_rows[: max(images_a_round, max(batch_sizes))].tensor()
    accuracy: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    before = torch.get_num_threads()
    try:
        for n_threads in threads:
            torch.set_num_threads(n_threads)
            network.measure_costs(batch_sizes, threads=n_threads)
            fixed: dict[str, Classify] = {"float32, eager": _float(network)}
            for level in network.levels_:
                fixed[f"{level}, every block"] = _uniform(network, level)
            if compiled:
                fixed.update(_frozen(network, test_rows[:1].tensor()))
                others, missing = external_engines(network, validation[0], threads=n_threads)
                fixed.update(others)
            for name, run in fixed.items():
                if name not in accuracy:
                    accuracy[name] = float((_answers(network, run, test_rows) == y).mean())
            for size in tqdm(batch_sizes, desc=f"{n_threads} threads", disable=None):
                limit = images_a_round // 16 if size == 1 else images_a_round
                batches = images[: max(size, limit)].split(size)
                batches = [batch for batch in batches if len(batch) == size]
                costs = network.path_costs("latency", batch_size=size)
                fitted.set_params(costs=costs / costs.max())
                points = _operating_points(
                    fitted, table, validation[1], float(right.mean()), max_losses
                )
                routed = {name: _route_at(fitted, bank, knob) for name, knob in points.items()}
                for name, knob in points.items():
                    labels = fitted.set_params(**{fitted._knob: knob}).route(held).labels
                    accuracy[name] = float((labels == y).mean())
                runs: dict[str, Callable[[Tensor], Any]] = {**fixed, **routed}
                for name, spent in _rounds(runs, batches, repeats).items():
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
                    if name in routed:
                        row |= _parts(network, routed[name], batches, float(np.median(spent)))
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
    run: Callable[[Tensor], Any],
    batches: Sequence[Tensor],
    seconds: float,
) -> dict[str, float]:
    """Return what part of the time of routed batches are blocks, alone and as predicted."""
    calls: list[tuple[Tensor, int, Any]] = []
    inside, predicted = 0.0, 0.0
    method = network.run_exit

    def noted(state: Tensor, block: int, level: Any) -> Any:
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
            predicted += network.latency_.predict(run(batch).counts) / 1000
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
        "predicted": predicted / seconds,
    }


def _operating_points(
    router: Any,
    table: Any,
    y: ArrayLike,
    float_accuracy: float,
    max_losses: Sequence[float],
) -> dict[str, float]:
    """Return the cheapest trade-off for every loss allowed, by validation rows."""
    curve = router.cost_curve(None, table, y)
    points = {}
    for loss in max_losses:
        enough = np.flatnonzero(curve.accuracy >= float_accuracy - loss - 1e-9)
        if not enough.size:
            enough = np.array([int(curve.accuracy.argmax())])
        best = enough[curve.cost[enough].argmin()]
        points[f"routed, {100 * loss:g} points allowed"] = float(curve.knobs[best])
    return points


def _float(network: Any) -> Classify:
    return _through(network, list(network.float_blocks))


def _uniform(network: Any, level: Any) -> Classify:
    def run(state: Tensor) -> NDArray[np.floating]:
        for block in range(len(network.flops_)):
            state = network.run_block(state, block, level)
        return network.head(state, len(network.flops_) - 1, level)

    return run


def _through(network: Any, blocks: Sequence[Callable[[Tensor], Tensor]]) -> Classify:
    def run(state: Tensor) -> NDArray[np.floating]:
        with torch.no_grad():
            for block in blocks:
                state = block(state)
        return network.head(state, len(network.flops_) - 1, None)

    return run


def _frozen(network: Any, image: Tensor) -> dict[str, Classify]:
    """Return ``torch.compile`` of each type with frozen weights, where it works here."""
    found: dict[str, Classify] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = torch.nn.Sequential(*copy.deepcopy(network.float_blocks)).to(dtype)
        fast = torch.compile(model, options={"freezing": True})
        run = _through(network, [partial(_cast, fast, dtype)])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(image)
        except Exception as error:
            warnings.warn(
                f"torch.compile does not work here and is left out: {str(error)[:120]}",
                UserWarning,
                stacklevel=3,
            )
            break
        found[f"{name}, torch.compile frozen"] = run
    return found


def _cast(run: Callable[[Tensor], Tensor], dtype: torch.dtype, state: Tensor) -> Tensor:
    return run(state.to(dtype))


def _route_at(router: Any, bank: Any, knob: float) -> Callable[[Tensor], Any]:
    mine = copy.copy(router).set_params(**{router._knob: knob})

    def run(batch: Tensor) -> Any:
        return mine.route(bank.transform(batch))

    return run


def _answers(network: Any, run: Classify, rows: Any) -> NDArray[Any]:
    answers = [run(batch).argmax(axis=1) for batch in rows.batches(256)]
    return network.classes_[np.concatenate(answers)]


def _rounds(
    runs: dict[str, Callable[[Tensor], Any]], batches: Sequence[Tensor], repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Return seconds of every round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # the first one warms up
        for batch in batches:
            run(batch)
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            for batch in batches:
                run(batch)
            seconds[name].append(time.perf_counter() - began)
    return {name: np.array(spent) for name, spent in seconds.items()}
