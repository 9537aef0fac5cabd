"""Dask: samples of a dask array, routed block by block where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skquee.values._optional import require
from skquee.walk import Snapshot

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["route"]


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
            arrays.from_delayed(run(model, block, record), shape=(n_rows,), dtype=record)
            for n_rows, block in zip(whole.chunks[0], whole.to_delayed().ravel(), strict=True)
        ]
    )


def _routed(
    frozen: Snapshot, X: NDArray[np.generic], record: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return the records of one block."""
    routes = frozen.route(X)
    found = np.empty(len(routes), dtype=record)
    found["label"], found["path"], found["cost"] = routes.labels, routes.paths, routes.costs
    found["predicted_error"] = routes.predicted_error
    return found
