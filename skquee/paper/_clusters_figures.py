"""The paper's figures of clusters: what they hold, and their calibration by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.display import ClusterDisplay
from skquee.display._style import COLORS, legend_of, tidy
from skquee.paper._study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


__all__ = ["figure_5a", "figure_5b_9", "figure_6_7", "figure_8", "new_figure"]


def new_figure(width: float = 8.0, height: float = 4.6) -> Figure:
    """Return a figure that makes room for its legends."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def figure_5a(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return entropy and probability of the true class in the clusters of the whole network."""
    return _clusters(study, (study.setting.shown_clusters[1],), study.tree.fullest)


def figure_5b_9(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the error of targets by number of clusters, measured and of a fitted quadratic."""
    found = study.calibration_by_clusters()
    counts, errors = found.index.to_numpy(float), found["ece"].to_numpy()
    fit = np.polynomial.Polynomial.fit(counts, errors, 2)
    figure = new_figure(7.0, 4.2)
    ax = figure.subplots()
    ax.plot(counts, errors, "o", color=COLORS[0], label="Measured on test images")
    grid = np.linspace(counts.min(), counts.max(), 200)
    ax.plot(grid, fit(grid), color=COLORS[1], label="Fitted quadratic")
    ax.set_xlabel("Clusters a path (K)")
    ax.set_ylabel("Expected calibration error")
    ax.set_ylim(0, None)
    tidy(ax)
    legend_of(ax, "beside")
    return figure, found.assign(quadratic=fit(counts))


def figure_6_7(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the same for few and for many clusters, on a path that steps down."""
    return _clusters(study, study.setting.shown_clusters, _stepped_down(study))


def figure_8(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the same for very many clusters, on a path of two blocks."""
    path = int(study.tree.prefixes(_stepped_down(study))[1])
    return _clusters(study, (study.setting.many_clusters,), path)


def _clusters(study: Study, counts: tuple[int, ...], path: int) -> tuple[Figure, pd.DataFrame]:
    import pandas as pd

    width = float(np.clip(sum(0.28 * max(k, 14) + 2.4 for k in counts), 8.0, 16.0))
    figure = new_figure(width, 6.0)
    ratios = [max(k, 14) + 6 for k in counts]
    parts = figure.subfigures(1, len(counts), width_ratios=ratios, squeeze=False)
    table, rows, shown = study.table("test"), {}, []
    for part, k in zip(parts.ravel(), counts, strict=True):
        display = ClusterDisplay.from_estimator(
            study.targets(k),
            table,
            study.labels["test"],
            path=path,
            ax=part.subplots(2, 1, sharex=True),
        )
        shown.append(display)
        display.ax_[0].set_title(f"Path {study.tree.names[path]}, K = {k}", loc="left")
        display.ax_[1].set_xlabel("Cluster, by share of wrong answers")
        rows[f"K = {k}"] = {
            "entropy between clusters": _share_between(display.clusters, display.entropy),
            "P(true class) between clusters": _share_between(
                display.clusters, display.true_probability
            ),
        }
    _same_scales(shown)
    return figure, pd.DataFrame.from_dict(rows, orient="index")


def _same_scales(displays: list[ClusterDisplay]) -> None:
    """Give all the same colours and the same range of entropy, so that they compare."""
    errors = []
    for display in displays:
        _, codes = np.unique(display.clusters, return_inverse=True)
        share = np.bincount(codes, weights=display.mistakes) / np.bincount(codes)
        errors.append(np.sort(share, kind="stable"))  # as the boxes stand
    worst = max(float(share.max()) for share in errors)
    highest = max(float(display.entropy.max()) for display in displays)
    for display, shares in zip(displays, errors, strict=True):
        mappable = display.colorbar_.mappable
        mappable.set_clim(0.0, max(worst, 1e-9))
        for boxes in display.boxes_:
            for box, color in zip(boxes, mappable.to_rgba(shares), strict=True):
                box.set_facecolor(color)
        display.ax_[0].set_ylim(-0.03 * highest, 1.05 * max(highest, 1e-9))


def _share_between(clusters: ArrayLike, values: NDArray[np.floating]) -> float:
    """Return the share of the variance of values that lies between clusters."""
    _, codes = np.unique(clusters, return_inverse=True)
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    return float(np.var(means[codes]) / max(np.var(values), 1e-12))


def _stepped_down(study: Study) -> int:
    """Return the full path that steps down to the next lower level after the first block."""
    tree, (top, *_) = study.tree, study.full_levels
    lower = max(level for level in study.network.levels_ if level < top)
    return tree.index("-".join(map(str, [top, *[lower] * (tree.n_exits - 1)])))
