"""Operating points that keep a risk, found on calibration rows. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from skquee.evaluation._betting import wsr_p_value, wsr_upper_bound
from skquee.evaluation._risk import (
    binomial_p_value,
    conformal_risk_threshold,
    learn_then_test,
    paired_p_value,
)
from skquee.values._checks import check_labels_given, check_number, check_numbers, check_option

__all__ = ["Certificate", "certify", "read_groups", "risk_bound", "routing_losses", "rows_needed"]

METHODS = ("ltt", "wsr", "crc")
CONFIDENCE = 0.95
MOST_ROWS = 2**20


def routing_losses(
    aim: str,
    answers: NDArray[np.int32],
    taken: NDArray[np.intp],
    codes: NDArray[np.intp] | None,
    whole: NDArray[np.int32],
) -> NDArray[np.int8]:
    """Return the loss of every row at every operating point.

    `aim` {"max_error_increase", "max_error", "max_disagreement"}: the loss: error less the error
    of the whole model (-1, 0 or 1), error, or whether the answer is another than the whole model's
    (0 or 1). `answers` (n_samples, n_paths): class index every path answers. `taken` (n_points,
    n_samples): path of every row. `codes` (n_samples,): True class indices. "max_disagreement"
    reads none. `whole` (n_samples,): class index that the whole model answers. Returns (n_points,
    n_samples).

    >>> import numpy as np
    >>> from skquee.evaluation._certify import routing_losses
    >>> answers, taken, y = np.array([[0, 1], [1, 0]]), np.array([[0, 0], [1, 1]]), np.array([0, 0])
    >>> routing_losses("max_error_increase", answers, taken, y, answers[:, 1])
    array([[-1,  1],
           [ 0,  0]], dtype=int8)
    """
    answered = np.take_along_axis(answers.T, taken, axis=0)
    if aim == "max_disagreement":
        return (answered != whole).astype(np.int8)
    wrong = (answered != codes).astype(np.int8)
    if aim == "max_error":
        return wrong
    return wrong - (whole != codes).astype(np.int8)


@dataclass(frozen=True)
class Certificate:
    """Which operating points keep a risk.

    Attributes
    ----------
    n_certified : int
        Length of the certified part of the sequence; 0 for none.
    risks : ndarray of shape (n_groups, n_points)
        Mean losses.
    p_values : ndarray of shape (n_points,)
        Of "some group's risk is above the limit". NaN under "crc".

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.evaluation import certify
    >>> losses = np.random.default_rng(1).random((3, 500)) < [[0.01], [0.05], [0.4]]
    >>> certify(losses, max_risk=0.1).risks
    array([[0.008, 0.046, 0.378]])
    """

    n_certified: int
    risks: NDArray[np.float64]
    p_values: NDArray[np.float64]


def certify(
    losses: ArrayLike,
    max_risk: float,
    *,
    method: str = "ltt",
    confidence: float | None = None,
    groups: NDArray[np.intp] | None = None,
    signed: bool = False,
) -> Certificate:
    """Certify operating points, from the safest on, up to the first that fails.

    A group's risk is above the limit at a point if its own hypothesis is true, so the largest
    p-value of the groups tests "some group's risk is above it": no correction for their number
    is needed.

    Parameters
    ----------
    losses : ndarray of shape (n_points, n_samples)
        From safe to risky, an order fixed without these rows. "wsr" wants the rows shuffled.
    max_risk : float
        The limit.
    method : {"ltt", "wsr", "crc"}, default="ltt"
        See :class:`RiskControlledRouter`.
    confidence : float, default=None
        One less the chance of a wrong certificate. Default: 0.95. "crc" controls the mean over
        draws of the rows, not the chance that a draw breaks the limit, and takes none.
    groups : ndarray of int of shape (n_samples,), default=None
        Group of every row, from 0 without gaps. Default: one group.
    signed : bool, default=False
        Whether losses are -1, 0 or 1 instead of 0 or 1.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If the method is unknown, or has no test for such losses.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.evaluation import certify
    >>> losses = np.random.default_rng(0).random((3, 500)) < [[0.01], [0.03], [0.2]]
    >>> certify(losses, 0.1).n_certified
    2
    """
    level = check_confidence(confidence, method)
    least = -1 if signed else 0
    check_number(max_risk, "max_risk", above=least, below=1)
    checked = _check_losses(losses, least)
    if method == "ltt" and not np.isin(checked, [-1, 0, 1] if signed else [0, 1]).all():
        raise ValueError(
            f"With signed={signed}, 'ltt' tests losses that are {'-1, ' if signed else ''}0 or 1. "
            "Use 'wsr' for those in between."
        )
    codes = _group_codes(groups, checked.shape[1])
    parts = [checked[:, codes == group] for group in range(codes.max() + 1)]
    risks = np.array([part.mean(axis=1) for part in parts])
    if method == "crc":
        # Risen of every row, not of the mean: only then is the guarantee one for few rows as well.
        risen = (np.maximum.accumulate(part, axis=0) for part in parts)
        last = min(
            conformal_risk_threshold(part.mean(axis=1), part.shape[1], max_risk) for part in risen
        )
        return Certificate(last + 1, risks, np.full(len(checked), np.nan))
    p_values = np.max([_p_values(p, max_risk, method, level, signed) for p in parts], axis=0)
    return Certificate(learn_then_test(p_values, 1 - level) + 1, risks, p_values)


def check_confidence(confidence: float | None, method: str) -> float:
    """Return the level of a method.

    `confidence`: as given. `method` {"ltt", "wsr", "crc"}: the method. Returns 0.95 where none is
    given; of no meaning under "crc". Raises ValueError if the method is unknown, or it keeps no
    confidence and one is given.
    """
    check_option(method, "method", METHODS)
    if confidence is None:
        return CONFIDENCE
    if method == "crc":
        raise ValueError(
            f"method='crc' keeps the mean risk over draws of the calibration rows, not the limit "
            f"in a share of them, so that confidence={confidence!r} has no meaning: leave it out, "
            "or use method='ltt' or 'wsr'."
        )
    return check_number(confidence, "confidence", above=0, below=1)


def _check_losses(losses: ArrayLike, least: int) -> NDArray[np.floating]:
    given = np.asarray(losses)
    small = given.ndim == 2 and given.size and given.dtype.kind in "biu"
    if small and given.min() >= least and given.max() <= 1:
        return given  # as small as it is
    what = "a line a point and a column a row"
    hint = "" if least else " Use signed=True for losses of -1."
    return check_numbers(
        losses, "losses", shape=(None, None), what=what, at_least=least, at_most=1, hint=hint
    )


def _group_codes(groups: ArrayLike | None, n_samples: int) -> NDArray[np.intp]:
    """Return the group of every row, from 0 without gaps."""
    if groups is None:
        return np.zeros(n_samples, dtype=np.intp)
    given = np.asarray(groups)
    whole = given.shape == (n_samples,) and given.dtype.kind in "iu" and given.min() == 0
    if not (whole and np.bincount(given).all()):
        raise ValueError(
            f"groups must hold the number of a group for each of the {n_samples} rows, from 0 "
            f"without gaps, got {given.dtype} values of shape {given.shape}: see np.unique("
            "..., return_inverse=True)."
        )
    return given.astype(np.intp)


def _p_values(
    losses: NDArray[np.floating], max_risk: float, method: str, confidence: float, signed: bool
) -> NDArray[np.float64]:
    if method == "wsr":
        return wsr_p_value(losses, max_risk, confidence, low=-1.0 if signed else 0.0)
    n = losses.shape[1]
    if signed:
        worse, better = (losses > 0).sum(axis=1), (losses < 0).sum(axis=1)
        beta = (1 - confidence) / 50
        return paired_p_value(worse, better, n, max_risk, nuisance_error=beta)
    return binomial_p_value(losses.mean(axis=1), n, max_risk)


def risk_bound(
    losses: ArrayLike,
    *,
    method: str = "ltt",
    confidence: float | None = None,
    signed: bool = False,
) -> float:
    """Return the least limit that one operating point is certified for.

    `losses` (n_samples,): its losses. `method`, `confidence`, `signed`: as of :func:`certify`.
    """
    level = check_confidence(confidence, method)
    low = -1 if signed else 0
    checked = check_numbers(losses, "losses", shape=(None,), at_least=low, at_most=1)
    n = len(checked)
    if method == "crc":
        return float((checked.sum() + 1) / (n + 1))
    if method == "wsr":
        return float(wsr_upper_bound(checked, level, low=low))
    below, high = 0.0, 1.0
    while high - below > 1e-6:
        middle = (below + high) / 2
        kept = _p_values(checked[None], middle, method, level, signed)[0] <= 1 - level
        below, high = (below, middle) if kept else (middle, high)
    return high


def rows_needed(
    max_risk: float,
    *,
    method: str = "ltt",
    confidence: float | None = None,
    signed: bool = False,
) -> int:
    """Return the fewest rows that certify a point without one loss.

    `max_risk`: the limit. `method`, `confidence`, `signed`: as of :func:`certify`. Returns at most
    2 ** 20, where the search ends.

    >>> from skquee.evaluation._certify import rows_needed
    >>> rows_needed(0.05, method="ltt", confidence=0.95)
    59
    """

    def enough(n: int) -> bool:
        nothing = np.zeros((1, n))
        found = certify(nothing, max_risk, method=method, confidence=confidence, signed=signed)
        return found.n_certified == 1

    high = 1
    while high < MOST_ROWS and not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def read_groups(
    groups: ArrayLike | str | None,
    codes: NDArray[np.intp] | None,
    classes: NDArray[np.generic],
    n_samples: int,
) -> tuple[NDArray[np.generic] | None, NDArray[np.intp]]:
    """Return the names of groups and the group of every row.

    `groups` (n_samples,): names, or "class" for the true class. `codes` (n_samples,): True class
    indices; needed for "class". `classes` (n_classes,): their labels. `n_samples`: rows. Returns
    `names` (n_groups,): None where no groups are given. Returns `members` (n_samples,): from 0
    without gaps. Raises ValueError if groups are of another length or another text, or a class has
    no rows.
    """
    if groups is None:
        return None, np.zeros(n_samples, dtype=np.intp)
    if isinstance(groups, str):
        if groups != "class":
            raise ValueError(
                f"groups must be 'class' or hold one group a row ({n_samples}), got {groups!r}."
            )
        assert codes is not None
        missing = np.setdiff1d(np.arange(len(classes)), codes)
        if missing.size:
            raise ValueError(
                f"groups='class' needs calibration rows of every class, but {missing.size} of "
                f"{len(classes)} have none, {classes[missing[0]]!s} for one. Give more rows."
            )
        return classes, codes
    given = check_labels_given(column_or_1d(groups), "groups", "group")
    if len(given) != n_samples:
        raise ValueError(f"groups must hold one group a row ({n_samples}), got {len(given)}.")
    return np.unique(given, return_inverse=True)
