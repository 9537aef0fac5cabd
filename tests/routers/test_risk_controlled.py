"""A trade-off whose risk is certified on calibration rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import get_tags

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    PathErrorRegressor,
    PathProbabilities,
    TunedCostAwareRouterCV,
)
from skquee.baselines import PatienceRouter, ThresholdRouter
from skquee.evaluation import certify
from skquee.evaluation._certify import routing_losses
from skquee.persistence import dump, load
from skquee.router import RiskControlledRouter
from skquee.testing import make_path_probabilities
from skquee.values._labels import path_answers

TABLE, Y = make_path_probabilities(4000)
WHOLE = TABLE.paths.fullest
FIT, CAL, NEW = slice(0, 500), slice(500, 2000), slice(2000, 4000)
LEVELS = np.append(np.linspace(0.3, 1, 15), 1.1)[::-1]


def threshold() -> ThresholdRouter:
    return ThresholdRouter().fit(TABLE[FIT], Y[FIT])


def learned() -> CostAwareRouter:
    router = CostAwareRouter(
        targets=ClusteredErrorTargets(n_clusters=6, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=30)),
        random_state=0,
    )
    return router.fit(TABLE[FIT], Y[FIT])


def controlled(router: Any = None, **options: Any) -> RiskControlledRouter:
    return RiskControlledRouter(threshold() if router is None else router, **options)


def answers_of(path: int, rows: slice) -> np.ndarray:
    return TABLE.path(path)[rows].argmax(axis=1)


# ---------------------------------------------------------------------- the choice


def test_the_cheapest_certified_point_is_taken() -> None:
    found = controlled(learned(), max_error=0.3).fit(TABLE[CAL], Y[CAL])
    curve = found.risk_curve_
    assert set(curve) == {"lambda_", "cost", "risk", "p_value", "certified"}
    assert np.array_equal(curve["lambda_"], np.sort(curve["lambda_"]))
    n_certified = curve["certified"].sum()
    assert 0 < n_certified < len(curve["cost"])
    assert (curve["p_value"][:n_certified] <= 0.05).all() and curve["p_value"][n_certified] > 0.05
    best = np.argmin(curve["cost"][:n_certified])
    assert found.best_lambda_ == curve["lambda_"][best] == found.router_.lambda_
    assert found.cost_ == curve["cost"][best] == found.predict_cost(TABLE[CAL]).mean()
    assert found.risk_ == curve["risk"][best]
    assert found.risk_ == pytest.approx((found.predict(TABLE[CAL]) != Y[CAL]).mean())
    assert found.risk_ < found.bound_ <= 0.3
    assert found.slack_ == 0.3 - found.risk_
    assert found.n_calibration_ == 1500
    assert found.groups_ is None and found.risk_by_group_.tolist() == [found.risk_]


def test_the_bound_of_an_error_is_clopper_pearsons() -> None:
    found = controlled(max_error=0.3, confidence=0.9).fit(TABLE[CAL], Y[CAL])
    n_wrong = round(found.risk_ * 1500)
    expected = stats.binomtest(n_wrong, 1500).proportion_ci(0.8, "exact").high
    assert found.bound_ == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["ltt", "wsr", "crc"])
def test_an_error_increase_is_counted_from_the_whole_model(method: str) -> None:
    found = controlled(max_error_increase=0.05, method=method, random_state=0)
    found.fit(TABLE[CAL], Y[CAL])
    routed = (found.predict(TABLE[CAL]) != Y[CAL]).mean()
    assert found.risk_ == pytest.approx(routed - (answers_of(WHOLE, CAL) != Y[CAL]).mean())
    assert found.risk_ < found.bound_ <= 0.05
    assert found.cost_ < 0.9
    fresh = (found.predict(TABLE[NEW]) != Y[NEW]).mean()
    assert fresh - (answers_of(WHOLE, NEW) != Y[NEW]).mean() <= 0.05


def test_disagreement_needs_no_labels() -> None:
    found = controlled(max_disagreement=0.1).fit(TABLE[CAL])
    same = controlled(max_disagreement=0.1).fit(TABLE[CAL], (Y[CAL] + 1) % 4)
    assert found.best_lambda_ == same.best_lambda_
    assert found.risk_ == (found.predict(TABLE[CAL]) != answers_of(WHOLE, CAL)).mean() > 0
    assert not get_tags(found).target_tags.required
    assert get_tags(controlled(max_error=0.1)).target_tags.required


def test_a_gain_pays_for_a_loss_only_in_error_increase() -> None:
    costs = [
        controlled(**{aim: 0.05}).fit(TABLE[CAL], Y[CAL]).cost_
        for aim in ("max_error_increase", "max_disagreement")
    ]
    assert costs[0] < costs[1]


def test_more_rows_confidence_or_risk_move_the_cost_as_they_should() -> None:
    def cost(rows: slice, **options: Any) -> float:
        options = {"max_error_increase": 0.05, "confidence": 0.9, **options}
        return controlled(**options).fit(TABLE[rows], Y[rows]).predict_cost(TABLE[NEW]).mean()

    usual = cost(CAL)
    parts = [cost(slice(start, start + 250)) for start in range(500, 2000, 250)]
    assert np.mean(parts) > usual
    assert cost(CAL, confidence=0.999) > usual
    assert cost(CAL, max_error_increase=0.1) < usual


def test_only_the_shuffle_of_betting_is_random() -> None:
    def p_values(method: str, seed: int) -> np.ndarray:
        found = controlled(max_error=0.3, method=method, random_state=seed)
        return found.fit(TABLE[CAL], Y[CAL]).risk_curve_["p_value"]

    assert np.array_equal(p_values("wsr", 0), p_values("wsr", 0))
    assert not np.array_equal(p_values("wsr", 0), p_values("wsr", 1))
    assert np.array_equal(p_values("ltt", 0), p_values("ltt", 1))
    assert np.isnan(p_values("crc", 0)).all()


def test_confidence_is_refused_by_crc_which_keeps_the_mean_only() -> None:
    with pytest.raises(ValueError, match="'crc' keeps the mean risk .* confidence=0.9 has no"):
        controlled(max_error=0.3, method="crc", confidence=0.9).fit(TABLE[CAL], Y[CAL])
    assert controlled(max_error=0.3, method="crc").fit(TABLE[CAL], Y[CAL]).n_calibration_


# ---------------------------------------------------------------------- the guarantee


@pytest.mark.parametrize(
    ("aim", "limit"), [("max_error_increase", 0.03), ("max_error", 0.25), ("max_disagreement", 0.1)]
)
@pytest.mark.parametrize("method", ["ltt", "wsr"])
def test_the_limit_is_broken_in_at_most_a_tenth_of_200_splits(
    aim: str, limit: float, method: str
) -> None:
    """Calibration rows are drawn from 3,500, which are all there is: their mean is the truth."""
    rows = slice(500, 4000)
    taken = threshold().sweep_table(TABLE[rows], LEVELS)
    answers = path_answers(TABLE[rows])
    losses = routing_losses(aim, answers, taken, Y[rows], answers[:, WHOLE])
    truth = losses.mean(axis=1)
    costs = TABLE.paths.path_costs[taken].mean(axis=1)
    rng = np.random.default_rng(0)
    risks = []
    for _ in range(200):
        drawn = rng.integers(3500, size=400)
        signed = aim == "max_error_increase"
        found = certify(losses[:, drawn], limit, method=method, confidence=0.9, signed=signed)
        n_certified = found.n_certified
        risks.append(truth[np.argmin(costs[:n_certified])] if n_certified else 0.0)
    broken = np.mean(np.array(risks) > limit)
    assert broken <= stats.binom.ppf(0.99, 200, 0.1) / 200
    assert np.mean(risks) > limit / 4, "the limit is used, not only kept"


# ---------------------------------------------------------------------- groups


def test_the_limit_holds_in_every_class() -> None:
    plain = controlled(max_error=0.3).fit(TABLE[CAL], Y[CAL])
    found = controlled(max_error=0.3).fit(TABLE[CAL], Y[CAL], groups="class")
    assert found.groups_.tolist() == [0, 1, 2, 3]
    wrong = found.predict(TABLE[CAL]) != Y[CAL]
    expected = [wrong[Y[CAL] == group].mean() for group in range(4)]
    assert found.risk_by_group_ == pytest.approx(expected)
    assert found.risk_ == max(found.risk_by_group_)
    assert (found.bound_by_group_ <= 0.3).all() and found.bound_ == max(found.bound_by_group_)
    assert found.cost_ > plain.cost_, "four small groups certify less than one large"


def test_groups_are_named_by_the_caller() -> None:
    names = np.where(np.arange(1500) % 3, "day", "night")
    for method in ("ltt", "wsr", "crc"):
        found = controlled(max_disagreement=0.2, method=method, random_state=0)
        found.fit(TABLE[CAL], groups=names)
        assert found.groups_.tolist() == ["day", "night"]
        other = found.predict(TABLE[CAL]) != answers_of(WHOLE, CAL)
        assert found.risk_by_group_ == pytest.approx(
            [other[names == "day"].mean(), other[names == "night"].mean()]
        )


# ---------------------------------------------------------------------- the router inside


def test_predictions_are_the_routers_and_the_given_one_stays_as_it_is() -> None:
    router = learned()
    found = controlled(router, max_error=0.3).fit(TABLE[CAL], Y[CAL])
    assert router.lambda_ == 1.0 != found.best_lambda_
    assert found.router_.regressor_ is router.regressor_
    same = found.router_.route(TABLE[NEW])
    assert np.array_equal(found.predict_path(TABLE[NEW]), same.paths)
    assert found.score(TABLE[NEW], Y[NEW]) == found.router_.score(TABLE[NEW], Y[NEW])
    assert found.cost_curve([0.1]).cost == found.router_.cost_curve([0.1]).cost
    assert found.paths_.same_structure(TABLE.paths)
    assert found.classes_.tolist() == [0, 1, 2, 3]


def test_other_knobs_are_swept_from_the_dear_end() -> None:
    found = controlled(max_error=0.3).fit(TABLE[CAL], Y[CAL])
    levels = found.risk_curve_["threshold"]
    assert levels[0] == levels.max() and found.router_.threshold == found.best_lambda_ < 1
    patient = PatienceRouter().fit(TABLE[FIT], Y[FIT])
    found = controlled(patient, max_disagreement=0.3).fit(TABLE[CAL])
    assert found.risk_curve_["patience"].tolist() == [3, 2, 1]
    given = controlled(max_error=0.3, lambdas=[1.1, 0.9, 0.95]).fit(TABLE[CAL], Y[CAL])
    assert given.risk_curve_["threshold"].tolist() == [1.1, 0.9, 0.95]
    falling = controlled(learned(), max_error=0.3, lambdas=[0.1, 0.0]).fit(TABLE[CAL], Y[CAL])
    assert falling.risk_curve_["lambda_"].tolist() == [0.0, 0.1]


def test_costs_of_the_router_hold() -> None:
    router = threshold().set_params(path_costs=TABLE.paths.path_costs * 10)
    found = controlled(router, max_error=0.3).fit(TABLE[CAL], Y[CAL])
    same = controlled(max_error=0.3).fit(TABLE[CAL], Y[CAL])
    assert found.cost_ == pytest.approx(10 * same.cost_)
    assert found.paths_.path_costs.max() == 10


def test_it_can_be_cloned_around_a_frozen_router_and_fitted_again() -> None:
    found = controlled(FrozenEstimator(learned()), max_error=0.3).fit(TABLE[CAL], Y[CAL])
    again = clone(found).fit(TABLE[CAL], Y[CAL])
    assert again.best_lambda_ == found.best_lambda_
    with pytest.raises(NotFittedError, match="pass FrozenEstimator"):
        clone(controlled(learned(), max_error=0.3)).fit(TABLE[CAL], Y[CAL])
    found.set_params(max_error=0.4).fit(TABLE[CAL], Y[CAL])
    assert found.cost_ < again.cost_


def test_it_is_saved_with_its_choice(tmp_path: Any) -> None:
    found = controlled(max_error=0.3).fit(TABLE[CAL], Y[CAL], groups="class")
    dump(found, tmp_path / "router.skops")
    loaded = load(tmp_path / "router.skops")
    assert np.array_equal(loaded.predict_path(TABLE[NEW]), found.predict_path(TABLE[NEW]))
    assert loaded.bound_ == found.bound_


# ---------------------------------------------------------------------- refusals


def test_the_whole_model_is_taken_where_nothing_else_keeps_the_limit() -> None:
    found = controlled(max_error_increase=0.01, lambdas=[0.3, 0.1])
    with pytest.warns(UserWarning, match="Every sample takes the whole model"):
        found.fit(TABLE[CAL], Y[CAL])
    assert found.best_lambda_ is None
    assert (found.predict_path(TABLE[NEW]) == WHOLE).all()
    assert found.risk_ == found.bound_ == 0 and found.slack_ == 0.01
    assert found.cost_ == TABLE.paths.path_costs[WHOLE]
    assert found.score(TABLE[NEW], Y[NEW]) == (answers_of(WHOLE, NEW) == Y[NEW]).mean()
    assert not found.risk_curve_["certified"].any()


def test_an_error_below_the_routers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"on 1500 .* the safest has a risk of 0.1\d+ and a bound"):
        controlled(max_error=0.1).fit(TABLE[CAL], Y[CAL])


@pytest.mark.parametrize("aim", ["max_error", "max_error_increase", "max_disagreement"])
@pytest.mark.parametrize("method", ["ltt", "wsr", "crc"])
def test_twenty_rows_are_refused_with_the_number_that_would_do(aim: str, method: str) -> None:
    few = controlled(**{aim: 0.03}, method=method)
    advice = (
        "Give more rows or raise"
        if method == "crc"
        else "Give more rows, raise .* or lower confidence"
    )
    with pytest.raises(ValueError, match=r"20 calibration rows are too few") as failed:
        few.fit(TABLE[500:520], Y[500:520])
    failed.match(advice)
    if aim == "max_error" and method == "ltt":
        failed.match("at least 99")  # 0.97 ** 99 < 0.05
    if method == "crc":
        failed.match("at least 33")
        assert "confidence" not in str(failed.value)


def test_the_number_named_is_enough_where_no_row_is_lost() -> None:
    agrees = TABLE.path(WHOLE).argmax(axis=1) == TABLE.path(0).argmax(axis=1)
    rows = np.flatnonzero(agrees)
    enough = controlled(max_disagreement=0.03, lambdas=[1.1]).fit(TABLE[rows[:99]])
    assert enough.risk_ == 0 and enough.bound_ <= 0.03
    with pytest.raises(ValueError, match="98 calibration rows"):
        controlled(max_disagreement=0.03, lambdas=[1.1]).fit(TABLE[rows[:98]])


def test_a_small_group_is_named() -> None:
    groups = np.repeat(["many", "few"], [1490, 10])
    with pytest.raises(ValueError, match="10 calibration rows of group few are too few"):
        controlled(max_error=0.3, confidence=0.99).fit(TABLE[CAL], Y[CAL], groups=groups)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"exactly one of .* got \[\]"),
        ({"max_error": 0.1, "max_disagreement": 0.1}, r"got \['max_disagreement', 'max_error'\]"),
        ({"max_error": -0.1}, "max_error must be a finite number > 0 and < 1, got -0.1"),
        ({"max_error": 0.0}, "No finite number of rows"),
        ({"max_error_increase": 1.0}, "max_error_increase must be a finite number > 0 and < 1"),
        ({"max_disagreement": np.nan}, "max_disagreement must be a finite number"),
        (
            {"max_error": 0.1, "confidence": 1.0},
            "confidence must be a finite number > 0 and < 1, got 1.0",
        ),
        (
            {"max_error": 0.1, "confidence": 0},
            "confidence must be a finite number > 0 and < 1, got 0",
        ),
        ({"max_error": "a"}, "max_error must be a finite number > 0 and < 1, got 'a'"),
        ({"max_error": 0.1, "random_state": -1}, "random_state must be None, an integer"),
        ({"max_error": 0.1, "method": "exact"}, "method must be one of .* got 'exact'"),
        ({"max_error": 0.1, "lambdas": []}, "lambdas must be a non-empty list"),
    ],
)
def test_bad_parameters_fail(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        controlled(**options).fit(TABLE[CAL], Y[CAL])


def test_bad_rows_fail() -> None:
    found = controlled(max_error=0.3)
    with pytest.raises(ValueError, match="max_error needs labels, but y is None"):
        found.fit(TABLE[CAL])
    with pytest.raises(ValueError, match="groups='class' needs labels"):
        controlled(max_disagreement=0.3).fit(TABLE[CAL], groups="class")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        found.fit(TABLE[CAL], Y[FIT])
    with pytest.raises(ValueError, match=r"one group a row \(1500\), got 4"):
        found.fit(TABLE[CAL], Y[CAL], groups=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="not among the 4 classes"):
        found.fit(TABLE[CAL], Y[CAL] + 7)
    values = np.asarray(TABLE[CAL]).copy()
    values[5, 2, 0] = np.nan
    with pytest.raises(ValueError, match="NaN for row 5, path '8-8'"):
        found.fit(PathProbabilities(values, TABLE.paths), Y[CAL])


def test_bad_routers_fail() -> None:
    with pytest.raises(NotFittedError, match="needs a fitted router"):
        RiskControlledRouter(max_error=0.3).fit(TABLE[CAL], Y[CAL])
    with pytest.raises(NotFittedError, match="ThresholdRouter given as router is not fitted"):
        controlled(ThresholdRouter(), max_error=0.3).fit(TABLE[CAL], Y[CAL])
    with pytest.raises(TypeError, match="got DecisionTreeRegressor"):
        controlled(DecisionTreeRegressor(), max_error=0.3).fit(TABLE[CAL], Y[CAL])
    tuned = TunedCostAwareRouterCV(learned(), price=0.3, cv="prefit").fit(TABLE[CAL], Y[CAL])
    with pytest.raises(ValueError, match="has no parameter 'lambda_': pass its router_"):
        controlled(tuned, max_error=0.3).fit(TABLE[NEW], Y[NEW])
    with pytest.raises(NotFittedError):
        controlled(max_error=0.3).predict(TABLE)


@pytest.mark.parametrize("answer", ["recall", "ensemble"])
def test_the_risk_is_that_of_what_the_router_answers(answer: str) -> None:
    router = CostAwareRouter(
        targets="bernoulli", regressor="logistic", features="rich", answer=answer, random_state=0
    ).fit(TABLE[:600], Y[:600])
    rows, labels = TABLE[600:1600], Y[600:1600]
    held = RiskControlledRouter(router, max_error_increase=0.1, random_state=0).fit(rows, labels)
    routes = held.route(rows)
    whole = path_answers(rows)[:, WHOLE]
    increase = np.mean(routes.labels != labels) - np.mean(whole != labels)
    assert held.risk_ == pytest.approx(increase)
