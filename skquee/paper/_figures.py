"""The paper's figures, drawn from a study."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from skquee.display import CostCurveDisplay, PathUsageDisplay
from skquee.display._style import MARKERS, QUIET, colors_of, legend_of, tidy
from skquee.evaluation import CostCurve, compare, subset_interval
from skquee.paper._clusters_figures import (
    figure_5a,
    figure_5b_9,
    figure_6_7,
    figure_8,
    new_figure,
)
from skquee.paper._methods import METHODS
from skquee.paper._study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = ["CAPTIONS", "FIGURES", "TITLES", "accuracy_table", "common_range"]


def common_range(curves: dict[str, CostCurve]) -> tuple[float, float]:
    """Return the range of cost that all curves reach, up to the dearest path."""
    low = max(float(curve.cost.min()) for curve in curves.values())
    return low, max(curve.cost_range[1] for curve in curves.values())


def accuracy_table(curves: dict[str, CostCurve], n_costs: int = 8) -> pd.DataFrame:
    """Return the accuracy every curve reaches at some mean costs.

    `curves`: curves. `n_costs`: how many costs, from the cheapest path to the dearest. Returns a
    row a curve; NaN below its cheapest point. Costs that no curve reaches are left out.
    """
    import pandas as pd

    low = min(curve.cost_range[0] for curve in curves.values())
    high = max(curve.cost_range[1] for curve in curves.values())
    costs = np.round(np.linspace(low, high, n_costs), 3)
    costs[0] = np.ceil(low * 1000) / 1000
    rows = {name: curve.accuracy_at(costs) for name, curve in curves.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[f"{c:g}" for c in costs])
    return table.dropna(axis="columns", how="all")


def _cost_label(ax: Axes, study: Study) -> None:
    ax.set_xlabel(f"BitOPS of a sample; 1 is the whole network at {study.full_levels[0]} bits")


def _draw_curves(study: Study, curves: dict[str, CostCurve], **options: Any) -> Figure:
    figure = new_figure()
    display = CostCurveDisplay.from_predictions(
        list(curves.values()), names=list(curves), ax=figure.subplots(), **options
    )
    _cost_label(display.ax_, study)
    return figure


def figure_1(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return which paths the images of each class take at a middling cost, and their shares."""
    import pandas as pd

    curve = study.curve("QuEE")
    low, high = curve.cost_range
    lambda_, paths = study.usage((low + high) / 2)
    names = dict(zip(study.network.classes_.tolist(), study.class_names, strict=True))
    labels = np.array([names[label] for label in study.labels["test"].tolist()])
    figure = new_figure(8.0, 5.0)
    ax = figure.subplots()
    PathUsageDisplay.from_predictions(labels, paths, tree=study.tree, ax=ax)
    mean = float(study.tree.path_costs[paths].mean())
    ax.set_title(f"lambda {lambda_:.3g}, mean cost {mean:.3g}", loc="left", fontsize="medium")
    taken = np.array(study.tree.names)[paths]
    return figure, pd.crosstab(labels, taken, normalize="index").rename_axis("class")


