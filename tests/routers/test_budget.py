"""Budgets: a mean cost, a cap for every sample, a bound on costly samples, several costs."""

from __future__ import annotations

import pickle
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.tree import DecisionTreeRegressor

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
from skquee.baselines import NextStepRouter, OracleRouter, PatienceRouter, ThresholdRouter
from skquee.persistence import dump, load
from skquee.routers._budget import BudgetRouter
from skquee.routers._costs import combine_costs
from skquee.routers._mixing import bracket, points_within_bound
from skquee.testing import TableNetwork, make_path_probabilities
from skquee.walk._decider import takes_dearer

TREE = PathTree.from_levels(n_exits=3, levels=(6, 8), first="free")
TABLE, Y = make_path_probabilities(13000, TREE)
TRAIN, REST = np.arange(1000), np.arange(1000, 13000)
BUDGETS = [0.4, 0.5, 0.6, 0.7, 0.76]
SHORT = TABLE[1000:3000]
# Labels come in turn, which a share of a half would draw in step with.
MIXED_UP = SHORT[np.random.default_rng(0).permutation(2000)]


def quick(**options: Any) -> CostAwareRouter:
    return CostAwareRouter(
        targets=ClusteredErrorTargets(n_clusters=6, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=15, random_state=0)),
        random_state=0,
        **options,
    )


ROUTER = quick(validation_fraction=0.2).fit(TABLE[TRAIN], Y[TRAIN])
CONFIDENT = ThresholdRouter().fit(TABLE[TRAIN], Y[TRAIN])
BOTH = pytest.mark.parametrize("router", [ROUTER, CONFIDENT], ids=["QuEE", "threshold"])


def _at(knob: float) -> Any:
    return copy(ROUTER).set_params(lambda_=knob)


def _chance(held: BudgetRouter, rows: PathProbabilities, **cap: float) -> float:
    """Four standard errors of the mean cost of a drawn mixture, and one row's share of it."""
    router = held.router_
    low, high = (
        BudgetRouter(copy(router).set_params(**{router.knob.name: knob}), **cap).fit(rows)
        if cap
        else copy(router).set_params(**{router.knob.name: knob})
        for knob in (held.low_, held.high_)
    )
    more = high.predict_cost(rows) - low.predict_cost(rows)
    error = np.sqrt(held.share_ * (1 - held.share_) / len(rows)) * more.std()
    return float(4 * error + np.abs(more).max() / len(rows))


@BOTH
def test_the_realised_mean_cost_is_the_budget(router: Any) -> None:
    rng = np.random.default_rng(0)
    off = []
    for _ in range(4):
        rows = rng.permutation(REST)
        ours, others = TABLE[rows[:6000]], TABLE[rows[6000:]]
        held = BudgetRouter(router, BUDGETS[0], random_state=0).fit(ours)
        for budget in BUDGETS:
            held.set_params(budget=budget)
            assert held.expected_cost_ == pytest.approx(budget, abs=1e-12)
            chance = _chance(held, ours)
            assert held.predict_cost(ours).mean() == pytest.approx(budget, abs=chance)
            off.append(held.predict_cost(others).mean() / budget - 1)
    assert np.abs(off).max() <= 0.02
    assert np.abs(off).mean() <= 0.01
    assert abs(np.mean(off)) <= 0.01


def test_the_two_points_are_close_neighbours() -> None:
    held = BudgetRouter(ROUTER, 0.55, lambdas=[0.0, 0.1, 1.0, 10.0], random_state=0).fit(SHORT)
    costs = [
        ROUTER.cost_curve([knob], SHORT, Y[1000:3000]).cost[0] for knob in (held.low_, held.high_)
    ]
    assert costs[0] <= 0.55 <= costs[1]
    assert costs[1] - costs[0] < 0.01 or held.low_ - held.high_ < 1e-3, "close, or at a jump"
    assert held.share_ == pytest.approx((0.55 - costs[0]) / (costs[1] - costs[0]))
    assert 0.1 < held.high_ <= held.low_ < 1.0, "found between the points of the grid"


