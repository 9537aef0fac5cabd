"""Loops over a table: on a cluster it travels once to every worker, not once with every task."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from skquee._version import __version__
from skquee.values._blocks import SMALL, MappedRows, aligned, mapped_rows
from skquee.values._table import PathProbabilities, rebuilt_table

__all__ = [
    "TableLoop",
    "as_done",
    "check_release",
    "here",
    "in_cluster_task",
    "named",
    "run_tasks",
    "sent",
    "shares_files",
    "task_result",
    "threads",
]

# What has been sent, by the array's id: itself, its digest, the cluster, and its name there.
_SENT: dict[int, tuple[weakref.ref[NDArray[np.generic]], bytes, object, object]] = {}
# What has been written to a file, alike.
_FILES: dict[int, tuple[weakref.ref[NDArray[np.generic]], bytes, MappedRows]] = {}


# Times that a task is begun again whose data went with a worker, as Dask does with its own.
MOST_LOSSES = 3


class _Packed:
    """Values that travel in the task itself: Dask neither looks into them nor moves them.

    joblib leaves arguments of more than 1 kB to Dask, one copy on one worker: where that is lost,
    so are they, and with them all tasks.
    """

    def __init__(self, *values: object) -> None:
        self._values, self._version = values, __version__

    def open(self) -> tuple[Any, ...]:
        """Return the values; where they were packed by another release, an error."""
        check_release(self._version)
        return tuple(map(aligned, self._values))


def check_release(sender: str) -> None:
    """Refuse a task that another release of skquee sent."""
    if sender != __version__:
        raise RuntimeError(
            f"This worker runs skquee {__version__}, but the process that sent the task runs "
            f"{sender}: install one version everywhere. What has been written stays."
        )


class TableLoop:
    """A parallel loop whose tasks read one table.

    On Dask and Ray a table in memory, and other large arrays, are sent to every worker once, also
    over several loops, and tasks name them; a table of files is named by itself. Where all workers
    of Dask see this machine's temporary folder, arrays are written there once, and mapped. Inside a
    task of a cluster the loop runs in that task: what it reads is there.

    `table`: what tasks read. `n_jobs`: of joblib.
    """

    def __init__(self, table: PathProbabilities, n_jobs: int | None) -> None:
        self._table, self._n_jobs = table, n_jobs
        self._on_cluster = _cluster() is not None
        parts = table.parts() if self._on_cluster else None
        self._sent: tuple[object, object] | None = None
        if parts is not None and parts[0].nbytes > SMALL:
            values = _kept(parts[0], _sent_once(parts[0]))
            self._sent = values, sent(_Packed(*parts[1]))

    def task(self, function: Callable[..., object], *args: object) -> object:
        """Return a call of a function for :meth:`run`; the table is one of its arguments."""
        if not self._on_cluster:
            return delayed(function)(*args)
        table = next(i for i, value in enumerate(args) if value is self._table)
        large = {
            i: value
            for i, value in enumerate(args)
            if isinstance(value, np.ndarray) and value.nbytes > SMALL
        }
        values, around = self._sent or (None, None)
        left_out = [*large, *([table] if self._sent else [])]
        small = _Packed(*(None if i in left_out else value for i, value in enumerate(args)))
        there = [_kept(value, _sent_once(value)) for value in large.values()]
        return delayed(_called)(function, small, table, values, around, tuple(large), *there)

    def run(self, tasks: Iterable[object]) -> list[Any]:
        """Run tasks, and return what they return, in order."""
        # On a cluster all arrays are sent from this thread, before the first task.
        return run_tasks(list(tasks) if self._on_cluster else tasks, self._n_jobs)


def run_tasks(tasks: Iterable[object], n_jobs: int | None) -> list[Any]:
    """Run delayed calls, and return what they return, in order."""
    if in_cluster_task():
        return list(Parallel(n_jobs=1, backend="sequential")(tasks))
    if _on_dask():
        results = dict(_dask_results(tasks))
        return [results[number] for number in range(len(results))]
    return list(Parallel(n_jobs=n_jobs)(tasks))


def as_done(tasks: Iterable[object], n_jobs: int | None) -> Iterator[Any]:
    """Run delayed calls, and yield what they return, in any order."""
    if _on_dask():
        yield from (result for _, result in _dask_results(tasks))
        return
    # Ray's backend gives results at the end only.
    streams = get_active_backend()[0].supports_return_generator
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered" if streams else "list")(
        tasks
    )


def _on_dask() -> bool:
    kind = type(get_active_backend()[0]).__name__
    return kind == "DaskDistributedBackend" and not in_cluster_task()


def _dask_results(tasks: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Run delayed calls on the cluster that joblib is told of; yield numbers and results.

    Not by joblib: it leaves arguments on one worker, and waits for ever for a task that fails
    outside its function, as where arguments are lost or workers end by it again and again.
    """
    backend = get_active_backend()[0]
    client, room = backend.client, 2 * backend.effective_n_jobs(-1)
    completed = sys.modules["distributed"].as_completed(loop=client.loop, with_results=True)
    waiting: Iterator[tuple[int, Any, int]] = ((i, task, 0) for i, task in enumerate(tasks))
    begun = {}

    def start(some: Iterable[tuple[int, Any, int]]) -> None:
        for number, task, n_losses in some:
            function, args, options = task
            there = (_placed(arg, client) for arg in args)
            future = _submit(client, _on_aligned, function, *there, **options)
            begun[future] = number, task, n_losses
            completed.add(future)

    start(islice(waiting, room))
    for future, result in completed:
        number, task, n_losses = begun.pop(future)
        if future.cancelled():  # as where the one worker that held an argument was lost
            if n_losses == MOST_LOSSES:
                raise result
            start([(number, task, n_losses + 1)])
            continue
        yield number, result
        start(islice(waiting, 1))


