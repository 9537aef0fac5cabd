"""What callables return, read as probabilities: vectors, labels, scores, or nothing."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skquee.values._sources import numeric

__all__ = ["read_answers"]


def read_answers(found: object, n_rows: int, classes: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return what a callable answered as probabilities, NaN where it gave no answer.

    `found`: probabilities of shape (n_rows, n_classes); labels of shape (n_rows,); a pair of
    labels and scores; or a list with an entry a row: None, a label, a pair ``(label, score)`` or a
    vector. A bare label or pair does for one row. Columns of a frame that are named as the classes
    are taken by name. `n_rows`: rows asked. `classes` (n_classes,): labels of the class axis.
    Returns (n_rows, n_classes): a score below that of chance is lifted just above it, so that the
    label stays the answer; the rest is spread evenly. A label without a score gets probability 1.
    Raises ValueError if there are more or fewer answers than rows, or one is none of these.
    """
    if found is None:
        found = [None] * n_rows
    if isinstance(found, Coroutine):
        found.close()
        raise ValueError("it returned a coroutine: give a function that awaits it (asyncio.run)")
    if isinstance(found, Iterator):
        found = list(found)
    if n_rows == 1 and _is_one(found, len(classes)):
        found = [found]
    if isinstance(found, tuple) and len(found) == 2 and not _is_label(found[0]):
        labels, scores = (list(_array(part)) for part in found)
        if len(labels) != len(scores):
            raise ValueError(f"it returned {len(labels)} labels and {len(scores)} scores")
        found = [
            None if label is None else (label, score)
            for label, score in zip(labels, scores, strict=True)
        ]
    if not isinstance(found, (list, tuple)):
        found = _array(_in_order(found, classes.tolist()))
        if found.ndim == 2 and found.dtype.kind in "fiub":
            if found.shape != (n_rows, len(classes)):
                raise ValueError(
                    f"it returned an array of shape {found.shape}, but (n_samples, n_classes) = "
                    f"{(n_rows, len(classes))} is expected"
                )
            return found.astype(np.float64)
        found = list(found) if found.ndim else [found[()]]
    if len(found) != n_rows:
        raise ValueError(f"it returned {len(found)} answers for {n_rows} rows")
    places = {label: place for place, label in enumerate(classes.tolist())}
    return np.stack([_read_one(answer, places) for answer in found])


def _read_one(answer: object, places: dict[object, int]) -> NDArray[np.float64]:
    n_classes = len(places)
    answer = answer.item() if isinstance(answer, np.generic) else answer
    if answer is None or (isinstance(answer, float) and np.isnan(answer)):
        return np.full(n_classes, np.nan)
    score: Any = 1.0
    if isinstance(answer, tuple) and len(answer) == 2:
        answer, score = answer
        answer = answer.item() if isinstance(answer, np.generic) else answer
        if answer is None:
            return np.full(n_classes, np.nan)
    elif not _is_label(answer):
        try:
            vector = _array(answer).astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"it returned {answer!r:.60}, which is neither a label, a pair (label, score) nor "
                "probabilities"
            ) from None
        if vector.shape != (n_classes,):
            raise ValueError(
                f"it returned a vector of shape {vector.shape}, but {n_classes} probabilities are "
                "expected"
            )
        return vector
    if answer not in places:
        raise ValueError(
            f"it returned the label {answer!r}, which is not among the classes {[*places][:6]}"
        )
    try:
        score = float(score)
        known = 0 <= score <= 1
    except (TypeError, ValueError):
        known = False
    if not known:
        raise ValueError(f"it returned the score {score!r}, which is not between 0 and 1")
    top = max(score, 1.002 / n_classes)
    row = np.full(n_classes, (1 - top) / (n_classes - 1))
    row[places[answer]] = top
    return row


def _is_label(value: object) -> bool:
    return isinstance(value, (str, bytes, bool, int, float, np.generic)) or value is None


def _is_one(found: object, n_classes: int) -> bool:
    """Whether this is the answer of one row, not a sequence of answers."""
    if _is_label(found):
        return True
    if not isinstance(found, tuple):
        several = isinstance(found, Sized) and len(found) == n_classes > 1
        vector = _array(found) if several else np.empty(0, dtype=object)
        return vector.ndim == 1 and vector.dtype.kind in "fiu"
    if isinstance(found, tuple) and len(found) == 2 and _is_label(found[0]):
        return not isinstance(found[1], (Sequence, np.ndarray))
    return False


def _in_order(found: Any, classes: list[object]) -> object:
    """Return a frame whose columns are the classes in their order, and anything else as it is."""
    columns = list(getattr(found, "columns", []))
    if len(columns) != len(classes) or columns == classes or set(columns) != set(classes):
        return found
    return found[classes]


def _array(values: object) -> NDArray[np.generic]:
    return np.asarray(numeric(values))
