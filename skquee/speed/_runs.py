"""The alternatives that are timed: fixed engines, one path, a router."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from skquee.networks import MultiExitNetwork
from skquee.networks._images import ImageRows
from skquee.networks.engines._cuda import GraphedBlock
from skquee.networks.engines._engines import Cast
from skquee.values._fields import Level

__all__ = [
    "Classify",
    "along",
    "answers",
    "device_of",
    "float_run",
    "frozen",
    "graphed",
    "predict_at",
    "route_at",
]

Classify = Callable[[Tensor], NDArray[np.floating]]

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device_of(network: MultiExitNetwork) -> torch.device:
    """Return where a network runs."""
    return next(network.float_blocks.parameters()).device


def float_run(network: MultiExitNetwork) -> Classify:
    """Return the float network, eager."""
    return _through(network, list(network.float_blocks))


def along(network: MultiExitNetwork, levels: Sequence[Level]) -> Classify:
    """Return blocks at these levels, and the exit after the last one."""
    *before, last = levels

    def run(state: Tensor) -> NDArray[np.floating]:
        for block, level in enumerate(before):
            state = network.run_block(state, block, level)
        return network.run_exit(state, len(before), last)[1]

    return run


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
        found[f"{name}, one CUDA graph"] = partial(_logits_of, whole)
    return found


def _logits_of(whole: GraphedBlock, state: Tensor) -> NDArray[np.floating]:
    with torch.inference_mode():
        return whole.run(state)[1].softmax(dim=1).cpu().numpy()


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


def route_at(router: BaseEstimator, bank: BaseEstimator) -> Callable[[Tensor], Any]:
    """Return the walk of a router as it is set now, with what it ran."""
    mine = router.freeze()

    def run(batch: Tensor) -> object:
        return mine.route(bank.transform(batch))

    return run


def predict_at(router: BaseEstimator, bank: BaseEstimator) -> Callable[[Tensor], object]:
    """Return what a server does: a frozen router's labels."""
    mine = router.freeze()

    def run(batch: Tensor) -> object:
        return mine.predict(bank.transform(batch))

    return run


def answers(network: MultiExitNetwork, run: Classify, rows: ImageRows) -> NDArray[np.generic]:
    """Return the labels that a run gives to rows."""
    device = device_of(network)
    found = [run(batch.to(device)).argmax(axis=1) for batch in rows.batches(256)]
    return network.classes_[np.concatenate(found)]
