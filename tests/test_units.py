"""Costs stay in the unit they are given in, and only ratios of them decide anything."""

from __future__ import annotations

import itertools
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skquee import (
    AutoRouter,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathProbabilities,
    PathTree,
    TunedCostAwareRouterCV,
)
from skquee.baselines import (
    JEIDNN,
    FixedPath,
    NextStepRouter,
    OracleRouter,
    RandomMixing,
    ThresholdRouter,
)
from skquee.display import CostCurveDisplay, PathUsageDisplay
from skquee.evaluation import CostCurve, compare, paired_bootstrap, price_scorer
from skquee.monitoring import OnlineLambdaRouter
from skquee.router import BudgetRouter
from skquee.testing import make_path_probabilities
from skquee.values._labels import default_lambdas

TREE = PathTree.cascade([1, 2, 5], names=["a", "b", "c"], cost_unit="ms")
TABLE, Y = make_path_probabilities(240, TREE)
FIT, TEST = slice(0, 160), slice(160, 240)


def router(lambda_: float = 0.1, **options: Any) -> CostAwareRouter:
    return CostAwareRouter(lambda_, regressor="logistic", random_state=0, **options)


def curve(method: Any, table: Any) -> CostCurve:
    return method.fit(table[FIT], Y[FIT]).cost_curve(None, table[TEST], Y[TEST])


def swept(method: Any) -> Callable[[Any, float], Any]:
    """What a sweep of a router's own grid finds, with no unit left in it."""

    def run(table: Any, k: float) -> Any:
        found = curve(clone(method), table)
        return found.paths, found.cost / k, found.area()

    return run


def routed(make: Callable[[float], Any]) -> Callable[[Any, float], Any]:
    """Where a router sends the rows that is made for a unit `k` times as small."""

    def run(table: Any, k: float) -> Any:
        routes = make(k).fit(table[FIT], Y[FIT]).route(table[TEST])
        return routes.paths, routes.costs / k

    return run


def at_budget(table: Any, k: float) -> Any:
    held = router().fit(table[FIT], Y[FIT])
    found = BudgetRouter(held, 3.5 * k, max_cost_per_sample=7 * k, random_state=0)
    found.fit(table[TEST], Y[TEST])
    return found.low_ * k, found.high_ * k, found.share_, found.predict_path(table[TEST])


def rarely_dear(table: Any, k: float) -> Any:
    held = router().fit(table[FIT], Y[FIT])
    found = BudgetRouter(held, exceed_cost=3 * k, exceed_probability=0.3, random_state=0)
    return found.fit(table[TEST]).predict_path(table[TEST])


def tuned(table: Any, k: float) -> Any:
    aims = {"max_cost": 4.0 * k}, {"price": 0.05 / k}, {"max_error_increase": 0.05}
    found = [TunedCostAwareRouterCV(router(), cv=2, **aim).fit(table, Y) for aim in aims]
    return [(f.best_lambda_ * k, f.best_cost_ / k, f.best_accuracy_) for f in found]


def automatic(table: Any, k: float) -> Any:
    candidates = {"logistic": router(), "fixed": FixedPath(), "sure": ThresholdRouter()}
    found = AutoRouter(0.05 / k, candidates=candidates, cv=2, random_state=0).fit(table, Y)
    board = found.leaderboard_[["area", "loss"]].to_numpy()
    return board, found.best_name_ == "fixed", found.predict_path(table)


def online(table: Any, k: float) -> Any:
    moving = OnlineLambdaRouter(router(0.1 / k).fit(table[FIT], Y[FIT]), budget=4.0 * k)
    routes = [moving.route(table[start : start + 20]) for start in range(160, 240, 20)]
    return moving.lambda_history_ * k, np.concatenate([r.paths for r in routes])


def scored(table: Any, k: float) -> Any:
    found = router(0.1 / k).fit(table[FIT], Y[FIT])
    return found.score(table[TEST], Y[TEST]), price_scorer(0.1 / k)(found, table[TEST], Y[TEST])


WAYS: dict[str, Callable[[Any, float], Any]] = {
    "open loop": swept(router()),
    "option value": swept(router(policy="option-value")),
    "pessimistic": swept(router(policy="pessimistic")),
    "closed loop": swept(router(policy="closed-loop")),
    "free first step": swept(router(first="free")),
    "thresholds": swept(ThresholdRouter()),
    "fixed paths": swept(FixedPath()),
    "oracle": swept(OracleRouter()),
    "random mixing": swept(RandomMixing()),
    "next step": routed(lambda k: NextStepRouter(0.1 / k, random_state=0)),
    "jei-dnn": routed(lambda k: JEIDNN(lambda_=0.1 / k, max_epochs=2, random_state=0)),
    "mixing to a limit": routed(lambda k: RandomMixing(4.0 * k)),
    "budget and cap": at_budget,
    "rarely dear": rarely_dear,
    "tuned": tuned,
    "automatic": automatic,
    "online": online,
    "scores": scored,
}


