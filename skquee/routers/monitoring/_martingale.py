"""Conformal test martingales: bets against exchangeability that are valid at any time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ConformalMartingale", "conformal_p_values", "log_betting", "log_cash", "spread"]

# Slopes of the bets: against p-values that lean to one side, that crowd ends or middle, and that
# crowd the very end, as those of few large scores do.
_SLOPES = np.array([-1.6, -0.8, 0.8, 1.6])
_CURVES = np.array([-0.7, 0.7])
_POWER = 0.5
_N_BETS = len(_SLOPES) + len(_CURVES) + 2
# A p-value of 0 would win all; what it is raised to costs a bet a millionth at most.
_LEAST = 1e-12
_JUMP = 0.02
# Share of the capital that bets from the first row on; the rest is staked later, see `log_cash`.
_AT_ONCE = 0.5
# Binary digits of scores.
_DIGITS = 16
# Rows between two stakes and spreadings of the capital, and rows ranked at once.
_BLOCK = 25
_RANKED = 500


def conformal_p_values(
    scores: ArrayLike,
    earlier: NDArray[np.float64],
    uniforms: ArrayLike,
    counts: NDArray[np.intp] | None = None,
) -> NDArray[np.float64]:
    """Return the p-value of every score among all that came before it.

    ``p_i = (#{j < i: s_j > s_i} + u_i * #{j <= i: s_j = s_i}) / i``, counting the earlier
    scores too. While all scores are exchangeable, the p-values are independent and uniform
    exactly [1]_.

    Parameters
    ----------
    scores : array-like of shape (n,)
        New scores, in order.
    earlier : ndarray of shape (m,)
        Scores before them, sorted.
    uniforms : array-like of shape (n,)
        Uniform draws in [0, 1) that break ties.
    counts : ndarray of shape (m,), default=None
        How often each earlier score came. Default: once.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1].

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2nd ed.,
       2022, theorem 11.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.routers.monitoring._martingale import conformal_p_values
    >>> conformal_p_values([3.0, 0.0], np.array([1.0, 2.0]), [0.0, 0.5])
    array([0.   , 0.875])
    """
    new = np.asarray(scores, dtype=np.float64)
    up_to = np.arange(len(earlier) + 1) if counts is None else np.append(0, np.cumsum(counts))
    above = up_to[-1] - up_to[np.searchsorted(earlier, new, side="right")]
    equal = up_to[-1] - above - up_to[np.searchsorted(earlier, new, side="left")]
    before = np.tri(len(new), k=-1, dtype=bool)
    above = above + (before & (new > new[:, None])).sum(axis=1)
    equal = equal + (before & (new == new[:, None])).sum(axis=1) + 1
    total = up_to[-1] + np.arange(1, len(new) + 1)
    return np.asarray((above + np.asarray(uniforms) * equal) / total, dtype=np.float64)


def log_betting(
    p_values: NDArray[np.float64], log_wealth: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bet against uniform p-values with several betting functions at once.

    Capital lies on the bets ``1 + a (p - 1/2)``, ``1 + b (6 p^2 - 6 p + 1)``, ``p^(-1/2) / 2`` and
    ``(1 - p)^(-1/2) / 2``, whose mean under uniform p is 1: the total is a martingale for uniform
    p-values.

    `p_values` (n,): in order. `log_wealth` (n_bets,): logarithm of the capital on each bet.
    Returns `log_total` (n,): logarithm of the total after every p-value. Returns `log_wealth`
    (n_bets,): after the last.

    >>> import numpy as np
    >>> from skquee.routers.monitoring._martingale import log_betting
    >>> log_total, _ = log_betting(np.full(20, 0.9), np.log(np.full(8, 1 / 8)))
    >>> bool(log_total[-1] > 3)
    True
    """
    lean, curve = p_values - 0.5, 6 * p_values * (p_values - 1) + 1
    odds = 1 + np.concatenate([_SLOPES[:, None] * lean, _CURVES[:, None] * curve])
    ends = np.maximum(np.stack([p_values, 1 - p_values]), _LEAST)
    powers = np.log(_POWER) + (_POWER - 1) * np.log(ends)
    course = log_wealth[:, None] + np.cumsum(np.concatenate([np.log(odds), powers]), axis=1)
    return np.logaddexp.reduce(course, axis=0), course[:, -1]


def spread(log_wealth: NDArray[np.float64], log_stake: float) -> NDArray[np.float64]:
    """Stake more, and spread a small part of the capital evenly over the bets.

    The simple jumper [1]_: capital follows the bets that pay lately. None is made or lost.

    Parameters
    ----------
    log_wealth : ndarray of shape (n_bets,)
        Logarithm of the capital on each bet.
    log_stake : float
        Logarithm of what is added, in equal parts.

    Returns
    -------
    ndarray of shape (n_bets,)

    References
    ----------
    .. [1] V. Vovk et al., "Retrain or not retrain: conformal test martingales for change-point
       detection", 2021, algorithm 1.
    """
    total = np.logaddexp.reduce(log_wealth)
    even = np.logaddexp(np.log(_JUMP) + total, log_stake) - np.log(len(log_wealth))
    found: NDArray[np.float64] = np.logaddexp(np.log1p(-_JUMP) + log_wealth, even)
    return found


