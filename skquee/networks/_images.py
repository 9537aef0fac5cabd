"""What a network takes as images, and how they become its input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from skquee.networks._sources import (
    Collate,
    Data,
    Pixels,
    image_of,
    is_picture,
    several_sizes,
    size_of,
    source_of,
)
from skquee.networks.backbones._types import Options
from skquee.values._types import Rows

__all__ = ["ImageFormat", "ImageRows"]

SCALES = {torch.uint8: 255.0, torch.uint16: 65535.0, np.dtype("u1"): 255.0, np.dtype("u2"): 65535.0}
LOOKED_AT = 32  # images whose sizes are compared
FINITE_CHUNK = 256  # images whose pixels are checked at once
# Filters go beyond 0 and 1 at edges; -1 to 1, 0 to 16 and 0 to 255 are other scales.
LOWEST, HIGHEST = -0.5, 1.5


@dataclass(frozen=True)
class ImageFormat:
    """Turns images of any accepted kind into the tensor a backbone eats.

    `channels`: channels of an image. `size`: height and width in pixels; None takes any. `mean`,
    `std`: subtracted from and divided into each channel, on a scale of 0 to 1. `interpolation`:
    how images of another size are resized. `crop_pct`: images larger than `size` keep their
    central part of this share of each side. An image that has to be enlarged keeps all of it.

    >>> import numpy as np
    >>> from skquee.networks._images import ImageFormat
    >>> grey = ImageFormat(1, (8, 8), (0.5,), (0.5,))
    >>> tuple(grey.rows(np.zeros((5, 16, 16), dtype=np.uint8)).tensor().shape)
    (5, 1, 8, 8)
    """

    channels: int
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0

    @classmethod
    def of(cls, channels: int, size: tuple[int, int] | None, config: Options) -> ImageFormat:
        """Read the format from the data configuration of a backbone.

        `channels`: channels the backbone takes. `size`: height and width it takes. `config`: with
        ``mean``, ``std``, ``interpolation`` and ``crop_pct`` where known. A mean and deviation
        that do not fit the channels are taken as 0.5. Raises ValueError if `config` holds an
        unknown interpolation or a `crop_pct` outside (0, 1].
        """
        mean, std = (tuple(map(float, config.get(key) or ())) for key in ("mean", "std"))
        if len(mean) != channels or len(std) != channels:
            mean, std = (0.5,) * channels, (0.5,) * channels
        names = [mode.value for mode in InterpolationMode]
        interpolation = config.get("interpolation") or "bicubic"
        crop_pct = float(config.get("crop_pct") or 1.0)
        if interpolation not in names:
            raise ValueError(f"interpolation must be one of {names}, got {interpolation!r}.")
        if not 0 < crop_pct <= 1:
            raise ValueError(f"crop_pct must lie in (0, 1], got {crop_pct}.")
        return cls(channels, size, mean, std, interpolation, crop_pct)

    def rows(self, X: Rows) -> ImageRows:
        """Check images and return them as rows that become tensors when asked for.

        `X`: an array (n, H, W) or (n, H, W, C) of uint8 (of 255) or uint16 (of 65535), or of
        floats from 0 to 1; a tensor (n, C, H, W) of the same integers, or of floats that are
        normalised already; a Dataset or DataLoader whose items are images or (image, label), an
        image being a PIL image, or an array or tensor as above without its first axis; the path of
        a folder with a folder of images for each class; a list of files or of PIL images; or rows
        of this format. Raises ValueError if the shape does not fit the backbone, a pixel is NaN or
        infinite, or floats of an array are on another scale than 0 to 1 (a little beyond is left
        to filters). Raises TypeError if X is none of these.
        """
        if isinstance(X, ImageRows):
            return X if X.format is self else replace(X, format=self)
        found = source_of(X)
        if isinstance(found.data, (np.ndarray, Tensor)):
            self.check(found.data)
        return ImageRows(self, found.data, found.order, found.workers, found.collate)

    def settled(self, rows: ImageRows, own: Sequence[int] | None) -> ImageFormat:
        """Return this format with a size, where images of a data set differ in theirs.

        `rows`: of which some are looked at. `own`: height and width that the backbone was made
        for, if it says so. Returns this one where it has a size, or where images are alike.
        """
        if self.size is not None or isinstance(rows.data, (np.ndarray, Tensor)):
            return self
        some = np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int))
        sizes = {size_of(image_of(rows.data[int(rows.order[row])])) for row in some}
        if len(sizes) < 2 or rows.collate is not None:
            return self
        if own is None:
            raise ValueError(several_sizes(sizes))
        return replace(self, size=(int(own[0]), int(own[1])))

    def check(self, data: Pixels) -> None:
        """Raise where an array or tensor holds no images that this format takes."""
        tensor = isinstance(data, Tensor)
        if isinstance(data, Tensor):
            floats = data.dtype.is_floating_point
            whole = not floats and data.dtype != torch.bool
        else:
            floats, whole = data.dtype.kind == "f", data.dtype.kind in "iu"
            if data.dtype.kind not in "fiub":
                raise ValueError(
                    f"Images must be numbers, got an array of dtype {data.dtype} and shape "
                    f"{data.shape}: give uint8, floats from 0 to 1, a Dataset or a folder."
                )
        if whole and data.dtype not in SCALES:
            raise ValueError(
                f"Images must be uint8 (of 255) or uint16 (of 65535), or floats from 0 to 1, got "
                f"{data.dtype}: the scale of the values is not known."
            )
        axis = 1 if tensor else 3
        fits = data.ndim == 4 and data.shape[axis] == self.channels
        fits = fits or (not tensor and data.ndim == 3 and self.channels == 1)
        if tensor and floats and self.size is not None:
            fits = fits and tuple(data.shape[2:]) == self.size
        if not fits:
            pixels = ", ".join(map(str, self.size or ("H", "W")))
            shape = (str(self.channels), pixels) if tensor else (pixels, str(self.channels))
            expected = f"(n, {', '.join(shape)})"
            raise ValueError(
                f"Images have shape {tuple(data.shape)}, but this network takes {expected}: arrays "
                "with channels last, tensors with channels first. Arrays and tensors of uint8 may "
                "have another height and width: they are resized."
            )
        # To look at pixels on another device is to wait for it; NaN shows in the answers.
        if floats and not (isinstance(data, Tensor) and data.device.type != "cpu"):
            for start in range(0, len(data), FINITE_CHUNK):
                part = data[start : start + FINITE_CHUNK]
                # What is normalised has no scale: a sum that is finite says all there is to know.
                if isinstance(part, Tensor) and math.isfinite(part.sum().item()):
                    continue
                shown = np.asarray(part.detach() if isinstance(part, Tensor) else part)
                self._check_pixels(shown.reshape(len(part), -1), start, normalised=tensor)

    def _check_pixels(self, pixels: NDArray[np.generic], start: int, normalised: bool) -> None:
        """Raise where a pixel is not finite, or on no scale that is known."""
        if not pixels.shape[1]:
            return
        low, high = pixels.min(axis=1), pixels.max(axis=1)  # NaN where one pixel is
        finite = np.isfinite(low) & np.isfinite(high)
        if not finite.all():
            raise ValueError(
                f"Image {start + int(np.argmin(finite))} holds NaN or infinite pixels."
            )
        outside = (low < LOWEST) | (high > HIGHEST)
        if outside.any() and not normalised:
            row = int(np.argmax(outside))
            raise ValueError(
                f"Images of floats must lie from 0 to 1, but image {start + row} has pixels from "
                f"{low[row]:.4g} to {high[row]:.4g}. Divide 0 to 255 by 255, or give uint8; images "
                "that are normalised already go in as a tensor (n, C, H, W)."
            )

    def noise(self, n: int, device: torch.device) -> Tensor:
        """Return random input (n, C, H, W), always the same; of 64 pixels where any will do."""
        generator = torch.Generator().manual_seed(0)
        shape = (n, self.channels, *(self.size or (64, 64)))
        return torch.randn(shape, generator=generator).to(device)

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise images of one size (n, C, H, W), of whole numbers or of 0 to 1."""
        if images.dtype == torch.uint16:  # which torch does not resize
            images = images.to(torch.float32) / SCALES[torch.uint16]
        height, width = images.shape[2:]
        if self.size is not None and (height, width) != self.size:
            larger = height > self.size[0] and width > self.size[1]
            share = self.crop_pct if larger else 1.0
            # The shorter side, in units of what is asked for, decides: the rest is cropped.
            scale = max(self.size[0] / share / height, self.size[1] / share / width)
            resized = [
                max(wanted, math.floor(side * scale))
                for wanted, side in zip(self.size, (height, width), strict=True)
            ]
            mode = InterpolationMode(self.interpolation)
            images = F.resize(images, resized, interpolation=mode, antialias=True)
            images = F.center_crop(images, list(self.size))
        scaled = images.to(torch.float32) / SCALES.get(images.dtype, 1.0)
        return self.normalised(scaled)

    def normalised(self, images: Tensor) -> Tensor:
        """Return images (n, C, H, W) of floats from 0 to 1 as the network takes them."""
        mean, std = self._statistics(images.device)
        return ((images - mean) / std).contiguous()

    def pixels(self, images: Tensor) -> Tensor:
        """Return normalised images (n, C, H, W) as floats from 0 to 1."""
        mean, std = self._statistics(images.device)
        return images * std + mean

    def _statistics(self, device: torch.device) -> tuple[Tensor, ...]:
        return tuple(
            torch.tensor(value, device=device).view(1, -1, 1, 1) for value in (self.mean, self.std)
        )

    def prepare_item(self, item: object) -> Tensor:
        """Turn one item of a data set into an image (C, H, W), resized and normalised."""
        image = image_of(item)
        if is_picture(image):
            image = self._pixels(image)
        batch = image[None] if isinstance(image, Tensor) else np.asarray(image)[None]
        self.check(batch)
        return self.batch(batch)[0]

    def _pixels(self, picture: Image.Image) -> NDArray[np.generic]:
        """Return a PIL image as an array; one of 16 bits or of floats keeps its depth."""
        if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
            modes = {1: "L", 4: "RGBA"}
            return np.asarray(picture.convert(modes.get(self.channels, "RGB")))
        pixels = np.asarray(picture)
        if picture.mode == "I":
            if pixels.min() < 0 or pixels.max() > SCALES[torch.uint16]:
                raise ValueError(
                    f"An image of mode 'I' must hold 16 bits, 0 to 65535, got pixels from "
                    f"{pixels.min()} to {pixels.max()}: the scale of the values is not known."
                )
        if picture.mode != "F":
            pixels = pixels.astype(np.uint16)
        return np.repeat(pixels[..., None], self.channels, axis=2)

    def batch(self, data: Pixels) -> Tensor:
        """Turn checked images into input (n, C, H, W)."""
        if isinstance(data, Tensor):
            ready = data.dtype.is_floating_point
            return data.detach().to(torch.float32).contiguous() if ready else self.prepare(data)
        whole = data.dtype in (np.uint8, np.uint16)
        array = np.array(data) if whole else np.array(data, dtype=np.float32)
        images = torch.from_numpy(array)
        images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images.unsqueeze(1)
        return self.prepare(images)


