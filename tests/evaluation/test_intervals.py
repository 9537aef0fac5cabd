from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skquee import PathTree
from skquee.evaluation import (
    CostCurve,
    bootstrap_interval,
    paired_bootstrap,
    subset_interval,
    wilson_interval,
)

TREE = PathTree.from_levels(n_exits=3, levels=(4, 8))


def make_curve(seed=0, n_points=6, n_samples=80, better=0.0, **options):
    """A curve whose rows are the same hard or easy ones for every seed."""
    rng = np.random.default_rng(seed)
    hardness = np.random.default_rng(99).random(n_samples)
    paths = rng.integers(TREE.n_paths, size=(n_points, n_samples))
    paths[-1] = 0
    correct = hardness < 0.4 + better + 0.4 * TREE.path_costs[paths]
    return CostCurve(np.arange(n_points), paths, correct, TREE, **options)


def rows_of(curve, rows, **options):
    return CostCurve(curve.knobs, curve.paths[:, rows], curve.correct[:, rows], TREE, **options)


def test_subset_interval_is_a_t_interval_over_disjoint_parts():
    curve = make_curve()
    frame = subset_interval(curve, n_subsets=7, confidence=0.9, random_state=3)
    order = np.random.RandomState(3).permutation(80)
    parts = [rows_of(curve, part) for part in np.array_split(order, 7)]
    for k in range(len(curve)):
        values = [part.accuracy[k] for part in parts]
        low, high = stats.t.interval(0.9, 6, np.mean(values), stats.sem(values))
        row = frame.iloc[k]
        assert row["accuracy"] == pytest.approx(np.mean(values))
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((low, high))
    areas = [part.area() for part in parts]
    low, high = stats.t.interval(0.9, 6, np.mean(areas), stats.sem(areas))
    assert frame.attrs["area"] == pytest.approx({"mean": np.mean(areas), "low": low, "high": high})


def test_bootstrap_interval_agrees_with_drawing_rows_one_by_one():
    curve = make_curve()
    frame = bootstrap_interval(curve, n_resamples=40, random_state=5)
    draws = np.random.RandomState(5).randint(80, size=(40, 80))
    copies = [rows_of(curve, rows) for rows in draws]
    t, n = stats.t.ppf(0.975, 79) * np.sqrt(80 / 79), 80

    def interval(value, drawn, bias):
        """Shifted by the bias that resampling shows, in Wilson's form."""
        half = t * np.sqrt(np.var(drawn) + bias**2 + (t / (2 * n)) ** 2)
        middle = value - bias + t**2 / (2 * n)
        return (middle - half) / (1 + t**2 / n), (middle + half) / (1 + t**2 / n)

    np.testing.assert_allclose(frame["accuracy"], curve.accuracy)
    for k, value in enumerate(curve.accuracy):
        found = frame.loc[k, ["accuracy_low", "accuracy_high"]]
        drawn = [copy.accuracy[k] for copy in copies]
        np.testing.assert_allclose(found.astype(float), interval(value, drawn, 0.0))
    areas = np.array([copy.area() for copy in copies])
    low, high = interval(curve.area(), areas, areas.mean() - curve.area())
    area = {"mean": curve.area(), "low": low, "high": high}
    assert frame.attrs["area"] == pytest.approx(area)
    costs = [0.5, 0.9]
    band = bootstrap_interval(curve, costs=costs, n_resamples=40, random_state=5)
    assert band["cost"].tolist() == costs
    assert band.attrs["area"] == frame.attrs["area"]
    for k, cost in enumerate(costs):
        value = curve.accuracy_at(cost)
        drawn = np.array([copy.accuracy_at(cost) for copy in copies])
        found = band.loc[k, ["accuracy_low", "accuracy_high"]]
        np.testing.assert_allclose(
            found.astype(float), interval(value, drawn, drawn.mean() - value)
        )


def test_the_interval_of_the_area_covers_the_true_one_as_often_as_it_says():
    """One operating point and one path: the area is an accuracy, and its interval is Wilson's."""
    rng, hits = np.random.default_rng(0), {0.75: 0, 0.98: 0}
    for truth in hits:
        for seed in range(60):
            correct = rng.random((1, 100)) < truth
            curve = CostCurve([0.0], np.zeros((1, 100), int), correct, PathTree.chain([1]))
            area = bootstrap_interval(curve, n_resamples=60, random_state=seed).attrs["area"]
            hits[truth] += area["low"] <= truth <= area["high"]
    assert min(hits.values()) >= 53  # of 57 expected; a twentieth of all seeds goes lower


def test_the_interval_of_the_area_does_not_shrink_to_a_point_without_an_error():
    curve = CostCurve([0.0], np.zeros((1, 100), int), np.ones((1, 100), bool), PathTree.chain([1]))
    area = bootstrap_interval(curve, n_resamples=20, random_state=0).attrs["area"]
    assert area["low"] == pytest.approx(0.962, abs=1e-3)
    assert area["high"] == pytest.approx(1.0)


