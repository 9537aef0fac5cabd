"""The command ``skquee``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from skquee._version import __version__
from skquee.cli._arguments import MOST_SEED, N_HEADS, check_folder_to_write, whole_number
from skquee.cli._bank_options import add_bank_commands
from skquee.cli._bench_options import add_bench_command
from skquee.cli._card_options import add_card_command
from skquee.cli._reproduce_options import add_reproduce_command
from skquee.cli._serve_options import add_serve_command
from skquee.values._optional import OPTIONAL

__all__ = ["main"]

BAD_USE = 2  # as argparse says it
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: arguments. Default: those of the process. Returns exit status.
    """
    parser = argparse.ArgumentParser(
        prog="skquee", description="Spend computation per sample: routing over paths."
    )
    parser.add_argument("--version", action="version", version=f"skquee {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command")
    demo = commands.add_parser(
        "demo",
        help="train, quantise and route a small vision transformer on scikit-learn's digits",
        description=(
            "Train a small vision transformer on scikit-learn's digits, give it exits, quantise "
            "each block at several bit widths, fit the router and compare it with its baselines "
            "on test images. Nothing is downloaded; about a minute on two cores."
        ),
    )
    _add_demo_options(demo)
    demo.set_defaults(check=_check_demo_options, run=_run_demo, parser=demo)
    add_bank_commands(commands)
    add_bench_command(commands)
    add_card_command(commands)
    add_reproduce_command(commands)
    add_serve_command(commands)
    options = parser.parse_args(argv)
    if not hasattr(options, "run"):
        asked = getattr(options, "parser", parser)
        asked.exit(BAD_USE, asked.format_help())
    options.check(options.parser, options)
    try:
        options.run(options)
    except (ImportError, MemoryError, OSError, ValueError) as error:
        missing = getattr(error, "name", None)
        hint = f": pip install {missing}" if missing in OPTIONAL else ""
        print(f"{options.parser.prog}: error: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{options.parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run_demo(options: argparse.Namespace) -> None:
    # Imported here so that help and bad options answer at once: this loads torch.
    from skquee.cli._demo import run_demo

    run_demo(options)


def _add_demo_options(parser: argparse.ArgumentParser) -> None:
    at_least_one = whole_number(1)
    parser.add_argument(
        "--seed",
        type=whole_number(0, MOST_SEED),
        default=0,
        help="of everything random (%(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("skquee-demo"),
        help="folder for the picture and the tables (%(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the table alone, as JSON, on standard output"
    )
    size = parser.add_argument_group("sizes")
    size.add_argument(
        "--epochs", type=at_least_one, default=40, help="of training the backbone (%(default)s)"
    )
    size.add_argument(
        "--width",
        type=at_least_one,
        default=64,
        help=f"of a token, a multiple of {N_HEADS} (%(default)s)",
    )
    size.add_argument(
        "--depth", type=whole_number(2), default=6, help="layers of the backbone (%(default)s)"
    )
    size.add_argument(
        "--exits",
        type=at_least_one,
        nargs="+",
        metavar="LAYER",
        help="layers after which it can answer, up to the last (the first, middle and last)",
    )
    size.add_argument(
        "--levels",
        type=whole_number(2, 32),
        nargs="+",
        default=[3, 5, 8],
        metavar="BITS",
        help="bit widths of each block (3 5 8)",
    )


def _check_demo_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message about the first option that does not fit; make the folder."""
    levels, depth = options.levels, options.depth
    if options.exits is None:
        options.exits = sorted({1, (depth + 1) // 2, depth})
    exits = options.exits
    if options.width % N_HEADS:
        parser.error(f"--width must be a multiple of {N_HEADS}, got {options.width}")
    if len(exits) < 2 or exits != sorted(set(exits)) or exits[-1] != depth:
        given = " ".join(map(str, exits))
        parser.error(f"--exits must be 2 or more that increase and end at {depth}, got {given}")
    if len(set(levels)) != len(levels):
        parser.error(f"--levels must be distinct, got {' '.join(map(str, levels))}")
    check_folder_to_write(parser, options, "out")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: cannot make this folder ({error.strerror})")
