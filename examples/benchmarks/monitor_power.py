"""How soon a monitor sees a shift after a long calm, and how often it raises a false alarm.

``python examples/benchmarks/monitor_power.py`` feeds normal scores to the martingale of
:class:`skquee.monitoring.RouteMonitor`: rows until an alarm at 0.01 after calm streams of several
lengths, by the size of the shift; and the share of calm streams with any alarm.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from skquee.routers.monitoring._martingale import ConformalMartingale

SHIFTS = (0.5, 1.0, 2.0, 4.0)
N_REFERENCE, STEP, MOST = 1_000, 20, 20_000


def delay(n_calm: int, shift: float, seed: int, alpha: float = 0.01) -> float:
    """Return rows after the shift until an alarm, in steps of 20; infinity where none came."""
    rng = np.random.default_rng(seed)
    martingale = ConformalMartingale(rng.normal(size=N_REFERENCE), seed)
    martingale.update(rng.normal(size=n_calm))
    if martingale.log_peak >= -np.log(alpha):
        return float("nan")  # a false alarm
    for rows in range(STEP, MOST + 1, STEP):
        martingale.update(rng.normal(shift, 1, size=STEP))
        if martingale.log_peak >= -np.log(alpha):
            return rows
    return float("inf")


def any_alarm(n_rows: int, seed: int, alphas: tuple[float, ...]) -> list[bool]:
    """Return whether a calm stream ever raised an alarm at each level."""
    rng = np.random.default_rng([seed, 1])
    martingale = ConformalMartingale(rng.normal(size=N_REFERENCE), seed)
    martingale.update(rng.normal(size=n_rows))
    return [martingale.log_peak >= -np.log(alpha) for alpha in alphas]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    run = Parallel(n_jobs=given.n_jobs)
    settings = [(n, shift) for n in (100, 1_000, 10_000, 200_000) for shift in SHIFTS]
    jobs = [(*s, seed) for s in settings for seed in range(given.repeats)]
    found = np.array(run(delayed(delay)(*job) for job in jobs)).reshape(-1, given.repeats)
    lines = [
        {"calm rows": n, "shift": shift, "median rows": np.nanmedian(d), "most": np.nanmax(d)}
        for (n, shift), d in zip(settings, found, strict=True)
    ]
    print(pd.DataFrame(lines).to_string(index=False))
    alphas = (0.01, 0.05, 0.2)
    for n_rows in (1_000, 10_000):
        alarms = run(delayed(any_alarm)(n_rows, seed, alphas) for seed in range(given.streams))
        shares = dict(zip(alphas, np.mean(alarms, axis=0).round(4).tolist(), strict=True))
        print(f"{given.streams} calm streams of {n_rows} rows: share with any alarm {shares}")


if __name__ == "__main__":
    main()
