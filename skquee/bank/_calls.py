"""Calls of callables that cost time or money: retried, side by side, kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skquee.bank._answers import read_answers
from skquee.values._checks import check_path
from skquee.values._rows import take_rows
from skquee.values._types import Rows

__all__ = ["AnswerStore", "CallError", "Calls", "row_digest"]

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class CallError(RuntimeError):
    """A callable failed for good on some rows.

    Attributes
    ----------
    rows : ndarray of int
        Positions of the rows that failed, among those it was asked.
    probabilities : ndarray of shape (n_samples, n_classes)
        What it answered for the others; NaN elsewhere. Nothing that was answered is lost.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.bank import CallError
    >>> error = CallError("the second was refused", np.array([1]), np.full((2, 3), np.nan))
    >>> error.rows
    array([1])
    """

    def __init__(
        self, message: str, rows: NDArray[np.intp], probabilities: NDArray[np.float64]
    ) -> None:
        super().__init__(message)
        self.rows = rows
        self.probabilities = probabilities

    def __reduce__(self) -> tuple[object, ...]:
        return (CallError, (self.args[0], self.rows, self.probabilities))


def row_digest(row: object) -> bytes:
    """Return a digest of one row of input, the same in every process.

    `row`: the row. Returns SHA-256. Only digests and answers are stored, never the input. Raises
    TypeError if something in the row cannot be told from another by its contents.
    """
    digest = hashlib.sha256()
    if isinstance(row, str):
        digest.update(b"text:" + row.encode(errors="surrogatepass"))
    elif isinstance(row, np.ndarray) and row.dtype != object:
        digest.update(f"{row.dtype.str}{row.shape}".encode() + np.ascontiguousarray(row).tobytes())
    else:
        plain = row.tolist() if hasattr(row, "tolist") else row
        digest.update(json.dumps(plain, sort_keys=True, default=_told).encode())
    return digest.digest()


def _told(value: object) -> object:
    """Return what tells a value from others: repr leaves out the middle of arrays, or contents."""
    if isinstance(value, (np.generic, bytes, date, Decimal)):
        return repr(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if hasattr(value, "tolist"):  # arrays of objects, tensors, series
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(row_digest(part).hex() for part in value)
    try:
        return [type(value).__name__, hashlib.sha256(pickle.dumps(value)).hexdigest()]
    except Exception as error:
        raise TypeError(
            f"cache= cannot tell rows with {type(value).__name__} in them apart, since it cannot "
            f"be pickled ({error}): give rows of texts, numbers or arrays, or leave cache out."
        ) from error


class AnswerStore:
    """Answers of one callable on disk, one SQLite file; threads and processes may share it.

    `folder`: made where it is missing. `name`: of the callable. Give another version of it another
    name: its old answers would be taken. `classes`: answers are kept apart by classes.
    """

    def __init__(
        self, folder: str | os.PathLike[str], name: str, classes: NDArray[np.generic]
    ) -> None:
        known = json.dumps(classes.tolist(), default=repr)
        mark = hashlib.sha256(f"{name}\n{known}".encode()).hexdigest()[:12]
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        self.n_classes = len(classes)
        self.file = check_path(folder, "cache") / f"{plain}-{mark}.sqlite"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(
                f"cache={str(folder)!r} must be a folder: it is a file."
            ) from None
        with self._open() as base:
            base.execute("CREATE TABLE IF NOT EXISTS answers (row BLOB PRIMARY KEY, p BLOB)")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file, timeout=60)) as base, base:  # commits at its end
            yield base

    def get(self, digests: Sequence[bytes]) -> dict[bytes, NDArray[np.float64]]:
        """Return what is stored of some rows."""
        found: dict[bytes, NDArray[np.float64]] = {}
        with self._open() as base:
            for start in range(0, len(digests), 500):
                part = list(digests[start : start + 500])
                marks = ",".join("?" * len(part))
                lines = base.execute(f"SELECT row, p FROM answers WHERE row IN ({marks})", part)
                found.update({row: np.frombuffer(p, dtype="<f8") for row, p in lines})
        return {row: p for row, p in found.items() if p.shape == (self.n_classes,)}

    def put(self, digests: Sequence[bytes], answers: NDArray[np.float64]) -> None:
        """Store answers; they are on disk when this returns.

        `digests`: rows. `answers` (n_rows, n_classes): what was answered.
        """
        lines = [(d, p.astype("<f8").tobytes()) for d, p in zip(digests, answers, strict=True)]
        with self._open() as base:
            base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", lines)


@dataclass(frozen=True)
class Calls:
    """How callables are called.

    `retries`: further tries of a call that raised, after waits that double from half a second.
    `max_workers`: rows are sent one by one, so many at a time. None: all rows in one call, and one
    by one only those of a call that failed for good. `cache`: folder of an :class:`AnswerStore`
    for each callable. `fallback` {"previous"} or None: a row whose call failed for good counts as
    not answered, instead of an error. `sleep`: waits for some seconds.
    """

    retries: int = 0
    max_workers: int | None = None
    cache: str | os.PathLike[str] | None = None
    fallback: str | None = None
    sleep: Callable[[float], object] = time.sleep

    def __getstate__(self) -> dict[str, object]:
        # Without how to wait: a file holds no code, and the class has its own.
        names = ("retries", "max_workers", "cache", "fallback")
        return {name: getattr(self, name) for name in names}

    def ask(
        self,
        name: str,
        function: Callable[[Any], object],
        X: Rows,
        n_rows: int,
        classes: NDArray[np.generic],
    ) -> NDArray[np.float64]:
        """Return what a callable answers, (n_rows, n_classes): NaN where it gave no answer.

        Raises CallError if rows failed for good and there is no fallback; it carries the answers of
        the rest.
        """
        out = np.full((n_rows, len(classes)), np.nan)
        left = np.arange(n_rows)
        first = left  # of rows that are equal, which is asked
        store, digests = None, []
        if self.cache is not None:
            store = AnswerStore(self.cache, name, classes)
            digests = [row_digest(_row(X, place)) for place in range(n_rows)]
            known = store.get(digests)
            seen: dict[bytes, int] = {}
            first = np.array([seen.setdefault(d, p) for p, d in enumerate(digests)], dtype=np.intp)
            for digest, place in seen.items():
                if digest in known:
                    out[place] = known[digest]
            left = np.array([p for d, p in seen.items() if d not in known], dtype=np.intp)

        def send(rows: NDArray[np.intp]) -> Exception | None:
            """Ask for some rows and keep what comes; return the error of a call that failed."""
            part = X if len(rows) == n_rows else take_rows(X, rows)
            try:
                answers = read_answers(self._try(function, part), len(rows), classes)
            except Exception as error:
                return error
            out[rows] = answers
            if store is not None:  # what is no answer at all would be wrong for ever
                kept = np.flatnonzero(_are_answers(answers))
                store.put([digests[row] for row in rows[kept]], answers[kept])
            return None

        failed = self._send_all(name, send, left)
        out = out[first] if store is not None else out
        if failed and self.fallback is None:
            rows = np.flatnonzero(np.isin(first, list(failed)))
            error = failed[int(first[rows[0]])]
            kept = "" if store is None else " They are in the cache: a second call goes on."
            raise CallError(
                f"Classifier {name!r} raised {type(error).__name__} on {len(rows)} of {n_rows} "
                f"rows (first: {rows[:5].tolist()}): {error}. The other {n_rows - len(rows)} "
                f"were answered.{kept}",
                rows,
                out,
            ) from error
        return out

    def _send_all(
        self,
        name: str,
        send: Callable[[NDArray[np.intp]], Exception | None],
        left: NDArray[np.intp],
    ) -> dict[int, Exception]:
        """Send rows together or one by one; return the error of each that failed for good."""
        if not len(left):
            return {}
        if self.max_workers is None:
            error = send(left)
            if error is None:
                return {}
            if len(left) == 1 or not (self.retries or self.cache or self.fallback):
                return dict.fromkeys(left.tolist(), error)
        alone = [left[place : place + 1] for place in range(len(left))]
        with (
            tqdm(total=len(left), desc=name, unit="row", disable=None, leave=False) as bar,
            ThreadPoolExecutor(self.max_workers or 1) as pool,
        ):
            failed = {}
            for rows, error in zip(alone, pool.map(send, alone), strict=True):
                if error is not None:
                    failed[int(rows[0])] = error
                bar.update()
        return failed

    def _try(self, function: Callable[[Any], object], X: Rows) -> object:
        wait = FIRST_WAIT
        for _ in range(self.retries):
            try:
                return function(X)
            except Exception:
                # Half of the wait at random, so that many callers do not come back together.
                self.sleep(wait * (0.5 + random.random() / 2))
                wait = min(2 * wait, LONGEST_WAIT)
        return function(X)


def _are_answers(answers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which rows are probabilities, or missing."""
    return (np.abs(answers.sum(axis=1) - 1) <= 5e-3) | np.isnan(answers).all(axis=1)


def _row(X: Rows, place: int) -> Any:
    if isinstance(X, dict) and not hasattr(X, "shape"):
        return {key: _row(values, place) for key, values in X.items()}
    row = take_rows(X, np.array([place]))
    if hasattr(row, "num_rows"):  # of an Arrow table row[0] would be a column
        return row.to_pylist()[0]
    if hasattr(row, "to_numpy"):
        return row.to_numpy()[0]
    return np.asarray(row.todense())[0] if hasattr(row, "todense") else row[0]
