"""Packages that only a part of skquee needs: loaded there, and asked for by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__all__ = ["OPTIONAL", "installed", "require"]

# What `pip install skquee` brings and table routers do without.
OPTIONAL = ("matplotlib", "pandas", "safetensors", "skops", "timm", "torch", "torchvision")


def installed(package: str) -> bool:
    """Return whether a package could be imported; it is not."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a finder that hides it
        return False


def require(package: str, purpose: str) -> ModuleType:
    """Return a package of :data:`OPTIONAL`, or say what asks for it.

    `package`: name to import, which is also the one to install. `purpose`: what it is needed for,
    as the start of a sentence. ModuleNotFoundError if it is not installed.

    >>> from skquee.values._optional import require
    >>> require("pandas", "A table").__name__
    'pandas'
    >>> require("no_such_package", "A test")
    Traceback (most recent call last):
    ...
    ModuleNotFoundError: A test needs no_such_package, which is not installed: pip install ...
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] != package:
            raise  # it is there, and misses something itself
        raise ModuleNotFoundError(
            f"{purpose} needs {package}, which is not installed: pip install {package}",
            name=package,
        ) from None
