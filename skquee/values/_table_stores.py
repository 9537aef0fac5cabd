"""Tables of probabilities in files, folders and at addresses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skquee.values._blocks import RowBlocks
from skquee.values._checks import check_output
from skquee.values._facts import RowFacts, knowing
from skquee.values._places import is_address, open_place
from skquee.values._table_files import check_storage_type, read_table, write_table
from skquee.values._tree import PathTree

__all__ = ["StoredTables"]


class StoredTables:
    """Ways to keep a :class:`skquee.PathProbabilities`, and to open one."""

    facts: RowFacts
    paths: PathTree

    if TYPE_CHECKING:

        def __init__(self, values: object, paths: PathTree) -> None: ...

        def __array__(self) -> NDArray[np.generic]: ...

        def __len__(self) -> int: ...

        @property
        def shape(self) -> tuple[int, int, int]: ...

        def _values(self) -> NDArray[np.generic] | RowBlocks: ...

    def save(self, file: str | os.PathLike[str], dtype: DTypeLike | None = None) -> None:
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
    ) -> Self:
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
            return knowing(made, RowFacts.from_arrays(known, len(made), made.shape[1]))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    @classmethod
    def open(
        cls,
        address: str | os.PathLike[str],
        paths: PathTree | None = None,
        *,
        storage_options: Mapping[str, object] | None = None,
    ) -> Self:
        """Open a table that lies in files, of this machine or elsewhere; nothing is read yet.

        Rows are mapped, or fetched when they are asked for, so that a table may be larger than
        the memory: estimators read it chunk by chunk.

        Parameters
        ----------
        address : path or str
            A folder of ``bank.materialize(out="folder/")``; a zarr array of shape (n_samples,
            n_columns, n_classes); either at an address of fsspec, such as
            ``"s3://bucket/folder"``; or a file of :meth:`load`.
        paths : PathTree, default=None
            In place of the table's own tree. A zarr array carries one in its attribute
            ``"skquee_paths"``, ``tree.to_dict()``, or needs this.
        storage_options : mapping, default=None
            For fsspec, such as credentials.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        FileNotFoundError
            If there is nothing, or no table.
        OSError
            If the address cannot be listed.
        ValueError
            If shards are missing, damaged, of another table or of another release.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from skquee import MultiPathClassifierBank, PathProbabilities
        >>> X, y = np.arange(10.0)[:, None], [0] * 5 + [1] * 5
        >>> bank = MultiPathClassifierBank([("nb", GaussianNB())], step_costs=[1]).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = bank.materialize(X, out=folder, shards=3)
        ...     PathProbabilities.open(folder)
        PathProbabilities(10 samples, 1 paths, 2 classes, float64)
        """
        if not is_address(address) and os.path.isfile(os.fspath(address)):
            return cls.load(address, paths)
        values, tree, facts = open_place(address, paths, storage_options)
        try:
            return knowing(cls(values, tree), facts)
        except ValueError as error:
            raise ValueError(f"{address}: {error}") from None

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """Put tables of one tree below each other; no row is read or copied.

        Parameters
        ----------
        tables : sequence of PathProbabilities
            Stored. What one knows of its rows (context, losses, prices), all must know.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If there are none, or trees, classes, or what is known differ.

        Examples
        --------
        >>> import numpy as np
        >>> from skquee import PathProbabilities, PathTree
        >>> table = PathProbabilities(np.full((5, 2, 4), 0.25), PathTree.chain([1, 1]))
        >>> PathProbabilities.concatenate([table, table[:2]])
        PathProbabilities(7 samples, 2 paths, 4 classes, float64)
        """
        tables = list(tables)
        if not tables:
            raise ValueError("There are no tables to concatenate: give at least one.")
        first = tables[0]
        for number, table in enumerate(tables):
            if type(table) is not cls:
                raise TypeError(
                    f"Table {number} is a {type(table).__name__}: only stored tables are "
                    "concatenated; materialize a lazy one first."
                )
            if table.paths != first.paths:
                raise ValueError(
                    f"Table {number} has another tree than table 0: {table.paths!r} and "
                    f"{first.paths!r}, or other costs or classes."
                )
        made = cls(RowBlocks.joined([table._values() for table in tables]), first.paths)
        return knowing(made, RowFacts.joined([table.facts for table in tables]))
