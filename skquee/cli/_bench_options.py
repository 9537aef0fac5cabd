"""Options of ``skquee bench``; importing this loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from skquee.cli._numbers import whole_number

__all__ = ["add_bench_command"]

DATA = "a folder with a folder of images for each class, or an .npz with X and y"


def add_bench_command(commands: Any) -> None:
    """Add ``bench``.

    Parameters
    ----------
    commands : object
        What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "bench",
        help="accuracy and images a second, routed and with every fixed alternative",
        description=(
            "Compile a saved network to int8, bfloat16 and float32 blocks, keep what pays here, "
            "route by measured milliseconds, and time it beside the float network, one path for "
            "all, each engine alone, torch.compile, ONNX Runtime and OpenVINO, all in one run. Run "
            "it on a machine that does nothing else."
        ),
    )
    parser.add_argument(
        "--network",
        type=Path,
        required=True,
        help="folder of MultiExitNetwork.save (bank build and reproduce write one: network/)",
    )
    parser.add_argument("--data", type=Path, required=True, help=f"to measure on: {DATA}")
    parser.add_argument(
        "--validation",
        type=Path,
        help="to fit the router on: the same (a third of --data at random, which is then left out)",
    )
    parser.add_argument("--out", type=Path, help="write the table to this .csv, a chart beside it")
    at_least_one = whole_number(1)
    parser.add_argument(
        "--batch-sizes", type=at_least_one, nargs="+", default=[1, 16, 64, 256], metavar="N"
    )
    parser.add_argument("--threads", type=at_least_one, nargs="+", default=[1], metavar="N")
    parser.add_argument(
        "--levels",
        nargs="+",
        choices=["int8", "fp8", "fp16", "bf16", "fp32"],
        help="engines to try (all that run here)",
    )
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="leave torch.compile, ONNX Runtime and OpenVINO out",
    )
    parser.add_argument("--repeats", type=at_least_one, default=5, help="rounds (%(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="(%(default)s)")
    parser.set_defaults(check=_check, run=_run, parser=parser)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not (options.network / "network.json").is_file():
        parser.error(f"--network {options.network}: there is no saved network")
    for name in ("data", "validation"):
        given = getattr(options, name)
        if given is not None and not given.exists():
            parser.error(f"--{name} {given}: there is no such file or folder")
    if options.out is not None and not options.out.absolute().parent.is_dir():
        parser.error(f"--out {options.out}: its folder does not exist")
    options.batch_sizes = sorted(set(options.batch_sizes))


def _run(options: argparse.Namespace) -> None:
    # Imported here so that help and bad options answer at once: this loads torch.
    from skquee.cli._bench import run_bench

    run_bench(options)
