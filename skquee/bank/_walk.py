"""The lazy table: a bank and the rows of X it has not run yet."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skquee.bank._estimators import EstimatorEngine
from skquee.bank._materialize import materialize
from skquee.bank._network import NetworkEngine, PathNetwork
from skquee.bank._shards import is_folder, materialize_shards
from skquee.values import PathProbabilities, PathTree
from skquee.values._blocks import aligned
from skquee.values._facts import RowFacts, knowing
from skquee.values._rows import check_rows, n_rows_of, own_values, take_rows
from skquee.values._table import CHUNK_BYTES, Walk
from skquee.values._types import Rows

__all__ = ["LazyPathProbabilities"]


class LazyPathProbabilities(PathProbabilities):
    """A table whose probabilities are computed when they are asked for.

    Made by ``MultiPathClassifierBank.transform``. ``np.asarray`` and :meth:`materialize`
    run every path; :meth:`walk` runs only what a router asks for. It keeps nothing it has
    computed, and pickles with its own rows of X only.

    Parameters
    ----------
    engine : NetworkEngine or EstimatorEngine
        Runs the classifiers.
    X : rows
        Input.
    paths : PathTree
        The tree, with classes.
    batch_size : int or None
        Rows a pass handles at once. None: as many as keep their answers within 64 MiB.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import MultiPathClassifierBank
    >>> from skquee.testing import TableNetwork, make_path_probabilities
    >>> network = TableNetwork(make_path_probabilities(200)[0])
    >>> MultiPathClassifierBank(network).transform(np.arange(5)[:, None])
    LazyPathProbabilities(5 samples, 6 paths, 4 classes, float32)
    >>> network.blocks_run
    0
    """

    #: Whether classifiers were fitted on these very rows: a router must not learn from them.
    trained_on = False

    def __init__(
        self,
        engine: NetworkEngine | EstimatorEngine,
        X: Rows,
        paths: PathTree,
        batch_size: int | None,
    ) -> None:
        self._engine = engine
        self._X = X
        self._n_rows = n_rows_of(X)
        self._rows: NDArray[np.intp] | None = None
        self._batch_size = batch_size
        self.paths = paths

    @property
    def shape(self) -> tuple[int, int, int]:
        assert self.paths.classes is not None
        n_samples = self._n_rows if self._rows is None else len(self._rows)
        return (n_samples, self.paths.n_columns, len(self.paths.classes))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(np.float32 if isinstance(self._engine, NetworkEngine) else np.float64)

    @property
    def chunk_size(self) -> int:
        """Rows that a pass handles at once."""
        if self._batch_size is not None:
            return self._batch_size
        _, n_columns, n_classes = self.shape
        return max(1, CHUNK_BYTES // (8 * n_columns * n_classes))

    def _rows_at_once(self, out: object) -> int:
        """Return rows a chunk: with a file, few enough that an interrupted run loses little."""
        return self.chunk_size if out is None else min(self.chunk_size, 1024)

    def __getitem__(self, key: object) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, (int, np.integer)):
            return np.asarray(self[[check_rows(key, len(self))]])[0]
        if isinstance(key, tuple):
            return np.asarray(self)[key]
        rows = np.arange(len(self)) if self._rows is None else self._rows
        chosen = check_rows(key, len(self))
        return self._but(_rows=rows[chosen], facts=self.facts.of(chosen), trained_on=False)

    def with_paths(self, paths: PathTree) -> Self:
        """Return the same rows under another tree (other costs or classes).

        Parameters
        ----------
        paths : PathTree
            The tree.

        Returns
        -------
        LazyPathProbabilities
        """
        if paths.classes is None:
            paths = paths.with_classes(self.paths.classes)
        return self._but(paths=paths, trained_on=False)

    @property
    def network(self) -> Any:
        """The network that answers, None where a list of classifiers does."""
        return getattr(self._engine, "network", None)

    @property
    def engine(self) -> NetworkEngine | EstimatorEngine:
        """What runs the classifiers."""
        return self._engine

    def over(self, engine: NetworkEngine | EstimatorEngine | None) -> Self:
        """Return the same rows, answered by another engine of the same paths.

        Parameters
        ----------
        engine : NetworkEngine, EstimatorEngine or None
            None: rows alone, to be sent to where the engine is.

        Returns
        -------
        LazyPathProbabilities
        """
        return self._but(_engine=engine, trained_on=False)

    @property
    def inputs(self) -> Any:
        """The rows of X, as the classifiers take them."""
        return self._X if self._rows is None else take_rows(self._X, self._rows)

    def with_network(self, network: PathNetwork) -> Self:
        """Return the same rows answered by another network, on the paths it has.

        Parameters
        ----------
        network : PathNetwork
            Takes the same rows.

        Returns
        -------
        LazyPathProbabilities
        """
        tree = network.paths_
        engine = NetworkEngine(network, tree, getattr(self._engine, "times", None))
        return self._but(_engine=engine, paths=tree, trained_on=False)

    def __array__(
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("A lazy table cannot be given as an array without computing it.")
        return np.asarray(self.materialize(dtype=dtype or self.dtype))

    def path(self, path: int | str) -> NDArray[np.floating]:
        """Run and return the probabilities of one path.

        Parameters
        ----------
        path : int or str
            Index or name.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        parts = []
        for _, chunk in self.chunks():
            walk, rows = chunk.walk(), np.arange(len(chunk))
            for step in self.paths.prefixes(path):
                answers = walk.advance(rows, np.full(len(rows), step))
            parts.append(answers)
        return np.concatenate(parts)

    def materialize(
        self,
        *,
        batch_size: int | None = None,
        out: str | os.PathLike[str] | None = None,
        dtype: DTypeLike | None = None,
        shards: int | None = None,
        n_jobs: int | None = None,
    ) -> PathProbabilities:
        """Run every path once and return a stored table.

        Parameters
        ----------
        batch_size, out, dtype, shards, n_jobs
            As of :meth:`skquee.MultiPathClassifierBank.materialize`.

        Returns
        -------
        PathProbabilities
        """
        stored = np.dtype(dtype or self.dtype)
        at_once = batch_size or self._rows_at_once(out)
        if out is not None and is_folder(out):
            made = materialize_shards(
                self, at_once, out=out, dtype=stored, shards=shards, n_jobs=n_jobs
            )
        elif shards is not None or n_jobs is not None:
            raise ValueError(
                f"shards= and n_jobs= are for a folder of shards, got out={out!r}: give one, "
                "out='folder/'."
            )
        else:
            made = materialize(self, at_once, out=out, dtype=stored)
        return knowing(made, self.facts)

    def timed(self) -> tuple[PathProbabilities, dict[str, float]]:
        """Run every path once, as :meth:`materialize`, and tell what each classifier took.

        Returns
        -------
        PathProbabilities
            Stored.
        dict of str to float
            Milliseconds a row of each classifier; empty for a network.
        """
        if isinstance(self._engine, NetworkEngine):
            return self.materialize(), {}
        names, n_rows = self._engine.names, len(self)
        seconds = np.zeros(len(names))
        values = np.empty(self.shape, dtype=self.dtype)
        for rows, chunk in self.chunks():
            X = chunk.inputs
            for column in range(len(names)):
                began = time.perf_counter()
                values[rows, column] = self._engine.run(column, X, len(chunk))
                seconds[column] += time.perf_counter() - began
        each = 1000 * seconds / max(n_rows, 1)
        table = knowing(PathProbabilities(values, self.paths), self.facts)
        return table, dict(zip(names, each.tolist(), strict=True))

    def run_all(self) -> NDArray[np.floating]:
        """Run every path on these rows at once, without chunks.

        Returns
        -------
        ndarray of shape (n_samples, n_columns, n_classes)
        """
        return self._engine.run_all(self.inputs)

    def walk(self) -> Walk:
        """Start a pass that runs only what it is asked for.

        Returns
        -------
        Walk
            With ``advance(rows, paths)`` and ``counts``.
        """
        return self._engine.walk(self.inputs, self.shape[0])

    def __sizeof__(self) -> int:
        # What schedulers go by. Rows of a task of their own are better sent with it.
        rows = sys.getsizeof(self._X) if self._rows is None else 0
        return object.__sizeof__(self) + rows

    def __reduce__(self) -> tuple[object, ...]:
        given = self.inputs
        given = own_values(given) if isinstance(given, np.ndarray) else given
        parts = (self._engine, given, self.paths, self._batch_size, self.facts)
        return (_rebuilt, parts)


def _rebuilt(
    engine: NetworkEngine | EstimatorEngine,
    X: Rows,
    paths: PathTree,
    batch_size: int | None,
    facts: RowFacts,
) -> LazyPathProbabilities:
    return knowing(LazyPathProbabilities(engine, aligned(X), paths, batch_size), facts)
