"""Names of types that the signatures of networks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = ["Labels", "Level", "Options", "Range", "Ranges", "Size", "TreeOptions"]

#: A bit width, or the name of an engine; of an exit its layer, or the name of a module.
Level: TypeAlias = int | str

#: Labels of any type, or the classes among them.
Labels: TypeAlias = NDArray[np.generic]

#: Options by name, which another package takes, each of its own type.
Options: TypeAlias = Mapping[str, Any]

#: Least and greatest input of a layer, and those of layers by their names.
Range: TypeAlias = tuple[float, float]
Ranges: TypeAlias = Mapping[str, Range]

#: Pixels of a square, or height and width.
Size: TypeAlias = int | tuple[int, int]


class TreeOptions(TypedDict, total=False):
    """Which paths over levels there are, as :meth:`skquee.PathTree.from_levels` takes it."""

    monotone: bool
    first: str
    max_paths: int | None
    random_state: int | None