def log_cash(n_seen: int) -> float:
    r"""Return the logarithm of the capital that is not staked yet after some rows.

    ``c(k) = 1 / (2 + 2 log(1 + k))`` after ``k`` blocks of 25 rows: half is staked before the first
    row, and ``c(k - 1) - c(k)``, about ``1 / (2 k log^2 k)``, before block ``k``. The total is a
    mixture of martingales over the row at which each begins, with weights that sum to 1, so that
    Ville's inequality holds for it as for one [1]_. A shift after ``n`` calm rows is met by capital
    whose logarithm has fallen by about ``log n + 2 log log n``; where all is staked on the first
    row, it falls with ``n`` itself.

    Parameters
    ----------
    n_seen : int
        Rows so far.

    Returns
    -------
    float

    References
    ----------
    .. [1] J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential
       change detection", NEJSDS 2023: sums over restarts bound how often there is an alarm; weights
       that sum to 1 bound that there ever is one.

    Examples
    --------
    >>> from math import exp
    >>> from skquee.routers.monitoring._martingale import log_cash
    >>> round(exp(log_cash(0)), 3), round(exp(log_cash(200_000)), 3)
    (0.5, 0.05)
    """
    return float(np.log(1 - _AT_ONCE) - np.log1p(np.log1p(n_seen // _BLOCK)))


def _rounded(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to so few binary digits that an endless stream has few different scores."""
    digits, exponents = np.frexp(scores)
    return np.ldexp(np.round(digits * 2**_DIGITS), exponents - _DIGITS)


class ConformalMartingale:
    """Tests whether a stream of scores is exchangeable with those before it.

    A mixture of martingales that begin at different rows, so that it stays able to see a shift
    after any number of calm ones; see :func:`log_cash`. Scores are rounded to 16 binary digits, and
    it is counted how often each came: p-values among all before stay exact, of rounded scores, and
    an endless stream needs 1 MiB at most for each factor of two that its scores span.

    `reference` (m,): scores seen before the stream; may be empty. `seed`: of the draws that break
    ties. `log_now`, `log_peak`: logarithm of the martingale now, and of its greatest value so far.

    >>> import numpy as np
    >>> from skquee.routers.monitoring._martingale import ConformalMartingale
    >>> rng = np.random.default_rng(0)
    >>> martingale = ConformalMartingale(rng.normal(size=500), seed=0)
    >>> martingale.update(rng.normal(size=500))
    >>> bool(martingale.log_peak < np.log(100))
    True
    >>> martingale.update(rng.normal(1.0, size=500))
    >>> bool(martingale.log_peak > np.log(100))
    True
    """

    def __init__(self, reference: NDArray[np.float64], seed: int) -> None:
        self._scores, self._counts = np.unique(_rounded(reference), return_counts=True)
        self._rng = np.random.default_rng(seed)
        self._log_wealth = np.full(_N_BETS, np.log(_AT_ONCE / _N_BETS))
        self._n_seen = 0
        self.log_now = self.log_peak = 0.0

    def update(self, scores: NDArray[np.float64]) -> None:
        """Bet on new scores.

        `scores` (n,): in the order of their arrival.
        """
        for start in range(0, len(scores), _RANKED):
            part = _rounded(scores[start : start + _RANKED])
            draws = self._rng.random(len(part))
            self._bet(conformal_p_values(part, self._scores, draws, self._counts))
            self._count(part)

    def _count(self, part: NDArray[np.float64]) -> None:
        found, counts = np.unique(part, return_counts=True)
        new = ~np.isin(found, self._scores)
        at = np.searchsorted(self._scores, found[new])
        self._scores = np.insert(self._scores, at, found[new])
        self._counts = np.insert(self._counts, at, 0)
        self._counts[np.searchsorted(self._scores, found)] += counts

    def _bet(self, p_values: NDArray[np.float64]) -> None:
        while len(p_values):
            within = self._n_seen % _BLOCK
            if within == 0 and self._n_seen:
                before, after = log_cash(self._n_seen - _BLOCK), log_cash(self._n_seen)
                stake = before + np.log(-np.expm1(after - before))
                self._log_wealth = spread(self._log_wealth, stake)
            part, p_values = p_values[: _BLOCK - within], p_values[_BLOCK - within :]
            staked, self._log_wealth = log_betting(part, self._log_wealth)
            log_total = np.logaddexp(staked, log_cash(self._n_seen))
            self._n_seen += len(part)
            self.log_now = float(log_total[-1])
            self.log_peak = max(self.log_peak, float(log_total.max()))
