"""AutoRouter: what it tries, what it chooses, and what `lambda_` means afterwards."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from skquee import AutoRouter, CostAwareRouter, PathTree, TunedCostAwareRouterCV
from skquee.auto import default_candidates
from skquee.baselines import FixedPath, ThresholdRouter
from skquee.evaluation._curve import hull_area, hull_points
from skquee.persistence import dump, load
from skquee.policy import ClosedLoop, OptionValue
from skquee.routers.auto._board import Line, near, prefer, survivors
from skquee.routers.auto._judging import (
    FoldCurves,
    held_out,
    ladder,
    paired,
    places_at,
    prices_of,
)
from skquee.routers.auto._search import answer_alike
from skquee.testing import check_router, make_path_probabilities
from skquee.values import PathProbabilities
from skquee.walk._fitted import with_tree

TREE = PathTree.from_levels(n_exits=3, levels=(4, 8))
TABLE, Y = make_path_probabilities(1200, TREE, random_state=3)
FIT, TEST = slice(0, 700), slice(700, 1200)
FAMILY = {"targets": "bernoulli", "regressor": "logistic", "features": "rich", "first": "free"}


def candidates() -> dict[str, Any]:
    return {
        "threshold": ThresholdRouter(),
        "fixed": FixedPath(),
        "logistic": CostAwareRouter(**FAMILY),
        "logistic, option": CostAwareRouter(**FAMILY, policy=OptionValue(0.2)),
        "logistic, closed": CostAwareRouter(**FAMILY, policy=ClosedLoop()),
        "recall": CostAwareRouter(**FAMILY, answer="recall"),
    }


@pytest.fixture(scope="module")
def auto() -> AutoRouter:
    return AutoRouter(0.2, candidates=candidates(), random_state=0).fit(TABLE[FIT], Y[FIT])


def test_the_leaderboard_names_every_candidate_best_first(auto: AutoRouter) -> None:
    board = auto.leaderboard_
    assert set(board.index) == set(candidates())
    assert (board["area"] - board["loss"]).is_monotonic_decreasing and (board["se"] > 0).all()
    assert board.index[0] == auto.best_name_ and (board["failed"] == "").all()
    assert board.loc["fixed", "area"] < board["area"].max()


def test_the_best_ones_equals_are_named(auto: AutoRouter) -> None:
    board = auto.leaderboard_
    behind = (board["loss"] - board["area"]) - (board["loss"] - board["area"]).iloc[0]
    assert auto.near_[0] == auto.best_name_
    assert set(auto.near_) == set(board.index[behind <= 2 * board["behind_se"]])
    lines = [Line("a", 0.9, loss=0.1, behind_se=0, folds=3), Line("b", 0.9, loss=0.1, folds=1)]
    assert near(lines, 1.0) == ["a"], "what was tried on fewer folds is not"


def test_a_preferred_kind_is_taken_where_it_is_near_the_best() -> None:
    lines = [
        Line("a", 0.9, loss=0.1, behind_se=0, folds=3),
        Line("kind, far", 0.9, loss=0.104, behind_se=0.001, folds=3),
        Line("kind, near", 0.9, loss=0.105, behind_se=0.003, folds=3),
        Line("kind, nearer", 0.9, loss=0.106, behind_se=0.004, folds=3),
    ]
    names = [line.name for line in prefer(lines, "kind")]
    assert names == ["kind, near", "a", "kind, far", "kind, nearer"]
    assert prefer(lines, "other") == lines and prefer(lines[:2], "kind") == lines[:2]


def test_candidates_that_share_a_training_are_judged_as_if_alone(auto: AutoRouter) -> None:
    for name in ("logistic, option", "logistic, closed"):
        alone = AutoRouter(candidates={name: candidates()[name]}, random_state=0)
        alone.fit(TABLE[FIT], Y[FIT])
        assert alone.leaderboard_.loc[name, "area"] == auto.leaderboard_.loc[name, "area"]


def test_lambda_picks_a_point_of_least_error_plus_priced_cost(auto: AutoRouter) -> None:
    curve = auto.cv_curve_
    grid = np.geomspace(1e-4, 1e3, 500)
    held = auto.cost_curve(grid)
    best = (1 - curve.accuracy + grid[:, None] * curve.cost).min(axis=1)
    loss = 1 - held.accuracy + grid * held.cost
    assert (loss >= best - 1e-12).all() and (loss - best).max() < 0.02, "between corners"
    assert len(np.unique(held.cost)) > len(curve.hull()[0])
    fixed = AutoRouter(candidates={"fixed": FixedPath()}).fit(TABLE[FIT], Y[FIT])
    curve, held = fixed.cv_curve_, fixed.cost_curve(grid)
    best = (1 - curve.accuracy + grid[:, None] * curve.cost).min(axis=1)
    np.testing.assert_allclose(1 - held.accuracy + grid * held.cost, best)
    costs = [
        auto.set_params(lambda_=price).predict_cost(TABLE[TEST]).mean() for price in (0, 0.3, 9)
    ]
    auto.set_params(lambda_=0.2)
    assert costs[0] >= costs[1] >= costs[2]


@pytest.mark.parametrize("name", list(candidates()))
def test_prediction_equals_the_curve_whatever_was_chosen(name: str) -> None:
    auto = AutoRouter(0.3, candidates={name: candidates()[name]}, random_state=0)
    auto.fit(TABLE[FIT], Y[FIT])
    curve = auto.cost_curve([0.05, 0.3], TABLE[TEST], Y[TEST])
    routes = auto.route(TABLE[TEST])
    np.testing.assert_array_equal(routes.paths, curve.paths[1])
    assert np.mean(routes.labels == Y[TEST]) == pytest.approx(curve.accuracy[1])
    np.testing.assert_array_equal(auto.predict(TABLE[TEST]), routes.labels)


def test_it_does_not_depend_on_n_jobs_and_can_be_cloned(auto: AutoRouter) -> None:
    other = clone(auto).set_params(n_jobs=2).fit(TABLE[FIT], Y[FIT])
    left, right = other.leaderboard_, auto.leaderboard_
    assert left.drop(columns="fit_seconds").equals(right.drop(columns="fit_seconds"))
    np.testing.assert_array_equal(other.predict_path(TABLE[TEST]), auto.predict_path(TABLE[TEST]))


def test_it_is_not_worse_than_its_candidates_on_new_rows(auto: AutoRouter) -> None:
    areas = {}
    for name, candidate in candidates().items():
        fitted = candidate.fit(TABLE[FIT], Y[FIT])
        areas[name] = fitted.cost_curve(None, TABLE[TEST], Y[TEST]).area()
    assert auto.cost_curve(None, TABLE[TEST], Y[TEST]).area() > max(areas.values()) - 0.01


def test_a_budget_is_held_and_a_route_explained(auto: AutoRouter) -> None:
    low, high = auto.cv_curve_.cost.min(), auto.cv_curve_.cost.max()
    budget = (low + high) / 2
    held = auto.at_budget(budget, TABLE[FIT], random_state=0)
    assert held.predict_cost(TABLE[TEST]).mean() == pytest.approx(budget, rel=0.1)
    if hasattr(auto.router_, "explain_route"):
        assert len(auto.explain_route(TABLE[:1])) > 0
    fixed = AutoRouter(candidates={"fixed": FixedPath()}).fit(TABLE[FIT], Y[FIT])
    with pytest.raises(TypeError, match="predicts no errors"):
        fixed.explain_route(TABLE[:1])


def test_a_candidate_that_fails_is_named_and_left_out() -> None:
    broken = CostAwareRouter(regressor=LogisticRegression(C=-1.0), targets="bernoulli")
    search = AutoRouter(candidates={"broken": broken, "fixed": FixedPath()}, random_state=0)
    with pytest.warns(UserWarning, match="'broken' failed and is left out: Invalid"):
        search.fit(TABLE[FIT], Y[FIT])
    assert "InvalidParameterError" in search.leaderboard_.loc["broken", "failed"]
    assert search.best_name_ == "fixed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="No candidate could be fitted"):
            AutoRouter(candidates={"broken": broken}).fit(TABLE[FIT], Y[FIT])
    with pytest.raises(ValueError, match="candidates must map names to routers, at least one"):
        AutoRouter(candidates={}).fit(TABLE[FIT], Y[FIT])
    with pytest.raises(ValueError, match="lambda_ must be"):
        AutoRouter(-1.0).fit(TABLE[FIT], Y[FIT])


def test_the_default_search_holds_baselines_and_family() -> None:
    few, many = default_candidates(TREE, 1000), default_candidates(TREE, 10_000)
    assert {"fixed paths", "paper, open loop", "errors, logistic, classes, open loop"} <= set(few)
    assert not any("boosting" in name for name in few)
    assert any("boosting" in name for name in many)
    assert sum(name.startswith("threshold") for name in few) == 3 * (TREE.depths > 1).sum()


def test_weights_and_few_rows_are_taken() -> None:
    small = {name: candidates()[name] for name in ("threshold", "logistic")}
    weights = np.linspace(0.5, 2, 60)
    search = AutoRouter(0.3, candidates=small, random_state=0)
    search.fit(TABLE[:60], Y[:60], sample_weight=weights)
    assert search.predict(TABLE[:5]).shape == (5,)


def test_a_skops_file_brings_it_back(auto: AutoRouter, tmp_path: Any) -> None:
    dump(auto, tmp_path / "auto.skops")
    again = load(tmp_path / "auto.skops")
    np.testing.assert_array_equal(again.predict(TABLE[TEST]), auto.predict(TABLE[TEST]))


def test_one_saved_before_routers_shared_still_routes(auto: AutoRouter) -> None:
    alone = clone(auto).set_params(max_routers=1).fit(TABLE[FIT], Y[FIT])
    state = {**vars(alone), "cv_curve_": alone._points}
    for later in ("max_routers", "routers_", "_points", "_owners", "_rungs_of_fit"):
        del state[later]
    old = AutoRouter.__new__(AutoRouter)
    old.__setstate__(state)
    assert old.max_routers == 1 and list(old.routers_) == [alone.best_name_]
    np.testing.assert_array_equal(old.predict_path(TABLE[TEST]), alone.predict_path(TABLE[TEST]))
    np.testing.assert_array_equal(old.cv_curve_.cost, alone.cv_curve_.cost)


def test_a_corner_is_taken_in_the_middle_of_the_prices_it_is_best_for() -> None:
    accuracy, cost = np.array([0.9, 0.86, 0.85, 0.7, 0.5]), np.array([1.0, 0.9, 0.5, 0.3, 0.2])
    every = np.ones(5, dtype=bool)
    breaks = np.array([0.05 / 0.5, 0.15 / 0.2, 0.2 / 0.1])
    middles = [breaks[0] / 2, *np.sqrt(breaks[1:] * breaks[:-1]), breaks[2] * 2]
    for between, slack, kept in ((every, 0.04, 5), (every, 0.01, 4), (~every, 0.04, 4)):
        rungs = ladder(accuracy, cost, between, slack)
        assert len(rungs[2]) == kept and (np.diff(cost[rungs[2]]) > 0).all()
        np.testing.assert_array_equal(places_at(rungs, middles), [0, 2, 3, 4])
        np.testing.assert_array_equal(places_at(rungs, [0, 1e9]), [0, 4])
        np.testing.assert_array_equal(places_at(rungs, prices_of(rungs)), rungs[2][::-1])
        # At the price that makes two corners equal the cheaper one, or what is between.
        at = places_at(rungs, breaks * (1 + 1e-9))
        np.testing.assert_array_equal(at, [1 if kept == 5 else 2, 3, 4])
    # Dearer than the most accurate, and as good but for noise: at prices near 0.
    rungs = ladder(np.append(accuracy, 0.89), np.append(cost, 1.1), np.ones(6, dtype=bool), 0.02)
    low = 0.02 / (16 * 0.1)
    np.testing.assert_array_equal(places_at(rungs, [0, low * 0.99, low * 2.1]), [5, 5, 0])
    one = ladder(np.array([0.9, 0.8]), np.array([0.5, 0.6]), every[:2], 0.05)
    np.testing.assert_array_equal(places_at(one, [0, 0.1, 10]), 0)
    alike = ladder(np.array([0.9, 0.9, 0.5]), np.array([0.5, 0.5, 0.2]), every[:3], 0.05)
    assert len(prices_of(alike)) == 2, "one of equals is picked"


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.2))
def test_any_price_picks_a_point_near_the_hull_and_a_higher_one_none_dearer(
    seed: int, slack: float
) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 30)
    accuracy, cost = rng.random(n).round(2), rng.random(n).round(2)
    rungs = ladder(accuracy, cost, rng.random(n) < 0.7, slack)
    picked = places_at(rungs, np.geomspace(1e-4, 1e4, 200))
    assert (np.diff(cost[picked]) <= 0).all()
    x, y = hull_points(cost, accuracy)
    assert (np.interp(cost[picked], x, y) - accuracy[picked] <= slack + 1e-12).all()
    accuracy, cost = rng.random((2, n))
    rungs = ladder(accuracy, cost, rng.random(n) < 0.7, slack)
    np.testing.assert_array_equal(places_at(rungs, prices_of(rungs)), rungs[2][::-1])


@pytest.fixture(scope="module")
def shared() -> AutoRouter:
    """A threshold and a router of gates share the range of cost."""
    tried = {
        name: ThresholdRouter(measure=measure, along=along)
        for name, measure, along in (("a", "margin", "8-8-8"), ("b", "entropy", "8-4-4"))
    }
    tried["logistic"] = CostAwareRouter(**FAMILY)
    return AutoRouter(0.2, candidates=tried, random_state=1).fit(TABLE[FIT], Y[FIT])


def test_routers_share_the_range_of_cost(shared: AutoRouter) -> None:
    assert len(shared.routers_) > 1 and next(iter(shared.routers_)) == shared.best_name_
    assert shared.routers_[shared.best_name_] is shared.router_
    curve = shared.cost_curve(None, TABLE[TEST], Y[TEST])
    types = set()
    for place in range(0, len(curve), 7):
        shared.lambda_ = float(curve.knobs[place])
        routes = shared.route(TABLE[TEST])
        np.testing.assert_array_equal(routes.paths, curve.paths[place])
        assert np.mean(routes.labels == Y[TEST]) == pytest.approx(curve.accuracy[place])
        types.add(type(shared._at(shared.lambda_)))
    shared.lambda_ = 0.2
    assert len(types) > 1
    alone = clone(shared).set_params(max_routers=1).fit(TABLE[FIT], Y[FIT])
    assert list(alone.routers_) == [shared.best_name_]
    gain = shared.cv_curve_.area() - alone.cv_curve_.area()
    assert gain > 0
    with pytest.raises(ValueError, match="max_routers must be an integer >= 1, got 0"):
        clone(shared).set_params(max_routers=0).fit(TABLE[FIT], Y[FIT])


def test_a_budget_mixes_two_routers(shared: AutoRouter) -> None:
    held = shared.at_budget(0.55, TABLE[FIT], random_state=0)
    assert held.predict_cost(TABLE[FIT]).mean() == pytest.approx(0.55, rel=0.02)
    dearer = TABLE.paths.with_costs(np.array(TABLE.paths.costs) * 2)
    moved = clone(shared).set_params(path_costs=dearer.costs).fit(TABLE[FIT], Y[FIT])
    moved.set_params(path_costs=TABLE.paths.costs)
    np.testing.assert_array_equal(moved.predict_path(TABLE[TEST]), shared.predict_path(TABLE[TEST]))


def test_other_costs_mean_the_same_wherever_they_are_set(shared: AutoRouter) -> None:
    other = TREE.with_costs(np.array(TREE.costs) * np.linspace(0.5, 2, TREE.n_paths))
    rows = TABLE[TEST].with_paths(other)
    moved, told = with_tree(shared, other), copy.copy(shared).set_params(path_costs=other.costs)
    for price in np.geomspace(0.001, 10, 12):
        left, right = (r.set_params(lambda_=price).predict_path(rows) for r in (moved, told))
        np.testing.assert_array_equal(left, right)


def test_it_keeps_the_contract_of_routers() -> None:
    few = {"threshold": ThresholdRouter(), "fixed": FixedPath()}
    check_router(AutoRouter(0.2, candidates=few, random_state=1))


def test_a_parameter_set_after_fit_hides_no_attribute(shared: AutoRouter) -> None:
    asked = copy.copy(shared).set_params(cv=4)
    assert "cv_curve_" in dir(asked)
    assert asked.cv_curve_.area() == shared.cv_curve_.area()
    with pytest.raises(ValueError, match="cv=4 was set after fit"):
        asked.cost_curve()


class OnceLess(ThresholdRouter):
    """Fails at the last of three folds."""

    fits = 0

    def fit(self, X: Any, y: Any = None) -> OnceLess:
        type(self).fits += 1
        if self.fits == 3:
            raise RuntimeError("the third time")
        return super().fit(X, y)


def test_the_best_one_of_fewer_folds_knows_their_rows_alone() -> None:
    OnceLess.fits = 0
    tried = {"fails": OnceLess(), "fixed": FixedPath()}
    search = AutoRouter(candidates=tried, random_state=0, discard=0.0)
    weights = np.linspace(0.5, 2, 600)
    with pytest.warns(UserWarning, match="'fails' failed and is left out"):
        search.fit(TABLE[:600], Y[:600], sample_weight=weights)
    assert search.best_name_ == "fixed" and search.leaderboard_.loc["fixed", "folds"] == 1
    curve = search.cv_curve_
    assert curve.paths.shape[1] == len(curve.sample_weight) == 200


class NotWhole(CostAwareRouter):
    """Cannot be fitted on as many rows as there are in all."""

    def fit(self, X: Any, y: Any = None, **options: Any) -> NotWhole:
        if len(X) == FIT.stop:
            raise RuntimeError("too many rows")
        return super().fit(X, y, **options)


def test_one_who_shares_and_fails_on_all_rows_is_left_out(shared: AutoRouter) -> None:
    assert list(shared.routers_) == ["a", "logistic"]
    failing = NotWhole(**FAMILY)
    search = clone(shared).set_params(candidates={**shared.candidates, "logistic": failing})
    with pytest.warns(UserWarning, match="'logistic'.* fitted on all rows.*too many rows"):
        search.fit(TABLE[FIT], Y[FIT])
    assert list(search.routers_) == ["a"]
    curve = search.cost_curve(None, TABLE[TEST], Y[TEST])
    search.lambda_ = float(curve.knobs[3])
    np.testing.assert_array_equal(search.predict_path(TABLE[TEST]), curve.paths[3])
    with pytest.raises(RuntimeError, match="too many rows"):
        clone(search).set_params(candidates={"alone": failing}).fit(TABLE[FIT], Y[FIT])


class OwnAnswers(ThresholdRouter):
    """Says what each path answers by itself."""

    def answered_table(self, table: PathProbabilities) -> PathProbabilities:
        return table


def test_only_those_who_answer_alike_share() -> None:
    tried = candidates()
    assert answer_alike(tried, "recall") == ["recall"]
    assert answer_alike(tried, "fixed") == [
        "fixed",
        *(n for n in tried if n not in ("fixed", "recall")),
    ]
    assert "own" not in answer_alike({"own": OwnAnswers(), **tried}, "fixed")
    inside = {"inside": TunedCostAwareRouterCV(tried["recall"], price=0.1), **tried}
    assert "inside" not in answer_alike(inside, "fixed")
    recalls = {
        name: CostAwareRouter(**FAMILY, answer="recall", policy=policy)
        for name, policy in (("open", "open-loop"), ("option", OptionValue(0.2)))
    }
    assert answer_alike({**tried, **recalls}, "option") == ["option", "recall", "open"]


def test_a_candidate_is_judged_at_points_chosen_on_other_folds() -> None:
    rng = np.random.default_rng(0)
    accuracy, cost = rng.random((3, 6)), rng.random((3, 6))
    prices, weight = np.array([0.1, 0.5]), np.array([10.0, 20.0, 30.0])
    areas, losses = held_out(FoldCurves(accuracy, cost, weight), prices, 0.1, 0.9)
    for fold in range(3):
        rest = [other for other in range(3) if other != fold]
        a = np.average(accuracy[rest], axis=0, weights=weight[rest])
        c = np.average(cost[rest], axis=0, weights=weight[rest])
        best = [int(np.argmin(1 - a + price * c)) for price in prices]
        expected = [
            1 - accuracy[fold, k] + p * cost[fold, k] for k, p in zip(best, prices, strict=True)
        ]
        assert losses[fold] == pytest.approx(np.mean(expected))
        # Corners: what some price picks, and the most accurate one.
        grid = np.concatenate([[0], np.geomspace(1e-6, 1e6, 20_000)])
        corners = np.unique([int(np.argmin(1 - a + price * c)) for price in grid])
        hull = hull_points(cost[fold][corners], accuracy[fold][corners])
        assert areas[fold] == pytest.approx(hull_area(*hull, 0.1, 0.9))


def test_who_is_far_behind_is_tried_on_no_further_fold(auto: AutoRouter) -> None:
    hopeless = {**candidates(), "hopeless": ThresholdRouter(along=TREE.names[0])}
    raced = AutoRouter(candidates=hopeless, random_state=0, discard=1.0).fit(TABLE[FIT], Y[FIT])
    board = raced.leaderboard_
    assert board.loc["hopeless", "folds"] == 1 and board.index[-1] == "hopeless"
    assert board["folds"].iloc[0] == 3 and board["folds"].is_monotonic_decreasing
    whole = AutoRouter(candidates=hopeless, random_state=0, discard=None).fit(TABLE[FIT], Y[FIT])
    assert (whole.leaderboard_["folds"] == 3).all()
    assert whole.best_name_ == raced.best_name_ == auto.best_name_
    with pytest.raises(ValueError, match="discard must be"):
        AutoRouter(discard=-1.0).fit(TABLE[FIT], Y[FIT])


def test_what_a_candidate_loses_beyond_the_best_is_paired_by_row() -> None:
    rng = np.random.default_rng(0)
    mine, best, weights = rng.random(50), rng.random(50), rng.integers(1, 4, size=50)
    mean, error = paired(mine, best, None)
    assert mean == pytest.approx((mine - best).mean())
    assert error == pytest.approx((mine - best).std() / np.sqrt(50))
    mean, _ = paired(mine, best, weights.astype(float))
    assert mean == pytest.approx(np.repeat(mine - best, weights).mean())


def test_a_training_is_tried_on_while_one_of_its_candidates_is_near() -> None:
    lines = [
        Line("best", area=0.9, loss=0.1, behind_se=0.0),
        Line("far", area=0.8, loss=0.2, behind_se=0.01),
        Line("near", area=0.9, loss=0.11, behind_se=0.01),
        Line("broken", failed="ValueError"),
    ]
    alone = [[line.name] for line in lines]
    assert survivors(lines, alone, 2.0) == ["best", "near"]
    assert survivors(lines, [["best"], ["far", "near"], ["broken"]], 2.0) == ["best", "far", "near"]
    assert survivors(lines, alone, None) == ["best", "far", "near"]
