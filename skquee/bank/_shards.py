"""Run a lazy table to the end in shards, on any backend of joblib."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from joblib import delayed
from tqdm import tqdm

from skquee._version import __version__
from skquee.bank._materialize import LazyTable, input_digest, run_chunks
from skquee.values import PathProbabilities
from skquee.values._atomic import held, write_text
from skquee.values._checks import check_folder, check_integer, check_n_jobs
from skquee.values._places import LocalFolder
from skquee.values._shards import (
    FACTS,
    RECORD,
    Record,
    cut,
    differences,
    open_shard,
    shard_name,
    write_facts,
    write_shard,
)
from skquee.values._shipping import as_done, check_release, here, sent
from skquee.values._table import CHUNK_BYTES
from skquee.values._table_files import check_storage_type, tree_text

__all__ = ["is_folder", "materialize_shards"]


def is_folder(out: str | os.PathLike[str]) -> bool:
    """Whether an output is to be a folder of shards: one already, ``"name/"``, or no suffix."""
    text = os.fspath(out)
    return os.path.isdir(text) or text.endswith(("/", os.sep)) or not Path(text).suffix


def materialize_shards(
    table: LazyTable,
    batch_size: int,
    *,
    out: str | os.PathLike[str],
    dtype: np.dtype[np.generic],
    shards: int | None,
    n_jobs: int | None,
) -> PathProbabilities:
    """Run every path of a lazy table once, into a folder of shards.

    Each shard is a task of its own and appears whole or not at all; shards that are there are
    checked and kept. A task holds one shard and one batch in memory.

    `table`: what to run. `batch_size`: rows at once. `out`: the folder: empty, not there yet, or
    one of an earlier run of the same job. `dtype`: type to store. `shards`: how many. Default:
    each near 64 MiB. `n_jobs`: of joblib. Raises ValueError if the folder holds anything else, or
    another table. Raises BlockingIOError if somebody else writes there.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    check_n_jobs(n_jobs)
    if shards is not None:
        check_integer(shards, "shards", at_least=1)
    dtype = check_storage_type(dtype)
    folder = check_folder(out, "out")
    row_bytes = dtype.itemsize * table.shape[1] * table.shape[2]
    tree = tree_text(table.paths)
    record = Record(
        table.shape,
        str(dtype),
        cut(len(table), row_bytes, shards, CHUNK_BYTES),
        tree,
        input_digest(table),
    )
    with _claimed(folder, record):
        # The classifiers travel once to every worker, rows with their task.
        engine, rows = sent(table.engine), table.over(None)
        where = str(folder.absolute())
        tasks = (
            delayed(_run_shard)(
                engine, rows[first:last], number, record, where, batch_size, __version__
            )
            for number, (first, last) in enumerate(
                zip(record.starts, record.starts[1:], strict=False)
            )
        )
        with tqdm(total=len(table), desc="running paths", unit="row", disable=None) as bar:
            for n_rows in as_done(tasks, n_jobs):
                bar.update(n_rows)
        write_facts(folder / FACTS, table.facts, record)
    return PathProbabilities.open(folder)


@contextmanager
def _claimed(folder: Path, record: Record) -> Iterator[None]:
    """Hold a folder that is ours to write in: new, empty, or begun by the same job."""
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / RECORD, f"writing {folder}"):
        names = {entry.name for entry in folder.iterdir()} - {RECORD + ".lock"}
        if RECORD in names:
            found = Record.read(LocalFolder(folder))
            if found != record:
                what = " and ".join(differences(record, found))
                raise ValueError(
                    f"{folder} holds another table ({what} differ): give another folder, or "
                    "remove this one. Nothing in it was changed."
                )
        elif names:
            raise ValueError(
                f"{folder} holds {sorted(names)[:3]}, which are no shards of a table: give an "
                "empty folder, or one that is not there yet."
            )
        else:
            write_text(folder / RECORD, record.file_text())
        yield


def _run_shard(
    engine: object,
    part: LazyTable,
    number: int,
    record: Record,
    folder: str,
    batch_size: int,
    version: str,
) -> int:
    """Run the rows of one shard, unless it is there already; return how many."""
    check_release(version)
    part = part.over(here(engine))
    digest = input_digest(part)
    file = Path(folder, shard_name(number))
    if file.exists():
        found = open_shard(LocalFolder(folder), number, record, rows=digest, read=True)
        # Other weights under the same names are another job: the first row tells.
        if not np.allclose(found[:1], part[[0]].run_all(), atol=1e-2):
            raise ValueError(
                f"{file} was written by other classifiers than those of this bank: give another "
                "folder, or remove this one. Nothing in it was changed."
            )
        return len(part)
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"This worker has no folder {folder}: out= must be one that every worker sees."
        )
    values = np.empty(part.shape, dtype=record.dtype)
    for rows, answers in run_chunks(part, batch_size, first=record.starts[number]):
        values[rows] = answers
    write_shard(str(file), values, number, record, digest)
    return len(part)
