"""Names of types that many signatures share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["Json", "Rows", "Seed"]

# ``random_state``, as scikit-learn takes it.
Seed: TypeAlias = int | np.random.RandomState | None

# Rows that classifiers take: an array, a data frame, texts, a mapping of such. Nothing is known of
# them before it is asked for, so that no check is passed over.
Rows: TypeAlias = object

# An object of a JSON file, of which nothing is known before it is checked.
Json: TypeAlias = dict[str, Any]
