"""Numbers on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["whole_number"]


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers of a range.

    Parameters
    ----------
    low : int
        Smallest allowed.
    high : int, default=None
        Largest allowed.

    Returns
    -------
    callable
        Text to int, for argparse's ``type=``.
    """

    def parse(text: str) -> int:
        wanted = f"a whole number from {low}" + (f" to {high}" if high else " up")
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {value}")
        return value

    return parse
