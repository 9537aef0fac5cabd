"""The command ``skquee serve``; importing this loads nothing heavy."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from skquee.cli._arguments import Commands, whole_number

__all__ = ["add_serve_command"]

TOKEN = "SKQUEE_TOKEN"


def add_serve_command(commands: Commands) -> None:
    """Add ``serve``."""
    parser = commands.add_parser(
        "serve",
        help="answer over HTTP by a classifier that was saved with skquee.dump",
        description=(
            "Answer POST /predict by a saved classifier; concurrent requests share batches. "
            "GET /health, GET /metrics (Prometheus), GET and PUT /lambda. Without a token only "
            f"this machine is answered; a token is read from {TOKEN} or --token-file."
        ),
    )
    parser.add_argument("classifier", type=Path, help="a .skops file of skquee.dump")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=whole_number(0, 65535), default=8000, help="0: any free (%(default)s)"
    )
    parser.add_argument("--token-file", type=Path, help="file whose first line is the token")
    parser.add_argument(
        "--trusted", nargs="+", default=(), metavar="TYPE", help="further types in the file"
    )
    parser.add_argument(
        "--max-rows", type=whole_number(1), default=1000, help="of a request (%(default)s)"
    )
    parser.add_argument(
        "--max-bytes", type=whole_number(1), default=10 * 2**20, help="of a request (%(default)s)"
    )
    parser.add_argument(
        "--reference-rows",
        type=whole_number(0),
        default=1000,
        help="first rows served, which later ones are compared with; 0: no drift (%(default)s)",
    )
    parser.set_defaults(check=_check, run=_run, parser=parser)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.classifier.is_file():
        parser.error(f"{options.classifier}: there is no such file")
    options.token = os.environ.get(TOKEN) or None
    if options.token_file is not None:
        try:
            lines = options.token_file.read_text(encoding="utf8").splitlines()
        except (OSError, ValueError) as error:
            parser.error(f"--token-file {options.token_file}: cannot be read ({error})")
        options.token = lines[0].strip() if lines else ""
        if not options.token:
            parser.error(f"--token-file {options.token_file}: its first line is empty")


def _run(options: argparse.Namespace) -> None:
    from skquee.persistence import load
    from skquee.serving import serve

    serve(
        load(options.classifier, trusted=options.trusted),
        host=options.host,
        port=options.port,
        token=options.token,
        max_rows=options.max_rows,
        max_bytes=options.max_bytes,
        reference_rows=options.reference_rows,
    )
