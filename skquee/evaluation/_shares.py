"""How sure a share of rows is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skquee.values._checks import check_number

__all__ = ["wilson_interval"]


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
