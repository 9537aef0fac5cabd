"""Requests a second of ``skquee serve`` under 32 clients of single rows, beside predict in a loop.

A tabular cascade (linear model, forest, boosting) is saved, served by a process of its own on
127.0.0.1, and asked for the same rows that ``predict`` gets one by one. Requests are bounded in
number and in time, and go to no other address. Both are repeated in turns; the best of each
counts. ``--beside litserve`` (``pip install litserve``) asks a LitServe server in turns too. Run it
on a machine that does nothing else: ``python examples/benchmarks/serve_load.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
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


def start(file: Path, beside: str | None) -> dict[str, tuple[subprocess.Popen[str], int]]:
    """Start the servers that are compared; return process and port of each."""
    environment = {k: v for k, v in os.environ.items() if k != "SKQUEE_TOKEN"}
    commands = {"skquee serve": ["-m", "skquee", "serve", str(file), "--port"]}
    if beside == "litserve":
        commands["LitServe"] = [str(Path(__file__).with_name("_lit_server.py")), str(file)]
    servers = {}
    for name, command in commands.items():
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        # A group of its own: LitServe's processes are ended together.
        servers[name] = (
            subprocess.Popen(
                [sys.executable, *command, str(port)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
                start_new_session=True,
            ),
            port,
        )
    return servers


def wait_for(server: subprocess.Popen[str], port: int) -> None:
    """Return once a server says that it is well."""
    for _ in range(10 * MOST_SECONDS):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{server.args} does not serve.")


def main() -> None:
    """Measure, and print a line of JSON a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", choices=["litserve"], help="another server, in turns with ours")
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
        wanted = classifier.predict(X)
        servers = start(file, options.beside)
        try:
            for server, port in servers.values():
                wait_for(server, port)
                asyncio.run(ask(port, bodies[:64], options.clients))
            alone: list[float] = []
            served: dict[str, list[tuple[float, ...]]] = {name: [] for name in servers}
            for _ in range(options.rounds):
                some = X[: max(200, options.requests // 10)]
                began = time.perf_counter()
                for row in some[:, None]:
                    classifier.predict(row)
                alone.append(len(some) / (time.perf_counter() - began))
                for name, (_, port) in servers.items():
                    seconds, taken, labels = asyncio.run(ask(port, bodies, options.clients))
                    same = float((np.array(labels) == wanted).mean())
                    rate = len(bodies) / seconds
                    served[name].append((rate, *np.percentile(taken, [50, 99]), same))
        finally:
            for server, _ in servers.values():
                os.killpg(server.pid, signal.SIGTERM)
                server.wait(60)
    for name, rounds in served.items():
        rate, p50, p99, same = max(rounds)
        told = {
            "server": name,
            "requests": len(bodies),
            "clients": options.clients,
            "predict_in_a_loop_per_s": round(max(alone), 1),
            "served_per_s": round(rate, 1),
            "of_each_round": [round(found[0], 1) for found in rounds],
            "ratio": round(rate / max(alone), 2),
            "p50_ms": round(1000 * p50, 2),
            "p99_ms": round(1000 * p99, 2),
            "same_labels": same,
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main()
