"""What was measured of speed, as text and as a chart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from skquee.display._style import COLORS, MARKERS, beside, tidy

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["speed_text", "write_speed"]

PARTS = {
    "overhead": "Routed time over that of its blocks run alone on the same groups",
    "deciding": "Share of routed time outside of blocks and exits",
    "predicted": "Time that the latency table predicts over the clock's",
}


def speed_text(found: pd.DataFrame) -> str:
    """Return what :func:`measure_speed` found as text.

    Parameters
    ----------
    found : DataFrame
        Its answer.

    Returns
    -------
    str
    """
    lines: list[str] = []
    for n_threads, part in found.groupby("threads"):
        for what, form in (("images_per_second", "{:.0f}"), ("ratio", "{:.2f}")):
            table = part.pivot(index="alternative", columns="batch", values=what)
            # Routed operating points differ by batch size: their least accuracy.
            accuracy = part.groupby("alternative")["accuracy"].min()
            table.insert(0, "accuracy", accuracy)
            order = part["alternative"].unique()
            title = {"images_per_second": "Images a second", "ratio": "Times the float network"}
            lines.append(f"{title[what]}, {n_threads} thread(s), by rows given together")
            shown = table.loc[order].to_string(
                float_format=form.format, formatters={"accuracy": "{:.2%}".format}
            )
            lines.append(f"{shown}\n")
        routed = part.dropna(subset="overhead")
        for what, about in PARTS.items():
            table = routed.pivot(index="alternative", columns="batch", values=what)
            lines.append(f"{about}\n{table.to_string(float_format='{:.2f}'.format)}\n")
    for name, reason in found.attrs.get("missing", {}).items():
        lines.append(f"{name} was not measured: {reason}")
    return "\n".join(lines)


def write_speed(found: pd.DataFrame, file: Path) -> None:
    """Write what :func:`measure_speed` found, a chart beside it.

    Parameters
    ----------
    found : DataFrame
        Its answer.
    file : Path
        A .csv; the chart has the same name with .png.
    """
    fresh = file.with_name(file.name + ".new")
    found.to_csv(fresh, index=False, float_format="%.6g")
    os.replace(fresh, file)
    part = found[found["threads"] == found["threads"].min()]
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    ax = figure.subplots()
    for number, (name, rows) in enumerate(part.groupby("alternative", sort=False)):
        routed = rows["overhead"].notna().all()
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
