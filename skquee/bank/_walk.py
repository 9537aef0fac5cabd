"""The lazy table: a bank and the rows of X it has not run yet."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skquee.bank._materialize import materialize
from skquee.bank._network import NetworkEngine
from skquee.bank._shards import is_folder, materialize_shards
from skquee.values import PathProbabilities, PathTree
from skquee.values._rows import check_rows, n_rows_of, own_values, take_rows
from skquee.values._table import CHUNK_BYTES, Walk

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
    """

    #: Whether classifiers were fitted on these very rows: a router must not learn from them.
    trained_on = False

    def __init__(
        self,
        engine: Any,
        X: Any,
        paths: PathTree,
        batch_size: int | None,
        *,
        _rows: NDArray[np.intp] | None = None,
    ) -> None:
        self._engine = engine
        self._X = X
        self._rows = _rows
        self._batch_size = batch_size
        self.paths = paths

    @property
    def shape(self) -> tuple[int, int, int]:
        n_samples = len(self._rows) if self._rows is not None else n_rows_of(self._X)
        assert self.paths.classes is not None
        return (n_samples, self.paths.n_columns, len(self.paths.classes))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if isinstance(self._engine, NetworkEngine) else np.float64)

    @property
    def chunk_size(self) -> int:
        """Rows that a pass handles at once."""
        if self._batch_size is not None:
            return self._batch_size
        _, n_columns, n_classes = self.shape
        return max(1, CHUNK_BYTES // (8 * n_columns * n_classes))

    def _rows_at_once(self, out: Any) -> int:
        """Return rows a chunk: with a file, few enough that an interrupted run loses little."""
        return self.chunk_size if out is None else min(self.chunk_size, 1024)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, (int, np.integer)):
            return np.asarray(self[[check_rows(key, len(self))]])[0]
        if isinstance(key, tuple):
            return np.asarray(self)[key]
        rows = np.arange(len(self)) if self._rows is None else self._rows
        chosen = check_rows(key, len(self))
        return LazyPathProbabilities(
            self._engine, self._X, self.paths, self._batch_size, _rows=rows[chosen]
        )._knowing(self.facts, chosen)

    def with_paths(self, paths: PathTree) -> LazyPathProbabilities:
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
        return LazyPathProbabilities(
            self._engine, self._X, paths, self._batch_size, _rows=self._rows
        )._knowing(self.facts)

    @property
    def network(self) -> Any:
        """The network that answers, None where a list of classifiers does."""
        return getattr(self._engine, "network", None)

    @property
    def engine(self) -> Any:
        """What runs the classifiers."""
        return self._engine

    def over(self, engine: Any) -> LazyPathProbabilities:
        """Return the same rows, answered by another engine of the same paths.

        Parameters
        ----------
        engine : NetworkEngine, EstimatorEngine or None
            None: rows alone, to be sent to where the engine is.

        Returns
        -------
        LazyPathProbabilities
        """
        return LazyPathProbabilities(
            engine, self._X, self.paths, self._batch_size, _rows=self._rows
        )._knowing(self.facts)

    @property
    def inputs(self) -> Any:
        """The rows of X, as the classifiers take them."""
        return self._X if self._rows is None else take_rows(self._X, self._rows)

    def with_network(self, network: Any) -> LazyPathProbabilities:
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
        return LazyPathProbabilities(
            engine, self._X, tree, self._batch_size, _rows=self._rows
        )._knowing(self.facts)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
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
        dtype: Any = None,
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
        return made._knowing(self.facts)

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
            X = chunk.inputs  # type: ignore[attr-defined]
            for column in range(len(names)):
                began = time.perf_counter()
                values[rows, column] = self._engine.run(column, X, len(chunk))
                seconds[column] += time.perf_counter() - began
        each = 1000 * seconds / max(n_rows, 1)
        table = PathProbabilities(values, self.paths)._knowing(self.facts)
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
        return self._engine.walk(self.inputs, len(self))

    def __sizeof__(self) -> int:
        # What schedulers go by. Rows of a task of their own are better sent with it.
        rows = sys.getsizeof(self._X) if self._rows is None else 0
        return object.__sizeof__(self) + rows

    def __reduce__(self) -> Any:
        given = self.inputs
        given = own_values(given) if isinstance(given, np.ndarray) else given
        parts = (self._engine, given, self.paths, self._batch_size, self.facts)
        return (_rebuilt, parts)


def _rebuilt(
    engine: Any, X: Any, paths: PathTree, batch_size: int | None, facts: Any
) -> LazyPathProbabilities:
    return LazyPathProbabilities(engine, X, paths, batch_size)._knowing(facts)
