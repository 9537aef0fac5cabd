"""How often the interval of an area covers the true area: simulations on made tables.

``python examples/benchmarks/interval_coverage.py`` draws rows from 58,000 that a router has not
seen, whose area counts as the true one, and prints the share of draws whose 95 % interval covers
it, and the interval's mean width, for ten subsets (the paper's) and the corrected bootstrap.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from skquee import CostAwareRouter, PathProbabilities
from skquee.baselines import ThresholdRouter
from skquee.evaluation import CostCurve, bootstrap_interval, subset_interval
from skquee.testing import make_path_probabilities

N_FIT, N_POPULATION = 2_000, 60_000


def population(method: str, ease: float) -> CostCurve:
    """Return a router's curve on all rows; the more `ease`, the fewer errors."""
    X, y = make_path_probabilities(N_POPULATION)
    logits = np.log(np.asarray(X) + 1e-12)
    logits[np.arange(len(y)), :, y] += ease
    values = np.exp(logits)
    X = PathProbabilities(values / values.sum(axis=2, keepdims=True), X.paths)
    router = {
        "threshold": ThresholdRouter(),
        "router": CostAwareRouter(targets="bernoulli", regressor="logistic", random_state=0),
    }[method].fit(X[:N_FIT], y[:N_FIT])
    return router.cost_curve(None, X[N_FIT:], y[N_FIT:])


def coverage(method: str, ease: float, n_rows: int, n_draws: int) -> dict[str, object]:
    """Return coverage and width of both intervals for one setting."""
    whole = population(method, ease)
    reach = float(whole.cost.min()), whole.cost_range[1]
    truth = whole.area(reach)
    rng = np.random.default_rng(1)
    found = []
    for seed in range(n_draws):
        rows = rng.choice(whole.paths.shape[1], n_rows, replace=False)
        curve = CostCurve(whole.knobs, whole.paths[:, rows], whole.correct[:, rows], whole.tree)
        own = {"cost_range": reach, "random_state": seed}
        intervals = (
            subset_interval(curve, **own).attrs["area"],
            bootstrap_interval(curve, n_resamples=300, **own).attrs["area"],
        )
        found.append(
            [curve.area(reach) - truth]
            + [area["low"] <= truth <= area["high"] for area in intervals]
            + [area["high"] - area["low"] for area in intervals]
        )
    names = ["bias", "subsets cover", "bootstrap covers", "subsets' width", "bootstrap's width"]
    means = dict(zip(names, np.mean(found, axis=0).round(4).tolist(), strict=True))
    return {"method": method, "true area": round(truth, 3), "rows": n_rows, **means}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=600)
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    settings = [
        (method, ease, n_rows)
        for method in ("threshold", "router")
        for ease in (0.0, 2.5)
        for n_rows in (100, 300, 1000)
    ]
    lines = Parallel(n_jobs=given.n_jobs)(delayed(coverage)(*s, given.draws) for s in settings)
    print(pd.DataFrame(lines).to_string(index=False))


if __name__ == "__main__":
    main()
