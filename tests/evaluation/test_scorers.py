from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skquee import MultiPathClassifierBank, PathProbabilities, PathTree, RoutedClassifier
from skquee.baselines import ThresholdRouter
from skquee.evaluation import (
    CostCurve,
    area_scorer,
    budget_scorer,
    cost_curve,
    price_scorer,
    route,
    unpack,
)

TREE = PathTree.chain([0.25, 0.25, 0.5])


class CalibratedRouter(ClassifierMixin, BaseEstimator):
    """Knows the exact probability that each path errs; column -1 of X decides whether it does."""

    def __init__(self, lambda_=0.1):
        self.lambda_ = lambda_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "classes_")

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.array(["right", "wrong"])
        self.weighted_ = sample_weight is not None
        return self

    def take(self, X, lambda_):
        paths = np.argmin(X[:, :-1] + lambda_ * TREE.path_costs, axis=1)
        return paths, X[:, -1] > X[np.arange(len(X)), paths]

    def route(self, X):
        self.n_passes_ = getattr(self, "n_passes_", 0) + 1
        paths, right = self.take(X, self.lambda_)
        labels = np.where(right, "right", "wrong")
        return SimpleNamespace(labels=labels, paths=paths, costs=TREE.path_costs[paths])

    def predict(self, X):
        return self.route(X).labels

    def cost_curve(self, lambdas=None, X=None, y=None, *, sample_weight=None):
        lambdas = np.linspace(0, 2, 21) if lambdas is None else lambdas
        paths, correct = zip(*[self.take(X, lambda_) for lambda_ in lambdas], strict=True)
        return CostCurve(lambdas, paths, correct, TREE, sample_weight=sample_weight)


