from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from skquee import CostAwareRouter, PathErrorRegressor, PathProbabilities, PathTree
from skquee.baselines import FixedPath, ThresholdRouter
from skquee.evaluation import (
    CostCurve,
    bootstrap_interval,
    compare,
    holm_adjusted,
    paired_bootstrap,
)
from skquee.testing import make_path_probabilities


@pytest.fixture(scope="module")
def rows():
    X, y = make_path_probabilities(600)
    return X[:300], y[:300], X[300:], y[300:]


@pytest.fixture(scope="module")
def methods(rows):
    X, y, *_ = rows
    regressor = PathErrorRegressor(max_epochs=500, patience=10)
    routers = {
        "threshold": ThresholdRouter(),
        "router": CostAwareRouter(regressor=regressor, random_state=0),
        "fixed": FixedPath(),
    }
    return {name: router.fit(X, y) for name, router in routers.items()}


def test_a_row_holds_what_the_single_functions_say(methods, rows):
    _, _, X, y = rows
    table = compare(methods, X, y, n_resamples=50, random_state=0)
    curves = table.attrs["curves"]
    assert list(table.index) == list(curves) == list(methods)
    low, high = table.attrs["cost_range"]
    assert low == max(curve.cost.min() for curve in curves.values())
    for name, curve in curves.items():
        row = table.loc[name]
        assert row["area"] == curve.area((low, high))
        own = bootstrap_interval(
            curve, cost_range=(low, high), n_resamples=50, random_state=0
        ).attrs["area"]
        assert (row["low"], row["high"]) == (own["low"], own["high"])
        pair = paired_bootstrap(
            curves["threshold"], curve, cost_range=(low, high), n_resamples=50, random_state=0
        )
        assert row["difference"] == pair.difference
        assert (row["difference_low"], row["difference_high"]) == (pair.low, pair.high)
        assert row["p_value"] == pair.p_value
    assert table.loc["threshold", ["difference", "difference_low", "difference_high"]].eq(0).all()


def test_the_reference_and_the_range_can_be_chosen_and_the_table_goes_to_csv(
    methods, rows, tmp_path
):
    _, _, X, y = rows
    options = {"n_resamples": 10, "random_state": 0, "cost_range": (0.6, 0.9)}
    table = compare(methods, X, y, reference="fixed", **options)
    assert table.loc["fixed", "difference"] == 0
    assert table.loc["router", "difference"] == pytest.approx(
        table.loc["fixed", "area"] - table.loc["router", "area"]
    )
    table.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().startswith("method,area,low,high,difference")


def test_finished_curves_and_rows_in_several_forms_do_as_well(methods, rows):
    _, _, X, y = rows
    options = {"n_resamples": 10, "random_state": 0}
    expected = compare(methods, X, y, **options)
    mixed = {**methods, "fixed": methods["fixed"].cost_curve(None, X, y)}
    forms = {"threshold": X, "router": PathProbabilities(np.asarray(X), X.paths), "fixed": None}
    assert compare(mixed, forms, y, **options).equals(expected)


