"""A fitted classifier as an ASGI application."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skquee._version import __version__
from skquee.serving._batcher import LEFT, Batcher
from skquee.serving._metrics import Metrics
from skquee.serving._rows import Refused, RowFormat, Rows
from skquee.values._checks import check_integer, check_number
from skquee.values._optional import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["make_app"]

LOG = logging.getLogger("skquee.serving")
LOCAL = ("localhost", "127.0.0.1", "[::1]")
Endpoint = Callable[["Request"], Awaitable["Response"]]


def make_app(
    classifier: BaseEstimator,
    *,
    token: str | None = None,
    max_rows: int = 1000,
    max_bytes: int = 10 * 2**20,
    max_waiting: int = 10_000,
    reference_rows: int = 1000,
) -> Starlette:
    """Return an ASGI application that answers by a fitted classifier.

    Requests that come while the classifier runs wait and then run as one batch, so that rows of
    several share what they run.

    Parameters
    ----------
    classifier : RoutedClassifier
        Fitted; or a router or baseline over anything that ``route`` takes as an array.
    token : str, default=None
        What ``Authorization: Bearer`` must carry. Without one only this machine is answered, and
        ``lambda_`` cannot be set.
    max_rows : int, default=1000
        Rows of a request, and of a batch.
    max_bytes : int, default=10 MiB
        Of a request's body.
    max_waiting : int, default=10000
        Rows that may wait; requests beyond are refused with 503.
    reference_rows : int, default=1000
        Rows first served, with which later ones are compared for drift; 0: drift is not watched.

    Returns
    -------
    Starlette
        Routes: ``POST /predict`` takes ``{"rows": [[...], ...]}`` and gives ``labels``, ``paths``,
        ``costs`` (and ``probabilities``, where asked for); ``GET`` and ``PUT /lambda``;
        ``GET /health``; ``GET /metrics`` for Prometheus.

    Raises
    ------
    ModuleNotFoundError
        Without starlette or prometheus_client: ``pip install 'skquee[serve]'``.
    TypeError
        If the classifier cannot route.

    Examples
    --------
    >>> from skquee.serving import make_app
    >>> app = make_app(clf, token="of 16 characters or more")  # doctest: +SKIP
    """
    for name, value in (
        ("max_rows", max_rows),
        ("max_bytes", max_bytes),
        ("max_waiting", max_waiting),
    ):
        check_integer(value, name, at_least=1)
    check_integer(reference_rows, "reference_rows", at_least=0)
    if not all(hasattr(classifier, name) for name in ("freeze", "set_params", "classes_")):
        raise TypeError(
            f"A {type(classifier).__name__} cannot be served: give a fitted RoutedClassifier, or a "
            "router."
        )
    require("starlette", "skquee serve")
    from starlette.applications import Starlette
    from starlette.routing import Route

    service = _Service(classifier, token, max_rows, max_bytes, max_waiting, reference_rows)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await service.batcher.drain()

    routes = [
        Route("/predict", service.answering("predict", service.predict), methods=["POST"]),
        Route("/lambda", service.answering("lambda", service.get_lambda), methods=["GET"]),
        Route("/lambda", service.answering("lambda", service.put_lambda), methods=["PUT"]),
        Route("/metrics", service.answering("metrics", service.tell), methods=["GET"]),
        Route("/health", service.health, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Service:
    """The routes of one application, and what they share."""

    def __init__(
        self,
        classifier: BaseEstimator,
        token: str | None,
        max_rows: int,
        max_bytes: int,
        max_waiting: int,
        reference_rows: int,
    ) -> None:
        from starlette.requests import ClientDisconnect
        from starlette.responses import Response

        self._response, self._left = Response, ClientDisconnect
        self._classifier, self._token = classifier, token
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._format = RowFormat.of(classifier)
        self._snapshot = classifier.freeze()
        self.metrics = Metrics(reference_rows)
        self.batcher = Batcher(self._run, max_rows, max_waiting)
        self._knob = _lambda_of(classifier)
        self.metrics.knob.set(self._knob)

    # ------------------------------------------------------------------ routes

    def answering(self, route: str, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that checks who asks, counts, and turns errors into answers."""

        async def answer(request: Request) -> Response:
            headers = None
            try:
                self._check_caller(request)
                response = await endpoint(request)
            except Refused as error:
                if error.status == 401:
                    headers = {"WWW-Authenticate": "Bearer"}
                if error.status == 503:
                    headers = {"Retry-After": "1"}
                response = self._json({"error": str(error)}, error.status, headers)
            except Exception:
                LOG.exception("A request to /%s failed", route)
                told = "The classifier failed on these rows; the server's log says how."
                response = self._json({"error": told}, 500)
            self.metrics.requests.labels(route, str(response.status_code)).inc()
            return response

        return answer

    async def health(self, _: Request) -> Response:
        """Tell that it runs."""
        return self._json({"status": "ok", "skquee": __version__})

    async def tell(self, _: Request) -> Response:
        """Return the metrics."""
        self.metrics.waiting.set(self.batcher.waiting)
        return self._response(self.metrics.text(), media_type=self.metrics.content_type)

    async def predict(self, request: Request) -> Response:
        """Answer rows."""
        began = time.perf_counter()
        rows = self._format.read(await self._body(request), self._max_rows)
        answer = await self.batcher.submit(rows, request.is_disconnected)
        response = self._json(answer)
        self.metrics.seconds.observe(time.perf_counter() - began)
        return response

    async def get_lambda(self, _: Request) -> Response:
        """Tell the price of cost."""
        return self._json({"lambda_": self._knob if np.isfinite(self._knob) else None})

    async def put_lambda(self, request: Request) -> Response:
        """Set the price of cost, between two batches."""
        if self._token is None:
            raise Refused(403, "lambda_ can be set only where the server was given a token.")
        try:
            found = json.loads(await self._body(request))
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"The body is no JSON: {error}.") from None
        if not isinstance(found, dict) or set(found) != {"lambda_"}:
            raise Refused(422, 'The body must be an object {"lambda_": number}.')
        try:
            value = check_number(found["lambda_"], "lambda_", at_least=0)
            await self.batcher.between_batches(lambda: self._set_lambda(float(value)))
        except (TypeError, ValueError) as error:
            raise Refused(422, str(error)) from None
        return await self.get_lambda(request)

    # ------------------------------------------------------------------ work

    def _set_lambda(self, value: float) -> None:
        """Take another snapshot; requests of the next batch are answered by it."""
        name = _lambda_name(self._classifier)
        if name is None:
            kind = type(self._classifier).__name__
            raise ValueError(f"This {kind} has no lambda_ that could be set.")
        before = self._knob
        self._classifier.set_params(**{name: value})
        try:
            self._snapshot = self._classifier.freeze()
        except Exception:
            self._classifier.set_params(**{name: before})
            raise
        self._knob = value
        self.metrics.knob.set(value)
        self.metrics.forget()

    def _run(self, parts: list[Rows]) -> list[object]:
        """Answer requests that run together; where one fails, each by itself."""
        if not parts:
            return []
        try:
            routes = self._snapshot.route(self._format.join(parts))
        except Exception as error:
            if len(parts) > 1:
                return [self._run([part])[0] for part in parts]
            if isinstance(error, (TypeError, ValueError)):
                return [Refused(422, str(error))]
            return [error]
        self.metrics.see(routes)
        labels, costs = _plain(routes.labels), routes.costs.tolist()
        names = routes.tree.names
        paths = [names[path] for path in routes.paths.tolist()]
        answers: list[object] = []
        start = 0
        for part in parts:
            rows = slice(start, start + len(part))
            start = rows.stop
            told: dict[str, object] = {
                "labels": labels[rows],
                "paths": paths[rows],
                "costs": costs[rows],
            }
            if part.probabilities:
                told["probabilities"] = routes.probabilities[rows].tolist()
            answers.append(told)
        return answers

    # ------------------------------------------------------------------ checks

    def _check_caller(self, request: Request) -> None:
        if self._token is not None:
            scheme, _, said = request.headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(said.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not right:
                raise Refused(401, "Send the server's token: Authorization: Bearer TOKEN.")
            return
        # A page in a browser may give this address a name of its own, and so be let through.
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in LOCAL:
            raise Refused(403, f"Host {host!r:.80} is not this machine's: without a token, only "
                          "localhost is answered.")  # fmt: skip

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "Send JSON: Content-Type: application/json.")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "Send JSON as it is, without Content-Encoding.")
        found, size = [], 0
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self._max_bytes:
            raise self._too_large()
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large()
                found.append(chunk)
        except self._left:
            raise Refused(LEFT, "The client left before it had sent its request.") from None
        return b"".join(found)

    def _too_large(self) -> Refused:
        return Refused(413, f"The body is larger than {self._max_bytes} bytes.")

    def _json(
        self, content: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
        return self._response(text, status, headers, "application/json")


def _plain(labels: NDArray[np.generic]) -> list[object]:
    """Return labels as JSON has them; what it does not know, such as dates, as texts."""
    if labels.dtype.kind in "biufU":
        found: list[object] = labels.tolist()
        return found
    return [x if isinstance(x, (str, int, float, bool)) else str(x) for x in labels.tolist()]


def _lambda_name(classifier: BaseEstimator) -> str | None:
    """Return the parameter that is the price of cost, or None."""
    if "lambda_" in classifier.get_params(deep=False):
        return "lambda_"
    inner = getattr(classifier, "router_", None)
    if inner is not None and "lambda_" in inner.get_params(deep=False):
        return "router__lambda_"
    return None


def _lambda_of(classifier: BaseEstimator) -> float:
    """Return the price of cost in use, NaN where there is none."""
    inner = getattr(classifier, "router_", classifier)
    value = getattr(inner, "lambda_", None)
    return float("nan") if value is None else float(value)