def test_one_row_with_a_weight_says_nothing():
    curve = make_curve(sample_weight=np.eye(80)[3])
    area = bootstrap_interval(curve, n_resamples=5, random_state=0).attrs["area"]
    assert (area["low"], area["high"]) == (0.0, 1.0)


def test_rounding_is_no_difference():
    """Repeated points sum in another order: a difference of 1e-16 is none."""
    curve = make_curve(3, n_points=9)
    order = np.array([4, 0, 0, 2, 8, 1, 5, 3, 7, 6, 6, 2])
    again = CostCurve(curve.knobs[order], curve.paths[order], curve.correct[order], TREE)
    again.knobs = again.knobs + 1e-9
    result = paired_bootstrap(curve, again, n_resamples=200, random_state=0)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)
    one_more = curve.correct.copy()
    one_more[:, np.flatnonzero(~curve.correct.any(axis=0))[0]] = True
    other = CostCurve(curve.knobs, curve.paths, one_more, TREE)
    result = paired_bootstrap(other, curve, n_resamples=200, random_state=0)
    assert 0 < result.difference < 1 / 80 + 1e-9
    assert result.low < 0 < result.high
    assert 0.05 < result.p_value < 1.0


def test_bootstrap_interval_has_the_width_of_a_binomial_one():
    correct = (np.arange(900) < 720)[None]
    curve = CostCurve([0.0], np.zeros((1, 900), int), correct, TREE)
    frame = bootstrap_interval(curve, n_resamples=2000, random_state=0)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 900)
    assert frame["accuracy_low"][0] == pytest.approx(0.8 - half, abs=0.004)
    assert frame["accuracy_high"][0] == pytest.approx(0.8 + half, abs=0.004)


@pytest.mark.parametrize("interval", [subset_interval, bootstrap_interval])
def test_intervals_name_the_rows_and_repeat_with_their_seed(interval):
    curve = make_curve(knob="threshold", source="rows held out in fit")
    frame = interval(curve, random_state=1)
    assert list(frame) == ["threshold", "cost", "accuracy", "accuracy_low", "accuracy_high"]
    assert frame.attrs["source"] == "rows held out in fit"
    assert frame.equals(interval(curve, random_state=1))
    assert not frame.equals(interval(curve, random_state=2))


@pytest.mark.parametrize("interval", [subset_interval, bootstrap_interval])
def test_rows_of_weight_zero_count_as_absent(interval):
    weights = np.arange(80) % 3
    kept = weights > 0
    whole = interval(make_curve(sample_weight=weights), random_state=0)
    part = interval(rows_of(make_curve(), kept, sample_weight=weights[kept]), random_state=0)
    np.testing.assert_allclose(whole, part)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([None, 0.3, 0.6, 1.0]))
def test_a_curve_does_not_differ_from_itself(seed, at_cost):
    curve = make_curve(seed)
    result = paired_bootstrap(curve, curve, at_cost=at_cost, n_resamples=20, random_state=seed)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_paired_bootstrap_draws_the_same_rows_for_both():
    first, second = make_curve(0, better=0.1), make_curve(1)
    result = paired_bootstrap(first, second, n_resamples=50, random_state=2)
    reach = (max(first.cost.min(), second.cost.min()), 1.0)
    draws = np.random.RandomState(2).randint(80, size=(50, 80))
    differences = np.array(
        [rows_of(first, r).area(reach) - rows_of(second, r).area(reach) for r in draws]
    )
    assert result.difference == pytest.approx(first.area(reach) - second.area(reach))
    t = stats.t.ppf(0.975, 79) * np.sqrt(80 / 79)
    # What one row weighs: by leaving each out.
    every = np.arange(80)
    moved = [
        result.difference - (rows_of(first, r).area(reach) - rows_of(second, r).area(reach))
        for r in (np.delete(every, i) for i in every)
    ]
    square = max(np.sum(np.power(moved, 4)) / np.sum(np.square(moved)), 0.25 / 80**2)
    half = t * np.sqrt(differences.var() + t**2 * square / 2)
    assert result.high - result.difference == pytest.approx(half, rel=0.03)
    assert result.difference - result.low == pytest.approx(half, rel=0.03)
    # At the level of the p-value the interval ends at zero.
    level = 1 - result.p_value
    again = paired_bootstrap(first, second, n_resamples=50, confidence=level, random_state=2)
    assert min(abs(again.low), abs(again.high)) == pytest.approx(0, abs=1e-9)


