"""The table of probabilities every estimator of the package eats, stored or lazy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee._checks import check_integer, check_output
from skquee._public import publish
from skquee.values._facts import RowFacts, check_context, check_losses, check_prices
from skquee.values._rows import check_rows, own_values, take_rows
from skquee.values._sources import numeric
from skquee.values._table_builders import TableBuilders
from skquee.values._table_checks import check_table_shape
from skquee.values._table_files import check_storage_type, read_table, write_table
from skquee.values._tree import PathTree

__all__ = ["PathProbabilities", "Walk"]

# Rows handled at once wherever a table is read whole: keeps working memory near 64 MiB.
CHUNK_BYTES = 64 * 2**20


class Walk(Protocol):
    """One pass over some rows of a table: hands out answers of the paths asked for."""

    counts: dict[str, int]

    def advance(self, rows: NDArray[np.intp], paths: NDArray[np.intp]) -> NDArray[np.floating]:
        """Take one more step and return its answers.

        Parameters
        ----------
        rows : ndarray of shape (m,)
            Rows that go on, as positions in the walk's own rows. Rows left out have exited.
        paths : ndarray of shape (m,)
            Path each row arrives at: one step longer than the one it came from.

        Returns
        -------
        ndarray of shape (m, n_classes)
        """


class PathProbabilities(TableBuilders):
    """Probabilities of every path for every sample, with the tree of paths.

    An array-like of shape ``(n_samples, n_columns, n_classes)`` that survives scikit-learn's
    Pipeline, GridSearchCV and worker processes: it slices by rows without copying, and
    pickles to its own rows only. Column ``paths.columns[p]`` holds path ``p``.

    Parameters
    ----------
    values : array-like of shape (n_samples, n_columns, n_classes)
        Probability vectors: ndarray of any float type, memory map, or zarr array.
    paths : PathTree
        The tree.

    Attributes
    ----------
    shape, ndim, dtype
        As of the array.
    paths : PathTree
        The tree.

    Raises
    ------
    ValueError
        If the array is not 3-D or has another number of columns or classes than the tree.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathProbabilities, PathTree
    >>> tree = PathTree.chain([1, 1])
    >>> table = PathProbabilities(np.full((5, 2, 4), 0.25), tree)
    >>> table
    PathProbabilities(5 samples, 2 paths, 4 classes, float64)
    >>> np.asarray(table[:2]).shape
    (2, 2, 4)
    """

    #: What is known of the rows besides.
    facts: RowFacts = RowFacts()

    def __init__(
        self, values: Any, paths: PathTree, *, _rows: NDArray[np.intp] | None = None
    ) -> None:
        values = numeric(values)
        check_table_shape(values.shape, paths)
        self._base = values
        self._rows = _rows
        self.paths = paths

    # ------------------------------------------------------------------ array-like

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of samples, columns and classes."""
        n_samples = self._base.shape[0] if self._rows is None else len(self._rows)
        return (n_samples, *self._base.shape[1:])

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type the values are stored in."""
        return np.dtype(self._base.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        # scikit-learn's row selection asks for X[rows, ...].
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, (int, np.integer)):
            check_rows(key, len(self))
        if isinstance(key, (tuple, int, np.integer)):
            return np.asarray(self)[key]
        chosen = check_rows(key, len(self))
        if isinstance(key, slice) and self._rows is None and isinstance(self._base, np.ndarray):
            return PathProbabilities(self._base[key], self.paths)._knowing(self.facts, chosen)
        rows = np.arange(self.shape[0]) if self._rows is None else self._rows
        taken = PathProbabilities(self._base, self.paths, _rows=rows[chosen])
        return taken._knowing(self.facts, chosen)

    def _knowing(self, facts: RowFacts, rows: Any = None) -> Self:
        """Take over facts, or those of some rows."""
        self.facts = facts if rows is None else facts.of(rows)
        return self

    @property
    def context(self) -> NDArray[np.float64] | None:
        """What is known before anything runs, shape (n_samples, n_context), or None."""
        return self.facts.context

    @property
    def losses(self) -> NDArray[np.float64] | None:
        """Loss of each column's answer, shape (n_samples, n_columns), or None."""
        return self.facts.losses

    def row_path_costs(self) -> NDArray[np.float64] | None:
        """Return what each path costs for each row, where that differs.

        Returns
        -------
        ndarray of shape (n_samples, n_paths) or None
            None: the costs of the tree hold.
        """
        return self.facts.path_costs(self.paths)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        plain = isinstance(self._base, np.ndarray)
        if self._rows is not None:
            values = self._base[self._rows] if plain else take_rows(self._base, self._rows)
        else:
            values = self._base if plain else self._base[:]
        if copy is False and not (isinstance(values, np.ndarray) and self._rows is None):
            raise ValueError("These rows cannot be given as an array without a copy.")
        return np.array(values, dtype=dtype, copy=copy or None)

    def __reduce__(self) -> Any:
        whole = self._rows is None and isinstance(self._base, np.ndarray)
        values = own_values(self._base if whole else np.asarray(self))
        return (_rebuilt, (values, self.paths, self.facts))

    def __repr__(self) -> str:
        n_samples, n_paths, n_classes = self.shape
        return (
            f"{type(self).__name__}({n_samples} samples, {n_paths} paths, {n_classes} classes, "
            f"{self.dtype})"
        )

    def with_paths(self, paths: PathTree) -> PathProbabilities:
        """Return the same rows under another tree (other costs or classes).

        Parameters
        ----------
        paths : PathTree
            The tree.

        Returns
        -------
        PathProbabilities
        """
        return PathProbabilities(self._base, paths, _rows=self._rows)._knowing(self.facts)

    def with_context(self, context: ArrayLike | None) -> Self:
        """Return the same rows with features that are known before anything runs.

        A prompt's length, an image's size, an embedding: :class:`skquee.gates.PathErrorClassifier`
        (a router with ``regressor="logistic"``, say) reads them at every gate, and chooses the
        first step by them where there is a choice. The paper's network takes no notice.

        Parameters
        ----------
        context : array-like of shape (n_samples, n_context) or (n_samples,), or None
            Numbers; None forgets them.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If they are not a finite number of features for each row.
        """
        known = None if context is None else check_context(context, len(self))
        return self._with_facts(context=known)

    def with_losses(self, losses: ArrayLike | None) -> Self:
        """Return the same rows with a loss for each classifier's answer.

        Routers then learn losses instead of right or wrong, and accuracy is 1 less the mean
        loss: a mistake may weigh more than another.

        Parameters
        ----------
        losses : array-like of shape (n_samples, n_columns) or None
            Between 0 (right) and 1; None forgets them.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If one lies outside [0, 1], or shapes do not fit.
        """
        known = None if losses is None else check_losses(losses, self.shape[1])
        if known is not None and len(known) != len(self):
            raise ValueError(f"losses has {len(known)} rows, the table {len(self)}.")
        return self._with_facts(losses=known)

    def with_call_costs(self, costs: ArrayLike | None, *, known: bool = True) -> Self:
        """Return the same rows with a price for each call.

        Parameters
        ----------
        costs : array-like of shape (n_samples, n_columns) or None
            Price of one call of each classifier, in the unit of the tree's costs; None: those of
            the tree hold.
        known : bool, default=True
            Whether prices are known before the call. If not, a router predicts them from the
            context, and what was paid is what counts.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If a price is negative or not finite, or shapes do not fit.
        """
        prices = None
        if costs is not None:
            prices = check_prices(costs, len(self), self.shape[1])
            prices = np.broadcast_to(prices, (len(self), self.shape[1]))
        return self._with_facts(call_costs=prices, costs_known=known)

    def _with_facts(self, **known: Any) -> Self:
        # Not copy.copy, which would go by __reduce__ and copy the rows.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.facts = replace(self.facts, **known)
        return other

    # ------------------------------------------------------------------ reading

    def walk(self) -> Walk:
        """Start a pass that reads only the answers it is asked for.

        Returns
        -------
        Walk
            With ``advance(rows, paths)`` and ``counts``.
        """
        return _StoredWalk(self)

    @property
    def chunk_size(self) -> int:
        """Rows that a pass handles at once."""
        return max(1, CHUNK_BYTES // max(1, 4 * self.shape[1] * self.shape[2]))

    def chunks(self, size: int | None = None) -> Iterator[tuple[slice, PathProbabilities]]:
        """Iterate over consecutive rows.

        Parameters
        ----------
        size : int, default=None
            Rows a chunk. Default: as many as keep a chunk near 64 MiB.

        Yields
        ------
        slice, PathProbabilities
            The rows and their part of the table.
        """
        step = self.chunk_size if size is None else check_integer(size, "size", at_least=1)
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self[rows]

    def path(self, path: int | str) -> NDArray[np.floating]:
        """Return the probabilities of one path.

        Parameters
        ----------
        path : int or str
            Index or name.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float32 or float64
        """
        column = self.paths.path_columns[self.paths.index(path)]
        if not isinstance(self._base, np.ndarray):  # on a disk or elsewhere: by whole rows
            return _wide(np.asarray(self)[:, column])
        rows = slice(None) if self._rows is None else self._rows
        return _wide(np.asarray(self._base[rows, column]))

    # ------------------------------------------------------------------ files

    def save(self, file: str | os.PathLike[str], dtype: Any = None) -> None:
        """Write the table and its tree to one uncompressed ``.npz`` file.

        The file appears whole or not at all: it is written under another name and moved.

        Parameters
        ----------
        file : path
            Where to.
        dtype : dtype, default=None
            float16, float32 or float64. Default: as it is.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            If the folder does not exist, or `file` is one.
        ValueError
            If values are of another type, or levels or classes neither texts nor numbers.
        """
        check_output(file)  # before a lazy table runs
        if dtype is not None:
            check_storage_type(dtype)
        values = np.asarray(self)
        if dtype is None and values.dtype.kind in "iub":
            dtype = np.float32
        stored = check_storage_type(values.dtype if dtype is None else dtype)
        known = self.facts.arrays()
        write_table(file, values.astype(stored, copy=False), self.paths, known)

    @classmethod
    def load(
        cls, file: str | os.PathLike[str], paths: PathTree | None = None, mmap: bool = True
    ) -> PathProbabilities:
        """Read a table written by :meth:`save` or by a bank's ``materialize(out=...)``.

        Parameters
        ----------
        file : path
            An ``.npz`` of :meth:`save`, or an ``.npy``.
        paths : PathTree, default=None
            The tree of an ``.npy`` that has no ``.json`` beside it.
        mmap : bool, default=True
            Map the file instead of reading it: rows come from the disk when asked for.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged or something else, holds no tree and none is given, or holds another
            type than float16, float32 and float64.
        """
        values, tree, known = read_table(file, paths, mmap)
        try:
            made = cls(values, tree)
            return made._knowing(RowFacts.from_arrays(known, len(made), made.shape[1]))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None


class _StoredWalk:
    """A walk over a table that exists: reads, counts nothing."""

    def __init__(self, table: PathProbabilities) -> None:
        self.counts: dict[str, int] = {}
        self._table = table

    def advance(self, rows: NDArray[np.intp], paths: NDArray[np.intp]) -> NDArray[np.floating]:
        table = self._table
        columns = table.paths.path_columns[paths]
        if len(rows) == len(table) and (columns == columns[0]).all():
            return table.path(int(paths[0]))
        places = rows if table._rows is None else table._rows[rows]
        if not isinstance(table._base, np.ndarray):
            found = np.asarray(take_rows(table._base, places))
            return _wide(found[np.arange(len(rows)), columns])
        return _wide(np.asarray(table._base[places, columns]))

    def one(self, path: int) -> list[float]:
        """Return the answer of a path where the walk has one row."""
        table = self._table
        assert table.paths.columns is not None
        row = 0 if table._rows is None else int(table._rows[0])
        return np.asarray(table._base[row, table.paths.columns[path]]).tolist()


def _rebuilt(values: Any, paths: PathTree, facts: RowFacts) -> PathProbabilities:
    return PathProbabilities(values, paths)._knowing(facts)


def _wide(values: NDArray[Any]) -> NDArray[np.floating]:
    """At least float32: float16 is a storage type."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


publish("skquee.probabilities", PathProbabilities)
