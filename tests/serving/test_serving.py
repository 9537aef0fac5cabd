"""A classifier behind HTTP: what it answers, refuses, counts, and how it stops."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import skquee
from skquee import CostAwareRouter, MultiPathClassifierBank, RoutedClassifier
from skquee.cli import main
from skquee.serving import _batcher, _run, make_app, serve
from skquee.serving._rows import Refused, Rows

for package in ("starlette", "prometheus_client"):
    pytest.importorskip(package, reason=f"serving needs {package}: pip install 'skquee[serve]'")
uvicorn = pytest.importorskip("uvicorn", reason="pip install 'skquee[serve]'")

TOKEN = "0123456789abcdef"
X, Y = make_classification(600, 4, n_informative=3, n_redundant=0, random_state=0)


class Counted(GaussianNB):
    """Notes how many rows it gets."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        self.sizes = [*getattr(self, "sizes", []), len(X)]
        return super().predict_proba(X)


def classifier(rows: Any = X, slow: Any = None) -> RoutedClassifier:
    models = [("small", LogisticRegression()), ("large", slow or GaussianNB())]
    bank = MultiPathClassifierBank(models, step_costs=[1, 9])
    return RoutedClassifier(bank, CostAwareRouter(0.001, random_state=0)).fit(rows, Y)


CLASSIFIER = classifier()


def call(app: Any, *requests: dict[str, Any]) -> list[tuple[int, Any]]:
    """Send requests to an application all at once; return status and content of each."""

    async def one(
        method: str = "POST",
        path: str = "/predict",
        body: Any = None,
        headers: dict[str, str] | None = None,
        host: str = "localhost:8000",
        receives: list[dict[str, Any]] | None = None,
    ) -> tuple[int, Any]:
        given = {"host": host, "content-type": "application/json", **(headers or {})}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }

        async def receive() -> dict[str, Any]:
            if receives:
                return receives.pop(0)
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent)
        kind = dict(sent[0]["headers"]).get(b"content-type", b"")
        return sent[0]["status"], json.loads(content) if b"json" in kind else content.decode()

    async def every() -> list[tuple[int, Any]]:
        return await asyncio.gather(*(one(**request) for request in requests))

    return asyncio.run(every())


def rows(start: int, stop: int, **more: Any) -> dict[str, Any]:
    return {"body": {"rows": X[start:stop].tolist(), **more}}


def test_answers_are_those_of_the_classifier() -> None:
    (status, told), (_, more) = call(
        make_app(CLASSIFIER), rows(0, 20), rows(20, 23, probabilities=True)
    )
    routes = CLASSIFIER.route(X[:20])
    assert status == 200
    assert told == {
        "labels": routes.labels.tolist(),
        "paths": routes.path_names.tolist(),
        "costs": routes.costs.tolist(),
    }
    assert np.allclose(more["probabilities"], CLASSIFIER.predict_proba(X[20:23]))


def test_requests_that_come_together_run_together() -> None:
    model = classifier(slow=Counted())
    counted = model.bank_.classifiers_[1][1]
    model.set_params(router__lambda_=0.0)
    labels = model.predict(X[:40]).tolist()
    counted.sizes = []
    told = call(make_app(model, max_rows=16), *(rows(i, i + 1) for i in range(40)))
    assert [answer["labels"][0] for _, answer in told] == labels
    assert len(counted.sizes) < 20
    assert max(counted.sizes) <= 16


def test_clients_that_ask_again_at_once_come_to_share_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(_batcher, "perf_counter", lambda: now[0])
    sizes: list[int] = []

    def run(parts: list[Rows]) -> list[object]:
        now[0] += 10.0
        sizes.append(len(parts))
        return [len(parts)] * len(parts)

    async def ask_all() -> int:
        batcher = _batcher.Batcher(run, most_rows=100, most_waiting=100)
        one = Rows(X[:1], (4,), False)

        async def client(n_requests: int) -> None:
            for _ in range(n_requests):
                await batcher.submit(one)

        first = asyncio.create_task(client(6))
        await asyncio.sleep(0)  # one client is before the others
        await asyncio.gather(first, *(client(6) for _ in range(7)), client(2))
        await batcher.drain()
        return sum(sizes)

    assert asyncio.run(ask_all()) == 50
    # Eight clients in two groups, then in one, also after the ninth has left.
    assert sizes[-4:-1] == [8] * 3
    assert len(sizes) <= 9


