"""Names of types that many signatures share."""

from __future__ import annotations

from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = ["Json", "Labels", "Rows", "Seed", "TreeOptions"]

# ``random_state``, as scikit-learn takes it.
Seed: TypeAlias = int | np.random.RandomState | None

# Rows that classifiers take: an array, a data frame, texts, a mapping of such. Nothing is known of
# them before it is asked for, so that no check is passed over.
Rows: TypeAlias = object

# An object of a JSON file, of which nothing is known before it is checked.
Json: TypeAlias = dict[str, Any]

# Labels of any type, or the classes among them.
Labels: TypeAlias = NDArray[np.generic]


class TreeOptions(TypedDict, total=False):
    """Which paths over levels there are, as :meth:`skquee.PathTree.from_levels` takes it."""

    monotone: bool
    first: str
    max_paths: int | None
    random_state: int | np.random.Generator | None
