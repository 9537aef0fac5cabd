"""Requests that come while the classifier runs wait, and then run together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from skquee.serving._rows import Refused, Rows

__all__ = ["Batcher"]

Result = TypeVar("Result")

# Seconds without a request after which a batch runs that could have waited for more.
QUIET = 0.001
# Seconds in the queue after which a request is asked whether its client is still there.
PATIENCE = 1.0
# Status of a request whose client has left, in the metrics alone.
LEFT = 499


@dataclass(frozen=True)
class _Request:
    """Rows in the queue, where their answer goes, and what tells whether its client has left."""

    rows: Rows
    answer: asyncio.Future[object]
    has_left: Callable[[], Awaitable[bool]] | None
    since: float = field(default_factory=lambda: perf_counter())

    async def is_over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        if self.answer.done():
            return True
        if self.has_left is None or perf_counter() - self.since < PATIENCE:
            return False
        if not await self.has_left():
            return False
        self.answer.set_exception(Refused(LEFT, "The client left before its rows ran."))
        return True


class Batcher:
    """Runs one batch after the other in one thread: whatever has come while the last one ran.

    Where the classifier is idle, a request runs at once. Clients that were just answered often ask
    again at once: the next batch waits for as many as were answered or had come meanwhile, as long
    as they keep coming, and at most half the time of the last batch. Otherwise two halves of the
    clients take turns, and each batch is half as large as it could be.

    `run`: ``run(parts) -> answers``, one a part; gets rows of one kind. An answer may be an
    exception. `most_rows`: rows of a batch. `most_waiting`: rows that may wait; more are refused
    with status 503.
    """

    def __init__(
        self, run: Callable[[list[Rows]], list[object]], most_rows: int, most_waiting: int
    ) -> None:
        self._run, self._most_rows, self._most_waiting = run, most_rows, most_waiting
        self._queue: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="skquee")
        self._working: asyncio.Task[None] | None = None
        self.waiting = 0
        # Requests that may come soon, and until when they are waited for.
        self._hoped, self._until = 0, 0.0

    async def submit(
        self, rows: Rows, has_left: Callable[[], Awaitable[bool]] | None = None
    ) -> object:
        """Return the answer to some rows, once a batch with them has run.

        `has_left`: tells whether the client has left; then they do not run.
        """
        if self.waiting and self.waiting + len(rows) > self._most_waiting:
            raise Refused(503, f"{self.waiting} rows wait already: try again in a moment.")
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._queue.append(_Request(rows, answer, has_left))
        self.waiting += len(rows)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await answer

    async def between_batches(self, change: Callable[[], Result]) -> Result:
        """Call something in the classifier's thread, where no batch runs meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, change)

    async def drain(self) -> None:
        """Wait until all that was submitted has been answered, and end the thread."""
        while self._working is not None:
            await self._working
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                await self._gather()
                batch = [request for request in self._take() if not await request.is_over()]
                parts = [request.rows for request in batch]
                began = perf_counter()
                try:
                    answers = await loop.run_in_executor(self._thread, self._run, parts)
                except Exception as error:  # nobody else would answer these requests
                    answers = [error] * len(batch)
                for request, answer in zip(batch, answers, strict=True):
                    if request.answer.done():  # its task was cancelled
                        continue
                    if isinstance(answer, BaseException):
                        request.answer.set_exception(answer)
                    else:
                        request.answer.set_result(answer)
                now = perf_counter()
                self._hoped, self._until = len(batch) + len(self._queue), now + (now - began) / 2
        finally:
            self._working = None

    async def _gather(self) -> None:
        """Wait while requests that may share a batch with those of the queue keep coming."""
        n_requests = -1
        while (
            n_requests < len(self._queue) < self._hoped
            and self.waiting < self._most_rows
            and perf_counter() + QUIET < self._until
        ):
            n_requests = len(self._queue)
            await asyncio.sleep(QUIET)

    def _take(self) -> list[_Request]:
        """Take from the queue what can run together with its first entry."""
        kind, n_rows = self._queue[0].rows.kind, 0
        batch: list[_Request] = []
        while self._queue and self._queue[0].rows.kind == kind:
            n_rows += len(self._queue[0].rows)
            if batch and n_rows > self._most_rows:
                break
            batch.append(self._queue.popleft())
            self.waiting -= len(batch[-1].rows)
        return batch
