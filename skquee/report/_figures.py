"""The paper's figures, drawn from a study."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from skquee.display import ClusterDisplay, CostCurveDisplay, PathUsageDisplay
from skquee.display._style import COLORS, MARKERS, QUIET, beside, colors_of, tidy
from skquee.evaluation import CostCurve, compare, subset_interval
from skquee.report._study import METHODS, Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "FIGURES", "accuracy_table", "common_range"]


def common_range(curves: dict[str, CostCurve]) -> tuple[float, float]:
    """Return the range of cost that all curves reach, up to the dearest path.

    Parameters
    ----------
    curves : dict of str to CostCurve
        Curves.

    Returns
    -------
    (float, float)
    """
    low = max(float(curve.cost.min()) for curve in curves.values())
    return low, max(curve.cost_range[1] for curve in curves.values())


def accuracy_table(curves: dict[str, CostCurve], n_costs: int = 8) -> pd.DataFrame:
    """Return the accuracy every curve reaches at some mean costs.

    Parameters
    ----------
    curves : dict of str to CostCurve
        Curves.
    n_costs : int, default=8
        How many costs, from the cheapest path to the dearest.

    Returns
    -------
    DataFrame
        A row a curve; NaN below its cheapest point.
    """
    import pandas as pd

    low = min(curve.cost_range[0] for curve in curves.values())
    high = max(curve.cost_range[1] for curve in curves.values())
    costs = np.round(np.linspace(low, high, n_costs), 3)
    costs[0] = np.ceil(low * 1000) / 1000
    rows = {name: curve.accuracy_at(costs) for name, curve in curves.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"{c:g}" for c in costs])


def _figure(width: float = 8.0, height: float = 4.6) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _cost_label(ax: Any, study: Study) -> None:
    ax.set_xlabel(f"BitOPS of a sample; 1 is the whole network at {study.full_levels[0]} bits")


def _draw_curves(study: Study, curves: dict[str, CostCurve], **options: Any) -> Figure:
    figure = _figure()
    display = CostCurveDisplay.from_predictions(
        list(curves.values()), names=list(curves), ax=figure.subplots(), **options
    )
    _cost_label(display.ax_, study)
    return figure


def figure_1(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return which paths the images of each class take at a middling cost.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Share of each class on each path.
    """
    import pandas as pd

    curve = study.curve("QuEE")
    low, high = curve.cost_range
    lambda_, paths = study.usage((low + high) / 2)
    names = dict(zip(study.network.classes_.tolist(), study.class_names, strict=True))
    labels = np.array([names[label] for label in study.labels["test"].tolist()])
    figure = _figure(8.0, 5.0)
    ax = figure.subplots()
    PathUsageDisplay.from_predictions(labels, paths, tree=study.tree, ax=ax)
    mean = float(study.tree.path_costs[paths].mean())
    ax.set_title(f"lambda {lambda_:.3g}, mean cost {mean:.3g}", loc="left", fontsize="medium")
    taken = np.array(study.tree.names)[paths]
    return figure, pd.crosstab(labels, taken, normalize="index").rename_axis("class")


