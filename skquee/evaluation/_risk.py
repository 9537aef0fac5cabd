"""Tests of a risk on calibration rows, and which operating points they certify."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from skquee.values._checks import check_integer, check_number, check_numbers

__all__ = [
    "binomial_p_value",
    "conformal_risk_threshold",
    "hoeffding_bentkus_p_value",
    "learn_then_test",
    "paired_p_value",
]

NUISANCE_POINTS = 33


def binomial_p_value(mean_loss: ArrayLike, n_samples: int, max_risk: float) -> NDArray[np.float64]:
    r"""Return exact p-values for "the risk is above `max_risk`", of losses that are 0 or 1.

    .. math:: p = \Pr(\mathrm{Bin}(n, \epsilon) \le n \hat R)

    Parameters
    ----------
    mean_loss : array-like of shape (n_points,) or float
        Share of the rows with loss 1.
    n_samples : int
        Rows.
    max_risk : float
        The limit, in (0, 1).

    Returns
    -------
    ndarray of shape (n_points,) or float

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test", 2021, section 2.

    Examples
    --------
    >>> from skquee.evaluation import binomial_p_value
    >>> float(binomial_p_value(0.0, 59, 0.05).round(4))  # 0.95 ** 59
    0.0485
    """
    mean = _check_risk(mean_loss, n_samples, max_risk, 0.0, 1.0)
    return stats.binom.cdf(np.rint(mean * n_samples), n_samples, max_risk)


def hoeffding_bentkus_p_value(
    mean_loss: ArrayLike,
    n_samples: int,
    max_risk: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> NDArray[np.float64]:
    r"""Return p-values for "the risk is above `max_risk`", of losses between two numbers.

    With losses scaled to [0, 1] and
    :math:`h_1(a, b) = a \log(a / b) + (1 - a) \log((1 - a) / (1 - b))`,

    .. math:: p = \min\left( e^{-n h_1(\min(\hat R, \epsilon), \epsilon)},
              e \Pr(\mathrm{Bin}(n, \epsilon) \le \lceil n \hat R \rceil) \right)

    Parameters
    ----------
    mean_loss : array-like of shape (n_points,) or float
        Mean loss of the rows.
    n_samples : int
        Rows.
    max_risk : float
        The limit, between `low` and `high`.
    low, high : float, default=0.0, 1.0
        Between which every loss lies.

    Returns
    -------
    ndarray of shape (n_points,) or float
        At most 1.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Bates, Angelopoulos, Lei, Malik and Jordan, "Distribution-Free, Risk-Controlling
       Prediction Sets", JACM 2021, theorem 4 and proposition 5.

    Examples
    --------
    >>> from skquee.evaluation import hoeffding_bentkus_p_value
    >>> float(hoeffding_bentkus_p_value(0.02, 500, 0.05).round(4))
    0.0013
    """
    mean = _check_risk(mean_loss, n_samples, max_risk, low, high)
    scaled, limit = (mean - low) / (high - low), (max_risk - low) / (high - low)
    near = np.minimum(scaled, limit)
    hoeffding = np.exp(
        -n_samples * (special.rel_entr(near, limit) + special.rel_entr(1 - near, 1 - limit))
    )
    # 1e-9: a mean times n is a hair above its integer at times.
    count = np.ceil(n_samples * scaled - 1e-9)
    bentkus = np.e * stats.binom.cdf(count, n_samples, limit)
    return np.minimum(1.0, np.minimum(hoeffding, bentkus))


def paired_p_value(
    n_worse: ArrayLike,
    n_better: ArrayLike,
    n_samples: int,
    max_increase: float,
    *,
    nuisance_error: float = 1e-3,
) -> NDArray[np.float64]:
    r"""Return p-values for "errors rise by more than `max_increase`", of two paired answers.

    The loss of a row is 1 where only the first answer is wrong (with probability :math:`q_+`),
    -1 where only the second is (:math:`q_-`), else 0. At the edge of the hypothesis
    :math:`q_+ = q_- + \epsilon`. The score statistic :math:`Z` (the increase less
    :math:`\epsilon`, over its deviation there) has an exact law but for :math:`q_-`, which is
    confined to its exact interval :math:`C` of level :math:`1 - \beta`; the worst case over a
    grid of it is taken:

    .. math:: p = \beta + \max_{q_- \in C} \Pr(Z \le z)

    It knows how rare disagreements are, which Hoeffding-Bentkus does not, and it needs no
    order of the rows, as betting does.

    Parameters
    ----------
    n_worse, n_better : array-like of shape (n_points,) or int
        Rows with loss 1 and with loss -1.
    n_samples : int
        Rows.
    max_increase : float
        The limit, in (0, 1).
    nuisance_error : float, default=1e-3
        :math:`\beta`, the least p-value possible: well below the level tested at.

    Returns
    -------
    ndarray of shape (n_points,) or float
        At most 1, and 1 where the increase seen is not below the limit.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Nam, "Establishing Equivalence of Two Treatments and Sample Size Requirements in
       Matched-Pairs Design", Biometrics 1997 (the statistic).
    .. [2] Berger and Boos, "P Values Maximized Over a Confidence Set for the Nuisance
       Parameter", JASA 1994.

    Examples
    --------
    >>> from skquee.evaluation import hoeffding_bentkus_p_value, paired_p_value
    >>> float(paired_p_value(12, 10, 1000, 0.02).round(4))
    0.0016
    >>> float(hoeffding_bentkus_p_value(0.002, 1000, 0.02, low=-1).round(4))
    0.8029
    """
    check_integer(n_samples, "n_samples", at_least=1)
    check_number(max_increase, "max_increase", above=0, below=1)
    check_number(nuisance_error, "nuisance_error", above=0, below=1)
    counts = [
        check_numbers(n, name, what="counts of rows")
        for n, name in ((n_worse, "n_worse"), (n_better, "n_better"))
    ]
    worse, better = np.broadcast_arrays(*(count.astype(np.int64) for count in counts))
    if worse.size == 0:
        raise ValueError("n_worse and n_better are empty: give at least one operating point.")
    if (
        any((count % 1).any() for count in counts)
        or worse.min() < 0
        or better.min() < 0
        or (worse + better).max() > n_samples
    ):
        raise ValueError(
            f"n_worse and n_better must be counts of different rows among {n_samples}, got up to "
            f"{worse.max()} and {better.max()}."
        )
    # Neighbouring operating points often differ on no row.
    pairs, places = np.unique(
        np.stack([worse.ravel(), better.ravel()]), axis=1, return_inverse=True
    )
    values = [_paired(w, b, n_samples, max_increase, nuisance_error) for w, b in pairs.T.tolist()]
    return np.array(values)[places].reshape(worse.shape)


def _paired(worse: int, better: int, n: int, limit: float, beta: float) -> float:
    if worse - better >= n * limit:
        return 1.0
    low, high = (
        special.betaincinv(better, n - better + 1, beta / 2) if better else 0.0,
        special.betaincinv(better + 1, n - better, 1 - beta / 2) if better < n else 1.0,
    )
    top = (1 - limit) / 2
    chance = np.linspace(min(low, top), min(high, top), NUISANCE_POINTS)[:, None]
    # What lies beyond the last count is added as if all of it were in the tail.
    last = int(min(n, stats.binom.ppf(1 - 1e-10, n, chance[-1, 0]) + 1))
    k = np.arange(last + 1)
    seen = _score(np.asarray(worse), np.asarray(better), n, limit)
    # For every N- = k: the most N+ whose score is no larger than the one seen.
    most, above = np.full(last + 1, -1), n - k + 1
    while (above - most > 1).any():
        middle = (most + above) // 2
        holds = _score(middle, k, n, limit) <= seen + 1e-9
        most, above = np.where(holds, middle, most), np.where(holds, above, middle)
    share = np.minimum(1.0, (chance + limit) / (1 - chance))
    tail = stats.binom.cdf(most, n - k, share)
    mass = (stats.binom.pmf(k, n, chance) * tail).sum(axis=1).max()
    return float(min(1.0, beta + mass + stats.binom.sf(last, n, chance[-1, 0])))


def _score(
    worse: NDArray[np.int_], better: NDArray[np.int_], n: int, limit: float
) -> NDArray[np.float64]:
    """Return the score statistic; `q` is the likeliest share of `better` on the edge."""
    half = (worse + better) * (1 - limit) - 2 * limit * (n - worse)
    q = (half + np.sqrt(half**2 + 8 * n * better * limit * (1 - limit))) / (4 * n)
    variance = 2 * np.maximum(q, 0.0) + limit - limit**2
    return (worse - better - n * limit) / np.sqrt(n * variance)


def conformal_risk_threshold(
    risks: ArrayLike, n_samples: int, max_risk: float, *, high: float = 1.0
) -> int:
    r"""Return the last operating point that conformal risk control allows, -1 if none.

    The riskiest point :math:`\lambda` with

    .. math:: \frac{n}{n + 1} \max_{\lambda' \le \lambda} \hat R(\lambda')
              + \frac{B}{n + 1} \le \epsilon

    The expected risk of the choice is then at most :math:`\epsilon` where the loss of every
    row never falls from safe to risky. Where it does, give risks of losses made so (the
    running maximum of each row); risks as they are hold the limit for many rows only.

    Parameters
    ----------
    risks : array-like of shape (n_points,)
        Mean losses, from safe to risky.
    n_samples : int
        Rows.
    max_risk : float
        The limit.
    high : float, default=1.0
        The greatest loss possible, :math:`B`.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal Risk Control", ICLR 2024,
       theorem 1; section 2.3 for losses that are not monotone.

    Examples
    --------
    >>> from skquee.evaluation import conformal_risk_threshold
    >>> conformal_risk_threshold([0.01, 0.06, 0.04, 0.2], 99, 0.05)
    0
    >>> conformal_risk_threshold([0.01, 0.02, 0.04, 0.2], 99, 0.05)
    2
    """
    means = np.asarray(risks, dtype=np.float64)
    _check_risk(means, n_samples, max_risk, -np.inf, high)
    worst = np.maximum.accumulate(means)
    return int((n_samples * worst + high <= (n_samples + 1) * max_risk + 1e-12).sum()) - 1


def learn_then_test(p_values: ArrayLike, delta: float) -> int:
    r"""Return the last operating point that fixed sequence testing certifies, -1 if none.

    Hypotheses are tested in the order given, each at level :math:`\delta`, up to the first
    that is not rejected; that one is not certified. With probability :math:`1 - \delta` all
    certified points keep the risk, however it moves along the sequence.

    Parameters
    ----------
    p_values : array-like of shape (n_points,)
        In an order fixed without the calibration rows, the safest first.
    delta : float
        Chance of error allowed, in (0, 1).

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `delta` is out of range.

    References
    ----------
    .. [1] Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test", 2021, section 2.3.

    Examples
    --------
    >>> from skquee.evaluation import learn_then_test
    >>> learn_then_test([0.01, 0.1, 0.2, 0.01], 0.1)
    1
    """
    check_number(delta, "delta", above=0, below=1)
    found = check_numbers(
        p_values, "p_values", shape=(None,), what="one a point", at_least=0, at_most=1
    )
    passed = found <= delta
    return int(np.logical_and.accumulate(passed).sum()) - 1


def _check_risk(
    mean_loss: ArrayLike, n_samples: int, max_risk: float, low: float, high: float
) -> NDArray[np.float64]:
    check_integer(n_samples, "n_samples", at_least=1)
    check_number(max_risk, "The limit", above=low, below=high)
    mean = check_numbers(mean_loss, "Mean losses", at_least=low, at_most=high)
    if mean.size == 0:
        raise ValueError("Mean losses are empty: give at least one operating point.")
    return mean