def test_labels_pick_the_pair_of_greatest_accuracy() -> None:
    labels = Y[1000:3000]
    held = BudgetRouter(ROUTER, 0.55).fit(SHORT, labels)
    curve = ROUTER.cost_curve(None, SHORT, labels)
    mixed = np.interp([0.55], curve.cost[::-1], curve.accuracy[::-1])[0]
    ends = ROUTER.cost_curve([held.low_, held.high_], SHORT, labels)
    found = (1 - held.share_) * ends.accuracy[0] + held.share_ * ends.accuracy[1]
    assert found >= max(mixed, curve.accuracy_at(0.55)) - 1e-9
    assert held.expected_cost_ == pytest.approx(0.55)


@given(
    costs=st.lists(st.floats(0, 1), min_size=2, max_size=12),
    place=st.floats(0, 1),
    seed=st.none() | st.integers(0, 99),
)
@settings(deadline=None)
def test_a_mixture_costs_the_budget_whatever_the_curve(
    costs: list[float], place: float, seed: int | None
) -> None:
    budget = min(costs) + place * (max(costs) - min(costs))
    accuracy = None if seed is None else np.random.default_rng(seed).random(len(costs))
    low, high, share = bracket(costs, budget, accuracy)
    assert 0 <= share <= 1
    assert costs[low] <= costs[high]
    assert (1 - share) * costs[low] + share * costs[high] == pytest.approx(budget, abs=1e-9)
    if accuracy is not None:
        best = max(
            (1 - s) * accuracy[i] + s * accuracy[j]
            for i in range(len(costs))
            for j in range(len(costs))
            if costs[i] <= budget <= costs[j]
            for s in [(budget - costs[i]) / (costs[j] - costs[i]) if costs[j] > costs[i] else 0]
        )
        mixed = (1 - share) * accuracy[low] + share * accuracy[high]
        assert mixed == pytest.approx(best, abs=1e-6)


@given(share=st.floats(0, 1), start=st.floats(0, 1, exclude_max=True), first=st.integers(0, 10**6))
def test_any_run_of_rows_holds_the_share_to_one_row(share: float, start: float, first: int) -> None:
    taken = takes_dearer(np.arange(first, first + 500), share, start)
    assert abs(taken.sum() - 500 * share) <= 1 + 1e-6
    assert abs(taken[100:107].sum() - 7 * share) <= 1 + 1e-6


def test_every_row_is_drawn_as_often_as_the_share_says() -> None:
    starts = np.random.default_rng(0).random(4000)
    often = np.mean([takes_dearer(np.arange(5), 0.3, start) for start in starts], axis=0)
    assert np.abs(often - 0.3).max() < 0.03


def test_a_seed_repeats_the_draw_and_none_draws_anew() -> None:
    seeded = BudgetRouter(ROUTER, 0.6, lambdas=[0.0, 5.0], random_state=3)
    first = seeded.fit(SHORT).route(SHORT)
    again = pickle.loads(pickle.dumps(seeded)).route(SHORT)
    assert first.paths.tobytes() == again.paths.tobytes()
    assert first.probabilities.tobytes() == again.probabilities.tobytes()
    assert np.array_equal(seeded.fit(SHORT).predict_path(SHORT), first.paths)
    fresh = BudgetRouter(ROUTER, 0.6).fit(SHORT)
    assert len({fresh.predict_path(SHORT).tobytes() for _ in range(8)}) > 1


def test_a_walk_of_both_points_equals_two_walks_joined_and_runs_each_block_once() -> None:
    part = TABLE[2000:2200]
    network = TableNetwork(part)
    lazy = MultiPathClassifierBank(network, batch_size=64).transform(np.arange(200)[:, None])
    held = BudgetRouter(ROUTER, 0.55, random_state=0).fit(SHORT)
    routes = held.route(lazy)
    dear = takes_dearer(np.arange(200), held.share_, held._start)
    exact = PathProbabilities(np.asarray(part).astype(np.float32), TREE)
    low, high = (_at(knob).route(exact) for knob in (held.low_, held.high_))
    for name in ("labels", "paths", "costs", "visited", "predicted_errors", "probabilities"):
        wanted = [getattr(r, name) for r in (high, low)]
        mask = dear.reshape(-1, *[1] * (wanted[0].ndim - 1))
        assert np.array_equal(getattr(routes, name), np.where(mask, *wanted), equal_nan=True), name
    needed = int(TREE.depths[routes.paths].sum())
    assert sum(routes.counts.values()) == needed == network.blocks_run


