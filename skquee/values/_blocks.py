"""Rows that lie in several places, read as one array; mapped files that pickle by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._rows import take_rows

__all__ = ["MappedRows", "RowBlocks", "Source", "aligned", "mapped_rows"]

# Mapped rows up to this many bytes travel as values, as joblib sends them.
SMALL = 2**20
# Bytes that are read at once where only one path of each row is wanted.
READ_BYTES = 64 * 2**20


@dataclass(frozen=True)
class MappedRows:
    """Where in a file the values of an array lie, and what tells that file from a later one."""

    file: str
    offset: int
    shape: tuple[int, ...]
    dtype: str
    size: int
    changed: int

    def open(self) -> NDArray[np.generic]:
        """Map the rows, or say why that cannot be."""
        try:
            found = os.stat(self.file)
        except OSError as error:
            raise FileNotFoundError(
                f"A table was sent by the name of its file, {self.file}, which this process cannot "
                f"read ({error.strerror}). Put the file where every worker sees it, or send "
                "values: PathProbabilities(np.array(table), table.paths)."
            ) from None
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed):
            raise ValueError(
                f"A table was sent by the name of its file, {self.file}, which has been written "
                "anew since, or is another here. Open it again and send that."
            )
        return np.memmap(
            self.file, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape
        )


def aligned(value: Any) -> Any:
    """Return a value; an array whose numbers lie between words of memory, copied.

    Such come over Dask's wire, and sums over them have other last bits.
    """
    stray = isinstance(value, np.ndarray) and not value.flags.aligned
    return value.copy(order="K") if stray else value


def mapped_rows(values: NDArray[np.generic]) -> MappedRows | None:
    """Tell where an array lies in a file that it is mapped from.

    Returns none where it is small, not mapped read-only in one piece, or the file has gone.
    """
    root: np.memmap[tuple[int, ...], np.dtype[np.generic]] | None = None
    base: object = values
    while isinstance(base, np.ndarray):
        root = base if isinstance(base, np.memmap) else root
        base = base.base
    if root is None or root.mode != "r" or not values.flags.c_contiguous or values.nbytes <= SMALL:
        return None
    assert root.filename is not None
    file = os.path.abspath(os.fspath(root.filename))
    start = values.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    try:
        found = os.stat(file)
    except OSError:
        return None
    offset = root.offset + start
    if offset + values.nbytes > found.st_size:
        return None
    shape, dtype = values.shape, values.dtype.str
    return MappedRows(file, offset, shape, dtype, found.st_size, found.st_mtime_ns)


class Source(Protocol):
    """Rows somewhere: an ndarray, a file of zarr or h5py, an address."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and what each holds."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values."""

    def __getitem__(self, rows: slice | NDArray[np.intp], /) -> ArrayLike: ...


class RowBlocks:
    """Arrays one below the other, read as one array; nothing is copied before it is asked for.

    `sources`: each of shape (n_rows, n_columns, n_classes): ndarrays, mapped files, zarr, h5py, or
    rows of an address. `spans`: rows of each, from and up to. Default: all. ValueError if they
    differ in columns or classes.
    """

    ndim = 3

    def __init__(
        self, sources: Sequence[Source], spans: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self.sources = list(sources)
        if not self.sources:
            raise ValueError("There are no rows to put together: give at least one table.")
        inner = {tuple(source.shape[1:]) for source in self.sources}
        if len(inner) > 1:
            raise ValueError(f"Tables differ in columns or classes: {sorted(inner)}.")
        self.spans = (
            [(0, int(source.shape[0])) for source in self.sources] if spans is None else list(spans)
        )
        self.starts = np.cumsum([0] + [stop - start for start, stop in self.spans])
        self.shape = (int(self.starts[-1]), *(int(n) for n in inner.pop()))
        self.dtype = np.result_type(*(np.dtype(source.dtype) for source in self.sources))

    @classmethod
    def joined(cls, blocks: Sequence[NDArray[np.generic] | RowBlocks]) -> RowBlocks:
        """Return arrays and blocks below each other, as one list of sources."""
        parts = [block if isinstance(block, RowBlocks) else cls([block]) for block in blocks]
        return cls(
            [source for part in parts for source in part.sources],
            [span for part in parts for span in part.spans],
        )

    def __len__(self) -> int:
        return self.shape[0]

    def narrow(self, start: int, stop: int) -> RowBlocks | NDArray[np.generic]:
        """Return consecutive rows unread; as a plain view where they lie in one ndarray."""
        kept: list[tuple[Source, tuple[int, int]]] = []
        for source, (low, high), begin in zip(
            self.sources, self.spans, self.starts.tolist(), strict=False
        ):
            span = (max(low, low + start - begin), min(high, low + stop - begin))
            if span[0] < span[1]:
                kept.append((source, span))
        kept = kept or [(self.sources[0], (self.spans[0][0],) * 2)]
        source, (low, high) = kept[0]
        if len(kept) == 1 and isinstance(source, np.ndarray) and source.dtype == self.dtype:
            return source[low:high]
        return RowBlocks([source for source, _ in kept], [span for _, span in kept])

    def __getitem__(self, rows: object) -> NDArray[np.generic]:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            part = self.narrow(start, max(start, stop))
            if isinstance(part, np.ndarray):
                return part
            found = np.empty(part.shape, dtype=self.dtype)
            for place, source, (low, high) in part._pieces():
                found[place] = _read(source, slice(low, high))
            return found
        rows = np.asarray(rows)
        if rows.dtype.kind == "b":
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and (np.diff(rows) == 1).all():
            return self[int(rows[0]) : int(rows[-1]) + 1]
        found = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for places, source, inside in self._split(rows):
            found[places] = _read(source, inside)
        return found

    def pick(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.generic]:
        """Return one column of each row, reading no more of mapped files than that.

        `rows`, `columns` (m,). Returns shape (m, n_classes).
        """
        found = np.empty((len(rows), self.shape[2]), dtype=self.dtype)
        step = max(1, READ_BYTES // max(1, self.dtype.itemsize * self.shape[1] * self.shape[2]))
        for place, source, inside in self._split(rows):
            wanted = columns[place]
            if isinstance(source, np.ndarray):
                found[place] = source[inside, wanted]
                continue
            for at in range(0, len(inside), step):
                part = slice(at, at + step)
                values = _read(source, inside[part])
                found[place[part]] = values[np.arange(len(values)), wanted[part]]
        return found

    def _pieces(self) -> Iterator[tuple[slice, Source, tuple[int, int]]]:
        for i, source in enumerate(self.sources):
            yield slice(int(self.starts[i]), int(self.starts[i + 1])), source, self.spans[i]

    def _split(
        self, rows: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.intp], Source, NDArray[np.intp]]]:
        """Iterate over sources: places in `rows`, the source, and its own rows there."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.unique(part).tolist():
            place = np.flatnonzero(part == i)
            yield place, self.sources[i], rows[place] - self.starts[i] + self.spans[i][0]

    @property
    def by_name(self) -> bool:
        """Whether a pickle holds names of files and addresses, and small arrays, only."""
        return all(
            source[low:high].nbytes <= SMALL or mapped_rows(source[low:high]) is not None
            if isinstance(source, np.ndarray)
            else getattr(source, "by_name", False)
            for source, (low, high) in zip(self.sources, self.spans, strict=True)
        )

    def travelling(self) -> tuple[list[Source | MappedRows], list[tuple[int, int]]]:
        """Return sources and spans to pickle: by name where they are mapped, else own rows."""
        sources: list[Source | MappedRows] = []
        spans = []
        for source, (low, high) in zip(self.sources, self.spans, strict=True):
            if isinstance(source, np.ndarray):
                part = source[low:high]
                sources.append(mapped_rows(part) or np.array(part))
                spans.append((0, high - low))
            else:
                sources.append(source)
                spans.append((low, high))
        return sources, spans

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuilt, self.travelling())


def _rebuilt(sources: list[Source | MappedRows], spans: list[tuple[int, int]]) -> RowBlocks:
    opened = [part.open() if isinstance(part, MappedRows) else part for part in sources]
    return RowBlocks(opened, spans)


def _read(source: Source, rows: slice | NDArray[np.intp]) -> NDArray[np.generic]:
    """Read rows of one source, a slice or integers; such as follow each other as one piece."""
    if not isinstance(rows, slice) and len(rows) and (np.diff(rows) == 1).all():
        rows = slice(int(rows[0]), int(rows[-1]) + 1)
    return np.asarray(take_rows(source, rows))
