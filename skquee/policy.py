"""Policies: how predicted errors and costs become the path to aim at."""

from skquee.method.policy import (
    POLICIES,
    ClosedLoop,
    OptionValue,
    Pessimistic,
    Policy,
    next_steps,
    open_loop,
)

__all__ = [
    "POLICIES",
    "ClosedLoop",
    "OptionValue",
    "Pessimistic",
    "Policy",
    "next_steps",
    "open_loop",
]
