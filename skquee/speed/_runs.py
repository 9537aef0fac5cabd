"""The alternatives that are timed: fixed engines, one path, a router."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from skquee.networks import MultiExitNetwork, NetworkCascade
from skquee.networks._images import ImageRows
from skquee.networks.engines._cuda import GraphedBlock
from skquee.networks.engines._engines import Cast
from skquee.values._fields import Level

__all__ = [
    "REFERENCE",
    "Batch",
    "Classify",
    "Measured",
    "alone",
    "along",
    "answers",
    "batches_of",
    "device_of",
    "float_run",
    "frozen",
    "graphed",
    "largest",
    "predict_at",
    "route_at",
    "whole",
]

Measured = MultiExitNetwork | NetworkCascade
# What is run: the input of the network, or images to resize where networks take several sizes.
Batch = Tensor | ImageRows
Classify = Callable[[Any], NDArray[np.floating]]  # of a batch

REFERENCE = "float32, eager"
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def largest(measured: Measured) -> MultiExitNetwork:
    """Return the network that whole engines run: of a cascade the last one."""
    return list(measured.members.values())[-1] if isinstance(measured, NetworkCascade) else measured


def device_of(measured: Measured) -> torch.device:
    """Return where a network runs."""
    return next(largest(measured).float_blocks.parameters()).device


def batches_of(measured: Measured, rows: ImageRows, size: int) -> Sequence[Batch]:
    """Return rows in parts of a size, normalised on the device where all networks take the same."""
    if _resizes(measured):
        return [rows[n : n + size] for n in range(0, len(rows), size)]
    return rows.tensor().to(device_of(measured)).split(size)


def _resizes(measured: Measured) -> bool:
    several = isinstance(measured, NetworkCascade)
    return several and len({m.parts_.format for m in measured.members.values()}) > 1


def whole(measured: Measured, runs: Mapping[str, Classify]) -> dict[str, Classify]:
    """Return runs of the largest network's input as such of batches."""
    if not _resizes(measured):
        return dict(runs)
    start = largest(measured).start
    return {name: partial(_started, run, start) for name, run in runs.items()}


def _started(
    run: Classify, start: Callable[[ImageRows], Tensor], images: ImageRows
) -> NDArray[np.floating]:
    return run(start(images))


def alone(measured: Measured) -> dict[str, Classify]:
    """Return what runs every image on one level: of all blocks, or one network of a cascade."""
    if isinstance(measured, NetworkCascade):
        return {f"{level}, alone": along(measured, [level]) for level in measured.levels_}
    n_blocks = len(measured.flops_)
    return {f"{e}, every block": along(measured, [e] * n_blocks) for e in measured.levels_}


def float_run(network: MultiExitNetwork) -> Classify:
    """Return the float network, eager."""
    return _through(network, list(network.float_blocks))


def along(network: Measured, levels: Sequence[Level]) -> Classify:
    """Return blocks at these levels, and the exit after the last one."""
    *before, last = levels
    if isinstance(network, NetworkCascade):
        return partial(_asked, network, [str(level) for level in levels])

    def run(state: Tensor) -> NDArray[np.floating]:
        for block, level in enumerate(before):
            state = network.run_block(state, block, level)
        return network.run_exit(state, len(before), last)[1]

    return run


def _asked(cascade: NetworkCascade, levels: Sequence[str], images: Batch) -> NDArray[np.floating]:
    state = cascade.start(images)
    for step, level in enumerate(levels):
        state = cascade.run_block(state, step, level)
    return cascade.head(state, len(levels) - 1, levels[-1])


def _through(network: MultiExitNetwork, blocks: Sequence[Callable[[Tensor], Tensor]]) -> Classify:
    def run(state: Tensor) -> NDArray[np.floating]:
        with torch.no_grad():
            for block in blocks:
                state = block(state)
        return network.head(state, len(network.flops_) - 1, None)

    return run


def graphed(network: MultiExitNetwork) -> dict[str, Classify]:
    """Return the whole network as one CUDA graph, in each type, on a GPU; else nothing."""
    if device_of(network).type != "cuda":
        return {}
    found: dict[str, Classify] = {}
    pool, head = network.exit_pools[-1], network.exit_heads[-1]
    for name, dtype in TYPES.items():
        model = Cast(torch.nn.Sequential(*copy.deepcopy(network.float_blocks)).to(dtype), dtype)
        whole = GraphedBlock(model, pool, head)
        found[f"{name}, one CUDA graph"] = partial(_answer_of, whole)
    return found


def _answer_of(whole: GraphedBlock, state: Tensor) -> NDArray[np.floating]:
    with torch.inference_mode():
        return whole.run(state)[1].cpu().numpy()


def frozen(network: MultiExitNetwork, image: Tensor) -> dict[str, Classify]:
    """Return ``torch.compile`` of each type with frozen weights, where it works here.

    On a GPU its kernels are recorded as CUDA graphs, too.
    """
    found: dict[str, Classify] = {}
    options: dict[str, str | int | bool | Callable[..., object]] = {"freezing": True}
    if image.is_cuda:
        options["triton.cudagraphs"] = True
    for name, dtype in TYPES.items():
        model = torch.nn.Sequential(*copy.deepcopy(network.float_blocks)).to(dtype)
        fast = torch.compile(model, options=options)
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


def route_at(router: BaseEstimator, bank: BaseEstimator) -> Callable[[Batch], Any]:
    """Return the walk of a router as it is set now, with what it ran."""
    mine = router.freeze()

    def run(batch: Batch) -> object:
        return mine.route(bank.transform(batch))

    return run


def predict_at(router: BaseEstimator, bank: BaseEstimator) -> Callable[[Batch], object]:
    """Return what a server does: a frozen router's labels."""
    mine = router.freeze()

    def run(batch: Batch) -> object:
        return mine.predict(bank.transform(batch))

    return run


def answers(measured: Measured, run: Classify, rows: ImageRows) -> NDArray[np.generic]:
    """Return the labels that a run gives to rows."""
    found = [run(batch).argmax(axis=1) for batch in batches_of(measured, rows, 256)]
    return measured.classes_[np.concatenate(found)]
