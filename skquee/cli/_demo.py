"""``skquee demo``: the whole way from images to a routed network, on real digits."""

from __future__ import annotations

import argparse
import copy
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from timm.models.vision_transformer import VisionTransformer
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.cli._arguments import N_HEADS
from skquee.display import CostCurveDisplay
from skquee.evaluation import CostCurve, paired_bootstrap, wilson_interval
from skquee.method._targets import ClusteredErrorTargets
from skquee.method.gates import PathErrorRegressor
from skquee.networks import MultiExitNetwork, PTQ4ViT, train_backbone
from skquee.routers import CostAwareRouter, RoutedClassifier
from skquee.values._atomic import whole_file, write_text
from skquee.walk import Routes

LAMBDAS = (0, 0.03, 0.1, 0.2, 0.3, 0.5, 1)
GRID = np.append(0, np.geomspace(1e-3, 100, 121))  # of lambda, for curves
THRESHOLDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
NAMES = {
    "default": "default router",
    "router": "QuEE router (the paper's)",
    "threshold": "confidence threshold",
    "fixed path": "one path for all",
    "oracle": "oracle (sees the labels)",
}
# What the setting of each method is.
KNOBS = {
    "default": "lambda",
    "router": "lambda",
    "threshold": "threshold",
    "fixed path": "path",
    "oracle": "lambda",
}


def run_demo(options: argparse.Namespace) -> None:
    """Run the demo, save its picture and tables and print the operating points."""
    # One thread: more are slower on matrices this small, and sum in an order that varies.
    torch.set_num_threads(1)
    train, validation, test = split_digits(options.seed)
    with threadpool_limits(1), tqdm(total=4, unit="stage", disable=None, leave=False) as progress:
        progress.set_description("train the network")
        network = make_network(train, validation, options)
        progress.update()

        progress.set_description("run every path")
        bank = MultiPathClassifierBank(network).fit(*validation)
        validation_table, test_table = bank.materialize(validation[0]), bank.materialize(test[0])
        progress.update()

        progress.set_description("fit the routers")
        chosen = RoutedClassifier(bank, random_state=options.seed).fit(*validation)
        default = copy.copy(chosen.router_)
        router = CostAwareRouter(
            targets=ClusteredErrorTargets(n_clusters=10),
            # An epoch over so few images is only a few steps.
            regressor=PathErrorRegressor(max_epochs=500, patience=60),
            validation_fraction=0,
            random_state=options.seed,
        )
        threshold, fixed, oracle = ThresholdRouter(), FixedPath(), OracleRouter()
        for method in (router, threshold, fixed, oracle):
            method.fit(validation_table, validation[1])
        progress.update()

        progress.set_description("route the test images")
        X, y = bank.transform(test[0]), test[1]
        swept: list[tuple[str, BaseEstimator, str, Sequence[object]]] = [
            ("default", default, "lambda_", LAMBDAS),
            ("router", router, "lambda_", LAMBDAS),
            ("threshold", threshold, "threshold", THRESHOLDS),
            ("fixed path", fixed, "path", network.paths_.names),
        ]
        rows = [
            operating_point(name, str(value), method.set_params(**{knob: value}).route(X), y)
            for name, method, knob, values in swept
            for value in values
        ]
        rows.append(operating_point("oracle", "0", oracle.route(test_table, y), y))
        curves = {
            "default": default.cost_curve(GRID, test_table, y),
            "router": router.cost_curve(GRID, test_table, y),
            "threshold": threshold.cost_curve(None, test_table, y),
            "fixed path": fixed.cost_curve(None, test_table, y),
            "oracle": oracle.cost_curve(GRID, test_table, y),
        }
        for curve in curves.values():
            curve.source = "test images"
        summaries = {
            "validation images": chosen.summary(),
            "test images": chosen.summary(*test),
        }
        progress.update()

    table = pd.DataFrame(rows).astype({"blocks_run": "Int64"})
    paths = network.summary().assign(accuracy=curves["fixed path"].accuracy)
    saved = save(options.out, table, paths, curves)
    if options.json:
        print(table.to_json(orient="records", indent=2))
    else:
        report(table, curves, summaries, len(y), saved)


# Images and labels.
Labelled: TypeAlias = tuple[NDArray[np.generic], NDArray[np.generic]]


def split_digits(seed: int) -> list[Labelled]:
    """Return images of 8 x 8 pixels from 0 to 1 and labels, to train, validate and test on."""
    X, y = load_digits(return_X_y=True)
    images = X.reshape(-1, 8, 8) / 16
    rest, X_test, y_rest, y_test = train_test_split(
        images, y, test_size=497, stratify=y, random_state=seed
    )
    X_train, X_validation, y_train, y_validation = train_test_split(
        rest, y_rest, test_size=650, stratify=y_rest, random_state=seed
    )
    return [(X_train, y_train), (X_validation, y_validation), (X_test, y_test)]


