"""skquee: spend a classifier's computation where it pays.

Names load on first use, so that ``import skquee`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skquee._version import __version__

if TYPE_CHECKING:
    from skquee._show_versions import show_versions
    from skquee.bank import MultiPathClassifierBank
    from skquee.method._targets import ClusteredErrorTargets
    from skquee.method.gates import PathErrorClassifier, PathErrorRegressor
    from skquee.persistence import dump, load
    from skquee.routers import (
        BudgetRouter,
        CostAwareRouter,
        RiskControlledRouter,
        RoutedClassifier,
        TunedCostAwareRouterCV,
    )
    from skquee.routers.auto import AutoRouter
    from skquee.values import PathProbabilities, PathTree

_HOMES = {
    "AutoRouter": "skquee.routers.auto",
    "BudgetRouter": "skquee.routers",
    "ClusteredErrorTargets": "skquee.method._targets",
    "CostAwareRouter": "skquee.routers",
    "MultiPathClassifierBank": "skquee.bank",
    "PathErrorClassifier": "skquee.method.gates",
    "PathErrorRegressor": "skquee.method.gates",
    "PathProbabilities": "skquee.values",
    "PathTree": "skquee.values",
    "RiskControlledRouter": "skquee.routers",
    "RoutedClassifier": "skquee.routers",
    "TunedCostAwareRouterCV": "skquee.routers",
    "dump": "skquee.persistence",
    "load": "skquee.persistence",
    "show_versions": "skquee._show_versions",
}
_SUBMODULES = (
    "answers",
    "auto",
    "bank",
    "baselines",
    "dask",
    "datasets",
    "display",
    "evaluation",
    "gates",
    "monitoring",
    "networks",
    "persistence",
    "policy",
    "report",
    "router",
    "serving",
    "testing",
    "walk",
)

__all__ = [
    "AutoRouter",
    "BudgetRouter",
    "ClusteredErrorTargets",
    "CostAwareRouter",
    "MultiPathClassifierBank",
    "PathErrorClassifier",
    "PathErrorRegressor",
    "PathProbabilities",
    "PathTree",
    "RiskControlledRouter",
    "RoutedClassifier",
    "TunedCostAwareRouterCV",
    "__version__",
    "dump",
    "load",
    "show_versions",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"skquee.{name}")
    raise AttributeError(f"module 'skquee' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})
