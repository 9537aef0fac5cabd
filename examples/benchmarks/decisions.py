"""Does the router decide better? Every table at hand, ten splits, against every baseline.

``python examples/benchmarks/decisions.py`` prints three tables and writes them as CSV with
``--out folder``. Tables that the search's candidates were chosen on are marked; the others judge.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _decision_tables import Split, tables
from joblib import Parallel, delayed

from skquee import AutoRouter, CostAwareRouter, PathTree
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.evaluation import CostCurve, hull_points
from skquee.evaluation._curve import hull_area

TUNING = ("FERPLUS", "subj", "cifar100, exits")
LAMBDAS = np.geomspace(0.01, 1, 25)


def thresholds(tree: PathTree) -> dict[str, object]:
    """Return a confidence threshold for every sequence and measure, not fitted."""
    found: dict[str, object] = {}
    for path in np.flatnonzero(tree.depths > 1).tolist():
        if tree.depths[path] == tree.n_exits or tree.n_paths < 20:
            name = tree.names[path]
            for measure in ("max_probability", "margin", "entropy"):
                found[f"threshold {measure} {name}"] = ThresholdRouter(measure=measure, along=name)
    return found


def methods(split: Split, seed: int) -> dict[str, object]:
    """Return every method, not fitted; the first is ours."""
    return {
        "auto": AutoRouter(random_state=seed),
        "paper": CostAwareRouter(random_state=seed, validation_fraction=0),
        # Recall over learned errors of supermodels, replanned after each (Dekoninck et al. 2025).
        "cascade routing": CostAwareRouter(
            targets="bernoulli",
            regressor="logistic",
            features="rich",
            answer="recall",
            random_state=seed,
            validation_fraction=0,
        ),
        "fixed paths": FixedPath(),
        "oracle": OracleRouter(),  # knows the labels: what could be gained at most
        **thresholds(split.fit.paths),
    }


def joint_thresholds(split: Split) -> tuple[float, float]:
    """Return area and mean loss of a threshold for each stage, all combinations of ten.

    What scikit-fallback's ThresholdCascadeClassifierCV searches: those that no other beats on
    the rows of fit, along the sequence that visits the most classifiers.
    """
    tree = split.fit.paths
    line = tree.prefixes(tree.fullest)
    grid = np.linspace(1 / split.fit.shape[2], 0.95, 10)
    combinations = np.array(list(itertools.product(grid, repeat=len(line) - 1)))
    found = []
    for table, y in ((split.fit, split.y_fit), (split.test, split.y_test)):
        sure = np.stack([table.path(p).max(axis=1) for p in line])
        right = np.stack([table.path(p).argmax(axis=1) for p in line])
        right = right == np.searchsorted(table.paths.classes, y)
        at = np.full((len(combinations), len(y)), len(line) - 1)
        for stage in range(len(line) - 2, -1, -1):
            at = np.where(sure[stage] >= combinations[:, stage : stage + 1], stage, at)
        accuracy = right[at, np.arange(len(y))].mean(axis=1)
        found.append((accuracy, tree.path_costs[line][at].mean(axis=1)))
    (seen, paid), (accuracy, cost) = found
    chosen = (1 - seen + LAMBDAS[:, None] * paid).argmin(axis=1)
    corners = np.isin(np.stack([paid, seen], axis=1), np.stack(hull_points(paid, seen), axis=1))
    kept = corners.all(axis=1)
    area = hull_area(*hull_points(cost[kept], accuracy[kept]), tree.path_costs.min(), 1.0)
    return area, float((1 - accuracy[chosen] + LAMBDAS * cost[chosen]).mean())


def judge(fitted: object, split: Split) -> dict[str, float]:
    """Return area and mean loss on the rows to judge; of baselines also on the rows of fit."""
    if isinstance(fitted, (ThresholdRouter, FixedPath)):
        # Baselines choose their knob on the rows of fit, and sweep the same grid.
        grid = fitted.search_knobs(split.fit)
        seen = fitted.cost_curve(grid, split.fit, split.y_fit)
        curve = fitted.cost_curve(grid, split.test, split.y_test)
        loss = 1 - seen.accuracy + LAMBDAS[:, None] * seen.cost
        chosen = loss.argmin(axis=1)
        priced = 1 - curve.accuracy[chosen] + LAMBDAS * curve.cost[chosen]
        own = {
            "fit area": seen.area(),
            "fit loss": loss.min(axis=1).mean(),
            "kept area": kept_area(seen, curve),
        }
    else:
        curve = fitted.cost_curve(None, split.test, split.y_test)
        at = fitted.cost_curve(LAMBDAS, split.test, split.y_test)
        priced, own = 1 - at.accuracy + LAMBDAS * at.cost, {}
    points = len(np.unique(np.stack([curve.cost, curve.accuracy]), axis=1).T)
    return {"area": curve.area(), "loss": priced.mean(), "points": points, **own}


def kept_area(seen: CostCurve, curve: CostCurve) -> float:
    """Return the area on rows to judge of the operating points that are corners on others."""
    corners = np.stack(seen.hull(), axis=1)
    points = np.stack([seen.cost, seen.accuracy], axis=1)
    kept = (points[:, None] == corners).all(axis=2).any(axis=1)
    return hull_area(*hull_points(curve.cost[kept], curve.accuracy[kept]), *curve.cost_range)


def one_split(
    make, table: str, seed: int, methods=methods, judge=judge, only: tuple[str, ...] = ()
) -> list[dict]:
    """Fit every method, or `only` some, on one split and judge it."""
    split = make(seed)
    costs = split.fit.paths.path_costs
    normal = split.fit.paths.with_costs(costs / costs.max())
    split.fit, split.test = split.fit.with_paths(normal), split.test.with_paths(normal)
    rows = []
    for name, method in methods(split, seed).items():
        if only and name not in only:
            continue
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = method.fit(split.fit, split.y_fit)
            seconds = time.perf_counter() - began
            found = judge(fitted, split)
        rows.append(
            {
                "table": table,
                "seed": seed,
                "method": name,
                "kind": name.split()[0],
                **found,
                "seconds": seconds,
                "chosen": getattr(fitted, "best_name_", ""),
                "n_fit": len(split.y_fit),
            }
        )
    if normal.n_exits > 1 and not only:
        height, loss = joint_thresholds(split)
        new = {"method": "joint thresholds", "kind": "joint", "area": height, "loss": loss}
        rows.append({**rows[-1], **new, "chosen": ""})
    return rows


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of a mean over splits."""
    random = np.random.default_rng(0)
    means = random.choice(values, size=(4000, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def verdict(low: float, high: float) -> str:
    return "above" if low > 0 else "below" if high < 0 else "level"


def compare(found: pd.DataFrame, value: str, sign: float) -> pd.DataFrame:
    """Return ours less each rival, in points, with intervals over splits."""
    lines = []
    for table, part in found.groupby("table", sort=False):
        wide = part.pivot(index="seed", columns="method", values=value) * sign
        singles = [m for m in wide if m not in ("auto", "cascade routing", "oracle")]
        # Language models: two paths and no gate between.
        rivals = {
            "best baseline": wide[singles].mean().idxmax(),
            "paper": "paper",
            "cascade routing": "cascade routing",
            "joint thresholds": "joint thresholds",
        }
        line = {"table": table, "tuned on": "yes" if table in TUNING else ""}
        line["auto"] = sign * wide["auto"].mean()
        for title, rival in rivals.items():
            if rival not in wide:
                continue
            gain = 100 * (wide["auto"] - wide[rival]).to_numpy()
            low, high = interval(gain)
            if title == "best baseline":
                line["the best"] = rival
            line[title] = f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f}) {verdict(low, high)}"
        lines.append(line)
    return pd.DataFrame(lines).set_index("table")


