"""What a request may hold, and the rows that a classifier gets of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

from skquee.values._optional import require
from skquee.values._types import Json

__all__ = ["Refused", "RowFormat", "Rows"]

KEYS = {"rows", "columns", "probabilities"}


class Refused(Exception):
    """A request that is not answered, with its status and what is wrong with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Rows:
    """Checked rows of one request; those of one kind may share a batch."""

    values: Sequence[object] | NDArray[np.float64]
    kind: object
    probabilities: bool

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class RowFormat:
    """What rows a classifier was fitted on, as far as it says.

    `n_features`: columns. `names`: of the columns of a data frame. `missing`: whether a value may
    be missing.
    """

    n_features: int | None
    names: tuple[str, ...] | None
    missing: bool

    @classmethod
    def of(cls, classifier: BaseEstimator) -> RowFormat:
        """Return the format of a fitted classifier."""
        names = getattr(classifier, "feature_names_in_", None)
        return cls(
            getattr(classifier, "n_features_in_", None),
            None if names is None else tuple(map(str, names)),
            bool(get_tags(classifier).input_tags.allow_nan),
        )

    def read(self, body: bytes, most_rows: int) -> Rows:
        """Return the rows of a request's body, checked, or raise :class:`Refused`."""
        try:
            found = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"The body is no JSON: {error}.") from None
        if not isinstance(found, dict) or "rows" not in found or not set(found) <= KEYS:
            raise Refused(
                422, 'The body must be an object {"rows": [...]}, with "columns" for rows of a '
                'data frame and "probabilities": true where these are wanted.'
            )  # fmt: skip
        rows, probabilities = found["rows"], found.get("probabilities", False)
        if not isinstance(rows, list) or not rows:
            raise Refused(422, "rows must be a list of at least one row.")
        if len(rows) > most_rows:
            raise Refused(413, f"{len(rows)} rows, of which a request may hold {most_rows}.")
        if not isinstance(probabilities, bool):
            raise Refused(422, "probabilities must be true or false.")
        if self.names is not None:
            values = self._named(rows, found.get("columns"))
            return Rows(values, "frame", probabilities)
        if "columns" in found:
            raise Refused(422, "This classifier knows no column names: leave out columns.")
        if isinstance(rows[0], str) and self.n_features is None:
            if not all(isinstance(row, str) for row in rows):
                raise Refused(422, "rows must all be texts, or all be lists of numbers.")
            return Rows(rows, "texts", probabilities)
        array = self._numbers(rows)
        return Rows(array, array.shape[1:], probabilities)

    def _named(self, rows: list[object], columns: object) -> list[list[object]]:
        """Return rows of a data frame in the order of its columns."""
        assert self.names is not None
        if columns is None:
            objects = [row for row in rows if isinstance(row, dict)]
            if len(objects) != len(rows):
                raise Refused(
                    422, f"Give rows as objects with the columns {list(self.names)}, or columns."
                )
            self._check_names(objects)
            return [[row[name] for name in self.names] for row in objects]
        if not isinstance(columns, list) or sorted(map(str, columns)) != sorted(self.names):
            raise Refused(422, f"columns must be {list(self.names)}, got {columns!r:.200}.")
        lists = [row for row in rows if isinstance(row, list) and len(row) == len(columns)]
        if len(lists) != len(rows):
            raise Refused(422, f"Each row must be a list of {len(columns)} values, as columns.")
        order = [columns.index(name) for name in self.names]
        return [[row[place] for place in order] for row in lists]

    def _check_names(self, rows: list[Json]) -> None:
        wanted = set(self.names or ())
        for number, row in enumerate(rows):
            if row.keys() != wanted:
                unknown, absent = sorted(set(row) - wanted), sorted(wanted - set(row))
                raise Refused(
                    422,
                    f"Row {number} lacks the columns {absent[:5]} and has the unknown columns "
                    f"{unknown[:5]}. This classifier takes {list(self.names or ())}.",
                )

    def _numbers(self, rows: list[object]) -> NDArray[np.float64]:
        try:
            values = np.array(rows)
        except ValueError:
            values = np.empty(0, dtype=object)
        if values.dtype.kind == "O" and self.missing and _all_numbers(rows):
            values = np.array(rows, dtype=np.float64)  # None becomes NaN
        wanted = "numbers" if self.n_features is None else f"{self.n_features} numbers"
        if values.dtype.kind not in "iufb" or values.ndim < 2:
            raise Refused(422, f"Each row must be a list of {wanted}, none missing or a text.")
        if self.n_features is not None and values.shape[1:] != (self.n_features,):
            got = "x".join(map(str, values.shape[1:]))
            raise Refused(422, f"Each row must be a list of {wanted}, but these hold {got}.")
        values = values.astype(np.float64, copy=False)
        if np.isinf(values).any():  # as 1e999 is read
            raise Refused(422, "Each row must hold finite numbers, but one is infinity.")
        return values

    def join(self, parts: Sequence[Rows]) -> object:
        """Return rows of one kind as one input of the classifier."""
        kind = parts[0].kind
        if kind == "frame":
            pd = require("pandas", "A classifier that was fitted on a data frame")
            return pd.DataFrame([r for part in parts for r in part.values], columns=self.names)
        if kind == "texts":
            return [row for part in parts for row in part.values]
        if len(parts) == 1:
            return parts[0].values
        return np.concatenate([np.asarray(part.values) for part in parts])


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _all_numbers(rows: list[object]) -> bool:
    """Whether rows are lists of one length of numbers and nulls."""
    return len({len(row) if isinstance(row, list) else -1 for row in rows} | {-2}) == 2 and all(
        isinstance(row, list)
        and all(value is None or isinstance(value, (int, float)) for value in row)
        for row in rows
    )