def make_network(
    train: Labelled, validation: Labelled, options: argparse.Namespace
) -> MultiExitNetwork:
    """Train a backbone, then its exits; quantise every block at every level."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        backbone = VisionTransformer(
            img_size=8,
            patch_size=4,
            in_chans=1,
            num_classes=10,
            embed_dim=options.width,
            depth=options.depth,
            num_heads=N_HEADS,
            weight_init="jax",  # timm's default is too small for so narrow a network
            proj_drop_rate=0.1,
            drop_path_rate=0.1,
        )
    train_backbone(
        backbone, *train, epochs=options.epochs, learning_rate=3e-3, random_state=options.seed
    )
    network = MultiExitNetwork(backbone, exits=options.exits, random_state=options.seed)
    network.fit(*train, validation_data=validation)
    return network.quantize(
        sorted(options.levels),
        calibration=train[0][:128],
        method=PTQ4ViT(random_state=options.seed),
    )


def operating_point(
    method: str, setting: str, routes: Routes, y: NDArray[np.generic]
) -> dict[str, object]:
    """Describe how one method at one setting routed some images.

    `method`, `setting`: name of the method, and value of its knob. `routes`: what it did. `y`
    (n_samples,): labels. Returns a row of the table. ``blocks_run`` is what a lazy table counted,
    None for the oracle, which has to run everything first.
    """
    tree = routes.tree
    depths = tree.depths[routes.paths]
    levels = np.array(tree.levels)
    taken = levels[routes.visited[routes.visited >= 0]]
    accuracy = float((routes.labels == y).mean())
    low, high = wilson_interval(accuracy, len(y))
    return {
        "method": method,
        "setting": setting,
        "accuracy": accuracy,
        "accuracy_low": float(low),
        "accuracy_high": float(high),
        "cost": float(routes.costs.mean()),
        "blocks": float(depths.mean()),
        "blocks_run": sum(routes.counts.values()) if routes.counts else None,
        **{f"exit {e}": float((depths == e).mean()) for e in range(1, tree.n_exits + 1)},
        **{f"{b} bits": float((taken == b).mean()) for b in np.unique(levels)},
    }


def save(
    folder: Path, table: pd.DataFrame, paths: pd.DataFrame, curves: dict[str, CostCurve]
) -> list[Path]:
    """Write the table, the paths and the curves, also as a picture; return what was written."""
    points = [
        curve.to_frame().rename(columns={curve.knob: "setting"}).assign(method=name)
        for name, curve in curves.items()
    ]
    frames = {
        "operating_points.csv": table.set_index(["method", "setting"]),
        "paths.csv": paths,
        "curves.csv": pd.concat(points).set_index(["method", "setting"]),
    }
    for name, frame in frames.items():
        write_text(folder / name, frame.to_csv(float_format="%.6g"))
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    CostCurveDisplay.from_predictions(
        [curves["default"], curves["router"], curves["threshold"]],
        fixed=curves["fixed path"],
        oracle=curves["oracle"],
        names=["Default router", "QuEE router", "Confidence threshold"],
        ax=figure.subplots(),
    )
    with whole_file(folder / "cost_curve.png") as stream:
        figure.savefig(stream, format="png", dpi=150)
    return [folder / name for name in ("cost_curve.png", *frames)]


def report(
    table: pd.DataFrame,
    curves: dict[str, CostCurve],
    summaries: dict[str, pd.DataFrame],
    n_images: int,
    saved: list[Path],
) -> None:
    """Print the operating points, and what the default router chose."""
    print(
        f"Operating points on {n_images} test images; accuracy with its 95 % interval. Cost 1 is "
        "the whole\nnetwork at the most bits. blocks: mean per image; blocks_run: what lazy "
        "prediction ran; exits:\nshare of the images; bits: share of the blocks run."
    )
    shares = [column for column in table if column.startswith("exit") or column.endswith("bits")]
    counts = table["blocks_run"].astype(object).where(table["blocks_run"].notna(), "-")
    table = table.assign(blocks_run=counts)
    table["accuracy"] = [
        f"{accuracy:.3f} ({low:.3f}-{high:.3f})"
        for accuracy, low, high in zip(
            table["accuracy"], table["accuracy_low"], table["accuracy_high"], strict=True
        )
    ]
    for name, rows in table.groupby("method", sort=False):
        print(f"\n{NAMES[str(name)]}")
        shown = (
            rows.drop(columns=["method", "accuracy_low", "accuracy_high"])
            .rename(columns={"setting": KNOBS[str(name)]})
            .to_string(
                index=False,
                float_format="{:.3f}".format,
                formatters=dict.fromkeys(shares, "{:.0%}".format),
            )
        )
        print(shown)
    print("\nArea under the accuracy-cost curve (1 is perfect), and less the threshold's, with the")
    print("95 % interval of the difference on the same images")
    for name, curve in curves.items():
        line = f"  {NAMES[name]:<28}{curve.area():.4f}"
        if name in ("default", "router"):
            found = paired_bootstrap(curve, curves["threshold"], n_resamples=400, random_state=0)
            line += f"   {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        print(line)
    for rows, frame in summaries.items():
        routed = frame.loc["routed"]
        print(
            f"\nlambda {routed['lambda_']:.3g}, chosen on the validation images, on the {rows}:\n"
            f"{textwrap.fill(frame.attrs['verdict'] + ': ' + frame.attrs['reason'], 98)}"
        )
    print("\nSaved " + "\n      ".join(str(path) for path in saved))
    print(
        "\nNext: put models of your own into MultiPathClassifierBank([(name, model), ...], "
        "step_costs=[...])\nand call RoutedClassifier(bank).fit(X, y).summary(), as the README "
        "does on scikit-learn's data."
    )
