"""Routers: estimators that learn to choose."""

from skquee.routers._at_budget import BudgetMixin
from skquee.routers._budget import BudgetRouter
from skquee.routers._card import model_card
from skquee.routers._costs import combine_costs
from skquee.routers._default import default_router
from skquee.routers._explain import ExplainMixin
from skquee.routers._mixing import OperatingPoints
from skquee.routers._prices import CallCostModel
from skquee.routers._risk import RiskControlledRouter
from skquee.routers._routed import RoutedClassifier
from skquee.routers._router import CostAwareRouter
from skquee.routers._tuned import TunedCostAwareRouterCV
from skquee.values._public import publish

__all__ = [
    "BudgetMixin",
    "BudgetRouter",
    "CostAwareRouter",
    "ExplainMixin",
    "RiskControlledRouter",
    "RoutedClassifier",
    "TunedCostAwareRouterCV",
    "combine_costs",
    "default_router",
    "model_card",
]

publish("skquee.router", *(globals()[name] for name in __all__))
# Not offered, but stored in files under these names.
publish("skquee.router", CallCostModel, OperatingPoints)