def test_a_request_that_fails_fails_alone() -> None:
    class Picky(GaussianNB):
        def predict_proba(self, X: Any) -> NDArray[Any]:
            if (X[:, 0] > 1e6).any():
                raise KeyError("no such thing")
            return super().predict_proba(X)

    model = classifier(slow=Picky()).set_params(router__lambda_=0.0)
    bad = {"body": {"rows": [[1e7, 0, 0, 0]]}}
    told = call(make_app(model), rows(0, 1), bad, rows(1, 2))
    assert [status for status, _ in told] == [200, 500, 200]
    assert told[1][1] == {
        "error": "The classifier failed on these rows; the server's log says how."
    }


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"body": b"{"}, 400, "no JSON"),
        ({"body": b'{"rows": [[NaN, 1, 2, 3]]}'}, 400, "NaN is no number"),
        ({"body": b"[" * 100_000}, 400, "no JSON"),
        ({"body": {"X": []}}, 422, "must be an object"),
        ({"body": {"rows": []}}, 422, "at least one row"),
        ({"body": {"rows": [[1, 2, 3]]}}, 422, "a list of 4 numbers, but these hold 3"),
        ({"body": {"rows": [[1, 2, 3, 4], [1]]}}, 422, "a list of 4 numbers"),
        ({"body": {"rows": [[1, 2, 3, "4"]]}}, 422, "none missing or a text"),
        ({"body": {"rows": [[1, 2, 3, None]]}}, 422, "none missing or a text"),
        ({"body": {"rows": [1, 2]}}, 422, "a list of 4 numbers"),
        ({"body": {"rows": ["text"]}}, 422, "a list of 4 numbers"),
        ({"body": b'{"rows": [[1e999, 1, 1, 1]]}'}, 422, "infinity"),
        ({"body": {"rows": [[0] * 4] * 101}}, 413, "101 rows, of which a request may hold 100"),
        ({"body": {"rows": [[0.123456789] * 4] * 90}}, 413, "larger than 3000 bytes"),
        ({"body": {"rows": [[0] * 4], "columns": ["a"]}}, 422, "leave out columns"),
        ({"body": {"rows": [[0] * 4], "probabilities": 1}}, 422, "true or false"),
        ({"body": {}, "headers": {"content-type": "text/plain"}}, 415, "Send JSON"),
        ({"body": {}, "headers": {"content-encoding": "gzip"}}, 415, "without Content-Encoding"),
        ({"body": {}, "headers": {"content-length": "3001"}}, 413, "larger than 3000 bytes"),
        ({"body": {}, "host": "evil.example"}, 403, "not this machine's"),
        ({"method": "PUT", "path": "/lambda", "body": {"lambda_": 1}}, 403, "given a token"),
        ({"method": "GET"}, 405, "Method Not Allowed"),
        ({"path": "/nowhere"}, 404, "Not Found"),
    ],
)
def test_what_is_refused_says_why(request_: dict[str, Any], status: int, message: str) -> None:
    app = make_app(CLASSIFIER, max_rows=100, max_bytes=200_000 if status != 413 else 3000)
    ((found, told), (after, _)) = call(app, request_, rows(0, 1))
    assert found == status
    assert message in (told["error"] if isinstance(told, dict) else told)
    assert after == 200


def test_names_of_kinds_and_schemes_may_be_written_in_any_case() -> None:
    headers = {
        "content-type": "Application/JSON; charset=utf-8",
        "authorization": f"bearer {TOKEN}",
    }
    assert call(make_app(CLASSIFIER, token=TOKEN), {**rows(0, 1), "headers": headers})[0][0] == 200


def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(CLASSIFIER)
    ((status, _),) = call(app, {"body": None, "receives": [{"type": "http.disconnect"}]})
    assert status == 499  # nobody gets it; metrics count it
    assert not caplog.records
    (_, told) = call(app, {"method": "GET", "path": "/metrics"})[0]
    assert 'skquee_requests_total{code="499",route="predict"} 1.0' in told


