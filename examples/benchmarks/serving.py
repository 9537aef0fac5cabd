"""Serving benchmarks: what routing costs and saves on the clock, as ratios within one run.

Run ``python examples/benchmarks/serving.py`` on an idle machine (about five minutes), or name the
parts wanted: ``rows one stored fit threads clock file text``. Every figure is a median.

The tabular cascade is a logistic regression, boosted trees and a forest of 300 on 20 columns and 3
classes; the text cascade is that of ``examples/plot_text_cascade.py``.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import skquee
from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.router import default_router

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _data import find_data

GROUPS = (1, 3, 10, 30, 100, 300, 1000, 3000)


def median_ms(call, repeats: int = 7) -> float:
    """Return the median milliseconds of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1000 * float(np.median(taken))


def report(what: str, value: str, goal: str) -> None:
    print(f"{what:<66} {value:<38} goal: {goal}", flush=True)


def tabular():
    """Return the cascade's data: 6,000 rows to fit on, 3,000 to serve."""
    X, y = make_classification(
        9000, 20, n_informative=8, n_classes=3, n_clusters_per_class=2, random_state=0
    )
    named = [
        ("lr", LogisticRegression()),
        ("hgb", HistGradientBoostingClassifier(max_iter=100, random_state=0)),
        ("rf", RandomForestClassifier(300, random_state=0)),
    ]
    return named, X[:6000], y[:6000], X[6000:], y[6000:]


def text():
    """Return the text cascade and TREC, or None where the data is not there."""
    folder = find_data("text_classification")
    if folder is None:
        print("text: no data, see examples/_data.py")
        return None

    def read(file):
        with gzip.open(folder / "sent_conv" / file, "rt", encoding="latin-1") as lines:
            rows = [line.rstrip("\n").split(" ", 1) for line in lines]
        return [text for _, text in rows], np.array([int(label) for label, _ in rows])

    named = [
        ("bayes", make_pipeline(CountVectorizer(binary=True), MultinomialNB(alpha=0.3))),
        ("words", make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))),
        (
            "letters",
            make_pipeline(
                make_union(
                    TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 3), sublinear_tf=True),
                    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
                ),
                CalibratedClassifierCV(LinearSVC(C=0.5), ensemble=False),
            ),
        ),
    ]
    (X, y), (X_new, y_new) = read("TREC.train.all.gz"), read("TREC.test.all.gz")
    return named, X, y, X_new * 6, np.tile(y_new, 6)


def models_of(clf):
    return clf.bank_.classifiers_


def whole_groups(title, clf, X, y) -> None:
    """Time a routed call beside the dearest model, and beside its models on the rows each ran."""
    dearest, model = models_of(clf)[-1]
    accuracy = float((model.predict(X) == y).mean())
    # The cheapest point that is as accurate as the dearest model on these very rows.
    points = clf.cost_curve(None, X, y)
    reached = np.flatnonzero(points.accuracy >= accuracy)
    if not len(reached):
        best = float(points.accuracy.max())
        report(
            f"{title}: at the accuracy of {dearest}",
            f"none of {len(points.accuracy)} points reaches {accuracy:.4f}; the next: {best:.4f}",
            "at most 0.35",
        )
        reached = np.flatnonzero(points.accuracy >= best)
    place = reached[np.argmin(points.cost[reached])]
    served = clf.set_params(router__lambda_=float(points.lambdas[place]))
    routes = served.route(X)
    routed, whole = median_ms(lambda: served.predict(X), 5), median_ms(lambda: model.predict(X), 5)
    parts = 0.0
    for step, (name, m) in enumerate(models_of(clf)):
        at = routes.tree.depths[routes.paths] > step
        if at.any():
            rows = np.flatnonzero(at)
            some = X[rows] if hasattr(X, "shape") else [X[row] for row in rows]
            parts += median_ms(lambda m=m, some=some: m.predict_proba(some), 5)
        assert int(at.sum()) == routes.counts.get(name, 0)
    report(
        f"{title}: routed {len(X)} rows over {dearest} alone",
        f"{routed / whole:.2f} ({routed:.0f} and {whole:.0f} ms; accuracy "
        f"{(routes.labels == y).mean():.4f}, {accuracy:.4f})",
        "at most 0.35",
    )
    report(
        f"{title}: the same over its models on the rows that each ran",
        f"{routed / parts:.3f} (ran {routes.counts})",
        "at most 1.05",
    )


def one_row(title, clf, X) -> None:
    """Time single rows beside the models that they ran."""
    server = clf.freeze()
    rows = [X[row : row + 1] for row in range(20)]
    beside: dict[str, list[float]] = {"frozen": [], "not frozen": []}
    for row in rows:
        counts = clf.route(row).counts
        ran = [m for name, m in models_of(clf) if name in counts]
        models = median_ms(lambda ran=ran, row=row: [m.predict_proba(row) for m in ran], 15)
        for name, call in (("frozen", server.predict), ("not frozen", clf.predict)):
            beside[name].append(median_ms(lambda call=call, row=row: call(row), 15) - models)
    for name, goal in (("frozen", "at most 0.15 ms"), ("not frozen", "at most 0.5 ms")):
        report(
            f"{title}: one row beside its models, {name}", f"{np.median(beside[name]):.3f} ms", goal
        )