def test_lazy_rows_can_be_measured_too() -> None:
    network = TableNetwork(TABLE[1000:1300])
    lazy = MultiPathClassifierBank(network).transform(np.arange(300)[:, None])
    exact = PathProbabilities(np.asarray(TABLE[1000:1300]).astype(np.float32), TREE)
    options = {"budget": 0.6, "random_state": 0}
    assert (
        BudgetRouter(ROUTER, **options).fit(lazy).reachable_
        == BudgetRouter(ROUTER, **options).fit(exact).reachable_
    )


def test_a_streamed_batch_draws_as_it_does_alone() -> None:
    part = TABLE[2000:2200]
    bank = MultiPathClassifierBank(TableNetwork(part))
    held = BudgetRouter(ROUTER, 0.55, random_state=0).fit(SHORT)
    batches = np.arange(200)[:, None].reshape(20, 10, 1)
    exact = PathProbabilities(np.asarray(part).astype(np.float32), TREE)
    for batch, routes in zip(batches, held.stream(bank, batches), strict=True):
        assert np.array_equal(routes.paths, held.predict_path(exact[batch[:, 0]]))


def test_streamed_rows_keep_the_budget_where_each_batch_draws_anew() -> None:
    part = TABLE[2000:3000]
    bank = MultiPathClassifierBank(TableNetwork(part))
    held = BudgetRouter(ROUTER, 0.55).fit(part)
    batches = np.arange(1000)[:, None].reshape(500, 2, 1)
    spent = np.concatenate([routes.costs for routes in held.stream(bank, batches, group_size=2)])
    assert spent.mean() == pytest.approx(0.55, abs=0.03)


def test_a_curve_over_budgets_is_a_straight_account_of_cost() -> None:
    held = BudgetRouter(ROUTER, 0.6, random_state=0).fit(SHORT)
    curve = held.cost_curve([0.4, 0.5, 0.6, 0.75], SHORT, Y[1000:3000])
    assert curve.knob == "budget"
    assert np.allclose(curve.cost, curve.knobs, rtol=0.01)
    assert (np.diff(curve.accuracy) > -0.02).all()


# ---------------------------------------------------------------------- cap