def test_rows_of_clients_that_have_left_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(_batcher, "perf_counter", lambda: now[0])
    ran: list[int] = []
    all_wait = threading.Event()

    def run(parts: list[Rows]) -> list[object]:
        all_wait.wait(60)
        now[0] += 60.0
        ran.append(len(parts))
        return list(range(len(parts)))

    async def ask_all() -> list[object]:
        batcher = _batcher.Batcher(run, most_rows=100, most_waiting=100)
        one = Rows(X[:1], (4,), False)

        async def client(here: bool) -> object:
            async def has_left() -> bool:
                return not here

            return await batcher.submit(one, has_left)

        # The first runs before anybody would ask whether its client is there.
        first = asyncio.create_task(client(False))
        while batcher.waiting != 1:
            await asyncio.sleep(0)
        while batcher.waiting:
            await asyncio.sleep(0)
        others = asyncio.gather(*map(client, (True, False, False)), return_exceptions=True)
        while batcher.waiting != 3:
            await asyncio.sleep(0)
        all_wait.set()
        found = [await first, *await others]
        await batcher.drain()
        return found

    found = asyncio.run(ask_all())
    assert ran == [1, 1]
    assert found[:2] == [0, 0]
    assert [answer.status for answer in found[2:] if isinstance(answer, Refused)] == [499, 499]


def test_a_request_larger_than_may_wait_runs_where_nothing_waits() -> None:
    told = call(make_app(CLASSIFIER, max_waiting=5), rows(0, 20))
    assert told[0][0] == 200


def test_rows_of_a_frame_are_named_and_may_stand_in_any_order() -> None:
    names = ["a", "b", "c", "d"]
    frame = pd.DataFrame(X, columns=names)
    model = classifier(frame)
    objects = frame.iloc[:3].to_dict("records")
    turned = frame.iloc[:3, ::-1]
    told = call(
        make_app(model),
        {"body": {"rows": objects}},
        {"body": {"rows": turned.to_numpy().tolist(), "columns": list(turned.columns)}},
        {"body": {"rows": [{"a": 1, "b": 2, "c": 3, "e": 4}]}},
        {"body": {"rows": [[1, 2, 3]], "columns": names}},
        {"body": {"rows": [[1, 2, 3, 4]], "columns": ["a", "b", "c", "e"]}},
        {"body": {"rows": [[1, 2, 3, 4]]}},
    )
    assert [status for status, _ in told] == [200, 200, 422, 422, 422, 422]
    assert told[0][1]["labels"] == told[1][1]["labels"] == model.predict(frame.iloc[:3]).tolist()
    assert "lacks the columns ['d'] and has the unknown columns ['e']" in told[2][1]["error"]


def test_the_price_of_cost_is_set_with_the_token_only() -> None:
    app = make_app(classifier(), token=TOKEN)
    put = {"method": "PUT", "path": "/lambda", "body": {"lambda_": 100.0}}
    bearer = {"headers": {"authorization": f"Bearer {TOKEN}"}, "host": "elsewhere"}
    assert [status for status, _ in call(app, put, rows(0, 1), {**put, "headers": {
        "authorization": "Bearer 0123456789abcdeX"}})] == [401, 401, 401]  # fmt: skip
    assert call(app, {**rows(0, 20), **bearer})[0][1]["costs"] != [1.0] * 20
    assert call(app, {**put, **bearer}) == [(200, {"lambda_": 100.0})]
    assert call(app, {**rows(0, 20), **bearer})[0][1]["costs"] == [1.0] * 20
    for value in (-1, "x", None, True):
        bad = {**put, **bearer, "body": {"lambda_": value}}
        assert call(app, bad)[0][0] == 422
    get = {"method": "GET", "path": "/lambda", **bearer}
    assert call(app, get) == [(200, {"lambda_": 100.0})]


def test_more_rows_than_may_wait_are_asked_to_come_back() -> None:
    told = call(make_app(CLASSIFIER, max_waiting=5), *(rows(0, 2) for _ in range(6)))
    assert sorted(status for status, _ in told)[0] == 200
    refused = [answer["error"] for status, answer in told if status == 503]
    assert refused and "try again in a moment" in refused[0]


