"""The table of probabilities every estimator of the package eats, stored or lazy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._blocks import MappedRows, RowBlocks, aligned, mapped_rows
from skquee.values._checks import check_integer
from skquee.values._facts import RowFacts, check_context, check_losses, check_prices, knowing
from skquee.values._halves import widened
from skquee.values._html import block, facts, folded
from skquee.values._public import publish
from skquee.values._rows import check_rows, own_values
from skquee.values._sources import check_table_shape, numeric
from skquee.values._table_builders import TableBuilders
from skquee.values._table_stores import StoredTables
from skquee.values._tree import PathTree, tree_table

__all__ = ["PathProbabilities", "Walk", "rebuilt_table"]

# Rows handled at once wherever a table is read whole: keeps working memory near 64 MiB.
CHUNK_BYTES = 64 * 2**20


class Walk(Protocol):
    """One pass over some rows of a table: hands out answers of the paths asked for."""

    counts: dict[str, int]

    def advance(self, rows: NDArray[np.intp], paths: NDArray[np.intp]) -> NDArray[np.floating]:
        """Take one more step and return its answers.

        `rows` (m,): rows that go on, as positions in the walk's own rows. Rows left out have
        exited. `paths` (m,): path each row arrives at: one step longer than the one it came from.
        Returns shape (m, n_classes).
        """


class PathProbabilities(TableBuilders, StoredTables):
    """Probabilities of every path for every sample, with the tree of paths.

    An array-like of shape ``(n_samples, n_columns, n_classes)`` that survives scikit-learn's
    Pipeline, GridSearchCV and worker processes: it slices by rows without copying, and
    pickles to its own rows only; rows of a file that is mapped (:meth:`load`, :meth:`open`,
    ``materialize(out=)``) and larger than 1 MiB pickle as the file's name, so that workers map
    it too. Column ``paths.columns[p]`` holds path ``p``.

    Parameters
    ----------
    values : array-like of shape (n_samples, n_columns, n_classes)
        Probability vectors: ndarray of any float type, memory map, or zarr or h5py array, whose
        rows are read when they are asked for.
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

    # Which rows of the array these are. Default: all.
    _rows: NDArray[np.intp] | None = None

    def __init__(self, values: object, paths: PathTree) -> None:
        found = numeric(values)
        check_table_shape(found.shape, paths)
        self._base = found if isinstance(found, (np.ndarray, RowBlocks)) else RowBlocks([found])
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
    def dtype(self) -> np.dtype[np.generic]:
        """Type the values are stored in."""
        return np.dtype(self._base.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: object) -> Any:
        # scikit-learn's row selection asks for X[rows, ...].
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, (int, np.integer)):
            return np.asarray(self[[check_rows(key, len(self))]])[0]
        if isinstance(key, tuple) and key and isinstance(key[0], slice):
            return np.asarray(self[key[0]])[(slice(None), *key[1:])]
        if isinstance(key, tuple):
            return np.asarray(self)[key]
        chosen = check_rows(key, len(self))
        if isinstance(key, slice) and self._rows is None:
            start, stop, step = key.indices(len(self))
            part: NDArray[np.generic] | RowBlocks | None
            if isinstance(self._base, np.ndarray):
                part = self._base[key]
            elif step == 1:
                part = self._base.narrow(start, max(start, stop))
            else:
                part = None
            if part is not None:
                return knowing(PathProbabilities(part, self.paths), self.facts.of(chosen))
        rows = np.arange(self.shape[0]) if self._rows is None else self._rows
        return self._but(_rows=rows[chosen], facts=self.facts.of(chosen))

    def _but(self, **changed: object) -> Self:
        """Return the same rows, unread, with other attributes."""
        # Not copy.copy, which would go by __reduce__ and copy the rows.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changed)
        return other

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
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        whole = slice(None) if self._rows is None else self._rows
        values = self._base[whole]
        if copy is False and not (isinstance(values, np.ndarray) and self._rows is None):
            raise ValueError("These rows cannot be given as an array without a copy.")
        return np.array(values, dtype=dtype, copy=copy or None)

    def _values(self) -> NDArray[np.generic] | RowBlocks:
        """Return the rows, unread where they lie in one piece."""
        return self._base if self._rows is None else np.asarray(self)

    def parts(
        self,
    ) -> tuple[NDArray[np.generic], tuple[PathTree, RowFacts, NDArray[np.intp] | None]] | None:
        """Return values in memory, and what :func:`rebuilt_table` needs besides; None: others."""
        values = self._base
        if not isinstance(values, np.ndarray) or mapped_rows(values) is not None:
            return None
        return values, (self.paths, self.facts, self._rows)

    def __reduce__(self) -> tuple[object, ...]:
        named: MappedRows | RowBlocks | None
        if isinstance(self._base, np.ndarray):
            named = mapped_rows(self._base)
        else:
            named = self._base if self._base.by_name else None
        if named is not None:
            return (rebuilt_table, (named, self.paths, self.facts, self._rows))
        own = self._values()
        own = own_values(own if isinstance(own, np.ndarray) else np.asarray(self))
        return (rebuilt_table, (own, self.paths, self.facts))

    def __sizeof__(self) -> int:
        # What schedulers go by: the values that a pickle holds.
        values = self._base
        if isinstance(values, np.ndarray):
            inside = mapped_rows(values) is None
        else:
            inside = not values.by_name
        known = sum(array.nbytes for array in self.facts.arrays().values())
        return object.__sizeof__(self) + known + inside * self.dtype.itemsize * prod(self.shape)

    def __repr__(self) -> str:
        n_samples, n_paths, n_classes = self.shape
        return (
            f"{type(self).__name__}({n_samples} samples, {n_paths} paths, {n_classes} classes, "
            f"{self.dtype})"
        )

    def _repr_html_(self) -> str:
        n_samples, n_columns, n_classes = self.shape
        known = {
            "rows": n_samples,
            "columns": n_columns,
            "classes": "outcomes only" if self.facts.outcomes else n_classes,
            "type": str(self.dtype),
        }
        told = ", ".join(name.replace("_", " ") for name in self.facts.arrays())
        return block(
            type(self).__name__,
            facts(known),
            f"<div>Known of each row: {told}</div>" if told else "",
            folded(f"{self.paths.n_paths:,} paths", tree_table(self.paths)),
        )

    def with_paths(self, paths: PathTree) -> Self:
        """Return the same rows under another tree (other costs or classes).

        Parameters
        ----------
        paths : PathTree
            The tree.

        Returns
        -------
        PathProbabilities
        """
        check_table_shape(self.shape, paths)
        return self._but(paths=paths)

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
        return self._but(facts=replace(self.facts, context=known))

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
        return self._but(facts=replace(self.facts, losses=known))

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
        return self._but(facts=replace(self.facts, call_costs=prices, costs_known=known))

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

    def chunks(self, size: int | None = None) -> Iterator[tuple[slice, Self]]:
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
        if isinstance(self._base, RowBlocks):
            places = np.arange(len(self)) if self._rows is None else self._rows
            return widened(self._base.pick(places, np.full(len(places), column)))
        rows = slice(None) if self._rows is None else self._rows
        return widened(np.asarray(self._base[rows, column]))


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
        if isinstance(table._base, RowBlocks):
            return widened(table._base.pick(places, columns))
        return widened(np.asarray(table._base[places, columns]))

    def one(self, path: int) -> list[float]:
        """Return the answer of a path where the walk has one row."""
        table = self._table
        assert table.paths.columns is not None
        row = 0 if table._rows is None else int(table._rows[0])
        column = table.paths.columns[path]
        if isinstance(table._base, RowBlocks):
            return table._base.pick(np.array([row]), np.array([column]))[0].tolist()
        return np.asarray(table._base[row, column]).tolist()


def rebuilt_table(
    values: object, paths: PathTree, facts: RowFacts, rows: NDArray[np.intp] | None = None
) -> PathProbabilities:
    """Return the table that a pickle or a task holds in parts."""
    values = values.open() if isinstance(values, MappedRows) else aligned(values)
    return knowing(PathProbabilities(values, paths)._but(_rows=rows), facts)


publish("skquee.values", PathProbabilities)
