"""Policies made ready for many trade-offs: what does not depend on ``lambda_`` is done once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TIE", "Plan", "least", "plan_open_loop"]

# Scores this close count as equal: float32 gates differ by less between batch sizes.
TIE = 1e-6
# Trade-off and rows to the position of the candidate that each row aims at.
Plan = Callable[[float, NDArray[np.intp]], NDArray[np.intp]]


def least(scores: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """Return the least score of every sample; NaN is refused, and the sample named."""
    found: NDArray[np.floating] = scores.min(axis=axis, keepdims=True)
    if np.isnan(found).any():
        row = int(np.flatnonzero(np.isnan(found))[0])
        raise ValueError(
            f"lambda_ * cost + predicted error of sample {row} is NaN: predicted_errors, costs "
            "and lambda_ must be numbers, and a cost beyond all bounds needs lambda_ > 0."
        )
    return found


def plan_open_loop(errors: ArrayLike, costs: ArrayLike) -> Plan:
    """Return :func:`skquee.policy.open_loop` of some rows for any trade-off.

    `errors` (n_samples, n_candidates). `costs` (n_candidates,). Returns : ``plan(lambda_, rows)``
    returns the positions aimed at.
    """
    prices = np.asarray(costs, dtype=np.float64)
    order = np.argsort(prices, kind="stable")
    # Candidates first, cheapest on top, samples side by side.
    lines = np.ascontiguousarray(np.asarray(errors, dtype=np.float64)[:, order].T)
    ordered = prices[order]

    def plan(lambda_: float, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        mine = lines if len(rows) == lines.shape[1] else lines[:, rows]
        scores = mine + lambda_ * ordered[:, None]
        near = scores <= least(scores, 0) + TIE
        best = np.zeros(len(rows), dtype=np.intp)
        for place in range(len(ordered) - 1, -1, -1):  # of equals the cheapest
            np.copyto(best, place, where=near[place])
        return order[best]

    return plan