def figure_3(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return accuracy against BitOPS of all methods, and their comparison."""
    curves = {name: study.curve(name) for name in METHODS}
    seed = study.setting.random_state
    figure = _draw_curves(
        study,
        curves,
        intervals=[subset_interval(curve, random_state=seed) for curve in curves.values()],
        oracle=study.curve("Oracle"),
    )
    extra = {"QuEE on validation rows": study.curve("QuEE on validation rows")}
    table = compare(
        {**curves, **extra},
        None,
        study.labels["test"],
        n_resamples=study.setting.n_resamples,
        random_state=seed,
    )
    low, high = table.attrs["cost_range"]
    found = table.join(accuracy_table({**curves, **extra}))
    found.attrs = {"cost_range": (low, high)}
    return figure, found


def figure_3c(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return early exit alone against quantisation alone, and their accuracy at some costs."""
    fixed = study.curve("Fixed paths")
    line = study.tree.prefixes(study.tree.fullest)
    exits = CostCurve(
        fixed.knobs[line],
        fixed.paths[line],
        fixed.correct[line],
        fixed.tree,
        knob="path",
        source=fixed.source,
    )
    top = study.full_levels[0]
    curves = {
        f"Exits at {top} bits, one for all": exits,
        f"Exits at {top} bits, thresholds": study.curve("Thresholding"),
        f"Exits at {top} bits, JEI-DNN": study.curve("JEI-DNN"),
        "Widths, one for all (PTQ4ViT)": study.curve("PTQ4ViT"),
        "Widths, chosen (DQNet)": study.curve("DQNet"),
    }
    return _draw_curves(study, curves), accuracy_table(curves)


def figure_4(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return curves of routers whose gates predict errors well or badly, and what each reaches."""
    found = study.by_regressor()
    curves = {f"{name} (RMSE {rmse:.3f})": curve for name, rmse, curve in found}
    table = accuracy_table(curves)
    table.insert(0, "rmse", [rmse for _, rmse, _ in found])
    table.insert(1, "area", [curve.area() for _, _, curve in found])
    return _draw_curves(study, curves), table


def figure_5c(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the router's curve by number of clusters; area and accuracy at some costs, by K."""
    found = study.curves_by_clusters()
    figure = new_figure()
    ax = figure.subplots()
    shades = colors_of(len(found))
    for color, marker, (k, curve) in zip(shades, MARKERS, found.items(), strict=False):
        cost, accuracy = curve.hull()
        ax.plot(cost, accuracy, color=color, marker=marker, markersize=4, label=f"K = {k}")
    ax.set_ylabel("Accuracy")
    _cost_label(ax, study)
    tidy(ax)
    legend_of(ax, "beside")
    table = accuracy_table({f"K = {k}": curve for k, curve in found.items()})
    table.insert(0, "area", [curve.area() for curve in found.values()])
    return figure, table


def figure_7_3(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the router against predicting only the next best step; accuracy at some costs."""
    # Both learn from the validation rows, so that only the idea differs.
    curves = {
        "QuEE on validation rows": study.curve("QuEE on validation rows"),
        "Next best step": study.curve("Next step"),
    }
    figure = _draw_curves(study, curves, fixed=study.curve("Fixed paths"))
    figure.axes[0].title.set_color(QUIET)
    return figure, accuracy_table(curves)


FIGURES: dict[str, Callable[[Study], tuple[Figure, pd.DataFrame]]] = {
    "figure_1": figure_1,
    "figure_3": figure_3,
    "figure_3c": figure_3c,
    "figure_4": figure_4,
    "figure_5a": figure_5a,
    "figure_5b_9": figure_5b_9,
    "figure_5c": figure_5c,
    "figure_6_7": figure_6_7,
    "figure_8": figure_8,
    "figure_7_3": figure_7_3,
}

TITLES = {
    "figure_1": "Figure 1: which paths each class takes",
    "figure_3": "Figure 3: accuracy against BitOPS, all methods",
    "figure_3c": "Figure 3C: early exit alone against quantisation alone",
    "figure_4": "Figure 4: how well gates predict errors, and the curve they give",
    "figure_5a": "Figure 5A: the clusters of the whole network",
    "figure_5b_9": "Figures 5B and 9: calibration error by number of clusters",
    "figure_5c": "Figure 5C: the router's curve by number of clusters",
    "figure_6_7": "Figures 6 and 7: few clusters against more",
    "figure_8": "Figure 8: many clusters, on a path of two blocks",
    "figure_7_3": "Appendix 7.3: predicting only the next best step",
}

_CURVES = "Dots are operating points on test images, lines their hulls"
_BOXES = (
    "Boxes are quartiles over test images, whiskers reach 1.5 times as far, colour is the share "
    "of wrong answers. In the table: the share of the variance that lies between clusters."
)
CAPTIONS = {
    "figure_1": "Share of each class's test images on each path, at the operating point whose "
    "mean cost is nearest to half way between the cheapest and the dearest path.",
    "figure_3": f"{_CURVES}, bands 95 % intervals over ten subsets of the test images, as in the "
    "paper. In the table: area is the mean height of the hull over the costs that all methods "
    "reach; difference is QuEE's area less the method's own, with its 95 % paired bootstrap "
    "interval; the columns named by a number hold the accuracy at that cost.",
    "figure_3c": f"{_CURVES}; no bands. Exits at the highest width against widths at full depth. "
    "JEI-DNN trains its heads too.",
    "figure_4": f"{_CURVES}; no bands. Gates with the same error targets that predict them well "
    "or badly; RMSE is over every prefix and path of the test images.",
    "figure_5a": f"Entropy and probability of the true class on the fullest path. {_BOXES}",
    "figure_5b_9": "Calibration error of the error targets on test images (appendix 7.2), without "
    "bands, and a quadratic fitted to it as in the paper.",
    "figure_5c": "Hulls of the router's operating points on test images, K clusters a path; "
    "no bands.",
    "figure_6_7": "The same on a path that steps down after the first block; both parts share "
    f"their scales. {_BOXES}",
    "figure_8": f"The same on the first two blocks of that path. {_BOXES}",
    "figure_7_3": f"{_CURVES}; no bands. The next-best-step variant needs one training for each "
    "dot. Both were fitted on the validation images.",
}
