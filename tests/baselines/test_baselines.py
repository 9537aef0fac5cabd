"""Baselines, each against its rule written out one sample at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeRegressor

from skquee import ClusteredErrorTargets, PathErrorRegressor, PathProbabilities, PathTree
from skquee.baselines import (
    BudgetedThresholdRouter,
    FixedPath,
    NextStepRouter,
    OracleRouter,
    PatienceRouter,
    RandomMixing,
    ThresholdRouter,
)
from skquee.testing import make_path_probabilities

TABLE, Y = make_path_probabilities(240)
TREE = TABLE.paths
FRESH, FRESH_Y = make_path_probabilities(90, random_state=4)
CHAIN, CHAIN_Y = make_path_probabilities(150, PathTree.chain([1, 1, 2, 3]))


def sureness(vector: np.ndarray, measure: str) -> float:
    if measure == "max_probability":
        return float(max(vector))
    if measure == "margin":
        first, second = sorted(vector)[::-1][:2]
        return float(first - second)
    return -float(-sum(p * np.log(p) for p in vector if p > 0))


# ---------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("along", [None, "8-4-4", "8-8"])
@pytest.mark.parametrize(
    ("measure", "threshold"),
    [("max_probability", 0.7), ("margin", 0.4), ("entropy", 0.6), ("max_probability", [0.6, 0.9])],
    ids=str,
)
def test_a_threshold_leaves_at_the_first_exit_that_is_sure(
    measure: str, threshold: Any, along: Any
) -> None:
    line = [int(p) for p in TREE.prefixes("8-8-8" if along is None else along)]
    limits = np.broadcast_to(threshold, 2)[: len(line) - 1]
    given = threshold if np.ndim(threshold) == 0 else list(limits)
    router = ThresholdRouter(given, measure=measure, along=along).fit(TABLE, Y)
    taken = router.predict_path(FRESH)
    for row in range(90):
        for path, limit in zip(line[:-1], limits, strict=True):
            sure = sureness(FRESH.path(path)[row], measure)
            if sure >= (-limit if measure == "entropy" else limit):
                break
        else:
            path = line[-1]
        assert taken[row] == path
    assert len(set(taken)) == len(line)
    assert np.isnan(router.predict_error(FRESH)).all()


@pytest.mark.parametrize("measure", ["max_probability", "margin", "entropy"])
def test_the_default_grid_spans_from_first_exit_to_last(measure: str) -> None:
    curve = ThresholdRouter(measure=measure).fit(CHAIN, CHAIN_Y).cost_curve(None, CHAIN, CHAIN_Y)
    assert curve.knob == "threshold"
    assert (curve.paths[0] == 0).all()
    assert (curve.paths[-1] == 3).all()
    assert (np.diff(curve.cost) >= -1e-12).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "variance"}, "measure must be one of"),
        ({"threshold": np.nan}, "threshold must hold numbers, but it is nan"),
        ({"threshold": [0.5]}, "one for each of the 2 exits before the last"),
        ({"along": "4-4"}, "no path '4-4'"),
    ],
)
def test_bad_thresholds_fail(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdRouter(**options).fit(TABLE, Y)


def msdnet_thresholds(sure: np.ndarray, ratio: float) -> list[float]:
    """MSDNet's dynamic evaluation: fill each exit's quota with the surest rows still there."""
    n, stages = sure.shape
    shares = np.array([ratio**k for k in range(stages)])
    shares /= shares.sum()
    gone = np.zeros(n, dtype=bool)
    thresholds = []
    for stage in range(stages - 1):
        order = sorted(range(n), key=lambda row: -sure[row, stage])
        quota, count = int(np.ceil(round(n * shares[stage], 9))), 0
        limit = -np.inf
        for row in order:
            if not gone[row]:
                count += 1
                limit = sure[row, stage]
                if count == quota:
                    break
        thresholds.append(float(limit))
        gone |= sure[:, stage] >= limit
    return thresholds


@pytest.mark.parametrize("ratio", [0.3, 0.9, 1.0, 1.7])
@pytest.mark.parametrize("measure", ["max_probability", "entropy"])
def test_budgeted_thresholds_are_msdnets(ratio: float, measure: str) -> None:
    router = BudgetedThresholdRouter(ratio, measure=measure).fit(CHAIN, CHAIN_Y)
    sure = np.array(
        [[sureness(CHAIN.path(p)[row], measure) for p in range(4)] for row in range(150)]
    )
    assert np.allclose(router.thresholds_, msdnet_thresholds(sure, ratio))
    shares = np.bincount(router.predict_path(CHAIN), minlength=4) / 150
    wanted = ratio ** np.arange(4) / (ratio ** np.arange(4)).sum()
    assert np.allclose(shares, wanted, atol=3 / 150)


def test_budgeted_weights_are_repeated_rows_and_the_ratio_is_read_at_prediction() -> None:
    weights = np.arange(150) % 3
    rows = np.repeat(np.arange(150), weights)
    weighted = BudgetedThresholdRouter(0.8).fit(CHAIN, CHAIN_Y, sample_weight=weights)
    repeated = BudgetedThresholdRouter(0.8).fit(CHAIN[rows], CHAIN_Y[rows])
    assert np.allclose(weighted.thresholds_, repeated.thresholds_)
    early = weighted.set_params(ratio=0.1).predict_cost(CHAIN).mean()
    assert early < weighted.set_params(ratio=5.0).predict_cost(CHAIN).mean()
    with pytest.raises(ValueError, match="ratio must be a finite number > 0, got 0"):
        weighted.set_params(ratio=0).predict(CHAIN)


@pytest.mark.parametrize("patience", [1, 2, 3, 9])
def test_patience_leaves_after_equal_answers_in_a_row(patience: int) -> None:
    taken = PatienceRouter(patience).fit(CHAIN, CHAIN_Y).predict_path(CHAIN)
    answers = np.asarray(CHAIN).argmax(axis=2)
    for row in range(150):
        run = 0
        for path in range(4):
            run = run + 1 if path and answers[row, path] == answers[row, path - 1] else 1
            if run == patience:
                break
        assert taken[row] == path


def test_bad_patience_fails() -> None:
    with pytest.raises(ValueError, match="patience must be an integer >= 1, got 0"):
        PatienceRouter(0).fit(CHAIN, CHAIN_Y)


# ---------------------------------------------------------------------- no decision


def test_a_fixed_path_is_taken_by_everybody_and_its_curve_lists_all() -> None:
    fixed = FixedPath().fit(TABLE, Y)
    assert set(fixed.predict_path(TABLE)) == {TREE.index("8-8-8")}
    for path in range(6):
        routes = fixed.set_params(path=TREE.names[path]).route(TABLE)
        assert (routes.paths == path).all()
        assert np.array_equal(routes.labels, TABLE.path(path).argmax(axis=1))
    curve = fixed.cost_curve(None, TABLE, Y)
    assert np.allclose(curve.cost, TREE.path_costs)
    assert np.allclose(curve.accuracy, (np.asarray(TABLE).argmax(2) == Y[:, None]).mean(0))
    with pytest.raises(ValueError, match="no path '9'"):
        FixedPath("9").fit(TABLE, Y)


@pytest.mark.parametrize("seed", [0, None, "generator"])
@pytest.mark.parametrize("tree", ["levels", "free"])
def test_mixing_costs_its_budget_on_average_with_two_paths_of_the_hull(
    seed: Any, tree: str
) -> None:
    paths = TREE if tree == "levels" else PathTree.from_levels(3, (4, 8), first="free")
    table, y = make_path_probabilities(4000, paths)
    state = np.random.RandomState(3) if seed == "generator" else seed
    mixing = RandomMixing(0.62, random_state=state).fit(table, y)
    routes = mixing.route(table)
    assert routes.costs.mean() == pytest.approx(0.62, abs=0.015)
    used = np.unique(routes.paths)
    assert len(used) == 2
    low, high = sorted(table.paths.path_costs[used])
    assert low <= 0.62 <= high
    corners = FixedPath().fit(table, y).cost_curve(None, table, y).hull()[0]
    assert {round(low, 9), round(high, 9)} <= {round(c, 9) for c in corners}
    accuracy = np.mean(routes.labels == y)
    share = (0.62 - low) / (high - low)
    by_cost = mixing.path_accuracy_[used[np.argsort(table.paths.path_costs[used])]]
    assert accuracy == pytest.approx(by_cost[0] * (1 - share) + by_cost[1] * share, abs=0.02)


def test_mixing_without_a_budget_takes_the_most_accurate_and_below_the_cheapest_fails() -> None:
    mixing = RandomMixing().fit(TABLE, Y)
    assert set(mixing.predict_path(TABLE)) == {int(np.argmax(mixing.path_accuracy_))}
    with pytest.raises(ValueError, match="max_cost=0.1 is below the cheapest path"):
        mixing.set_params(max_cost=0.1).predict(TABLE)


# ---------------------------------------------------------------------- oracle


@pytest.mark.parametrize("lambda_", [0.0, 0.4, 2.0])
def test_the_oracle_takes_the_cheapest_path_that_is_right(lambda_: float) -> None:
    oracle = OracleRouter(lambda_).fit(TABLE, Y)
    taken = oracle.predict_path(FRESH, FRESH_Y)
    by_cost = sorted(range(6), key=lambda p: TREE.costs[p])
    for row in range(90):
        right = [p for p in by_cost if FRESH.path(p)[row].argmax() == FRESH_Y[row]]
        expected = right[0] if right else by_cost[0]
        if lambda_ * (TREE.costs[expected] - TREE.costs[by_cost[0]]) >= 1 - 1e-6:
            expected = by_cost[0]  # the right answer is not worth more than it costs
        assert taken[row] == expected
    assert oracle.score(FRESH, FRESH_Y) == pytest.approx(
        np.mean(oracle.predict(FRESH, FRESH_Y) == FRESH_Y)
        - lambda_ * oracle.predict_cost(FRESH, FRESH_Y).mean()
    )


def test_no_router_beats_the_oracle_and_it_needs_labels() -> None:
    oracle = OracleRouter().fit(TABLE, Y)
    bound = oracle.cost_curve(None, TABLE, Y)
    for other in (ThresholdRouter(), FixedPath(), BudgetedThresholdRouter()):
        curve = other.fit(TABLE, Y).cost_curve(None, TABLE, Y)
        assert (curve.accuracy <= bound.accuracy_at(curve.cost) + 1e-9).all()
    for call in (oracle.predict, oracle.predict_path, oracle.route, oracle.cost_curve):
        with pytest.raises(ValueError, match="oracle needs the labels"):
            call(TABLE) if call != oracle.cost_curve else call(None, TABLE)
    with pytest.raises(NotFittedError):
        OracleRouter().predict(TABLE, Y)
    with pytest.raises(ValueError, match="lambda_ must be"):
        OracleRouter(-1.0).fit(TABLE, Y)


# ---------------------------------------------------------------------- next step


class Recorder(DecisionTreeRegressor):
    """Notes what every gate is trained on."""

    data: list[Any] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        Recorder.data.append((np.array(X), np.array(y)))
        return super().fit(X, y, sample_weight)


def next_step(**options: Any) -> NextStepRouter:
    return NextStepRouter(
        **{
            "lambda_": 0.5,
            "targets": ClusteredErrorTargets(5, n_init=1),
            "regressor": PathErrorRegressor(Recorder(max_depth=4, random_state=0)),
            "cross_fit": 1,
            "random_state": 0,
            **options,
        }
    )


def test_next_step_targets_are_equation_19() -> None:
    Recorder.data = []
    router = next_step().fit(TABLE, Y)
    errors = router.targets_.transform(TABLE)
    first_exit = TABLE.path("8").astype(np.float32)
    inputs, goals = Recorder.data[0]
    assert len(inputs) == 216 * 3  # exit, step to 4, step to 8
    for line in range(0, len(inputs), 31):
        row = int(np.flatnonzero((first_exit == inputs[line, :4]).all(axis=1))[0])
        code = inputs[line, -4:]
        step = next(p for p in range(6) if np.array_equal(TREE.encoding[p], code))
        behind = [step] if TREE.depths[step] == 1 else TREE.descendants(step)
        expected = min(0.5 * TREE.costs[p] + errors[row, p] for p in behind)
        assert goals[line] == pytest.approx(expected, abs=1e-5)


def test_next_step_walks_to_the_step_of_least_predicted_loss() -> None:
    router = next_step().fit(TABLE, Y)
    gates = router.regressors_[0.5]
    taken = router.predict_path(FRESH)
    for row in range(90):
        here, one = TREE.index("8"), FRESH[[row]]
        while not TREE.is_leaf(here):
            losses = gates.predict(one, here)[0]
            options = [here, *TREE.children(here).tolist()]
            best = min(losses[p] for p in options)
            step = min(
                (p for p in options if losses[p] <= best + 1e-6), key=lambda p: TREE.costs[p]
            )
            if step == here:
                break
            here = step
        assert taken[row] == here


def test_next_step_trains_each_trade_off_and_refuses_others() -> None:
    router = next_step(lambdas=[0.1, 2.0]).fit(TABLE, Y)
    curve = router.cost_curve(None, TABLE, Y)
    assert curve.knobs.tolist() == [0.1, 0.5, 2.0]
    assert curve.cost[0] > curve.cost[2]
    with pytest.raises(
        ValueError, match=r"lambda_=0.3 was not trained.*Trained: \[0.1, 0.5, 2.0\]"
    ):
        router.set_params(lambda_=0.3).predict(TABLE)
    with pytest.raises(ValueError, match="lambda_ and lambdas must hold finite numbers >= 0"):
        next_step(lambdas=[-1.0]).fit(TABLE, Y)


def test_next_step_starts_where_the_mean_loss_is_least() -> None:
    tree = PathTree.cascade([1, 4, 9])
    table, y = make_path_probabilities(200, tree)
    dear = next_step(lambda_=50.0).fit(table, y)
    assert set(dear.predict_path(table)) == {tree.index("1")}
    free = next_step(lambda_=0.0).fit(table, y)
    errors = free.targets_.transform(table)
    losses = [errors[:, tree.descendants(int(r))].min(axis=1).mean() for r in tree.roots]
    assert set(free.route(table).visited[:, 0]) == {int(tree.roots[np.argmin(losses)])}


# ---------------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    "router",
    [ThresholdRouter(), BudgetedThresholdRouter(), PatienceRouter(), FixedPath(), RandomMixing()],
    ids=lambda router: type(router).__name__,
)
def test_a_tree_of_one_path_leaves_no_choice(router: Any) -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(3), size=(30, 1))
    table = PathProbabilities(values, PathTree.chain([2]))
    y = np.arange(30) % 3
    fitted = clone(router).fit(table, y)
    assert (fitted.predict_path(table) == 0).all()
    assert (fitted.predict_cost(table) == 2).all()


@pytest.mark.parametrize("seed", [None, 0])
def test_mixing_keeps_to_one_draw_a_row_all_the_way_down(seed: int | None) -> None:
    # Corners of the hull on two branches: 8, 8-4 and 8-8-8.
    share = {"8": 0.2, "8-4": 0.6, "8-8-8": 0.9}
    y = np.arange(400) % 2
    values = np.zeros((400, 6, 2))
    for path, name in enumerate(TREE.names):
        answers = np.where(np.arange(400) < 400 * share.get(name, 0.1), y, 1 - y)
        values[np.arange(400), path, answers] = 1
    mixing = RandomMixing(0.75, random_state=seed).fit(PathProbabilities(values, TREE), y)
    routes = mixing.route(PathProbabilities(values, TREE))
    assert {TREE.names[p] for p in routes.paths} == {"8-4", "8-8-8"}
    assert np.array_equal(routes.visited, TREE.ancestors[routes.paths])


def test_a_threshold_that_is_no_number_is_refused_in_a_sweep() -> None:
    table, y = make_path_probabilities(60)
    router = ThresholdRouter().fit(table, y)
    with pytest.raises(ValueError, match="got NaN"):
        router.cost_curve([0.5, np.nan], table, y)
    curve = router.cost_curve([0.4, 0.9], table, y)
    for threshold, paths in zip((0.4, 0.9), curve.paths, strict=True):
        router.set_params(threshold=threshold)
        np.testing.assert_array_equal(paths, router.predict_path(table))