@dataclass(frozen=True)
class ImageRows:
    """Images that are resized and normalised when they are asked for, a batch at a time.

    Made by :meth:`ImageFormat.rows`. Indexing with rows gives other rows; nothing is copied
    or read. Pickles with the data set it reads from, or with its own rows of an array.

    `format`: what they become. `data`: where they are. `order`: which of them, in which order.
    `workers`: processes that read a data set. `collate`: of a loader: items of the data set to a
    batch.
    """

    format: ImageFormat
    data: Data
    order: NDArray[np.intp]
    workers: int = 0
    collate: Collate | None = None

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: int | slice | NDArray[np.integer | np.bool]) -> ImageRows:
        return replace(self, order=np.atleast_1d(self.order[rows]))

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        return self.tensor().cpu().numpy().astype(dtype or np.float32, copy=False)

    def __reduce__(self) -> tuple[object, ...]:
        if isinstance(self.data, (np.ndarray, Tensor)):
            own: Data = _picked(self.data, self.order)
        elif isinstance(self.data, (list, tuple)):
            own = [self.data[row] for row in self.order]
        else:
            return (ImageRows, (self.format, self.data, self.order, self.workers, self.collate))
        return (ImageRows, (self.format, own, np.arange(len(self.order))))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, channels, height and width (0 where any will do)."""
        return (len(self), self.format.channels, *(self.format.size or (0, 0)))

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the input of the network, (n, C, H, W), so many images at once."""
        if not isinstance(self.data, (np.ndarray, Tensor)):
            # Items may differ in size: each is resized by itself.
            items: Any = self.data  # whatever is numbered, which torch asks no more of
            subset: Dataset[object] = Subset(items, self.order.tolist())
            collate = _Collate(self.format, self.collate)
            yield from DataLoader(subset, batch_size, num_workers=self.workers, collate_fn=collate)
            return
        for start in range(0, len(self), batch_size):
            order = self.order[start : start + batch_size]
            if isinstance(self.data, Tensor) and (np.diff(order) == 1).all():
                # A GPU copies rows in succession faster than it looks up a list of them.
                yield self.format.batch(self.data[int(order[0]) : int(order[-1]) + 1].clone())
            else:
                yield self.format.batch(_picked(self.data, order))

    def tensor(self) -> Tensor:
        """Return the input of the network, (n, C, H, W), all at once."""
        if len(self) == 0:
            return torch.empty(0, self.format.channels, *(self.format.size or (1, 1)))
        parts = list(self.batches(len(self)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _picked(data: Pixels, order: NDArray[np.intp]) -> Pixels:
    if isinstance(data, Tensor) and data.dtype == torch.uint16:  # not every torch looks these up
        return data.view(torch.int16)[order].view(torch.uint16)
    return data[order]


@dataclass(frozen=True)
class _Collate:
    """Items of a data set to a batch, in whichever process reads them."""

    format: ImageFormat
    collate: Collate | None

    def __call__(self, items: list[object]) -> Tensor:
        pictures: Iterable[object] = items
        if self.collate is not None:
            made = image_of(self.collate(items))
            if not isinstance(made, Sized) or len(made) != len(items):
                shown = f"{len(made)}" if isinstance(made, Sized) else f"a {type(made).__name__}"
                raise ValueError(
                    f"collate_fn must return as many images as it is given, {len(items)}, as a "
                    f"batch or (batch, labels), got {shown}."
                )
            if isinstance(made, (np.ndarray, Tensor)):
                self.format.check(made)
                return self.format.batch(made)
            pictures = cast("Iterable[object]", made)
        ready = [self.format.prepare_item(item) for item in pictures]
        sizes = {tuple(image.shape[1:]) for image in ready}
        if len(sizes) > 1:
            raise ValueError(several_sizes(sizes))
        return torch.stack(ready)
