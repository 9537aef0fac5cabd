"""A bank's engine over separate classifiers: estimators, pipelines and callables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skquee.paths import PathTree

__all__ = ["EstimatorEngine", "take_rows"]


def take_rows(X: Any, rows: NDArray[np.intp] | slice) -> Any:
    """Return some rows of anything a classifier eats: array, data frame, list of texts.

    Parameters
    ----------
    X : array-like, data frame, sparse matrix, tensor or sequence
        Samples along the first axis.
    rows : ndarray of int or slice
        Which.

    Returns
    -------
    same type as X
    """
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if hasattr(X, "shape"):
        return X[rows]
    if isinstance(rows, slice):
        return X[rows]
    return [X[row] for row in rows.tolist()]


class EstimatorEngine:
    """Runs a list of classifiers for a bank, aligning their classes.

    Parameters
    ----------
    names : sequence of str
        Names of the classifiers.
    models : sequence
        Fitted estimators with ``predict_proba``, or callables that return probabilities.
    classes : ndarray of shape (n_classes,)
        The bank's classes.
    tree : PathTree
        Paths over the classifiers.
    """

    def __init__(
        self, names: Sequence[str], models: Sequence[Any], classes: NDArray[Any], tree: PathTree
    ) -> None:
        self.names = list(names)
        self.models = list(models)
        self.classes = classes
        self.tree = tree

    def run(self, column: int, X: Any, n_samples: int) -> NDArray[np.floating]:
        """Run one classifier and spread its classes over the bank's.

        Parameters
        ----------
        column : int
            Which classifier.
        X : rows
            Input.
        n_samples : int
            Number of rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        name, model = self.names[column], self.models[column]
        is_estimator = hasattr(model, "predict_proba")
        try:
            answer = np.asarray(model.predict_proba(X) if is_estimator else model(X))
        except Exception as error:
            raise RuntimeError(
                f"Classifier {name!r} raised {type(error).__name__} on {n_samples} rows: {error}"
            ) from error
        own = np.asarray(model.classes_) if is_estimator else self.classes
        if answer.shape != (n_samples, len(own)):
            raise ValueError(
                f"Classifier {name!r} returned an array of shape {answer.shape}, but "
                f"(n_samples, n_classes) = {(n_samples, len(own))} is expected."
            )
        if answer.dtype not in (np.float32, np.float64):
            answer = answer.astype(np.float64)
        if np.array_equal(own, self.classes):
            return answer
        order = np.argsort(self.classes)
        places = order[np.searchsorted(self.classes, own, sorter=order)]
        spread = np.zeros((n_samples, len(self.classes)), dtype=answer.dtype)
        spread[:, places] = answer
        return spread

    def run_all(self, X: Any) -> NDArray[np.floating]:
        """Run every classifier on rows of X.

        Parameters
        ----------
        X : rows
            Input.

        Returns
        -------
        ndarray of shape (n_samples, n_columns, n_classes)
        """
        n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
        return np.stack([self.run(c, X, n_samples) for c in range(len(self.models))], axis=1)

    def walk(self, X: Any, n_samples: int) -> EstimatorWalk:
        """Start a pass over rows of X.

        Parameters
        ----------
        X : rows
            Input.
        n_samples : int
            Number of rows.

        Returns
        -------
        EstimatorWalk
        """
        return EstimatorWalk(self, X)


class EstimatorWalk:
    """One pass: runs classifiers on the rows that ask for them, and counts.

    Parameters
    ----------
    engine : EstimatorEngine
        The engine.
    X : rows
        Input.

    Attributes
    ----------
    counts : dict of str to int
        Samples each classifier was run on, by name.
    """

    def __init__(self, engine: EstimatorEngine, X: Any) -> None:
        self.counts: dict[str, int] = {}
        self._engine = engine
        self._X = X

    def advance(self, rows: NDArray[np.intp], paths: NDArray[np.intp]) -> NDArray[np.floating]:
        """Run the next classifier of some rows.

        Parameters
        ----------
        rows : ndarray of shape (m,)
            Rows that go on.
        paths : ndarray of shape (m,)
            Path each arrives at.

        Returns
        -------
        ndarray of shape (m, n_classes)
        """
        engine = self._engine
        columns = engine.tree.path_columns[paths]
        out: NDArray[np.floating] | None = None
        for column in np.unique(columns):
            members = np.flatnonzero(columns == column)
            answer = engine.run(int(column), take_rows(self._X, rows[members]), len(members))
            if out is None:
                out = np.empty((len(rows), answer.shape[1]), dtype=np.float64)
            out[members] = answer
            name = engine.names[int(column)]
            self.counts[name] = self.counts.get(name, 0) + len(members)
        assert out is not None
        return out
