"""What was measured of speed, as text and as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from skquee.display._style import COLORS, MARKERS, tidy
from skquee.values._atomic import whole_file, write_text
from skquee.values._public import publish

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["speed_text", "write_speed"]

PARTS = {
    "overhead": "Routed time over that of its blocks run alone on the same groups",
    "deciding": "Share of routed time outside of blocks and exits",
    "predicted": "Time that the latency table predicts over the clock's",
}


def speed_text(found: pd.DataFrame) -> str:
    """Return what :func:`measure_speed` found as text."""
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
        single = part[part["batch"] == 1]
        if len(single) and "p99_ms" in single:
            table = single.set_index("alternative")[["accuracy", "p50_ms", "p99_ms"]]
            shown = table.to_string(
                float_format="{:.2f}".format, formatters={"accuracy": "{:.2%}".format}
            )
            lines.append(f"Milliseconds of one image, {n_threads} thread(s)\n{shown}\n")
        routed = part.dropna(subset="overhead")
        for what, about in PARTS.items():
            table = routed.pivot(index="alternative", columns="batch", values=what)
            lines.append(f"{about}\n{table.to_string(float_format='{:.2f}'.format)}\n")
    for name, reason in found.attrs.get("missing", {}).items():
        lines.append(f"{name} was not measured: {reason}")
    return "\n".join(lines)


def write_speed(found: pd.DataFrame, file: Path) -> None:
    """Write what :func:`measure_speed` found, a chart beside it.

    `found`: its answer. `file`: a .csv; the chart has the same name with .png.
    """
    write_text(file, found.to_csv(index=False, float_format="%.6g"))
    part = found[found["threads"] == found["threads"].min()]
    with whole_file(file.with_suffix(".png")) as stream:
        _chart(part).savefig(stream, format="png", dpi=150)


def _chart(part: pd.DataFrame) -> Figure:
    """Draw accuracy over speed, a panel a number of rows: engines as points, choices as lines."""
    sizes = sorted(part["batch"].unique())
    n_lines = -(-len(sizes) // 2)
    figure = Figure(figsize=(10.0, 0.9 + 3.1 * n_lines), layout="constrained")
    axes = figure.subplots(n_lines, min(2, len(sizes)), squeeze=False).ravel()
    for ax, size in zip(axes, sizes, strict=False):
        rows = part[part["batch"] == size]
        kind = rows["alternative"].str.split(", ").str[0]
        chosen = rows["alternative"].str.endswith("points allowed")
        for number, (name, line) in enumerate(rows[chosen].groupby(kind, sort=False)):
            line = line.sort_values("images_per_second")
            ax.plot(
                line["images_per_second"],
                100 * line["accuracy"],
                color=COLORS[number],
                marker="o",
                label=name,
            )
        for number, (_, row) in enumerate(rows[~chosen].iterrows()):
            ax.plot(
                row["images_per_second"],
                100 * row["accuracy"],
                color="0.35",
                marker=MARKERS[number % len(MARKERS)],
                fillstyle="none" if number >= len(MARKERS) else "full",
                linestyle="none",
                label=row["alternative"],
            )
        ax.set_title("1 image at a time" if size == 1 else f"{size} images together")
        ax.set_xlim(0, None)
        tidy(ax)
    for ax in axes[len(sizes) :]:
        ax.remove()
    figure.supxlabel("Images a second")
    figure.supylabel("Accuracy on test images, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


publish("skquee.report", speed_text, write_speed)
