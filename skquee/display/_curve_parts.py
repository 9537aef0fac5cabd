"""Parts of the picture of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skquee.evaluation import CostCurve

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox
    from matplotlib.typing import ColorType

__all__ = ["check_positive", "draw_band", "name_best_paths", "rows_of", "to_the_dearest"]


def to_the_dearest(
    cost: NDArray[np.float64], accuracy: NDArray[np.float64], high: float, log_cost: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a hull drawn on to the dearest path, with points between where the axis bends it."""
    costs, heights = np.append(cost, max(high, cost[-1])), np.append(accuracy, accuracy[-1])
    if not log_cost:
        return costs, heights
    between = np.union1d(costs, np.geomspace(costs[0], costs[-1], 200))
    return between, np.interp(between, costs, heights)


def draw_band(
    ax: Axes, frame: pd.DataFrame, high: float, color: ColorType, log_cost: bool
) -> PolyCollection:
    """Draw a band as long as its line."""
    frame = frame.sort_values("cost", kind="stable")
    cost, low, up = frame[["cost", "accuracy_low", "accuracy_high"]].to_numpy(dtype=float).T
    costs, lower = to_the_dearest(cost, low, high, log_cost)
    _, upper = to_the_dearest(cost, up, high, log_cost)
    return ax.fill_between(costs, lower, upper, color=color, alpha=0.15, linewidth=0.5, zorder=2)


def check_positive(curves: Sequence[CostCurve]) -> float:
    """Return the least mean cost of some curves, above 0."""
    least = min(float(curve.cost.min()) for curve in curves)
    if not least > 0:
        raise ValueError(
            f"log_cost needs mean costs above 0, got {least:g}: leave it out, or leave out the "
            "operating points that cost nothing."
        )
    return least


def rows_of(curve: CostCurve) -> str:
    """Which rows a curve is measured on, with their number."""
    # "450 rows held out in fit" brings its own count.
    return curve.source if curve.source[:1].isdigit() else f"{curve.paths.shape[1]} {curve.source}"


def name_best_paths(ax: Axes, fixed: CostCurve, curves: Sequence[CostCurve]) -> list[Text]:
    """Name the paths on the hull of fixed paths, where the names do not collide."""
    # Room for the legend is made when the figure is laid out; only then boxes are known.
    ax.figure.figure.draw_without_rendering()
    frame = ax.get_window_extent()
    drawn = [np.column_stack([fixed.cost, fixed.accuracy])]
    space = np.geomspace if ax.get_xscale() == "log" else np.linspace
    steps = space(*ax.get_xlim(), 400)
    for curve in curves:
        drawn.append(np.column_stack([curve.cost, curve.accuracy]))
        drawn.append(np.column_stack([steps, np.interp(steps, *curve.hull(), left=np.nan)]))
    marks = ax.transData.transform(np.concatenate(drawn))
    taken: list[Bbox] = []
    texts: list[Text] = []
    costs, heights = fixed.hull()
    for cost, height in zip(costs, heights, strict=True):
        point = np.flatnonzero((fixed.cost == cost) & (fixed.accuracy == height))[0]
        text = ax.annotate(
            fixed.tree.names[int(fixed.paths[point, 0])],
            (cost, height),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize="small",
            color="0.3",
            zorder=6,
        )
        for right, up in ((1, -1), (-1, -1), (-1, 1), (1, 1)):
            text.set(ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top")
            text.set_position((5 * right, 4 * up))
            box = text.get_window_extent()
            low, high = box.padded(3.0).get_points()
            inside = ((marks > low) & (marks < high)).all(axis=1)
            if (
                frame.x0 < box.x0 < box.x1 < frame.x1
                and frame.y0 < box.y0 < box.y1 < frame.y1
                and not inside.any()
                and not any(box.overlaps(other) for other in taken)
            ):
                taken.append(box.padded(1.0))
                texts.append(text)
                break
        else:
            text.remove()
    return texts