@BOTH
@pytest.mark.parametrize("cap", [0.34, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("knob", [None, "dear", "cheap"])
def test_no_sample_ever_costs_more_than_the_cap(router: Any, cap: float, knob: str | None) -> None:
    values = {
        "lambda_": {"dear": 0.0, "cheap": 9.0, None: 1.0},
        "threshold": {"dear": 1.1, "cheap": 0.0, None: 0.8},
    }
    name = router.knob.name
    moved = copy(router).set_params(**{name: values[name][knob]})
    held = BudgetRouter(moved, max_cost_per_sample=cap).fit(SHORT)
    routes = held.route(TABLE)
    assert routes.costs.max() <= cap
    assert np.array_equal(routes.costs, TREE.path_costs[routes.paths]), "costs stay true ones"
    ran = routes.visited[routes.visited >= 0]
    assert TREE.path_costs[ran].max() <= cap, "no block beyond the cap was run"
    assert held.expected_cost_ == pytest.approx(held.predict_cost(SHORT).mean())


def test_a_cap_above_everything_changes_nothing() -> None:
    held = BudgetRouter(ROUTER, max_cost_per_sample=1.0).fit(SHORT)
    assert np.array_equal(held.predict_path(TABLE), ROUTER.predict_path(TABLE))


def test_a_capped_router_aims_at_the_best_path_within_the_cap() -> None:
    free = _at(0.0)
    held = BudgetRouter(free, max_cost_per_sample=0.8).fit(SHORT)
    routes, whole = held.route(TABLE[REST]), free.route(TABLE[REST])
    deepest = np.array(
        [max(p for p in TREE.prefixes(q) if TREE.path_costs[p] <= 0.8) for q in range(TREE.n_paths)]
    )[whole.paths]
    cut = np.asarray(TABLE[REST])[np.arange(len(REST)), deepest].argmax(axis=1) == Y[REST]
    assert (routes.labels == Y[REST]).mean() > cut.mean()


def test_a_budget_and_a_cap_hold_together() -> None:
    held = BudgetRouter(ROUTER, 0.5, max_cost_per_sample=0.7, random_state=0).fit(MIXED_UP)
    costs = held.predict_cost(MIXED_UP)
    assert costs.max() <= 0.7
    chance = _chance(held, MIXED_UP, max_cost_per_sample=0.7)
    assert costs.mean() == pytest.approx(0.5, abs=chance)
    assert held.reachable_[1] <= 0.7
    with pytest.raises(ValueError, match=r"budget=0.8 is out of reach.*run from"):
        BudgetRouter(ROUTER, 0.8, max_cost_per_sample=0.7).fit(SHORT)


def test_a_cap_follows_costs_read_at_predict() -> None:
    moved = copy(ROUTER)
    held = BudgetRouter(moved, max_cost_per_sample=0.7).fit(SHORT)
    moved.set_params(path_costs=TREE.path_costs * 2, lambda_=0.0)
    assert held.predict_cost(SHORT).max() <= 0.7


def test_a_cap_nobody_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_cost_per_sample=0.1 is below every path.*from 0.25"):
        BudgetRouter(ROUTER, max_cost_per_sample=0.1).fit(SHORT)
    with pytest.raises(ValueError, match="ThresholdRouter starts with path '8'.*cannot"):
        BudgetRouter(CONFIDENT, max_cost_per_sample=0.3).fit(SHORT)
    assert BudgetRouter(ROUTER, max_cost_per_sample=0.3).fit(SHORT).predict_cost(TABLE).max() < 0.3


# ---------------------------------------------------------------------- costly samples


def test_costly_samples_stay_within_their_probability() -> None:
    alpha, shares = 0.1, []
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows = rng.permutation(REST)[:1200]
        held = BudgetRouter(CONFIDENT, exceed_cost=0.7, exceed_probability=alpha)
        held.set_params(lambdas=np.linspace(0.2, 1.0, 41)).fit(TABLE[rows[:200]])
        shares.append((held.predict_cost(TABLE[rows[200:]]) > 0.7).mean())
    assert np.mean(shares) <= alpha
    assert np.mean(shares) > alpha / 3, "the bound is not idle"


def test_the_bound_takes_the_dearest_point_that_holds_it() -> None:
    grid = np.geomspace(0.01, 5, 40)
    held = BudgetRouter(ROUTER, exceed_cost=0.7, exceed_probability=0.2, lambdas=grid).fit(SHORT)
    curve = ROUTER.cost_curve(grid, SHORT, Y[1000:3000])
    n = len(SHORT)
    rank = int(np.ceil((n + 1) * 0.8)) - 1
    worst = np.maximum.accumulate(curve.sample_costs[::-1], axis=0)[::-1]
    allowed = np.sort(worst, axis=1)[:, rank] <= 0.7
    assert 0 < allowed.sum() < len(grid)
    assert held.reachable_[1] == pytest.approx(curve.cost[allowed].max())
    assert held.low_ == held.high_ == grid[allowed][np.argmax(curve.cost[allowed])]
    both = BudgetRouter(ROUTER, 0.35, exceed_cost=0.7, exceed_probability=0.2, lambdas=grid)
    both.fit(SHORT)
    assert {both.low_, both.high_} <= set(grid[allowed])


def test_a_row_too_dear_at_a_cheap_point_counts_at_every_dearer_one() -> None:
    costs = np.array([[1.0, 1, 1, 1], [9, 1, 1, 1], [1, 9, 1, 1]])
    assert points_within_bound(costs, 2.0, 0.41) == 2
    assert points_within_bound(costs[[0, 2]], 2.0, 0.41) == 2


def test_a_bound_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs at least 999 rows, got 100"):
        BudgetRouter(ROUTER, exceed_cost=0.7, exceed_probability=0.001).fit(SHORT[:100])
    with pytest.raises(ValueError, match=r"No point of the grid keeps Pr\(cost > 0.1\)"):
        BudgetRouter(ROUTER, exceed_cost=0.1, exceed_probability=0.1).fit(SHORT)


# ---------------------------------------------------------------------- which routers and rows


def test_a_clone_of_a_router_at_a_budget_can_be_fitted() -> None:
    held = ROUTER.at_budget(0.6, SHORT, random_state=0)
    again = clone(held).fit(SHORT)
    assert np.array_equal(again.predict_path(SHORT), held.predict_path(SHORT))
    assert clone(held).fit().expected_cost_ == pytest.approx(0.6), "on the rows held out in its fit"


def test_a_classifier_at_a_budget_sums_up_as_before() -> None:
    X, y = np.arange(600)[:, None], Y[:600]
    bank = MultiPathClassifierBank(TableNetwork(TABLE[:600]))
    model = RoutedClassifier(bank, ThresholdRouter(0.7)).fit(X[:400], y[:400])
    held = model.at_budget(0.6, X[:400], random_state=0)
    told = held.summary(X[400:], y[400:])
    alone = model.summary(X[400:], y[400:])
    assert told.index.tolist()[:5] == alone.index.tolist()[:5], "models alone, then the point"
    cost = next(name for name in told if name.startswith("cost"))
    assert told.loc["routed", "budget"] == pytest.approx(0.6)
    assert told.loc["routed", cost] == pytest.approx(held.predict_cost(X[400:]).mean())
    assert told.loc["routed", "accuracy"] == np.mean(held.predict(X[400:]) == y[400:])
    with pytest.raises(TypeError, match="this holds a CostAwareRouter: use cost_curve"):
        ROUTER.at_budget(0.6, SHORT).summary(SHORT, Y[1000:3000])


def test_at_budget_measures_on_rows_held_out_in_fit() -> None:
    held = ROUTER.at_budget(0.6, random_state=0)
    assert held.expected_cost_ == pytest.approx(0.6)
    given = ROUTER.at_budget(0.6, MIXED_UP, random_state=0)
    chance = _chance(given, MIXED_UP)
    assert given.predict_cost(MIXED_UP).mean() == pytest.approx(0.6, abs=chance)
    assert ROUTER.at_budget(max_cost_per_sample=0.7).predict_cost(SHORT).max() <= 0.7
    assert ROUTER.lambda_ == 1.0, "the router stays as it is"
    assert ROUTER.policy == "open-loop"
    none = quick(validation_fraction=0.0).fit(TABLE[TRAIN], Y[TRAIN])
    with pytest.raises(ValueError, match="no held-out rows to measure costs on. Give X"):
        BudgetRouter(none, 0.6).fit()


def test_wrapped_routers_stand_for_the_router_in_them() -> None:
    tuned = TunedCostAwareRouterCV(ROUTER, max_cost=0.6, cv="prefit", lambdas=[0.1, 1.0, 9.0])
    tuned.fit(SHORT, Y[1000:3000])
    plain = BudgetRouter(ROUTER, 0.6, random_state=0).fit(SHORT).predict_path(SHORT)
    for router in (tuned, FrozenEstimator(ROUTER)):
        held = BudgetRouter(router, 0.6, random_state=0).fit(SHORT)
        assert np.array_equal(held.predict_path(SHORT), plain)
    copied = clone(held).fit(SHORT)
    assert np.array_equal(copied.predict_path(SHORT), plain), "a frozen router stays fitted"


def test_routers_trained_for_some_values_only_are_mixed_from_those() -> None:
    part, labels = TABLE[:600], Y[:600]
    gates = PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=30))
    router = NextStepRouter(0.1, lambdas=[0.02, 0.5, 2.0], regressor=gates, random_state=0).fit(
        part, labels
    )
    held = BudgetRouter(router, 0.55, random_state=0).fit(SHORT)
    assert {held.low_, held.high_} <= {0.02, 0.1, 0.5, 2.0}
    assert held.predict_cost(SHORT).mean() == pytest.approx(0.55, rel=0.01)
    patient = PatienceRouter().fit(part, labels)
    budget = BudgetRouter(patient, 0.8, random_state=0).fit(SHORT)
    assert budget.predict_cost(SHORT).mean() == pytest.approx(0.8, rel=0.01)


