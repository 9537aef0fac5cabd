"""Policies: how predicted errors and costs become the path to aim at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skquee._public import publish
from skquee.policy._closed_loop import ClosedLoop
from skquee.policy._rules import OptionValue, Pessimistic, open_loop
from skquee.policy._sweep import next_steps

__all__ = [
    "POLICIES",
    "ClosedLoop",
    "OptionValue",
    "Pessimistic",
    "next_steps",
    "open_loop",
]

POLICIES: dict[str, Callable[[], Any] | None] = {
    "open-loop": None,
    "option-value": OptionValue,
    "pessimistic": Pessimistic,
    "closed-loop": ClosedLoop,
}

publish(__name__, *(globals()[name] for name in __all__))
