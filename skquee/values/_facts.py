"""What a table knows of its rows besides probabilities: context, losses, prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._tree import PathTree

__all__ = ["RowFacts", "as_numbers", "check_context", "check_losses", "check_prices", "knowing"]

Known: TypeAlias = NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class RowFacts:
    """Facts of rows, an entry each; None where they are not known.

    `context` (n_samples, n_context): known before anything runs. `losses` (n_samples, n_columns):
    loss of each column's answer, between 0 and 1. `call_costs` (n_samples, n_columns): price of a
    call of each column. `costs_known`: whether prices are known before the call. `outcomes`:
    whether columns are models whose answers are no classes: there are losses only.
    """

    context: Known = None
    losses: Known = None
    call_costs: Known = None
    costs_known: bool = True
    outcomes: bool = False

    def of(self, rows: slice | NDArray[np.intp]) -> RowFacts:
        """Return the facts of some rows."""
        if self.context is None and self.losses is None and self.call_costs is None:
            return self

        def kept(name: str) -> Known:
            values = getattr(self, name)
            return None if values is None else values[rows]

        return self._each(kept)

    def _each(self, read: Callable[[str], Known]) -> RowFacts:
        context, losses, call_costs = map(read, ("context", "losses", "call_costs"))
        return replace(self, context=context, losses=losses, call_costs=call_costs)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what is known as arrays, for a file."""
        found = {
            name: values
            for name in ("context", "losses", "call_costs")
            if (values := getattr(self, name)) is not None
        }
        if self.outcomes or not self.costs_known:
            found["facts"] = np.array([self.costs_known, self.outcomes], dtype=np.float64)
        return found

    @classmethod
    def from_arrays(
        cls, found: dict[str, NDArray[np.generic]], n_samples: int, n_columns: int
    ) -> RowFacts:
        """Return the facts that :meth:`arrays` gave, checked."""
        flags = found.get("facts", np.array([1.0, 0.0]))
        if flags.shape != (2,):
            raise ValueError(f"facts must be two flags, got shape {flags.shape}.")
        context, losses, prices = (found.get(n) for n in ("context", "losses", "call_costs"))
        known = None if losses is None else check_losses(losses, n_columns)
        if known is not None and len(known) != n_samples:
            raise ValueError(f"losses must have {n_samples} rows, got {len(known)}.")
        return cls(
            None if context is None else check_context(context, n_samples),
            known,
            None if prices is None else check_prices(prices, n_samples, n_columns),
            costs_known=bool(flags[0]),
            outcomes=bool(flags[1]),
        )

    @classmethod
    def joined(cls, parts: Sequence[RowFacts]) -> RowFacts:
        """Return the facts of rows below each other; what one part knows, all must."""

        def below(name: str) -> Known:
            arrays = [getattr(part, name) for part in parts]
            if any((array is None) != (arrays[0] is None) for array in arrays):
                raise ValueError(f"Some tables have {name.replace('_', ' ')}, and some have none.")
            return None if arrays[0] is None else np.concatenate(arrays)

        for name in ("costs_known", "outcomes"):
            found = [getattr(part, name) for part in parts]
            if len(set(found)) > 1:
                raise ValueError(f"Tables differ in {name}: {found}.")
        return parts[0]._each(below)

    def path_costs(self, tree: PathTree) -> NDArray[np.float64] | None:
        """Return what each path costs for each row, shape (n_samples, n_paths), or None."""
        return None if self.call_costs is None else self.call_costs @ tree.path_calls.T


class _Knows(Protocol):
    facts: RowFacts


Table = TypeVar("Table", bound=_Knows)


def knowing(table: Table, facts: RowFacts) -> Table:
    """Return a new table with facts of its rows."""
    table.facts = facts
    return table


def as_numbers(values: ArrayLike, name: str, what_to_do: str) -> NDArray[np.float64]:
    """Return values as an array of numbers, or raise with what to do."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        shown = f"{values!r:.60}" if isinstance(values, (str, dict)) else type(values).__name__
        raise ValueError(
            f"{name} must be an array of numbers, got {shown}: {what_to_do}."
        ) from None


def check_context(context: ArrayLike, n_samples: int) -> NDArray[np.float64]:
    """Return a context as a checked array of shape (n_samples, n_context)."""
    values = as_numbers(context, "context", "encode texts and categories first")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n_samples or not values.shape[1]:
        raise ValueError(
            f"context must have shape (n_samples, n_context) with n_samples = {n_samples}, got "
            f"{np.shape(context)}."
        )
    if not np.isfinite(values).all():
        raise ValueError("context must be finite: fill what is missing first.")
    return values


def check_losses(losses: ArrayLike, n_columns: int | None = None) -> NDArray[np.float64]:
    """Return losses as a checked array of shape (n_samples, n_columns)."""
    values = np.asarray(losses)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"loss must hold numbers or True (wrong) and False, got {values.dtype}.")
    values = values.astype(np.float64)
    if values.ndim != 2 or not values.size or (n_columns or values.shape[1]) != values.shape[1]:
        wanted = "n_columns" if n_columns is None else n_columns
        raise ValueError(
            f"loss must have shape (n_samples, {wanted}), one a model, got {values.shape}."
        )
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"Losses must lie in [0, 1], but that of row {row}, column {column} is "
            f"{values[row, column]:g}. Rescale them; 0 is a right answer."
        )
    return values


def check_prices(costs: ArrayLike, n_samples: int, n_columns: int) -> NDArray[np.float64]:
    """Return prices of calls as a checked array of shape (n_columns,) or (n_samples, n_columns)."""
    values = as_numbers(costs, "costs", "give prices in the order of the models")
    if values.shape not in ((n_columns,), (n_samples, n_columns)):
        raise ValueError(
            f"costs must be the price of one call, of shape ({n_columns},) or "
            f"{(n_samples, n_columns)}, got {values.shape}."
        )
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        place = tuple(np.argwhere(bad)[0].tolist())
        raise ValueError(
            f"costs must be finite and not negative, but entry {place} is {values[place]:g}."
        )
    return values