def _on_aligned(function: Callable[..., object], *args: object, **options: object) -> object:
    return function(*map(aligned, args), **options)


def _called(
    function: Callable[..., object],
    small: _Packed,
    table: int,
    values: object,
    around: object,
    large: tuple[int, ...],
    *there: object,
) -> object:
    """Call a function with the table and large arrays put back where they were."""
    args = list(small.open())
    if around is not None:
        args[table] = rebuilt_table(here(values), *here(around).open())
    for place, value in zip(large, there, strict=True):
        args[place] = here(value)
    return function(*args)


def _unpacked(packed: _Packed) -> object:
    """Return the one value that was packed."""
    return packed.open()[0]


def here(value: Any) -> Any:
    """Return a value by its name: of a file, or where Ray's joblib ran the task itself."""
    if isinstance(value, MappedRows):
        return value.open()
    return sys.modules["ray"].get(value) if type(value).__name__ == "ObjectRef" else value


def in_cluster_task() -> bool:
    """Whether this is a task of Dask or Ray."""
    distributed = sys.modules.get("distributed")
    if distributed is not None and hasattr(distributed, "get_worker"):
        try:
            distributed.get_worker()
            return True
        except ValueError:
            pass
    backend = get_active_backend()[0]
    return type(backend).__name__ == "RayBackend" and bool(backend.nesting_level)


def sent(value: object) -> object:
    """Return the name of a value that every worker of the active cluster has; without: itself."""
    backend = get_active_backend()[0]
    kind = type(backend).__name__
    if kind == "DaskDistributedBackend" and not in_cluster_task():
        # Not scattered: of what is, Dask soon keeps one copy, and a lost worker takes it along. As
        # the result of a task it is made again.
        return task_result(backend.client, value)
    if kind == "RayBackend" and not in_cluster_task():
        return sys.modules["ray"].put(value)
    return value


def task_result(client: Any, value: Any) -> Any:
    """Return a value as the result of a task of Dask, which makes it again where it is lost."""
    return _submit(client, _unpacked, _Packed(value))


