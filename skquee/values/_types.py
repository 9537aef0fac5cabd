"""Names of types that many signatures share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

__all__ = ["Seed"]

# ``random_state``, as scikit-learn takes it.
Seed: TypeAlias = int | np.random.RandomState | None
