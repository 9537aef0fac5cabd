"""How good predicted errors are, and how sure a share of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skquee.values._checks import check_integer, check_number, check_numbers

__all__ = ["brier_score", "calibration_bins", "calibration_error", "rmse", "wilson_interval"]


def calibration_bins(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    n_bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean prediction, mean outcome and share of bins of equally many samples.

    Samples of one prediction share their mean outcome, so that the order of the rows does not
    matter: targets made by clusters take only as many values as there are clusters. Samples
    of weight 0 are left out.

    Parameters
    ----------
    predicted : array-like of shape (n_samples,)
        Predicted probabilities of error.
    observed : array-like of shape (n_samples,)
        1 where the answer was wrong.
    n_bins : int, default=15
        Bins; fewer where there are fewer samples.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    predicted, observed, share : ndarray of shape (n_bins,)

    Examples
    --------
    >>> from skquee.evaluation import calibration_bins
    >>> calibration_bins([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], n_bins=2)
    (array([0.1, 0.9]), array([0. , 0.5]), array([0.5, 0.5]))
    """
    p, o, w = _checked(predicted, observed, sample_weight)
    check_integer(n_bins, "n_bins", at_least=1)
    p, o, w = p[w > 0], o[w > 0], w[w > 0]
    _, tied = np.unique(p, return_inverse=True)
    o = (np.bincount(tied, o * w) / np.bincount(tied, w))[tied]
    order = np.lexsort((w, p))
    p, o, w = p[order], o[order], w[order]
    starts = [part[0] for part in np.array_split(np.arange(len(p)), min(n_bins, len(p)))]
    mass = np.add.reduceat(w, starts)
    return (
        np.add.reduceat(p * w, starts) / mass,
        np.add.reduceat(o * w, starts) / mass,
        mass / w.sum(),
    )


def calibration_error(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    n_bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the expected calibration error over bins of equal mass (appendix 7.2).

    ``sum_B |B| / |S| * |mean observed(B) - mean predicted(B)|`` over :func:`calibration_bins`.

    Parameters
    ----------
    predicted : array-like of shape (n_samples,)
        Predicted probabilities of error.
    observed : array-like of shape (n_samples,)
        1 where the answer was wrong.
    n_bins : int, default=15
        Bins.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float

    Examples
    --------
    >>> from skquee.evaluation import calibration_error
    >>> round(calibration_error([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], n_bins=2), 3)
    0.25
    """
    p, o, share = calibration_bins(predicted, observed, n_bins=n_bins, sample_weight=sample_weight)
    return float((share * np.abs(p - o)).sum())


def rmse(
    predicted: ArrayLike, observed: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Return the root mean squared error of predicted errors against targets.

    Parameters
    ----------
    predicted, observed : array-like of shape (n_samples,)
        Predictions and targets.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float

    Examples
    --------
    >>> from skquee.evaluation import rmse
    >>> rmse([0.0, 0.5], [0.0, 1.0]) ** 2
    0.125...
    """
    return brier_score(predicted, observed, sample_weight=sample_weight) ** 0.5


def brier_score(
    predicted: ArrayLike, observed: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Return the mean squared difference of predicted errors and outcomes.

    Parameters
    ----------
    predicted : array-like of shape (n_samples,)
        Predicted probabilities of error.
    observed : array-like of shape (n_samples,)
        1 where the answer was wrong.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float

    Examples
    --------
    >>> from skquee.evaluation import brier_score
    >>> brier_score([0.0, 0.5], [0, 1])
    0.125
    """
    p, o, w = _checked(predicted, observed, sample_weight)
    return float(np.average((p - o) ** 2, weights=w))


def _checked(
    predicted: ArrayLike, observed: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    shapes = [np.shape(values) for values in (predicted, observed)]
    shapes.append(shapes[0] if sample_weight is None else np.shape(sample_weight))
    if len(shapes[0]) != 1 or len(set(shapes)) > 1 or shapes[0] == (0,):
        raise ValueError(
            "predicted, observed and sample_weight must be lists of one length, not empty, got "
            f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    hint = " Is this a method without predictions?"
    p = check_numbers(predicted, "predicted", at_least=0, at_most=1, hint=hint)
    o = check_numbers(observed, "observed", at_least=0, at_most=1)
    if sample_weight is None:
        return p, o, np.ones(p.shape)
    w = check_numbers(sample_weight, "sample_weight", at_least=0)
    if not w.any():
        raise ValueError("sample_weight is 0 everywhere: then there are no rows.")
    return p, o, w


def wilson_interval(
    share: ArrayLike, n_rows: float, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Wilson's interval of shares seen on some rows, such as accuracies.

    Parameters
    ----------
    share : array-like
        Between 0 and 1.
    n_rows : float
        Rows; of weighted ones their effective number, ``sum(w) ** 2 / sum(w ** 2)``.
    confidence : float, default=0.95
        Level.

    Returns
    -------
    low, high : ndarray
        Of the shape of `share`.

    Examples
    --------
    >>> from skquee.evaluation import wilson_interval
    >>> low, high = wilson_interval(0.9, 100)
    >>> print(f"{low:.4f} to {high:.4f}")
    0.8256 to 0.9448
    """
    level = check_number(confidence, "confidence", above=0, below=1)
    n = check_number(n_rows, "n_rows", above=0)
    p = np.asarray(share, dtype=np.float64)
    z = stats.norm.ppf((1 + level) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
