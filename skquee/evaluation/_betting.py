"""Bounds on a mean by betting against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._checks import check_number, check_numbers

__all__ = ["wsr_p_value", "wsr_upper_bound"]

BISECTIONS = 30


def wsr_p_value(
    losses: ArrayLike,
    max_risk: float,
    confidence: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> NDArray[np.float64]:
    r"""Return p-values for "the risk is above `max_risk`", by betting against it.

    A gambler who bets on small losses multiplies capital by :math:`1 - \nu_i (x_i - \epsilon)`
    with each row; where the risk is :math:`\epsilon` or more, the chance that the capital ever
    reaches :math:`1 / p` is at most :math:`p`.

    Parameters
    ----------
    losses : array-like of shape (n_points, n_samples) or (n_samples,)
        Losses, the rows in an order that says nothing about them: shuffle first.
    max_risk : float
        The limit, between `low` and `high`.
    confidence : float
        Level the bets aim at. The p-value is valid at any other as well.
    low, high : float, default=0.0, 1.0
        Between which every loss lies.

    Returns
    -------
    ndarray of shape (n_points,) or float
        One over the greatest capital; at most 1.

    Raises
    ------
    ValueError
        If a number is out of range.

    See Also
    --------
    wsr_upper_bound : The bound these bets give, with equation and reference.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.evaluation import wsr_p_value
    >>> float(wsr_p_value(np.zeros(100), 0.05, 0.95).round(4))
    0.0082
    """
    scaled, bets = _bets(losses, confidence, low, high)
    check_number(max_risk, "max_risk", above=low, below=high)
    return np.exp(-_log_capital(scaled, bets, (max_risk - low) / (high - low)))


def wsr_upper_bound(
    losses: ArrayLike, confidence: float, *, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    r"""Return upper bounds on the mean of losses between two numbers, by betting.

    With losses :math:`x_i` scaled to [0, 1] and :math:`\delta` one less the confidence: the
    smallest :math:`\mu` with

    .. math:: \max_t \sum_{i \le t} \log(1 - \nu_i (x_i - \mu)) \ge \log(1 / \delta), \quad
              \nu_i = \min\left(1, \sqrt{2 \log(1 / \delta) / (n \hat\sigma_{i-1}^2)}\right)

    It adapts to the variance, so it is short where losses are rare.

    Parameters
    ----------
    losses : array-like of shape (n_points, n_samples) or (n_samples,)
        Losses, the rows in an order that says nothing about them: shuffle first.
    confidence : float
        Level of the one-sided bound, in (0, 1).
    low, high : float, default=0.0, 1.0
        Between which every loss lies.

    Returns
    -------
    ndarray of shape (n_points,) or float

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Waudby-Smith and Ramdas, "Estimating Means of Bounded Random Variables by Betting",
       JRSS B 2024. The form used is theorem 5 of Bates et al., "Distribution-Free,
       Risk-Controlling Prediction Sets", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.evaluation import wsr_upper_bound
    >>> losses = np.random.default_rng(0).random((2, 1000)) < [[0.02], [0.3]]
    >>> wsr_upper_bound(losses, 0.95).round(3)
    array([0.036, 0.35 ])
    """
    scaled, bets = _bets(losses, confidence, low, high)
    goal = -np.log1p(-confidence)
    # Capital rises with mu. The upper end always holds, or is 1, which always does.
    below = scaled.mean(axis=-1)
    above = np.ones_like(below)
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        holds = _log_capital(scaled, bets, middle[..., None]) >= goal
        above, below = np.where(holds, middle, above), np.where(holds, below, middle)
    return low + (high - low) * above


def _bets(
    losses: ArrayLike, confidence: float, low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return losses scaled to [0, 1], and what to stake on each, knowing those before it."""
    values = check_numbers(losses, "losses")
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise ValueError(
            "losses must have shape (n_samples,) or (n_points, n_samples), not empty, got "
            f"{values.shape}."
        )
    check_number(confidence, "confidence", above=0, below=1)
    if not (values.min() >= low and values.max() <= high):
        raise ValueError(
            f"losses must lie between low={low:g} and high={high:g}, got values from "
            f"{values.min():g} to {values.max():g}."
        )
    scaled = (values - low) / (high - low)
    n = scaled.shape[-1]
    seen = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(scaled, axis=-1)) / (1 + seen)
    variance = (0.25 + np.cumsum((scaled - mean) ** 2, axis=-1)) / (1 + seen)
    before = np.concatenate([np.full((*scaled.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    return scaled, np.minimum(1.0, np.sqrt(-2 * np.log1p(-confidence) / (n * before)))


def _log_capital(
    scaled: NDArray[np.float64], bets: NDArray[np.float64], mean: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log of the greatest capital of a gambler who starts with 1."""
    with np.errstate(divide="ignore"):  # a lost stake of everything: log 0
        steps = np.log1p(-bets * (scaled - mean))
    return np.maximum(0.0, np.cumsum(steps, axis=-1).max(axis=-1))
