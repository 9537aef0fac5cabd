"""Benchmarks of the routing core: one command prints every figure.

Run ``python examples/benchmarks/core.py`` (about 15 minutes, 8 GB of disk for the large
table), or name the parts wanted: ``fit-small fit-large route-small route-large curve gate auto
lazy``.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skquee import AutoRouter, CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.testing import TableNetwork, make_path_probabilities

SMALL = PathTree.from_levels(n_exits=3, levels=(5, 6, 7, 8))  # 15 paths
LARGE = PathTree.from_levels(n_exits=5, levels=(6, 7, 8))  # 35 paths


def seconds(call, repeats: int = 5) -> tuple[float, float, float]:
    """Return minimum, median and maximum of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times), float(np.median(times)), max(times)


def report(name: str, value: str, goal: str) -> None:
    print(f"{name:<58} {value:<44} goal: {goal}", flush=True)


def large_table(file: Path, n_samples: int = 50_000) -> np.ndarray:
    """Write 50,000 x 35 x 1000 float16 probabilities in parts and map them."""
    rng = np.random.default_rng(0)
    values = np.lib.format.open_memmap(
        file, mode="w+", dtype=np.float16, shape=(n_samples, LARGE.n_paths, 1000)
    )
    y = rng.integers(1000, size=n_samples)
    skill = (2 + 8 * LARGE.path_costs).astype(np.float32)
    for start in range(0, n_samples, 1000):
        rows = slice(start, start + 1000)
        ease = rng.gamma(2.0, 0.5, size=1000).astype(np.float32)
        logits = np.repeat(rng.standard_normal((1000, 1, 1000), dtype=np.float32), 35, axis=1)
        logits[:, :, :200] += 0.5 * rng.standard_normal((1000, 35, 200), dtype=np.float32)
        logits[np.arange(1000), :, y[rows]] += ease[:, None] * skill
        logits -= logits.max(axis=2, keepdims=True)
        np.exp(logits, out=logits)
        values[rows] = logits / logits.sum(axis=2, keepdims=True)
    values.flush()
    np.save(file.with_suffix(".y.npy"), y)
    return y


def fit_small() -> None:
    table, y = make_path_probabilities(45_000, SMALL, n_classes=10)
    for n_jobs in (1, 2):
        start = time.perf_counter()
        router = CostAwareRouter(random_state=0, n_jobs=n_jobs).fit(table, y)
        took = time.perf_counter() - start
        epochs = [r["n_epochs"] for r in router.regressor_.reports_]
        report(
            f"fit 45,000 x 15 x 10, n_jobs={n_jobs}", f"{took:.1f} s (epochs {epochs})", "< 60 s"
        )


