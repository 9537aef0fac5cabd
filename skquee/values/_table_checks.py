"""Whether an array is a table of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skquee.values._tree import PathTree

__all__ = ["check_probabilities", "check_table_shape"]


def check_table_shape(shape: tuple[int, ...], paths: PathTree) -> None:
    """Raise where a table does not fit its tree."""
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
    values: NDArray[np.generic],
    rows: NDArray[np.intp] | int,
    names: Sequence[str] | NDArray[np.generic],
) -> None:
    """Raise where vectors are not probabilities, naming the row and the path.

    `values` (..., n_classes): vectors; all axes but the last are counted together. `rows`: row of
    each vector, or the first row where `values` is a (rows, paths, classes) block. `names`: path of
    each vector, or of each column of such a block.
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
