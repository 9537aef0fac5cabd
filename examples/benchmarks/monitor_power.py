"""How soon a monitor sees a shift after a long calm, and how often it raises a false alarm.

``python examples/benchmarks/monitor_power.py`` feeds the monitor of a router with three streams, as
:class:`skquee.monitoring.RouteMonitor` has them, and prints rows until an alarm at 0.01 after calm
streams of several lengths, by the size of the shift, for normal scores and for costs, which take
three values and tie; then the share of calm streams with any alarm, short ones and long ones.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from skquee.routers.monitoring._martingale import ConformalMartingale

SHIFTS = (0.5, 1.0, 2.0, 4.0)
N_REFERENCE, STEP, MOST = 1_000, 20, 20_000
# Of a monitor: each of its streams alarms at alpha over their number.
N_STREAMS, ALPHA = 3, 0.01
# Costs of a cascade's three paths, and how often each is taken: mean 2.3, deviation 3.
COSTS, SHARES = np.array([1.0, 3.0, 13.0]), np.array([0.7, 0.24, 0.06])


def scores(kind: str, n: int, shift: float, rng: np.random.Generator) -> np.ndarray:
    """Return scores whose mean lies `shift` standard deviations above calm ones'."""
    if kind == "normal":
        return rng.normal(shift, 1, size=n)
    deviation = float(np.sqrt(SHARES @ (COSTS - SHARES @ COSTS) ** 2))
    # Rows move from the cheapest path to the dearest, as far as there are any.
    moved = min(SHARES[0], shift * deviation / (COSTS[-1] - COSTS[0]))
    return rng.choice(COSTS, size=n, p=SHARES + np.array([-moved, 0.0, moved]))


def delay(kind: str, n_calm: int, shift: float, seed: int) -> float:
    """Return rows after the shift until an alarm, in steps of 20; infinity where none came."""
    rng = np.random.default_rng(seed)
    martingale = ConformalMartingale(scores(kind, N_REFERENCE, 0, rng), seed)
    martingale.update(scores(kind, n_calm, 0, rng))
    limit = np.log(N_STREAMS / ALPHA)
    if martingale.log_peak >= limit:
        return float("nan")  # a false alarm
    for rows in range(STEP, MOST + 1, STEP):
        martingale.update(scores(kind, STEP, shift, rng))
        if martingale.log_peak >= limit:
            return rows
    return float("inf")


def peak(kind: str, n_rows: int, seed: int) -> float:
    """Return the greatest logarithm of a calm stream's martingale."""
    rng = np.random.default_rng([seed, 1])
    martingale = ConformalMartingale(scores(kind, N_REFERENCE, 0, rng), seed)
    martingale.update(scores(kind, n_rows, 0, rng))
    return martingale.log_peak


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--long-streams", type=int, default=100)
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    run = Parallel(n_jobs=given.n_jobs)
    settings = [
        (kind, n, shift)
        for kind in ("normal", "costs")
        for n in (100, 10_000, 200_000)
        for shift in (SHIFTS if kind == "normal" else SHIFTS[:2])
    ]
    jobs = [(*s, seed) for s in settings for seed in range(given.repeats)]
    found = np.array(run(delayed(delay)(*job) for job in jobs)).reshape(-1, given.repeats)
    lines = [
        {
            "scores": kind,
            "calm rows": n,
            "shift": shift,
            "median rows": np.nanmedian(d),
            "most": np.nanmax(d),
            "false alarms before": int(np.isnan(d).sum()),
        }
        for (kind, n, shift), d in zip(settings, found, strict=True)
    ]
    print(pd.DataFrame(lines).to_string(index=False), flush=True)
    for kind in ("normal", "costs"):
        for n_rows, streams in ((1_000, given.streams), (200_000, given.long_streams)):
            peaks = run(delayed(peak)(kind, n_rows, seed) for seed in range(streams))
            shares = {
                alpha: round(float(np.mean(np.array(peaks) >= -np.log(alpha))), 4)
                for alpha in (0.01, 0.05, 0.2)
            }
            print(f"{streams} calm streams of {n_rows} {kind} rows: any alarm {shares}", flush=True)


if __name__ == "__main__":
    main()
