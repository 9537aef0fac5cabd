"""Options of ``skquee reproduce``; importing this loads nothing heavy."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from skquee.cli._arguments import (
    MOST_PIXELS,
    MOST_SEED,
    Commands,
    check_folder_to_write,
    whole_number,
)

__all__ = ["add_reproduce_command"]

# Clusters of the paper's table 3.
DATA_SETS = {"cifar10": 20, "cifar100": 70, "digits": 10}
EXITS = {"t2t_vit_7": [2, 4, 7], "t2t_vit_14": [5, 7, 11, 14]}


def add_reproduce_command(commands: Commands) -> None:
    """Add ``reproduce``."""
    parser = commands.add_parser(
        "reproduce",
        help="run the paper's whole experiment on a network and write its report",
        description=(
            "Run the paper's experiment: train exit heads, quantise by PTQ4ViT, keep the bit "
            "widths of the paper's rule, run every path, fit QuEE, JEI-DNN, DQNet, thresholds and "
            "the variants of the figures, and write pictures, tables, the paper's claims and one "
            "report page. Everything is kept: an interrupted run goes on, a finished one is only "
            "read. --quick runs it on scikit-learn's digits in minutes."
        ),
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        choices=list(DATA_SETS),
        help="which images (digits with --quick; they come with scikit-learn)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder; results go to OUT/DATASET")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few settings of everything, and of CIFAR few images",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help=(
            "folder of the images: torchvision's own, or *train*.npz and *test*.npz with X and y "
            "or with encoded images (data, offsets, labels)"
        ),
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network", default="t2t_vit_7", help="name of a timm model (%(default)s)"
    )
    network.add_argument(
        "--weights",
        type=Path,
        help=(
            "of the network, .safetensors or .pth (DATA/../NETWORK_DATASET/*.safetensors, or "
            "DATASET_NETWORK.safetensors in skquee's cache folder)"
        ),
    )
    network.add_argument(
        "--exits",
        type=whole_number(1),
        nargs="+",
        metavar="LAYER",
        help="layers after which it can answer (those of the paper's table 2)",
    )
    network.add_argument(
        "--img-size", type=whole_number(1, MOST_PIXELS), default=64, help="(%(default)s)"
    )
    network.add_argument(
        "--levels",
        type=whole_number(2, 32),
        nargs="+",
        metavar="BITS",
        help="bit widths to try (3 4 5 6 7 8)",
    )
    network.add_argument(
        "--keep-levels",
        action="store_true",
        help="keep all of --levels, in place of those that the paper's rule keeps",
    )
    network.add_argument(
        "--epochs",
        type=whole_number(1),
        default=40,
        help="of training the network for digits (%(default)s)",
    )
    parser.add_argument(
        "--clusters", type=whole_number(1), help="K of the router (the paper's table 3)"
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, MOST_SEED),
        default=0,
        help="of everything random (%(default)s)",
    )
    parser.set_defaults(check=_check, run=_run, parser=parser)


def _run(options: argparse.Namespace) -> None:
    # Imported here so that help and bad options answer at once: this loads torch.
    from skquee.cli._reproduce import run_reproduce

    run_reproduce(options)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message about the first option that does not fit; settle the defaults."""
    name = options.dataset or ("digits" if options.quick else None)
    if name is None:
        parser.error("name a data set: cifar10, cifar100 or digits (or give --quick)")
    options.dataset = name
    check_folder_to_write(parser, options, "out")
    options.clusters = options.clusters or DATA_SETS[name]
    quick_levels = [3, 5, 8] if name == "digits" else [3, 4, 5, 6, 7, 8]
    options.levels = options.levels or quick_levels
    if len(set(options.levels)) != len(options.levels):
        parser.error(f"--levels must be distinct, got {' '.join(map(str, options.levels))}")
    if len(options.levels) < 2:
        parser.error("--levels must be two or more: the experiment combines them")
    if name == "digits":
        if options.data is not None or options.weights is not None:
            parser.error(
                "digits take no --data and no --weights; to run on those, name cifar10 or cifar100"
            )
        options.keep_levels = True
        options.network = "digits"
        options.exits = options.exits or [1, 3, 6]
        if len(options.exits) < 2 or options.exits != sorted({*options.exits, 6}):
            parser.error("--exits must be 2 or more that increase and end at 6")
        return
    if options.data is None:
        parser.error(f"{name} needs --data, the folder of its images")
    if not options.data.is_dir():
        parser.error(f"--data {options.data}: there is no such folder")
    if options.exits is None and options.network not in EXITS:
        parser.error(f"--exits: the paper names none for {options.network}; give the layers")
    options.exits = options.exits or EXITS[options.network]
    if len(options.exits) < 2 or options.exits != sorted(set(options.exits)):
        parser.error("--exits must be 2 or more that increase")
    options.weights = _find_weights(parser, options)


def _find_weights(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Path:
    if options.weights is not None:
        if not options.weights.is_file():
            parser.error(f"--weights {options.weights}: there is no such file")
        return Path(options.weights)
    beside = options.data.resolve().parent / f"{options.network}_{options.dataset}"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cached = base / "skquee" / f"{options.dataset}_{options.network}.safetensors"
    found = [*sorted(beside.glob("*.safetensors")), *([cached] if cached.is_file() else [])]
    if not found:
        parser.error(
            f"no weights of {options.network} for {options.dataset}: neither {beside} holds a "
            f".safetensors file nor is there {cached}. Give --weights FILE, a checkpoint "
            f"fine-tuned on {options.dataset} (examples/_train_cifar100.py trains one)"
        )
    return found[0]