def gap_shares(found: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the oracle gap that methods close, as of ``oracle_share``."""
    lines = {}
    for table, part in found.groupby("table", sort=False):
        wide = part.pivot(index="seed", columns="method", values="area")
        gap = wide["oracle"] - wide["fixed paths"]
        ours = (wide["auto"] - wide["fixed paths"]) / gap
        low, high = interval(ours.to_numpy())
        others = wide.drop(columns=["auto", "oracle"]).sub(wide["fixed paths"], axis=0)
        shares = others.div(gap, axis=0).mean()
        lines[table] = {
            "gap, points": 100 * gap.mean(),
            "auto": f"{ours.mean():.3f} ({low:.3f} to {high:.3f})",
            "paper": shares["paper"],
            "best baseline": shares.max(),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--n-fit", type=int, default=2000)
    parser.add_argument("--n-test", type=int, default=5000)
    parser.add_argument("--tables", nargs="+")
    parser.add_argument(
        "--methods", nargs="+", default=(), help="measured anew; --out keeps its other rows"
    )
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    makers = tables(options.n_fit, options.n_test)
    if options.tables:
        makers = {name: makers[name] for name in options.tables}
    if not makers:
        print("No table is at hand: see examples/_data.py.")
        return
    parts = []
    if options.methods and options.out is not None and (options.out / "decisions.csv").exists():
        old = pd.read_csv(options.out / "decisions.csv")
        parts.append(old[~(old["method"].isin(options.methods) & old["table"].isin(makers))])
    for table, make in makers.items():
        make(0)  # what is slow to make is kept
        began = time.perf_counter()
        done = Parallel(n_jobs=options.n_jobs)(
            delayed(one_split)(make, table, seed, only=tuple(options.methods))
            for seed in range(options.splits)
        )
        parts.append(pd.DataFrame([row for rows in done for row in rows]))
        if options.out is not None:  # a long run that is interrupted loses one table
            options.out.mkdir(parents=True, exist_ok=True)
            rows = pd.concat(parts)
            rows.to_csv(options.out / "decisions.csv", index=False, float_format="%.6g")
        ours = parts[-1][parts[-1]["method"] == "auto"]
        print(
            f"{table}: {ours['n_fit'].iloc[0]} rows to fit on, {time.perf_counter() - began:.0f} s "
            f"for {options.splits} splits; chosen: {ours['chosen'].value_counts().to_dict()}",
            flush=True,
        )
    found = pd.concat(parts)
    if not {"auto", "oracle", "fixed paths"} <= set(found["method"]):
        return  # nothing to compare
    print("\nArea under the hull, ours less theirs, points (95 % over splits)")
    by_area = compare(found, "area", 1)
    print(by_area.to_string(float_format="{:.4f}".format))
    print("\nError + lambda x cost, mean over lambda in 0.01 to 1, theirs less ours, points")
    by_loss = compare(found, "loss", -1)
    print(by_loss.to_string(float_format="{:.4f}".format))
    by_gap = gap_shares(found)
    print("\nShare of the oracle gap: (area - fixed paths') / (oracle's - fixed paths')")
    print(by_gap.to_string(float_format="{:.3f}".format))
    if options.out is not None:
        by_gap.to_csv(options.out / "gap.csv", float_format="%.5f")
        by_area.to_csv(options.out / "area.csv", float_format="%.5f")
        by_loss.to_csv(options.out / "loss.csv", float_format="%.5f")


if __name__ == "__main__":
    main()
