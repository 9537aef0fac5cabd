"""Where tables lie: files and folders of this machine, zarr, and addresses of fsspec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skquee.values._blocks import RowBlocks, Source
from skquee.values._facts import RowFacts
from skquee.values._optional import require
from skquee.values._reading import not_whole, parse_json
from skquee.values._shards import RECORD, Folder, open_shards
from skquee.values._tree import PathTree

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["LocalFolder", "is_address", "open_place"]

ZARR = ("zarr.json", ".zarray")
# Rows of an address that lie closer than this are fetched in one piece.
GAP_BYTES = 2**18
# Attribute of a zarr array that holds the tree, as JSON or as an object.
TREE = "skquee_paths"


class LocalFolder:
    """A folder of this machine; its arrays are mapped."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def names(self) -> set[str]:
        return {entry.name for entry in self.folder.iterdir()}

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def open(self, name: str) -> IO[bytes]:
        return (self.folder / name).open("rb")

    def rows(
        self, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Source:
        return np.memmap(self.folder / name, dtype=dtype, mode="r", offset=offset, shape=shape)

    def where(self, name: str = "") -> str:
        return str(self.folder / name)


class RemoteFolder:
    """A folder at an address that fsspec reads."""

    def __init__(self, files: AbstractFileSystem, folder: str, address: str) -> None:
        self.files, self.folder, self.address = files, folder.rstrip("/"), address.rstrip("/")

    def names(self) -> set[str]:
        listed = self.files.ls(self.folder, detail=False)
        return {str(name).rstrip("/").rpartition("/")[2] for name in listed}

    def read(self, name: str) -> bytes:
        return self.files.cat_file(f"{self.folder}/{name}")

    def open(self, name: str) -> IO[bytes]:
        return self.files.open(f"{self.folder}/{name}", "rb")

    def rows(
        self, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Source:
        where = self.where(name)
        return RemoteRows(self.files, f"{self.folder}/{name}", offset, shape, dtype, where)

    def where(self, name: str = "") -> str:
        return f"{self.address}/{name}" if name else self.address


class RemoteRows:
    """An array in a file at an address: rows are fetched when they are asked for."""

    by_name = True

    def __init__(
        self,
        files: AbstractFileSystem,
        file: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        where: str,
    ) -> None:
        self.files, self.file, self.offset, self.where = files, file, offset, where
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[np.generic]:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            if step == 1:
                return self._fetch([(start, max(start, stop))])
            rows = np.arange(start, stop, step)
        if not len(rows):
            return np.empty((0, *self.shape[1:]), dtype=self.dtype)
        wanted, places = np.unique(rows, return_inverse=True)
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        cuts = np.flatnonzero(np.diff(wanted) * row_bytes > GAP_BYTES + row_bytes) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(wanted, cuts)]
        before = np.cumsum([0] + [stop - start for start, stop in runs])
        run = np.searchsorted([start for start, _ in runs], wanted, side="right") - 1
        inside = wanted - np.array([start for start, _ in runs])[run] + before[run]
        return self._fetch(runs)[inside[places]]

    def _fetch(self, runs: list[tuple[int, int]]) -> NDArray[np.generic]:
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        begins = [self.offset + start * row_bytes for start, _ in runs]
        ends = [self.offset + stop * row_bytes for _, stop in runs]
        parts = self.files.cat_ranges([self.file] * len(runs), begins, ends, on_error="raise")
        content = b"".join(parts)
        if len(content) != sum(ends) - sum(begins):
            raise not_whole(self.where, "shard of a table", f"{len(content)} bytes came")
        return np.frombuffer(content, dtype=self.dtype).reshape(-1, *self.shape[1:])


class ZarrRows:
    """A zarr array at an address: opened where it is read, so that a pickle names it only."""

    by_name = True

    def __init__(self, address: str, options: Mapping[str, object] | None) -> None:
        self.address, self.options = address, options
        zarr = require("zarr", f"The zarr array {address}")
        try:
            self._array = zarr.open_array(address, mode="r", storage_options=options)
        except Exception as error:  # of zarr, of the store, or of what carries it
            raise not_whole(address, "zarr array", error) from None
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def tree(self) -> PathTree | None:
        """Return the tree that the array's attributes hold, if they do."""
        found = dict(self._array.attrs).get(TREE)
        if found is None:
            return None
        where = f"{self.address}, {TREE!r},"
        record = found if isinstance(found, dict) else parse_json(str(found), where, "tree")
        try:
            return PathTree.from_dict(record)
        except (TypeError, ValueError) as error:
            raise not_whole(where, "tree of paths", error) from None

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[np.generic]:
        try:
            return self._array[rows] if isinstance(rows, slice) else self._array.oindex[rows]
        except Exception as error:  # of what packed a chunk, or of what carries it
            raise OSError(
                f"Rows of {self.address} cannot be read: {type(error).__name__}: {error}"
            ) from error

    def __reduce__(self) -> tuple[object, ...]:
        return (ZarrRows, (self.address, self.options))


def is_address(place: object) -> bool:
    """Whether this is an address such as ``s3://bucket/folder``, and no path."""
    return isinstance(place, str) and ("://" in place or "::" in place)


def open_place(
    place: str | os.PathLike[str], paths: PathTree | None, options: Mapping[str, object] | None
) -> tuple[RowBlocks, PathTree, RowFacts]:
    """Return the table at a folder or address, unread: values, tree, facts.

    `place`: folder of shards or of zarr, on this machine or at an address. `paths`: in place of its
    own tree; needed for a zarr array that carries none. `options`: of fsspec, for the address.
    """
    folder: Folder
    where = str(place)
    if is_address(place):
        folder, names = _remote(where, options)
    elif options is not None:
        raise ValueError(f"storage_options is for an address such as 's3://...', got {where!r}.")
    elif not os.path.isdir(place):
        raise FileNotFoundError(f"There is neither a file nor a folder {where}.")
    else:
        folder = LocalFolder(place)
        names = folder.names()
    if RECORD in names:
        values, tree, facts = open_shards(folder)
        return values, paths or tree, facts
    if names & set(ZARR):
        source = ZarrRows(where, options)
        found = paths or source.tree()
        if found is None:
            raise ValueError(
                f"The zarr array {where} has no tree: pass paths=, or write it with "
                f"array.attrs[{TREE!r}] = tree.to_dict()."
            )
        return RowBlocks([source]), found, RowFacts()
    raise FileNotFoundError(
        f"{where} holds no table: neither a {RECORD} of materialize(out=folder) nor a zarr array, "
        f"but {sorted(names)[:5]}."
    )


def _remote(address: str, options: Mapping[str, object] | None) -> tuple[RemoteFolder, set[str]]:
    fsspec = require("fsspec", f"The address {address}")
    try:
        files, folder = fsspec.core.url_to_fs(address, **(options or {}))
        found = RemoteFolder(files, folder, address)
        if files.isfile(folder):
            raise NotADirectoryError(
                f"The address {address} is a file's: give that of a folder of shards, or a zarr "
                "array."
            )
        return found, found.names()
    except (ImportError, ValueError) as error:
        raise ValueError(f"The address {address} cannot be read: {error}") from None
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no folder at the address {address}: {error}") from None
    except NotADirectoryError:
        raise
    except Exception as error:  # each kind of store has its own
        raise OSError(
            f"The address {address} cannot be read: {type(error).__name__}: {error}"
        ) from error
