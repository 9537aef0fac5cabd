"""Running a module on a batch, in smaller parts where memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["choose_device", "run_in_parts"]


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return a device as torch names it; by default CUDA where there is one, else the CPU.

    Raises ValueError if there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"device={device!r} cannot be used here, give 'cpu', 'cuda' or None: {why}"
        ) from None
    return chosen


def run_in_parts(run: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    """Run something on rows; where the device's memory does not do, on half of them at a time.

    Raises MemoryError if one row alone does not fit.
    """
    try:
        return run(state)
    except torch.OutOfMemoryError as error:
        message = str(error).split(". ")[0]
    # Outside of the handler: the exception holds on to the tensors of the failed attempt.
    if len(state) < 2:
        raise MemoryError(
            f"One image does not fit in the memory of {state.device}: {message}. Free memory, "
            "or choose another device=."
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    halves = state.tensor_split(2)
    return torch.cat([run_in_parts(run, half) for half in halves])
