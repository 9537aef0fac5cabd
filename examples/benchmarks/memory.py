"""Memory that fits and curves take beside a table that is mapped from a file, at several sizes.

``python examples/benchmarks/memory.py`` writes tables of 10 paths and 100 classes in float32 and
prints the peak of the process's own (anonymous) memory, above what it held before each call, as
Linux counts it, sampled every 5 ms. Takes some minutes and 1 GB of disk.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skquee import CostAwareRouter, PathProbabilities, PathTree
from skquee.baselines import ThresholdRouter

TREE, N_CLASSES, PART = PathTree.chain([1.0] * 10), 100, 5000
ROUTERS = {
    "ThresholdRouter": ThresholdRouter,
    'CostAwareRouter(regressor="logistic")': lambda: CostAwareRouter(
        regressor="logistic", random_state=0
    ),
}


def written(file: Path, n_samples: int) -> tuple[PathProbabilities, np.ndarray]:
    """Write a table whose later paths know more, part by part, and map it."""
    rng = np.random.default_rng(0)
    shape = (n_samples, TREE.n_paths, N_CLASSES)
    values = np.lib.format.open_memmap(file, "w+", dtype=np.float32, shape=shape)
    y = rng.integers(N_CLASSES, size=n_samples)
    for start in range(0, n_samples, PART):
        labels = y[start : start + PART]
        some = rng.random((len(labels), *shape[1:]), dtype=np.float32) ** 4
        some[np.arange(len(labels)), :, labels] += rng.random((len(labels), 1)) * np.arange(1, 11)
        values[start : start + PART] = some / some.sum(axis=2, keepdims=True)
    values.flush()
    return PathProbabilities(np.load(file, mmap_mode="r"), TREE), y


def own_mib() -> float:
    """Return the memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text(encoding="utf8")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def peak_of(call: Callable[[], object]) -> tuple[object, float]:
    """Return what a call returns, and the peak of own memory above that before it."""
    gc.collect()
    before = own_mib()
    seen, done = [before], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(own_mib())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    found = call()
    done.set()
    thread.join()
    return found, max(seen) - before


def peaks(make: Callable, table: PathProbabilities, y: np.ndarray) -> tuple[float, float]:
    """Return the peaks of a fit and of its curve, after a small one has imported all."""
    make().fit(table[:300], y[:300]).cost_curve(X=table[:300], y=y[:300])
    router, fit = peak_of(lambda: make().fit(table, y))
    _, curve = peak_of(lambda: router.cost_curve(X=table, y=y))
    return fit, curve


def main() -> None:
    """Print a line for each size and router."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[15_000, 60_000, 240_000])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for n_samples in options.sizes:
            table, y = written(Path(folder, "table.npy"), n_samples)
            for name, make in ROUTERS.items():
                fit, curve = peaks(make, table, y)
                size = table.dtype.itemsize * np.prod(table.shape) / 2**20
                print(
                    f"{n_samples:,} rows ({size:.0f} MiB), {name}: fit {fit:.0f} MiB, "
                    f"cost_curve {curve:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
