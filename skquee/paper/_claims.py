"""The paper's claims, each with what was measured and a verdict by rule."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from skquee.evaluation import CostCurve, PairedComparison, paired_bootstrap
from skquee.paper._figures import common_range, figure_6_7
from skquee.paper._study import Study

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["RULE", "claims"]

RULE = (
    "Where a row gives an interval, it is the 95 % paired bootstrap interval over the test images, "
    "and the verdict is yes where it lies above zero, no where it lies below, level where it holds "
    "zero, unless the column Why names another rule. Differences are in points of accuracy, "
    "averaged over a range of cost. Low and high cost are the lower and the upper third of the "
    "costs that both methods reach."
)
LEAST_CLUSTERS, MOST_CLUSTERS = 20, 100  # "about 50"


def claims(study: Study) -> pd.DataFrame:
    """Hold what was measured against each of the paper's claims.

    `study`: everything computed. Returns a row a claim: ``claim``, ``paper`` (where it says so),
    ``measured``, ``holds`` ("yes", "level", "no" or "not measured"), ``why`` (the rule that gave
    the verdict).
    """
    import pandas as pd

    rows = [*_ordering(study), *_clusters(study), *_gates(study), *_others(study)]
    return pd.DataFrame(rows, columns=["claim", "paper", "measured", "holds", "why"])


Row = tuple[str, str, str, str, str]

BY_INTERVAL = {
    "yes": "The interval lies above zero.",
    "no": "The interval lies below zero.",
    "level": "The interval holds zero.",
}


def _third(curves: tuple[CostCurve, CostCurve], which: str) -> tuple[float, float]:
    low, high = common_range({"first": curves[0], "second": curves[1]})
    step = (high - low) / 3
    return {
        "all": (low, high),
        "low": (low, low + step),
        "high": (high - step, high),
        "lower two thirds": (low, high - step),
    }[which]


def _gap(study: Study, first: CostCurve, second: CostCurve, which: str) -> PairedComparison:
    return paired_bootstrap(
        first,
        second,
        cost_range=_third((first, second), which),
        n_resamples=study.setting.n_resamples,
        random_state=study.setting.random_state,
    )


def _tell(gap: PairedComparison) -> str:
    return f"{100 * gap.difference:+.2f} ({100 * gap.low:+.2f} to {100 * gap.high:+.2f})"


def _verdict(gap: PairedComparison) -> str:
    return "yes" if gap.low > 0 else "no" if gap.high < 0 else "level"


def _ordering(study: Study) -> list[Row]:
    curve = study.curve
    rows = []
    for first, second, which, text, where in (
        ("QuEE", "JEI-DNN", "low", "QuEE is above JEI-DNN at low cost", "fig. 3"),
        ("QuEE", "Thresholding", "all", "QuEE is above thresholding", "fig. 3"),
        ("QuEE", "DQNet", "all", "QuEE is above DQNet", "fig. 3"),
        ("QuEE", "PTQ4ViT", "all", "QuEE is above PTQ4ViT alone", "fig. 3"),
        ("JEI-DNN", "DQNet", "all", "JEI-DNN is above DQNet", "fig. 3"),
        ("DQNet", "PTQ4ViT", "all", "DQNet is not below PTQ4ViT alone", "fig. 3"),
        ("JEI-DNN", "QuEE", "high", "JEI-DNN passes QuEE at high cost", "fig. 3"),
    ):
        gap = _gap(study, curve(first), curve(second), which)
        verdict = _verdict(gap)
        why = BY_INTERVAL[verdict]
        if "not below" in text and verdict == "level":
            verdict, why = "yes", "The interval does not lie below zero: level counts as yes here."
        where_cost = {"all": "all costs", "low": "low cost", "high": "high cost"}[which]
        rows.append((text, where, f"{_tell(gap)}, {where_cost}", verdict, why))
    # The dearest point of JEI-DNN, chosen without a look at its accuracy.
    jei, fixed = curve("JEI-DNN"), curve("Fixed paths")
    best = _point(jei, int(jei.knobs.argmin()))
    whole = _point(fixed, study.tree.fullest)
    gap = paired_bootstrap(
        best,
        whole,
        at_cost=1.001 * whole.cost_range[1],  # right of both points
        n_resamples=study.setting.n_resamples,
        random_state=study.setting.random_state,
    )
    rows.append(
        (
            "JEI-DNN passes the accuracy of the backbone, as it trains the heads too",
            "sec. 5.5",
            f"{_tell(gap)}, at its least lambda",
            _verdict(gap),
            BY_INTERVAL[_verdict(gap)],
        )
    )
    dqnet, quee = curve("DQNet"), curve("QuEE")
    low = float(quee.cost_range[0])
    rows.append(
        (
            "DQNet cannot reach low costs: it has no exit",
            "sec. 5.5",
            f"cheapest point {dqnet.cost.min():.3f}, QuEE's {quee.cost.min():.3f} (first exit "
            f"{low:.3f})",
            "yes" if dqnet.cost.min() > quee.cost.min() else "no",
            "Costs of the cheapest points compared; no interval.",
        )
    )
    trained = study.setting
    n_dqnet = len(trained.alphas) * len(study.network.levels_)
    rows.append(
        (
            "One training of QuEE gives the whole curve, the others need one a point",
            "sec. 5.5",
            f"trainings: QuEE 1, JEI-DNN {len(trained.lambdas)}, DQNet {n_dqnet}",
            "yes",
            "By construction; trainings counted.",
        )
    )
    return rows


def _clusters(study: Study) -> list[Row]:
    curves = study.curves_by_clusters()
    areas = {k: curve.area() for k, curve in curves.items()}
    shown = ", ".join(f"K={k} {100 * area:.2f}" for k, area in areas.items())
    worst, most = min(areas, key=lambda k: areas[k]), max(curves)
    low = _gap(study, curves[1], curves[5], "all")
    large = _gap(study, curves[most], curves[5], "all")
    found = study.calibration_by_clusters()
    fit = np.polynomial.Polynomial.fit(found.index.to_numpy(float), found["ece"], 2).convert()
    bottom = -fit.coef[1] / (2 * fit.coef[2])
    convex = fit.coef[2] > 0 and LEAST_CLUSTERS <= bottom <= MOST_CLUSTERS
    shape = f"its quadratic bottoms at K={bottom:.0f}" if fit.coef[2] > 0 else "it has no bottom"
    best = int(found["ece"].idxmin())
    first, second = figure_6_7(study)[1]["entropy between clusters"]
    few, many = study.setting.shown_clusters
    return [
        (
            "The curve is worst near K = 5",
            "fig. 5C",
            f"areas: {shown}",
            "yes" if worst == 5 and low.low > 0 and large.low > 0 else "no",
            f"Yes where K = 5 is least, and the intervals of K = 1 and K = {most} lie above it.",
        ),
        (
            "The curve of K = 1 is above that of K = 5",
            "fig. 5C",
            _tell(low),
            _verdict(low),
            BY_INTERVAL[_verdict(low)],
        ),
        (
            f"Many clusters ({most}) are better than 5",
            "fig. 5C",
            _tell(large),
            _verdict(large),
            BY_INTERVAL[_verdict(large)],
        ),
        (
            "The calibration error falls until K is about 50, then rises",
            "figs. 5B, 9",
            f"least at K={best} ({found['ece'].min():.4f}); {shape}; K from {LEAST_CLUSTERS} to "
            f"{MOST_CLUSTERS} counts as about 50",
            "yes" if convex else "no",
            "Shape of the fitted quadratic; no interval.",
        ),
        (
            f"K = {many} parts low from high entropy better than K = {few}",
            "figs. 6, 7",
            f"variance of the entropy between clusters {first:.0%} and {second:.0%}",
            "yes" if second > first else "no",
            "Shares of the variance compared; no interval.",
        ),
    ]


def _gates(study: Study) -> list[Row]:
    found = sorted(study.by_regressor(), key=lambda entry: entry[1])
    shown = ", ".join(f"{rmse:.3f}: {100 * curve.area():.2f}" for _, rmse, curve in found)
    best, worst = found[0][2], found[-1][2]
    # Every neighbour counts: the two ends alone would hide an order that fails between them.
    steps = [_gap(study, a[2], b[2], "all") for a, b in pairwise(found)]
    verdicts = {_verdict(step) for step in steps}
    ordered = "no" if "no" in verdicts else "level" if "level" in verdicts else "yes"
    high, low = _gap(study, best, worst, "high"), _gap(study, best, worst, "low")
    wider = "yes" if high.low > low.high else "no" if high.high < low.low else "level"
    return [
        (
            "Gates of lower RMSE give a better curve",
            "fig. 4",
            f"RMSE: area {shown}; each less the next {', '.join(map(_tell, steps))}",
            ordered,
            "Yes where every interval lies above zero, no where any lies below, else level.",
        ),
        (
            "The gap between good and bad gates is widest at high cost",
            "fig. 4",
            f"high {_tell(high)}, low {_tell(low)}",
            wider,
            "Yes or no where the two intervals do not overlap, level where they do.",
        ),
    ]


def _others(study: Study) -> list[Row]:
    quee, step = study.curve("QuEE on validation rows"), study.curve("Next step")
    high = _gap(study, quee, step, "high")
    rest = _gap(study, quee, step, "lower two thirds")
    rows = [
        (
            "Predicting only the next best step is level with QuEE at the highest cost",
            "sec. 7.3",
            f"QuEE less next step {_tell(high)}, high cost",
            {"level": "yes", "yes": "no", "no": "no"}[_verdict(high)],
            "The claim is a level: yes where the interval holds zero, no otherwise.",
        ),
        (
            "... and is quickly outperformed below it",
            "sec. 7.3",
            f"QuEE less next step {_tell(rest)}, lower two thirds",
            _verdict(rest),
            BY_INTERVAL[_verdict(rest)],
        ),
        _classes(study),
        (
            "SVHN: JEI-DNN is above QuEE, as quantisation is much weaker than exiting",
            "sec. 5.5",
            "SVHN is not at hand here",
            "not measured",
            "No data.",
        ),
        (
            "ImageNet with DINOv2: quantisation beats exiting, JEI-DNN is unstable",
            "sec. 5.5",
            "ImageNet is not at hand here",
            "not measured",
            "No data.",
        ),
    ]
    return rows


def _classes(study: Study) -> Row:
    claim = "On CIFAR-10 automobile and ship are quantised, dog and frog exit early"
    names = {name: code for code, name in enumerate(study.class_names)}
    wanted = ("automobile", "ship", "dog", "frog")
    if not set(wanted) <= set(names):
        return claim, "fig. 1", "other classes here", "not measured", "No such classes."
    low, high = study.curve("QuEE").cost_range
    _, paths = study.usage((low + high) / 2)
    codes = np.searchsorted(study.network.classes_, study.labels["test"])
    leaves = study.tree.depths[paths] < study.tree.n_exits
    shares = {name: float(leaves[codes == names[name]].mean()) for name in wanted}
    sides = [np.isin(codes, [names[a], names[b]]) for a, b in (("dog", "frog"), wanted[:2])]
    gap = leaves[sides[0]].mean() - leaves[sides[1]].mean()
    error = np.sqrt(sum(leaves[side].var() / side.sum() for side in sides))
    verdict = "yes" if gap > 1.96 * error else "no" if gap < -1.96 * error else "level"
    why = "Dog and frog less the others: yes or no beyond 1.96 standard errors of the difference."
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return claim, "fig. 1", f"share that leaves before the last exit: {told}", verdict, why


def _point(curve: CostCurve, point: int) -> CostCurve:
    rows = slice(point, point + 1)
    return CostCurve(
        curve.knobs[rows],
        curve.paths[rows],
        curve.correct[rows],
        curve.tree,
        knob=curve.knob,
        sample_weight=curve.sample_weight,
    )
