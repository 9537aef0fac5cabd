"""Serve a classifier by uvicorn, on this machine or, with a token, beyond."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Awaitable, Callable

from sklearn.base import BaseEstimator

from skquee.serving._app import make_app
from skquee.values._checks import check_integer
from skquee.values._optional import require

__all__ = ["serve"]

# Characters at least of a token that guards an address others reach.
LEAST_TOKEN = 16


def serve(
    classifier: BaseEstimator,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    grace: int = 30,
    **options: int,
) -> None:
    """Serve a fitted classifier over HTTP until SIGTERM or Ctrl-C.

    Requests that have come by then are still answered.

    Parameters
    ----------
    classifier : RoutedClassifier
        Fitted.
    host : str, default="127.0.0.1"
        Address to listen on. Any but this machine's own needs a token.
    port : int, default=8000
        0: any that is free; standard error tells it.
    token : str, default=None
        What ``Authorization: Bearer`` must carry; at least 16 characters.
    grace : int, default=30
        Seconds that requests get to end in.
    **options
        Of :func:`skquee.serving.make_app`.

    Raises
    ------
    ValueError
        If the address is reached from elsewhere and there is no token.
    OSError
        If nothing can listen there.

    Examples
    --------
    >>> from skquee.serving import serve
    >>> serve(clf, port=8000)  # doctest: +SKIP
    """
    check_integer(port, "port", at_least=0)
    check_integer(grace, "grace", at_least=0)
    if port > 65535:
        raise ValueError(f"port must be at most 65535, got {port}.")
    if token is not None and len(token) < LEAST_TOKEN:
        raise ValueError(f"The token has {len(token)} characters; use at least {LEAST_TOKEN}.")
    if token is None and not _is_loopback(host):
        raise ValueError(
            f"{host} is reached from other machines: give a token (SKQUEE_TOKEN in the "
            "environment, or --token-file), or listen on 127.0.0.1."
        )
    uvicorn = require("uvicorn", "skquee serve")
    app = make_app(classifier, token=token, **options)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(2048)
        except OSError as error:
            raise OSError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from None
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=grace,
            lifespan="on",
            ws="none",
            server_header=False,
        )
        sys.stderr.write(f"skquee serves on {address}; Ctrl-C ends it\n")
        sys.stderr.flush()
        server = uvicorn.Server(config)
        server.shutdown = after_reading(server.shutdown)
        server.run(sockets=[listening])


def after_reading(shutdown: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return a shutdown that first lets the loop take in connections and requests that have come.

    uvicorn's own drops connections that wait to be accepted, and such as have sent a request that
    has not been read.
    """

    async def unhurried(sockets: list[socket.socket] | None = None) -> None:
        for _ in range(10):  # a round of the loop accepts, the next reads
            await asyncio.sleep(0.01)
        await shutdown(sockets=sockets)

    return unhurried


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        raise ValueError(f"host {host!r} is no address of this machine.") from None
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)
