"""The table of probabilities every estimator of the package eats, stored or lazy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee._checks import check_integer
from skquee._facts import RowFacts, check_context, check_losses, check_prices
from skquee._public import publish
from skquee._rows import check_rows, own_values, take_rows
from skquee._sources import columns_of, label_values, numeric, outcome_table, tree_over
from skquee._table_files import check_storage_type, read_table, write_table
from skquee.paths import PathTree
from skquee.values._costs import check_costs

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

    # ------------------------------------------------------------------ building, files

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,
        *,
        step_costs: ArrayLike | None = None,
        paths: str | PathTree = "chain",
        classes: Sequence[Any] | None = None,
        cost_unit: str | None = None,
    ) -> PathProbabilities:
        """Build the table of classifiers from one array of probabilities each.

        Parameters
        ----------
        arrays : mapping of str to array, sequence of arrays, or ``.npz`` file
            Each of shape (n_samples, n_classes), cheapest first: numpy, torch (also on a GPU, of
            bfloat16, or with gradients), dask, zarr, h5py, or frames with a column a class. They
            are read and copied into one float32 or float64 array.
        step_costs : array-like of shape (n_classifiers,), default=None
            What running each classifier adds, in any one unit; needed unless `paths` is a tree.
        paths : {"chain", "cascade", "single"} or PathTree, default="chain"
            How classifiers may follow each other: each after the one before, any increasing
            sequence, or exactly one.
        classes : sequence, default=None
            Labels of the class axis. Default: the columns of frames.
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"ms"`` or ``"$"``.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If shapes differ, or costs are missing.

        Examples
        --------
        >>> import numpy as np
        >>> from skquee import PathProbabilities
        >>> small, large = np.full((5, 2), 0.5), np.full((5, 2), [0.9, 0.1])
        >>> PathProbabilities.from_arrays({"small": small, "large": large}, step_costs=[1, 8]).paths
        PathTree(2 paths, 2 exits: small, large)
        """
        names, columns, found = columns_of(arrays)
        tree = tree_over(paths, names, step_costs, len(columns), cost_unit)
        dtype = np.result_type(np.float32, *(np.dtype(column.dtype) for column in columns))
        values = np.empty((columns[0].shape[0], len(columns), columns[0].shape[1]), dtype=dtype)
        for place, column in enumerate(columns):
            values[:, place] = column[:] if hasattr(column, "chunks") else column
        labels = found if classes is None else classes
        return cls(values, tree if labels is None else tree.with_classes(labels))

    @classmethod
    def from_outcomes(
        cls,
        loss: ArrayLike | None,
        confidence: ArrayLike | None = None,
        context: ArrayLike | None = None,
        costs: ArrayLike | None = None,
        *,
        names: Sequence[str] | None = None,
        paths: str | PathTree | None = None,
        cost_unit: str | None = None,
        costs_known: bool = True,
    ) -> PathProbabilities:
        """Build a table of models of which only outcomes are known, not class probabilities.

        Language models on questions, say: whether each answered right, or how badly it failed,
        what is known of a question, how sure a model said it was, and what its call cost.
        Routers are fitted on it without y; they predict the name of the model to ask, the
        expected loss and the cost. Accuracy is 1 less the mean loss.

        Parameters
        ----------
        loss : array-like of shape (n_samples, n_models) or None
            Between 0 and 1; of booleans True is wrong. None for rows to predict on.
        confidence : array-like of shape (n_samples, n_models), default=None
            Between 0 and 1, known once a model has answered.
        context : array-like of shape (n_samples, n_context), default=None
            Numbers known before any model is asked.
        costs : array-like of shape (n_models,) or (n_samples, n_models)
            Price of one call, for all rows or each.
        names : sequence of str, default=None
            Of the models.
        paths : {"single", "cascade", "chain"} or PathTree, default=None
            Ask exactly one model, any increasing sequence, or each after the one before. Default:
            "single" without `confidence`, since a second call then learns nothing from the
            first; else "cascade" (of more than five models "chain").
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"$"``.
        costs_known : bool, default=True
            Whether prices of each row are known before the call. If not, a router predicts them
            from the context.

        Returns
        -------
        PathProbabilities
            Of two classes: confidence, and what is left of it.

        Raises
        ------
        ValueError
            If a loss or confidence lies outside [0, 1], a price is negative, or shapes differ.

        Examples
        --------
        >>> import numpy as np
        >>> from skquee import CostAwareRouter, PathProbabilities
        >>> rng = np.random.default_rng(0)
        >>> hard = rng.random((400, 1))
        >>> wrong = rng.random((400, 2)) < hard * [0.9, 0.2]
        >>> table = PathProbabilities.from_outcomes(
        ...     wrong, context=hard, costs=[1, 20], names=["small", "large"], cost_unit="$"
        ... )
        >>> router = CostAwareRouter(0.02, targets="bernoulli", regressor="logistic").fit(table)
        >>> router.predict(PathProbabilities.from_outcomes(
        ...     None, context=[[0.0], [1.0]], costs=[1, 20], names=["small", "large"]
        ... )).tolist()
        ['small', 'large']
        """
        if costs is None:
            raise ValueError(
                "costs is missing: give the price of one call of each model, in any one unit."
            )
        values, tree, facts = outcome_table(
            loss,
            confidence,
            context,
            costs,
            names=names,
            paths=paths,
            cost_unit=cost_unit,
            costs_known=costs_known,
        )
        return cls(values, tree)._knowing(facts)

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        confidences: ArrayLike | None,
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
            Label each classifier returned; None or NaN where it gave no answer: that row is
            uniform, and the exit before answers.
        confidences : array-like of shape (n_samples, n_columns) or None
            Its score, between 0 and 1. None, where classifiers tell labels only: 1.
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
        if paths is None:
            paths = tree_over("chain", None, step_costs, np.shape(labels)[-1], None)
        elif step_costs is not None:
            raise ValueError("Give paths, which carries costs, or step_costs, not both.")
        values = label_values(labels, confidences, classes)
        return cls(values, paths.with_classes(np.asarray(classes).tolist()))

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
        values = numeric(X)
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


def _rebuilt(values: Any, paths: PathTree, facts: RowFacts) -> PathProbabilities:
    return PathProbabilities(values, paths)._knowing(facts)


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


publish(__name__, PathProbabilities)
