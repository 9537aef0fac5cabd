"""``skquee bank fit-router`` and ``bank predict``: the router of a bank, and its answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from skquee.bank import MultiPathClassifierBank
from skquee.cli._bank import ROUTER, load_network, read_images
from skquee.evaluation import wilson_interval
from skquee.persistence import dump, load
from skquee.routers import CostAwareRouter, TunedCostAwareRouterCV, default_router
from skquee.values import PathProbabilities
from skquee.values._atomic import held, write_text
from skquee.values._reading import not_whole
from skquee.walk import Routes

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def fit_router(options: argparse.Namespace) -> None:
    """Fit a router on the validation table of a bank, and keep it beside the network."""
    folder: Path = options.bank
    table = PathProbabilities.load(folder / "val_probs.npy")
    labels = _labels(folder / "val_labels.npy", len(table))
    inner = (
        CostAwareRouter(random_state=options.seed)
        if options.router == "paper"
        else default_router(1.0, random_state=options.seed)
    )
    router = TunedCostAwareRouterCV(
        inner,
        max_cost=options.max_cost,
        price=options.price,
        max_error_increase=options.max_error_increase,
        confidence=options.confidence,
        cv=options.cv,
    )
    print(f"fitting the {options.router} router on {len(labels)} images", file=sys.stderr)
    with held(folder / ROUTER, f"fitting a router in {folder}"):
        router.fit(table, labels)
        dump(router, folder / ROUTER)
    _tell(router, table, labels)
    print(f"\nSaved in {folder}: {ROUTER}. Answers: skquee bank predict {folder} --data IMAGES")


def _labels(file: Path, n_rows: int) -> NDArray[np.generic]:
    """Read the labels of a table, as bank build wrote them."""
    try:
        labels: NDArray[np.generic] = np.load(file, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise not_whole(file, "file of labels", error) from None
    if labels.shape != (n_rows,):
        raise ValueError(
            f"{file} holds labels of shape {labels.shape}, the table beside it {n_rows} images: "
            "build the bank again."
        )
    return labels


def _tell(
    router: TunedCostAwareRouterCV, table: PathProbabilities, labels: NDArray[np.generic]
) -> None:
    """Print what the router is worth beside one path for all images."""
    tree = table.paths
    unit = f" {tree.cost_unit}" if tree.cost_unit else ""
    names = np.asarray(tree.classes)
    right = (names[np.asarray(table).argmax(axis=2)] == labels[:, None]).mean(axis=0)
    alone = right[tree.path_columns]
    accuracy, cost = router.best_accuracy_, router.best_cost_
    low, high = wilson_interval(accuracy, len(labels))
    print(
        f"Routed, cross-validated on {len(labels)} images: {accuracy:.2%} ({float(low):.2%} to "
        f"{float(high):.2%}) at a mean cost of {cost:.4g}{unit}, lambda_ {router.best_lambda_:.4g}"
    )
    affordable = np.flatnonzero(tree.path_costs <= cost * (1 + 1e-9))
    if len(affordable):
        best = affordable[alone[affordable].argmax()]
        print(
            f"Most accurate single path of at most this cost: {tree.names[best]}, "
            f"{alone[best]:.2%} at {tree.path_costs[best]:.4g}{unit}"
        )
    level = np.flatnonzero(alone >= accuracy - 1e-12)
    if not len(level):
        print("No single path is as accurate as the routed ones: route.")
        return
    cheap = level[tree.path_costs[level].argmin()]
    print(
        f"Cheapest single path that is as accurate: {tree.names[cheap]}, {alone[cheap]:.2%} at "
        f"{tree.path_costs[cheap]:.4g}{unit}"
    )
    if tree.path_costs[cheap] > cost * (1 + 1e-9):
        print(f"Verdict: route, at {cost / tree.path_costs[cheap]:.2f} of the cost of that path.")
    else:
        print(f"Verdict: one path, {tree.names[cheap]}: routing is no better on these images.")


def predict(options: argparse.Namespace) -> None:
    """Answer images by the router of a bank, running the chosen blocks only."""
    folder: Path = options.bank
    network = load_network(folder / "network", options.device)
    router = load(folder / ROUTER)
    if router.paths_.names != network.paths_.names or router.paths_.classes != tuple(
        network.paths_.classes or ()
    ):
        raise ValueError(
            f"{folder / ROUTER} was fitted for other paths or classes than the network beside it "
            f"has: fit it again, skquee bank fit-router {folder}."
        )
    bank = MultiPathClassifierBank(network, batch_size=options.batch_size)
    X, names, labels = _images(options.data)
    rows = network.rows(X)
    parts: list[Routes] = []
    with tqdm(total=len(rows), desc="images", unit="image", disable=None) as bar:
        for start in range(0, len(rows), options.batch_size):
            part = rows[np.arange(start, min(start + options.batch_size, len(rows)))]
            parts.append(router.route(bank.transform(part)))
            bar.update(len(part))
    table = pd.DataFrame(
        {
            "label": np.concatenate([part.labels for part in parts]),
            "probability": np.concatenate([part.probabilities.max(axis=1) for part in parts]),
            "path": np.concatenate([np.asarray(part.path_names) for part in parts]),
            "cost": np.concatenate([part.costs for part in parts]),
        },
        index=pd.Index(names, name="image"),
    )
    if options.out is not None:
        write_text(options.out, table.to_csv(float_format="%.6g"))
    else:
        print(table.to_string(float_format="{:.4f}".format))
    unit = f" {network.paths_.cost_unit}" if network.paths_.cost_unit else ""
    told = f"{len(table)} images at a mean cost of {table['cost'].mean():.4g}{unit}"
    known = network.classes_
    alike = labels is not None and labels.dtype.kind == known.dtype.kind
    if labels is not None and alike and np.isin(labels, known).all():
        told += f", accuracy {(table['label'].to_numpy() == labels).mean():.2%}"
    print(told, file=sys.stderr)


def _images(source: Path) -> tuple[Any, list[str], NDArray[np.generic] | None]:
    """Return images, what they are called, and labels where there are some."""
    if source.is_dir():
        files = sorted(file for file in source.rglob("*") if file.suffix.lower() in IMAGES)
        if not files:
            raise ValueError(f"{source} holds no image ({', '.join(IMAGES)}).")
        names = [str(file.relative_to(source)) for file in files]
        return files, names, np.array([file.parent.name for file in files])
    if source.suffix.lower() in IMAGES:
        return [source], [source.name], None
    X, y = read_images(source)
    return X, [str(row) for row in range(len(y))], y
