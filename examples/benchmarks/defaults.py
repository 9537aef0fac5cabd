"""Which router is the default? It against a confidence threshold and the paper's, on every table.

``python examples/benchmarks/defaults.py`` prints a line a table. The threshold is chosen as a user
would, the sequence and measure that do best on the rows of fit, and in hindsight on the rows that
judge. Settings were tuned on the tables marked; the others judge. ``--family`` adds other members
of the family, to see what the choice is between.

Three measures. The area under the hull of all operating points on the rows that judge: it rewards
whoever brings many points, by their luck there. The area of those that are corners of the hull on
the rows of fit (for the default by routers that have not seen them): what a user could pick. And
error plus priced cost, every price's point picked on the rows of fit.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import decisions
import numpy as np
import pandas as pd
from _decision_tables import Split, tables
from decisions import TUNING, interval, thresholds, verdict
from joblib import Parallel, delayed
from scipy import stats
from sklearn.base import clone

from skquee import CostAwareRouter, PathTree
from skquee.answers import RecallAnswer
from skquee.baselines import FixedPath
from skquee.gates import PathErrorClassifier
from skquee.router import default_router
from skquee.routers._default import fit_judged
from skquee.testing import make_path_probabilities

# Members of the family that the default was chosen from, by what differs from it.
FAMILY = {
    "last exit answers": {"answer": "last"},
    "together": {"answer": "ensemble"},
    "penalty 1": {"regressor": PathErrorClassifier(penalty=1), "answer": RecallAnswer(penalty=1)},
}
MEASURES = {
    "area": "Area under the hull of all points",
    "kept area": "Area of the points that are corners on the rows of fit",
    "loss": "Error + lambda x cost, mean over lambda in 0.01 to 1",
}


def methods(split: Split, seed: int, *, family: bool) -> dict[str, object]:
    """Return the methods of one split, not fitted."""
    others = FAMILY if family else {}
    made = {
        name: default_router(random_state=seed, **changes)
        for name, changes in {"default": {}, **others}.items()
    }
    return {
        **made,
        "paper": CostAwareRouter(random_state=seed, validation_fraction=0),
        "fixed paths": FixedPath(),
        **thresholds(split.fit.paths),
    }


def judge(fitted: object, split: Split) -> dict[str, float]:
    """Return what :func:`decisions.judge` does, and of open routers the area of kept points."""
    found = decisions.judge(fitted, split)
    if getattr(fitted, "lambda_", 0) is None:
        judged = fit_judged(clone(fitted), split.fit, split.y_fit, None, cv=3, seed=0)
        seen = judged.router.cost_curve()
        curve = judged.router.cost_curve(None, split.test, split.y_test)
        found["kept area"] = decisions.kept_area(seen, curve)
        found["area"] = curve.area()
    return found


def chosen_threshold(part: pd.DataFrame, value: str) -> pd.Series:
    """Return what the threshold that does best on the rows of fit gets, for every split."""
    rivals = part[part["kind"] == "threshold"]
    if rivals.empty:  # two paths and no gate between: one path for all, or a mixture
        rivals = part[part["method"] == "fixed paths"]
    sign = -1 if value == "loss" else 1
    seen = "fit loss" if value == "loss" else "fit area"
    best = (sign * rivals[seen]).groupby(rivals["seed"]).idxmax()
    return rivals.loc[best].set_index("seed")[value]


def against(found: pd.DataFrame, value: str, method: str = "default") -> pd.DataFrame:
    """Return a method less its rivals, in points (more is better), with intervals over splits."""
    sign = -1 if value == "loss" else 1
    lines, p_values = [], []
    for table, part in found.groupby("table", sort=False):
        part = part.reset_index(drop=True)
        wide = part.pivot(index="seed", columns="method", values=value)
        singles = [m for m in wide if m.startswith("threshold")] or ["fixed paths"]
        hindsight = (sign * wide[singles].mean()).idxmax()
        rivals = {
            "chosen threshold": chosen_threshold(part, value),
            "in hindsight": wide[hindsight],
            "paper": wide["paper"],
        }
        rivals = {name: rival for name, rival in rivals.items() if rival.notna().all()}
        line = {
            "table": table,
            "tuned": "yes" if table in TUNING else "",
            value: wide[method].mean(),
        }
        for title, rival in rivals.items():
            gain = 100 * sign * (wide[method] - rival).to_numpy()
            low, high = interval(gain)
            line[title] = f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f}) {verdict(low, high)}"
            if title == "chosen threshold":
                p_values.append(stats.ttest_1samp(gain, 0).pvalue if len(gain) > 1 else np.nan)
        lines.append(line)
    frame = pd.DataFrame(lines).set_index("table")
    frame.insert(3, "p (Holm)", holm(np.array(p_values)))
    return frame


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number, by Holm's method."""
    order = np.argsort(p_values)
    scaled = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    out = np.empty(len(p_values))
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out


def seconds_of_fit() -> dict[str, float]:
    """Return what a fit on 3,000 rows of three models takes, the middle of five."""
    tree = PathTree.chain([0.5, 2, 30], names=["small", "middle", "large"])
    table, y = make_path_probabilities(3000, tree, n_classes=3)
    calls = {
        "paper's router": lambda: CostAwareRouter(random_state=0).fit(table, y),
        "default router": lambda: default_router(0.1).fit(table, y),
        "default, every row judged by another": lambda: fit_judged(
            default_router(), table, y, None, cv=3, seed=0
        ),
    }
    found = {}
    for name, call in calls.items():
        call()
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
        found[name] = float(np.median(taken))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--n-fit", type=int, default=2000)
    parser.add_argument("--n-test", type=int, default=5000)
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--family", action="store_true")
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
    for table, make in makers.items():
        make(0)  # what is slow to make is kept
        done = Parallel(n_jobs=options.n_jobs)(
            delayed(decisions.one_split)(
                make, table, seed, partial(methods, family=options.family), judge
            )
            for seed in range(options.splits)
        )
        parts.append(pd.DataFrame([row for rows in done for row in rows]))
        if options.out is not None:  # a long run that is interrupted loses one table
            options.out.mkdir(parents=True, exist_ok=True)
            pd.concat(parts).to_csv(options.out / "defaults.csv", index=False, float_format="%.6g")
        print(f"{table}: done", flush=True)
    found = pd.concat(parts, ignore_index=True)
    pd.set_option("display.width", 200)
    ours = ["default", *(FAMILY if options.family else ())]
    for value, title in MEASURES.items():
        for method in ours:
            print(f"\n{title}; {method} less theirs, points, more is better (95 % over splits)")
            print(against(found, value, method).to_string(float_format="{:.4f}".format))
    print("\nseconds of a fit, median over tables and splits")
    print(found[found["method"].isin([*ours, "paper"])].groupby("method")["seconds"].median())
    print("\nseconds of a fit on 3,000 rows x 3 models, median of five")
    for name, seconds in seconds_of_fit().items():
        print(f"  {name:<40}{seconds:.2f}")


if __name__ == "__main__":
    main()
