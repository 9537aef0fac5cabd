"""Run a lazy table to the end: in chunks, with progress, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skquee.values import PathProbabilities, PathTree
from skquee.values._archives import array_header
from skquee.values._atomic import held, write_text
from skquee.values._checks import check_output, check_probabilities
from skquee.values._facts import RowFacts
from skquee.values._reading import read_json
from skquee.values._table_files import check_storage_type, tree_text
from skquee.values._types import Json, Rows

__all__ = ["LazyTable", "input_digest", "materialize", "run_chunks"]


class LazyTable(Protocol):
    """A table whose rows are still to be run."""

    @property
    def paths(self) -> PathTree: ...

    @property
    def facts(self) -> RowFacts: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def engine(self) -> object: ...

    @property
    def inputs(self) -> Rows: ...

    def over(self, engine: Any) -> LazyTable: ...

    def run_all(self) -> NDArray[np.floating]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: object) -> Any: ...


def materialize(
    table: LazyTable,
    batch_size: int,
    *,
    out: str | os.PathLike[str] | None,
    dtype: np.dtype[np.generic],
) -> PathProbabilities:
    """Run every path of a lazy table once.

    With `out`, finished chunks go to ``<out>.partial`` and a note of how far it got beside
    it; a second call with the same rows goes on from there. The file gets its name only
    when it is whole, with the tree in ``<out>.json``.

    `table`: what to run. `batch_size`: rows at once. `out`: the ``.npy`` file. `dtype`: type to
    store. Returns in memory, or memory-mapped from `out`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    dtype = check_storage_type(dtype)
    if out is None:
        whole = np.empty(table.shape, dtype=dtype)
        _fill(table, whole, batch_size, 0, None)
        return PathProbabilities(whole, table.paths)
    target = check_output(out, "out")
    if target.suffix != ".npy":
        raise ValueError(
            f"out must end in .npy, or name a folder ('{target.stem}/'), got {target.name!r}."
        )
    tree = tree_text(table.paths)
    with held(target, f"writing {target}"):
        return _to_file(table, batch_size, target, dtype, tree)


def _to_file(
    table: LazyTable, batch_size: int, target: Path, dtype: np.dtype[np.generic], tree: str
) -> PathProbabilities:
    partial = target.with_name(target.name + ".partial")
    note = target.with_name(target.name + ".partial.json")
    job = {"shape": list(table.shape), "dtype": str(dtype), "input": input_digest(table)}
    done = _resume(note, partial, job)
    values: np.memmap[tuple[int, ...], np.dtype[np.generic]]
    if done:
        # The note fits and the file was checked: it is an earlier run of this job.
        values = np.lib.format.open_memmap(partial, mode="r+")
        # Other weights under the same names are another job: the first row tells.
        if not np.allclose(values[0], table[[0]].run_all()[0], atol=1e-2):
            done = 0
    if done == 0:
        note.unlink(missing_ok=True)  # it may tell of another job's file
        values = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=table.shape)

    def remember(rows: int) -> None:
        values.flush()
        write_text(note, json.dumps({**job, "done": rows}))

    _fill(table, values, batch_size, done, remember)
    write_text(target.with_name(target.name + ".json"), tree)
    os.replace(partial, target)
    note.unlink(missing_ok=True)
    return PathProbabilities.load(target, table.paths)


def _fill(
    table: LazyTable,
    values: NDArray[np.generic],
    batch_size: int,
    done: int,
    remember: Callable[[int], None] | None,
) -> None:
    total = len(table)
    with tqdm(total=total, initial=done, desc="running paths", unit="row", disable=None) as bar:
        for rows, answers in run_chunks(table, batch_size, done):
            values[rows] = answers
            if remember is not None:
                remember(rows.stop)
            bar.update(len(answers))


def run_chunks(
    table: LazyTable, batch_size: int, done: int = 0, first: int = 0
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Run a table chunk by chunk; yield rows, from `done` on, and their checked answers.

    `first`: what messages call row 0.
    """
    names = [table.paths.names[path] for path in table.paths.first_of_column.tolist()]
    for start in range(done, len(table), batch_size):
        answers = table[start : start + batch_size].run_all()
        check_probabilities(answers, first + start, names)
        yield slice(start, start + len(answers)), answers


def _resume(note: Path, partial: Path, job: Json) -> int:
    """Return how many rows an interrupted run of the same job has finished."""
    if not (note.exists() and partial.exists()):
        return 0
    try:
        record = read_json(note, "note of an interrupted run")
        with partial.open("rb") as stream:
            header = array_header(stream, partial.stat().st_size, partial, "table file")
    except (OSError, ValueError):
        return 0
    done = record.pop("done", 0)
    same = (
        record == job and list(header.shape) == job["shape"] and str(header.dtype) == job["dtype"]
    )
    return done if same and isinstance(done, int) and 0 < done <= job["shape"][0] else 0


def input_digest(table: LazyTable) -> str:
    """Return a digest of the tree and of a few rows of input, to know a job again."""
    picked = table[np.unique(np.linspace(0, len(table) - 1, num=min(16, len(table)), dtype=int))]
    digest = hashlib.sha256(json.dumps(table.paths.to_dict(), default=str).encode())
    rows = picked.inputs
    rows = rows if isinstance(rows, list) else np.asarray(getattr(rows, "toarray", lambda: rows)())
    # The bytes of an object array are addresses, which differ from run to run.
    named = rows.tolist() if isinstance(rows, np.ndarray) and rows.dtype == object else rows
    digest.update(named.tobytes() if isinstance(named, np.ndarray) else repr(named).encode())
    return digest.hexdigest()
