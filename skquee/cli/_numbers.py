"""Numbers on the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["MOST_PIXELS", "MOST_SEED", "N_HEADS", "number", "whole_number"]

MOST_PIXELS = 8192  # a side of an image, as networks take it
MOST_SEED = 2**32 - 1
N_HEADS = 4  # attention heads of the demo's network


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """Return a parser of finite numbers of a range.

    `low`, `high`: smallest and largest allowed. Returns text to float, for argparse's ``type=``.
    """

    def parse(text: str) -> float:
        bounds = "" if math.isinf(low) else f" from {low:g} to {high:g}"
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"must be a finite number{bounds}, got {text!r}")
        return value

    return parse


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers of a range.

    `low`: smallest allowed. `high`: largest allowed. Returns text to int, for argparse's
    ``type=``.
    """

    def parse(text: str) -> int:
        wanted = f"a whole number from {low}" + (" up" if high is None else f" to {high}")
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {value}")
        return value

    return parse
