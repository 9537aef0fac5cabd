"""From a T2T-ViT to a routed bank of paths on CIFAR: what both CIFAR examples run."""

from __future__ import annotations

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from _data import cache_folder, load_images

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathProbabilities,
)
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.display import CostCurveDisplay
from skquee.evaluation import compare, subset_interval
from skquee.networks import MultiExitNetwork, PTQ4ViT

# What both networks were trained with; their 64 x 64 pixels show the whole image.
DATA_CONFIG = {
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "interpolation": "bicubic",
    "crop_pct": 1.0,
}
SETTINGS = {  # clusters as in the paper's table 3; select_levels keeps some of these bit widths
    "cifar10": {"levels": (3, 4, 5, 6, 7, 8), "n_clusters": 20},
    "cifar100": {"levels": (3, 4, 5, 6, 7, 8), "n_clusters": 70},
}


def split_rows(n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training and validation rows: the networks have not seen the 5,000 of the second."""
    rows = np.random.default_rng(0).permutation(n_images)
    return rows[5000:], rows[:5000]


def make_network(name: str, checkpoint: Path) -> MultiExitNetwork:
    """Train exits 2, 4 and 7, quantise, keep the levels that pay; or read what an earlier run did.

    Every part of the quantisation is kept as it is found: an interrupted run goes on.
    """
    folder = cache_folder() / f"{name}_t2t_vit_7"
    if folder.exists():
        return MultiExitNetwork.load(folder)
    images, labels = load_images(name, "train")
    train, validation = split_rows(len(labels))
    held = (images[validation], labels[validation])
    network = MultiExitNetwork(
        "t2t_vit_7",
        exits=(2, 4, 7),
        weights=checkpoint,
        img_size=64,
        data_config=DATA_CONFIG,
        random_state=0,
    )
    began = time.perf_counter()
    network.fit(images[train], labels[train], validation_data=held)
    print(
        f"heads trained in {time.perf_counter() - began:.0f} s; validation accuracy of exits "
        + ", ".join(f"{a:.2%}" for a in network.validation_accuracy_)
    )
    began = time.perf_counter()
    network.quantize(
        SETTINGS[name]["levels"],
        calibration=images[train[:128]],
        method=PTQ4ViT(random_state=0),
        cache=folder.with_name(folder.name + "_quantization"),
    )
    print(f"quantised at {network.levels_} in {time.perf_counter() - began:.0f} s")
    network.select_levels(*held, max_drop=0.05)
    network.save(folder)
    return network


def run(name: str, checkpoint: Path) -> None:
    """Run the whole example."""
    network = make_network(name, checkpoint)
    accuracy = ", ".join(f"{level}: {a:.2%}" for level, a in network.level_accuracy_.items())
    print(f"last exit on validation images by level (32 is float) {accuracy}")
    print(f"levels kept: {network.levels_}\n{network.summary().to_string()}\n")

    images, labels = load_images(name, "train")
    _, validation = split_rows(len(labels))
    X_test, y_test = load_images(name, "test")
    y_val = labels[validation]
    bank = MultiPathClassifierBank(network)
    tables = {}
    for part, X in (("val", images[validation]), ("test", X_test)):
        file = cache_folder() / f"{name}_t2t_vit_7_{part}.npy"
        if not file.exists():
            began = time.perf_counter()
            bank.materialize(X, out=file, dtype="float16")
            print(
                f"{part}: {len(X)} images x {network.paths_.n_paths} paths in "
                f"{time.perf_counter() - began:.0f} s"
            )
        tables[part] = PathProbabilities.load(file)

    top = max(network.levels_)
    methods = {
        "QuEE router": CostAwareRouter(
            targets=ClusteredErrorTargets(n_clusters=SETTINGS[name]["n_clusters"], random_state=0),
            random_state=0,
            n_jobs=2,
        ),
        f"Threshold at {top} bits": ThresholdRouter(along="-".join([str(top)] * 3)),
        "one path for all": FixedPath(),
        "oracle": OracleRouter(),
    }
    curves = {}
    for method_name, method in methods.items():
        began = time.perf_counter()
        method.fit(tables["val"], y_val)
        curves[method_name] = method.cost_curve(None, tables["test"], y_test)
        print(f"{method_name}: fitted and measured in {time.perf_counter() - began:.0f} s")

    span = network.paths_.path_costs.min(), 1.0
    budgets = [round(share, 2) for share in np.linspace(*span, 7)[1:]]
    print(f"\n{'test accuracy at cost':<24}" + "".join(f"{b:>8}" for b in budgets) + f"{'area':>9}")
    for method_name, curve in curves.items():
        row = "".join(f"{a:>8.2%}" for a in curve.accuracy_at(budgets))
        print(f"{method_name:<24}{row}{curve.area(span):>9.4f}")
    table = compare(curves, None, y_test, cost_range=span, n_resamples=500, random_state=0)
    print("\nareas under the curves, and the router's less each other one:")
    print(table.to_string(float_format="{:.4f}".format))
    draw(name, network, curves)


def draw(name: str, network: MultiExitNetwork, curves: dict) -> None:
    """Draw accuracy against BitOPS, as the paper's figure 3."""
    figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    router, threshold, fixed = list(curves)[:3]
    CostCurveDisplay.from_predictions(
        [curves[router], curves[threshold]],
        intervals=[subset_interval(curves[name], random_state=0) for name in (router, threshold)],
        fixed=curves[fixed],
        names=[router, threshold],
        ax=ax,
    )
    top = max(network.levels_)
    ax.set_xlabel(f"BitOPS, 1 is the whole network at {top} bits")
    title = f"T2T-ViT-7 on {name.upper().replace('CIFAR', 'CIFAR-')}, exits after layers 2, 4 and 7"
    figure.suptitle(title)
    picture = cache_folder() / f"{name}_t2t_vit_7.png"
    figure.savefig(picture, dpi=150)
    print(f"picture: {picture}")
    plt.show()