def test_metrics_count_rows_costs_and_drift() -> None:
    app = make_app(CLASSIFIER, reference_rows=200)
    call(app, rows(0, 200), rows(0, 0))
    for _ in range(3):  # nothing but rows that go the whole way
        far = X[CLASSIFIER.predict_cost(X) > 5][:60]
        call(app, *({"body": {"rows": far.tolist()}} for _ in range(5)))
    get = {"method": "GET", "path": "/metrics"}
    status, text = call(app, get)[0]
    assert status == 200
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    n_far = 15 * len(far)
    assert float(found['skquee_calls_total{classifier="small"}']) == 200 + n_far
    exact = CLASSIFIER.predict_cost(X[:200]).sum() + 10 * n_far
    assert float(found["skquee_cost_total"]) == exact
    assert float(found['skquee_requests_total{code="422",route="predict"}']) == 1
    assert float(found["skquee_lambda"]) == 0.001
    assert float(found["skquee_drift_alarm"]) == 1
    assert call(app, {"method": "GET", "path": "/health", "host": "x"})[0][1]["status"] == "ok"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "reached from other machines: give a token"),
        ({"host": "::"}, "reached from other machines: give a token"),
        ({"host": "no such host"}, "no address of this machine"),
        ({"token": "short"}, "at least 16"),
        ({"port": 70000}, "at most 65535"),
        ({"port": -1}, "port"),
        ({"max_rows": 0}, "max_rows"),
    ],
)
def test_what_cannot_be_served_safely_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        serve(CLASSIFIER, **options)


def test_answers_are_sent_without_waiting_for_the_client_to_acknowledge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # asyncio sets TCP_NODELAY where the listening socket names its protocol, and else not.
    found: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: found.append(sockets[0].proto))
    serve(CLASSIFIER, port=0)
    assert found == [socket.IPPROTO_TCP]


def test_what_cannot_route_is_refused() -> None:
    with pytest.raises(TypeError, match="A GaussianNB cannot be served"):
        make_app(GaussianNB().fit(X, Y))


def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKQUEE_TOKEN", raising=False)
    file, empty = tmp_path / "clf.skops", tmp_path / "token"
    skquee.dump(CLASSIFIER, file)
    empty.write_text("\n")
    for arguments, message in (
        (["nowhere.skops"], "there is no such file"),
        ([str(file), "--token-file", str(empty)], "first line is empty"),
        ([str(file), "--token-file", str(tmp_path)], "cannot be read"),
        ([str(file), "--port", "x"], "--port"),
    ):
        with pytest.raises(SystemExit):
            main(["serve", *arguments])
        assert message in capsys.readouterr().err
    assert main(["serve", str(file), "--host", "0.0.0.0"]) == 1
    assert "give a token" in capsys.readouterr().err


@contextmanager
def served(file: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the command with a token; give its process and port."""
    skquee.dump(CLASSIFIER, file)
    environment = {**os.environ, "SKQUEE_TOKEN": TOKEN}
    command = [sys.executable, "-m", "skquee", "serve", str(file), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert line.startswith("skquee serves on http://127.0.0.1:"), line
        yield server, int(line.split(":")[2].split(";")[0])
        server.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.stderr.read()
        assert server.wait(60) in (0, -signal.SIGTERM)
    finally:
        if server.poll() is None:
            server.kill()
        server.stderr.close()


HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


def test_the_command_serves_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with served(tmp_path / "clf.skops") as (_, port):
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        line.request("POST", "/predict", json.dumps({"rows": X[:5].tolist()}), HEADERS)
        told = json.loads(line.getresponse().read())
        assert told["labels"] == CLASSIFIER.predict(X[:5]).tolist()
        line.close()


def test_requests_that_have_come_are_read_before_the_server_ends() -> None:
    read: list[bytes] = []

    async def end_at_once() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            read.append(await reader.read(100))
            writer.close()

        async def shutdown(sockets: Any) -> None:
            assert read == [b"request"] * 20
            server.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(20)]
        for client in clients:
            client.sendall(b"request")
        await _run.after_reading(shutdown)(sockets=[])
        for client in clients:
            client.close()

    asyncio.run(end_at_once())
    assert len(read) == 20