def make_errors(n, seed=0):
    """Samples between easy and hard: longer paths err less, and more so on middling ones."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)[:, None]
    errors = hardness ** np.array([0.7, 1.5, 4.0])
    return np.column_stack([errors, rng.random(n)]), np.full(n, "right")


def make_table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    y, ease = rng.integers(4, size=n), rng.random((n, 1))
    logits = rng.normal(size=(n, 3, 4))
    logits[np.arange(n), :, y] += 4 * ease * [0.4, 0.7, 1.0]
    values = np.exp(logits)
    values /= values.sum(axis=2, keepdims=True)
    return PathProbabilities(values, TREE.with_classes(range(4))), y


def test_price_scorer_picks_the_price_as_lambda_where_errors_are_calibrated():
    X, y = make_errors(30_000)
    prices = [0.1, 0.2, 0.4, 0.8, 1.6]
    for price in prices[1:-1]:
        search = GridSearchCV(CalibratedRouter(), {"lambda_": prices}, scoring=price_scorer(price))
        assert search.fit(X, y).best_params_ == {"lambda_": price}


def test_scores_are_those_of_their_definitions():
    X, y = make_errors(500)
    weights = np.random.default_rng(1).random(500)
    router = CalibratedRouter(0.3).fit(X, y)
    paths, right = router.take(X, 0.3)
    accuracy = np.average(right, weights=weights)
    cost = np.average(TREE.path_costs[paths], weights=weights)

    def score(scorer):
        return scorer(router, X, y, sample_weight=weights)

    assert score(price_scorer(0.2)) == pytest.approx(accuracy - 0.2 * cost)
    assert score(budget_scorer(cost + 0.01)) == pytest.approx(accuracy)
    curve = router.cost_curve([0.1, 1.0], X, y, sample_weight=weights)
    assert score(area_scorer([0.1, 1.0])) == curve.area()
    assert area_scorer()(router, X, y) == router.cost_curve(None, X, y).area()


@pytest.mark.parametrize("scorer", [price_scorer(0.2), budget_scorer(0.5)])
def test_scorer_routes_once(scorer):
    X, y = make_errors(50)
    router = CalibratedRouter().fit(X, y)
    scorer(router, X, y)
    assert router.n_passes_ == 1


def test_budget_scorer_ranks_overspenders_below_all_others_and_by_overspend():
    X, y = make_errors(500)
    costs = [CalibratedRouter(lam).fit(X, y).route(X).costs.mean() for lam in (0.1, 0.5, 1.0)]
    scores = [budget_scorer(0.3)(CalibratedRouter(lam), X, y) for lam in (0.1, 0.5, 1.0)]
    assert costs[0] > costs[1] > costs[2] > 0.3
    assert scores[0] < scores[1] < scores[2] < 0
    all_wrong = np.full(500, "wrong")
    cheapest = CalibratedRouter(1e9)
    assert budget_scorer(0.3)(cheapest, X, all_wrong) >= 0 > scores[2]


def test_one_fold_over_budget_outweighs_being_right_in_all_others():
    over, within = budget_scorer(0.3), budget_scorer(1.0)
    X, y = make_errors(100)
    router = CalibratedRouter(0.1).fit(X, y)
    folds = [within(router, X, y)] * 20 + [over(router, X, y)]
    assert np.mean(folds) < 0


def test_budget_of_exactly_the_cost_is_kept_in_spite_of_rounding():
    X, y = np.zeros((3, 4)), np.full(3, "right")
    router = CalibratedRouter().fit(X, y)
    router.route = lambda X: SimpleNamespace(labels=y, costs=np.full(3, 0.1))
    assert np.average(np.full(3, 0.1)) > 0.1
    assert budget_scorer(0.1)(router, X, y) == 1.0


def test_scorers_look_through_pipelines_and_searches():
    X, y = make_errors(200)
    pipe = make_pipeline(FunctionTransformer(lambda rows: rows / 100), CalibratedRouter(0.3))
    pipe.fit(100 * X, y)
    plain = CalibratedRouter(0.3).fit(X, y)
    search = GridSearchCV(pipe, {"calibratedrouter__lambda_": [0.3]}, scoring=price_scorer(0.1))
    search.fit(100 * X, y)
    for estimator in (pipe, search, make_pipeline(pipe)):
        np.testing.assert_array_equal(route(estimator, 100 * X).paths, plain.route(X).paths)
        curve = cost_curve(estimator, [0.1, 0.5], 100 * X, y)
        np.testing.assert_array_equal(curve.paths, plain.cost_curve([0.1, 0.5], X, y).paths)
        assert price_scorer(0.2)(estimator, 100 * X, y) == price_scorer(0.2)(plain, X, y)


def test_unpack_opens_pipelines_banks_and_nothing_else():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), rng.integers(2, size=60)
    models = [("one", LogisticRegression()), ("two", LogisticRegression(C=0.1))]
    routed = RoutedClassifier(
        MultiPathClassifierBank(models, step_costs=[1, 3]), ThresholdRouter()
    ).fit(X, y)
    router, table = unpack(routed, X)
    assert router is routed.router_
    np.testing.assert_array_equal(router.predict(table), routed.predict(X))
    alone = ThresholdRouter()
    assert unpack(alone, X) == (alone, X)
    assert unpack(make_pipeline(alone), X) == (alone, X)


@pytest.mark.parametrize("function", [route, lambda e, X: cost_curve(e, None, X, X)])
def test_other_estimators_are_refused_by_name(function):
    with pytest.raises(TypeError, match="LogisticRegression has no route and cost_curve"):
        function(make_pipeline(LogisticRegression()), [[0.0]])


@pytest.mark.parametrize("scorer", [price_scorer(0.2), budget_scorer(0.6), area_scorer([0.5, 0.9])])
def test_scorers_work_in_parallel_searches_with_and_without_weights(scorer):
    X, y = make_table()
    weights = np.random.default_rng(0).integers(1, 4, size=300)
    grid = {"threshold": [0.3, 0.6, 0.9]}
    plain = GridSearchCV(ThresholdRouter(), grid, scoring=scorer, cv=3, n_jobs=2).fit(X, y)
    assert np.isfinite(plain.cv_results_["mean_test_score"]).all()
    weighted = clone(plain).fit(X, y, sample_weight=weights)
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        pytest.skip("searches hand weights to scorers since scikit-learn 1.7")
    assert (weighted.cv_results_["mean_test_score"] != plain.cv_results_["mean_test_score"]).any()


def test_several_scorers_share_a_search_with_weights():
    X, y = make_table()
    scoring = {"price": price_scorer(0.2), "area": area_scorer([0.5, 0.9])}
    grid = {"threshold": [0.3, 0.9]}
    search = GridSearchCV(ThresholdRouter(), grid, scoring=scoring, refit="price", cv=2)
    search.fit(X, y, sample_weight=np.ones(300))
    assert np.isfinite(search.cv_results_["mean_test_price"]).all()
    assert np.isfinite(search.cv_results_["mean_test_area"]).all()


def test_requested_weights_reach_fit_and_scorer_under_metadata_routing():
    X, y = make_errors(90)
    weights = np.zeros(90)
    weights[::2] = 1.0
    with sklearn.config_context(enable_metadata_routing=True):
        router = CalibratedRouter().set_fit_request(sample_weight=True)
        scorer = price_scorer(0.1).set_score_request(sample_weight=True)
        search = GridSearchCV(router, {"lambda_": [0.1, 1.0]}, scoring=scorer, cv=3)
        search.fit(X, y, sample_weight=weights)
        halves = GridSearchCV(
            CalibratedRouter(), search.param_grid, scoring=price_scorer(0.1), cv=3
        )
        halves.fit(X[::2], y[::2])
    assert search.best_estimator_.weighted_
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], halves.cv_results_["mean_test_score"]
    )


def test_search_without_weights_needs_no_requests_under_metadata_routing():
    X, y = make_errors(90)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(CalibratedRouter(), {"lambda_": [0.1]}, scoring=price_scorer(0.1))
        assert search.fit(X, y).best_params_ == {"lambda_": 0.1}


def test_weights_asked_of_no_one_are_an_error_under_metadata_routing():
    X, y = make_errors(90)
    with sklearn.config_context(enable_metadata_routing=True):
        router = CalibratedRouter().set_fit_request(sample_weight=True)
        search = GridSearchCV(router, {"lambda_": [0.1]}, scoring=price_scorer(0.1))
        with pytest.raises(ValueError, match="sample_weight"):
            search.fit(X, y, sample_weight=np.ones(90))


def test_requests_of_a_copy_leave_the_scorer_alone():
    scorer = price_scorer(0.1)
    with sklearn.config_context(enable_metadata_routing=True):
        clone(scorer, safe=False).set_score_request(sample_weight=True)
        assert scorer.get_metadata_routing().score.requests == {"sample_weight": None}


def test_scorers_pickle_and_say_what_they_are():
    for scorer in (price_scorer(0.2), budget_scorer(0.6), area_scorer([0.5])):
        assert repr(pickle.loads(pickle.dumps(scorer))) == repr(scorer)
    assert repr(price_scorer(0.2)) == "price_scorer(0.2)"


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0.1", None])
@pytest.mark.parametrize("factory", [price_scorer, budget_scorer])
def test_price_and_budget_must_be_finite_and_not_negative(factory, value):
    with pytest.raises(ValueError, match="must be a finite number >= 0"):
        factory(value)
