"""Requests a second of ``skquee serve`` under 32 clients of single rows, beside predict in a loop.

A tabular cascade (linear model, forest, boosting) is saved, served by a process of its own on
127.0.0.1, and asked for the same rows that ``predict`` gets one by one. Requests are bounded in
number and in time, and go to no other address. Both are repeated in turns; the best of each
counts. Run it on a machine that does nothing else: ``python examples/benchmarks/serve_load.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import skquee
from skquee import MultiPathClassifierBank, RoutedClassifier

HOST = "127.0.0.1"
MOST_REQUESTS, MOST_SECONDS, MOST_CLIENTS = 20_000, 120, 256


def cascade(seed: int) -> tuple[RoutedClassifier, NDArray[np.float64]]:
    """Fit a cascade of three tabular classifiers; return it with rows it has not seen."""
    X, y = make_classification(8000, 20, n_informative=10, n_classes=3, random_state=seed)
    models = [
        ("linear", LogisticRegression()),
        ("forest", RandomForestClassifier(100, max_depth=8, random_state=seed)),
        ("boosting", HistGradientBoostingClassifier(random_state=seed)),
    ]
    bank = MultiPathClassifierBank(models, step_costs=[1, 20, 40])
    return RoutedClassifier(bank).fit(X[:5000], y[:5000]), X[5000:]


async def ask(port: int, rows: list[bytes], clients: int) -> tuple[float, list[float], list[int]]:
    """Send single rows over so many connections; return seconds, those of each, and labels."""
    waiting = list(enumerate(rows))[::-1]
    taken, labels = [0.0] * len(rows), [0] * len(rows)

    async def client() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        while waiting:
            number, body = waiting.pop()
            began = time.perf_counter()
            writer.write(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            taken[number] = time.perf_counter() - began
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            labels[number] = json.loads(answer)["labels"][0]
        writer.close()

    began = time.perf_counter()
    work = asyncio.gather(*(client() for _ in range(clients)))
    await asyncio.wait_for(work, MOST_SECONDS)
    return time.perf_counter() - began, taken, labels


def main() -> None:
    """Measure, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not 0 < options.requests <= MOST_REQUESTS or not 0 < options.clients <= MOST_CLIENTS:
        parser.error(f"at most {MOST_REQUESTS} requests by {MOST_CLIENTS} clients")
    classifier, X = cascade(0)
    X = np.tile(X, (options.requests // len(X) + 1, 1))[: options.requests]
    bodies = [json.dumps({"rows": [row]}).encode() for row in X.tolist()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clf.skops"
        skquee.dump(classifier, file)
        classifier = skquee.load(file)
        environment = {k: v for k, v in os.environ.items() if k != "SKQUEE_TOKEN"}
        command = [sys.executable, "-m", "skquee", "serve", str(file), "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert server.stderr is not None
            port = int(server.stderr.readline().split(":")[2].split(";")[0])
            asyncio.run(ask(port, bodies[:64], options.clients))
            alone, served = [], []
            for _ in range(options.rounds):
                some = X[: max(200, options.requests // 10)]
                began = time.perf_counter()
                for row in some[:, None]:
                    classifier.predict(row)
                alone.append(len(some) / (time.perf_counter() - began))
                seconds, taken, labels = asyncio.run(ask(port, bodies, options.clients))
                served.append((len(bodies) / seconds, *np.percentile(taken, [50, 99])))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    same = float((np.array(labels) == classifier.predict(X)).mean())
    rate, p50, p99 = max(served)
    print(
        json.dumps(
            {
                "requests": len(bodies),
                "clients": options.clients,
                "predict_in_a_loop_per_s": round(max(alone), 1),
                "served_per_s": round(rate, 1),
                "ratio": round(rate / max(alone), 2),
                "p50_ms": round(1000 * p50, 2),
                "p99_ms": round(1000 * p99, 2),
                "same_labels": same,
            }
        )
    )


if __name__ == "__main__":
    main()