@pytest.mark.parametrize(
    ("way", "k"), list(zip(WAYS, itertools.cycle([2.0**-20, 2.0**14]), strict=False))
)
def test_costs_in_another_unit_decide_the_same(way: str, k: float) -> None:
    # Powers of two scale without rounding, so that not even ties may fall otherwise.
    scaled = TABLE.with_paths(TREE.with_costs(TREE.path_costs * k, cost_unit="other"))
    for here, there in zip(WAYS[way](TABLE, 1.0), WAYS[way](scaled, k), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e6), st.lists(st.floats(0.5, 50), min_size=1, max_size=4))
def test_default_trade_offs_and_areas_only_know_ratios(k: float, steps: list[float]) -> None:
    tree = PathTree.cascade(steps)
    scaled = tree.with_costs(tree.path_costs * k)
    np.testing.assert_allclose(default_lambdas(scaled) * k, default_lambdas(tree), rtol=1e-9)
    paths = np.arange(tree.n_paths)[:, None] * np.ones((1, 3), dtype=int)
    correct = np.random.default_rng(0).random(paths.shape) < 0.7
    own, other = (CostCurve(paths[:, 0], paths, correct, t) for t in (tree, scaled))
    assert other.area() == pytest.approx(own.area())


# ---------------------------------------------------------------------- the unit stays


def test_the_unit_goes_wherever_the_costs_go(tmp_path: Path) -> None:
    tree = TREE
    assert tree.with_costs(tree.path_costs * 3).cost_unit == "ms"
    assert tree.with_costs(tree.path_costs / 1e3, cost_unit="s").cost_unit == "s"
    assert tree.with_costs(tree.path_costs, cost_unit=None).cost_unit is None
    assert tree.with_classes(list("wxyz")).cost_unit == "ms"
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert PathTree(**json.loads(json.dumps(tree.to_dict()))) == tree
    TABLE.save(tmp_path / "t.npz")
    assert PathProbabilities.load(tmp_path / "t.npz").paths.cost_unit == "ms"
    fitted = router().fit(TABLE[FIT], Y[FIT])
    assert fitted.paths_.cost_unit == "ms"
    routes = fitted.route(TABLE[TEST])
    assert routes.tree.cost_unit == routes.to_frame().attrs["cost_unit"] == "ms"
    points = fitted.cost_curve(None, TABLE[TEST], Y[TEST])
    assert points.to_frame().attrs["cost_unit"] == "ms"
    assert "cost 1 to 8 ms, accuracy" in repr(points).replace(f"{points.cost.max():.4g}", "8")
    assert fitted.explain_route(TABLE[:1]).attrs["cost_unit"] == "ms"
    seconds = TABLE.with_paths(tree.with_costs(tree.path_costs / 1e3, cost_unit="s"))
    assert fitted.route(seconds).tree.cost_unit == "s", "the costs of the table, and their unit"
    dollars = tree.with_costs(tree.path_costs / 1e6, cost_unit="$")
    assert fitted.set_params(paths=dollars).route(TABLE).tree.cost_unit == "$"
    assert fitted.paths_.cost_unit == "$"
    assert fitted.set_params(paths=None, path_costs=tree.path_costs * 2).paths_.cost_unit == "ms"


def test_every_builder_takes_the_unit_and_no_cost_changes() -> None:
    trees = {
        "chain": PathTree.chain([1, 30], cost_unit="J"),
        "cascade": PathTree.cascade([1, 30], cost_unit="J"),
        "without skips": PathTree.cascade([1, 30], skip=False, cost_unit="J"),
        "paths": PathTree.from_paths([(1,), (1, 1)], [1, 31], cost_unit="J"),
        "levels": PathTree.from_levels(2, ("lo",), [[1], [30]], cost_unit="J"),
    }
    for name, tree in trees.items():
        assert (tree.cost_unit, tree.costs[0], tree.costs[-1]) == ("J", 1, 31), name
    with pytest.raises(ValueError, match="cost_unit='J' is for block_costs, which are left out"):
        PathTree.from_levels(2, (4, 8), cost_unit="J")
    with pytest.raises(TypeError, match="cost_unit must be a text such as 'ms', got 3"):
        PathTree.chain([1], cost_unit=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="normalize"):
        PathTree.chain([1], normalize=True)  # type: ignore[call-arg]


def test_fractions_of_the_whole_network_are_only_called_so_while_they_are() -> None:
    tree = PathTree.from_levels(2, (4, 8))
    assert tree.cost_unit == "of the whole network"
    assert tree.with_costs([0.25, 0.5, 1.0]).cost_unit == "of the whole network"
    assert tree.with_costs([2.0, 3.0, 4.0]).cost_unit is None
    assert tree.with_costs([2.0, 3.0, 4.0], cost_unit="ms").cost_unit == "ms"


def test_trees_of_earlier_files_have_no_unit() -> None:
    old = TREE.to_dict()
    del old["cost_unit"]
    assert PathTree(**old).cost_unit is None
    state = TREE.__getstate__()
    del state["cost_unit"]
    again = PathTree.__new__(PathTree)
    again.__setstate__(state)
    assert again == PathTree(**old)
    assert again.with_costs(again.path_costs, cost_unit="ms") == TREE


