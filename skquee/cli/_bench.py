"""``skquee bench``: what routing gains on the clock."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from torch.utils.data import Subset

from skquee.cli._bank import read_images
from skquee.display._style import COLORS, MARKERS, beside, tidy
from skquee.networks import MultiExitNetwork
from skquee.report import measure_speed

if TYPE_CHECKING:
    import pandas as pd


def run_bench(options: argparse.Namespace) -> None:
    """Measure, print one table, and write it where asked.

    Parameters
    ----------
    options : Namespace
        Checked options of the command.
    """
    network = MultiExitNetwork.load(options.network)
    X, y = read_images(options.data)
    test = np.arange(len(y))
    if options.validation is not None:
        validation = read_images(options.validation)
    else:
        rows = np.random.default_rng(options.seed).permutation(len(y))
        held, test = rows[: len(y) // 3], np.sort(rows[len(y) // 3 :])
        validation = _take(X, held), y[held]
    images, labels = _take(X, test), y[test]
    network.compile(options.levels, calibration=_take(validation[0], np.arange(128)))
    found = measure_speed(
        network,
        validation,
        (images, labels),
        batch_sizes=options.batch_sizes,
        threads=options.threads,
        compiled=not options.no_compile,
        repeats=options.repeats,
        random_state=options.seed,
    )
    print(f"On {network.latency_.machine}; levels kept: {', '.join(network.levels_)}.\n")
    _print(found)
    if options.out is not None:
        _write(found, options.out)
        print(f"\nSaved {options.out} and {options.out.with_suffix('.png')}")


PARTS = {
    "overhead": "Routed time over that of its blocks run alone on the same groups",
    "deciding": "Share of routed time outside of blocks and exits",
    "predicted": "Time that the latency table predicts over the clock's",
}


def _print(found: pd.DataFrame) -> None:
    for n_threads, part in found.groupby("threads"):
        for what, form in (("images_per_second", "{:.0f}"), ("ratio", "{:.2f}")):
            table = part.pivot(index="alternative", columns="batch", values=what)
            # Routed operating points differ by batch size: their least accuracy.
            accuracy = part.groupby("alternative")["accuracy"].min()
            table.insert(0, "accuracy", accuracy)
            order = part["alternative"].unique()
            title = {"images_per_second": "Images a second", "ratio": "Times the float network"}
            print(f"{title[what]}, {n_threads} thread(s), by rows given together")
            shown = table.loc[order].to_string(
                float_format=form.format, formatters={"accuracy": "{:.2%}".format}
            )
            print(f"{shown}\n")
        routed = part.dropna(subset="overhead")
        for what, about in PARTS.items():
            table = routed.pivot(index="alternative", columns="batch", values=what)
            print(f"{about}\n{table.to_string(float_format='{:.2f}'.format)}\n")
    for name, reason in found.attrs.get("missing", {}).items():
        print(f"{name} was not measured: {reason}")


def _write(found: pd.DataFrame, file: Path) -> None:
    fresh = file.with_name(file.name + ".new")
    found.to_csv(fresh, index=False, float_format="%.6g")
    os.replace(fresh, file)
    part = found[found["threads"] == found["threads"].min()]
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    ax = figure.subplots()
    for number, (name, rows) in enumerate(part.groupby("alternative", sort=False)):
        routed = str(name).startswith("routed")
        ax.plot(
            rows["batch"],
            rows["images_per_second"],
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle="-" if routed else "--",
            label=f"{name} ({rows['accuracy'].min():.1%})",
        )
    sizes = sorted(part["batch"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_ylim(0, None)
    ax.set_xlabel("Images given together")
    ax.set_ylabel("Images a second")
    tidy(ax)
    beside(ax, title="Accuracy in brackets", alignment="left")
    picture = file.with_suffix(".new.png")
    figure.savefig(picture, dpi=150)
    os.replace(picture, file.with_suffix(".png"))


def _take(X: object, rows: np.ndarray) -> object:
    rows = rows[rows < len(X)]  # type: ignore[arg-type]
    return X[rows] if isinstance(X, np.ndarray) else Subset(X, rows.tolist())  # type: ignore[arg-type]
