"""What a check says: which method, what was expected, and what came."""

from __future__ import annotations

import inspect
from typing import TypeVar

from sklearn.base import clone

__all__ = ["expect", "expect_methods", "fitted_by"]

Part = TypeVar("Part")


def expect(holds: object, message: str) -> None:
    """Raise an AssertionError unless something holds; ``assert`` is left out under ``-O``."""
    if not holds:
        raise AssertionError(message)


def expect_methods(part: object, protocol: type, where: str) -> None:
    """Raise where a method of a protocol is missing, or cannot be called as it says."""
    name = type(part).__name__
    for method, wanted in vars(protocol).items():
        if method.startswith("_") or not inspect.isfunction(wanted):
            continue
        _, *given = inspect.signature(wanted).parameters.values()
        by_name = [one.name for one in given if one.kind is one.KEYWORD_ONLY]
        in_order = [
            one.name for one in given if one.name not in by_name and one.default is one.empty
        ]
        call = f"{method}({', '.join([*in_order, *(f'{key}=' for key in by_name)])})"
        found = getattr(part, method, None)
        expect(callable(found), f"{name} has no method {method}: expected {call}, as of {where}.")
        assert found is not None
        try:
            inspect.signature(found).bind(*in_order, **dict.fromkeys(by_name))
        except TypeError as error:
            raise AssertionError(
                f"{name}.{method}{inspect.signature(found)} cannot be called as {call}, as of "
                f"{where}: {error}."
            ) from error


def fitted_by(part: Part, *rows: object) -> Part:
    """Return a fitted clone, whose fit has returned it and changed no parameter."""
    name = type(part).__name__
    fresh = clone(part)
    before = {key: repr(value) for key, value in fresh.get_params().items()}
    found = fresh.fit(*rows)
    expect(found is fresh, f"{name}.fit must return self, got {type(found).__name__}.")
    after = {key: repr(value) for key, value in fresh.get_params().items()}
    changed = sorted(key for key in before if before[key] != after[key])
    expect(not changed, f"{name}.fit must not change parameters, but changed {changed}.")
    return fresh
