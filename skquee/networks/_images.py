"""What a network takes as images, and as labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

__all__ = ["ImageFormat", "encode_labels", "known_codes"]


@dataclass(frozen=True)
class ImageFormat:
    """Turns images of any accepted kind into the tensor a backbone eats.

    Parameters
    ----------
    channels : int
        Channels of an image.
    size : tuple of int or None
        Height and width in pixels; None takes any.
    mean, std : tuple of float
        Subtracted from and divided into each channel, on a scale of 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.networks._images import ImageFormat
    >>> grey = ImageFormat(1, (8, 8), (0.5,), (0.5,))
    >>> tuple(grey.tensor(np.zeros((5, 8, 8), dtype=np.uint8)).shape)
    (5, 1, 8, 8)
    """

    channels: int
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, backbone: VisionTransformer) -> ImageFormat:
        """Read the format from a backbone and its data configuration, if it has one.

        Parameters
        ----------
        backbone : VisionTransformer
            The backbone. One built without a name has no configuration: mean and
            standard deviation are then 0.5.

        Returns
        -------
        ImageFormat
        """
        patches, channels = backbone.patch_embed, backbone.patch_embed.proj.in_channels
        config = getattr(backbone, "pretrained_cfg", None) or {}
        mean, std = (tuple(config.get(key, ())) for key in ("mean", "std"))
        if len(mean) != channels:
            mean, std = (0.5,) * channels, (0.5,) * channels
        size = None if patches.img_size is None else tuple(patches.img_size)
        return cls(channels, size, mean, std)

    def tensor(self, X: Any) -> Tensor:
        """Return images as float32, channels first, normalised.

        Parameters
        ----------
        X : array-like of shape (n, H, W) or (n, H, W, C), or Tensor of shape (n, C, H, W)
            Arrays hold uint8, or floats from 0 to 1. Tensors of floats are taken as they
            are: normalised already.

        Returns
        -------
        Tensor of shape (n, C, H, W)

        Raises
        ------
        ValueError
            If the shape does not fit the backbone, or a pixel is NaN or infinite.
        """
        pixels = ", ".join(map(str, self.size or ("H", "W")))
        expected = f"(n, {pixels}, {self.channels})"
        if isinstance(X, Tensor):
            images, raw, scale = X.to(torch.float32), X.dtype == torch.uint8, 255.0
            expected = f"(n, {self.channels}, {pixels})"
        else:
            array = np.asarray(X)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"Images must be numbers, got an array of dtype {array.dtype}.")
            if array.dtype.kind == "i":
                raise ValueError(
                    f"Images must be uint8, or floats from 0 to 1, got {array.dtype}: the scale of "
                    "the values is not known."
                )
            scale, raw = 255.0 if array.dtype == np.uint8 else 1.0, True
            images = torch.from_numpy(np.array(array, dtype=np.float32))
            if images.ndim == 4:
                images = images.permute(0, 3, 1, 2)
            elif images.ndim == 3:
                images = images.unsqueeze(1)
        fits = images.ndim == 4 and images.shape[1] == self.channels
        if not fits or (self.size is not None and tuple(images.shape[2:]) != self.size):
            raise ValueError(
                f"Images have shape {tuple(X.shape) if hasattr(X, 'shape') else np.shape(X)}, but "
                f"this network takes {expected}: arrays with channels last, tensors with channels "
                "first. Resize them, or build the network with another img_size or in_chans."
            )
        if not torch.isfinite(images).all():
            bad = int((~torch.isfinite(images)).flatten(1).any(dim=1).nonzero()[0])
            raise ValueError(f"Image {bad} holds NaN or infinite pixels.")
        if not raw:
            return images.contiguous()
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return ((images / scale - mean) / std).contiguous()


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
    >>> from skquee.networks._images import encode_labels
    >>> encode_labels(["dog", "cat", "dog"], None, 3)[1]
    array([1, 0, 1])
    """
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise ValueError(f"Labels have shape {labels.shape}, but there are {n_samples} images.")
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
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise ValueError(f"Validation labels hold {unknown[:5].tolist()}, unknown to the labels.")
    return np.searchsorted(classes, labels)
