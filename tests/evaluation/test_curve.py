from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skquee import PathTree
from skquee.evaluation import CostCurve, hull_points

TREE = PathTree.from_levels(n_exits=3, levels=(4, 8))


def make_curve(n_points=7, n_samples=60, seed=0, tree=TREE, **options):
    rng = np.random.default_rng(seed)
    paths = rng.integers(tree.n_paths, size=(n_points, n_samples))
    correct = rng.random((n_points, n_samples)) < 0.5 + 0.4 * tree.path_costs[paths]
    return CostCurve(np.linspace(0, 1, n_points), paths, correct, tree, **options)


def literal_hull(cost, accuracy, budget):
    """Best accuracy of any mix of at most two points within a budget."""
    best = np.nan
    for c1, a1 in zip(cost, accuracy, strict=True):
        for c2, a2 in zip(cost, accuracy, strict=True):
            if c1 <= budget:
                share = 1.0 if c2 <= budget else (budget - c1) / (c2 - c1)
                best = np.fmax(best, max(a1, (1 - share) * a1 + share * a2))
    return best


points = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=25).map(
    lambda pairs: np.array(pairs, dtype=float).T / 40
)


@given(points)
def test_hull_rises_bends_down_and_lies_above_all_points(pair):
    cost, accuracy = pair
    x, y = hull_points(cost, accuracy)
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    assert (np.diff(np.diff(y) / np.diff(x)) < 0).all()
    assert (np.interp(cost, x, y) >= accuracy - 1e-12).all()


@given(points)
def test_corners_of_the_hull_are_points_from_the_cheapest_to_the_best(pair):
    cost, accuracy = pair
    x, y = hull_points(cost, accuracy)
    assert set(zip(x, y, strict=True)) <= set(zip(cost, accuracy, strict=True))
    assert x[0] == cost.min() and y[-1] == accuracy.max()


@given(points, st.randoms(use_true_random=False))
def test_order_of_points_does_not_change_the_hull(pair, random):
    order = random.sample(range(pair.shape[1]), pair.shape[1])
    np.testing.assert_array_equal(hull_points(*pair), hull_points(*pair[:, order]))


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_accuracy_at_is_the_best_mix_within_the_budget(seed):
    curve = make_curve(seed=seed)
    budgets = np.linspace(0, 1.1, 23)
    expected = [literal_hull(curve.cost, curve.accuracy, budget) for budget in budgets]
    np.testing.assert_allclose(curve.accuracy_at(budgets), expected, atol=1e-12)


def test_area_is_the_mean_of_the_best_mixes_over_the_range():
    curve = make_curve()
    low, high = TREE.path_costs.min(), TREE.path_costs.max()
    middles = low + (np.arange(4000) + 0.5) / 4000 * (high - low)
    heights = [literal_hull(curve.cost, curve.accuracy, budget) for budget in middles]
    assert curve.area() == pytest.approx(np.nan_to_num(heights).mean(), abs=1e-3)


def test_area_counts_nothing_below_the_first_point_and_is_flat_behind_the_last():
    paths, correct = np.full((1, 4), 2), np.array([[True, True, True, False]])
    curve = CostCurve([0.0], paths, correct, PathTree.chain([1, 1, 2]).with_costs([1, 2, 3]))
    assert curve.area((2, 4)) == pytest.approx(0.75 / 2)
    assert curve.area((3, 9)) == 0.75
    assert curve.area((1, 3)) == 0.0
    assert curve.area((3, 3)) == 0.75
    with pytest.raises(ValueError, match="must rise"):
        curve.area((3, 2))


def test_unit_of_cost_does_not_change_the_area():
    curve = make_curve()
    other = CostCurve(curve.knobs, curve.paths, curve.correct, TREE.with_costs(TREE.path_costs * 7))
    assert other.area() == pytest.approx(curve.area())
    np.testing.assert_allclose(other.cost, 7 * curve.cost)


def test_cost_at_undoes_accuracy_at_and_is_nan_out_of_reach():
    curve = make_curve()
    cost, accuracy = curve.hull()
    inside = np.linspace(cost[0], cost[-1], 9)
    np.testing.assert_allclose(curve.cost_at(curve.accuracy_at(inside)), inside)
    assert np.isnan(curve.accuracy_at(cost[0] - 1e-6))
    assert np.isnan(curve.cost_at(accuracy[-1] + 1e-6))
    assert curve.cost_at(0.0) == cost[0]
    assert isinstance(curve.cost_at(0.0), float)