def test_few_rows_that_differ_prove_as_little_as_in_an_exact_test():
    """Methods that differ in k of 500 rows, all to one side: against the sign test."""
    tree = PathTree.chain([1])
    for k in range(1, 21):
        right = np.ones((2, 500), dtype=bool)
        right[1, :k] = False
        better, worse = (CostCurve([0], np.zeros((1, 500)), r[None], tree) for r in right)
        result = paired_bootstrap(better, worse, random_state=0)
        exact = stats.binomtest(k, k).pvalue
        assert (result.p_value < 0.05) == (exact < 0.05) == (result.low > 0)
        if exact < 0.1:
            assert result.p_value == pytest.approx(exact, abs=0.02)
    same = CostCurve([0], np.zeros((1, 500)), better.correct, tree)
    assert paired_bootstrap(better, same, random_state=0).high == 0


def test_methods_that_agree_on_all_rows_by_different_paths_may_still_differ():
    tree, right = PathTree.chain([1, 1]), np.ones((1, 200), dtype=bool)
    first = CostCurve([0], np.zeros((1, 200)), right, tree)
    second = CostCurve([0], np.ones((1, 200)), right, tree)
    result = paired_bootstrap(first, second, at_cost=2, n_resamples=20, random_state=0)
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert -result.low == result.high == pytest.approx(2.77 / 200, rel=0.02)


def test_swapping_the_curves_turns_the_sign():
    first, second = make_curve(0, better=0.1), make_curve(1)
    there = paired_bootstrap(first, second, n_resamples=50, random_state=0)
    back = paired_bootstrap(second, first, n_resamples=50, random_state=0)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p_value == there.p_value


def test_pairing_sees_a_gain_that_single_intervals_hide():
    worse = make_curve(n_samples=400)
    fixed = np.flatnonzero(~worse.correct.any(axis=0))[:12]
    correct = worse.correct.copy()
    correct[:, fixed] = True
    better = CostCurve(worse.knobs, worse.paths, correct, TREE)
    bands = [bootstrap_interval(c, random_state=0).attrs["area"] for c in (better, worse)]
    assert bands[0]["low"] < bands[1]["high"]
    result = paired_bootstrap(better, worse, random_state=0)
    assert result.low > 0
    assert result.p_value < 0.01


def test_at_cost_compares_accuracies_on_the_hulls():
    first, second = make_curve(0, better=0.1), make_curve(1)
    result = paired_bootstrap(first, second, at_cost=0.6, n_resamples=20, random_state=0)
    expected = first.accuracy_at(0.6) - second.accuracy_at(0.6)
    assert result.difference == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: subset_interval(c, n_subsets=81), "between 2 and the 80 rows"),
        (lambda c: subset_interval(c, n_subsets=1), "between 2 and the 80 rows"),
        (lambda c: subset_interval(c, confidence=1.0), "confidence must be a finite number > 0"),
        (lambda c: bootstrap_interval(c, n_resamples=0), "n_resamples must be an integer >= 1"),
        (lambda c: paired_bootstrap(c, c, n_resamples=0), "n_resamples must be an integer >= 1"),
        (lambda c: paired_bootstrap(c, c, confidence=95), "confidence must be a finite number > 0"),
        (lambda c: subset_interval(c, n_subsets=2.5), "n_subsets must be an integer"),
        (lambda c: subset_interval(c, random_state=-1), "random_state must be None"),
        (lambda c: paired_bootstrap(c, c, at_cost=np.nan), "at_cost must be a finite number"),
        (lambda c: paired_bootstrap(c, c, at_cost="a"), "at_cost must be a finite number"),
        (lambda c: paired_bootstrap(c, c, cost_range=(1, 0)), "cost_range must rise"),
        (lambda c: paired_bootstrap(c, c, at_cost=1, at_accuracy=1), "Give at_cost or at_acc"),
        (lambda c: paired_bootstrap(c, c, at_accuracy=2), "at_accuracy must be a finite number"),
        (lambda c: bootstrap_interval(c, costs=[0.0]), "costs must be at least .*, got 0"),
        (lambda c: bootstrap_interval(c, costs=1), "costs must be an integer >= 2"),
        (lambda c: bootstrap_interval(c, cost_range="ab"), "cost_range must hold"),
        (lambda c: paired_bootstrap(c, make_curve(n_samples=79)), "same rows, .* 80 and 79"),
        (
            lambda c: paired_bootstrap(c, make_curve(sample_weight=np.arange(80))),
            "same sample weights",
        ),
    ],
)
def test_intervals_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_curve())


def test_a_share_of_rows_has_the_interval_of_wilson():
    low, high = wilson_interval([0.0, 0.9, 1.0], 100)
    assert np.allclose(low, [0, 0.8256, 0.9630], atol=1e-4)
    assert np.allclose(high, [0.0370, 0.9448, 1], atol=1e-4)
    with pytest.raises(ValueError, match="n_rows must be a finite number > 0"):
        wilson_interval(0.5, 0)