def fit_large(folder: Path) -> None:
    file = folder / "large.npy"
    y = np.load(file.with_suffix(".y.npy")) if file.exists() else large_table(file)
    # A process of its own, so that the peak is that of the fit.
    code = (
        "import sys, time, resource, numpy as np; "
        "from skquee import CostAwareRouter, PathProbabilities, PathTree; "
        "tree = PathTree.from_levels(n_exits=5, levels=(6, 7, 8)); "
        f"X = PathProbabilities(np.load({str(file)!r}, mmap_mode='r'), tree); "
        f"y = np.load({str(file.with_suffix('.y.npy'))!r}); "
        "t = time.perf_counter(); "
        "r = CostAwareRouter(random_state=0).fit(X, y); "
        "took = time.perf_counter() - t; "
        "status = open('/proc/self/smaps_rollup').read(); "
        "anon = int(status.split('Anonymous:')[1].split()[0]) / 2**20; "
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20; "
        "print(took, peak, anon, [q['n_epochs'] for q in r.regressor_.reports_])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=3)
    size = file.stat().st_size / 2**30
    report(
        "fit 50,000 x 35 x 1000 float16, mapped, n_jobs=1",
        f"{float(out[0]):.0f} s, peak {float(out[1]):.2f} GiB, of it own {float(out[2]):.2f} "
        f"(file {size:.2f}), epochs {out[3].strip()}",
        "< 600 s, < 3 GiB above the file",
    )
    del y


def route_small() -> None:
    table, y = make_path_probabilities(20_000, SMALL, n_classes=10)
    values = PathProbabilities(np.asarray(table).astype(np.float32), SMALL)
    router = CostAwareRouter(random_state=0).fit(values[:5000], y[:5000])
    for lambda_ in (0.03, 0.3, 1.0):
        router.set_params(lambda_=lambda_)
        low, mid, high = seconds(lambda: router.route(values))
        cost = router.predict_cost(values).mean()
        report(
            f"route stored 15 x 10, lambda_={lambda_} (mean cost {cost:.2f})",
            f"{20_000 / mid:,.0f} /s ({20_000 / high:,.0f} to {20_000 / low:,.0f})",
            ">= 200,000 /s, one thread",
        )


def route_large() -> None:
    table, y = make_path_probabilities(2_000, LARGE, n_classes=1000)
    values = PathProbabilities(np.asarray(table).astype(np.float32), LARGE)
    router = CostAwareRouter(random_state=0).fit(values, y)
    for lambda_ in (0.01, 0.1, 1.0):
        router.set_params(lambda_=lambda_)
        low, mid, high = seconds(lambda: router.route(values))
        cost = router.predict_cost(values).mean()
        report(
            f"route stored 35 x 1000, lambda_={lambda_} (mean cost {cost:.2f})",
            f"{2_000 / mid:,.0f} /s ({2_000 / high:,.0f} to {2_000 / low:,.0f})",
            ">= 20,000 /s, one thread",
        )


def curve() -> None:
    table, y = make_path_probabilities(15_000, SMALL, n_classes=10)
    values = PathProbabilities(np.asarray(table).astype(np.float32), SMALL)
    router = CostAwareRouter(random_state=0).fit(values[:5000], y[:5000])
    test, labels = values[5000:], y[5000:]
    lambdas = np.geomspace(1e-3, 10, 100)
    low, mid, high = seconds(lambda: router.cost_curve(lambdas, test, labels))
    report(
        "cost_curve, 100 lambdas, 10,000 x 15 x 10",
        f"{mid:.2f} s ({low:.2f} to {high:.2f})",
        "< 1 s",
    )


def auto() -> None:
    table, y = make_path_probabilities(10_000, SMALL, n_classes=10)
    start = time.process_time()
    found = AutoRouter(random_state=0).fit(table, y)
    report(
        "AutoRouter.fit 10,000 x 15 x 10, time of one core",
        f"{time.process_time() - start:.0f} s (chosen: {found.best_name_})",
        "a quarter of 0.1.0's first build, side by side",
    )


def lazy() -> None:
    table, y = make_path_probabilities(2_000, SMALL)
    network = TableNetwork(table)
    router = CostAwareRouter(0.3, random_state=0).fit(table, y)
    network.blocks_run = 0
    routes = router.route(MultiPathClassifierBank(network).transform(np.arange(2_000)[:, None]))
    chosen = int(SMALL.depths[routes.paths].sum())
    report("blocks run by lazy predict", f"{network.blocks_run} of {chosen} chosen", "equal")


def gate() -> None:
    """Time the gate against one block of ViT-S width, batch 64, one thread."""
    import timm
    import torch

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("vit_small_patch16_224", pretrained=False).eval()
    tokens = torch.randn(64, 197, 384)
    with torch.inference_mode():
        block = seconds(lambda: network.blocks[0](tokens))
    for tree, n_classes in ((SMALL, 10), (LARGE, 1000)):
        table, y = make_path_probabilities(2_000, tree, n_classes=n_classes)
        values = PathProbabilities(np.asarray(table).astype(np.float32), tree)
        router = CostAwareRouter(0.1, random_state=0).fit(values, y)
        now = values[:64].path(0)
        at = np.zeros(64, dtype=np.intp)
        took = seconds(lambda r=router, a=at, n=now: list(r.regressor_.judge(a, [n])), 50)
        report(
            f"gate / one ViT-S block, batch 64, {tree.n_paths} x {n_classes}",
            f"{100 * took[1] / block[1]:.2f} % ({1e6 * took[1]:.0f} us of {1e3 * block[1]:.0f} ms)",
            "< 2 %",
        )


def main() -> None:
    parts = [
        "fit-small",
        "route-small",
        "route-large",
        "curve",
        "lazy",
        "gate",
        "auto",
        "fit-large",
    ]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {parts}; default: all")
    parser.add_argument("--folder", type=Path, help="keeps the large table between runs")
    options = parser.parse_args()
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"unknown parts {sorted(unknown)}; choose from {parts}")
    for part in options.parts or parts:
        if part == "fit-large":
            if options.folder:
                fit_large(options.folder)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    fit_large(Path(folder))
        else:
            globals()[part.replace("-", "_")]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak resident memory of this process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
