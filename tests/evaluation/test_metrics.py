from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, root_mean_squared_error

from skquee.evaluation import brier_score, calibration_bins, calibration_error, rmse


def make_predictions(n=200, seed=0, decimals=16):
    rng = np.random.default_rng(seed)
    predicted = rng.random(n).round(decimals)
    return predicted, rng.random(n) < predicted**2


def literal_ece(predicted, wrong, n_bins):
    """Appendix 7.2, step by step, on the probabilities of being right."""
    order = sorted(range(len(predicted)), key=lambda i: 1 - predicted[i])
    total = 0.0
    for members in np.array_split(np.array(order)[::-1], n_bins):
        confidence = sum(1 - predicted[i] for i in members) / len(members)
        accuracy = sum(not wrong[i] for i in members) / len(members)
        total += len(members) / len(predicted) * abs(accuracy - confidence)
    return total


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(20, 120))
def test_calibration_error_is_that_of_the_appendix(seed, n_bins, n):
    predicted, wrong = make_predictions(n, seed)
    found = calibration_error(predicted, wrong, n_bins=n_bins)
    assert found == pytest.approx(literal_ece(predicted, wrong, n_bins))


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter_where_predictions_tie(seed, random):
    predicted, wrong = make_predictions(100, seed, decimals=1)
    weights = np.random.default_rng(seed).integers(0, 4, size=100)
    order = random.sample(range(100), 100)
    found = calibration_error(predicted[order], wrong[order], sample_weight=weights[order])
    assert found == pytest.approx(calibration_error(predicted, wrong, sample_weight=weights))


def test_share_of_each_tie_predicted_right_is_no_error():
    predicted = np.repeat([0.1, 0.5, 0.9], 10)
    wrong = np.concatenate([np.arange(10) < k for k in (1, 5, 9)])
    assert calibration_error(predicted, wrong, n_bins=7) == pytest.approx(0)


def test_rows_of_weight_zero_count_as_absent():
    predicted, wrong = make_predictions()
    weights = np.random.default_rng(1).integers(0, 2, size=200)
    kept = weights > 0
    for metric in (calibration_error, brier_score, rmse):
        whole = metric(predicted, wrong, sample_weight=weights)
        assert whole == pytest.approx(metric(predicted[kept], wrong[kept]))


def test_bins_hold_all_the_weight_and_rise():
    predicted, wrong = make_predictions()
    mean_predicted, mean_observed, share = calibration_bins(predicted, wrong, n_bins=15)
    assert share.sum() == pytest.approx(1)
    assert share @ mean_predicted == pytest.approx(predicted.mean())
    assert share @ mean_observed == pytest.approx(wrong.mean())
    assert (np.diff(mean_predicted) > 0).all()


def test_there_are_no_more_bins_than_samples():
    assert [len(part) for part in calibration_bins([0.1, 0.9], [0, 1], n_bins=15)] == [2, 2, 2]


def test_squared_metrics_agree_with_scikit_learn():
    predicted, wrong = make_predictions()
    weights = np.random.default_rng(1).random(200)
    assert brier_score(predicted, wrong, sample_weight=weights) == pytest.approx(
        brier_score_loss(wrong, predicted, sample_weight=weights)
    )
    assert rmse(predicted, wrong, sample_weight=weights) == pytest.approx(
        root_mean_squared_error(wrong.astype(float), predicted, sample_weight=weights)
    )


@pytest.mark.parametrize("metric", [calibration_error, brier_score, rmse])
@pytest.mark.parametrize(
    ("predicted", "observed", "weights", "message"),
    [
        ([], [], None, "not empty"),
        ([0.1, 0.2], [0], None, "one length"),
        ([0.1, np.nan], [0, 1], None, "method without predictions"),
        ([0.1, 0.2], [0, np.nan], None, "observed must hold finite numbers .* entry 1 is nan"),
        ([0.1, 0.2], [0, 1], [1.0], "one length"),
        ([0.1, 2], [0, 1], None, "predicted must hold finite numbers >= 0 and <= 1"),
        ([0.1, 0.2], [3, 7], None, "observed must hold finite numbers >= 0 and <= 1"),
        (["a"], [1], None, "predicted must hold finite numbers"),
        ([0.1, 0.2], [0, 1], [1.0, -1.0], "sample_weight must hold finite numbers >= 0"),
        ([0.1, 0.2], [0, 1], [0.0, 0.0], "sample_weight is 0 everywhere"),
    ],
)
def test_metrics_refuse_what_does_not_fit(metric, predicted, observed, weights, message):
    with pytest.raises(ValueError, match=message):
        metric(predicted, observed, sample_weight=weights)


def test_calibration_needs_a_bin():
    for n_bins in (0, 2.5, "a"):
        with pytest.raises(ValueError, match="n_bins must be an integer >= 1, got"):
            calibration_error([0.1], [0], n_bins=n_bins)
