"""Snapshots: what a router does now, for ever, from any thread, one row or many."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from skquee import (
    AutoRouter,
    BudgetRouter,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
    RiskControlledRouter,
    TunedCostAwareRouterCV,
)
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
from skquee.policy import OptionValue, Pessimistic
from skquee.testing import TableNetwork, make_path_probabilities

TREES = {
    "levels": PathTree.from_levels(3, (4, 8)),
    "chain": PathTree.chain([1, 2, 4]),
    "cascade": PathTree.cascade([1, 3, 9]),
}
NETWORK = PathErrorRegressor(schedule="constant", max_epochs=10, batch_size=64)
ERRORS = {"targets": "bernoulli", "regressor": "logistic", "features": "rich", "random_state": 0}
ROUTERS: dict[str, Any] = {
    "paper": CostAwareRouter(0.1, regressor=NETWORK, random_state=0),
    "rich network": CostAwareRouter(
        0.1, regressor=PathErrorRegressor(**NETWORK.get_params() | {"features": "rich"})
    ),
    "logistic": CostAwareRouter(0.1, **ERRORS),
    "logistic, paper": CostAwareRouter(0.1, **ERRORS | {"features": "paper"}),
    "recall": CostAwareRouter(0.1, **ERRORS, answer="recall"),
    "ensemble": CostAwareRouter(0.1, **ERRORS, answer="ensemble"),
    "option value": CostAwareRouter(0.1, **ERRORS, policy=OptionValue(0.2)),
    "pessimistic": CostAwareRouter(0.1, **ERRORS, policy=Pessimistic(0.05)),
    "closed loop": CostAwareRouter(0.1, **ERRORS, policy="closed-loop"),
    "boosting": CostAwareRouter(0.1, **ERRORS | {"regressor": "boosting"}),
    "free": CostAwareRouter(0.1, **ERRORS, first="free"),
    "threshold": ThresholdRouter(0.7),
    "entropy": ThresholdRouter(0.8, measure="entropy"),
    "margin": ThresholdRouter(0.3, measure="margin"),
    "budgeted": BudgetedThresholdRouter(),
    "patience": PatienceRouter(),
    "fixed": FixedPath(),
}


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[PathProbabilities, Any]]:
    return {name: make_path_probabilities(400, tree) for name, tree in TREES.items()}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("name", ROUTERS)
def test_a_snapshot_decides_as_its_router_for_many_rows_and_for_one(
    tables: Any, name: str, tree: str
) -> None:
    table, y = tables[tree]
    router = ROUTERS[name].fit(table, y)
    server, routes = router.freeze(), router.route(table)
    assert np.array_equal(server.predict(table), routes.labels)
    assert np.array_equal(server.predict_path(table), routes.paths)
    assert np.array_equal(server.predict_cost(table), routes.costs)
    values = np.asarray(table)
    for row in range(0, 400, 7):
        for one in (table[row : row + 1], values[row : row + 1], table[[row]]):
            assert server.predict_path(one).tolist() == [routes.paths[row]]
            assert server.predict(one).tolist() == [routes.labels[row]]
            np.testing.assert_allclose(
                server.predict_proba(one), routes.probabilities[[row]], rtol=1e-6, atol=1e-9
            )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 12), lambda_=st.floats(0, 3))
def test_one_row_on_plain_numbers_is_the_row_among_others(
    seed: int, n_classes: int, lambda_: float
) -> None:
    table, y = make_path_probabilities(60, TREES["levels"], n_classes, random_state=seed)
    for options in ({}, {"answer": "recall"}, {"answer": "ensemble"}):
        router = CostAwareRouter(lambda_, **ERRORS, **options).fit(table, y)
        server, routes = router.freeze(), router.route(table)
        found = [server.predict_path(table[row : row + 1])[0] for row in range(60)]
        assert found == routes.paths.tolist()


@pytest.mark.parametrize("name", ["paper", "logistic, paper", "recall", "threshold"])
def test_one_row_takes_no_arrays_where_it_can(tables: Any, name: str) -> None:
    assert ROUTERS[name].fit(*tables["levels"]).decider().one() is not None


def test_nothing_that_happens_to_the_router_reaches_a_snapshot(tables: Any) -> None:
    table, y = tables["levels"]
    router = CostAwareRouter(0.1, **ERRORS, answer="recall").fit(table, y)
    server = router.freeze()
    before, one = server.predict_path(table), server.predict_proba(table[:1])
    router.set_params(lambda_=50.0, policy=OptionValue(0.9))
    other, labels = make_path_probabilities(200, TREES["levels"], random_state=9)
    router.fit(other, labels)
    assert not np.array_equal(router.predict_path(table), before)
    assert np.array_equal(server.predict_path(table), before)
    assert np.array_equal(server.predict_proba(table[:1]), one)
    with pytest.raises(AttributeError, match="immutable"):
        server.lambda_ = 3  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="immutable"):
        server._decider = None  # type: ignore[misc]


def test_threads_share_a_snapshot_and_each_may_have_its_own(tables: Any) -> None:
    table, y = tables["levels"]
    router = CostAwareRouter(**ERRORS, answer="recall").fit(table, y)
    lambdas = np.geomspace(0.01, 2, 8).tolist()
    expected = [router.set_params(lambda_=value).predict_path(table) for value in lambdas]
    servers = [router.set_params(lambda_=value).freeze() for value in lambdas]

    def serve(place: int) -> list[int]:
        server = servers[place % 8]
        return [int(server.predict_path(table[row : row + 1])[0]) for row in range(60)]

    with ThreadPoolExecutor(8) as pool:
        for place, found in enumerate(pool.map(serve, range(16))):
            assert found == expected[place % 8][:60].tolist()


@pytest.mark.parametrize("name", ["recall", "threshold", "closed loop", "free"])
def test_predicting_writes_nothing_to_a_router(tables: Any, name: str) -> None:
    table, y = tables["cascade"]
    router = ROUTERS[name].fit(table, y)
    held = BudgetRouter(router, router.predict_cost(table).mean()).fit(table)
    for fitted in (router, held):
        before = {key: id(value) for key, value in vars(fitted).items()}
        fitted.predict(table)
        fitted.route(table[:3])
        fitted.freeze().predict(table[:1])
        assert {key: id(value) for key, value in vars(fitted).items()} == before


def test_routers_that_wrap_a_router_freeze_too(tables: Any) -> None:
    table, y = tables["levels"]
    inner = CostAwareRouter(0.1, **ERRORS).fit(table, y)
    wrapped = [
        TunedCostAwareRouterCV(inner, price=0.2, cv="prefit").fit(table, y),
        RiskControlledRouter(inner, max_error_increase=0.2).fit(table, y),
        BudgetRouter(inner, 0.7, random_state=0).fit(table),
        BudgetRouter(inner, max_cost_per_sample=0.8).fit(table),
        AutoRouter(0.3, candidates={"threshold": ThresholdRouter()}, random_state=0).fit(table, y),
        NextStepRouter(0.1, regressor=NETWORK, random_state=0).fit(table, y),
        RandomMixing(0.7).fit(table, y),
        JEIDNN(lambda_=0.2, max_epochs=2, random_state=0).fit(table, y),
        DQNetGate(target_bits=5, max_epochs=2, random_state=0).fit(table, y),
    ]
    for router in wrapped:
        server = router.freeze()
        assert np.array_equal(server.predict_path(table), router.predict_path(table))
        one = table[5:6]
        assert np.array_equal(server.predict_path(one), router.predict_path(one))


def test_a_snapshot_travels_and_reads_a_live_network(tables: Any) -> None:
    table, y = tables["levels"]
    bank = MultiPathClassifierBank(TableNetwork(table))
    router = CostAwareRouter(0.1, **ERRORS).fit(table, y)
    server = pickle.loads(pickle.dumps(router.freeze()))
    lazy = bank.transform(np.arange(400)[:, None])
    assert np.array_equal(server.predict_path(lazy), router.predict_path(lazy))
    assert server.predict_path(lazy[7:8]).tolist() == [router.predict_path(lazy)[7]]
    assert server.classes_.tolist() == router.classes_.tolist()
    assert server.paths_.same_structure(table.paths)


def test_bad_input_is_refused(tables: Any) -> None:
    table, y = tables["levels"]
    with pytest.raises(NotFittedError):
        CostAwareRouter().freeze()
    with pytest.raises(TypeError, match="does not decide gate by gate"):
        OracleRouter().fit(table, y).freeze()
    server = CostAwareRouter(0.1, **ERRORS).fit(table, y).freeze()
    other, _ = tables["chain"]
    with pytest.raises(ValueError, match="Transform X with the bank used in fit"):
        server.predict(other)
    broken = np.asarray(table)[:1].copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN for row 0, path '8'"):
        server.predict(broken)
    with pytest.raises(ValueError, match="softmax"):
        server.predict(np.full_like(broken, 3.0))
