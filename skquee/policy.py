"""Policies: pure functions that turn predicted errors and costs into the path to aim at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["POLICIES", "open_loop"]

# Scores this close count as equal: float32 gates differ by less between batch sizes.
TIE = 1e-6


def open_loop(predicted_errors: ArrayLike, costs: ArrayLike, lambda_: float) -> NDArray[np.intp]:
    """Aim at the candidate path of least ``lambda_ * cost + predicted error``.

    The receding-horizon rule of equations 9 and 18: plan a whole path from what is known
    now, take its first step, plan again at the next gate. Ties go to the cheapest path.

    Parameters
    ----------
    predicted_errors : array-like of shape (n_samples, n_candidates)
        Predicted probability of error of each path that the gate may aim at, the prefix
        itself (exit now) among them.
    costs : array-like of shape (n_candidates,)
        Cost of each whole path.
    lambda_ : float
        Price of one unit of cost, in units of error probability.

    Returns
    -------
    ndarray of shape (n_samples,)
        Position of the path aimed at among the candidates.

    Examples
    --------
    >>> from skquee.policy import open_loop
    >>> open_loop([[0.3, 0.1], [0.3, 0.1]], costs=[0.5, 1.0], lambda_=0.3)
    array([1, 1])
    >>> open_loop([[0.3, 0.1]], costs=[0.5, 1.0], lambda_=0.5)
    array([0])
    """
    prices = np.asarray(costs, dtype=np.float64)
    order = np.argsort(prices, kind="stable")
    scores = np.asarray(predicted_errors)[:, order] + lambda_ * prices[order]
    return order[np.argmax(scores <= scores.min(axis=1, keepdims=True) + TIE, axis=1)]


POLICIES: dict[str, Callable[[ArrayLike, ArrayLike, float], NDArray[np.intp]]] = {
    "open-loop": open_loop
}
