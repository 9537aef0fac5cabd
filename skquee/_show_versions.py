"""What to paste into a bug report."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from skquee._version import __version__
from skquee.values._public import publish

__all__ = ["show_versions"]

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "joblib",
    "threadpoolctl",
    "pandas",
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "skops",
    "matplotlib",
    "tqdm",
)


def show_versions() -> None:
    """Print the versions of skquee, Python, the dependencies and the system.

    Nothing is imported for it, so it also works where a dependency is broken.

    Examples
    --------
    >>> import skquee
    >>> skquee.show_versions()  # doctest: +ELLIPSIS
    skquee: ...
    """
    facts = {
        "skquee": __version__,
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu count": str(os.cpu_count()),
    }
    facts |= {package: _version(package) for package in _PACKAGES}
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name + ':':<{width + 1}} {value}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


publish("skquee", show_versions)
