"""Run a lazy table to the end: in chunks, with progress, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from skquee.probabilities import PathProbabilities, check_probabilities

if TYPE_CHECKING:
    from skquee.bank._walk import LazyPathProbabilities

__all__ = ["materialize"]


def materialize(
    table: LazyPathProbabilities,
    batch_size: int,
    *,
    out: str | os.PathLike[str] | None,
    dtype: np.dtype[Any],
) -> PathProbabilities:
    """Run every path of a lazy table once.

    With `out`, finished chunks go to ``<out>.partial`` and a note of how far it got beside
    it; a second call with the same rows goes on from there. The file gets its name only
    when it is whole, with the tree in ``<out>.json``.

    Parameters
    ----------
    table : LazyPathProbabilities
        What to run.
    batch_size : int
        Rows at once.
    out : path or None
        The ``.npy`` file.
    dtype : dtype
        Type to store.

    Returns
    -------
    PathProbabilities
        In memory, or memory-mapped from `out`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if dtype.kind != "f":
        raise ValueError(f"dtype must be a float type, got {dtype}.")
    if out is None:
        whole = np.empty(table.shape, dtype=dtype)
        _fill(table, whole, batch_size, 0, None)
        return PathProbabilities(whole, table.paths)
    target = Path(out)
    if target.suffix != ".npy":
        raise ValueError(f"out must end in .npy, got {target.name!r}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder of out, {target.parent}, does not exist.")
    tree = table.paths.to_dict()
    try:
        json.dumps(tree)
    except TypeError as error:
        raise ValueError(
            f"The tree's levels and classes must fit JSON to be saved: {error}."
        ) from None
    partial = target.with_name(target.name + ".partial")
    note = target.with_name(target.name + ".partial.json")
    job = {"shape": list(table.shape), "dtype": str(dtype), "input": _fingerprint(table)}
    done = _resume(note, partial, job)
    values: Any = None  # a memory map; numpy's type for it lacks flush
    if done:
        values = np.lib.format.open_memmap(partial, mode="r+")
        # Other weights under the same names are another job: the first row tells.
        if not np.allclose(values[0], table[[0]].run_all()[0], atol=1e-2):
            done = 0
    if done == 0:
        note.unlink(missing_ok=True)  # it may tell of another job's file
        values = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=table.shape)

    def remember(rows: int) -> None:
        values.flush()
        _write(note, {**job, "done": rows})

    _fill(table, values, batch_size, done, remember)
    _write(target.with_name(target.name + ".json"), tree)
    os.replace(partial, target)
    note.unlink(missing_ok=True)
    return PathProbabilities(np.load(target, mmap_mode="r", allow_pickle=False), table.paths)


def _fill(
    table: LazyPathProbabilities, values: Any, batch_size: int, done: int, remember: Any
) -> None:
    names = [
        table.paths.names[int(np.flatnonzero(table.paths.path_columns == c)[0])]
        for c in range(table.shape[1])
    ]
    total = len(table)
    with tqdm(total=total, initial=done, desc="running paths", unit="row", disable=None) as bar:
        for start in range(done, total, batch_size):
            chunk = table[start : start + batch_size]
            answers = chunk.run_all()
            check_probabilities(answers, start, names)
            values[start : start + len(chunk)] = answers
            if remember is not None:
                remember(start + len(chunk))
            bar.update(len(chunk))


def _resume(note: Path, partial: Path, job: dict[str, Any]) -> int:
    """Return how many rows an interrupted run of the same job has finished."""
    if not (note.exists() and partial.exists()):
        return 0
    try:
        record = json.loads(note.read_text(encoding="utf8"))
    except json.JSONDecodeError:
        return 0
    done = record.pop("done", 0)
    return int(done) if record == job else 0


def _write(file: Path, content: dict[str, Any]) -> None:
    """Write JSON under another name, then move it into place."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(json.dumps(content), encoding="utf8")
    os.replace(fresh, file)


def _fingerprint(table: LazyPathProbabilities) -> str:
    """Return a digest of the tree and of a few rows of input, to know a job again."""
    picked = table[np.unique(np.linspace(0, len(table) - 1, num=min(16, len(table)), dtype=int))]
    digest = hashlib.sha256(json.dumps(table.paths.to_dict(), default=str).encode())
    rows = picked._input()
    rows = rows if isinstance(rows, list) else np.asarray(getattr(rows, "toarray", lambda: rows)())
    # The bytes of an object array are addresses, which differ from run to run.
    named = rows.tolist() if isinstance(rows, np.ndarray) and rows.dtype == object else rows
    digest.update(named.tobytes() if isinstance(named, np.ndarray) else repr(named).encode())
    return digest.hexdigest()
