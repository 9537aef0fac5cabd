"""What the commands' options may be: numbers, and where to read and write."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, Protocol

__all__ = [
    "Commands",
    "check_data",
    "check_file_to_write",
    "check_folder_to_write",
    "number",
    "whole_number",
]

MOST_PIXELS = 8192  # a side of an image, as networks take it
MOST_SEED = 2**32 - 1
N_HEADS = 4  # attention heads of the demo's network
DATA = "a folder with a folder of images for each class, or an .npz with X and y"


class Commands(Protocol):
    """What ``add_subparsers`` returns."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command."""


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """Return a parser of finite numbers of a range."""

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
    """Return a parser of whole numbers of a range."""

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


def check_data(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str) -> None:
    """End where an option names no images; None passes."""
    for name in names:
        source = getattr(options, name)
        try:
            good = source is None or source.is_dir() or source.is_file() and source.suffix == ".npz"
        except OSError:  # no file can have such a name
            good = False
        if not good:
            missing = "" if source.suffix == ".npz" else f"give {DATA}"
            parser.error(f"--{name} {source}: {missing or 'there is no such file'}")


def check_file_to_write(
    parser: argparse.ArgumentParser, options: argparse.Namespace, name: str, *suffixes: str
) -> None:
    """End where a file cannot be written; an option that is None passes.

    `*suffixes`: what its name ends in, and the endings of what is written beside it.
    """
    from skquee.values._checks import check_output  # numpy: not for help

    file = getattr(options, name)
    if file is None:
        return
    if file.suffix != suffixes[0]:
        parser.error(f"--{name} must end in {suffixes[0]}, got {file}")
    try:
        for suffix in suffixes:
            check_output(file.with_suffix(suffix), f"--{name}")
    except (OSError, ValueError) as error:
        parser.error(str(error))


def check_folder_to_write(
    parser: argparse.ArgumentParser, options: argparse.Namespace, name: str
) -> None:
    """End where a folder cannot be made or written in."""
    from skquee.values._checks import check_folder

    try:
        check_folder(getattr(options, name), f"--{name}")
    except (OSError, ValueError) as error:
        parser.error(str(error))