def stored(clf, X, y) -> None:
    """Time single rows of a stored table, frozen."""
    table = clf.bank_.materialize(X)
    rows = [table[row : row + 1] for row in range(500)]
    for name, router in (
        ("default router", clf.router_),
        ("paper's router", skquee.CostAwareRouter(0.01, random_state=0).fit(table, y)),
    ):
        server = router.freeze()
        taken = median_ms(lambda s=server: [s.predict(row) for row in rows], 5) / len(rows)
        report(f"stored table, one row, frozen {name}", f"{taken:.3f} ms", "at most 0.03 ms")


def default_fit(clf, X, y) -> None:
    """Time the default router's fit beside the paper's on 3,000 rows and 3 models."""
    table = clf.bank_.materialize(X)
    ours = median_ms(lambda: default_router(0.01).fit(table, y), 3) / 1000
    paper = median_ms(lambda: skquee.CostAwareRouter(random_state=0).fit(table, y), 1) / 1000
    report(
        "default fit, 3,000 rows, 3 models", f"{ours:.2f} s (paper's {paper:.2f} s)", "under 0.7 s"
    )


def threads(clf, X) -> None:
    """Serve by eight threads, each with a snapshot of its own."""
    curve = clf.cost_curve()
    prices = curve.lambdas[np.linspace(5, 60, 8).astype(int)]
    servers = [clf.set_params(router__lambda_=float(price)).freeze() for price in prices]
    parts = np.array_split(X, 8)
    expected = [server.predict(part) for server, part in zip(servers, parts, strict=True)]

    def serve(place: int):
        return servers[place].predict(parts[place])

    # What the models gain by themselves, on the same rows: no more can be had by routing them.
    def alone(place: int):
        return [m.predict_proba(parts[place]) for _, m in models_of(clf)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(serve, range(8)))
        gains = []
        for call in (serve, alone):
            in_turn = median_ms(lambda call=call: [call(place) for place in range(8)], 5)
            gains.append(in_turn / median_ms(lambda call=call: list(pool.map(call, range(8))), 5))
    same = all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    answers = "the same" if same else "DIFFER"
    report(
        f"8 threads, a snapshot each, over one thread ({os.cpu_count()} cores)",
        f"{gains[0]:.2f} times (models alone {gains[1]:.2f}), answers {answers}",
        "at least 1.6 times",
    )


def clock(named, X, y, X_new) -> None:
    """Hold the predicted milliseconds of routed calls against the clock."""
    bank = MultiPathClassifierBank(named, step_costs="latency")
    clf = RoutedClassifier(bank).fit(X, y)
    times = clf.measure(X)
    worst = []
    for size in GROUPS:
        rows = X_new[:size]
        routes = clf.route(rows)
        taken = median_ms(lambda rows=rows: clf.predict(rows), 7)
        told = times.total(routes.counts, size)
        worst.append((abs(told / taken - 1), size))
        print(f"  {size:>5} rows: {told:8.3f} ms told, {taken:8.3f} on the clock")
    gap, size = max(worst)
    report(
        f"reported ms of a routed call against the clock, {GROUPS[0]} to {GROUPS[-1]} rows",
        f"at most {gap:.0%} off (at {size} rows)",
        "within 15 %",
    )


def file_size(clf) -> None:
    """Compare files of skquee and joblib."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "clf.skops", Path(folder) / "clf.joblib"
        skquee.dump(clf, ours)
        joblib.dump(clf, theirs)
        ratio = ours.stat().st_size / theirs.stat().st_size
        report(
            "file over joblib's",
            f"{ratio:.2f} ({ours.stat().st_size / 1e6:.1f} MB)",
            "at most 1.2",
        )


def main() -> None:
    every = ("rows", "one", "stored", "fit", "threads", "clock", "file", "text")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"any of {' '.join(every)}; default: all")
    wanted = parser.parse_args().parts or list(every)
    if unknown := sorted(set(wanted) - set(every)):
        parser.error(f"there are no parts {unknown}; they are {' '.join(every)}")
    named, X, y, X_new, y_new = tabular()
    clf = RoutedClassifier(MultiPathClassifierBank(named, step_costs=[0.1, 18, 35])).fit(X, y)
    print(clf.summary().to_string(), "\n")
    runs = {
        "one": lambda: one_row("tabular", clf, X_new),
        "rows": lambda: whole_groups("tabular", clf, X_new, y_new),
        "stored": lambda: stored(clf, X_new, y_new),
        "fit": lambda: default_fit(clf, X_new, y_new),
        "threads": lambda: threads(clf, X_new),
        "clock": lambda: clock(named, X, y, X_new),
        "file": lambda: file_size(clf),
    }
    for part, run in runs.items():
        if part in wanted:
            run()
    if "text" in wanted and (found := text()) is not None:
        named, X, y, X_new, y_new = found
        bank = MultiPathClassifierBank(named, step_costs=[0.02, 0.04, 0.4], cost_unit="ms")
        clf = RoutedClassifier(bank).fit(X, y)
        one_row("text", clf, X_new)
        whole_groups("text", clf, X_new, y_new)


if __name__ == "__main__":
    with threadpool_limits(1):  # spinning threads make times meaningless
        main()
