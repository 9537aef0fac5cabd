"""Image data sets with the splits of the QuEE paper (appendix 7.1.3), around torchvision's.

A part of the training images validates: it stops training, chooses hyper-parameters and makes
the clusters of error targets. Importing this loads no torch; nothing is fetched from the network
unless ``download=True`` asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skquee.values._optional import require
from skquee.values._types import Seed

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.utils.data import Dataset
    from torchvision.datasets import VisionDataset

__all__ = ["Splits", "load_cifar10", "load_cifar100", "load_imagenet", "load_svhn"]


class Splits(NamedTuple):
    """Three data sets whose items are pairs of a PIL image and its label, an int from 0.

    Parameters
    ----------
    train : Dataset
        To train on, shuffled.
    validation : Dataset
        Training images held out, shuffled.
    test : Dataset
        The official test images, in their order.

    Examples
    --------
    >>> from skquee.datasets import Splits
    >>> Splits(train=["a", "b"], validation=["c"], test=["d"])._fields
    ('train', 'validation', 'test')
    """

    train: Dataset[tuple[Image, int]]
    validation: Dataset[tuple[Image, int]]
    test: Dataset[tuple[Image, int]]


def load_cifar10(
    root: str | PathLike[str],
    *,
    download: bool = False,
    n_validation: int = 5_000,
    random_state: Seed = 0,
) -> Splits:
    """Load CIFAR-10: 45,000 images to train, 5,000 to validate, 10,000 to test; 10 classes.

    Parameters
    ----------
    root : str or path
        Folder that holds ``cifar-10-batches-py``.
    download : bool, default=False
        Download it into `root` where it is absent.
    n_validation : int, default=5000
        How many of the 50,000 training images validate.
    random_state : int, RandomState or None, default=0
        Seed of the choice of these.

    Returns
    -------
    Splits
        Images of 32 by 32 pixels.

    Raises
    ------
    FileNotFoundError
        If files are absent and `download` is False.
    ValueError
        If a file is damaged, or `n_validation` leaves no image to train or to validate.

    Examples
    --------
    >>> from skquee.datasets import load_cifar10
    >>> load_cifar10("empty_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: CIFAR10 is not in 'empty_folder': there is no ... Pass download=True ...
    """
    require("torchvision", "load_cifar10")
    from torchvision.datasets import CIFAR10

    return _load_cifar(CIFAR10, root, download, n_validation, random_state)


def load_cifar100(
    root: str | PathLike[str],
    *,
    download: bool = False,
    n_validation: int = 5_000,
    random_state: Seed = 0,
) -> Splits:
    """Load CIFAR-100: 45,000 images to train, 5,000 to validate, 10,000 to test; 100 classes.

    Parameters
    ----------
    root : str or path
        Folder that holds ``cifar-100-python``.
    download, n_validation, random_state
        As of :func:`load_cifar10`.

    Returns
    -------
    Splits
        Images of 32 by 32 pixels, with their fine labels.

    Examples
    --------
    >>> from skquee.datasets import load_cifar100
    >>> load_cifar100("empty_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: CIFAR100 is not in 'empty_folder': there is no ... Pass download=True ...
    """
    require("torchvision", "load_cifar100")
    from torchvision.datasets import CIFAR100

    return _load_cifar(CIFAR100, root, download, n_validation, random_state)


def load_svhn(
    root: str | PathLike[str],
    *,
    download: bool = False,
    n_validation: int = 5_000,
    random_state: Seed = 0,
) -> Splits:
    """Load SVHN: 68,257 images to train, 5,000 to validate, 26,032 to test; 10 digits.

    Parameters
    ----------
    root : str or path
        Folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.
    download : bool, default=False
        Download them into `root` where they are absent.
    n_validation : int, default=5000
        How many of the 73,257 training images validate.
    random_state : int, RandomState or None, default=0
        Seed of the choice of these.

    Returns
    -------
    Splits
        Images of 32 by 32 pixels, labelled with the digit in the middle.

    Raises
    ------
    FileNotFoundError
        If files are absent and `download` is False.
    ValueError
        If a file is damaged, or `n_validation` leaves no image to train or to validate.

    Examples
    --------
    >>> from skquee.datasets import load_svhn
    >>> load_svhn("empty_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: SVHN is not in 'empty_folder': there is no ... Pass download=True ...
    """
    require("torchvision", "load_svhn")
    from torchvision.datasets import SVHN

    _check_count("n_validation", n_validation)
    files = [Path(root, SVHN.split_list[part][1]) for part in ("train", "test")]
    _check_files("SVHN", root, files, download)
    train, test = (
        _open(SVHN, files, root, split=part, download=download) for part in ("train", "test")
    )
    return _split(train, test, None, n_validation, random_state)


def load_imagenet(
    root: str | PathLike[str],
    *,
    n_train: int = 1_100_000,
    n_validation: int = 50_000,
    random_state: Seed = 0,
) -> Splits:
    """Load ImageNet (ILSVRC 2012): 1.1 million images to train, 50,000 each to validate and test.

    The images to train and to validate are both taken from the 1,281,167 training images; the
    official validation images are those to test. torchvision cannot download it, and unpacks the
    archives into `root` the first time, which takes long.

    Parameters
    ----------
    root : str or path
        Folder that holds the archives ``ILSVRC2012_devkit_t12.tar.gz``,
        ``ILSVRC2012_img_train.tar`` and ``ILSVRC2012_img_val.tar`` from https://image-net.org,
        or what torchvision unpacked from them: ``meta.bin``, ``train`` and ``val``.
    n_train, n_validation : int, default=1_100_000, 50_000
        How many of the training images train and validate; others are left out.
    random_state : int, RandomState or None, default=0
        Seed of the choice of these.

    Returns
    -------
    Splits
        Images of different sizes, 1,000 classes in the order of their WordNet numbers.

    Raises
    ------
    FileNotFoundError
        If an archive and what is unpacked from it are both absent.
    ValueError
        If an archive is damaged, or there are fewer training images than asked for.

    Examples
    --------
    >>> from skquee.datasets import load_imagenet
    >>> load_imagenet("empty_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: ImageNet is not in 'empty_folder': there is no ILSVRC2012_devkit_t12.tar.gz
    (nor meta.bin), ... Register at https://image-net.org, download these archives ...
    """
    require("torchvision", "load_imagenet")
    from torchvision.datasets import ImageNet
    from torchvision.datasets.imagenet import ARCHIVE_META, META_FILE

    _check_count("n_train", n_train)
    _check_count("n_validation", n_validation)
    unpacked = {"devkit": META_FILE, "train": "train", "val": "val"}
    archives = {part: Path(root, ARCHIVE_META[part][0]) for part in unpacked}
    absent = [
        f"{archives[part].name} (nor {name})"
        for part, name in unpacked.items()
        if not archives[part].is_file() and not Path(root, name).exists()
    ]
    if absent:
        raise FileNotFoundError(
            f"ImageNet is not in {str(root)!r}: there is no {', '.join(absent)}. Register at "
            "https://image-net.org, download these archives (ILSVRC 2012) and place them there."
        )
    train, test = (
        _open(ImageNet, list(archives.values()), root, split=part) for part in ("train", "val")
    )
    return _split(train, test, n_train, n_validation, random_state)


# ---------------------------------------------------------------------- parts


def _load_cifar(
    kind: type[VisionDataset],
    root: str | PathLike[str],
    download: bool,
    n_validation: int,
    random_state: Seed,
) -> Splits:
    _check_count("n_validation", n_validation)
    names = [name for name, _ in (*kind.train_list, *kind.test_list)] + [kind.meta["filename"]]
    files = [Path(root, kind.base_folder, name) for name in names]
    _check_files(kind.__name__, root, files, download)
    train, test = (
        _open(kind, files, root, train=part, download=download) for part in (True, False)
    )
    return _split(train, test, None, n_validation, random_state)


def _check_count(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"{name} must be a whole number of images from 1, got {count!r}.")


def _check_files(
    name: str, root: str | PathLike[str], files: Sequence[Path], download: bool
) -> None:
    absent = [str(file.relative_to(root)) for file in files if not file.is_file()]
    if absent and not download:
        raise FileNotFoundError(
            f"{name} is not in {str(root)!r}: there is no {', '.join(absent)}. Pass download=True "
            "to download it, or the folder that holds it."
        )


def _open(
    kind: type[VisionDataset], files: Sequence[Path], root: str | PathLike[str], **options: object
) -> VisionDataset:
    try:
        return kind(root, **options)
    except RuntimeError as error:  # what torchvision raises for a wrong checksum
        raise ValueError(
            "A file of the data set is damaged, its checksum is not the official one "
            f"({error}). Delete it and get it again: {', '.join(map(str, files))}."
        ) from error


def _split(
    train: VisionDataset,
    test: VisionDataset,
    n_train: int | None,
    n_validation: int,
    random_state: Seed,
) -> Splits:
    from torch.utils.data import Subset

    n_train = len(train) - n_validation if n_train is None else n_train
    if n_train < 1:
        raise ValueError(
            f"n_validation must be less than the {len(train)} training images, got {n_validation}."
        )
    if n_train + n_validation > len(train):
        raise ValueError(
            f"n_train + n_validation must be at most the {len(train)} training images, got "
            f"{n_train} + {n_validation}."
        )
    # Validation first, so that it does not depend on n_train. The order stays shuffled: the first
    # rows of a part are then a sample of it, which the archives' own order, by class, is not.
    order = check_random_state(random_state).permutation(len(train)).tolist()
    return Splits(
        train=Subset(train, order[n_validation : n_validation + n_train]),
        validation=Subset(train, order[:n_validation]),
        test=Subset(test, range(len(test))),
    )
