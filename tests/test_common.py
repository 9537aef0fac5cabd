"""scikit-learn's checks on what takes 2-D input, ours on what takes tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
    RoutedClassifier,
    TunedCostAwareRouterCV,
)
from skquee.baselines import (
    JEIDNN,
    BudgetedThresholdRouter,
    FixedPath,
    NextStepRouter,
    PatienceRouter,
    RandomMixing,
    ThresholdRouter,
)
from skquee.testing import router_checks


def quick_router(**changes: Any) -> CostAwareRouter:
    regressor = PathErrorRegressor(schedule="constant", max_epochs=20, batch_size=32)
    targets = ClusteredErrorTargets(n_clusters=5, n_init=1)
    return CostAwareRouter(0.3, targets=targets, regressor=regressor, random_state=0).set_params(
        **changes
    )


ROUTERS = [
    quick_router(),
    CostAwareRouter(0.05, random_state=0),
    ThresholdRouter(0.7),
    ThresholdRouter(0.8, measure="entropy"),
    ThresholdRouter(0.4, measure="margin"),
    BudgetedThresholdRouter(),
    PatienceRouter(),
    FixedPath("8-4"),
    RandomMixing(0.7),
    NextStepRouter(0.3, lambdas=[0.1], regressor=quick_router().regressor, random_state=0),
    JEIDNN(lambda_=0.3, lambdas=[0.1], max_epochs=2, random_state=0),
    TunedCostAwareRouterCV(quick_router(), price=0.3, cv=2),
]


@pytest.mark.parametrize("check", router_checks(), ids=lambda check: check.__name__)
@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: type(router).__name__)
def test_router_passes_our_checks(router: Any, check: Any) -> None:
    if isinstance(router, TunedCostAwareRouterCV) and check.__name__ in (
        "check_curve_equals_predict",  # its lambda_ is chosen, not set
        "check_costs_read_at_predict",  # costs are the inner router's parameter
        "check_bad_input",  # likewise; tested in tests/router/test_tuned.py
    ):
        return
    check(router)


class Lifted(CostAwareRouter):
    """Takes 2-D X and lifts it to a table by a fixed projection and a softmax."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        tags.classifier_tags.poor_score = True
        return tags

    def read_table(self, X: Any, *, reset: bool) -> PathProbabilities:
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        n_classes = self._lift_classes if hasattr(self, "_lift_classes") else 3
        rng = np.random.default_rng(0)
        weights = rng.normal(size=(X.shape[1], 3 * n_classes))
        logits = (np.tanh(X) @ weights).reshape(len(X), 3, n_classes)
        values = np.exp(logits - logits.max(axis=2, keepdims=True))
        tree = PathTree.chain([1, 1, 1])
        if hasattr(self, "_fitted_paths"):
            tree = self._fitted_paths
        return PathProbabilities(values / values.sum(axis=2, keepdims=True), tree)

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Lifted:
        for name in ("_fitted_paths", "_lift_classes"):
            self.__dict__.pop(name, None)
        if y is not None:
            self._lift_classes = max(2, len(set(np.asarray(y).ravel().tolist())))
        return super().fit(X, y, sample_weight=sample_weight)


def expected_failures(estimator: Any) -> dict[str, str]:
    if not isinstance(estimator, RoutedClassifier):
        return {}
    # As for scikit-learn's own estimators that split their rows (CalibratedClassifierCV):
    # a row given twice can fall on both sides of the split, a row of weight two cannot.
    reason = "rows are split between bank and router; a weight is not a repeated row"
    return {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
    }


@pytest.mark.filterwarnings("ignore:n_clusters")  # some checks give very few rows
@parametrize_with_checks(
    [
        RoutedClassifier(router=quick_router(lambda_=0.01)),
        MultiPathClassifierBank(),
        Lifted(
            targets=ClusteredErrorTargets(n_clusters=2, n_init=1),
            regressor=PathErrorRegressor(schedule="constant", max_epochs=3),
            random_state=0,
        ),
    ],
    expected_failed_checks=expected_failures,
)
def test_passes_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)
