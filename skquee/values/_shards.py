"""A table in a folder: consecutive rows in files of their own, and a record of the whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from skquee._version import __version__
from skquee.values._archives import (
    array_header,
    member_offset,
    open_archive,
    read_array,
    read_text_member,
)
from skquee.values._atomic import whole_file
from skquee.values._blocks import RowBlocks, Source
from skquee.values._facts import RowFacts
from skquee.values._reading import field, not_whole, parse_json
from skquee.values._table_files import KNOWN, check_storage_type
from skquee.values._tree import PathTree

__all__ = ["RECORD", "Folder", "Record", "open_shard", "open_shards", "shard_name", "write_shard"]

FORMAT = 1
RECORD, FACTS, SHARD = "table.json", "facts.npz", "shard of a table"


class Folder(Protocol):
    """Where shards lie: a folder of this machine, or an address."""

    def names(self) -> set[str]:
        """Return the names of the files."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""

    def rows(
        self, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Source:
        """Return an array of a file, unread."""

    def where(self, name: str = "") -> str:
        """Return how messages call a file, or the folder."""


@dataclass(frozen=True)
class Record:
    """What a folder holds, and what all of its shards must be parts of.

    `shape`: samples, columns, classes. `starts`: first row of each shard, then the number of rows.
    `input`: digest of some rows of what the classifiers were given.
    """

    shape: tuple[int, int, int]
    dtype: str
    starts: tuple[int, ...]
    paths: str
    input: str

    def __post_init__(self) -> None:
        # One text for one tree, in whatever order its fields were written.
        paths = json.dumps(json.loads(self.paths), sort_keys=True)
        object.__setattr__(self, "paths", paths)

    @property
    def digest(self) -> str:
        """Tells this table from others; every shard carries it."""
        return sha256(self.text().encode()).hexdigest()[:32]

    def text(self) -> str:
        """Return the record as JSON, without the release that writes it."""
        fields = {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "starts": list(self.starts),
            "paths": json.loads(self.paths),
            "input": self.input,
        }
        return json.dumps(fields, sort_keys=True)

    def file_text(self) -> str:
        """Return the content of the folder's record."""
        return json.dumps({"format": FORMAT, "skquee": __version__, **json.loads(self.text())})

    @classmethod
    def read(cls, folder: Folder) -> Record:
        """Read the record of a folder, checked."""
        where = folder.where(RECORD)
        found = parse_json(folder.read(RECORD), where, "record of a table")
        made = field(found, "format", int, where)
        if made != FORMAT:
            raise ValueError(
                f"{where} was written by skquee {found.get('skquee', '?')} in format {made}; "
                f"skquee {__version__} reads format {FORMAT}. Update the older of the two."
            )
        shape = _whole_numbers(field(found, "shape", list, where), where, "shape")
        starts = _whole_numbers(field(found, "starts", list, where), where, "starts")
        if len(shape) != 3 or len(starts) < 2 or starts[0] != 0 or starts[-1] != shape[0]:
            raise not_whole(where, "record of a table", f"shape {shape}, shards from {starts[:5]}")
        if any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
            raise not_whole(where, "record of a table", "its shards do not follow each other")
        dtype = str(check_storage_type(field(found, "dtype", str, where), f"{where}: dtype"))
        tree = json.dumps(field(found, "paths", dict, where))
        n_samples, n_columns, n_classes = shape
        rows = field(found, "input", str, where)
        return cls((n_samples, n_columns, n_classes), dtype, starts, tree, rows)

    def tree(self, where: str) -> PathTree:
        """Return the tree."""
        try:
            return PathTree.from_dict(json.loads(self.paths))
        except (TypeError, ValueError) as error:
            raise not_whole(where, "record of a table", error) from None


def _whole_numbers(values: list[object], where: str, name: str) -> tuple[int, ...]:
    numbers = tuple(value for value in values if type(value) is int and value >= 0)
    if len(numbers) != len(values):
        raise ValueError(f"{where}: {name!r} must hold whole numbers from 0, got {values[:5]}.")
    return numbers


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.npz"


def write_shard(
    file: str | os.PathLike[str],
    values: NDArray[np.generic],
    number: int,
    record: Record,
    rows: str,
) -> None:
    """Write a shard, whole or not at all; it says which table it is a part of.

    `values` (n_rows, n_columns, n_classes). `rows`: digest of some rows of its input.
    """
    said = json.dumps({"table": record.digest, "number": number, "input": rows})
    with whole_file(file) as stream:
        np.savez(stream, shard=np.array(said), values=values)


def open_shard(
    folder: Folder, number: int, record: Record, *, rows: str | None = None, read: bool = False
) -> Source:
    """Return the values of a shard, unread, once it is known to be one of this table.

    `rows`: digest that its input must have. `read`: read all of it, so that a flipped bit is found
    by the archive's checksum. Returns shape (n_rows, n_columns, n_classes). ValueError if it is
    damaged or part of another table.
    """
    try:
        return _opened_shard(folder, number, record, rows, read)
    except ValueError as error:
        raise ValueError(
            f"{error} Put back the right file, or remove this one, and run the same materialize "
            "again: it goes on with the shards that are missing."
        ) from None


def _opened_shard(
    folder: Folder, number: int, record: Record, rows: str | None, read: bool
) -> Source:
    name = shard_name(number)
    where = folder.where(name)
    shape = (record.starts[number + 1] - record.starts[number], *record.shape[1:])
    with folder.open(name) as stream, open_archive(where, SHARD, stream) as archive:
        if sorted(archive.namelist()) != ["shard.npy", "values.npy"]:
            raise not_whole(where, SHARD, f"it holds {sorted(archive.namelist())[:4]}")
        said = parse_json(read_text_member(archive, "shard.npy", where, SHARD), where, SHARD)
        if said.get("table") != record.digest:
            raise ValueError(
                f"{where} is shard {said.get('number')} of another table than that of "
                f"{folder.where(RECORD)}."
            )
        if said.get("number") != number:
            raise ValueError(f"{where} is shard {said.get('number')} of this table.")
        if rows is not None and said.get("input") != rows:
            raise ValueError(f"{where} was made of other rows of input.")
        entry = archive.getinfo("values.npy")
        if read:
            values = read_array(archive, "values.npy", where, SHARD)
        offset = member_offset(stream, entry)
        stream.seek(offset)
        header = array_header(stream, entry.file_size, where, SHARD)
        if header.shape != shape or str(header.dtype) != record.dtype or header.fortran:
            raise not_whole(
                where, SHARD, f"{header.shape} of {header.dtype}, not {shape} of {record.dtype}"
            )
        if entry.compress_type != 0 or read:
            return values if read else read_array(archive, "values.npy", where, SHARD)
    return folder.rows(name, offset + header.length, shape, header.dtype)


def open_shards(folder: Folder) -> tuple[RowBlocks, PathTree, RowFacts]:
    """Return the table of a folder, unread: its values, tree and facts.

    `folder`: that :func:`write_shard` wrote to. ValueError if a shard is missing, damaged or of
    another table.
    """
    record = Record.read(folder)
    there, n_shards = folder.names(), len(record.starts) - 1
    missing = [i for i in range(n_shards) if shard_name(i) not in there]
    if missing:
        named = ", ".join(shard_name(i) for i in missing[:3])
        raise ValueError(
            f"{folder.where()} is half written: {len(missing)} of {n_shards} shards are missing "
            f"({named}{', ...' if len(missing) > 3 else ''}). Run the same materialize(out=) "
            "again; it goes on with those."
        )
    sources = [open_shard(folder, number, record) for number in range(n_shards)]
    facts = RowFacts()
    if FACTS in there:
        facts = _read_facts(folder, record)
    return RowBlocks(sources), record.tree(folder.where(RECORD)), facts


def _read_facts(folder: Folder, record: Record) -> RowFacts:
    where, what = folder.where(FACTS), "file of facts"
    with folder.open(FACTS) as stream, open_archive(where, what, stream) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "table" not in names or not set(names) <= {"table", *KNOWN}:
            raise not_whole(where, what, f"it holds {sorted(names)[:5]}")
        if read_text_member(archive, "table.npy", where, what) != record.digest:
            raise ValueError(f"{where} tells of the rows of another table than the shards beside.")
        known = {
            name: read_array(archive, f"{name}.npy", where, what)
            for name in names
            if name != "table"
        }
    return RowFacts.from_arrays(known, record.shape[0], record.shape[1])


def write_facts(file: str | os.PathLike[str], facts: RowFacts, record: Record) -> None:
    """Write what is known of the rows besides, if anything is."""
    known = facts.arrays()
    if known:
        with whole_file(file) as stream:
            np.savez(stream, table=np.array(record.digest), **known)  # type: ignore[arg-type]


def cut(n_rows: int, row_bytes: int, shards: int | None, shard_bytes: int) -> tuple[int, ...]:
    """Return where shards begin: as even as can be, near a size unless their number is given.

    >>> from skquee.values._shards import cut
    >>> cut(10, 8, 3, 0)
    (0, 3, 6, 10)
    """
    if shards is None:
        shards = math.ceil(n_rows * row_bytes / shard_bytes)
    shards = max(1, min(shards, n_rows))
    return tuple(n_rows * i // shards for i in range(shards + 1))


def differences(one: Record, other: Record) -> Sequence[str]:
    """Return which fields of two records differ, in words."""
    words = {
        "shape": "shape",
        "dtype": "type",
        "starts": "shards",
        "paths": "tree",
        "input": "rows of input",
    }
    if one.paths != other.paths:  # the digest of rows is of the tree too
        del words["input"]
    return [word for name, word in words.items() if getattr(one, name) != getattr(other, name)]
