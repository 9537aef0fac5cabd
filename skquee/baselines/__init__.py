"""Baselines: what a router has to beat, with a router's face.

``DQNetGate`` and ``JEIDNN`` load torch on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from skquee.baselines._fixed import FixedPath, RandomMixing
from skquee.baselines._next_step import NextStepRouter
from skquee.baselines._oracle import OracleRouter
from skquee.baselines._threshold import BudgetedThresholdRouter, PatienceRouter, ThresholdRouter
from skquee.values._optional import installed, require
from skquee.values._public import publish

if TYPE_CHECKING:
    from skquee.baselines._dqnet import DQNetGate
    from skquee.baselines._jeidnn import JEIDNN

__all__ = [
    "JEIDNN",
    "BudgetedThresholdRouter",
    "DQNetGate",
    "FixedPath",
    "NextStepRouter",
    "OracleRouter",
    "PatienceRouter",
    "RandomMixing",
    "ThresholdRouter",
]

_HOMES = {"DQNetGate": "skquee.baselines._dqnet", "JEIDNN": "skquee.baselines._jeidnn"}

if not installed("torch"):  # what cannot be imported is no part of `import *`
    for _name in _HOMES:
        __all__.remove(_name)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        require("torch", name)
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skquee.baselines' has no attribute {name!r}")


# Those that load torch are published where they are defined.
publish(__name__, *(globals()[name] for name in __all__ if name not in _HOMES))
