"""Data sets: torchvision's with the paper's splits, and recorded answers that anyone can fetch.

Importing this loads no torch. Nothing is fetched before it is asked for.
"""

from skquee.datasets._fetch import (
    fetch_cifar10_resnet,
    fetch_frugalml,
    fetch_routellm,
    fetch_trec,
)
from skquee.datasets._images import (
    Splits,
    load_cifar10,
    load_cifar100,
    load_imagenet,
    load_svhn,
)
from skquee.values._public import publish

__all__ = [
    "Splits",
    "fetch_cifar10_resnet",
    "fetch_frugalml",
    "fetch_routellm",
    "fetch_trec",
    "load_cifar10",
    "load_cifar100",
    "load_imagenet",
    "load_svhn",
]

publish(__name__, *(globals()[name] for name in __all__))
