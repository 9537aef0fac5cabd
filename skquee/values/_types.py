"""Names of types that many signatures share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["Json", "Seed"]

# ``random_state``, as scikit-learn takes it.
Seed: TypeAlias = int | np.random.RandomState | None

# An object of a JSON file, of which nothing is known before it is checked.
Json: TypeAlias = dict[str, Any]
