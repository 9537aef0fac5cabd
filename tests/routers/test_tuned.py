"""A trade-off chosen by cross-validation: a budget, a price, a loss of accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, KFold
from sklearn.tree import DecisionTreeRegressor

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
    TunedCostAwareRouterCV,
)
from skquee.testing import make_path_probabilities

TABLE, Y = make_path_probabilities(240)
GRID = np.concatenate([[0.0], np.geomspace(0.01, 5, 30)])


def quick() -> CostAwareRouter:
    return CostAwareRouter(
        targets=ClusteredErrorTargets(n_clusters=6, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=30)),
        random_state=0,
    )


def tuned(**options: Any) -> TunedCostAwareRouterCV:
    return TunedCostAwareRouterCV(quick(), **{"lambdas": GRID, "cv": 3, **options})


def test_a_budget_gets_the_most_accurate_point_within_it() -> None:
    found = tuned(max_cost=0.6).fit(TABLE, Y)
    results = found.cv_results_
    allowed = results["mean_cost"] <= 0.6 + 1e-12
    assert 0 < allowed.sum() < len(GRID)
    assert found.best_cost_ <= 0.6
    assert found.best_accuracy_ == results["mean_accuracy"][allowed].max()
    assert found.router_.lambda_ == found.best_lambda_
    assert found.predict_cost(TABLE).mean() < 0.7
    assert found.router.lambda_ == 1.0, "the given router stays as it is"
    assert not hasattr(found.router, "targets_")


def test_every_row_is_judged_by_a_router_that_has_not_seen_it() -> None:
    found = tuned(max_cost=0.6, cv=KFold(3)).fit(TABLE, Y)
    expected = []
    for train, test in KFold(3).split(Y):
        router = quick().set_params(validation_fraction=0.0).fit(TABLE[train], Y[train])
        expected.append(router.cost_curve(GRID, TABLE[test], Y[test]).paths)
    assert np.array_equal(found.cv_curve_.paths, np.concatenate(expected, axis=1))
    assert "not seen" in found.cv_curve_.source
    accuracies = [
        (np.asarray(TABLE)[test][np.arange(80), part[3]].argmax(axis=1) == Y[test]).mean()
        for part, (_, test) in zip(expected, KFold(3).split(Y), strict=True)
    ]
    assert found.cv_results_["std_accuracy"][3] == pytest.approx(np.std(accuracies))


def calibrated(n: int) -> tuple[PathProbabilities, np.ndarray]:
    """Two paths over two classes; the first is right as often as it says, the second always."""
    rng = np.random.default_rng(0)
    sure = rng.choice(np.linspace(0.5, 0.999, 40), size=n)
    y = np.arange(n) % 2
    first = np.where(rng.random(n) < sure, y, 1 - y)
    values = np.zeros((n, 2, 2))
    values[np.arange(n), 0, first] = sure
    values[np.arange(n), 0, 1 - first] = 1 - sure
    values[np.arange(n), 1, y] = 1
    return PathProbabilities(values, PathTree.from_paths([(1,), (1, 1)], [1.0, 2.0])), y


@pytest.mark.parametrize("price", [0.1, 0.3])
def test_a_price_picks_a_trade_off_near_it_where_errors_are_calibrated(price: float) -> None:
    table, y = calibrated(4000)
    router = CostAwareRouter(
        targets=ClusteredErrorTargets(40, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=100)),
        random_state=0,
    )
    found = TunedCostAwareRouterCV(router, price=price, cv=2, lambdas=np.arange(0, 0.62, 0.02))
    found.fit(table, y)
    gain = found.cv_curve_.accuracy - price * found.cv_curve_.cost
    assert found.best_lambda_ == found.cv_curve_.knobs[np.argmax(gain)]
    assert abs(found.best_lambda_ - price) <= 0.06


def whole_model_right() -> np.ndarray:
    return TABLE.path(TABLE.paths.fullest).argmax(axis=1) == Y


def test_a_loss_of_accuracy_gets_the_cheapest_point_within_it() -> None:
    found = tuned(max_error_increase=0.1, cv=KFold(3)).fit(TABLE, Y)
    results = found.cv_results_
    allowed = whole_model_right().mean() - results["mean_accuracy"] <= 0.1 + 1e-12
    assert 0 < allowed.sum() < len(GRID)
    assert found.best_cost_ == results["mean_cost"][allowed].min()


def test_confidence_holds_the_aim_by_a_one_sided_bound() -> None:
    plain = tuned(max_error_increase=0.13, cv=KFold(3)).fit(TABLE, Y)
    safe = tuned(max_error_increase=0.13, cv=KFold(3), confidence=0.95).fit(TABLE, Y)
    curve = safe.cv_curve_
    bounds = []
    for line in curve.correct:
        loss = whole_model_right().astype(float) - line
        bounds.append(loss.mean() + stats.norm.ppf(0.95) * loss.std() / np.sqrt(len(loss)))
    allowed = np.array(bounds) <= 0.13
    assert safe.best_cost_ == curve.cost[allowed].min()
    assert safe.best_cost_ > plain.best_cost_
    budget = tuned(max_cost=0.6, cv=KFold(3), confidence=0.95).fit(TABLE, Y)
    costs = budget.cv_curve_.sample_costs[np.searchsorted(GRID, budget.best_lambda_)]
    assert costs.mean() + stats.norm.ppf(0.95) * costs.std() / np.sqrt(240) <= 0.6


def test_prefit_chooses_on_the_rows_given_and_trains_nothing() -> None:
    router = quick().fit(TABLE[:120], Y[:120])
    found = TunedCostAwareRouterCV(router, max_cost=0.6, lambdas=GRID, cv="prefit")
    found.fit(TABLE[120:], Y[120:])
    curve = router.cost_curve(GRID, TABLE[120:], Y[120:])
    assert np.array_equal(found.cv_curve_.paths, curve.paths)
    assert found.router_.regressor_ is router.regressor_
    assert router.lambda_ == 1.0, "the given router stays as it is"
    assert found.router_.lambda_ == found.best_lambda_ != 1.0
    with pytest.raises(NotFittedError):
        TunedCostAwareRouterCV(quick(), max_cost=0.6, cv="prefit").fit(TABLE, Y)


def test_weights_count_in_the_choice() -> None:
    weights = np.where(Y < 2, 3.0, 1.0)
    found = tuned(price=0.2, cv=KFold(3)).fit(TABLE, Y, sample_weight=weights)
    curve = found.cv_curve_
    expected = np.average(curve.correct, axis=1, weights=weights)
    assert np.allclose(found.cv_results_["mean_accuracy"], expected)
    assert np.allclose(curve.cost, np.average(curve.sample_costs, axis=1, weights=weights))


def test_new_costs_set_on_the_router_hold_in_the_sweep() -> None:
    found = tuned(max_cost=60.0, lambdas=GRID / 100)
    found.set_params(router__path_costs=TABLE.paths.path_costs * 100).fit(TABLE, Y)
    same = tuned(max_cost=0.6).fit(TABLE, Y)
    assert found.best_lambda_ == pytest.approx(same.best_lambda_ / 100)
    assert found.paths_.costs[-1] == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"exactly one of .* got \[\]"),
        ({"max_cost": 0.5, "price": 1.0}, r"got \['max_cost', 'price'\]"),
        ({"max_cost": -0.5}, "max_cost must be a finite number >= 0"),
        ({"price": np.nan}, "price must be a finite number"),
        ({"price": 0.1, "confidence": 1.5}, "confidence must be a finite number > 0 and < 1"),
        ({"max_cost": 0.01}, "at or below max_cost=0.01: points cost from 0.33"),
        (
            {"max_error_increase": 0.0, "lambdas": [50.0]},
            "within 0 of the whole model's: the least increase is 0",
        ),
        ({"price": 0.1, "lambdas": [-1.0]}, "lambdas must hold finite numbers >= 0"),
        ({"price": 0.1, "cv": 1}, "cv must be an integer >= 2"),
    ],
)
def test_bad_aims_fail(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuned(**options).fit(TABLE, Y)


def test_bad_tables_fail_before_any_fold() -> None:
    values = np.asarray(TABLE).copy()
    values[5, 2, 0] = np.nan
    with pytest.raises(ValueError, match="NaN for row 5, path '8-8'"):
        tuned(price=0.1).fit(PathProbabilities(values, TABLE.paths), Y)
    with pytest.raises(ValueError, match="requires y"):
        tuned(price=0.1).fit(TABLE, None)
    with pytest.raises(NotFittedError):
        tuned(price=0.1).predict(TABLE)
    with pytest.raises(ValueError, match="groups"):
        tuned(price=0.1, cv=GroupKFold(2)).fit(TABLE, Y)


def test_a_clone_keeps_parameters_and_nested_ones_can_be_set() -> None:
    copy = clone(tuned(price=0.3)).set_params(router__targets__n_clusters=3)
    assert copy.router.targets.n_clusters == 3
    assert TunedCostAwareRouterCV(price=1).set_params(router__lambda_=2.0).router.lambda_ == 2.0
