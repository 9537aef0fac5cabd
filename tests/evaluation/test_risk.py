"""Tests of a risk: each against its equation written out, and by how often it errs."""

from __future__ import annotations

from math import comb, e, exp, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skquee.evaluation import (
    binomial_p_value,
    certify,
    conformal_risk_threshold,
    hoeffding_bentkus_p_value,
    learn_then_test,
    paired_p_value,
    wsr_p_value,
    wsr_upper_bound,
)
from skquee.evaluation._certify import read_groups, risk_bound, routing_losses, rows_needed


def binomial_cdf(k: int, n: int, p: float) -> float:
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))


def allowed(rate: float, n_trials: int) -> float:
    """Share of trials that a rate exceeds by chance once in a thousand times."""
    return stats.binom.ppf(0.999, n_trials, rate) / n_trials


# ---------------------------------------------------------------------- p-values


@pytest.mark.parametrize("n_wrong", [0, 1, 7, 40])
def test_the_binomial_p_value_is_the_chance_of_so_few_losses(n_wrong: int) -> None:
    found = binomial_p_value(n_wrong / 40, 40, 0.15)
    assert found == pytest.approx(binomial_cdf(n_wrong, 40, 0.15))


def test_no_loss_is_read_exactly_whatever_the_mean_rounds_to() -> None:
    counts = np.arange(50)
    found = binomial_p_value(counts / 49, 49, 0.3)
    assert np.allclose(found, stats.binom.cdf(counts, 49, 0.3))


@pytest.mark.parametrize("mean", [0.0, 0.013, 0.04, 0.05, 0.3, 1.0])
def test_hoeffding_bentkus_equals_its_equation(mean: float) -> None:
    n, limit = 200, 0.05

    def h1(a: float, b: float) -> float:
        first = a * log(a / b) if a else 0.0
        return first + (1 - a) * log((1 - a) / (1 - b))

    hoeffding = exp(-n * h1(min(mean, limit), limit))
    bentkus = e * binomial_cdf(int(np.ceil(n * mean - 1e-9)), n, limit)
    expected = min(1, hoeffding, bentkus)
    assert hoeffding_bentkus_p_value(mean, n, limit) == pytest.approx(expected)
    shifted = hoeffding_bentkus_p_value(4 * mean - 1, n, 4 * limit - 1, low=-1, high=3)
    assert shifted == pytest.approx(expected)


def shares(q: float, limit: float) -> list[float]:
    """Chances of worse, better and equal at the edge of the hypothesis."""
    return [q + limit, q, max(0.0, 1 - 2 * q - limit)]


def score(worse: int, better: int, n: int, limit: float) -> float:
    """The score statistic, the nuisance found by search instead of by formula."""
    q = np.linspace(1e-9, (1 - limit) / 2 - 1e-9, 20001)
    rest = n - worse - better
    fit = worse * np.log(q + limit) + better * np.log(q) + rest * np.log(1 - 2 * q - limit)
    best = q[np.argmax(fit)]
    return (worse - better - n * limit) / sqrt(n * (2 * best + limit - limit**2))


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (1, 3), (2, 1), (0, 10), (5, 5)])
def test_the_paired_p_value_sums_the_chance_of_smaller_scores(worse: int, better: int) -> None:
    n, limit, beta = 10, 0.2, 0.01
    seen = score(worse, better, n, limit)
    region = [
        (i, k)
        for k in range(n + 1)
        for i in range(n + 1 - k)
        if score(i, k, n, limit) <= seen + 1e-4
    ]
    interval = stats.binomtest(better, n).proportion_ci(1 - beta, "exact")
    top = (1 - limit) / 2
    chance = [
        sum(stats.multinomial.pmf([i, k, n - i - k], n, shares(q, limit)) for i, k in region)
        for q in np.linspace(min(interval.low, top), min(interval.high, top), 33)
    ]
    found = paired_p_value(worse, better, n, limit, nuisance_error=beta)
    assert found == pytest.approx(min(1, beta + max(chance)), abs=1e-8)


