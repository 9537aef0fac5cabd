"""Public names: what a class says of where it lives, and what files and pickles hold."""

from __future__ import annotations

import sys
from importlib import import_module

__all__ = ["publish"]


def publish(package: str, *objects: object) -> None:
    """Let classes and functions say the public module they are imported from.

    Their ``__module__`` becomes ``skquee`` for those that it offers, and `package` for others
    that are defined in a private module, so that a file or a pickle does not depend on where
    the code stands. Doctest finds what a module defines by that name, so the module that defines
    them keeps them in its ``__test__``; pytest is told to pass over the packages, where it would
    find them once more.

    `package`: public module that offers them. `*objects`: others are left alone. What is private
    but stored in files must be an attribute of `package` too.

    >>> import skquee
    >>> skquee.CostAwareRouter.__module__, skquee.baselines.FixedPath.__module__
    ('skquee', 'skquee.baselines')
    """
    top = sys.modules["skquee"]
    for item in objects:
        home = getattr(item, "__module__", None)
        if not isinstance(home, str) or not hasattr(item, "__qualname__"):
            continue
        offered = item.__qualname__ in top.__all__
        if not offered and not any(part.startswith("_") for part in home.split(".")):
            continue
        if home in sys.modules:
            tested = sys.modules[home].__dict__.setdefault("__test__", {})
            tested[item.__qualname__] = item
        if isinstance(item, type):
            # Since Python 3.13 a class knows its first line, which is not one of that module.
            if "__firstlineno__" in vars(item):
                delattr(item, "__firstlineno__")
        item.__module__ = "skquee" if offered else package
    # cloudpickle, by which workers of Dask, Ray and loky get what is sent, finds by its name only
    # what has been loaded; the rest it sends as code, which makes another class at each end.
    import_module(package)
