"""Rows of anything that classifiers eat."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skquee.values._types import Rows

__all__ = [
    "alike",
    "check_rows",
    "fingerprint",
    "n_rows_of",
    "own_values",
    "row_names",
    "take_rows",
]

# Rows that a fingerprint looks at.
SOME = 8


def alike(codes: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
    """Return each code that rows have, rising, with the rows that have it.

    >>> import numpy as np
    >>> from skquee.values._rows import alike
    >>> alike(np.array([4, 2, 4]))
    [(2, array([1])), (4, array([0, 2]))]
    """
    if (codes == codes[:1]).all():  # most often, and np.unique takes as long as a gate's sums
        return [(int(code), np.arange(len(codes))) for code in codes[:1]]
    return [(code, np.flatnonzero(codes == code)) for code in np.unique(codes).tolist()]


def take_rows(X: Any, rows: NDArray[np.intp] | slice) -> Any:
    """Return some rows of anything a classifier eats: array, data frame, list of texts.

    `X`: samples along the first axis; of a mapping, along that of each value. `rows`: which.
    """
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, dict) and not hasattr(X, "shape"):  # scipy has a sparse array that is one
        return {key: take_rows(value, rows) for key, value in X.items()}
    if hasattr(X, "take") and hasattr(X, "num_rows"):  # pyarrow.Table
        return X.take(np.arange(X.num_rows)[rows])
    if hasattr(X, "id") and hasattr(X, "file") and isinstance(rows, np.ndarray):  # h5py.Dataset
        # It reads rising rows only, each once.
        wanted, places = np.unique(rows, return_inverse=True)
        return X[wanted][places]
    if hasattr(X, "oindex"):  # zarr
        return X.oindex[rows] if isinstance(rows, np.ndarray) else X[rows]
    if hasattr(X, "shape"):
        return X[rows]
    if isinstance(rows, slice):
        return X[rows]
    return [X[row] for row in rows.tolist()]


def check_rows(key: object, n_rows: int) -> slice | NDArray[np.intp]:
    """Return what chooses rows of a table, checked.

    IndexError if it is something else, a mask of another length, or names a row that there is not.

    >>> from skquee.values._rows import check_rows
    >>> check_rows([0, 200], 200)
    Traceback (most recent call last):
        ...
    IndexError: There is no row 200: the table has 200, from 0.
    """
    if isinstance(key, slice):
        return key
    chosen = np.asarray(key)
    if chosen.size == 0 and not isinstance(key, np.ndarray):
        chosen = chosen.astype(np.intp)  # an empty list comes as floats
    if chosen.dtype.kind not in "iub" or chosen.ndim > 1:
        raise IndexError(
            "Rows are chosen by an integer, a slice, a list of integers or a mask, got "
            f"{key!r:.60}."
        )
    if chosen.dtype.kind == "b":
        if chosen.shape != (n_rows,):
            raise IndexError(
                f"A mask of shape {chosen.shape} cannot choose among {n_rows} rows: give one entry "
                "a row."
            )
    elif chosen.size and not (-n_rows <= chosen.min() and chosen.max() < n_rows):
        wrong = chosen.min() if chosen.min() < -n_rows else chosen.max()
        raise IndexError(f"There is no row {wrong}: the table has {n_rows}, from 0.")
    return chosen


def own_values(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array whose pickle holds its values, in whatever way it is pickled.

    joblib hands workers the file of a memory map instead of its values: where the map is
    copy-on-write, changes that were made in memory would be lost.

    Returns itself, or a copy of a map of mode "c".
    """
    base: object = values
    while base is not None:
        if isinstance(base, np.memmap):
            return np.array(values) if base.mode == "c" else values
        base = getattr(base, "base", None)
    return values


def n_rows_of(X: Rows) -> int:
    """Return the number of rows.

    TypeError if X has no length, as a generator.
    """
    if isinstance(X, dict) and not hasattr(X, "shape"):
        lengths = {key: n_rows_of(value) for key, value in X.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"The values of X must have one length, got {lengths}.")
        return next(iter(lengths.values()))
    if hasattr(X, "shape") and len(X.shape):
        return int(X.shape[0])
    if not hasattr(X, "__len__"):
        raise TypeError(
            f"X must be rows with a length, got {type(X).__name__}: make a list of an iterator, "
            "or stream batches."
        )
    return len(X)


def row_names(X: Rows) -> list[object] | None:
    """Return the row labels of a data frame, None where they are numbers from 0, or X has none."""
    names = list(getattr(X, "index", ())) if hasattr(X, "iloc") else []
    return None if names == list(range(len(names))) else names


def fingerprint(X: Rows, n_rows: int) -> str:
    """Return a digest of a few rows of X: equal rows have equal ones."""
    some = take_rows(X, np.unique(np.linspace(0, n_rows - 1, min(n_rows, SOME)).astype(np.intp)))
    if hasattr(some, "to_pandas"):
        some = some.to_pandas()
    some = some.to_numpy() if hasattr(some, "to_numpy") else some
    some = some.toarray() if hasattr(some, "toarray") else some
    if not isinstance(some, dict):
        some = np.asarray(some)
        if some.dtype.kind in "biuf":
            some = some.astype(np.float64).tobytes()
        else:
            some = some.tolist()
    digest = blake2b(digest_size=16)
    digest.update(some if isinstance(some, bytes) else repr(some).encode())
    return f"{n_rows} {digest.hexdigest()}"
