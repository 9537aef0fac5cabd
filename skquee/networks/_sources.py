"""Where images are: arrays, tensors, data sets, loaders, folders, files; and which rows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
    default_convert,
)
from torchvision.datasets import ImageFolder

from skquee.values._types import Rows

__all__ = [
    "Collate",
    "Data",
    "Files",
    "Pixels",
    "Source",
    "image_folder",
    "image_of",
    "is_picture",
    "label_of",
    "several_sizes",
    "size_of",
    "source_of",
]

SHUFFLED = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
MOST_DRAWS = 100  # times the rows of a data set, of a sampler that does not say how many it draws


@runtime_checkable
class Numbered(Protocol):
    """Items that are asked for by number: a data set, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> object: ...


#: What holds images: as numbers, or as items that bring one each.
Pixels: TypeAlias = NDArray[np.generic] | Tensor
Data: TypeAlias = Pixels | Numbered

#: Of a loader: items of a data set to a batch.
Collate: TypeAlias = Callable[[list[object]], object]


class Files(Dataset[Image.Image]):
    """Images in files, opened one by one."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Image.Image:
        return read_picture(self.paths[row])


def read_picture(path: str) -> Image.Image:
    """Read a file in its own mode, so that images of 16 bits keep their depth."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError) as error:
        raise OSError(f"The image {path} cannot be read: {error}") from error


def image_folder(folder: str | Path) -> ImageFolder:
    """Return the images of a folder that has a folder of them for each class."""
    return ImageFolder(folder, loader=read_picture)


@dataclass(frozen=True)
class Source:
    """Images that are rows of something: which rows, in which order.

    `workers`: processes that read a data set. `collate`: a loader's own.
    """

    data: Data
    order: NDArray[np.intp]
    workers: int = 0
    collate: Collate | None = None


def source_of(X: Rows) -> Source:
    """Return where images are; nothing is read.

    `X`: as :meth:`MultiExitNetwork.fit` takes them. Of a loader the rows that its sampler or batch
    sampler draws, drawn once; where they are shuffled, in the order of the data set.
    """
    if isinstance(X, DataLoader):
        if isinstance(X.dataset, IterableDataset) or not isinstance(X.dataset, Numbered):
            raise TypeError("Images must be a map-style Dataset: rows are asked for by number.")
        own = X.collate_fn not in (default_collate, default_convert)
        return Source(
            X.dataset, _drawn(X, len(X.dataset)), X.num_workers, X.collate_fn if own else None
        )
    if isinstance(X, (str, Path)):
        if not Path(X).is_dir():
            raise FileNotFoundError(f"There is no folder {X}, to read images from.")
        X = image_folder(X)
    if isinstance(X, IterableDataset):
        raise TypeError("Images must be a map-style Dataset: rows are asked for by number.")
    if isinstance(X, (list, tuple)) and len(X) > 0:
        if isinstance(X[0], (str, Path)):
            X = Files(_checked(X))
        elif is_picture(X[0]):
            return Source(X, np.arange(len(X)))
    if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "UO" and len(X):
        X = Files(_checked(X.tolist()))
    # Whether something is numbered is asked last: that takes as long as all the rest.
    if not (isinstance(X, (list, tuple)) or hasattr(X, "shape")) and isinstance(X, Numbered):
        return Source(X, np.arange(len(X)))
    try:
        data = X if isinstance(X, Tensor) else np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"Images must be of one size to be an array, got a {type(X).__name__}: {error} "
            "Images of several sizes come as a Dataset, as files, or as a list of PIL images."
        ) from None
    return Source(data, np.arange(len(data)) if data.ndim else np.arange(0))


def image_of(item: object) -> object:
    """Return the image of an item or batch, which may bring labels along."""
    return item[0] if isinstance(item, (tuple, list)) else item


def label_of(item: object) -> object:
    """Return the label of an item, or those of a batch; None where it brings none."""
    return item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else None


def is_picture(image: object) -> TypeGuard[Image.Image]:
    """Tell whether this is a PIL image, or converts itself as one does."""
    return hasattr(image, "convert")


def size_of(image: object) -> tuple[int, ...]:
    """Return height and width of a PIL image, an array or a tensor."""
    if is_picture(image):
        return (image.height, image.width)
    return tuple(image.shape[-2:]) if isinstance(image, Tensor) else np.asarray(image).shape[:2]


def several_sizes(sizes: Iterable[tuple[int, ...]]) -> str:
    """Return what is said where images differ in size and the network has none."""
    shown = ", ".join(f"{size[0]} x {size[1]}" for size in sorted(sizes)[:3])
    return (
        f"Images are of several sizes ({shown}, ...), and this network takes any: say to which "
        "they are resized, img_size=."
    )


def _checked(paths: Iterable[object]) -> list[str | Path]:
    found = []
    for row, path in enumerate(paths):
        if not isinstance(path, (str, Path)):
            raise TypeError(f"Files must be paths, but entry {row} is a {type(path).__name__}.")
        if not Path(path).is_file():
            raise FileNotFoundError(f"Entry {row} of the files of images, {path}, is no file.")
        found.append(path)
    return found


def _drawn(loader: DataLoader[object], n_rows: int) -> NDArray[np.intp]:
    """Return the rows that a loader reads of a data set; its sampler draws once."""
    sampler = loader.batch_sampler
    batches: Iterable[object] = loader.sampler if sampler is None else sampler
    limit = None if hasattr(batches, "__len__") else MOST_DRAWS * max(n_rows, 1)
    rows: list[object] = []
    # A sampler draws from torch's global generator where it has none: keep the caller's state.
    with torch.random.fork_rng(devices=[]):
        for batch in islice(batches, limit):
            rows.extend(batch if isinstance(batch, (list, tuple)) else [batch])
            if limit is not None and len(rows) >= limit:
                raise ValueError(
                    f"The sampler of the loader drew {len(rows)} rows of {n_rows} and goes on: "
                    "give one that ends, with a __len__."
                )
    try:
        order = np.array(rows, dtype=np.intp).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(
            f"The sampler of a loader must draw numbers of rows, got {rows[0]!r:.60}."
        ) from None
    if len(order) and not (order.min() >= -n_rows and order.max() < n_rows):
        raise ValueError(
            f"The sampler of the loader draws row {order.max()} of a data set of {n_rows} rows."
        )
    inner = sampler.sampler if isinstance(sampler, BatchSampler) else loader.sampler
    shuffled = isinstance(inner, SHUFFLED) or getattr(inner, "shuffle", False) is True
    return np.sort(order) if shuffled else order
