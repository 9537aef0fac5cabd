"""Routers: estimators that learn to choose."""

from skquee._public import publish
from skquee.router._at_budget import BudgetMixin
from skquee.router._budget import BudgetRouter
from skquee.router._costs import combine_costs
from skquee.router._default import default_router
from skquee.router._explain import ExplainMixin
from skquee.router._mixing import OperatingPoints
from skquee.router._prices import CallCostModel
from skquee.router._risk import RiskControlledRouter
from skquee.router._routed import RoutedClassifier
from skquee.router._router import CostAwareRouter
from skquee.router._tuned import TunedCostAwareRouterCV

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
]

publish(__name__, *(globals()[name] for name in __all__))
# Not offered, but stored in files under these names.
publish(__name__, CallCostModel, OperatingPoints)
