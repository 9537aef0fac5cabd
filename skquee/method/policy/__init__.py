"""Policies: how predicted errors and costs become the path to aim at."""

from __future__ import annotations

from collections.abc import Callable

from skquee.method.policy._closed_loop import ClosedLoop
from skquee.method.policy._protocol import Policy
from skquee.method.policy._rules import OptionValue, Pessimistic, open_loop
from skquee.method.policy._sweep import next_steps
from skquee.values._public import publish

__all__ = [
    "POLICIES",
    "ClosedLoop",
    "OptionValue",
    "Pessimistic",
    "Policy",
    "next_steps",
    "open_loop",
]

POLICIES: dict[str, Callable[[], Policy] | None] = {
    "open-loop": None,
    "option-value": OptionValue,
    "pessimistic": Pessimistic,
    "closed-loop": ClosedLoop,
}

publish("skquee.policy", *(globals()[name] for name in __all__))
