"""Costs of paths: checked, and told with their unit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["WHOLE_NETWORK", "check_costs", "common_unit", "cost_span", "warn_where_nothing_binds"]

#: Unit of costs that are fractions of a network's fullest path.
WHOLE_NETWORK = "of the whole network"


def check_costs(
    costs: ArrayLike | None, n: int | None, what: str = "costs", each: str = "path"
) -> NDArray[np.float64]:
    """Return `costs` as a checked float array.

    `costs`: one number a path or step. `what`, `each`: name for messages, and what each number is
    for. Returns shape (n,).
    """
    try:
        given = np.empty(0) if costs is None else np.asarray(costs)
        if given.dtype.kind not in "biufO" or any(isinstance(one, str) for one in given.flat):
            raise TypeError  # numpy reads texts as numbers
        values = given.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be numbers, one a {each}, got {costs!r:.80}.") from None
    if values.ndim != 1 or values.size == 0 or (n is not None and values.size != n):
        expected = "a non-empty list" if n is None else f"{n} numbers, one a {each}"
        got = f"an array of shape {values.shape}" if values.size else "none"
        raise ValueError(f"{what} must be {expected}, got {got}.")
    if not np.isfinite(values).all() or (values < 0).any():
        bad = int(np.flatnonzero(~np.isfinite(values) | (values < 0))[0])
        raise ValueError(
            f"{what} must be finite and not negative, but entry {bad} is {values[bad]:g}."
        )
    return values


def cost_span(costs: ArrayLike, unit: str | None) -> str:
    """Return the range of costs in words, with their unit where it is known.

    `unit`: of a tree's ``cost_unit``.

    >>> from skquee.values._costs import cost_span
    >>> cost_span([0.5, 30.0], "ms")
    '0.5 to 30 ms'
    """
    values = np.asarray(costs, dtype=np.float64)
    return f"{values.min():.6g} to {values.max():.6g}" + (f" {unit}" if unit else "")


def common_unit(units: Iterable[str | None]) -> str | None:
    """Return the one unit of several costs that are to be held against each other.

    `units`: of trees' ``cost_unit``; None where it is not known. ValueError if there are several.
    """
    known = sorted({unit for unit in units if unit})
    if len(known) > 1:
        raise ValueError(
            f"Costs are in several units, {known}, and cannot be held against each other: give all "
            "curves the same costs, or keep them apart."
        )
    return known[0] if known else None


def warn_where_nothing_binds(
    name: str, limit: float | None, costs: ArrayLike, unit: str | None, what: str = "path"
) -> None:
    """Warn of a limit on costs that is above all of them, often one in another unit.

    `limit`: nothing happens without one. `what`: what has these costs.
    """
    if limit is not None and limit > np.max(costs) * (1 + 1e-9):
        warnings.warn(
            f"{name}={limit:g} is above every {what} and binds nothing: costs run from "
            f"{cost_span(costs, unit)}.",
            UserWarning,
            stacklevel=3,
        )
