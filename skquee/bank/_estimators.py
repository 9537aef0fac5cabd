"""A bank's engine over separate classifiers: estimators, pipelines and callables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skquee.bank._calls import CallError, Calls
from skquee.values import PathTree
from skquee.values._rows import n_rows_of, take_rows
from skquee.values._sources import numeric
from skquee.values._types import Rows

__all__ = ["EstimatorEngine", "Member"]


@dataclass(frozen=True, eq=False)
class Member:
    """One classifier of a bank: how it is called, and how its answers become probabilities.

    `model` has ``predict_proba``, or is called with rows. `classes` (n_classes,): the bank's. `own`
    (n_own_classes,): labels of the estimator's columns; None for a callable.
    """

    name: str
    model: Any
    classes: NDArray[np.generic]
    own: NDArray[np.generic] | None
    calls: Calls

    @cached_property
    def _places(self) -> NDArray[np.intp] | None:
        """Where each column stands among the bank's classes, None where they are the same."""
        if self.own is None or np.array_equal(self.own, self.classes):
            return None
        order = np.argsort(self.classes)
        return order[np.searchsorted(self.classes, self.own, sorter=order)]

    def run(self, X: Rows, n_samples: int) -> NDArray[np.floating]:
        """Return the probabilities of rows, over the bank's classes.

        `X`: input. `n_samples`: number of rows. Returns (n_samples, n_classes): uniform where a
        callable gave no answer.
        """
        if self.own is None:
            return self._call(X, n_samples)
        try:
            answer = self.model.predict_proba(X)
        except Exception as error:
            raise RuntimeError(
                f"Classifier {self.name!r} raised {type(error).__name__} on {n_samples} rows: "
                f"{error}"
            ) from error
        if type(answer) is not np.ndarray:
            answer = np.asarray(numeric(answer))
        if answer.shape != (n_samples, len(self.own)):
            raise ValueError(
                f"Classifier {self.name!r} returned an array of shape {answer.shape}, but "
                f"(n_samples, n_classes) = {(n_samples, len(self.own))} is expected."
            )
        if answer.dtype != np.float64 and answer.dtype != np.float32:
            answer = answer.astype(np.float64)
        places = self._places
        if places is None:
            return answer
        spread = np.zeros((n_samples, len(self.classes)), dtype=answer.dtype)
        spread[:, places] = answer
        return spread

    def _call(self, X: Rows, n_samples: int) -> NDArray[np.float64]:
        try:
            answer = self.calls.ask(self.name, self.model, X, n_samples, self.classes)
        except CallError as error:
            if isinstance(error.__cause__, ValueError) and "it returned" in str(error.__cause__):
                raise ValueError(f"Classifier {self.name!r}: {error.__cause__}.") from error
            raise
        missing = np.isnan(answer).all(axis=1)  # a vector with some is checked as any other
        if missing.any():
            answer[missing] = 1 / len(self.classes)
        return answer


class EstimatorEngine:
    """Runs a list of classifiers for a bank, each on whole groups of rows.

    `members`: the classifiers, in the order of the columns. `tree`: paths over them.
    """

    def __init__(self, members: Sequence[Member], tree: PathTree) -> None:
        self.members = list(members)
        self.names = [member.name for member in members]
        self.tree = tree

    def run(self, column: int, X: Rows, n_samples: int) -> NDArray[np.floating]:
        """Run one classifier and spread its classes over the bank's.

        `column`: which classifier. `X`: input. `n_samples`: number of rows. Returns (n_samples,
        n_classes).
        """
        return self.members[column].run(X, n_samples)

    def run_all(self, X: Rows) -> NDArray[np.floating]:
        """Run every classifier on rows of X."""
        n_samples = n_rows_of(X)
        return np.stack([member.run(X, n_samples) for member in self.members], axis=1)

    def walk(self, X: Rows, n_samples: int) -> EstimatorWalk:
        """Start a pass over rows of X."""
        return EstimatorWalk(self, X, n_samples)


class EstimatorWalk:
    """One pass: runs classifiers on the rows that ask for them, and counts these by name."""

    def __init__(self, engine: EstimatorEngine, X: Rows, n_samples: int) -> None:
        self.counts: dict[str, int] = {}
        self._engine = engine
        self._X = X
        self._n_samples = n_samples

    def advance(self, rows: NDArray[np.intp], paths: NDArray[np.intp]) -> NDArray[np.floating]:
        """Run the next classifier of some rows.

        `rows` (m,): rows that go on, rising. `paths` (m,): path each arrives at. Returns (m,
        n_classes).
        """
        columns = self._engine.tree.path_columns[paths]
        if (columns == columns[0]).all():
            return self._run(int(columns[0]), rows)
        out: NDArray[np.floating] | None = None
        for column in np.unique(columns).tolist():
            members = np.flatnonzero(columns == column)
            answer = self._run(column, rows[members])
            if out is None:
                out = np.empty((len(rows), answer.shape[1]), dtype=np.float64)
            out[members] = answer
        assert out is not None
        return out

    def one(self, path: int) -> list[float]:
        """Return the answer of a path where the walk has one row."""
        columns = self._engine.tree.columns
        assert columns is not None
        answer: list[float] = self._engine.members[columns[path]].run(self._X, 1)[0].tolist()
        return answer

    def _run(self, column: int, rows: NDArray[np.intp]) -> NDArray[np.floating]:
        n_rows = len(rows)
        X = self._X
        if n_rows < self._n_samples:
            X = X[rows] if type(X) is np.ndarray else take_rows(X, rows)
        answer = self._engine.members[column].run(X, n_rows)
        name = self._engine.names[column]
        self.counts[name] = self.counts.get(name, 0) + n_rows
        return answer.astype(np.float64, copy=False)
