"""Every object that another holds, with where it is held."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import numpy as np

__all__ = ["everything", "is_ours"]

LEAVES = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, FunctionType)


def everything(root: object) -> Iterator[tuple[str, object]]:
    """Yield every object once that can be reached from one.

    Yields `path`: how it is reached: ``"bank.classifiers[0][1]"``; "" for the root.
    """
    seen: dict[int, object] = {}
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        path, item = waiting.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item  # kept, so that no id is given twice
        yield path, item
        waiting.extend(reversed(list(_parts(path, item))))


def _parts(path: str, item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, LEAVES):
        return
    if isinstance(item, dict):
        yield from ((f"{path}[{key!r}]", value) for key, value in item.items())
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from ((f"{path}[{number}]", value) for number, value in enumerate(item))
    elif isinstance(item, np.ndarray):
        if item.dtype == object:
            yield from ((f"{path}[{number}]", value) for number, value in enumerate(item.flat))
    elif isinstance(item, partial):
        yield from (
            (f"{path}.{name}", getattr(item, name)) for name in ("func", "args", "keywords")
        )
    elif isinstance(item, MethodType):
        yield f"{path}.__self__", item.__self__
    elif not isinstance(item, BuiltinFunctionType):
        known = vars(item) if hasattr(item, "__dict__") else {}
        yield from ((f"{path}.{name}".lstrip("."), value) for name, value in known.items())


def is_ours(item: object) -> bool:
    """Whether an object is of a class of this package."""
    return type(item).__module__.split(".")[0] == "skquee"
