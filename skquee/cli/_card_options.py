"""The command ``skquee card``; importing this loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from skquee.cli._arguments import Commands, check_file_to_write

__all__ = ["add_card_command"]


def add_card_command(commands: Commands) -> None:
    """Add ``card``."""
    parser = commands.add_parser(
        "card",
        help="write the model card of a classifier that was saved with skquee.dump",
        description=(
            "Write a model card in Markdown, and a picture of the accuracy-cost curve beside it: "
            "the rows of fit that judged the classifier, costs, the point in use, guarantees, "
            "versions, the digest of the file and how to load it."
        ),
    )
    parser.add_argument("classifier", type=Path, help="a .skops file of skquee.dump")
    parser.add_argument(
        "--out", type=Path, default=Path("README.md"), help="where to (%(default)s)"
    )
    parser.add_argument(
        "--trusted", nargs="+", default=(), metavar="TYPE", help="further types in the file"
    )
    parser.set_defaults(check=_check, run=_run, parser=parser)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.classifier.is_file():
        parser.error(f"{options.classifier}: there is no such file")
    check_file_to_write(parser, options, "out", ".md")


def _run(options: argparse.Namespace) -> None:
    from skquee.persistence import load
    from skquee.routers import model_card

    model = load(options.classifier, trusted=options.trusted)
    model_card(model, file=options.out, model_file=options.classifier)
    print(f"Saved {options.out} and {options.out.stem}_curve.svg beside it")
