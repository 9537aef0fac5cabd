"""Labels: those given, those a data set carries, and their codes."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from tqdm import tqdm

from skquee.networks._images import ImageRows
from skquee.networks._sources import Collate, Data, Files, label_of, source_of
from skquee.values._checks import check_labels_given
from skquee.values._types import Labels, Rows

__all__ = ["encode_labels", "known_codes", "labels_of"]

CHUNK = 256  # items that are collated at once


def labels_of(X: Rows, who: str = "y is None and X") -> Labels:
    """Return the labels that images bring along.

    `X`: read from ``targets``, ``labels`` or the tensors of the data set where it has them,
    through its ``target_transform``; else from its items, through the loader's ``collate_fn``.
    Codes of a data set that names its ``classes`` become these names, as those of a folder. `who`:
    what brings them, for the message. Returns (n_samples,). Raises ValueError if X brings no
    labels.
    """
    rows = X if isinstance(X, ImageRows) else source_of(X)
    data, order, collate = rows.data, rows.order, rows.collate
    names = _names(data)
    found = None if collate is not None else _stored(data)
    if found is not None:
        return _named(found[order], names)
    if not isinstance(data, (np.ndarray, Tensor, Files)) and len(order):
        first = data[int(order[0])]
        if collate is not None:
            return _named(_collated(data, order, collate), names)
        if isinstance(first, tuple) and len(first) > 1:
            numbers = tqdm(order.tolist(), desc="labels", disable=None, leave=False)
            return _named(np.asarray([label_of(data[row]) for row in numbers]), names)
    brings = type(data if isinstance(X, ImageRows) else X).__name__
    raise ValueError(
        f"{who} ({brings}) brings no labels. Give y, or a data set of "
        "(image, label), or the path of a folder with a folder of images for each class."
    )


def _stored(data: object) -> Labels | None:
    """Return the labels of every row that a data set keeps, or None where items tell them."""
    if isinstance(data, Subset):
        inner = _stored(data.dataset)
        return None if inner is None else inner[np.asarray(data.indices, dtype=np.intp)]
    if isinstance(data, ConcatDataset):
        parts = [_stored(part) for part in data.datasets]
        kept = [part for part in parts if part is not None]
        return np.concatenate(kept) if kept and len(kept) == len(parts) else None
    if isinstance(data, TensorDataset):
        return data.tensors[1].numpy() if len(data.tensors) > 1 else None
    if _transforms_jointly(data):
        return None
    for name in ("targets", "labels"):
        values = getattr(data, name, None)
        if values is None or not isinstance(data, Sized) or not hasattr(values, "__len__"):
            continue
        if len(values) == len(data):
            change = getattr(data, "target_transform", None)
            return np.asarray(values if change is None else [change(value) for value in values])
    return None


def _transforms_jointly(data: object) -> bool:
    """Whether a data set of torchvision changes image and label by one function."""
    separate = (getattr(data, "transform", None), getattr(data, "target_transform", None))
    return getattr(data, "transforms", None) is not None and separate == (None, None)


def _names(data: object) -> Labels | None:
    """Return the names of a data set's classes, where its labels are their numbers."""
    if isinstance(data, Subset):
        return _names(data.dataset)
    if isinstance(data, ConcatDataset):
        found = [_names(part) for part in data.datasets]
        first = found[0]
        if first is None or any(part is None or not np.array_equal(part, first) for part in found):
            return None
        return first
    names = getattr(data, "classes", None)
    texts = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    if not texts or not names or len(set(names)) != len(names):
        return None
    changed = getattr(data, "target_transform", None) is not None or _transforms_jointly(data)
    return None if changed else np.asarray(names)


def _named(labels: Labels, names: Labels | None) -> Labels:
    if names is None or labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
        return labels
    return names[labels] if 0 <= labels.min() and labels.max() < len(names) else labels


def _collated(data: Data, order: NDArray[np.intp], collate: Collate) -> Labels:
    """Return the labels that a loader's own collate function makes."""
    parts = []
    for start in tqdm(range(0, len(order), CHUNK), desc="labels", disable=None, leave=False):
        rows = order[start : start + CHUNK].tolist()
        batch = collate([data[row] for row in rows])
        labels = label_of(batch)
        if not isinstance(labels, Sized) or len(labels) != len(rows):
            raise ValueError(
                f"collate_fn must return (images, labels), one for each of {len(rows)} items, got "
                f"a {type(batch).__name__}. Or give y."
            )
        parts.append(np.asarray(labels))
    return np.concatenate(parts)


def encode_labels(
    y: ArrayLike, n_classes: int | None, n_samples: int
) -> tuple[Labels, NDArray[np.int64]]:
    """Return the classes of labels, sorted, and the label of each sample as their index.

    `y` (n_samples,): labels of any type. `n_classes`: expected number. Where fewer occur, labels
    must be integers below it. `n_samples`: number of images. Returns `classes` (n_classes,).
    Returns `codes` (n_samples,).

    >>> from skquee.networks._labels import encode_labels
    >>> encode_labels(["dog", "cat", "dog"], None, 3)[1]
    array([1, 0, 1])
    """
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise ValueError(f"Labels have shape {labels.shape}, but there are {n_samples} images.")
    labels = check_labels_given(labels, "y")
    check_classification_targets(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    if n_classes is None or len(classes) == n_classes:
        if len(classes) < 2:
            raise ValueError(f"Labels must hold at least 2 classes, got {classes.tolist()}.")
        return classes, codes
    counted = labels.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < n_classes
    if not counted:
        raise ValueError(
            f"Labels hold {len(classes)} classes ({classes[:5].tolist()}, ...), but "
            f"n_classes={n_classes}. Give as many classes, or integers from 0 to {n_classes - 1}."
        )
    return np.arange(n_classes), labels.astype(np.int64)


def known_codes(y: ArrayLike, classes: Labels, n_samples: int) -> NDArray[np.int64]:
    """Return the index among known classes, which are sorted, of each label of validation rows."""
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise ValueError(
            f"Validation labels have shape {labels.shape}, but there are {n_samples} images."
        )
    labels = check_labels_given(labels, "y of validation_data")
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise ValueError(f"Validation labels hold {unknown[:5].tolist()}, unknown to the labels.")
    return np.searchsorted(classes, labels)