def test_raw_rows_go_through_the_bank_of_a_routed_classifier() -> None:
    network = TableNetwork(TABLE[:600])
    X = np.arange(600)[:, None]
    gates = quick(validation_fraction=0.0)
    model = RoutedClassifier(MultiPathClassifierBank(network), gates).fit(X[:400], Y[:400])
    held = BudgetRouter(model, 0.6, random_state=0).fit(X[400:])
    assert held.predict_cost(X[400:]).mean() == pytest.approx(0.6, rel=0.02)


def test_a_fitted_budget_survives_a_skops_file(tmp_path: Path) -> None:
    held = BudgetRouter(CONFIDENT, 0.6, max_cost_per_sample=0.9, random_state=0).fit(SHORT)
    dump(held, tmp_path / "held.skops")
    ours = ["skquee.routers._budget.BudgetRouter", "skquee.routers._mixing.OperatingPoints"]
    again = load(tmp_path / "held.skops", trusted=ours)
    assert np.array_equal(again.predict_path(SHORT), held.predict_path(SHORT))


def test_routers_that_do_not_walk_are_refused() -> None:
    with pytest.raises(TypeError, match="OracleRouter cannot be held"):
        BudgetRouter(OracleRouter().fit(TABLE[:200], Y[:200]), 0.5).fit(SHORT)
    with pytest.raises(NotFittedError):
        BudgetRouter(quick(), 0.5).fit(SHORT)
    with pytest.raises(NotFittedError):
        BudgetRouter(ROUTER, 0.5).predict(SHORT)


