"""Routers: estimators that learn to choose."""

from skquee.routers import (
    BudgetMixin,
    BudgetRouter,
    CallCostModel,
    CostAwareRouter,
    ExplainMixin,
    OperatingPoints,
    RiskControlledRouter,
    RoutedClassifier,
    TunedCostAwareRouterCV,
    combine_costs,
    default_router,
    model_card,
)

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

# Stored in files under these names.
_KEPT = (CallCostModel, OperatingPoints)
