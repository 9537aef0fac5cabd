"""Fields of a tree, as plain values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skquee.values._checks import check_integer, check_labels_given, check_number, check_sequence

Level = Hashable
Steps = tuple[Level, ...]

Array = TypeVar("Array", bound=NDArray[np.generic])


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def path_name(steps: Sequence[Level]) -> str:
    return "-".join(str(level) for level in steps)


def plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def integers(values: object, name: str) -> tuple[int, ...]:
    found = check_sequence(values, name, "integers, one a path")
    return tuple(check_integer(value, f"Each of {name}") for value in found)


def check_levels(
    values: object, name: str = "levels", what: str = "levels, such as numbers or texts"
) -> tuple[Level, ...]:
    found = tuple(plain(value) for value in check_sequence(values, name, what))
    for value in found:
        if isinstance(value, float):
            check_number(value, "A level that is a number")
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"{name} must be a sequence of {what}, but {value!r:.60} cannot be told from "
                f"others: a {type(value).__name__} is not hashable."
            ) from None
    return found


def check_names(names: Sequence[str] | None, n: int) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(1, n + 1)))
    return tuple(check_sequence(names, "names", "texts, one a path"))


def check_classes(values: object) -> tuple[object, ...]:
    found = tuple(plain(v) for v in check_sequence(values, "classes", "labels, in order"))
    check_labels_given(_column(found), "classes", "label")
    if len(set(found)) != len(found):
        raise ValueError("classes must be distinct labels.")
    if len(found) < 2:
        raise ValueError(f"classes must be at least 2 labels, got {list(found)}.")
    return found


def _column(values: tuple[object, ...]) -> NDArray[np.generic]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