def test_weights_count_in_the_mean_cost() -> None:
    weights = np.where(np.arange(2000) % 2, 0.0, 2.0)
    weighted = BudgetRouter(ROUTER, 0.6).fit(SHORT, sample_weight=weights)
    half = BudgetRouter(ROUTER, 0.6).fit(SHORT[np.arange(0, 2000, 2)])
    assert weighted.reachable_ == pytest.approx(half.reachable_)
    assert weighted.share_ == pytest.approx(half.share_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to hold"),
        ({"budget": -1.0}, "budget must be a finite number >= 0, got -1.0"),
        ({"budget": np.nan}, "budget must be"),
        ({"budget": 0.1}, r"budget=0.1 is out of reach.*run from 0.25"),
        ({"budget": 3.0}, r"budget=3.0 is out of reach"),
        ({"max_cost_per_sample": np.inf}, "max_cost_per_sample must be"),
        ({"exceed_cost": 0.5}, "together, got 0.5 and None"),
        ({"exceed_probability": 0.5}, "together, got None and 0.5"),
        (
            {"exceed_cost": 0.5, "exceed_probability": 1.0},
            "exceed_probability must be a finite number > 0 and < 1, got 1.0",
        ),
        ({"budget": 0.5, "lambdas": [-1.0]}, "lambdas must be"),
    ],
)
def test_bad_aims_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BudgetRouter(ROUTER, **options).fit(SHORT)


def test_bad_rows_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="Give X"):
        BudgetRouter(ROUTER, 0.6).fit(None, Y)
    with pytest.raises(ValueError, match="inconsistent"):
        BudgetRouter(ROUTER, 0.6).fit(SHORT, Y)
    held = BudgetRouter(ROUTER, 0.6).fit(SHORT)
    with pytest.raises(ValueError, match="out of reach"):
        held.set_params(budget=0.01).predict(SHORT)


# ---------------------------------------------------------------------- several costs


def test_combined_costs_route_by_the_price_of_each() -> None:
    costs = {"ms": TREE.path_costs * 10, "dollars": TREE.path_costs**2}
    total = combine_costs(costs, {"ms": 0.5, "dollars": 2.0})
    assert np.allclose(total, 5 * TREE.path_costs + 2 * TREE.path_costs**2)
    routed = _at(0.2).set_params(path_costs=total).route(SHORT)
    assert np.allclose(routed.costs, total[routed.paths])
    assert np.array_equal(combine_costs(costs, {"ms": 0.0, "dollars": 1.0}), costs["dollars"])


@pytest.mark.parametrize(
    ("costs", "weights", "message"),
    [
        ({}, {}, "costs is empty"),
        ({"ms": [1.0]}, {}, r"weights lacks \['ms'\]"),
        ({"ms": [1.0]}, {"ms": 1, "joules": 1}, r"adds \['joules'\]"),
        ({"ms": [1.0], "usd": [1.0, 2.0]}, {"ms": 1, "usd": 1}, r"lengths \{'ms': 1, 'usd': 2\}"),
        ({"ms": [1.0]}, {"ms": -1}, r"weights\['ms'\] must be a finite number >= 0, got -1"),
        ({"ms": [-1.0]}, {"ms": 1}, r"costs\['ms'\] must be finite and not negative"),
        ({"ms": [[1.0]]}, {"ms": 1}, r"costs\['ms'\] must be a non-empty list"),
    ],
)
def test_costs_that_cannot_be_combined_are_refused(costs: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine_costs(costs, weights)


def test_other_costs_ask_for_the_budget_to_be_measured_again() -> None:
    router = copy(ROUTER)
    held = router.at_budget(0.6, SHORT, random_state=0)
    router.set_params(path_costs=np.array(TREE.costs) * 3)
    with pytest.raises(ValueError, match="costs of the paths have changed"):
        held.predict(SHORT)
    assert router.at_budget(1.8, SHORT, random_state=0).expected_cost_ == pytest.approx(1.8)
