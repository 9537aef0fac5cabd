"""What tables are built from: arrays of any library, labels and scores, outcomes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._archives import open_arrays
from skquee.values._costs import check_costs
from skquee.values._facts import RowFacts, as_numbers, check_context, check_losses, check_prices
from skquee.values._tree import PathTree

__all__ = [
    "check_table_shape",
    "columns_of",
    "label_values",
    "no_table",
    "numeric",
    "outcome_table",
    "tree_over",
]


def numeric(values: Any) -> Any:
    """Return an array as the package reads it: tensors are detached; lazy arrays stay lazy."""
    if hasattr(values, "detach"):  # a tensor, also on a GPU, of bfloat16, or with gradients
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()
        return values.numpy()
    if hasattr(values, "iloc"):
        return values.to_numpy()
    if hasattr(values, "dask"):
        return values.compute()
    if hasattr(values, "shape") and hasattr(values, "dtype"):
        return values
    return np.asarray(values)


def columns_of(
    arrays: Mapping[str, ArrayLike] | Iterable[ArrayLike] | str | os.PathLike[str],
) -> tuple[list[str] | None, list[NDArray[np.generic]], Sequence[object] | None]:
    """Return names, arrays of shape (n_samples, n_classes), and classes where frames tell them."""
    if isinstance(arrays, (str, os.PathLike)):
        with open_arrays(arrays, "file of arrays") as archive:
            arrays = dict(archive)
    names = None
    if isinstance(arrays, Mapping):
        names = [str(name) for name in arrays]
        arrays = [arrays[name] for name in arrays]
    arrays = list(arrays)
    if not arrays:
        raise ValueError("There are no arrays: give one a classifier, {'small': P1, 'large': P2}.")
    frames = [list(array.columns) for array in arrays if hasattr(array, "columns")]
    if frames and any(columns != frames[0] for columns in frames):
        raise ValueError(f"Frames must have the same columns in one order, got {frames[:2]}.")
    found = [numeric(array) for array in arrays]
    shapes = [tuple(array.shape) for array in found]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        advice = " Of two classes, give both columns." if len(shapes[0]) == 1 else ""
        raise ValueError(
            f"Every array must have one shape (n_samples, n_classes), got {shapes[:6]}.{advice}"
        )
    return names, found, frames[0] if frames else None


def label_values(
    labels: ArrayLike, confidences: ArrayLike | None, classes: Sequence[object]
) -> NDArray[np.float32]:
    """Return probabilities of labels and scores; see ``from_labels``."""
    given, order = np.asarray(labels), np.asarray(classes)
    scores = np.ones(given.shape)
    if confidences is not None:
        scores = np.asarray(confidences, dtype=np.float64)
    if given.ndim != 2 or given.shape != scores.shape:
        raise ValueError(
            "labels and confidences must both have shape (n_samples, n_columns), got "
            f"{given.shape} and {scores.shape}."
        )
    if len(order) < 2:
        raise ValueError(f"classes must hold at least 2 labels, got {len(order)}.")
    missing = np.zeros(given.shape, dtype=bool)
    if given.dtype.kind in "fO":
        # NaN is the only value that differs from itself.
        missing = np.array([[v is None or v != v for v in row] for row in given.tolist()])
        missing = missing.reshape(given.shape)
        given = np.where(missing, order[0], given)
        given = given.astype(order.dtype) if given.dtype.kind == "O" else given
    unknown = np.setdiff1d(given, order)
    if unknown.size:
        raise ValueError(f"labels holds {unknown[:5].tolist()}, which classes does not list.")
    scores = np.where(missing, 1.0, scores)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("confidences must lie in [0, 1] and not be NaN. Rescale them first.")
    n_classes = len(order)
    sorter = np.argsort(order)
    codes = sorter[np.searchsorted(order, given, sorter=sorter)]
    top = np.maximum(scores, 1.002 / n_classes)  # still ahead after rounding to float16
    values = np.repeat(((1 - top) / (n_classes - 1))[:, :, None], n_classes, axis=2)
    np.put_along_axis(values, codes[:, :, None], top[:, :, None], axis=2)
    values[missing] = 1 / n_classes
    return values.astype(np.float32)


def tree_over(
    paths: object,
    names: Sequence[str] | None,
    step_costs: ArrayLike | None,
    n_columns: int,
    cost_unit: str | None,
) -> PathTree:
    """Return the tree over some classifiers.

    `paths`: how they may follow each other; "single": exactly one is called. `step_costs`
    (n_columns,): what each adds; None with a PathTree only.
    """
    if isinstance(paths, PathTree):
        if step_costs is not None or cost_unit is not None:
            raise ValueError("Give a PathTree, which carries costs, or step_costs, not both.")
        if paths.n_columns != n_columns:
            raise ValueError(
                f"The PathTree reads {paths.n_columns} classifiers, but {n_columns} are given."
            )
        return paths
    if step_costs is None:
        raise ValueError(
            f"Costs are left out: give step_costs=, what running each of the {n_columns} "
            "classifiers adds in any one unit, or paths= a PathTree."
        )
    steps = check_costs(step_costs, n_columns, "step_costs", each="classifier")
    labels = [str(i + 1) for i in range(n_columns)] if names is None else list(map(str, names))
    if len(labels) != n_columns:
        raise ValueError(f"names has {len(labels)} entries, but there are {n_columns} classifiers.")
    if paths == "chain":
        return PathTree.chain(steps, names=labels, cost_unit=cost_unit)
    if paths == "cascade":
        return PathTree.cascade(steps, names=labels, cost_unit=cost_unit)
    if paths == "single":
        return PathTree(
            names=tuple(labels),
            parents=(-1,) * n_columns,
            levels=tuple(range(1, n_columns + 1)),
            costs=tuple(steps.tolist()),
            cost_unit=cost_unit,
        )
    raise ValueError(f"paths must be 'chain', 'cascade', 'single' or a PathTree, got {paths!r}.")


def _names_of(names: Sequence[str] | None, **given: object) -> Sequence[str] | None:
    """Return the names of the models, of frames where none are given; raise where orders differ."""
    found = {} if names is None else {"names": list(names)}
    for what, values in given.items():
        labels = getattr(values, "columns", getattr(values, "index", None))
        if labels is not None and not callable(labels):  # of a list, index is a method
            found[what] = list(labels)
    orders = list({tuple(labels): None for labels in found.values()})
    if any(set(one) == set(other) for one, other in combinations(orders, 2)):
        raise ValueError(f"Models must stand in one order, got {found}.")
    told = (labels for labels in found.values() if all(isinstance(name, str) for name in labels))
    return next(told, None) if names is None else names


def outcome_table(
    loss: ArrayLike | None,
    confidence: ArrayLike | None,
    context: ArrayLike | None,
    costs: ArrayLike,
    *,
    names: Sequence[str] | None,
    paths: object,
    cost_unit: str | None,
    costs_known: bool,
) -> tuple[NDArray[np.float32], PathTree, RowFacts]:
    """Return values, tree and facts of a table of outcomes; see ``from_outcomes``."""
    names = _names_of(names, loss=loss, confidence=confidence, costs=costs)
    losses = None if loss is None else check_losses(loss)
    sure = None if confidence is None else np.asarray(confidence, dtype=np.float64)
    if sure is not None and (sure.ndim != 2 or not ((sure >= 0) & (sure <= 1)).all()):
        raise ValueError(
            "confidence must have shape (n_samples, n_columns) and lie in [0, 1], got shape "
            f"{sure.shape}."
        )
    prices = as_numbers(costs, "costs", "give prices in the order of the models")
    shapes = {
        "loss": None if losses is None else losses.shape,
        "confidence": None if sure is None else sure.shape,
        "costs": prices.shape if prices.ndim == 2 else None,
    }
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    n_columns = len(prices) if prices.ndim == 1 else prices.shape[-1]
    if known:
        n_samples, n_columns = next(iter(known.values()))
    elif context is not None:
        n_samples = len(np.asarray(context))
    else:
        raise ValueError("Give loss, confidence or context: nothing tells how many rows there are.")
    if any(shape != (n_samples, n_columns) for shape in known.values()):
        raise ValueError(f"Shapes must be one (n_samples, n_columns), got {known}.")
    prices = check_prices(prices, n_samples, n_columns)
    facts = RowFacts(
        context=None if context is None else check_context(context, n_samples),
        losses=losses,
        call_costs=prices if prices.ndim == 2 else None,
        costs_known=costs_known,
        outcomes=True,
    )
    if paths is None:
        # Without a confidence a second call learns nothing from the first.
        paths = "single" if sure is None else ("cascade" if n_columns <= 5 else "chain")
    whole = isinstance(paths, PathTree)
    steps = None if whole else (prices if prices.ndim == 1 else prices.mean(axis=0))
    tree = tree_over(paths, names, steps, n_columns, None if whole else cost_unit)
    top = np.full((n_samples, n_columns), 0.5) if sure is None else sure
    values = np.stack([top, 1 - top], axis=2).astype(np.float32)
    return values, tree.with_classes(None), facts


def check_table_shape(shape: tuple[int, ...], paths: PathTree) -> None:
    """Raise where a table does not fit its tree."""
    if len(shape) != 3:
        raise ValueError(no_table(shape))
    if shape[1] != paths.n_columns:
        advice = "Transform X with the bank used in fit, or pass paths=."
        if shape[0] == paths.n_columns:  # a list of arrays, one a path
            advice = "Paths are the second axis: np.stack(arrays, axis=1), one array a path."
        raise ValueError(
            f"X has {shape[1]} paths, but the tree has {paths.n_columns} "
            f"({paths.n_exits} exits: {', '.join(paths.names[:4])}, ...). {advice}"
        )
    if paths.classes is not None and shape[2] != len(paths.classes):
        raise ValueError(
            f"X has {shape[2]} classes, but the tree has {len(paths.classes)}. Give every path a "
            "column for each class, 0 where it knows none."
        )


def no_table(shape: tuple[int, ...]) -> str:
    """Return what to say of an array that has not three axes."""
    advice = "np.stack([small, large], axis=1) makes one of an array (n_samples, n_classes) a path"
    if len(shape) == 2:
        advice += "; one row alone is X[:1]"
    return (
        "X must be a table of probabilities of shape (n_samples, n_paths, n_classes), got an "
        f"array of shape {tuple(shape)}: {advice}."
    )