def figure_3(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return accuracy against BitOPS of all methods.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Of :func:`skquee.evaluation.compare`, and the accuracy at some costs.
    """
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
    """Return early exit alone against quantisation alone.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Accuracy at some costs.
    """
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
        "Widths, one for all (PTQ4ViT)": study.curve("PTQ4ViT"),
        "Widths, chosen (DQNet)": study.curve("DQNet"),
    }
    return _draw_curves(study, curves), accuracy_table(curves)


def figure_4(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return curves of routers whose gates predict errors well or badly.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        RMSE, area and the accuracy at some costs of each.
    """
    found = study.by_regressor()
    curves = {f"{name} (RMSE {rmse:.3f})": curve for name, rmse, curve in found}
    table = accuracy_table(curves)
    table.insert(0, "rmse", [rmse for _, rmse, _ in found])
    table.insert(1, "area", [curve.area() for _, _, curve in found])
    return _draw_curves(study, curves), table


def figure_5b_9(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the calibration error of the error targets by number of clusters.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        ECE measured and of the fitted quadratic.
    """
    found = study.calibration_by_clusters()
    counts, errors = found.index.to_numpy(float), found["ece"].to_numpy()
    fit = np.polynomial.Polynomial.fit(counts, errors, 2)
    figure = _figure(7.0, 4.2)
    ax = figure.subplots()
    ax.plot(counts, errors, "o", color=COLORS[0], label="Measured on test images")
    grid = np.linspace(counts.min(), counts.max(), 200)
    ax.plot(grid, fit(grid), color=COLORS[1], label="Fitted quadratic")
    ax.set_xlabel("Clusters a path (K)")
    ax.set_ylabel("Expected calibration error")
    ax.set_ylim(0, None)
    tidy(ax)
    beside(ax)
    return figure, found.assign(quadratic=fit(counts))


def figure_5c(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the router's curve by number of clusters.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Area and the accuracy at some costs, by K.
    """
    found = study.curves_by_clusters()
    figure = _figure()
    ax = figure.subplots()
    shades = colors_of(len(found))
    for color, marker, (k, curve) in zip(shades, MARKERS, found.items(), strict=False):
        cost, accuracy = curve.hull()
        ax.plot(cost, accuracy, color=color, marker=marker, markersize=4, label=f"K = {k}")
    ax.set_ylabel("Accuracy")
    _cost_label(ax, study)
    tidy(ax)
    beside(ax)
    table = accuracy_table({f"K = {k}": curve for k, curve in found.items()})
    table.insert(0, "area", [curve.area() for curve in found.values()])
    return figure, table


def _clusters(study: Study, counts: tuple[int, ...], path: int) -> tuple[Figure, pd.DataFrame]:
    import pandas as pd

    width = float(np.clip(sum(0.28 * max(k, 14) + 2.4 for k in counts), 8.0, 16.0))
    figure = _figure(width, 6.0)
    ratios = [max(k, 14) + 6 for k in counts]
    parts = figure.subfigures(1, len(counts), width_ratios=ratios, squeeze=False)
    table, rows = study.table("test"), {}
    for part, k in zip(parts.ravel(), counts, strict=True):
        display = ClusterDisplay.from_estimator(
            study.targets(k),
            table,
            study.labels["test"],
            path=path,
            ax=part.subplots(2, 1, sharex=True),
        )
        display.ax_[0].set_title(f"Path {study.tree.names[path]}, K = {k}", loc="left")
        display.ax_[1].set_xlabel("Cluster, by share of wrong answers")
        rows[f"K = {k}"] = {
            "entropy between clusters": _share_between(display.clusters, display.entropy),
            "P(true class) between clusters": _share_between(
                display.clusters, display.true_probability
            ),
        }
    return figure, pd.DataFrame.from_dict(rows, orient="index")


def _share_between(clusters: Any, values: Any) -> float:
    """Return the share of the variance of values that lies between clusters."""
    _, codes = np.unique(clusters, return_inverse=True)
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    return float(np.var(means[codes]) / max(np.var(values), 1e-12))


def _stepped_down(study: Study) -> int:
    """Return the full path that steps down to the next lower level after the first block."""
    tree, (top, *_) = study.tree, study.full_levels
    lower = max(level for level in study.network.levels_ if level < top)
    return tree.index("-".join(map(str, [top, *[lower] * (tree.n_exits - 1)])))


def figure_5a(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return entropy and probability of the true class in the clusters of the whole network.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Share of the variance that lies between clusters.
    """
    return _clusters(study, (study.setting.shown_clusters[1],), study.tree.fullest)


def figure_6_7(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the same for few and for many clusters, on a path that steps down.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Share of the variance that lies between clusters.
    """
    return _clusters(study, study.setting.shown_clusters, _stepped_down(study))


def figure_8(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the same for very many clusters, on a path of two blocks.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Share of the variance that lies between clusters.
    """
    path = int(study.tree.prefixes(_stepped_down(study))[1])
    return _clusters(study, (study.setting.many_clusters,), path)


def figure_7_3(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Return the router against predicting only the next best step.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    Figure
    DataFrame
        Accuracy at some costs.
    """
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

CAPTIONS = {
    "figure_1": "Which paths the test images of each class take, at the operating point whose "
    "mean cost is half way between the cheapest and the dearest path.",
    "figure_3": "Accuracy against BitOPS. Dots are operating points, lines their hulls, bands 95 % "
    "intervals over ten subsets of the test images, as in the paper. In the table: area is the "
    "mean height of the hull over the costs that all methods reach; difference is QuEE's area "
    "less the method's own, with its paired bootstrap interval; the columns named by a number hold "
    "the accuracy at that cost.",
    "figure_3c": "Early exit alone against quantisation alone.",
    "figure_4": "Routers with the same error targets whose gates predict them well or badly; RMSE "
    "over every prefix and path of the test images.",
    "figure_5a": "Clusters of the whole network's answers on test images: entropy, and probability "
    "of the true class. The table gives the share of the variance that lies between clusters.",
    "figure_5b_9": "Calibration error of the error targets on test images, by number of clusters, "
    "with the paper's quadratic.",
    "figure_5c": "The router's curve by number of clusters.",
    "figure_6_7": "Few clusters against more, on a path that steps down after the first block.",
    "figure_8": "Many clusters, on a path of two blocks.",
    "figure_7_3": "Predicting only the value of the next step, one training for each dot, against "
    "predicting every path's error. Both were fitted on the validation images.",
}
