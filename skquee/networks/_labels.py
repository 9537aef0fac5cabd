"""Labels: those given, those a data set carries, and their codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from torch.utils.data import DataLoader, Subset, TensorDataset
from tqdm import tqdm

from skquee.values._checks import check_labels_given

__all__ = ["encode_labels", "known_codes", "labels_of"]


def labels_of(X: Any, who: str = "y is None and X") -> NDArray[Any]:
    """Return the labels that images bring along.

    Parameters
    ----------
    X : Dataset, DataLoader or path of a folder with a folder of images a class
        Read from ``targets``, ``labels`` or the tensors of the data set where it has them,
        else from its items. Of a folder: the names of the classes.
    who : str, default="y is None and X"
        What brings them, for the message.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If X brings no labels.
    """
    if isinstance(X, (str, Path)):
        from torchvision.datasets import ImageFolder

        folder = ImageFolder(X)
        return np.asarray(folder.classes)[np.asarray(folder.targets, dtype=np.int64)]
    if isinstance(X, DataLoader):
        return labels_of(X.dataset)
    if isinstance(X, Subset):
        return labels_of(X.dataset)[np.asarray(X.indices)]
    if isinstance(X, TensorDataset) and len(X.tensors) > 1:
        return X.tensors[1].numpy()
    for name in ("targets", "labels"):
        if hasattr(X, name):
            return np.asarray(getattr(X, name))
    if hasattr(X, "__getitem__") and hasattr(X, "__len__") and not hasattr(X, "shape") and len(X):
        if isinstance(X[0], tuple) and len(X[0]) > 1:
            rows = tqdm(range(len(X)), desc="labels", disable=None, leave=False)
            return np.asarray([X[row][1] for row in rows])
    raise ValueError(
        f"{who} ({type(X).__name__}) brings no labels. Give y, or a data set of "
        "(image, label), or the path of a folder with a folder of images for each class."
    )


def encode_labels(
    y: ArrayLike, n_classes: int | None, n_samples: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes of labels, sorted, and the label of each sample as their index.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any type.
    n_classes : int or None
        Expected number. Where fewer occur, labels must be integers below it.
    n_samples : int
        Number of images.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    codes : ndarray of shape (n_samples,)

    Examples
    --------
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


def known_codes(y: ArrayLike, classes: NDArray[Any], n_samples: int) -> NDArray[np.int64]:
    """Return the index among known classes of each label of validation rows.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,)
        The classes, sorted.
    n_samples : int
        Number of images.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
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
