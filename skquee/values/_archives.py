"""Archives of arrays that may be cut short, damaged or forged: checked before they are read."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from skquee.values._reading import MIB, MOST_JSON, check_file, not_whole

__all__ = [
    "ArrayHeader",
    "Arrays",
    "array_header",
    "map_array",
    "member_offset",
    "open_archive",
    "open_arrays",
    "read_array",
    "read_text_member",
]

# No data of ours packs better; a file of zeros that unpacks to fill the memory does.
MOST_RATIO, FREE = 300, 64 * MIB


@contextmanager
def open_archive(
    file: str | os.PathLike[str], what: str, stream: IO[bytes] | None = None
) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose members fit it: none twice, none larger than it can be.

    `stream`: open for reading, where the file is not on this machine. ValueError if it is damaged,
    also where a member read inside the block is.
    """
    source = check_file(file, what) if stream is None else file
    try:
        archive = zipfile.ZipFile(source if stream is None else stream)
        with archive:
            size = os.stat(source).st_size if stream is None else stream.seek(0, os.SEEK_END)
            _check_members(archive, size)
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise not_whole(source, what, error) from None


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse what an archive of ours never says of its members."""
    seen, packed, unpacked = set(), 0, 0
    for entry in archive.infolist():
        name = entry.filename
        if name in seen:
            raise zipfile.BadZipFile(f"two members are named {name!r}")
        if entry.flag_bits & 1:
            raise zipfile.BadZipFile(f"member {name!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"member {name!r} is packed in an unknown way")
        stored = entry.compress_type == zipfile.ZIP_STORED
        seen.add(name)
        packed, unpacked = packed + entry.compress_size, unpacked + entry.file_size
        if packed > size or (stored and entry.file_size != entry.compress_size):
            raise zipfile.BadZipFile(f"member {name!r} is larger than the file")
        if not 0 <= entry.header_offset <= size - entry.compress_size:
            raise zipfile.BadZipFile(f"member {name!r} is not inside the file")
    if unpacked > MOST_RATIO * size + FREE:
        raise zipfile.BadZipFile(
            f"{size} bytes that unpack to {unpacked}, more than {MOST_RATIO} times as many"
        )


def member_offset(stream: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Return where the data of a stored member begins in the archive's file."""
    stream.seek(entry.header_offset)
    header = stream.read(30)
    lengths = np.frombuffer(header[26:30], dtype="<u2")
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"member {entry.filename!r} is not where it should be")
    return entry.header_offset + 30 + int(lengths.sum())


def read_text_member(archive: zipfile.ZipFile, name: str, source: object, what: str) -> str:
    """Return the text that one array of a table file holds."""
    if archive.getinfo(name).file_size > MOST_JSON:
        raise not_whole(source, what, f"{name!r} is larger than {MOST_JSON} bytes")
    return str(read_array(archive, name, source, what, kinds="U")[()])


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of a numpy file says, and how long it is."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]
    length: int


def array_header(
    stream: IO[bytes], available: int, source: object, what: str, kinds: str = "f"
) -> ArrayHeader:
    """Read the header of an array and check it against the bytes that follow.

    `stream`: at the beginning of the array. `available`: bytes from there on that belong to it.
    `source`: where it is from, for messages. `what`: what that should be. `kinds`: kinds of numpy
    types to accept: "f" for float16, float32 and float64, "U" for text, "i" and "u" for integers,
    "b" for truth values, "S" for bytes. ValueError if it is no header, of another type, or its
    shape does not fill the bytes exactly.
    """
    begin = stream.tell()
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} of numpy's format is not known")
    except Exception as error:  # numpy parses the header as Python text, and fails in many ways
        raise not_whole(source, what, error) from None
    length = stream.tell() - begin
    fits = dtype.kind in kinds and dtype.fields is None and dtype.subdtype is None
    if not fits or (dtype.kind == "f" and dtype.itemsize not in (2, 4, 8)):
        wanted = " or ".join(_DTYPES[kind] for kind in kinds)
        raise ValueError(f"{source} holds an array of type {dtype}; a {what} holds {wanted}.")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise not_whole(source, what, f"its header says the shape {shape}")
    needed = math.prod(shape) * dtype.itemsize
    if needed != available - length:
        raise not_whole(
            source,
            what,
            f"its header says {shape} of {dtype}, {needed} bytes, but {available - length} follow",
        )
    return ArrayHeader(shape, bool(fortran), dtype, length)


_DTYPES = {
    "f": "float16, float32 or float64",
    "U": "text",
    "i": "integers",
    "u": "integers from 0 up",
    "S": "bytes",
    "b": "truth values",
}


def read_array(
    archive: zipfile.ZipFile, name: str, source: object, what: str, kinds: str = "f"
) -> NDArray[np.generic]:
    """Read an array of an archive.

    `name`: of the member, with ``.npy``. `source`: the file, for messages. `kinds`: as for
    :func:`array_header`.
    """
    where = f"{source}, {name.removesuffix('.npy')!r},"
    with archive.open(name) as stream:
        array_header(stream, archive.getinfo(name).file_size, where, what, kinds)
    with archive.open(name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


class Arrays(Mapping[str, NDArray[np.generic]]):
    """The arrays of an open ``.npz``, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, source: object, what: str) -> None:
        self._archive, self._source, self._what = archive, source, what
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        self.files = [name.removesuffix(".npy") for name in names]

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        if name not in self.files:
            raise ValueError(f"{self._source} holds {self.files}, no array {name!r}.")
        return read_array(self._archive, f"{name}.npy", self._source, self._what, kinds="fiubUS")

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@contextmanager
def open_arrays(file: str | os.PathLike[str], what: str) -> Iterator[Arrays]:
    """Open an ``.npz`` of numbers and texts, in place of ``numpy.load``.

    ValueError if it is damaged, or an array asked for is missing or holds objects.

    >>> import io, os, tempfile
    >>> import numpy as np
    >>> from skquee.values._archives import open_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "a.npz")
    ...     np.savez(file, x=np.arange(3))
    ...     with open_arrays(file, "file of arrays") as arrays:
    ...         arrays.files, arrays["x"].tolist()
    (['x'], [0, 1, 2])
    """
    with open_archive(file, what) as archive:
        yield Arrays(archive, file, what)


def map_array(file: Path, header: ArrayHeader, offset: int) -> NDArray[np.generic]:
    """Memory-map an array whose header has been checked.

    `offset`: where the header begins.
    """
    if 0 in header.shape:  # nothing to map
        return np.empty(header.shape, dtype=header.dtype)
    return np.memmap(
        file,
        dtype=header.dtype,
        mode="r",
        offset=offset + header.length,
        shape=header.shape,
        order="F" if header.fortran else "C",
    )
