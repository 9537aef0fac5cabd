"""Names of types that the signatures of networks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Level", "Options", "Range", "Ranges", "Size"]

#: A bit width, or the name of an engine; of an exit its layer, or the name of a module.
Level: TypeAlias = int | str

#: Options by name, which another package takes, each of its own type.
Options: TypeAlias = Mapping[str, Any]

#: Least and greatest input of a layer, and those of layers by their names.
Range: TypeAlias = tuple[float, float]
Ranges: TypeAlias = Mapping[str, Range]

#: Pixels of a square, or height and width.
Size: TypeAlias = int | tuple[int, int]
