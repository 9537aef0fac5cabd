"""Colours and axes all displays share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skquee.values._costs import common_unit
from skquee.values._optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "MARKERS",
    "QUIET",
    "beside",
    "colors_of",
    "cost_label",
    "new_axes",
    "shades",
    "tidy",
]

# Okabe and Ito's palette, told apart by colour-blind readers; its yellow is too pale for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
QUIET = "0.45"


def new_axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return `ax`, or the axes of a new figure that makes room for legends outside.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Axes to plot on.
    figsize : (float, float)
        Width and height of a new figure, in inches.

    Returns
    -------
    matplotlib Axes
    """
    if ax is not None:
        return ax
    require("matplotlib", "A plot")
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def tidy(ax: Axes, grid: str = "both") -> None:
    """Take away what carries no data: two spines, and a strong grid.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes to tidy.
    grid : {"both", "x", "y"}, default="both"
        Direction of the faint grid lines.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def cost_label(units: Iterable[str | None]) -> str:
    """Return the label of an axis of mean costs.

    Parameters
    ----------
    units : iterable of str or None
        Of the costs shown; None where it is not known.

    Returns
    -------
    str
        With the unit where one is known.

    Raises
    ------
    ValueError
        If there are several units.
    """
    unit = common_unit(units)
    return f"Mean cost ({unit})" if unit else "Mean cost"


def beside(ax: Axes, **kwargs: Any) -> Any:
    """Draw the legend to the right of the axes, over no data.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes with labelled artists.
    **kwargs
        Of ``Axes.legend``.

    Returns
    -------
    matplotlib Legend or None
        None where nothing is labelled.
    """
    if not ax.get_legend_handles_labels()[1]:
        return None
    return ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, **kwargs)


def shades(color: str, n: int) -> list[tuple[float, ...]]:
    """Return `n` shades of a colour, pale to full.

    Parameters
    ----------
    color : str
        The full colour.
    n : int
        How many.

    Returns
    -------
    list of RGB tuples
    """
    require("matplotlib", "A plot")
    from matplotlib.colors import to_rgb

    weights = [1.0] if n == 1 else [0.35 + 0.65 * i / (n - 1) for i in range(n)]
    return [tuple(1 - w * (1 - part) for part in to_rgb(color)) for w in weights]


def colors_of(n: int) -> list[tuple[float, ...]]:
    """Return `n` ordered colours, dark to light, that keep their order in grey.

    Parameters
    ----------
    n : int
        How many.

    Returns
    -------
    list of RGBA tuples
    """
    require("matplotlib", "A plot")
    from matplotlib import colormaps

    steps = [0.15 + 0.75 * i / max(1, n - 1) for i in range(n)]
    return [tuple(colormaps["viridis"](step)) for step in steps]
