"""Tables of probabilities in files: one archive, or one array with its tree beside it."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skquee.values._archives import (
    array_header,
    map_array,
    member_offset,
    open_archive,
    read_array,
    read_text_member,
)
from skquee.values._atomic import whole_file
from skquee.values._reading import check_file, not_whole, parse_json, read_json, tree_fields
from skquee.values._tree import PathTree

__all__ = ["KNOWN", "check_storage_type", "read_table", "tree_text", "write_table"]

WHAT, TREE = "table file", "tree of paths"
#: Arrays that a table may carry besides its values.
KNOWN = ("context", "losses", "call_costs", "facts")
STORED = tuple(np.dtype(name) for name in ("float16", "float32", "float64"))


def check_storage_type(dtype: DTypeLike, name: str = "dtype") -> np.dtype[np.generic]:
    """Return a type that tables are stored in.

    `name`: of the parameter, for the message. ValueError if it is another than float16, float32 or
    float64.
    """
    try:
        found: np.dtype[np.generic] | None = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.newbyteorder("=") not in STORED:
        raise ValueError(f"{name} must be float16, float32 or float64, got {dtype}.")
    return found


def tree_text(tree: PathTree) -> str:
    """Return a tree as JSON, as files hold it.

    ValueError if a level or class is neither a text nor a number, so that it would not come back.
    """
    try:
        text = json.dumps(tree.to_dict())
        tree_fields(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The tree's levels and classes must be texts or numbers to be saved: {error}"
        ) from None
    return text


def write_table(
    file: str | os.PathLike[str],
    values: NDArray[np.generic],
    tree: PathTree,
    known: Mapping[str, NDArray[np.generic]],
) -> None:
    """Write a table to one uncompressed ``.npz``, whole or not at all.

    `values` (n_samples, n_columns, n_classes). `known`: further arrays, of :data:`KNOWN`.
    """
    text = tree_text(tree)
    with whole_file(file) as stream:
        np.savez(stream, values=values, paths=np.array(text), **known)  # type: ignore[arg-type]


def read_table(
    file: str | os.PathLike[str], tree: PathTree | None, mmap: bool
) -> tuple[NDArray[np.generic], PathTree, dict[str, NDArray[np.generic]]]:
    """Read what :func:`write_table` or a bank wrote.

    `file`: an ``.npz``, or an ``.npy`` with its tree in ``<file>.json``. `tree`: in place of the
    tree of the file. `mmap`: map values that are not packed, instead of reading them. Returns
    `values` (n_samples, n_columns, n_classes); `known`: further arrays. FileNotFoundError if there
    is no such file. ValueError if it is damaged or something else, or has no tree and none is
    given.
    """
    source = check_file(file, WHAT)
    with source.open("rb") as stream:
        begin = stream.read(6)
    if begin[:2] == b"PK":
        return _read_archive(source, tree, mmap)
    if begin != b"\x93NUMPY":
        raise not_whole(source, WHAT, "it begins neither as an .npz nor as an .npy")
    with source.open("rb") as stream:
        header = array_header(stream, source.stat().st_size, source, WHAT)
    values = map_array(source, header, 0) if mmap else np.load(source, allow_pickle=False)
    if tree is None:
        sidecar = source.with_name(source.name + ".json")
        if not sidecar.exists():
            raise ValueError(f"{source} has no tree beside it ({sidecar.name}): pass paths=.")
        tree = _read_tree(read_json(sidecar, TREE), sidecar)
    return values, tree, {}


def _read_archive(
    source: Path, tree: PathTree | None, mmap: bool
) -> tuple[NDArray[np.generic], PathTree, dict[str, NDArray[np.generic]]]:
    with open_archive(source, WHAT) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if not {"values", "paths"} <= names <= {"values", "paths", *KNOWN}:
            raise ValueError(
                f"{source} holds {sorted(names)}, not the 'values' and 'paths' of a saved table, "
                f"with or without {list(KNOWN)}."
            )
        text = read_text_member(archive, "paths.npy", source, WHAT)
        if tree is None:
            where = f"{source}, 'paths',"
            tree = _read_tree(parse_json(text, where, TREE), where)
        entry = archive.getinfo("values.npy")
        if mmap and entry.compress_type == zipfile.ZIP_STORED:
            values = _map_member(source, entry)
        else:
            values = read_array(archive, "values.npy", source, WHAT)
        known = {
            name: read_array(archive, f"{name}.npy", source, WHAT)
            for name in KNOWN
            if name in names
        }
    return values, tree, known


def _map_member(source: Path, entry: zipfile.ZipInfo) -> NDArray[np.generic]:
    with source.open("rb") as stream:
        offset = member_offset(stream, entry)
        left = source.stat().st_size - offset
        if entry.file_size > left:
            raise not_whole(source, WHAT, f"'values' says {entry.file_size} bytes of {left}")
        stream.seek(offset)
        header = array_header(stream, entry.file_size, source, WHAT)
    return map_array(source, header, offset)


def _read_tree(record: dict[str, object], source: object) -> PathTree:
    try:
        return PathTree.from_dict(record)
    except (TypeError, ValueError) as error:
        raise not_whole(source, TREE, error) from None
