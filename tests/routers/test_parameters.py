"""Parameters of routers and gates: refused before fit, remembered after it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from skquee import (
    AutoRouter,
    BudgetRouter,
    ClusteredErrorTargets,
    CostAwareRouter,
    PathErrorRegressor,
    PathTree,
    RiskControlledRouter,
    TunedCostAwareRouterCV,
)
from skquee.answers import RecallAnswer
from skquee.baselines import (
    JEIDNN,
    BudgetedThresholdRouter,
    DQNetGate,
    FixedPath,
    NextStepRouter,
    OracleRouter,
    PatienceRouter,
    RandomMixing,
    ThresholdRouter,
)
from skquee.gates import PathErrorClassifier, entropy
from skquee.policy import ClosedLoop, OptionValue, Pessimistic, open_loop
from skquee.testing import make_path_probabilities

TABLE, Y = make_path_probabilities(120)
WRONG = np.asarray(TABLE).argmax(axis=2) != Y[:, None]
TREES = PathErrorRegressor(DecisionTreeRegressor(max_depth=2, random_state=0))


def quick(**options: Any) -> CostAwareRouter:
    return CostAwareRouter(
        **{"targets": "bernoulli", "regressor": "logistic", "random_state": 0, **options}
    )


def fits(router: Any, **options: Any) -> Any:
    return lambda: router.set_params(**options).fit(TABLE, Y)


def named(value: Any) -> str:
    return value[:50] if isinstance(value, str) else "call"


# ---------------------------------------------------------------------- before fit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (fits(quick(), lambda_=True), "lambda_ must be a finite number >= 0, got True"),
        (fits(quick(), lambda_="a"), "lambda_ must be a finite number >= 0, got 'a'"),
        (fits(quick(), cross_fit=1.5), "cross_fit must be an integer >= 1, got 1.5"),
        (fits(quick(), validation_fraction=0.999), "Holding out 0.999 of 120 rows leaves none"),
        (fits(quick(), validation_fraction="a"), "validation_fraction must be a finite number"),
        (fits(quick(), random_state=-1), "random_state must be None, an integer from 0"),
        (fits(quick(), n_jobs=0), "n_jobs must be None or an integer other than 0"),
        (fits(quick(), n_jobs="a"), "n_jobs must be None or an integer other than 0"),
        (fits(quick(), targets=3), "targets must be None, one of"),
        (fits(quick(), targets="a"), "targets must be one of"),
        (fits(quick(), first="x"), r"first must be one of \['planned', 'free', 'highest'\]"),
        (fits(quick(), features="poor"), r"features must be one of \['paper', 'rich'\]"),
        (fits(quick(), regressor="x"), "estimator must be 'logistic', 'boosting' or"),
        (fits(quick(), regressor=PathErrorClassifier), "must be an instance, got the class"),
        (fits(quick(), answer="x"), "answer must be one of"),
        (lambda: quick().fit(TABLE, np.where(Y == 0, np.nan, Y)), "y must hold a label .* row 0"),
        (lambda: quick().fit(TABLE, [None, *Y[1:]]), "y must hold a label .* row 0 has None"),
        (
            lambda: quick().fit(TABLE, np.array(["a", *Y[1:]], dtype=object)),
            "y must be all texts or all numbers, got int64 and str",
        ),
        (lambda: quick().fit(TABLE, Y).cost_curve(sample_weight=np.ones(9)), "weighs the rows X"),
        (fits(TunedCostAwareRouterCV(quick()), price=0.1, cv=1), "cv must be an integer >= 2"),
        (fits(TunedCostAwareRouterCV(quick()), price=0.1, cv=500), "cv=500 folds need at least"),
        (fits(TunedCostAwareRouterCV(quick()), price="a"), "price must be a finite number >= 0"),
        (fits(TunedCostAwareRouterCV(quick()), price=1, lambdas=["a"]), "lambdas must hold"),
        (fits(AutoRouter(), cv=1), "cv must be an integer >= 2, got 1"),
        (fits(AutoRouter(), candidates=[quick()]), "candidates must map names to routers"),
        (lambda: AutoRouter().fit(TABLE[:6], Y[:6]), "cv=3 folds need at least .* any class"),
        (fits(BudgetRouter(quick().fit(TABLE, Y)), budget="a"), "budget must be a finite number"),
        (fits(ThresholdRouter(), threshold="a"), "threshold must hold numbers, got 'a'"),
        (fits(ThresholdRouter(), along=1.5), "must be an integer, got 1.5"),
        (fits(ThresholdRouter(), measure=3), "measure must be one of"),
        (fits(BudgetedThresholdRouter(), ratio="a"), "ratio must be a finite number > 0"),
        (fits(PatienceRouter(), patience=2.7), "patience must be an integer >= 1, got 2.7"),
        (fits(FixedPath(), path=1.7), "path must be an integer, got 1.7"),
        (lambda: FixedPath().fit(TABLE, Y).cost_curve([0.5], TABLE, Y), "got 0.5"),
        (lambda: FixedPath().fit(TABLE, Y).cost_curve([np.inf], TABLE, Y), "got inf"),
        (fits(RandomMixing(), max_cost="a"), "max_cost must be a finite number"),
        (fits(OracleRouter(), lambda_="a"), "lambda_ must be a finite number >= 0"),
        (fits(NextStepRouter(), lambdas=["a"]), "lambda_ and lambdas must hold finite numbers"),
        (fits(NextStepRouter(), cross_fit=1.5), "cross_fit must be an integer >= 1"),
        (fits(JEIDNN(), learning_rate=np.nan), "learning_rate must be a finite number > 0"),
        (fits(JEIDNN(), batch_size="a"), "batch_size must be an integer >= 1"),
        (fits(DQNetGate(), dropout=1), "dropout must be a finite number >= 0 and < 1"),
        (fits(DQNetGate(), max_epochs=2.5), "max_epochs must be an integer >= 1"),
        (fits(ClusteredErrorTargets(), n_clusters=2.5), "n_clusters must be an integer >= 1"),
        (fits(ClusteredErrorTargets(), max_samples="a"), "max_samples must be an integer >= 1"),
        (fits(ClusteredErrorTargets(), n_jobs=0), "n_jobs must be None or"),
    ],
    ids=named,
)
def test_a_parameter_that_cannot_be_used_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": "a"}, "learning_rate must be a finite number > 0, got 'a'"),
        ({"learning_rate": -1}, "learning_rate must be a finite number > 0, got -1"),
        ({"learning_rate": np.nan}, "learning_rate must be a finite number > 0, got nan"),
        ({"weight_decay": -1}, "weight_decay must be a finite number >= 0"),
        ({"batch_size": "a"}, "batch_size must be an integer >= 1"),
        ({"random_state": -1}, "random_state must be None"),
        ({"features": "poor"}, "features must be one of"),
    ],
)
def test_parameters_of_gates_are_checked(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathErrorRegressor(**options).fit(TABLE, WRONG)
    if set(options) <= {"random_state", "features"}:
        with pytest.raises(ValueError, match=message):
            PathErrorClassifier(**options).fit(TABLE, WRONG)


def test_negative_weights_of_gates_are_refused() -> None:
    with pytest.raises(ValueError, match="sample_weight must be finite and not negative"):
        TREES.fit(TABLE, WRONG, sample_weight=-np.ones(120))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: open_loop([0.1, 0.2], [1, 2], 0.1), r"got \(2,\) and \(2,\)"),
        (lambda: open_loop([[0.1, 0.2]], [1], 0.1), r"got \(1, 2\) and \(1,\)"),
        (lambda: open_loop([[0.1, np.nan]], [1, 2], 0.1), "of sample 0 is NaN"),
        (lambda: open_loop([[0.1, 0.2]], [1, np.nan], 0.1), "of sample 0 is NaN"),
        (lambda: open_loop([[0.1, 0.2]], [[1, np.nan]], 0.1), "of sample 0 is NaN"),
        (lambda: entropy(np.array([[-0.5, 1.5]])), "must not be negative or NaN, got -0.5"),
        (lambda: entropy(np.array([[np.nan, 1.5]])), "must not be negative or NaN, got nan"),
        (lambda: OptionValue("a").fit({}, WRONG, TABLE.paths), "k must be a finite number"),
        (lambda: Pessimistic("a").fit({}, WRONG, TABLE.paths), "margin must be a finite"),
        (lambda: ClosedLoop(2.5).fit({}, WRONG, TABLE.paths), "n_lambdas must be an integer"),
    ],
    ids=named,
)
def test_rules_refuse_what_they_cannot_weigh(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda n: np.full(n, 99), "integers from 0 to .*, got positions from 99 to 99"),
        (lambda n: np.full(n, -1), "got positions from -1 to -1"),
        (lambda n: np.zeros(n), "got float64 of shape"),
        (lambda n: None, "got object of shape"),
        (lambda n: np.zeros(n + 1, dtype=int), "got int64 of shape"),
    ],
)
def test_a_policy_of_ones_own_must_aim_at_candidates(returned: Any, message: str) -> None:
    def mine(errors: Any, costs: Any, lambda_: float) -> Any:
        return returned(len(errors))

    router = quick(policy=mine).fit(TABLE, Y)
    with pytest.raises(ValueError, match=f"policy mine must return the position .*{message}"):
        router.predict(TABLE)


# ---------------------------------------------------------------------- parts own their options


def test_features_build_a_regressor_and_change_none() -> None:
    for own in (PathErrorClassifier(features="paper"), TREES):
        with pytest.raises(ValueError, match=r"features='rich' builds a .* features='paper' of"):
            quick(regressor=own, features="rich").fit(TABLE, Y)
        assert quick(regressor=own, features="paper").fit(TABLE, Y).regressor_.features == "paper"
        assert quick(regressor=own).fit(TABLE, Y).regressor_.features == "paper"
    assert quick().fit(TABLE, Y).regressor_.features == PathErrorClassifier().features == "rich"
    assert quick(features="paper").fit(TABLE, Y).regressor_.features == "paper"
    tree = PathErrorRegressor(DecisionTreeRegressor(max_depth=2), features="rich")
    assert quick(regressor=tree).fit(TABLE, Y).regressor_.features == "rich"


def test_the_papers_router_sees_what_the_paper_says() -> None:
    assert CostAwareRouter()._part("regressor", 0).features == "paper"


def test_context_that_no_gate_reads_warns() -> None:
    told = TABLE.with_context(np.arange(120.0))
    with pytest.warns(UserWarning, match="1 context features, which PathErrorRegressor.*does not"):
        quick(regressor=TREES).fit(told, Y)
    quick().fit(told, Y)  # warnings are errors here
    quick(regressor=TREES).fit(told.with_context(None), Y)


# ---------------------------------------------------------------------- after fit


@pytest.mark.parametrize(
    ("router", "name", "value"),
    [
        (quick(), "features", "paper"),
        (quick(), "answer", "ensemble"),
        (quick(), "classes", ["a", "b", "c", "d"]),
        (quick(), "targets", "mixed"),
        (quick(), "regressor", "boosting"),
        (quick(), "first", "free"),
        (quick(), "cross_fit", 3),
        (quick(regressor=PathErrorClassifier()), "regressor__features", "paper"),
        (quick(regressor=clone(TREES)), "regressor__estimator__max_depth", 3),
        (quick(regressor=LogisticRegression()), "regressor__C", 3.0),
        (quick(answer=RecallAnswer()), "answer__estimator", "boosting"),
        (quick(targets=ClusteredErrorTargets(4, n_init=1)), "targets__n_clusters", 5),
        (BudgetedThresholdRouter(), "measure", "margin"),
        (BudgetedThresholdRouter(), "along", 0),
        (NextStepRouter(targets=ClusteredErrorTargets(4), regressor=TREES), "cross_fit", 3),
        (TunedCostAwareRouterCV(quick(), price=0.3, cv=2), "price", 0.4),
        (TunedCostAwareRouterCV(quick(), price=0.3, cv=2), "router__lambda_", 0.4),
        (AutoRouter(candidates={"fixed": FixedPath()}), "cv", 2),
        (ThresholdRouter(), "classes", ["a", "b", "c", "d"]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_fit_alone_reads_asks_for_a_fit_where_it_is_set_after_it(
    router: Any, name: str, value: Any
) -> None:
    fitted = clone(router).fit(TABLE, Y)
    before = fitted.get_params()[name]
    paths = fitted.predict_path(TABLE)
    fitted.set_params(**{name: value})
    for use in (fitted.predict, fitted.predict_cost, lambda X: fitted.cost_curve(None, X, Y)):
        with pytest.raises(ValueError, match=f"{name}=.* was set after fit.*call fit again"):
            use(TABLE)
    with pytest.raises(ValueError, match="was set after fit"):
        fitted.decider()
    fitted.set_params(**{name: before})
    assert np.array_equal(fitted.predict_path(TABLE), paths), "set back, it is as fitted"


def test_parameters_of_estimators_in_lists_and_dicts_are_remembered() -> None:
    auto = AutoRouter(candidates={"fixed": FixedPath(), "other": ThresholdRouter(0.9)})
    auto.fit(TABLE, Y).candidates["other"].threshold = 0.8
    with pytest.raises(ValueError, match=r"candidates\['other'\]__threshold=0.8 was set after fit"):
        auto.predict(TABLE)
    pipe = make_pipeline(StandardScaler(), LogisticRegression(C=2.0))
    router = quick(regressor=pipe).fit(TABLE, Y)
    with pytest.raises(ValueError, match="regressor__logisticregression__C=3.0 was set after fit"):
        router.set_params(regressor__logisticregression__C=3.0).predict(TABLE)
    assert len(router.set_params(regressor__logisticregression__C=2.0).predict(TABLE)) == 120


def test_limits_and_budgets_are_remembered_too() -> None:
    router = ThresholdRouter().fit(TABLE, Y)
    risk = RiskControlledRouter(router, max_error=0.9).fit(TABLE, Y)
    with pytest.raises(ValueError, match="max_error=0.8 was set after fit"):
        risk.set_params(max_error=0.8).predict(TABLE)
    budget = BudgetRouter(router, 0.6, max_cost_per_sample=0.9).fit(TABLE)
    with pytest.raises(ValueError, match="max_cost_per_sample=0.8 was set after fit"):
        budget.set_params(max_cost_per_sample=0.8).predict(TABLE)


def test_what_prediction_reads_is_set_at_any_time() -> None:
    router = quick(policy="option-value", first="free").fit(TABLE, Y)
    for params in (
        {"lambda_": 0.3},
        {"policy": "open-loop"},
        {"first": "highest"},
        {"path_costs": TABLE.paths.path_costs * 2},
        {"n_jobs": 2, "random_state": 3},
    ):
        assert len(router.set_params(**params).predict(TABLE)) == 120


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_copy_is_as_fitted(way: Any) -> None:
    router = quick(
        regressor=clone(TREES), classes=np.arange(4), answer=RecallAnswer(LogisticRegression())
    ).fit(TABLE, Y)
    again = way(router)
    assert np.array_equal(again.predict(TABLE), router.predict(TABLE))
    with pytest.raises(ValueError, match="answer__estimator__C=3.0 was set after fit"):
        again.set_params(answer=RecallAnswer(LogisticRegression(C=3.0))).predict(TABLE)


def test_another_part_with_the_same_parameters_is_the_same() -> None:
    router = quick(regressor=PathErrorClassifier()).fit(TABLE, Y)
    assert len(router.set_params(regressor=PathErrorClassifier()).predict(TABLE)) == 120
    assert len(router.set_params(regressor=clone(router.regressor)).predict(TABLE)) == 120


def test_another_tree_set_after_fit_is_named() -> None:
    router = quick(lambda_=0, paths=TABLE.paths).fit(np.asarray(TABLE), Y)
    router.set_params(paths=TABLE.paths.with_costs(TABLE.paths.path_costs * 3))
    assert router.predict_cost(TABLE).max() > 1
    router.set_params(paths=PathTree.chain(np.ones(6)))
    with pytest.raises(ValueError, match="was set after fit, which knew PathTree"):
        router.predict(np.asarray(TABLE))
