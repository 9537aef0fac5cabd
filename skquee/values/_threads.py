"""Limits of threads, without looking for the libraries that have them each time."""

from __future__ import annotations

from functools import cache

from threadpoolctl import ThreadpoolController

__all__ = ["threads"]


@cache
def threads() -> ThreadpoolController:
    """Return what limits threads: looking for them takes longer than a model's fit."""
    return ThreadpoolController()
