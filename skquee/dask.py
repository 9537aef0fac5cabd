"""Dask: loops that lose no data with a worker, and samples routed where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skquee._version import __version__
from skquee.values._optional import require
from skquee.values._shipping import check_release, named, shares_files, task_result
from skquee.walk import Snapshot

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client, Future

__all__ = ["parallel_config", "route"]


@contextmanager
def parallel_config(client: Client, **options: object) -> Iterator[None]:
    """Run joblib's loops on Dask so that a lost worker loses the tasks it ran, and no data.

    As ``joblib.parallel_config("dask", client=client)``, which leaves labels, folds and tables of
    loops such as ``GridSearchCV``'s on one worker each: where that is lost, the search ends with an
    error. Here what tasks share is the result of a task itself, and is made again.

    Parameters
    ----------
    client : distributed.Client
        The cluster's.
    **options
        Others of ``joblib.parallel_config``, such as ``wait_for_workers_timeout``.

    Yields
    ------
    None

    Raises
    ------
    ModuleNotFoundError
        Without dask: ``pip install 'skquee[dask]'``.
    TypeError, ValueError
        If the client is none, is closed, or is asynchronous.
    RuntimeError
        If workers run another release of skquee.

    Examples
    --------
    >>> import skquee.dask
    >>> from distributed import Client
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(100)
    >>> search = GridSearchCV(ThresholdRouter(), {"threshold": [0.6, 0.9]}, cv=2)
    >>> with Client(processes=False, dashboard_address=None) as client:
    ...     with skquee.dask.parallel_config(client):
    ...         search.fit(table, y).best_params_  # doctest: +SKIP
    """
    distributed = require("distributed", "skquee.dask.parallel_config")
    if not isinstance(client, distributed.Client):
        raise TypeError(
            f"client must be a dask.distributed.Client, got {type(client).__name__}: connect with "
            "Client(address) first."
        )
    if client.status != "running" or client.asynchronous:
        raise ValueError(
            f"client must be connected, and not asynchronous, got {client!r:.200}: make another "
            "by Client(address)."
        )
    client.run(check_release, __version__)
    with joblib.parallel_config("dask", client=_Lasting(client, shares_files(client)), **options):
        yield


class _Lasting:
    """A client whose scattered values are results of tasks, made again where they are lost.

    Tables go by the name of a file where workers read files of this machine.
    """

    def __init__(self, client: Client, shares: bool) -> None:
        self._client, self._shares = client, shares

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def scatter(self, value: object, **_: object) -> Future[object]:
        """Return the future of a value, as joblib asks for it within the client's loop."""
        return task_result(self._client, named(value) if self._shares else value)


def route(classifier: BaseEstimator, X: da.Array) -> da.Array:
    """Route the samples of a dask array, each block by itself; nothing runs yet.

    The classifier is one node of the graph, so that it goes to each worker once.

    Parameters
    ----------
    classifier : RoutedClassifier, router or baseline
        Fitted; as it stands now.
    X : dask.array.Array of shape (n_samples, ...)
        Input of the bank, or a table of probabilities of shape (n_samples, n_columns, n_classes).

    Returns
    -------
    dask.array.Array of shape (n_samples,)
        Records with the fields ``label``, ``path`` (an index into ``paths_.names``), ``cost`` and
        ``predicted_error``, in the blocks of X.

    Raises
    ------
    ModuleNotFoundError
        Without dask: ``pip install 'skquee[dask]'``.
    TypeError
        If X is no dask array.

    Examples
    --------
    >>> import numpy as np
    >>> import dask.array as da
    >>> import skquee.dask
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(100)
    >>> router = ThresholdRouter(0.7).fit(table, y)
    >>> X = da.from_array(np.asarray(table), chunks=(40, -1, -1))
    >>> routed = skquee.dask.route(router.set_params(path_costs=table.paths.path_costs), X)
    >>> bool((routed["label"].compute() == router.predict(table)).all())
    True
    """
    dask = require("dask", "skquee.dask.route")
    arrays = require("dask.array", "skquee.dask.route")
    if not isinstance(X, arrays.Array) or not X.ndim:
        raise TypeError(f"X must be a dask array of samples, got {type(X).__name__}.")
    frozen: Snapshot = classifier.freeze()
    fields = [
        ("label", np.asarray(frozen.classes_).dtype),
        ("path", np.intp),
        ("cost", np.float64),
        ("predicted_error", np.float64),
    ]
    record = np.dtype(fields)
    whole = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    model = dask.delayed(frozen, name=f"skquee-{uuid4().hex}", traverse=False)
    run = dask.delayed(_routed, pure=False)
    return arrays.concatenate(
        [
            arrays.from_delayed(
                run(model, block, record, __version__), shape=(n_rows,), dtype=record
            )
            for n_rows, block in zip(whole.chunks[0], whole.to_delayed().ravel(), strict=True)
        ]
    )


def _routed(
    frozen: Snapshot, X: NDArray[np.generic], record: np.dtype[np.generic], version: str
) -> NDArray[np.generic]:
    """Return the records of one block."""
    check_release(version)
    routes = frozen.route(X)
    found = np.empty(len(routes), dtype=record)
    found["label"], found["path"], found["cost"] = routes.labels, routes.paths, routes.costs
    found["predicted_error"] = routes.predicted_error
    return found
