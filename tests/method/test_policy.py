"""Policies: each written out, and what a router makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge

from skquee import CostAwareRouter, PathTree
from skquee.answers import EnsembleAnswer
from skquee.method.policy._plans import plan_open_loop
from skquee.method.policy._sweep import mean_loss, sweep
from skquee.policy import (
    ClosedLoop,
    OptionValue,
    Pessimistic,
    next_steps,
    open_loop,
)
from skquee.testing import make_path_probabilities
from skquee.values._labels import default_lambdas

TREES = {
    "levels": PathTree.from_levels(3, (4, 8), first="free", monotone=False),
    "chain": PathTree.chain([1, 2, 4]),
    "cascade": PathTree.cascade([1, 3, 9]),
}
names = pytest.mark.parametrize("name", TREES)
law = settings(max_examples=60, deadline=None)
cases = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        arrays(np.float64, (4, k), elements=st.floats(0, 1)),
        arrays(np.float64, k, elements=st.floats(0, 10)),
        st.floats(0, 5),
        st.sampled_from([None, 0]),
    )
)


def make_survey(
    tree: PathTree, n: int = 60, seed: int = 0, noise: float = 0.1
) -> tuple[dict[int, Any], np.ndarray]:
    """Draw what every gate predicts, and errors that follow it."""
    rng = np.random.default_rng(seed)
    risk = rng.uniform(0.05, 0.6, size=(n, 1)) / (1 + 2 * tree.path_costs)
    wrong = rng.random((n, tree.n_paths)) < risk
    survey = {
        p: np.clip(risk[:, tree.descendants(p)] + rng.normal(0, noise, (n, 1)), 0, 1)
        for p in np.flatnonzero(tree.is_inner).tolist()
    }
    return survey, wrong


def quick(**changes: Any) -> CostAwareRouter:
    return CostAwareRouter(
        0.1, targets="bernoulli", regressor="logistic", features="rich", random_state=0
    ).set_params(**changes)


# ---------------------------------------------------------------------- option value, pessimistic


@law
@given(cases)
def test_no_option_value_and_no_margin_are_the_open_loop(case: Any) -> None:
    errors, costs, lambda_, prefix = case
    expected = open_loop(errors, costs, lambda_)
    before = errors.copy()
    for policy in (OptionValue(0), Pessimistic(0)):
        assert np.array_equal(policy.aim(errors, costs, lambda_, prefix=prefix), expected)
    OptionValue(0.5).aim(errors, costs, lambda_, prefix=prefix)
    Pessimistic(0.5).aim(errors, costs, lambda_, prefix=prefix)
    assert np.array_equal(errors, before)


@law
@given(cases, st.floats(0, 0.9))
def test_option_value_and_margin_change_every_score_but_exit_now(case: Any, k: float) -> None:
    errors, costs, lambda_, prefix = case
    valued = OptionValue(k).aim(errors, costs, lambda_, prefix=prefix)
    doubted = Pessimistic(k).aim(errors, costs, lambda_, prefix=prefix)
    for row in range(len(errors)):
        value, doubt = [], []
        for place, (error, cost) in enumerate(zip(errors[row], costs, strict=True)):
            exits = prefix is not None and place == 0
            value.append(lambda_ * cost + (error if exits else (1 - k) * error))
            doubt.append(lambda_ * cost + (error if exits else error + k))
        assert value[valued[row]] <= min(value) + 2e-6
        assert doubt[doubted[row]] <= min(doubt) + 2e-6


@names
def test_an_open_k_is_the_one_of_least_loss_on_the_rows_of_fit(name: str) -> None:
    tree = TREES[name]
    survey, wrong = make_survey(tree)
    chosen = OptionValue().fit(survey, wrong, tree).k_
    losses = {k: mean_loss(OptionValue(k), survey, wrong, tree) for k in OptionValue.grid}
    assert losses[chosen] == min(losses.values())
    assert OptionValue(0.25).fit(survey, wrong, tree).k_ == 0.25


@names
def test_the_loss_that_chooses_k_does_not_depend_on_the_unit_of_costs(name: str) -> None:
    tree = TREES[name]
    survey, wrong = make_survey(tree)
    scaled = tree.with_costs(np.array(tree.costs) * 1024)
    for k in (0.0, 0.3):
        one, other = (mean_loss(OptionValue(k), survey, wrong, t) for t in (tree, scaled))
        assert one == pytest.approx(other)


def test_parameters_out_of_range_are_refused() -> None:
    tree = TREES["chain"]
    survey, wrong = make_survey(tree)
    for policy, message in (
        (OptionValue(1.0), r"k must be a finite number >= 0 and < 1"),
        (OptionValue(-0.1), r"k must be a finite number >= 0 and < 1"),
        (Pessimistic(-0.1), "margin must be a finite number >= 0"),
        (Pessimistic(np.nan), "margin must be a finite number >= 0"),
        (ClosedLoop(n_lambdas=0), "n_lambdas must be an integer >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            policy.fit(survey, wrong, tree)


# ---------------------------------------------------------------------- closed loop


def literal_longstaff_schwartz(errors: np.ndarray, wrong: np.ndarray, tree: PathTree) -> Any:
    """Two exits: regress what follows the one step on squares and products of the errors."""
    centre, scale = errors.mean(axis=0), errors.std(axis=0)

    def expand(values: np.ndarray) -> np.ndarray:
        a, b = ((values - centre) / scale).T
        return np.column_stack([a, b, a * a, a * b, b * b])

    after = Ridge(10.0).fit(expand(errors), wrong[:, 1].astype(float))

    def decide(row: np.ndarray, lambda_: float) -> int:
        now = row[0] + lambda_ * tree.costs[0]
        onward = after.predict(expand(row[None]))[0] + lambda_ * tree.costs[1]
        return int(onward < now - 1e-6)

    return decide


def test_closed_loop_on_two_exits_is_a_ridge_regression_of_what_follows() -> None:
    tree = PathTree.chain([1, 2])
    survey, wrong = make_survey(tree, 300)
    policy = ClosedLoop().fit(survey, wrong, tree)
    decide = literal_longstaff_schwartz(survey[0], wrong, tree)
    new = make_survey(tree, 200, seed=1)[0][0]
    taken = set()
    for lambda_ in (0.0, 0.02, 0.1, 0.2, 0.5, 100.0):
        found = policy.aim(new, tree.path_costs, lambda_, prefix=0)
        assert found.tolist() == [decide(row, lambda_) for row in new]
        taken |= set(found.tolist())
    assert taken == {0, 1}


def test_closed_loop_follows_the_policy_of_the_gates_after_it() -> None:
    """Three exits: what follows the first step is what the second gate does, not its best path."""
    tree = PathTree.chain([1, 1, 2])
    survey, wrong = make_survey(tree, 200)
    policy = ClosedLoop(n_lambdas=3).fit(survey, wrong, tree)
    rows = np.arange(200)
    later, model = [], policy._models[0][0]
    for price in policy.lambdas_:
        ends = np.array([1, 2])[policy.aim(survey[1], tree.path_costs[[1, 2]], price, prefix=1)]
        later.append((wrong[rows, ends], tree.path_costs[ends]))
    goals = np.column_stack([e for e, _ in later] + [c for _, c in later]).astype(float)
    steps = model[:-1].transform(survey[0])
    assert np.allclose(
        model.predict(survey[0]), Ridge(10.0).fit(steps, goals).predict(steps), atol=1e-8
    )


@names
def test_closed_loop_loses_no_more_than_open_loop_where_gates_are_right(name: str) -> None:
    tree = TREES[name]
    survey, wrong = make_survey(tree, 600, noise=0)
    policy = ClosedLoop().fit(survey, wrong, tree)
    plain = mean_loss(OptionValue(0.0), survey, wrong, tree)
    assert mean_loss(policy, survey, wrong, tree) <= plain + 0.01


@pytest.mark.parametrize("n_lambdas", [1, 2, 7])
def test_closed_loop_aims_at_exit_or_a_next_step_whatever_the_grid(n_lambdas: int) -> None:
    tree = TREES["levels"]
    survey, wrong = make_survey(tree)
    policy = ClosedLoop(n_lambdas).fit(survey, wrong, tree)
    for prefix, errors in survey.items():
        candidates = tree.descendants(prefix)
        allowed = {prefix, *tree.children(prefix).tolist()}
        for lambda_ in (0.0, 0.03, 1e4):
            aimed = policy.aim(errors, tree.path_costs[candidates], lambda_, prefix=prefix)
            assert set(candidates[aimed].tolist()) <= allowed
        assert (candidates[aimed] == prefix).all()


def test_closed_loop_takes_costs_in_another_unit_and_refuses_other_proportions() -> None:
    tree = TREES["chain"]
    survey, wrong = make_survey(tree)
    policy = ClosedLoop().fit(survey, wrong, tree)
    costs = tree.path_costs
    one = policy.aim(survey[0], costs, 0.1, prefix=0)
    assert np.array_equal(policy.aim(survey[0], costs * 8, 0.1 / 8, prefix=0), one)
    with pytest.raises(ValueError, match="other proportions: call fit again"):
        policy.aim(survey[0], costs * [1, 1, 5], 0.1, prefix=0)


# ---------------------------------------------------------------------- sweep


def naive_walk(policy: Any, survey: Any, row: int, lambda_: float, tree: PathTree, at: int) -> int:
    while at in survey:
        candidates = tree.descendants(at)
        aimed = policy.aim(
            survey[at][[row]], tree.path_costs[candidates], lambda_, prefix=at
        ).item()
        goal = int(candidates[aimed])
        if goal == at:
            return at
        at = int(tree.prefixes(goal)[tree.depths[at]])
    return at


@names
@pytest.mark.parametrize("make", [OptionValue, Pessimistic, ClosedLoop])
def test_sweep_walks_every_row_down_the_tree(name: str, make: Any) -> None:
    tree = TREES[name]
    survey, wrong = make_survey(tree, 25)
    policy = make().fit(survey, wrong, tree)
    start = tree.roots[np.arange(25) % len(tree.roots)]
    knobs = [0.0, 0.05, 0.3, 10.0]
    taken = sweep(policy.plan, survey, knobs, tree, np.tile(start, (4, 1)))
    for line, knob in zip(taken, knobs, strict=True):
        expected = [naive_walk(policy, survey, i, knob, tree, int(start[i])) for i in range(25)]
        assert line.tolist() == expected


def test_next_steps_are_one_step_on_or_the_prefix_itself() -> None:
    tree = TREES["levels"]
    for prefix in range(tree.n_paths):
        candidates, depth = tree.descendants(prefix), int(tree.depths[prefix])
        for path, step in zip(candidates, next_steps(tree, candidates, depth), strict=True):
            line = tree.prefixes(int(path)).tolist()
            assert step == (path if len(line) == depth else line[depth])


# ---------------------------------------------------------------------- the router

TABLE, Y = make_path_probabilities(240)


@pytest.mark.parametrize(
    "policy",
    ["option-value", "pessimistic", "closed-loop", OptionValue(0.2), ClosedLoop(4)],
    ids=lambda p: p if isinstance(p, str) else type(p).__name__,
)
def test_a_policy_that_learns_is_fitted_with_the_router_and_not_after(policy: Any) -> None:
    router = quick(policy=policy).fit(TABLE, Y)
    curve = router.cost_curve([0.0, 0.1, 5.0], TABLE, Y)
    for line, knob in zip(curve.paths, curve.knobs, strict=True):
        assert np.array_equal(router.set_params(lambda_=knob).predict_path(TABLE), line)
    late = quick().fit(TABLE, Y).set_params(policy=policy)
    for call in (late.predict, late.cost_curve, lambda X: late.cost_curve(None, X, Y)):
        with pytest.raises(ValueError, match="was set after fit, and has to be fitted"):
            call(*[TABLE] * (call != late.cost_curve))
    assert late.fit(TABLE, Y).predict_path(TABLE).shape == (240,)
    router.set_params(policy="open-loop").predict(TABLE)


def test_a_parameter_of_a_fitted_policy_that_changes_asks_for_a_fit() -> None:
    router = quick(policy=OptionValue(0.1)).fit(TABLE, Y).set_params(policy__k=0.4)
    with pytest.raises(ValueError, match="was set after fit"):
        router.predict(TABLE)
    assert router.fit(TABLE, Y).policy_.k_ == 0.4
    assert router.policy is not router.policy_


class Thrifty(BaseEstimator):
    """A policy with nothing to fit: always exits now."""

    def aim(self, errors: Any, costs: Any, lambda_: float, *, prefix: Any) -> np.ndarray:
        return np.zeros(len(errors), dtype=np.intp)


class Plain:
    """Nor is it an estimator."""

    aim = Thrifty.aim


def furthest(errors: Any, costs: Any, lambda_: float) -> np.ndarray:
    return np.full(len(errors), np.argmax(costs))


@pytest.mark.parametrize("policy", [Thrifty(), Plain(), furthest], ids=["estimator", "bare", "fn"])
def test_a_policy_of_ones_own_works_before_and_after_fit(policy: Any) -> None:
    tree = TREES["levels"]
    table, y = make_path_probabilities(150, tree)
    end = int(tree.path_costs.argmax()) if policy is furthest else 0
    before = quick(policy=policy, validation_fraction=0).fit(table, y)
    after = quick(validation_fraction=0).fit(table, y).set_params(policy=policy)
    for router in (before, after):
        assert (router.predict_path(table) == end).all()
        assert (router.cost_curve(None, table, y).paths == end).all()


@pytest.mark.parametrize("policy", ["greedy", 3, None])
def test_an_unknown_policy_is_refused(policy: Any) -> None:
    with pytest.raises(ValueError, match=r"policy must be one of .*'closed-loop'"):
        quick(policy=policy).fit(TABLE, Y)


def test_policies_learn_from_the_rows_held_out_where_there_are_enough() -> None:
    table, y = make_path_probabilities(1000)
    router = quick(policy=OptionValue(), validation_fraction=0.4).fit(table, y)
    survey, right, _ = router._held_out
    again = OptionValue().fit(survey, ~right, router.paths_)
    assert router.policy_.k_ == again.k_
    assert default_lambdas(router.paths_).size == 101


@names
def test_a_weight_counts_as_so_many_rows(name: str) -> None:
    tree = TREES[name]
    survey, wrong = make_survey(tree, 120)
    weights = np.random.default_rng(2).integers(0, 4, 120)
    rows = np.repeat(np.arange(120), weights)
    again = {p: errors[rows] for p, errors in survey.items()}
    for policy in (OptionValue(0.2), Pessimistic()):
        found = mean_loss(policy, survey, wrong, tree, weights.astype(float))
        assert found == pytest.approx(mean_loss(policy, again, wrong[rows], tree))
        assert found != pytest.approx(mean_loss(policy, survey, wrong, tree))
    weighted = ClosedLoop().fit(survey, wrong, tree, weights.astype(float))
    repeated = ClosedLoop().fit(again, wrong[rows], tree)
    for prefix, (model, _) in weighted._models.items():
        np.testing.assert_allclose(
            model.predict(survey[prefix]), repeated._models[prefix][0].predict(survey[prefix])
        )
    chosen = [
        OptionValue().fit(*given).k_
        for given in ((survey, wrong, tree, weights.astype(float)), (again, wrong[rows], tree))
    ]
    assert chosen[0] == chosen[1]


def test_a_router_hands_weights_to_its_policy_answer_and_first_step() -> None:
    tree = TREES["levels"]
    table, y = make_path_probabilities(400, tree)
    weights = np.where(np.arange(400) < 200, 3.0, 1.0)
    options = {"policy": "option-value", "answer": "ensemble", "first": "free"}
    router = quick(**options, validation_fraction=0).fit(table, y, sample_weight=weights)
    codes = np.searchsorted(router.classes_, y)
    alone = EnsembleAnswer().fit(table, codes, weights)
    np.testing.assert_allclose(router.answer_.weights_[-1], alone.weights_[-1])
    survey, wrong, given = router._start_rows
    np.testing.assert_array_equal(given, weights)
    assert router.policy_.k_ == OptionValue().fit(survey, wrong, tree, given).k_


@names
@pytest.mark.parametrize("policy", [OptionValue(0.2), Pessimistic(), ClosedLoop()])
def test_a_plan_aims_as_the_policy_does(name: str, policy: Any) -> None:
    tree = TREES[name]
    survey, wrong = make_survey(tree, 40)
    policy.fit(survey, wrong, tree)
    rows = np.arange(0, 40, 3)
    for prefix, errors in survey.items():
        costs = tree.path_costs[tree.descendants(prefix)]
        plan = policy.plan(errors, costs, prefix=prefix)
        for lambda_ in (0.0, 0.1, 1.0):
            aimed = policy.aim(errors[rows], costs, lambda_, prefix=prefix)
            np.testing.assert_array_equal(plan(lambda_, rows), aimed)
            if not isinstance(policy, ClosedLoop):
                opened = plan_open_loop(errors, costs)(lambda_, rows)
                np.testing.assert_array_equal(opened, open_loop(errors[rows], costs, lambda_))


def test_a_plan_names_the_sample_whose_score_is_no_number() -> None:
    errors = np.array([[0.1, 0.2], [np.nan, 0.3]])
    with pytest.raises(ValueError, match="sample 1 is NaN"):
        plan_open_loop(errors, [0.5, 1.0])(0.1, np.arange(2))
