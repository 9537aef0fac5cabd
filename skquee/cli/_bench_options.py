"""Options of ``skquee bench``; importing this loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from skquee.cli._arguments import (
    DATA,
    MOST_SEED,
    Commands,
    check_data,
    check_file_to_write,
    number,
    whole_number,
)

__all__ = ["add_bench_command"]

RECORDS = ("network.json", "cascade.json")
MOST_ROWS, MOST_THREADS = 2**16, 1024


def add_bench_command(commands: Commands) -> None:
    """Add ``bench``."""
    parser = commands.add_parser(
        "bench",
        help="accuracy and images a second, routed and with every fixed alternative",
        description=(
            "Compile a saved network to int8, bfloat16 and float32 blocks, keep what pays here, "
            "route by measured milliseconds, and time it beside the float network, one path for "
            "all, each engine alone, torch.compile, ONNX Runtime and OpenVINO, all in one run. A "
            "cascade runs as it was compiled, beside its last network. Run it on a machine that "
            "does nothing else."
        ),
    )
    parser.add_argument(
        "--network",
        type=Path,
        required=True,
        help="folder of MultiExitNetwork.save or NetworkCascade.save, or one that holds network/",
    )
    parser.add_argument("--data", type=Path, required=True, help=f"to measure on: {DATA}")
    parser.add_argument(
        "--validation",
        type=Path,
        help="to fit the router on: the same (a third of --data at random, which is then left out)",
    )
    parser.add_argument("--out", type=Path, help="write the table to this .csv, a chart beside it")
    parser.add_argument(
        "--batch-sizes",
        type=whole_number(1, MOST_ROWS),
        nargs="+",
        default=[1, 16, 64, 256],
        metavar="N",
    )
    parser.add_argument(
        "--threads", type=whole_number(1, MOST_THREADS), nargs="+", default=[1], metavar="N"
    )
    parser.add_argument(
        "--levels",
        nargs="+",
        choices=["int8", "fp8", "fp16", "bf16", "fp32"],
        help="engines to try (all that run here); a cascade keeps its own",
    )
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="leave torch.compile, ONNX Runtime and OpenVINO out",
    )
    parser.add_argument(
        "--max-loss",
        type=number(),
        default=0.005,
        help="accuracy under the float network's that the verdict allows (%(default)s)",
    )
    parser.add_argument("--repeats", type=whole_number(1), default=5, help="rounds (%(default)s)")
    parser.add_argument("--seed", type=whole_number(0, MOST_SEED), default=0, help="(%(default)s)")
    parser.set_defaults(check=_check, run=_run, parser=parser)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    inner = options.network / "network"
    if any((inner / record).is_file() for record in RECORDS):
        options.network = inner
    if not 0 <= options.max_loss <= 1:
        parser.error(f"--max-loss must lie between 0 and 1, got {options.max_loss}")
    if not any((options.network / record).is_file() for record in RECORDS):
        parser.error(f"--network {options.network}: there is no saved network")
    if options.levels is not None and (options.network / "cascade.json").is_file():
        parser.error("--levels: a cascade was compiled to its own; leave the option out")
    check_data(parser, options, "data", "validation")
    check_file_to_write(parser, options, "out", ".csv", ".png")
    options.batch_sizes = sorted(set(options.batch_sizes))


def _run(options: argparse.Namespace) -> None:
    # Imported here so that help and bad options answer at once: this loads torch.
    from skquee.cli._bench import run_bench

    run_bench(options)
