"""How a message shows what was received."""

from __future__ import annotations

import numpy as np

__all__ = ["shown"]


def shown(value: object) -> str:
    """Return a short text of what was given."""
    if isinstance(value, np.generic):
        value = value.item()
    text = repr(value) if not isinstance(value, np.ndarray) else f"an array of shape {value.shape}"
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"
