"""How often intervals cover what is true: simulations on made tables.

``python examples/benchmarks/interval_coverage.py`` draws rows from 58,000 that three routers have
not seen, whose curves on all of them count as the truth, and prints the share of draws whose
95 % interval covers it, and the interval's mean width: of areas, accuracies at mean costs, mean
costs at an accuracy, and of single operating points; of each router, and of the differences between
routers on the same rows (``compare``). Then how often any difference is found, after the correction
for many, among routers that do not differ: each row of each is drawn from two routers at random.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from skquee import CostAwareRouter, PathProbabilities
from skquee.baselines import ThresholdRouter
from skquee.evaluation import CostCurve, bootstrap_interval, compare, subset_interval
from skquee.testing import make_path_probabilities

N_FIT, N_POPULATION = 2_000, 60_000
N_NULLS = 4


def population(ease: float) -> dict[str, CostCurve]:
    """Return the routers' curves on all rows; the more `ease`, the fewer errors."""
    X, y = make_path_probabilities(N_POPULATION)
    logits = np.log(np.asarray(X) + 1e-12)
    logits[np.arange(len(y)), :, y] += ease
    values = np.exp(logits)
    X = PathProbabilities(values / values.sum(axis=2, keepdims=True), X.paths)
    logistic = {"targets": "bernoulli", "regressor": "logistic", "random_state": 0}
    routers = {
        "router": CostAwareRouter(**logistic),
        "its twin": CostAwareRouter(features="paper", **logistic),
        "threshold": ThresholdRouter(),
    }
    return {
        name: router.fit(X[:N_FIT], y[:N_FIT]).cost_curve(None, X[N_FIT:], y[N_FIT:])
        for name, router in routers.items()
    }


def of_rows(curve: CostCurve, rows: np.ndarray) -> CostCurve:
    """Return the curve on some rows."""
    return CostCurve(curve.knobs, curve.paths[:, rows], curve.correct[:, rows], curve.tree)


def mixed(curves: list[CostCurve], rng: np.random.Generator) -> CostCurve:
    """Return a curve whose rows are each those of one of two curves, by chance."""
    first, second = curves
    ours = rng.random(first.paths.shape[1]) < 0.5
    return CostCurve(
        first.knobs,
        np.where(ours, first.paths, second.paths),
        np.where(ours, first.correct, second.correct),
        first.tree,
    )


def coverage(ease: float, n_rows: int, n_draws: int, n_resamples: int) -> list[dict[str, object]]:
    """Return coverage and width of all intervals for one setting."""
    whole = population(ease)
    low = max(curve.cost.min() for curve in whole.values())
    high = max(curve.cost_range[1] for curve in whole.values())
    best = min(curve.accuracy.max() for curve in whole.values())
    start = max(curve.accuracy_at(low * (1 + 1e-9)) for curve in whole.values())
    places = {
        "at_cost": [low + share * (high - low) for share in (0.05, 0.2, 0.5)],
        "at_accuracy": [(start + best) / 2],
        "cost_range": (low, high),
        "n_resamples": n_resamples,
    }
    told = compare(whole, None, **{**places, "n_resamples": 1})
    truth = {place: (line["value"], line["difference"]) for place, line in told.iterrows()}
    points_of = {name: curve.accuracy for name, curve in whole.items()}
    rng = np.random.default_rng(1)
    names = [*told.index.unique("measure"), "by subsets", "point"]
    found: dict[tuple[str, str, str], list[tuple[float, bool, float]]] = {}
    false_finds = []
    for seed in range(n_draws):
        rows = rng.choice(next(iter(whole.values())).paths.shape[1], n_rows, replace=False)
        curves = {name: of_rows(curve, rows) for name, curve in whole.items()}
        table = compare(curves, None, **places, random_state=seed)

        def note(key: tuple[str, str, str], value: float, low: float, high: float, true: float):
            if np.isfinite(value):
                found.setdefault(key, []).append((value - true, low <= true <= high, high - low))

        for (measure, name), line in table.iterrows():
            value, difference = truth[(measure, name)]
            note((measure, name, ""), line["value"], line["low"], line["high"], value)
            if name != "router":
                note(
                    (measure, "router less", name),
                    line["difference"],
                    line["difference_low"],
                    line["difference_high"],
                    difference,
                )
        for name, curve in curves.items():
            k = len(curve) // 2
            frame = bootstrap_interval(curve, n_resamples=n_resamples, random_state=seed)
            points = frame.loc[k, ["accuracy", "accuracy_low", "accuracy_high"]]
            note(("point", name, ""), *points, points_of[name][k])
            area = subset_interval(curve, cost_range=(low, high), random_state=seed).attrs["area"]
            note(("by subsets", name, ""), *area.values(), truth[("area", name)][0])
        pair = [curves["router"], curves["its twin"]]
        nulls = {str(i): mixed(pair, rng) for i in range(N_NULLS)}
        false_finds.append(compare(nulls, None, **places)["p_adjusted"].min() <= 0.05)
    lines = []
    for measure in names:
        for (its, first, second), values in found.items():
            if its == measure:
                bias, covers, _ = np.mean(values, axis=0)
                widths = [width for *_, width in values if np.isfinite(width)] or [np.inf]
                lines.append(
                    {
                        "ease": ease,
                        "rows": n_rows,
                        "what": measure,
                        "of": f"{first} {second}".strip(),
                        "draws": len(values),
                        "bias": round(float(bias), 4),
                        "covers": round(float(covers), 3),
                        "width": round(float(np.median(widths)), 4),
                    }
                )
    lines.append(
        {"ease": ease, "rows": n_rows, "what": "any false find", "covers": np.mean(false_finds)}
    )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    settings = [(ease, n_rows) for ease in (0.0, 2.5) for n_rows in (100, 300, 1000)]
    parts = Parallel(n_jobs=given.n_jobs, return_as="generator")(
        delayed(coverage)(*setting, given.draws, given.resamples) for setting in settings
    )
    lines: list[dict[str, object]] = []
    for part in parts:
        print(pd.DataFrame(part).to_string(index=False), flush=True)
        lines += part
    table = pd.DataFrame(lines)
    table["what"] = table["what"].str.replace(r" at [0-9.]+.*", "", regex=True)
    grouped = table.assign(difference=table["of"].astype(str).str.startswith("router less"))
    print(grouped.groupby(["difference", "what"], sort=False)["covers"].agg(["min", "mean", "max"]))


if __name__ == "__main__":
    main()
