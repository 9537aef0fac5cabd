"""Routers: estimators that learn to choose."""

from skquee.router._risk import RiskControlledRouter
from skquee.router._routed import RoutedClassifier
from skquee.router._router import CostAwareRouter
from skquee.router._tuned import TunedCostAwareRouterCV

__all__ = [
    "CostAwareRouter",
    "RiskControlledRouter",
    "RoutedClassifier",
    "TunedCostAwareRouterCV",
]
