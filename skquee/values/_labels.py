"""Checks of rows, labels and weights, and small questions asked of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_random_state, column_or_1d

from skquee.values._checks import check_labels_given, check_probabilities, is_flat
from skquee.values._halves import widened
from skquee.values._rows import own_values
from skquee.values._table import PathProbabilities
from skquee.values._tree import PathTree
from skquee.values._types import Seed

__all__ = [
    "check_labels",
    "check_target",
    "check_weights",
    "correctness",
    "default_lambdas",
    "encode_labels",
    "hold_out",
    "path_answers",
    "spawn_seeds",
    "stored",
    "wrong_of",
]


def default_lambdas(tree: PathTree) -> NDArray[np.float64]:
    """Return trade-offs that span a curve: 0, then a hundred from 1e-3 up.

    They are per cost of the dearest path, and end at 10 or where even the cheapest step is
    not worth taking for a sure gain of 1, whichever is more (at most 1e5).

    Returns shape (101,).
    """
    costs = tree.path_costs
    top = costs.max() or 1.0
    before = np.array([costs[p] if p >= 0 else costs.min() for p in tree.parents])
    steps = (costs - before)[costs > before] / top
    end = min(max(10.0, 1.1 / steps.min() if len(steps) else 0.0), 1e5)
    return np.concatenate([[0.0], np.geomspace(1e-3, end, 100) / top])


def stored(table: PathProbabilities) -> PathProbabilities:
    """Return the table itself, or everything a lazy one would answer, run once."""
    run = getattr(table, "materialize", None)
    return table if run is None else run()


def path_answers(table: PathProbabilities, *, check: bool = False) -> NDArray[np.int32]:
    """Return the class index every path answers.

    A flat vector is an abstention: the path answers as the one before it.

    `check`: raise where a vector is not a probability vector. Returns shape (n_samples, n_paths).
    """
    columns = table.paths.path_columns
    readers = [table.paths.names[path] for path in table.paths.first_of_column.tolist()]
    answers = np.empty(table.shape[:2], dtype=np.int32)
    silent: NDArray[np.bool_] | None = None
    for rows, chunk in table.chunks():
        values = widened(np.asarray(chunk))
        if check:
            check_probabilities(values, rows.start, readers)
        answers[rows] = values.argmax(axis=2)
        flat = is_flat(values)
        if flat.any():
            silent = np.zeros(answers.shape, dtype=bool) if silent is None else silent
            silent[rows] = flat
    answers = answers[:, columns]
    if silent is not None:
        for path, before in enumerate(table.paths.parents):  # these come first
            if before >= 0:
                mute = silent[:, columns[path]]
                answers[mute, path] = answers[mute, before]
    return answers


def correctness(
    table: PathProbabilities, codes: NDArray[np.intp], *, check: bool = True
) -> NDArray[Any]:
    """Tell which paths answer right, or how little each loses where the table knows losses.

    `codes` (n_samples,). `check`: raise where a vector is not a probability vector. Returns shape
    (n_samples, n_paths): booleans; 1 less the loss where the table has losses.
    """
    if table.losses is not None:
        if check:
            path_answers(table, check=True)
        return 1 - table.losses[:, table.paths.path_columns]
    return path_answers(table, check=check) == codes[:, None]


def wrong_of(right: NDArray[Any]) -> NDArray[Any]:
    """Return errors, or losses, of what :func:`correctness` tells.

    `right`: whether answers are right, or 1 less their losses. Returns of the same type.
    """
    return ~right if right.dtype == bool else 1 - right


def check_labels(y: ArrayLike, classes: NDArray[np.generic], n_samples: int) -> NDArray[np.intp]:
    """Return class indices of labels, checked against the classes.

    `y` (n_samples,). `classes` (n_classes,): known labels, in the order of the class axis. Returns
    shape (n_samples,).
    """
    labels = check_labels_given(column_or_1d(y, warn=True), "y")
    if len(labels) != n_samples:
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"{[n_samples, len(labels)]} (X and y)."
        )
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise ValueError(
            f"y holds the labels {unknown[:5].tolist()}, which are not among the {len(classes)} "
            f"classes {classes[:5].tolist()}{'...' if len(classes) > 5 else ''}. Give y in "
            "these, or a router classes= in the order of the class axis of X."
        )
    order = np.argsort(classes)
    return order[np.searchsorted(classes, labels, sorter=order)]


def check_target(y: ArrayLike) -> NDArray[np.generic]:
    """Return labels as a checked 1-D array.

    `y` (n_samples,). Returns shape (n_samples,).
    """
    if (shape := np.asarray(y).shape)[1:] > (1,):
        raise ValueError(
            f"y should be a 1d array, got an array of shape {shape} instead: of a column a class, "
            "y.argmax(axis=1) makes labels."
        )
    labels = check_labels_given(column_or_1d(y, warn=True), "y")
    # Integers and texts are classes, however many (a thousand classes on few rows is fine).
    if labels.dtype.kind not in "biuUSO":
        check_classification_targets(labels)
    return labels


def check_weights(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64] | None:
    """Return checked sample weights, or None.

    `sample_weight` (n_samples,). Returns shape (n_samples,).
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected ({n_samples},): one weight a row."
        )
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError("sample_weight must be finite and not negative.")
    if not weights.any():
        raise ValueError("sample_weight sums to zero: all weights are zero, so there are no rows.")
    own: NDArray[np.float64] = own_values(weights).astype(np.float64, copy=False)
    return own


