"""Bank and router as one classifier."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skquee import (
    AutoRouter,
    BudgetRouter,
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathTree,
    RiskControlledRouter,
    RoutedClassifier,
    TunedCostAwareRouterCV,
)
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.evaluation import CostCurve, price_scorer
from skquee.router import default_router
from skquee.routers._default import choose_point
from skquee.routers._summary import Clock, Models, judge
from skquee.testing import make_path_probabilities

X, Y = make_classification(300, 6, n_informative=4, n_classes=3, random_state=0)
NAMES = np.array(["ant", "bee", "cat"])[Y]
TREE = PathTree.chain([1, 1])


class Memory(DecisionTreeClassifier):
    """Notes the rows it was fitted on."""

    rows: list[Any] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        Memory.rows = [X, sample_weight]
        return super().fit(X, y, sample_weight)


class NotingRouter(ThresholdRouter):
    """Notes what it was fitted on."""

    seen: list[Any] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        NotingRouter.seen = [X, y, sample_weight]
        return super().fit(X, y, sample_weight)


def bank() -> MultiPathClassifierBank:
    return MultiPathClassifierBank(
        [("stump", Memory(max_depth=1, random_state=0)), ("linear", LogisticRegression())],
        step_costs=[0.2, 0.8],
    )


def quick() -> CostAwareRouter:
    return CostAwareRouter(
        0.2,
        targets=ClusteredErrorTargets(n_clusters=4, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(max_depth=3)),
        random_state=0,
    )


def test_the_router_learns_from_rows_the_classifiers_never_saw() -> None:
    weights = np.arange(1.0, 301.0)
    model = RoutedClassifier(bank(), NotingRouter(0.7), router_fraction=0.4)
    model.fit(X, NAMES, sample_weight=weights)
    table, labels, router_weights = NotingRouter.seen
    own = X[router_weights.astype(int) - 1]
    assert np.array_equal(np.asarray(table), np.asarray(model.bank_.materialize(own)))
    rows = np.vstack([Memory.rows[0], own])
    assert (len(Memory.rows[0]), len(labels)) == (180, 120)
    assert np.array_equal(np.unique(rows, axis=0), np.unique(X, axis=0))
    assert sorted(np.concatenate([Memory.rows[1], router_weights])) == weights.tolist()
    assert min(np.unique(labels, return_counts=True)[1]) >= 38  # by class


def test_a_frozen_bank_leaves_every_row_to_the_router() -> None:
    frozen = MultiPathClassifierBank(
        [(name, FrozenEstimator(m.fit(X, NAMES))) for name, m in bank().classifiers],
        step_costs=[0.2, 0.8],
    )
    RoutedClassifier(frozen, NotingRouter(0.7)).fit(X, NAMES)
    assert len(NotingRouter.seen[1]) == 300


def test_it_answers_as_its_parts_do_and_runs_only_what_rows_need() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    table = model.bank_.transform(X)
    routes = model.route(X)
    assert np.array_equal(model.predict(X), model.router_.predict(table))
    assert np.array_equal(model.predict_path(X), routes.paths)
    assert np.array_equal(model.predict_error(X), routes.predicted_error)
    assert np.array_equal(model.classes_, np.unique(NAMES))
    assert model.score(X, NAMES) == pytest.approx(
        np.mean(routes.labels == NAMES) - 0.2 * routes.costs.mean()
    )
    assert routes.counts["stump"] == 300
    assert routes.counts["linear"] == (routes.paths == 1).sum() < 300
    assert model.paths_.names == ("stump", "linear")


def test_curves_come_from_rows_given_or_held_out() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    assert "15 rows held out in fit" in repr(model.cost_curve([0.1]))
    curve = model.cost_curve([0.0, 5.0], X, NAMES)
    assert curve.cost[1] == pytest.approx(0.2)
    assert curve.paths.shape == (2, 300)


def test_parameters_of_both_parts_can_be_searched() -> None:
    search = GridSearchCV(
        RoutedClassifier(bank(), quick()),
        {"router__lambda_": [0.05, 3.0], "bank__batch_size": [16, 512]},
        cv=2,
        scoring=price_scorer(0.05),
        error_score="raise",
    ).fit(X, NAMES)
    assert search.best_params_["router__lambda_"] == 0.05
    defaults = RoutedClassifier().set_params(router__lambda_=0.4, bank__batch_size=8)
    assert (defaults.router.lambda_, defaults.bank.batch_size) == (0.4, 8)


def test_the_split_depends_on_the_seed_alone_and_given_parts_stay_unfitted() -> None:
    model = RoutedClassifier(bank(), quick(), random_state=3)
    one, two = clone(model).fit(X, Y), clone(model).fit(X, Y)
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))
    model.fit(X, Y)
    assert not hasattr(model.router, "classes_")
    assert not hasattr(model.bank, "classes_")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_a_bad_share_of_rows_fails(fraction: float) -> None:
    with pytest.raises(ValueError, match="router_fraction must lie between 0 and 1"):
        RoutedClassifier(bank(), quick(), router_fraction=fraction).fit(X, Y)


def test_bad_input_fails() -> None:
    model = RoutedClassifier(bank(), quick())
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="requires y"):
        model.fit(X, None)
    with pytest.raises(ValueError, match="expected .300,."):
        model.fit(X, Y, sample_weight=[1.0])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 2, np.nan, X), Y)
    with pytest.raises(ValueError, match="1 class"):
        model.fit(X, np.zeros(300, dtype=int))
    with pytest.raises(ValueError, match="1 of 2 that the bank gets are all of class"):
        model.fit(X[:2], [0, 1])


# ---------------------------------------------------------------------- the default, chosen

FRAME = pd.DataFrame(X, columns=[f"c{i}" for i in range(6)], index=np.arange(300) + 1000)


@pytest.fixture(scope="module")
def fitted() -> RoutedClassifier:
    return RoutedClassifier(bank(), max_error_increase=0.02).fit(FRAME, NAMES)


def test_a_price_left_open_is_the_cheapest_point_within_the_rule(fitted: RoutedClassifier) -> None:
    curve, summary = fitted.cv_curve_, fitted.summary()
    best = summary.loc[["stump alone", "linear alone"], "accuracy"].max()
    assert "150 rows, each judged by a router that has not seen it" in repr(curve)
    within = curve.accuracy >= best - 0.02
    chosen = int(np.flatnonzero(curve.knobs == fitted.best_lambda_)[0])
    assert within[chosen] and curve.cost[chosen] == curve.cost[within].min()
    loose = RoutedClassifier(bank(), max_error_increase=0.5).fit(FRAME, NAMES)
    assert loose.predict_cost(FRAME).mean() < fitted.predict_cost(FRAME).mean()


def test_a_rule_that_no_point_keeps_takes_the_most_accurate_one() -> None:
    curve = CostCurve([0.0, 1.0], [[1, 1], [0, 0]], [[True, False], [False, False]], TREE)
    assert choose_point(curve, 1.0, 0.005) == (0, False)
    assert choose_point(curve, 0.5, 0.005) == (0, True)
    assert choose_point(curve, 0.5, 0.5) == (1, True)


def test_a_price_that_is_given_stays() -> None:
    model = RoutedClassifier(bank(), default_router(0.3)).fit(X, Y)
    assert model.best_lambda_ is None
    assert model.router_.lambda_ == 0.3
    assert model.summary().loc["routed", "lambda_"] == 0.3


def test_a_router_whose_price_is_open_does_not_route_by_itself() -> None:
    table, y = make_path_probabilities(200, PathTree.chain([1, 2]))
    router = default_router().fit(table, y)
    assert router.cost_curve([0.1], table, y).cost[0] > 0
    with pytest.raises(ValueError, match="lambda_=None is still open"):
        router.predict(table)
    tuned = TunedCostAwareRouterCV(default_router(), max_error_increase=0.02, cv=2).fit(table, y)
    assert len(tuned.predict(table)) == 200


def test_rows_too_few_for_folds_judge_themselves_and_the_curve_says_so() -> None:
    model = RoutedClassifier(bank(), cv=3).fit(X[:60], Y[:60])
    assert "too few to judge on others" in model.cv_curve_.source


# ---------------------------------------------------------------------- set after fit


@pytest.mark.parametrize("router", [None, default_router(), quick()], ids=["none", "open", "given"])
def test_the_price_may_be_set_after_fit_and_acts_at_once(router: Any) -> None:
    model = RoutedClassifier(bank(), None if router is None else clone(router)).fit(X, NAMES)
    before = model.predict_cost(X).mean()
    cheap = model.set_params(router__lambda_=100.0).predict_cost(X)
    dear = model.set_params(router__lambda_=0.0).predict_cost(X)
    assert (cheap == 0.2).all() and dear.mean() > 0.2
    if router is not None and router.lambda_ is not None:
        assert model.set_params(router__lambda_=0.2).predict_cost(X).mean() == before
    else:
        assert model.set_params(router__lambda_=None).predict_cost(X).mean() == before


def test_costs_and_policies_may_be_set_after_fit() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    model.set_params(router__path_costs=[1.0, 4.0])
    assert set(model.predict_cost(X)) <= {1.0, 4.0}
    model.set_params(router__path_costs=None, bank__step_costs=[2.0, 5.0])
    assert set(model.predict_cost(X)) <= {2.0, 7.0}
    assert model.paths_.costs == (2.0, 7.0)
    assert model.summary().loc["linear alone", "cost"] == 5.0
    stays = model.set_params(
        router__policy=lambda errors, costs, lambda_: np.zeros(len(errors), int)
    )
    assert (stays.predict_cost(X) == 2.0).all()


@pytest.mark.parametrize(
    "params",
    [
        {"router__answer": "recall"},
        {"router__targets": "bernoulli"},
        {"router": ThresholdRouter()},
        {"router_fraction": 0.3},
        {"bank__paths": "cascade"},
        {"bank__stump__max_depth": 2},
    ],
    ids=lambda params: next(iter(params)),
)
def test_what_has_to_be_fitted_asks_for_a_fit(params: dict[str, Any]) -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES).set_params(**params)
    with pytest.raises(
        ValueError, match=f"{next(iter(params))}=.* was set after fit.*call fit again"
    ):
        model.predict(X)
    assert len(model.fit(X, NAMES).predict(X)) == 300


def test_what_is_set_in_place_or_set_back_is_noticed_too() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    before = model.predict(X)
    model.router.lambda_ = 9.0  # acts at once by set_params alone
    with pytest.raises(ValueError, match="router__lambda_=9.0 was set after fit"):
        model.predict(X)
    model.set_params(router__lambda_=0.2, router__answer="recall")
    with pytest.raises(ValueError, match="router__answer='recall' was set after fit"):
        model.predict(X)
    model.set_params(router__answer="last")
    model.bank.classifiers[0][1].max_depth = 3
    with pytest.raises(ValueError, match="bank__stump__max_depth=3 was set after fit"):
        model.decider()
    model.bank.classifiers[0][1].max_depth = 1
    assert np.array_equal(model.predict(X), before)


def test_parts_left_at_their_default_are_remembered() -> None:
    model = RoutedClassifier().fit(X, NAMES).set_params(router__lambda_=0.3, bank__batch_size=50)
    assert len(model.predict(X)) == 300
    model.set_params(router__targets="mixed")
    with pytest.raises(ValueError, match="router__targets='mixed' was set after fit"):
        model.predict(X)


def test_the_price_of_a_router_that_chose_none_cannot_be_left_open_again() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES).set_params(router__lambda_=None)
    with pytest.raises(ValueError, match="router__lambda_=None was set after fit"):
        model.predict(X)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_classifier_is_as_fitted(way: Any) -> None:
    model = RoutedClassifier(bank(), quick(), random_state=np.random.RandomState(0)).fit(X, NAMES)
    other = way(model.set_params(router__lambda_=0.4))
    assert np.array_equal(other.predict(X), model.predict(X))
    other.set_params(router__lambda_=100.0)
    assert (other.predict_cost(X) == 0.2).all()
    assert model.set_params(router__lambda_=0.0).predict_cost(X).mean() > 0.2


def test_setting_what_is_set_already_asks_for_nothing() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    model.set_params(router__features=None, router_fraction=0.5, bank__paths="chain")
    model.set_params(bank__stump__max_depth=1)
    assert len(model.predict(X)) == 300


# ---------------------------------------------------------------------- points and summary


def test_the_summary_shows_every_model_alone_and_routed_points(fitted: RoutedClassifier) -> None:
    found = fitted.summary()
    assert list(found.index[:3]) == ["stump alone", "linear alone", "routed"]
    assert found.loc["linear alone", "cost"] == pytest.approx(0.8)  # its own step alone
    assert (found["accuracy_low"] < found["accuracy"]).all()
    assert (found["accuracy"] < found["accuracy_high"]).all()
    assert (found["ms"] > 0).all()
    routed = found.loc["routed"]
    assert routed["ran stump"] == 1.0
    assert routed["cost"] == pytest.approx(0.2 + 0.8 * routed["ran linear"])
    assert fitted.verdict_ == routed["verdict"] == found.attrs["verdict"]
    assert fitted.reason_
    given = fitted.summary(FRAME, NAMES)
    assert given.attrs["source"] == "given rows"
    whole = fitted.bank_.classifiers_[1][1].score(FRAME, NAMES)
    assert given.loc["linear alone", "accuracy"] == pytest.approx(whole)


ALONE = np.array([0.80, 0.90, 0.902])
MODELS = Models(
    ("small", "middle", "large"), np.arange(3), np.array([1.0, 5.0, 20.0]), np.eye(3) > 0
)


@pytest.mark.parametrize(
    ("accuracy", "cost", "ms", "verdict", "reason"),
    [
        (0.90, 3.0, 2.0, "route", "3 USD a row instead of 5 USD for middle alone"),
        (0.88, 3.0, 2.0, "use middle alone", "more than 0.005 below the best model's 0.902"),
        (0.91, 5.0, 2.0, "use middle alone", "routing costs 5 USD a row"),
        (0.90, 3.0, 6.0, "use middle alone", "but slower: 6 ms a row on the clock"),
    ],
)
def test_routing_pays_where_it_is_cheaper_as_good_and_no_slower(
    accuracy: float, cost: float, ms: float, verdict: str, reason: str
) -> None:
    clock = Clock(np.array([1.0, 4.0, 9.0]), 0.1, 100)
    found = judge(accuracy, cost, ms, MODELS, ALONE, clock, 0.005, "USD")
    assert found.text == verdict
    assert reason in found.reason
    unread = judge(0.90, 3.0, None, MODELS, ALONE, None, 0.005, None)
    assert unread.text == "route" and "clock was not read" in unread.reason


def test_a_budget_and_an_accuracy_are_met_in_the_users_unit(fitted: RoutedClassifier) -> None:
    held = fitted.at_budget(0.5, FRAME, random_state=0)
    assert held.predict_cost(FRAME).mean() == pytest.approx(0.5, abs=0.01)
    assert fitted.at_budget(0.5).predict(FRAME[:4]).shape == (4,)
    with pytest.raises(ValueError, match="budget=7.0 is out of reach.*run from 0.2"):
        fitted.at_budget(7.0)
    curve = fitted.cv_curve_
    wanted = float(np.median(curve.accuracy))
    other = fitted.at_accuracy(wanted)
    place = int(np.flatnonzero(curve.knobs == other.router_.lambda_)[0])
    assert curve.accuracy[place] >= wanted
    assert curve.cost[place] == curve.cost[curve.accuracy >= wanted].min()
    assert other.get_params()["router__lambda_"] == other.router_.lambda_
    assert fitted.router_.lambda_ == fitted.best_lambda_
    right = (other.predict(FRAME) == NAMES).mean()
    assert other.score(FRAME, NAMES) == right  # nobody gave a price
    priced = copy.copy(fitted).set_params(router__lambda_=0.01)
    assert priced.score(FRAME, NAMES) < (priced.predict(FRAME) == NAMES).mean()
    with pytest.raises(ValueError, match="accuracy=0.999 is out of reach.*points have from"):
        fitted.at_accuracy(0.999)


@pytest.mark.parametrize(
    "make",
    [
        lambda router: BudgetRouter(router, 0.5, random_state=0),
        lambda router: RiskControlledRouter(router, max_error_increase=0.3),
    ],
    ids=["budget", "risk"],
)
@pytest.mark.parametrize("inner", [None, default_router(), quick()], ids=["none", "open", "given"])
def test_routers_that_take_a_fitted_one_get_it_fitted_on_other_rows(make: Any, inner: Any) -> None:
    model = RoutedClassifier(bank(), make(inner)).fit(X, NAMES)
    assert model.predict(X).shape == (300,)
    assert model.summary().index[0] == "stump alone"
    calibrated = getattr(model.router_, "n_calibration_", 45)
    assert calibrated == 45  # three tenths of the router's 150 rows
    ready = default_router(0.1).fit(model.bank_.materialize(X), NAMES)
    again = RoutedClassifier(bank(), make(FrozenEstimator(ready))).fit(X, NAMES)
    assert again.router_.router_.lambda_ is not None
    assert getattr(again.router_, "n_calibration_", 150) == 150


# ---------------------------------------------------------------------- data frames


def test_routes_of_a_data_frame_keep_its_index(fitted: RoutedClassifier) -> None:
    some = FRAME.iloc[[5, 3, 8]]
    assert fitted.route(some).to_frame().index.tolist() == [1005, 1003, 1008]
    assert fitted.at_budget(0.5).route(some).to_frame().index.tolist() == [1005, 1003, 1008]
    told = fitted.explain_route(FRAME.iloc[[0]])
    assert told["row"].eq(0).all() and set(told["candidate"]) == {"stump", "linear"}
    assert RoutedClassifier(bank()).fit(X, Y).route(X[:2]).to_frame().index.tolist() == [0, 1]


def test_curves_are_drawn_in_one_call(fitted: RoutedClassifier) -> None:
    display = fitted.cost_curve().plot()
    assert display.ax_.get_ylabel()


def test_arguments_in_the_wrong_place_are_told(fitted: RoutedClassifier) -> None:
    with pytest.raises(ValueError, match="cost_curve takes lambdas first"):
        fitted.cost_curve(FRAME, NAMES)
    with pytest.raises(ValueError, match="cost_curve takes lambdas first"):
        fitted.cost_curve(None, FRAME)
    with pytest.raises(ValueError, match="cost_curve takes lambdas first"):
        fitted.router_.cost_curve(fitted.bank_.transform(FRAME), NAMES)
    with pytest.raises(ValueError, match=r"df.iloc\[\[0\]\] instead of df.iloc\[0\]"):
        fitted.predict(FRAME.iloc[0])
    with pytest.raises(ValueError, match="summary was given X without y"):
        fitted.summary(FRAME)
    with pytest.raises(ValueError, match=r"X is one text, 'good day': give a list"):
        fitted.predict("good day")


def test_scikit_learns_model_selection_takes_it() -> None:
    search = GridSearchCV(
        RoutedClassifier(bank()), {"bank__stump__max_depth": [1, 3]}, cv=2, error_score="raise"
    ).fit(FRAME, NAMES)
    assert search.best_params_["bank__stump__max_depth"] == 3
    found = cross_validate(RoutedClassifier(bank()), FRAME, NAMES, cv=2, error_score="raise")
    assert (found["test_score"] > 0.4).all()
    given = RoutedClassifier(bank(), default_router(0.2)).fit(X, NAMES)
    assert given.score(X, NAMES) < np.mean(given.predict(X) == NAMES)


@pytest.mark.parametrize(
    "params", [{"max_error_increase": -0.1}, {"cv": 1}, {"cv": 1000}, {"router_fraction": "half"}]
)
def test_a_bad_rule_or_number_of_folds_fails(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        RoutedClassifier(bank(), **params).fit(X, Y)


def test_other_kinds_of_routers_are_judged_too() -> None:
    for router in (ThresholdRouter(0.8), FixedPath("linear"), AutoRouter(0.1, cv=2)):
        model = RoutedClassifier(bank(), router).fit(X, Y)
        assert {"stump alone", "linear alone"} <= set(model.summary().index)


def test_a_curve_of_other_costs_is_not_shown() -> None:
    model = RoutedClassifier(bank(), ThresholdRouter(0.8)).fit(X, Y)
    model.set_params(bank__step_costs=[2.0, 5.0])
    for call in (model.summary, lambda: model.cv_curve_, lambda: model.at_accuracy(0.5)):
        with pytest.raises(ValueError, match="costs of the paths have changed since this curve"):
            call()
    assert "router_" in dir(model) and not hasattr(model, "cv_curve_")  # dir() may ask for all
    told = model.summary(X, Y)["cost"]
    assert told["linear alone"] == 5.0
    assert told["routed"] == pytest.approx(model.predict_cost(X).mean())
    own = RoutedClassifier(bank()).fit(X, Y).set_params(bank__step_costs=[2.0, 5.0])
    assert own.cv_curve_.tree.costs == (2.0, 7.0)
    named = own.set_params(bank__cost_unit="$").route(X[:2]).to_frame()
    assert named.attrs["cost_unit"] == "$" and "cost ($)" in own.summary()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((LogisticRegression(),), "bank must be a MultiPathClassifierBank, got LogisticRegression"),
        (([("a", LogisticRegression())],), "bank must be a MultiPathClassifierBank, got list"),
        ((None, LogisticRegression()), "router must be a router .* got LogisticRegression"),
        ((None, "paper"), "router must be a router .* got str"),
        ((None, ThresholdRouter), "router must be a router .* got the class ThresholdRouter"),
    ],
)
def test_other_parts_are_told(parts: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        RoutedClassifier(*parts).fit(X, Y)


def test_the_summary_is_of_the_point_in_use_or_says_that_it_cannot_be() -> None:
    model = RoutedClassifier(bank(), ThresholdRouter(0.8123)).fit(X, Y)
    assert model.summary().loc["routed", "threshold"] == 0.8123
    model.set_params(router__threshold=0.4567)
    assert "routed" not in model.summary().index and model.verdict_ == ""
    assert model.reason_.startswith("the curve that was measured in fit has no point at the thre")
    told = model.summary(X, Y).loc["routed"]
    assert told["threshold"] == 0.4567
    assert told["cost"] == pytest.approx(model.predict_cost(X).mean())
    assert told["accuracy"] == pytest.approx((model.predict(X) == Y).mean())


@pytest.mark.parametrize(
    "rows", [X, FRAME, X.tolist(), csr_matrix(X)], ids=["array", "frame", "lists", "sparse"]
)
def test_a_router_that_learns_from_the_classifiers_own_rows_is_warned(rows: Any) -> None:
    plain = make_pipeline(bank(), ThresholdRouter(0.7))
    with pytest.warns(
        UserWarning, match="classifiers of this table were fitted on these very rows"
    ):
        plain.fit(rows, NAMES)
    with pytest.warns(UserWarning, match="fitted on these very rows"):
        TunedCostAwareRouterCV(default_router(), price=0.1, cv=2).fit(
            plain[0].transform(rows), NAMES
        )


def test_other_rows_and_frozen_classifiers_are_no_leak() -> None:
    half = bank().fit(X[:150], NAMES[:150])
    ThresholdRouter(0.7).fit(half.transform(X[150:]), NAMES[150:])
    ThresholdRouter(0.7).fit(half.transform(X), NAMES)  # other rows among them
    frozen = [(name, FrozenEstimator(model)) for name, model in half.classifiers_]
    ready = MultiPathClassifierBank(frozen, step_costs=[1, 2])
    make_pipeline(ready, ThresholdRouter(0.7)).fit(X[:150], NAMES[:150])


@pytest.mark.parametrize("path", [None, 0, "linear"])
def test_a_fixed_path_is_judged_at_the_path_it_takes(path: Any) -> None:
    bank = MultiPathClassifierBank(
        [("tree", DecisionTreeClassifier()), ("linear", LogisticRegression())], step_costs=[1, 9]
    )
    told = RoutedClassifier(bank, FixedPath(path)).fit(X, NAMES)
    assert told.verdict_
    assert told.summary()["path"]["routed"] == told.router_.path_index_


def test_an_oracle_is_refused_before_the_bank_is_fitted() -> None:
    bank = MultiPathClassifierBank([("tree", DecisionTreeClassifier())], step_costs=[1])
    with pytest.raises(TypeError, match="OracleRouter chooses by the labels"):
        RoutedClassifier(bank, OracleRouter()).fit(X, NAMES)
