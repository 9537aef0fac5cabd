from __future__ import annotations

import numpy as np
import pytest

from skquee import CostAwareRouter, PathErrorRegressor, PathProbabilities
from skquee.baselines import FixedPath, ThresholdRouter
from skquee.evaluation import bootstrap_interval, compare, paired_bootstrap
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
        ({"random_state": -1}, "random_state must be None, an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(methods, X, y, **options)
