"""The table of probabilities every estimator of the package eats, stored or lazy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee._table_files import check_storage_type, read_table, write_table
from skquee.paths import PathTree, check_costs

__all__ = ["PathProbabilities"]

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


class PathProbabilities:
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

    #: What is known of the rows before anything runs, shape (n_samples, n_context), or None.
    context: NDArray[np.float64] | None = None

    def __init__(
        self, values: Any, paths: PathTree, *, _rows: NDArray[np.intp] | None = None
    ) -> None:
        if not hasattr(values, "shape"):
            values = np.asarray(values)
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
        if isinstance(key, (tuple, int, np.integer)):
            return np.asarray(self)[key]
        chosen = np.asarray(key) if isinstance(key, list) else key
        if isinstance(key, slice) and self._rows is None and isinstance(self._base, np.ndarray):
            return PathProbabilities(self._base[key], self.paths)._knowing(self.context, chosen)
        rows = np.arange(self.shape[0]) if self._rows is None else self._rows
        taken = PathProbabilities(self._base, self.paths, _rows=rows[chosen])
        return taken._knowing(self.context, chosen)

    def _knowing(self, context: NDArray[np.float64] | None, rows: Any = slice(None)) -> Self:
        """Take over some rows of a context."""
        if context is not None:
            self.context = context[rows]
        return self

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        values = self._base if self._rows is None else self._base[self._rows]
        if copy is False and not (isinstance(values, np.ndarray) and self._rows is None):
            raise ValueError("These rows cannot be given as an array without a copy.")
        return np.array(values, dtype=dtype, copy=copy or None)

    def __reduce__(self) -> Any:
        values = self._base if self._rows is None else np.asarray(self)
        return (_rebuilt, (values, self.paths, self.context))

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
        return PathProbabilities(self._base, paths, _rows=self._rows)._knowing(self.context)

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
        # Not copy.copy, which would go by __reduce__ and copy the rows.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return _with_context(other, context)

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
        step = size or self.chunk_size
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
        rows = slice(None) if self._rows is None else self._rows
        return _wide(np.asarray(self._base[rows, column]))

    # ------------------------------------------------------------------ building, files

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        confidences: ArrayLike,
        classes: Sequence[Any],
        paths: PathTree | None = None,
        *,
        step_costs: ArrayLike | None = None,
    ) -> PathProbabilities:
        """Build the table of black-box classifiers that return one label and one score.

        The rest of the probability, ``1 - confidence``, is spread evenly over the other
        classes. A confidence at or below chance, ``1 / n_classes``, is lifted just above it
        so that the label stays the answer.

        Parameters
        ----------
        labels : array-like of shape (n_samples, n_columns)
            Label each classifier returned.
        confidences : array-like of shape (n_samples, n_columns)
            Its score, between 0 and 1.
        classes : sequence
            All labels, in the order wanted for the class axis.
        paths : PathTree, default=None
            The tree. Default: a chain.
        step_costs : array-like of shape (n_columns,), default=None
            What running each classifier of that chain adds, in any one unit. Needed unless
            `paths` is given, which carries costs (and says their unit).

        Returns
        -------
        PathProbabilities
            float32.

        Raises
        ------
        ValueError
            If shapes differ, a label is not in `classes`, a score is outside [0, 1], or costs
            are left out.

        Examples
        --------
        >>> from skquee import PathProbabilities
        >>> labels, scores = [["cat"], ["dog"]], [[0.75], [0.5]]
        >>> classes = ["cat", "dog"]
        >>> table = PathProbabilities.from_labels(labels, scores, classes, step_costs=[1])
        >>> table.path(0).round(2)
        array([[0.75, 0.25],
               [0.5 , 0.5 ]], dtype=float32)
        """
        given, scores = np.asarray(labels), np.asarray(confidences, dtype=np.float64)
        order = np.asarray(classes)
        if given.ndim != 2 or given.shape != scores.shape:
            raise ValueError(
                "labels and confidences must both have shape (n_samples, n_columns), got "
                f"{given.shape} and {scores.shape}."
            )
        if len(order) < 2:
            raise ValueError(f"classes must hold at least 2 labels, got {len(order)}.")
        unknown = np.setdiff1d(given, order)
        if unknown.size:
            raise ValueError(f"labels holds {unknown[:5].tolist()}, which classes does not list.")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("confidences must lie in [0, 1] and not be NaN. Rescale them first.")
        n_classes = len(order)
        sorter = np.argsort(order)
        codes = sorter[np.searchsorted(order, given, sorter=sorter)]
        top = np.maximum(scores, 1.002 / n_classes)  # still ahead after rounding to float16
        values = np.repeat(((1 - top) / (n_classes - 1))[:, :, None], n_classes, axis=2)
        np.put_along_axis(values, codes[:, :, None], top[:, :, None], axis=2)
        if paths is None:
            if step_costs is None:
                raise ValueError(
                    "Costs are left out: give step_costs=, what running each of the "
                    f"{given.shape[1]} classifiers costs in any one unit, or paths= a PathTree."
                )
            steps = check_costs(step_costs, given.shape[1], "step_costs", each="classifier")
            paths = PathTree.chain(steps)
        elif step_costs is not None:
            raise ValueError("Give paths, which carries costs, or step_costs, not both.")
        return cls(values.astype(np.float32), paths.with_classes(order.tolist()))

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
        values = np.asarray(self)
        if dtype is None and values.dtype.kind in "iub":
            dtype = np.float32
        stored = check_storage_type(values.dtype if dtype is None else dtype)
        known = {} if self.context is None else {"context": self.context}
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
            return _with_context(cls(values, tree), known.get("context"))
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
        return _wide(
            np.asarray(table._base[rows if table._rows is None else table._rows[rows], columns])
        )

    def one(self, path: int) -> list[float]:
        """Return the answer of a path where the walk has one row."""
        table = self._table
        assert table.paths.columns is not None
        row = 0 if table._rows is None else table._rows[0]
        return np.asarray(table._base[row, table.paths.columns[path]]).tolist()


def as_path_probabilities(
    X: Any,
    paths: PathTree | None = None,
    *,
    path_costs: ArrayLike | None = None,
    classes: Sequence[Any] | None = None,
) -> PathProbabilities:
    """Return `X` as a table with the tree, costs and classes that hold.

    Parameters
    ----------
    X : PathProbabilities or array-like of shape (n_samples, n_columns, n_classes)
        The table.
    paths : PathTree, default=None
        The tree; needed for a bare array unless `path_costs` is given.
    path_costs : array-like of shape (n_paths,), default=None
        Path costs in place of the tree's. For a bare array without `paths`: a chain.
    classes : sequence, default=None
        Labels in place of the tree's.

    Returns
    -------
    PathProbabilities
        Nothing is copied or computed.
    """
    carried = getattr(X, "paths", None)
    if not isinstance(X, PathProbabilities):
        if hasattr(X, "toarray"):
            raise TypeError("X is sparse; give a dense array of probabilities (see toarray).")
        values = X if hasattr(X, "shape") and hasattr(X, "dtype") else np.asarray(X)
        if values.dtype.kind not in "fiub":
            if values.dtype.kind == "c":
                raise ValueError("Complex data not supported: X must hold probabilities.")
            values = np.asarray(values, dtype=np.float64)
        if values.ndim != 3:
            raise ValueError(
                "X must be a table of probabilities of shape (n_samples, n_paths, n_classes), got "
                f"an array of shape {values.shape}."
            )
        if paths is None and path_costs is None:
            raise ValueError(
                "X is a bare array, so the paths are not known: give paths= a PathTree, or "
                "path_costs= for a plain chain, or a PathProbabilities that carries its tree."
            )
    tree = paths if paths is not None else carried
    if tree is None:
        assert path_costs is not None
        tree = PathTree.chain(np.ones(check_costs(path_costs, None, "path_costs").size))
    elif paths is not None and carried is not None and not paths.same_structure(carried):
        raise ValueError(
            f"X carries {carried!r}, but {paths!r} is expected. Transform X with the bank used in "
            "fit, or pass the matching paths=."
        )
    if path_costs is not None:
        tree = tree.with_costs(path_costs)
    if classes is not None:
        tree = tree.with_classes(classes)
    elif tree.classes is None and carried is not None and carried.classes is not None:
        tree = tree.with_classes(carried.classes)
    if not isinstance(X, PathProbabilities):
        return PathProbabilities(values, tree)
    return X.with_paths(tree)


def _with_context(table: Any, context: ArrayLike | None) -> Any:
    """Give a table its context."""
    if context is None:
        table.__dict__.pop("context", None)
        return table
    values = np.asarray(context, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(table) or not values.shape[1]:
        raise ValueError(
            f"context must have shape (n_samples, n_context) with n_samples = {len(table)}, got "
            f"{np.shape(context)}."
        )
    if not np.isfinite(values).all():
        raise ValueError("context must be finite: fill what is missing first.")
    table.context = values
    return table


def _rebuilt(values: Any, paths: PathTree, context: Any) -> PathProbabilities:
    return PathProbabilities(values, paths)._knowing(context)


def check_table_shape(shape: tuple[int, ...], paths: PathTree) -> None:
    """Raise where a table does not fit its tree.

    Parameters
    ----------
    shape : tuple
        Shape of the table.
    paths : PathTree
        The tree.
    """
    if len(shape) != 3:
        raise ValueError(
            "X must be a table of probabilities of shape (n_samples, n_paths, n_classes), got an "
            f"array of shape {tuple(shape)}."
        )
    if shape[1] != paths.n_columns:
        raise ValueError(
            f"X has {shape[1]} paths, but the tree has {paths.n_columns} "
            f"({paths.n_exits} exits: {', '.join(paths.names[:4])}, ...). Transform X with the "
            "bank used in fit, or pass paths=."
        )
    if paths.classes is not None and shape[2] != len(paths.classes):
        raise ValueError(f"X has {shape[2]} classes, but the tree has {len(paths.classes)}.")


def check_probabilities(
    values: NDArray[Any], rows: NDArray[np.intp] | int, names: Sequence[str] | NDArray[Any]
) -> None:
    """Raise where vectors are not probabilities, naming the row and the path.

    Parameters
    ----------
    values : ndarray of shape (..., n_classes)
        Vectors; all axes but the last are counted together.
    rows : ndarray of int or int
        Row of each vector, or the first row where `values` is a (rows, paths, classes) block.
    names : sequence of str
        Path of each vector, or of each column of such a block.
    """
    tolerance = 5e-3  # room for float16, which keeps three digits
    totals = values.sum(axis=-1, dtype=np.float32)
    smallest = values.min(axis=-1)
    with np.errstate(invalid="ignore"):
        good = (np.abs(totals - 1) <= tolerance) & (smallest >= -1e-6)
    if good.all():
        return
    first = np.argwhere(~good)[0]
    row = int(rows + first[0] if isinstance(rows, (int, np.integer)) else rows[first[0]])
    name = names[first[-1]]
    vector = values[tuple(first)]
    where = f"for row {row}, path {name!r}"
    if np.isnan(vector).any():
        raise ValueError(f"Input X contains NaN {where}.")
    if np.isinf(vector).any():
        raise ValueError(f"Input X contains infinity {where}.")
    hint = (
        " These look like logits: apply a softmax first."
        if (vector < 0).any() or (totals[tuple(first)] > 1.5)
        else ""
    )
    if (vector < 0).any():
        raise ValueError(f"X has the negative probability {vector.min():g} {where}.{hint}")
    raise ValueError(
        f"Probabilities must sum to 1, but those {where} sum to {totals[tuple(first)]:g}.{hint}"
    )


def _wide(values: NDArray[Any]) -> NDArray[np.floating]:
    """At least float32: float16 is a storage type."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