def _submit(client: Any, function: Callable[..., object], *args: object, **options: object) -> Any:
    """Submit a task to Dask, arguments and all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return client.submit(function, *args, pure=False, **options)


def _sent_once(values: NDArray[np.generic]) -> object:
    """Return the name of an array; it is sent again only when it or the cluster has changed."""
    cluster, digest, number = _cluster(), _digest(values), id(values)
    known = _SENT.get(number)
    if known is not None and known[0]() is values and known[1:3] == (digest, cluster):
        return known[3]
    backend = get_active_backend()[0]
    on_dask = type(backend).__name__ == "DaskDistributedBackend"
    name = _file_of(values) if on_dask and shares_files(backend.client) else None
    if on_dask and name is None and _reaches(backend.client):
        handle: object = _Scattered(backend.client)
    else:
        handle = sent(values) if name is None else name
    there = weakref.ref(values, lambda _: _SENT.pop(number, None) and None)
    _SENT[number] = there, digest, cluster, handle
    return handle


class _Scattered:
    """The place of an array that this process hands to a worker of Dask itself.

    Not as :func:`task_result`, which goes through the scheduler, once more over the wire.
    """

    def __init__(self, client: Any) -> None:
        self._client, self._future = client, None

    def future(self, values: NDArray[np.generic]) -> Any:
        """Return the future of the array, which is sent again where it has been lost."""
        if self._future is None or self._future.cancelled():
            try:
                self._future = self._client.scatter(values, direct=True, hash=False)
            except OSError:  # a worker that has just gone, or come where it cannot be reached
                self._future = task_result(self._client, values)
        return self._future


class _Kept:
    """An array that was scattered, kept for tasks that may need it sent again."""

    def __init__(self, values: NDArray[np.generic], place: _Scattered) -> None:
        self._values, self._place = values, place

    def future(self) -> Any:
        return self._place.future(self._values)


def _kept(values: NDArray[np.generic], handle: object) -> object:
    return _Kept(values, handle) if isinstance(handle, _Scattered) else handle


def _placed(arg: object, client: Any) -> object:
    """Return an argument as Dask gets it: a large array from this process to a worker."""
    if isinstance(arg, np.ndarray) and arg.nbytes > SMALL and _reaches(client):
        return _Scattered(client).future(arg)
    return arg.future() if isinstance(arg, _Kept) else arg


def _reaches(client: Any) -> bool:
    """Whether this process can connect to all workers itself, as it need not."""
    return _reached(tuple(sorted(client.nthreads())))


@cache
def _reached(workers: tuple[str, ...]) -> bool:
    for worker in workers:
        protocol, _, place = worker.partition("://")
        host, _, port = place.rpartition(":")
        if protocol != "tcp":
            return False
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
        except OSError:
            return False
    return bool(workers)


def _digest(values: NDArray[np.generic]) -> bytes:
    return blake2b(np.ascontiguousarray(values).data.cast("B"), digest_size=16).digest()


def shares_files(client: Any) -> bool:
    """Whether all workers of Dask read files of this machine's temporary folder."""
    with tempfile.NamedTemporaryFile(prefix="skquee-") as probe:
        seen = client.run(os.access, probe.name, os.R_OK, on_error="return")
    return bool(seen) and all(found is True for found in seen.values())


def named(value: object) -> object:
    """Return a value; a table in memory as one of a file that lives as long as its values."""
    parts = value.parts() if isinstance(value, PathProbabilities) else None
    name = None if parts is None or parts[0].nbytes <= SMALL else _file_of(parts[0])
    return value if parts is None or name is None else rebuilt_table(name, *parts[1])


def _file_of(values: NDArray[np.generic]) -> MappedRows | None:
    """Write an array to a file that goes when it does; None where there is no room."""
    digest, number = _digest(values), id(values)
    known = _FILES.get(number)
    if known is not None and known[0]() is values and known[1] == digest:
        return known[2]
    handle, file = tempfile.mkstemp(prefix="skquee-")
    remove = weakref.finalize(values, _forget, number, file)
    try:
        with open(handle, "wb") as stream:
            np.ascontiguousarray(values).tofile(stream)
        name = mapped_rows(np.memmap(file, values.dtype, "r", shape=values.shape))
    except OSError:
        name = None
    if name is None:
        remove()
        return None
    _FILES[number] = weakref.ref(values), digest, name
    return name


def _forget(number: int, file: str) -> None:
    _FILES.pop(number, None)
    with suppress(OSError):
        os.unlink(file)


def _cluster() -> object:
    """Return what tells the cluster in use from a later one; None without one, or inside it."""
    backend = get_active_backend()[0]
    kind = type(backend).__name__
    if kind not in ("DaskDistributedBackend", "RayBackend") or in_cluster_task():
        return None
    if kind == "DaskDistributedBackend":
        return backend.client.id
    ray = sys.modules["ray"]
    return ray.get_runtime_context().get_job_id() if ray.is_initialized() else None


@cache
def threads() -> ThreadpoolController:
    """Return what limits threads: looking for them takes longer than a model's fit."""
    return ThreadpoolController()
