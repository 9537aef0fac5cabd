"""A router in service: alarms at drift, and a budget held through it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeRegressor

from skquee import ClusteredErrorTargets, CostAwareRouter, PathErrorRegressor, PathTree
from skquee.baselines import NextStepRouter, ThresholdRouter
from skquee.monitoring import OnlineLambdaRouter, RouteMonitor
from skquee.routers.monitoring._martingale import (
    ConformalMartingale,
    conformal_p_values,
    log_betting,
    log_cash,
    spread,
)
from skquee.testing import make_path_probabilities

TREE = PathTree.from_levels(n_exits=3, levels=(6, 8))
TABLE, Y = make_path_probabilities(9000, TREE)
SURE = TABLE.path(0).max(axis=1)
ROUTER = CostAwareRouter(
    0.2,
    targets=ClusteredErrorTargets(n_clusters=6, n_init=1),
    regressor=PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=15, random_state=0)),
    random_state=0,
).fit(TABLE[:1000], Y[:1000])
CONFIDENT = ThresholdRouter(0.7).fit(TABLE[:1000], Y[:1000])
REST = np.random.default_rng(0).permutation(np.arange(1000, 9000))
HARD = REST[SURE[REST] < 0.55]
# Most rows of one pool cost much at lambda_ = 0.2, most of the other little.
PAID = ROUTER.predict_cost(TABLE)
DEAR, CHEAP = REST[PAID[REST] > 0.7], REST[PAID[REST] <= 0.7]
DEAR, CHEAP = np.append(DEAR, CHEAP[: len(CHEAP) // 3]), np.append(CHEAP, DEAR[: len(DEAR) // 3])


def watched(router: Any = ROUTER, **options: Any) -> RouteMonitor:
    rows = REST[:1000]
    return RouteMonitor(router, **{"random_state": 0, **options}).fit(TABLE[rows], Y[rows])


# ---------------------------------------------------------------------- martingale


@given(
    scores=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    earlier=st.lists(st.integers(0, 4), max_size=10),
)
@settings(deadline=None)
def test_p_values_rank_each_score_among_all_before_it(
    scores: list[int], earlier: list[int]
) -> None:
    uniforms = np.random.default_rng(0).random(len(scores))
    found = conformal_p_values(scores, np.sort(np.array(earlier, dtype=float)), uniforms)
    for i, (score, u) in enumerate(zip(scores, uniforms, strict=True)):
        seen = np.array([*earlier, *scores[: i + 1]])
        expected = ((seen > score).sum() + u * (seen == score).sum()) / len(seen)
        assert found[i] == pytest.approx(expected)


def test_p_values_of_exchangeable_scores_are_uniform() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(5, size=4000).astype(float)
    p_values = conformal_p_values(scores[100:], np.sort(scores[:100]), rng.random(3900))
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(p_values[1:], p_values[:-1])[0, 1]) < 0.05


def test_bets_are_fair() -> None:
    grid = (np.arange(20_000) + 0.5) / 20_000
    start = np.log(np.full(8, 1 / 8))
    ends = np.array([log_betting(grid[k : k + 1], start)[1] for k in range(20_000)])
    assert np.exp(ends).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)
    # Each by itself, the two that rise without bound by their integral up to the first point.
    assert 8 * np.exp(ends).mean(axis=0) == pytest.approx(np.ones(8), abs=5e-3)
    assert np.isfinite(log_betting(np.array([0.0, 1.0]), start)[0]).all()


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_false_alarms_are_as_rare_as_promised(alpha: float) -> None:
    rng = np.random.default_rng(1)
    n_streams, alarms = 300, 0
    for seed in range(n_streams):
        martingale = ConformalMartingale(rng.integers(4, size=100).astype(float), seed)
        martingale.update(rng.integers(4, size=900).astype(float))
        alarms += martingale.log_peak >= np.log(1 / alpha)
    assert alarms <= stats.binom.ppf(0.99, n_streams, alpha)


@pytest.mark.parametrize(("mean", "scale"), [(0.6, 1.0), (-0.6, 1.0), (0.0, 1.7), (0.0, 0.5)])
def test_a_shift_of_place_or_spread_is_found(mean: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    martingale = ConformalMartingale(rng.normal(size=500), 0)
    martingale.update(rng.normal(size=500))
    assert martingale.log_peak < np.log(100)
    martingale.update(rng.normal(mean, scale, size=700))
    assert martingale.log_peak > np.log(100)


def test_the_bets_do_not_depend_on_how_rows_are_batched() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    whole, parts, singly = (ConformalMartingale(np.empty(0), 0) for _ in range(3))
    whole.update(scores)
    for start in range(0, 1000, 110):
        parts.update(scores[start : start + 110])
    for score in scores:
        singly.update(score[None])
    assert whole.log_now == pytest.approx(parts.log_now, rel=1e-12)
    assert whole.log_now == pytest.approx(singly.log_now, rel=1e-12)


def test_capital_is_staked_over_time_and_none_is_made() -> None:
    for n_seen in (25, 250, 25_000, 10**9):
        assert log_cash(n_seen) < log_cash(n_seen - 25)
    wealth = np.log([0.1, 0.2, 0.05, 0.05, 0.05, 0.05])  # any number of bets
    assert np.exp(spread(wealth, np.log(0.25))).sum() == pytest.approx(0.75)
    calm = ConformalMartingale(np.empty(0), 0)
    calm._bet(np.full(50_000, 0.5))  # every bet loses or stands still
    assert calm.log_now >= log_cash(50_000), "what is not staked cannot be lost"


@pytest.mark.parametrize("calm", [1_000, 20_000])
def test_a_shift_is_seen_as_well_after_a_long_calm(calm: int) -> None:
    rng = np.random.default_rng(0)
    martingale = ConformalMartingale(rng.normal(size=calm), 0)
    martingale._n_seen = calm - calm % 25
    martingale._log_wealth[:] = -1e4  # all that was staked is lost
    martingale.update(rng.normal(4, 1, size=100))
    assert martingale.log_peak > np.log(100)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_false_alarms_on_costs_that_tie_are_as_rare_as_promised_and_a_shift_is_found(
    alpha: float,
) -> None:
    rng, costs = np.random.default_rng(2), np.array([1.0, 3.0, 13.0])
    n_streams, alarms, found = 200, 0, 0
    for seed in range(n_streams):
        calm = rng.choice(costs, size=1400, p=[0.7, 0.24, 0.06])
        martingale = ConformalMartingale(calm[:400], seed)
        martingale.update(calm[400:])
        alarms += martingale.log_peak >= np.log(1 / alpha)
        martingale.update(rng.choice(costs, size=200, p=[0.45, 0.24, 0.31]))  # one s.d.
        found += martingale.log_peak >= np.log(300)
    assert alarms <= stats.binom.ppf(0.99, n_streams, alpha)
    assert found >= 0.95 * n_streams


# ---------------------------------------------------------------------- monitor


@pytest.mark.parametrize("router", [ROUTER, CONFIDENT], ids=["QuEE", "threshold"])
def test_no_drift_no_alarm(router: Any) -> None:
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(REST)
        monitor = RouteMonitor(router, random_state=seed).fit(TABLE[rows[:1000]], Y[rows[:1000]])
        for batch in np.split(rows[1000:7000], 20):
            monitor.update(TABLE[batch], Y[batch])
        assert not monitor.alarm_
        assert monitor.cause_ is None
        assert monitor.martingale_ == max(monitor.martingales_.values()) < 100


@pytest.mark.parametrize("router", [ROUTER, CONFIDENT], ids=["QuEE", "threshold"])
def test_harder_samples_raise_an_alarm_without_labels(router: Any) -> None:
    monitor = watched(router).update(TABLE[REST[1000:2000]])
    assert not monitor.alarm_
    for batch in np.array_split(HARD[:600], 6):
        monitor.update(TABLE[batch])
    assert monitor.alarm_
    assert monitor.cause_ in ("cost", "predicted error")
    frame = monitor.to_frame()
    assert len(frame) == 7
    assert frame["alarm"].is_monotonic_increasing, "an alarm stays"
    assert frame["usage_distance"].iloc[-1] > frame["usage_distance"].iloc[0]
    assert frame["n_samples"].tolist() == [1000, *[100] * 6]
    assert frame["observed_error"].isna().all()


def test_gates_that_no_longer_predict_the_errors_raise_an_alarm_by_labels() -> None:
    monitor = watched()
    rng = np.random.default_rng(0)
    for batch in np.split(REST[1000:4000], 10):
        wrong = np.where(rng.random(300) < 0.35, (Y[batch] + 1) % 4, Y[batch])
        monitor.update(TABLE[batch], wrong)
    assert monitor.alarm_
    assert monitor.cause_ == "calibration"
    assert monitor.to_frame()["calibration_gap"].iloc[-1] > 0.1
    same = watched()
    for batch in np.split(REST[1000:4000], 10):
        same.update(TABLE[batch], Y[batch])
    assert not same.alarm_
    assert abs(same.to_frame()["calibration_gap"].iloc[-1]) < 0.1


def test_labels_that_come_late_are_watched_from_then_on() -> None:
    monitor = RouteMonitor(ROUTER, random_state=0).fit(TABLE[REST[:1000]])
    monitor.update(TABLE[REST[1000:1500]])
    assert monitor.martingales_["calibration"] == pytest.approx(1 / 3), "nothing is bet yet"
    monitor.update(TABLE[REST[1500:3000]], Y[REST[1500:3000]])
    assert not monitor.alarm_
    monitor.update(TABLE[REST[3000:5000]], (Y[REST[3000:5000]] + 1) % 4)
    assert monitor.cause_ == "calibration"


def test_the_frame_averages_over_the_window() -> None:
    monitor = watched(window=300)
    batches = np.split(REST[1000:1600], 3)
    for batch in batches:
        monitor.update(TABLE[batch], Y[batch])
    routes = ROUTER.route(TABLE[REST[1300:1600]])
    last = monitor.to_frame().iloc[-1]
    assert last["cost"] == pytest.approx(routes.costs.mean())
    assert last["predicted_error"] == pytest.approx(routes.predicted_error.mean())
    observed = (routes.labels != Y[REST[1300:1600]]).mean()
    assert last["observed_error"] == pytest.approx(observed)
    assert last["calibration_gap"] == pytest.approx(observed - routes.predicted_error.mean())
    shares = np.bincount(routes.paths, minlength=TREE.n_paths) / 300
    distance = np.abs(shares - monitor.reference_shares_).sum() / 2
    assert last["usage_distance"] == pytest.approx(distance)


def test_the_last_batches_are_remembered_and_no_total_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skquee.routers.monitoring._monitor.LINES", 20)
    monitor = watched()
    for _ in range(3):
        monitor.update(TABLE[REST[:5]])
    few = monitor.to_frame()
    for _ in range(20):
        monitor.update(TABLE[REST[:5]])
    frame = monitor.to_frame()
    assert len(frame) == 20
    assert (frame.index[0], frame.index[-1]) == (3, 22)
    assert list(few.index) == [0, 1, 2]
    assert (monitor.n_batches_, monitor.n_samples_) == (23, 115)


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.5, -2.0]), max_size=40), st.integers(0, 40))
def test_scores_are_counted_as_if_all_were_kept(scores: list[float], n_first: int) -> None:
    draws = np.random.default_rng(0).random(len(scores))
    first, rest = np.array(scores[:n_first]), np.array(scores[n_first:])
    values, counts = np.unique(first, return_counts=True)
    counted = conformal_p_values(rest, values, draws[n_first:], counts)
    assert np.array_equal(counted, conformal_p_values(rest, np.sort(first), draws[n_first:]))


def test_different_scores_are_bounded_however_many_come() -> None:
    martingale, rng = ConformalMartingale(np.empty(0), 0), np.random.default_rng(0)
    martingale.update(rng.uniform(0.999, 1, size=6000))
    assert len(pickle.dumps(martingale)) < 10_000  # 6,000 scores of 8 bytes


def test_routes_already_made_are_taken_as_they_are() -> None:
    rows = REST[1000:1400]
    by_table, by_routes = watched(), watched()
    by_table.update(TABLE[rows], Y[rows])
    by_routes.update(ROUTER.route(TABLE[rows]), Y[rows])
    assert by_table.martingales_ == by_routes.martingales_


def test_a_seed_repeats_the_monitor_to_the_bit() -> None:
    first, again = (watched().update(TABLE[HARD[:200]]) for _ in range(2))
    assert first.martingales_ == again.martingales_
    assert first.to_frame().equals(again.to_frame())
    other = watched(random_state=1).update(TABLE[HARD[:200]])
    assert other.martingales_ != first.martingales_


def test_fit_forgets_an_alarm() -> None:
    monitor = watched().update(TABLE[HARD[:800]])
    assert monitor.alarm_
    assert not monitor.fit(TABLE[HARD[:800]]).alarm_
    assert len(monitor.to_frame()) == 0


def test_bad_input_of_the_monitor_is_refused() -> None:
    for options, message in (
        ({"alpha": 1.5}, "alpha must be a finite number > 0 and < 1, got 1.5"),
        ({"alpha": "a"}, "alpha must be a finite number > 0 and < 1, got 'a'"),
        ({"window": 0}, "window must be an integer >= 1, got 0"),
        ({"window": 2.5}, "window must be an integer >= 1, got 2.5"),
        ({"random_state": -1}, "random_state must be None, an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            watched(**options)
    for labels, message in (
        (np.full(100, 77), r"y holds the labels \[77\], which are not among the 4 classes"),
        (np.full(100, "a"), "which are not among the 4 classes"),
        (np.full(100, -1), r"y holds the labels \[-1\]"),
        (np.full(100, np.nan), "y must hold a label for each row, but row 0 has nan"),
        ([None] * 100, "row 0 has None"),
    ):
        with pytest.raises(ValueError, match=message):
            watched().update(TABLE[:100], labels)
    with pytest.raises(ValueError, match="y holds 3 labels, but X has 100 rows"):
        watched().update(TABLE[:100], Y[:3])
    with pytest.raises(NotFittedError):
        RouteMonitor(ROUTER).update(TABLE[:100])
    with pytest.raises(NotFittedError):
        _ = RouteMonitor(ROUTER).alarm_


# ---------------------------------------------------------------------- online budget


def shifting(size: int, n_batches: int = 120) -> Iterator[Any]:
    """Batches of cheap rows, then abruptly of dear ones, then of cheap ones again."""
    rng = np.random.default_rng(0)
    for number in range(n_batches):
        pool = DEAR if n_batches // 3 <= number < 2 * n_batches // 3 else CHEAP
        yield TABLE[rng.choice(pool, size=size)]


@pytest.mark.parametrize("size", [40, 200])
@pytest.mark.parametrize("budget", [0.5, 0.6, 0.75])
def test_the_mean_over_a_shifting_stream_is_the_budget(size: int, budget: float) -> None:
    online = OnlineLambdaRouter(ROUTER, budget)
    costs = [routes.costs.mean() for routes in online.stream(shifting(size))]
    assert np.mean(costs[10:]) == pytest.approx(budget, rel=0.02)
    assert np.array_equal(online.cost_history_, costs)
    fixed = ROUTER.set_params(lambda_=0.2)
    spread = [fixed.predict_cost(TABLE[rows]).mean() for rows in (DEAR, CHEAP)]
    assert spread[0] > 1.2 * spread[1], "without it the shift is costly"


def test_each_part_of_a_shifting_stream_holds_the_budget_too() -> None:
    online = OnlineLambdaRouter(ROUTER, 0.6)
    costs = [routes.costs.mean() for routes in online.stream(shifting(200))]
    for start in (0, 40, 80):
        assert np.mean(costs[start + 15 : start + 40]) == pytest.approx(0.6, rel=0.03)
    lambdas = online.lambda_history_
    assert lambdas[60:80].mean() > 1.3 * lambdas[20:40].mean(), "dear rows need a higher price"


def test_the_realised_mean_obeys_the_account_of_lambda() -> None:
    online = OnlineLambdaRouter(ROUTER, 0.6, step_size=0.7, start=0.5)
    list(online.stream(shifting(50)))
    drift = np.log(online.lambda_ / 0.5) / (0.7 * len(online.cost_history_))
    assert online.cost_history_.mean() == pytest.approx(0.6 * (1 + drift), rel=1e-9)


def test_each_batch_is_routed_with_the_lambda_before_it() -> None:
    online = OnlineLambdaRouter(ROUTER, 0.6, start=0.3)
    first = online.route(TABLE[:200])
    expected = ROUTER.set_params(lambda_=0.3).predict_path(TABLE[:200])
    ROUTER.set_params(lambda_=0.2)
    assert np.array_equal(first.paths, expected)
    assert online.lambda_history_.tolist() == [0.3]
    moved = 0.3 * np.exp(first.costs.mean() / 0.6 - 1)
    assert online.lambda_ == pytest.approx(moved)
    assert ROUTER.lambda_ == 0.2, "the router stays as it is"
    assert len(online.fit().lambda_history_) == 0


def test_a_budget_out_of_reach_for_a_while_does_not_wind_up() -> None:
    online = OnlineLambdaRouter(ROUTER, 0.99, step_size=5.0, start=0.0)
    for _ in range(50):
        online.route(TABLE[:200])
    assert online.lambda_ == pytest.approx(1e-5)
    online.set_params(budget=0.6, step_size=1.0)
    costs = [online.route(TABLE[REST[:500]]).costs.mean() for _ in range(60)]
    assert np.mean(costs[40:]) == pytest.approx(0.6, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.1}, r"budget=0.1 is out of reach: paths cost from 0.333"),
        ({"budget": 1.1}, "out of reach"),
        ({"budget": np.nan}, "budget must be a finite number > 0"),
        ({"budget": 0.6, "step_size": 0.0}, "step_size must be a finite number > 0, got 0.0"),
        ({"budget": 0.6, "start": -1.0}, "start must be a finite number >= 0, got -1.0"),
    ],
)
def test_bad_parameters_of_the_online_router_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OnlineLambdaRouter(ROUTER, **options).route(TABLE[:50])


def test_a_router_without_lambda_is_refused() -> None:
    with pytest.raises(TypeError, match="ThresholdRouter has no parameter lambda_"):
        OnlineLambdaRouter(CONFIDENT, 0.6).fit()
    gates = PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=30))
    rigid = NextStepRouter(0.2, regressor=gates, random_state=0).fit(TABLE[:300], Y[:300])
    with pytest.raises(TypeError, match="NextStepRouter knows only the lambda_"):
        OnlineLambdaRouter(rigid, 0.6).fit()