def encode_labels(
    table: PathProbabilities, y: ArrayLike | None
) -> tuple[NDArray[np.generic], NDArray[np.intp]]:
    """Settle the classes of a table and return them with the class index of every label.

    Classes come with the tree where it has them. Otherwise they are ``0 .. n_classes - 1``
    where the labels are such integers, else the distinct labels, which must then be as many
    as the table has classes.

    `y` (n_samples,). Returns `classes` (n_classes,); `codes` (n_samples,).
    """
    if table.facts.outcomes:
        if y is not None:
            raise ValueError(
                "A table of outcomes knows its losses: fit it without y (a Pipeline passes None)."
            )
        if table.losses is None:
            raise ValueError("These outcomes have no losses to learn from: give some.")
        return np.asarray(table.paths.column_names), np.zeros(len(table), dtype=np.intp)
    assert y is not None
    labels = check_target(y)
    n_classes = table.shape[2]
    found = np.unique(labels)
    if table.paths.classes is not None:
        classes = np.asarray(table.paths.classes)
    elif found.dtype.kind in "iu" and found[0] >= 0 and found[-1] < n_classes:
        classes = np.arange(n_classes)
    elif len(found) == n_classes:
        classes = found
    else:
        raise ValueError(
            f"X has {n_classes} classes, but y has {len(found)} distinct labels "
            f"({found[:5].tolist()}...), so which column is which is not known: pass classes= in "
            "the order of the class axis, or a PathTree with classes."
        )
    codes = check_labels(labels, classes, len(table))
    if len(found) < 2:
        raise ValueError(
            f"y holds 1 class only ({found.tolist()[0]!r}); routing needs at least 2 classes to "
            "learn from."
        )
    return classes, codes


def hold_out(
    codes: NDArray[np.intp],
    fraction: float,
    seed: int,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return training rows and held-out rows, by class where rows go round.

    A class of a single row is learned from, and the others are held out in their shares.

    `codes` (n_samples,). `fraction`: share held out; 0 for none. `weights` (n_samples,): A row
    without weight counts as absent. Returns `train`, `held`: sorted.
    """
    rows = np.arange(len(codes)) if weights is None else np.flatnonzero(weights)
    n_held = round(fraction * len(rows))
    if n_held == 0:
        return rows, rows[:0]
    if n_held >= len(rows):
        raise ValueError(
            f"Holding out {fraction:g} of {len(rows)} rows leaves none to learn from: lower that "
            "share or give more rows."
        )
    _, place, sizes = np.unique(codes[rows], return_inverse=True, return_counts=True)
    several = sizes[place] >= 2
    n_classes, n_shared = int((sizes >= 2).sum()), int(several.sum())
    if 0 < n_classes <= min(n_held, n_shared - n_held):
        alone, rows = rows[~several], rows[several]
        train, held = train_test_split(
            rows, test_size=n_held, random_state=seed, stratify=codes[rows]
        )
        train = np.concatenate([train, alone])
    else:
        train, held = train_test_split(rows, test_size=n_held, random_state=seed)
    return np.sort(train), np.sort(held)


def spawn_seeds(random_state: Seed, n: int) -> NDArray[np.int64]:
    """Draw one integer seed per part, so that results depend on neither order nor n_jobs.

    Returns shape (n,).
    """
    return check_random_state(random_state).randint(np.iinfo(np.int32).max, size=n)