def test_what_cannot_be_compared_is_refused(methods, rows):
    _, _, X, y = rows
    with pytest.raises(ValueError, match="methods must map names .* at least one"):
        compare({}, X, y)
    with pytest.raises(ValueError, match=r"reference must be one of \['threshold'"):
        compare(methods, X, y, reference="oracle")
    other = methods["fixed"].cost_curve(None, X[:100], y[:100])
    with pytest.raises(ValueError, match="'fixed' was measured on 100 rows, but y has 300"):
        compare({**methods, "fixed": other}, X, y)
    with pytest.raises(ValueError, match=r"without rows for \['router', 'fixed'\]"):
        compare(methods, {"threshold": X}, y)
    for options, message in (
        ({"confidence": 95}, "confidence must be a finite number > 0 and < 1"),
        ({"n_resamples": 0}, "n_resamples must be an integer >= 1"),
        ({"cost_range": (0.9, 0.1)}, "cost_range must rise"),
        ({"cost_range": (0.9, np.nan)}, "cost_range must hold finite numbers"),
        ({"at_cost": -1}, "at_cost must be a finite number >= 0"),
        ({"at_cost": [0.5, np.nan]}, "at_cost must hold finite numbers"),
        ({"at_accuracy": 1.5}, "at_accuracy must be a finite number >= 0 and <= 1"),
        ({"random_state": -1}, "random_state must be None, an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(methods, X, y, **options)


def test_methods_are_compared_at_budgets_and_at_accuracies_with_one_correction_for_all(
    methods, rows
):
    _, _, X, y = rows
    options = {"n_resamples": 50, "random_state": 0}
    table = compare(methods, X, y, at_cost=[0.5, 0.8], at_accuracy=0.7, **options)
    curves, unit = table.attrs["curves"], "of the whole network"
    measures = ["area", f"accuracy at 0.5 {unit}", f"accuracy at 0.8 {unit}", "cost at 0.7"]
    assert table.index.unique("measure").tolist() == measures
    pd.testing.assert_frame_equal(
        table.loc["area"].drop(columns="p_adjusted").rename(columns={"value": "area"}),
        compare(methods, X, y, **options).drop(columns="p_adjusted"),
    )
    for name, curve in curves.items():
        for cost, measure in zip((0.5, 0.8), measures[1:3], strict=True):
            row = table.loc[(measure, name)]
            band = bootstrap_interval(curve, costs=[cost], **options)
            assert row["value"] == pytest.approx(curve.accuracy_at(cost))
            assert row["low"] == pytest.approx(band["accuracy_low"][0])
            assert row["high"] == pytest.approx(band["accuracy_high"][0])
            pair = paired_bootstrap(curves["threshold"], curve, at_cost=cost, **options)
            assert row["difference"] == pair.difference
            assert row["p_value"] == pair.p_value
        row = table.loc[("cost at 0.7", name)]
        assert row["value"] == pytest.approx(curve.cost_at(0.7))
        assert row["low"] <= row["value"] <= row["high"]
        pair = paired_bootstrap(curves["threshold"], curve, at_accuracy=0.7, **options)
        assert (row["difference_low"], row["difference_high"]) == (pair.low, pair.high)
    others = table.index.get_level_values("method") != "threshold"
    assert (table.loc[~others, "p_adjusted"] == 1).all()
    expected = holm_adjusted(table.loc[others, "p_value"])
    assert table.loc[others, "p_adjusted"].tolist() == expected.tolist()
    assert (table["p_adjusted"] >= table["p_value"]).all()


def test_the_cost_of_an_accuracy_lies_where_the_band_of_the_hull_holds_it(methods, rows):
    _, _, X, y = rows
    curve = methods["threshold"].cost_curve(None, X, y)
    table = compare({"it": curve}, None, y, at_accuracy=0.7, n_resamples=50, random_state=0)
    row = table.loc[("cost at 0.7", "it")]
    ends = bootstrap_interval(
        curve, costs=[row["low"], row["high"]], n_resamples=50, random_state=0
    )
    assert ends["accuracy_high"][0] == pytest.approx(0.7, abs=2e-3)
    assert ends["accuracy_low"][1] == pytest.approx(0.7, abs=2e-3)


def test_what_is_out_of_reach_is_no_difference_and_does_not_count_among_the_comparisons():
    tree = PathTree.chain([1, 1], cost_unit="ms")
    right = np.random.default_rng(0).random((2, 60)) < [[0.5], [0.8]]
    both = CostCurve([0, 1], np.array([0, 1])[:, None] * np.ones(60), right, tree)
    dear = CostCurve([0], np.ones((1, 60)), right[1:] & (np.arange(60) > 9), tree)
    options = {"at_cost": [1.2, 2], "at_accuracy": 0.75, "n_resamples": 30, "random_state": 0}
    table = compare({"both": both, "dear": dear}, None, **options)
    low = table.loc[("accuracy at 1.2 ms", "dear")]
    assert low[["value", "low", "high", "difference", "p_value", "p_adjusted"]].isna().all()
    assert table.loc[("cost at 0.75", "dear"), "value"] == np.inf
    assert table.loc[("cost at 0.75", "dear"), ["difference", "p_adjusted"]].isna().all()
    assert np.isfinite(table.loc[("accuracy at 1.2 ms", "both"), "low"])
    known = table.loc[[("area", "dear"), ("accuracy at 2 ms", "dear")]]
    assert known["p_adjusted"].tolist() == holm_adjusted(known["p_value"]).tolist()
    with pytest.raises(ValueError, match="at_accuracy=0.75 is out of reach"):
        paired_bootstrap(both, dear, at_accuracy=0.75)


def test_operations_on_the_table_share_its_curves(methods, rows):
    """pandas copies attrs deeply with every operation: curves of many rows would make each slow."""
    _, _, X, y = rows
    table = compare(methods, X, y, n_resamples=2, random_state=0)
    assert table.iloc[:1].attrs["curves"] is table.attrs["curves"]
    again = pickle.loads(pickle.dumps(table)).attrs["curves"]
    assert again["fixed"].area() == table.attrs["curves"]["fixed"].area()


def test_a_correction_for_many_is_that_of_holm():
    p = [0.011, 0.02, 0.5, np.nan, 0.012]
    assert holm_adjusted(p)[[0, 1, 2, 4]].tolist() == pytest.approx([0.044, 0.044, 0.5, 0.044])
    assert np.isnan(holm_adjusted(p)[3])
    assert holm_adjusted([]).tolist() == []
    for wrong in ([1.2], [-0.1], [[0.5]]):
        with pytest.raises(ValueError, match="p_values must be a list of numbers between 0 and 1"):
            holm_adjusted(wrong)


def test_among_equal_methods_a_difference_is_seldom_found():
    """Right or wrong by the toss of the same coin: few rows tell the methods apart."""
    rng, tree, found = np.random.default_rng(0), PathTree.chain([1]), 0
    for seed in range(60):
        right = rng.random((4, 100)) < 0.97
        curves = {
            str(i): CostCurve([0], np.zeros((1, 100)), right[i : i + 1], tree) for i in range(4)
        }
        table = compare(curves, None, n_resamples=40, random_state=seed)
        found += table["p_adjusted"].min() < 0.05
    assert found <= 6  # of 3 allowed for; a thirtieth of all seeds goes higher
