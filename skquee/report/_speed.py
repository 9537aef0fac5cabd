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
from torch import Tensor
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
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
        Fit the router and choose its operating points.
    test : (images, labels)
        Measure accuracy and speed.
    batch_sizes : sequence of int, default=(1, 16, 64, 256)
        Rows given together.
    threads : sequence of int, default=(1,)
        Threads of torch.
    max_losses : sequence of float, default=(0, 0.005, 0.01, 0.02)
        Operating points: the cheapest that loses at most so much accuracy against float, on
        validation images.
    compiled : bool, default=True
        Time ``torch.compile`` with frozen weights too, where a compiler is at hand.
    repeats : int, default=5
        Rounds; the median counts.
    images_a_round : int, default=512
        Images of a round at most; of single rows a sixteenth.
    random_state : int, default=0
        Seed of the router.

    Returns
    -------
    DataFrame
        A row for each alternative, batch size and number of threads: ``accuracy`` on all test
        images, ``images_per_second``, its quartiles ``low`` and ``high``, and ``ratio`` to the
        float network. For routed rows ``overhead`` is the time over that of its blocks run alone
        at the same group sizes.
    """
    import pandas as pd

    validation_rows, test_rows = network.rows(validation[0]), network.rows(test[0])
    y = np.asarray(test[1])
    if len(y) < max(batch_sizes):
        raise ValueError(f"test holds {len(y)} images, fewer than a batch of {max(batch_sizes)}.")
    network.measure_costs(batch_sizes, threads=threads[0])
    bank = MultiPathClassifierBank(network, costs="latency", batch_size=max(batch_sizes))
    table = bank.materialize(validation_rows)
    router = CostAwareRouter(random_state=random_state).fit(table, validation[1])
    right = _answers(network, _float(network), validation_rows) == np.asarray(validation[1])
    points = _operating_points(router, table, validation[1], float(right.mean()), max_losses)

    fixed: dict[str, Classify] = {"float32, eager": _float(network)}
    for level in network.levels_:
        fixed[f"{level}, every block"] = _uniform(network, level)
    if compiled:
        fixed.update(_frozen(network, test_rows[:1].tensor()))
    accuracy = {
        name: float((_answers(network, run, test_rows) == y).mean()) for name, run in fixed.items()
    }
    images = test_rows[: max(images_a_round, max(batch_sizes))].tensor()
    routed: dict[str, Any] = {}
    for name, knob in points.items():
        routes = router.set_params(lambda_=knob).route(bank.transform(test_rows))
        accuracy[name] = float((routes.labels == y).mean())
        routed[name] = knob
    rows = []
    before = torch.get_num_threads()
    try:
        for n_threads in threads:
            torch.set_num_threads(n_threads)
            if n_threads != threads[0]:
                network.measure_costs(batch_sizes, threads=n_threads)
            for size in tqdm(batch_sizes, desc=f"{n_threads} threads", disable=None):
                limit = images_a_round // 16 if size == 1 else images_a_round
                batches = images[: max(size, limit)].split(size)
                batches = [batch for batch in batches if len(batch) == size]
                runs: dict[str, Callable[[Tensor], Any]] = dict(fixed)
                for name, knob in routed.items():
                    runs[name] = _route_at(router, bank, knob)
                seconds, counts = _rounds(runs, batches, repeats)
                for name, spent in seconds.items():
                    speed = size * len(batches) / spent
                    row = {
                        "alternative": name,
                        "threads": n_threads,
                        "batch": size,
                        "accuracy": accuracy[name],
                        "images_per_second": float(np.median(speed)),
                        "low": float(np.quantile(speed, 0.25)),
                        "high": float(np.quantile(speed, 0.75)),
                        "overhead": np.nan,
                    }
                    if name in routed:
                        alone = sum(network.latency_.predict(c) for c in counts[name]) / 1000
                        row["overhead"] = float(np.median(spent) / alone)
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
    return found


def _operating_points(
    router: CostAwareRouter,
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


def _route_at(router: CostAwareRouter, bank: Any, knob: float) -> Callable[[Tensor], Any]:
    def run(batch: Tensor) -> Any:
        router.set_params(lambda_=knob)
        return router.route(bank.transform(batch))

    return run


def _answers(network: Any, run: Classify, rows: Any) -> NDArray[Any]:
    answers = [run(batch).argmax(axis=1) for batch in rows.batches(256)]
    return network.classes_[np.concatenate(answers)]


def _rounds(
    runs: dict[str, Callable[[Tensor], Any]], batches: Sequence[Tensor], repeats: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, list[dict[str, int]]]]:
    """Return seconds of every round, and what routed ones ran in the last."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    counts: dict[str, list[dict[str, int]]] = {}
    for run in runs.values():  # warm up
        run(batches[0])
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            answers = [run(batch) for batch in batches]
            seconds[name].append(time.perf_counter() - began)
            if hasattr(answers[0], "counts"):
                counts[name] = [routes.counts for routes in answers]
    return {name: np.array(spent) for name, spent in seconds.items()}, counts
