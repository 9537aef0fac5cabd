"""Options of ``skquee bank``; importing this loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from skquee.cli._arguments import (
    DATA,
    MOST_PIXELS,
    MOST_SEED,
    Commands,
    check_data,
    check_file_to_write,
    check_folder_to_write,
    number,
    whole_number,
)

__all__ = ["add_bank_commands"]


def add_bank_commands(commands: Commands) -> None:
    """Add the actions of ``bank``: build, evaluate, fit-router and predict."""
    bank = commands.add_parser(
        "bank",
        help="make a bank of paths from a network, or measure one",
        description=(
            "From a network to answers: build, fit-router, predict, in this order; evaluate "
            "measures every path. 'skquee bank build --help' and the like tell the options of each."
        ),
    )
    bank.set_defaults(parser=bank)
    actions = bank.add_subparsers(title="actions", metavar="action")
    build = actions.add_parser(
        "build",
        help="train exits, quantise, keep the levels that pay, run every path on validation images",
        description=(
            "Cut a network, train a head for each exit, quantise every block at several bit "
            "widths, keep those that are accurate enough and run every path on the validation "
            "images. Writes network/ (MultiExitNetwork.load), val_probs.npy and val_labels.npy "
            "(for CostAwareRouter.fit) and paths.csv. The same command goes on after an "
            "interruption."
        ),
    )
    _add_build_options(build)
    build.set_defaults(check=_check_build, run=_run_build, parser=build)
    evaluate = actions.add_parser(
        "evaluate",
        help="run every path of a built bank on labelled images",
        description="Print the accuracy and cost of every path of a bank on labelled images.",
    )
    evaluate.add_argument("bank", type=Path, help="folder that bank build wrote")
    evaluate.add_argument("--data", type=Path, required=True, help=DATA)
    evaluate.add_argument(
        "--out", type=Path, help="write the probabilities of every path to this .npy"
    )
    evaluate.add_argument("--csv", type=Path, help="write the table to this .csv")
    _add_running_options(evaluate)
    evaluate.set_defaults(check=_check_evaluate, run=_run_evaluate, parser=evaluate)
    fit = actions.add_parser(
        "fit-router",
        help="fit a router on the validation table of a built bank",
        description=(
            "Fit a router on the table that bank build wrote, choose its trade-off by "
            "cross-validation and write it into the folder of the bank, router.skops beside "
            "network/: the two are what bank predict runs. Ends with a verdict: route, or one path."
        ),
    )
    _add_router_options(fit)
    fit.set_defaults(check=_check_fit, run=_run_fit, parser=fit)
    predict = actions.add_parser(
        "predict",
        help="answer images by the router of a bank, running the chosen blocks only",
        description="Print the label, probability, path and cost of every image.",
    )
    predict.add_argument("bank", type=Path, help="folder of bank build and bank fit-router")
    predict.add_argument(
        "--data", type=Path, required=True, help="a folder of images, an image, or an .npz"
    )
    predict.add_argument("--out", type=Path, help="write the answers to this .csv")
    _add_running_options(predict)
    predict.set_defaults(check=_check_predict, run=_run_predict, parser=predict)


def _add_build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", required=True, help="name of a timm model, e.g. t2t_vit_7")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    data = parser.add_argument_group("images")
    data.add_argument("--train", type=Path, required=True, help=DATA)
    data.add_argument(
        "--validation", type=Path, help="the same (a tenth of the training images, at random)"
    )
    data.add_argument(
        "--img-size", type=whole_number(1, MOST_PIXELS), help="pixels (the network's own)"
    )
    data.add_argument(
        "--mean", type=number(), nargs="+", help="of each channel, on a scale of 0 to 1"
    )
    data.add_argument("--std", type=number(), nargs="+", help="likewise")
    network = parser.add_argument_group("network")
    network.add_argument("--checkpoint", type=Path, help="weights: .safetensors or .pth")
    network.add_argument("--pretrained", action="store_true", help="fetch timm's weights")
    network.add_argument(
        "--exits", nargs="+", metavar="LAYER", help="layers after which it can answer"
    )
    network.add_argument(
        "--blocks", nargs="+", metavar="NAME", help="modules to cut after, if no transformer"
    )
    network.add_argument(
        "--seed",
        type=whole_number(0, MOST_SEED),
        default=0,
        help="of everything random (%(default)s)",
    )
    network.add_argument("--max-epochs", type=whole_number(0), default=200, help="of the heads")
    levels = parser.add_argument_group("levels")
    levels.add_argument(
        "--levels",
        type=whole_number(2, 32),
        nargs="+",
        default=[5, 6, 7, 8],
        metavar="BITS",
        help="bit widths to try (5 6 7 8)",
    )
    levels.add_argument(
        "--method", choices=["ptq4vit", "base", "uniform"], default="ptq4vit", help="(%(default)s)"
    )
    levels.add_argument(
        "--calibration-images", type=whole_number(1), default=128, help="(%(default)s)"
    )
    levels.add_argument(
        "--max-drop",
        type=float,
        default=0.05,
        help="largest loss of accuracy of a level that is kept (%(default)s); 1 keeps all",
    )
    _add_running_options(parser)


def _add_router_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bank", type=Path, help="folder that bank build wrote")
    parser.add_argument(
        "--router",
        choices=["default", "paper"],
        default="default",
        help="logistic gates, or the paper's clusters (%(default)s)",
    )
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--max-error-increase",
        type=number(),
        help="cheapest point whose error is at most this much above the whole network's (0.005)",
    )
    goal.add_argument("--max-cost", type=number(), help="best point of at most this mean cost")
    goal.add_argument("--price", type=number(), help="accuracy that a unit of cost is worth")
    parser.add_argument(
        "--confidence", type=number(), help="hold the limit with this probability, e.g. 0.9"
    )
    parser.add_argument("--cv", type=whole_number(2), default=5, help="folds (%(default)s)")
    parser.add_argument(
        "--seed",
        type=whole_number(0, MOST_SEED),
        default=0,
        help="of everything random (%(default)s)",
    )


def _add_running_options(parser: argparse.ArgumentParser) -> None:
    running = parser.add_argument_group("running")
    running.add_argument("--batch-size", type=whole_number(1), default=128, help="(%(default)s)")
    running.add_argument("--device", help="as torch names it (CUDA where there is one)")


def _check_build(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    check_data(parser, options, "train", "validation")
    if options.checkpoint is not None and not options.checkpoint.is_file():
        parser.error(f"--checkpoint {options.checkpoint}: there is no such file")
    if options.checkpoint is not None and options.pretrained:
        parser.error("--checkpoint and --pretrained exclude each other")
    if options.exits is None and options.blocks is None:
        parser.error("give --exits, or --blocks for a network that is no transformer")
    if options.exits is not None and options.blocks is None:
        if not all(layer.isdecimal() for layer in options.exits):
            parser.error(f"--exits must be numbers of layers, got {' '.join(options.exits)}")
    if len(set(options.levels)) != len(options.levels):
        parser.error(f"--levels must be distinct, got {' '.join(map(str, options.levels))}")
    if not 0 <= options.max_drop <= 1:
        parser.error(f"--max-drop must lie between 0 and 1, got {options.max_drop}")
    check_folder_to_write(parser, options, "out")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: cannot make this folder ({error.strerror})")


def _check_evaluate(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    check_data(parser, options, "data")
    _check_bank(parser, options)
    for name, suffixes in (("out", (".npy", ".npy.json")), ("csv", (".csv",))):
        check_file_to_write(parser, options, name, *suffixes)


def _check_fit(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _check_bank(parser, options)
    for name in ("val_probs.npy", "val_labels.npy"):
        if not (options.bank / name).is_file():
            parser.error(f"{options.bank} holds no {name}: make a bank with skquee bank build")
    if options.max_error_increase is None and options.max_cost is None and options.price is None:
        options.max_error_increase = 0.005


def _check_predict(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _check_bank(parser, options)
    if not (options.bank / "router.skops").is_file():
        parser.error(
            f"{options.bank} holds no router: fit one with skquee bank fit-router {options.bank}"
        )
    if not options.data.exists():
        parser.error(f"--data {options.data}: there is no such file or folder")
    check_file_to_write(parser, options, "out", ".csv")


def _check_bank(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Leave where a folder holds neither a network nor a cascade of networks."""
    kinds = ("network.json", "cascade.json")
    if not any((options.bank / "network" / kind).is_file() for kind in kinds):
        parser.error(f"{options.bank} holds no bank: make one with skquee bank build")


def _run_fit(options: argparse.Namespace) -> None:
    from skquee.cli._routed import fit_router

    fit_router(options)


def _run_predict(options: argparse.Namespace) -> None:
    from skquee.cli._routed import predict

    predict(options)


def _run_build(options: argparse.Namespace) -> None:
    # Imported here so that help and bad options answer at once: this loads torch.
    from skquee.cli._bank import build

    build(options)


def _run_evaluate(options: argparse.Namespace) -> None:
    from skquee.cli._bank import evaluate

    evaluate(options)
