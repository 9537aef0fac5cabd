"""Half precision as single precision: tables are stored in one and read in the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["widened"]

# Half-precision numbers from here on, as bits, are infinite, no number, or negative.
_NOT_PLAIN = 0x7C00
# Exponents of the two types count from numbers so far apart.
_LIFT = np.float32(2.0**112)


def widened(values: NDArray[Any]) -> NDArray[np.floating]:
    """Return values in single precision or more: float32 and float64 as they are.

    numpy widens half precision number by number. Plain numbers (finite, not negative, as
    probabilities are) are widened here by moving their bits: the same numbers, ten times as fast.
    """
    if values.dtype in (np.float32, np.float64):
        return values
    if values.dtype != np.float16 or not values.size:
        return values.astype(np.float32)
    bits = values.view(np.uint16)
    # A process may have told its processor to take the smallest numbers for zero.
    if bits.max() >= _NOT_PLAIN or np.float32(2.0**-149) * _LIFT == 0:
        return values.astype(np.float32)
    found = np.empty(values.shape, dtype=np.float32)
    moved = found.view(np.uint32)
    moved[...] = bits
    np.left_shift(moved, 13, out=moved)
    found *= _LIFT
    return found