@pytest.mark.parametrize("limit", [0.02, 0.1])
def test_the_paired_p_value_errs_no_more_often_than_it_says(limit: float) -> None:
    n = 30
    worse, better = np.array([(i, k) for k in range(n + 1) for i in range(n + 1 - k)]).T
    found = paired_p_value(worse, better, n, limit)
    counts = np.stack([worse, better, n - worse - better], axis=1)
    for q in np.linspace(0, (1 - limit) / 2, 41):
        chance = stats.multinomial.pmf(counts, n, shares(q, limit))
        for level in (0.01, 0.05, 0.1, 0.2):
            assert chance[found <= level].sum() <= level


def test_an_increase_seen_above_the_limit_proves_nothing() -> None:
    assert paired_p_value([20, 21, 60], [10, 10, 0], 100, 0.1).tolist() == [1, 1, 1]


def test_the_paired_test_certifies_where_hoeffding_bentkus_cannot() -> None:
    assert paired_p_value(4, 3, 500, 0.02) < 0.01
    assert hoeffding_bentkus_p_value(1 / 500, 500, 0.02, low=-1) > 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_a_larger_limit_is_never_harder_to_keep(i: int, k: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    losses = np.repeat([1.0, -1.0, 0.0], [i, k, 200 - i - k])
    losses = np.random.default_rng(0).permutation(losses)
    for p_value in (
        lambda limit: binomial_p_value(i / 200, 200, limit),
        lambda limit: hoeffding_bentkus_p_value((i - k) / 200, 200, limit, low=-1),
        lambda limit: paired_p_value(i, k, 200, limit),
        lambda limit: wsr_p_value(losses, limit, 0.9, low=-1),
    ):
        # The nuisance is searched on a grid, hence a last digit.
        assert p_value(high) <= p_value(low) * (1 + 1e-2) + 1e-9


# ---------------------------------------------------------------------- betting


def log_capital(losses: np.ndarray, mean: float, delta: float) -> float:
    n, total, squares, variance = len(losses), 0.0, 0.0, 0.25
    capital, most = 0.0, 0.0
    for i, x in enumerate(losses.tolist(), start=1):
        bet = min(sqrt(2 * log(1 / delta) / (n * variance)), 1.0)
        step = 1 - bet * (x - mean)
        capital = capital + log(step) if step > 0 else -np.inf
        most = max(most, capital)
        total += x
        squares += (x - (0.5 + total) / (1 + i)) ** 2
        variance = (0.25 + squares) / (1 + i)
    return most


def test_the_betting_bound_is_where_capital_reaches_one_over_delta() -> None:
    losses = np.random.default_rng(0).random((3, 150)) ** [[1], [4], [20]]
    bounds = wsr_upper_bound(losses, 0.9)
    for row, bound in zip(losses, bounds, strict=True):
        assert log_capital(row, bound + 1e-6, 0.1) >= log(10)
        assert log_capital(row, bound - 1e-6, 0.1) < log(10)
        p_value = wsr_p_value(row, 0.4, 0.9)
        assert p_value == pytest.approx(exp(-log_capital(row, 0.4, 0.1)))
    assert np.array_equal(wsr_p_value(losses, 0.4, 0.9) <= 0.1, bounds <= 0.4)
    assert wsr_upper_bound(losses[0], 0.9) == bounds[0]
    assert np.allclose(wsr_upper_bound(3 * losses - 1, 0.9, low=-1, high=2), 3 * bounds - 1)


def test_the_betting_bound_covers_and_is_short_where_losses_are_rare() -> None:
    rng = np.random.default_rng(1)
    rare = (rng.random((400, 300)) < 0.03) * rng.random((400, 300))
    bounds = wsr_upper_bound(rare, 0.9)
    assert (bounds < 0.015).mean() <= allowed(0.1, 400)
    assert bounds.mean() < 0.03 < 0.015 + sqrt(log(10) / 600), "Hoeffding's is 0.077"
    signed = rng.choice([1, -1, 0], p=[0.05, 0.03, 0.92], size=(400, 300))
    assert (wsr_upper_bound(signed, 0.9, low=-1) < 0.02).mean() <= allowed(0.1, 400)


def test_losses_that_are_all_the_greatest_have_no_bound() -> None:
    assert wsr_upper_bound(np.ones(50), 0.9) == 1
    assert wsr_p_value(np.ones(50), 0.5, 0.9) == 1


# ---------------------------------------------------------------------- sequences


def test_testing_stops_before_the_first_p_value_above_delta() -> None:
    assert learn_then_test([0.01, 0.05, 0.06, 0.01], 0.05) == 1
    assert learn_then_test([0.06, 0.01], 0.05) == -1
    assert learn_then_test([0.01, 0.02], 0.05) == 1


def test_a_risk_that_rises_and_falls_is_kept() -> None:
    """Half the points break the limit: one of them is certified in few of the draws."""
    rng = np.random.default_rng(2)
    truth = np.array([0.05, 0.07, 0.09, 0.11, 0.08, 0.06, 0.15, 0.05])
    wrong = 0
    for _ in range(400):
        risks = (rng.random((8, 300)) < truth[:, None]).mean(axis=1)
        last = learn_then_test(binomial_p_value(risks, 300, 0.1), 0.1)
        wrong += bool((truth[: last + 1] > 0.1).any())
    assert 0 < wrong / 400 <= allowed(0.1, 400)


def test_conformal_risk_takes_the_last_point_within_the_limit() -> None:
    risks = np.array([0.0, 0.02, 0.01, 0.04, 0.03, 0.2, 0.0])
    for limit in (0.005, 0.011, 0.03, 0.0497, 0.05, 0.3):
        expected = -1
        for i in range(len(risks)):
            if 100 / 101 * max(risks[: i + 1]) + 1 / 101 <= limit:
                expected = i
        assert conformal_risk_threshold(risks, 100, limit) == expected
    assert conformal_risk_threshold(risks, 9, 0.05) == -1
    assert conformal_risk_threshold([-0.5, 0.0], 100, 0.019, high=2) == 0


def test_conformal_risk_holds_on_average_and_is_not_wasted() -> None:
    rng = np.random.default_rng(3)
    grid = np.linspace(0, 1, 201)  # a row is lost from a threshold of its own on: risk = knob
    kept = []
    for _ in range(1000):
        losses = rng.random(50) < grid[:, None]
        kept.append(grid[certify(losses, 0.1, method="crc").n_certified - 1])
    assert 0.08 < np.mean(kept) <= 0.1 + 3 * np.std(kept) / sqrt(1000)


def test_conformal_risk_never_lets_a_row_lose_and_win_again() -> None:
    losses = np.zeros((3, 200), dtype=int)
    losses[1, :15] = 1
    losses[2, 15:30] = 1  # the mean stays, the rows change
    assert conformal_risk_threshold(losses.mean(axis=1), 200, 0.1) == 2
    assert certify(losses, 0.1, method="crc").n_certified == 2


# ---------------------------------------------------------------------- certify


@pytest.mark.parametrize("method", ["ltt", "wsr"])
@pytest.mark.parametrize("signed", [False, True])
def test_certified_points_are_those_whose_bound_keeps_the_limit(method: str, signed: bool) -> None:
    rng = np.random.default_rng(4)
    losses = (rng.random((12, 400)) < np.linspace(0.0, 0.2, 12)[:, None]).astype(int)
    if signed:
        losses -= rng.random((12, 400)) < 0.02
    found = certify(losses, 0.1, method=method, confidence=0.9, signed=signed)
    bounds = [risk_bound(r, method=method, confidence=0.9, signed=signed) for r in losses]
    assert found.n_certified == np.argmax(np.array(bounds) > 0.1) > 2
    assert np.array_equal(found.p_values <= 0.1, np.array(bounds) <= 0.1)


def test_the_limit_holds_in_all_groups_at_once_without_a_correction() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat([0, 1, 2], [300, 200, 100])
    truth = np.stack([np.linspace(0.02, end, 20) for end in (0.3, 0.2, 0.15)])
    broken = 0
    for _ in range(300):
        losses = rng.random((20, 600)) < truth[groups].T
        found = certify(losses, 0.1, confidence=0.9, groups=groups)
        broken += bool((truth[:, : found.n_certified] > 0.1).any())
        alone = [certify(losses[:, groups == g], 0.1, confidence=0.9) for g in range(3)]
        assert found.n_certified == min(one.n_certified for one in alone)
    assert broken / 300 <= allowed(0.1, 300)


def test_high_confidence_can_be_reached_by_every_test() -> None:
    for method in ("ltt", "wsr"):
        for signed in (False, True):
            losses = np.zeros((1, 3000))
            options: Any = {"method": method, "signed": signed, "confidence": 0.99999}
            assert certify(losses, 0.02, **options).n_certified == 1


@pytest.mark.parametrize("method", ["ltt", "wsr", "crc"])
@pytest.mark.parametrize("signed", [False, True])
def test_fewer_rows_than_needed_certify_nothing(method: str, signed: bool) -> None:
    confidence = None if method == "crc" else 0.9
    options: Any = {"method": method, "confidence": confidence, "signed": signed}
    needed = rows_needed(0.05, **options)
    assert certify(np.zeros((1, needed)), 0.05, **options).n_certified == 1
    assert certify(np.zeros((1, needed - 1)), 0.05, **options).n_certified == 0
    if method == "crc":
        assert needed == 19
    elif method == "ltt" and not signed:
        assert needed == np.ceil(log(0.1) / log(0.95))


def test_losses_compare_answers_with_labels_and_the_whole_model() -> None:
    answers = np.array([[0, 1], [1, 0], [2, 2], [1, 2]])
    taken, y = np.array([[0, 0, 0, 0], [1, 1, 1, 1]]), np.array([0, 0, 1, 0])
    increase = routing_losses("max_error_increase", answers, taken, y, answers[:, 1])
    assert increase.tolist() == [[-1, 1, 0, 0], [0, 0, 0, 0]]
    error = routing_losses("max_error", answers, taken, y, answers[:, 1])
    assert error.tolist() == [[0, 1, 1, 1], [1, 0, 1, 1]]
    disagreement = routing_losses("max_disagreement", answers, taken, None, answers[:, 1])
    assert disagreement.tolist() == [[1, 1, 0, 1], [0, 0, 0, 0]]


def test_groups_are_names_or_the_true_class() -> None:
    classes = np.array(["cat", "dog"])
    names, members = read_groups(["b", "a", "b"], None, classes, 3)
    assert names is not None
    assert names.tolist() == ["a", "b"]
    assert members.tolist() == [1, 0, 1]
    names, members = read_groups("class", np.array([1, 0, 1]), classes, 3)
    assert names is classes
    assert members.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="1 of 2 have none, cat for one"):
        read_groups("class", np.array([1, 1]), classes, 2)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binomial_p_value(0.1, 0, 0.1), "n_samples must be an integer >= 1, got 0"),
        (lambda: binomial_p_value(1.2, 10, 0.1), ">= 0 and <= 1, but it is 1.2"),
        (lambda: binomial_p_value(np.nan, 10, 0.1), "but it is nan"),
        (lambda: binomial_p_value(0.1, 10, 0.0), "limit must be a finite number > 0 and < 1"),
        (lambda: hoeffding_bentkus_p_value(0, 9, 1.0), "limit must be a finite number > 0 and < 1"),
        (lambda: hoeffding_bentkus_p_value(-2, 9, 0.1, low=-1), ">= -1 and <= 1, but it is -2"),
        (lambda: paired_p_value(6, 5, 10, 0.1), "different rows among 10, got up to 6 and 5"),
        (lambda: paired_p_value(-1, 5, 10, 0.1), "counts of different rows"),
        (
            lambda: paired_p_value(1, 5, 10, -0.1),
            "max_increase must be a finite number > 0 and < 1",
        ),
        (
            lambda: paired_p_value(1, 5, 10, 0.1, nuisance_error=0),
            "nuisance_error must be a finite",
        ),
        (lambda: wsr_p_value([0, 1], 1.0, 0.9), "max_risk must be a finite number > 0 and < 1"),
        (lambda: wsr_upper_bound([], 0.9), r"not empty, got \(0,\)"),
        (lambda: wsr_upper_bound([0, 2], 0.9), "got values from 0 to 2"),
        (lambda: wsr_upper_bound([0, np.nan], 0.9), "entry 1 is nan"),
        (
            lambda: wsr_upper_bound([0, 1], 1.0),
            "confidence must be a finite number > 0 and < 1, got 1.0",
        ),
        (lambda: conformal_risk_threshold([0.1], 10, 1.0), "limit must be a finite number < 1"),
        (lambda: learn_then_test([0.1], 1.5), "delta must be a finite number > 0 and < 1, got 1.5"),
        (lambda: certify(np.zeros((1, 9)), 0.1, method="exact"), "one of .* got 'exact'"),
        (lambda: certify(np.full((1, 9), -1), 0.1), "Use signed=True for losses of -1"),
        (lambda: certify(np.full((1, 9), 0.5), 0.1), "Use 'wsr' for those in between"),
        (lambda: binomial_p_value(0.1, 2.5, 0.1), "n_samples must be an integer >= 1, got 2.5"),
        (lambda: binomial_p_value([], 9, 0.1), "Mean losses are empty"),
        (lambda: paired_p_value(1.5, 1, 9, 0.1), "counts of different rows"),
        (lambda: paired_p_value([], [], 9, 0.1), "n_worse and n_better are empty"),
        (lambda: paired_p_value("a", 1, 9, 0.1), "n_worse must hold finite numbers"),
        (lambda: conformal_risk_threshold([], 9, 0.1), "Mean losses are empty"),
        (lambda: learn_then_test([0.01, np.nan], 0.1), "p_values .* but entry 1 is nan"),
        (lambda: learn_then_test([], 0.1), "p_values must have shape"),
        (lambda: learn_then_test([7], 0.1), "p_values .* but entry 0 is 7"),
        (lambda: certify(np.zeros(9), 0.1), r"losses must have shape \(n, n\)"),
        (lambda: certify(np.zeros((1, 0)), 0.1), "losses must have shape"),
        (lambda: certify([["a"]], 0.1), "losses must hold finite numbers"),
        (lambda: certify(np.zeros((1, 9)), "a"), "max_risk must be a finite number"),
        (lambda: certify(np.zeros((1, 9)), 0.1, groups=[0]), "group for each of the 9 rows"),
        (lambda: certify(np.zeros((1, 2)), 0.1, groups=["a", "b"]), "number of a group"),
        (lambda: certify(np.zeros((1, 2)), 0.1, groups=[0, 2]), "from 0 without gaps"),
        (
            lambda: certify(np.zeros((1, 9)), 0.1, method="crc", confidence=0.9),
            "'crc' keeps the mean risk .* confidence=0.9 has no meaning: leave it out",
        ),
        (lambda: risk_bound([2.0]), "losses must hold finite numbers"),
        (lambda: read_groups(["a", None], None, np.arange(2), 2), "groups .* row 1 has None"),
        (lambda: read_groups([1, np.nan], None, np.arange(2), 2), "groups .* row 1 has nan"),
        (
            lambda: read_groups(np.array(["a", 1], dtype=object), None, np.arange(2), 2),
            "groups must be all texts or all numbers, got int and str",
        ),
        (lambda: read_groups([1, 2], None, np.arange(2), 3), r"one group a row \(3\), got 2"),
        (lambda: read_groups("age", None, np.arange(2), 3), "groups must be 'class' or"),
    ],
)
def test_numbers_out_of_range_fail(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
