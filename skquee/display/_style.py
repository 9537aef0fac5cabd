"""Colours and axes all displays share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skquee.values._costs import common_unit
from skquee.values._optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

__all__ = [
    "COLORS",
    "MARKERS",
    "QUIET",
    "colors_of",
    "cost_label",
    "legend_of",
    "line_style",
    "log_costs",
    "new_axes",
    "shades",
    "tidy",
]

# Okabe and Ito's palette, told apart by colour-blind readers, without its yellow, which is too pale
# for lines; then Tol's indigo, wine and olive.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#332288",
    "#882255",
    "#999933",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
# Dotted is the oracle's.
DASHES = ("-", (0, (6, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1.5)))
QUIET = "0.45"
PLACES = ("auto", "beside", "inside", "none")


def line_style(place: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the line at a place, none of the first 36 like another.

    The dashes change with every line, so that lines over each other and in grey print are told
    apart too.
    """
    return {
        "color": COLORS[place % len(COLORS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def new_axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return `ax`, or the axes of a new figure that makes room for legends outside."""
    if ax is not None:
        return ax
    require("matplotlib", "A plot")
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def tidy(ax: Axes, grid: str = "both") -> None:
    """Take away what carries no data: two spines, and a strong grid.

    `ax`: axes to tidy. `grid` {"both", "x", "y"}: direction of the faint grid lines.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def cost_label(units: Iterable[str | None]) -> str:
    """Return the label of an axis of mean costs.

    `units`: of the costs shown; None where it is not known. Returns with the unit where one is
    known. Raises ValueError if there are several units.
    """
    unit = common_unit(units)
    return f"Mean cost ({unit})" if unit else "Mean cost"


def log_costs(ax: Axes, low: float, high: float) -> None:
    """Make the axis of costs logarithmic, with plain numbers, the fewer the wider the range."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_xscale("log")
    subs = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0) if high < 10 * low else (1.0, 2.0, 5.0)
    ax.xaxis.set_major_locator(LogLocator(subs=subs if high < 1000 * low else (1.0,)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def legend_of(ax: Axes, place: str = "auto", **kwargs: Any) -> Legend | None:
    """Draw the legend inside the axes or to the right of them.

    `ax`: axes with labelled artists. `place` {"auto", "beside", "inside", "none"}: "auto": beside
    the axes where the figure has a layout that makes room for it (a constrained one, as figures of
    displays have), inside otherwise. `**kwargs`: of ``Axes.legend``. Returns None where nothing is
    labelled.
    """
    if place not in PLACES:
        raise ValueError(f"legend must be one of {list(PLACES)}, got {place!r}.")
    if place == "none" or not ax.get_legend_handles_labels()[1]:
        return None
    makes_room = ax.figure.figure.get_layout_engine() is not None
    if place == "beside" or (place == "auto" and makes_room):
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False}
        return ax.legend(**{**beside, **kwargs})
    return ax.legend(loc="best", framealpha=0.85, edgecolor="0.9", **kwargs)


def shades(color: str, n: int) -> list[tuple[float, ...]]:
    """Return `n` shades of a colour, pale to full."""
    require("matplotlib", "A plot")
    from matplotlib.colors import to_rgb

    weights = [1.0] if n == 1 else [0.35 + 0.65 * i / (n - 1) for i in range(n)]
    return [tuple(1 - w * (1 - part) for part in to_rgb(color)) for w in weights]


def colors_of(n: int) -> list[tuple[float, ...]]:
    """Return `n` ordered colours, dark to light, that keep their order in grey."""
    require("matplotlib", "A plot")
    from matplotlib import colormaps

    steps = [0.15 + 0.75 * i / max(1, n - 1) for i in range(n)]
    return [tuple(colormaps["viridis"](step)) for step in steps]