# ---------------------------------------------------------------------- in words and pictures


def test_axes_and_bars_name_the_unit() -> None:
    points = curve(ThresholdRouter(), TABLE)
    assert CostCurveDisplay.from_predictions(points).ax_.get_xlabel() == "Mean cost (ms)"
    bare = CostCurve(points.knobs, points.paths, points.correct, PathTree.cascade([1, 2, 5]))
    assert CostCurveDisplay.from_predictions(bare).ax_.get_xlabel() == "Mean cost"
    usage = PathUsageDisplay.from_predictions(Y, np.zeros(240, dtype=int), tree=TREE)
    assert "mean cost (ms)" in [text.get_text() for text in usage.ax_.texts]
    dollars = TREE.with_costs(TREE.path_costs, cost_unit="$")
    other = CostCurve(points.knobs, points.paths, points.correct, dollars)
    with pytest.raises(ValueError, match=r"several units, \['\$', 'ms'\], and cannot be held"):
        CostCurveDisplay.from_predictions([points, other])
    with pytest.raises(ValueError, match="several units"):
        paired_bootstrap(points, other)
    with pytest.raises(ValueError, match="several units"):
        compare({"ms": points, "$": other}, None, Y[TEST])


def test_a_limit_in_another_unit_is_told_with_the_range() -> None:
    where = r"binds nothing: costs run from .* to [\d.]+ ms"
    search = TunedCostAwareRouterCV(router(), cv=2, max_cost=50)
    with pytest.warns(UserWarning, match="max_cost=50 is above every point and " + where):
        search.fit(TABLE, Y)
    assert search.best_accuracy_ == search.cv_curve_.accuracy.max()
    with pytest.raises(ValueError, match=r"max_cost=0.1: points cost from 1 to [\d.]+ ms"):
        TunedCostAwareRouterCV(router(), cv=2, max_cost=0.1).fit(TABLE, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TunedCostAwareRouterCV(router(), cv=2, max_cost=3).fit(TABLE, Y)
    with pytest.warns(UserWarning, match="max_cost=50 is above every path and " + where):
        RandomMixing(50).fit(TABLE, Y)
    with pytest.raises(ValueError, match="max_cost=0.5 is below .*: costs run from 1 to 8 ms"):
        RandomMixing(0.5).fit(TABLE, Y)
    fitted = router().fit(TABLE, Y)
    with pytest.warns(UserWarning, match="max_cost_per_sample=50 is above every path and " + where):
        BudgetRouter(fitted, max_cost_per_sample=50).fit(TABLE)
    with pytest.raises(ValueError, match=r"budget=50 is out of reach: .* from 1 to [\d.]+ ms"):
        BudgetRouter(fitted, 50).fit(TABLE)
    with pytest.raises(ValueError, match="below every path: they cost from 1 to 8 ms"):
        BudgetRouter(fitted, max_cost_per_sample=0.1).fit(TABLE)
    with pytest.raises(ValueError, match="out of reach: paths cost from 1 to 8 ms"):
        OnlineLambdaRouter(fitted, budget=50).fit()


# ---------------------------------------------------------------------- nothing to trade


def test_costs_that_are_all_zero_are_refused_and_single_ones_are_not() -> None:
    message = "costs are all zero: there is nothing to trade"
    for build in (PathTree.chain, PathTree.cascade):
        with pytest.raises(ValueError, match=message):
            build([0, 0])
    with pytest.raises(ValueError, match=message):
        PathTree.from_paths([(1,), (1, 1)], [0, 0])
    with pytest.raises(ValueError, match=message):
        PathTree.from_levels(2, (4, 8), [0, 0])
    with pytest.raises(ValueError, match=message):
        TREE.with_costs(np.zeros(7))
    with pytest.raises(ValueError, match=message):
        router(path_costs=np.zeros(7)).fit(TABLE, Y)
    cached = PathTree.cascade([0, 2, 5])
    assert cached.costs[0] == 0
    found = router(1.0).fit(TABLE.with_paths(cached), Y).route(TABLE.with_paths(cached))
    assert found.costs.min() == 0


def test_a_bank_keeps_step_costs_in_their_unit_and_a_budget_is_in_it() -> None:
    X = np.arange(240.0)[:, None]

    def answering(column: int) -> Callable[[Any], Any]:
        return lambda rows: TABLE.path("abc"[column])[np.asarray(rows)[:, 0].astype(int)]

    bank = MultiPathClassifierBank(
        [(name, answering(column)) for column, name in enumerate("abc")],
        step_costs=[0.5, 2, 30],
        cost_unit="$",
        classes=range(4),
    )
    table = bank.transform(X)
    assert table.paths.costs == tuple(bank.costs_) == (0.5, 2.5, 32.5)
    assert table.paths.cost_unit == bank.paths_.cost_unit == "$"
    found = TunedCostAwareRouterCV(router(), cv=2, max_cost=10).fit(table, Y)
    assert 2.5 < found.best_cost_ <= 10
    assert found.cv_curve_.tree.cost_unit == "$"