def test_points_agree_with_a_literal_loop_over_samples():
    weights = np.random.default_rng(1).random(60)
    curve = make_curve(sample_weight=weights)
    for k in range(len(curve)):
        accuracy = cost = 0.0
        shares = np.zeros(TREE.n_paths)
        for i in range(60):
            accuracy += weights[i] * curve.correct[k, i] / weights.sum()
            cost += weights[i] * TREE.costs[curve.paths[k, i]] / weights.sum()
            shares[curve.paths[k, i]] += weights[i] / weights.sum()
        assert curve.accuracy[k] == pytest.approx(accuracy)
        assert curve.cost[k] == pytest.approx(cost)
        np.testing.assert_allclose(curve.path_shares[k], shares)


@given(st.integers(1, 400), st.integers(0, 1000))
def test_cost_of_one_path_for_all_is_exactly_the_cost_of_that_path(n_samples, seed):
    weights = np.random.default_rng(seed).random(n_samples) + 0.01
    paths = np.repeat(np.arange(TREE.n_paths)[:, None], n_samples, axis=1)
    correct = np.ones(paths.shape, dtype=bool)
    for options in ({}, {"sample_weight": weights}):
        curve = CostCurve(np.arange(TREE.n_paths), paths, correct, TREE, **options)
        np.testing.assert_array_equal(curve.cost, TREE.path_costs)
        assert curve.accuracy_at(TREE.path_costs.min()) == pytest.approx(1)


def test_weight_of_a_row_counts_like_copies_of_it():
    copies = np.random.default_rng(1).integers(0, 4, size=60)
    curve = make_curve(sample_weight=copies)
    repeated = CostCurve(
        curve.knobs, curve.paths.repeat(copies, 1), curve.correct.repeat(copies, 1), TREE
    )
    np.testing.assert_allclose(curve.accuracy, repeated.accuracy)
    np.testing.assert_allclose(curve.cost, repeated.cost)
    assert curve.area() == pytest.approx(repeated.area())


def test_frame_has_a_row_a_point_and_a_share_column_a_path():
    frame = make_curve(knob="threshold", source="rows held out in fit").to_frame()
    assert list(frame) == ["threshold", "accuracy", "cost", *(f"share {n}" for n in TREE.names)]
    assert len(frame) == 7
    np.testing.assert_allclose(frame.filter(like="share").sum(axis=1), 1)
    assert frame.attrs["source"] == "rows held out in fit"


def test_repr_names_the_rows_and_their_number_once():
    assert "60 given rows" in repr(make_curve())
    assert "450 rows held out in fit" in repr(make_curve(source="450 rows held out in fit"))
    assert "60" not in repr(make_curve(source="450 rows held out in fit"))


def test_curve_has_the_length_of_its_sweep_and_survives_pickle():
    curve = pickle.loads(pickle.dumps(make_curve(label="router")))
    assert len(curve) == 7
    assert curve.label == "router"
    np.testing.assert_array_equal(curve.lambdas, make_curve().knobs)
    np.testing.assert_array_equal(curve.accuracy, make_curve().accuracy)


@pytest.mark.parametrize(
    ("knobs", "paths", "correct", "options", "message"),
    [
        ([0.0], np.zeros((1, 0), int), np.zeros((1, 0), bool), {}, "not empty"),
        ([0.0], [[0, 1]], [[True]], {}, r"got \(1, 2\) and \(1, 1\)"),
        ([0.0, 1.0], [[0, 1]], [[True, True]], {}, r"knobs must have shape \(1,\)"),
        ([0.0], [[0, 7]], [[True, True]], {}, "indices from 0 to 5"),
        ([0.0], [[0, -1]], [[True, True]], {}, "indices from 0 to 5"),
        ([0.0], [[0, 1]], [[True, True]], {"sample_weight": [1.0]}, "must hold 2 numbers"),
        ([0.0], [[0, 1]], [[True, True]], {"sample_weight": [0, 0]}, "positive sum"),
        ([0.0], [[0, 1]], [[True, True]], {"sample_weight": [2, -1]}, ">= 0"),
    ],
)
def test_curve_refuses_what_does_not_fit(knobs, paths, correct, options, message):
    with pytest.raises(ValueError, match=message):
        CostCurve(knobs, paths, correct, TREE, **options)
