"""Checks for routers and parts of one's own: what is whole passes, a mistake is told by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skquee import CostAwareRouter, PathErrorClassifier
from skquee.answers import EnsembleAnswer, RecallAnswer
from skquee.policy import ClosedLoop, OptionValue, Pessimistic, open_loop
from skquee.testing import (
    check_answer_rule,
    check_error_model,
    check_policy,
    check_router,
    make_path_probabilities,
)
from skquee.walk import Decider, Follow, Knob, RoutingMixin


@dataclass(frozen=True)
class Sure:
    least: float

    def __call__(self, visit):
        return visit.now.max(axis=1) >= self.least


class LeaveWhenSure(RoutingMixin, BaseEstimator):
    """A router of one's own, as the docs have it."""

    knob = Knob("least", order="rises")

    def __init__(self, least=0.8, *, paths=None, path_costs=None, classes=None):
        self.least = least
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes

    def fit(self, X, y=None):
        self.start_fit(X, y)
        return self

    def make_decider(self, tree):
        return Follow(tree, self.classes_, tree.prefixes(tree.fullest), Sure(self.least))

    def default_knobs(self, tree):
        return np.linspace(0, 1, 6)


def test_a_router_of_ones_own_passes():
    check_router(LeaveWhenSure())


class FitReturnsNothing(LeaveWhenSure):
    def fit(self, X, y=None):
        self.start_fit(X, y)


class ForgetsToStart(LeaveWhenSure):
    def fit(self, X, y=None):
        self.classes_ = np.arange(4)
        return self


class ChangesItsParameter(LeaveWhenSure):
    def fit(self, X, y=None):
        self.least = 0.9
        return super().fit(X, y)


class DecidesNothing(LeaveWhenSure):
    def make_decider(self, tree):
        return None


class KnobOfBefore(LeaveWhenSure):
    knob = "least"


class KnobOfNobody(LeaveWhenSure):
    knob = Knob("lest")


class SaysNothingOfLabels(LeaveWhenSure):
    needs_labels = None


class StandsElsewhere(LeaveWhenSure):
    def knob_in_use(self):
        return 0.5


class PredictsByY(LeaveWhenSure):
    def predict(self, X, y):
        return super().predict(X)


class Jumps(Decider):
    def step(self, visit):
        to = self.tree.fullest if visit.depth else self.tree.roots[0]
        return np.full(len(visit.rows), to), np.full(len(visit.rows), np.nan)


class JumpsAhead(LeaveWhenSure):
    def make_decider(self, tree):
        return Jumps(tree, self.classes_)


class OnlySteps(Decider):
    def step(self, visit):
        return np.where(visit.prefixes < 0, self.tree.roots[0], visit.prefixes)


class PredictsNoErrors(LeaveWhenSure):
    def make_decider(self, tree):
        return OnlySteps(tree, self.classes_)


class ByMajority:
    def __call__(self, visit):
        sure = visit.now.max(axis=1)
        return sure >= np.median(sure)


class CountsItsCalls(LeaveWhenSure):
    def make_decider(self, tree):
        self.calls = getattr(self, "calls", 0) + 1
        return super().make_decider(tree)


class LooksAtOthers(LeaveWhenSure):
    def make_decider(self, tree):
        return Follow(tree, self.classes_, tree.prefixes(tree.fullest), ByMajority())


class SweepsTexts(LeaveWhenSure):
    def default_knobs(self, tree):
        return ["low", "high"]


class SweepsNothing(LeaveWhenSure):
    def default_knobs(self, tree):
        return []


class RoutesNowhere(LeaveWhenSure):
    def route(self, X):
        return None


class MakesNoDecider(LeaveWhenSure):
    make_decider = None


@pytest.mark.parametrize(
    ("router", "message"),
    [
        (
            SweepsTexts,
            r"default_knobs\(tree\) must return values of least.*got <U4 of shape \(2,\)",
        ),
        (SweepsNothing, r"default_knobs\(tree\) must return.*numbers, got float64 of shape \(0,\)"),
        (RoutesNowhere, r"RoutesNowhere\.route\(X\) must return skquee\.Routes, got NoneType"),
        (MakesNoDecider, r"MakesNoDecider\.make_decider must be a method.*got None"),
        (FitReturnsNothing, r"FitReturnsNothing\.fit must return self, got NoneType"),
        (ForgetsToStart, r"ForgetsToStart\.fit must set paths_: call start_fit first"),
        (ChangesItsParameter, r"fit must not change parameters, but changed \['least'\]"),
        (DecidesNothing, r"make_decider\(tree\) must return a skquee\.walk\.Decider, got NoneType"),
        (KnobOfBefore, r"KnobOfBefore\.knob must be a skquee\.walk\.Knob.*got 'least'"),
        (KnobOfNobody, r"KnobOfNobody\.knob names 'lest', which is no parameter: expected \['cl"),
        (SaysNothingOfLabels, r"needs_labels must be True or False.*got None"),
        (StandsElsewhere, r"knob_in_use\(\) must tell the least that is set, 0\.0, got 0\.5"),
        (PredictsByY, r"predict\(X, y\) cannot be called as predict\(X\), as of skquee\.walk\.Rou"),
        (JumpsAhead, r"JumpsAhead: step\(visit\).*one step longer.*from \d one of \[.*\], got \["),
        (PredictsNoErrors, r"step\(visit\).*must return next paths and predicted errors, got nda"),
        (CountsItsCalls, r"must write nothing to itself after fit, but predict wrote \['calls'\]"),
        (LooksAtOthers, r"LooksAtOthers\.route: row \d+ must be routed alone as it is among oth"),
    ],
)
def test_a_mistake_in_a_router_is_told_by_method(router, message):
    with pytest.raises(AssertionError, match=message):
        check_router(router())


@pytest.mark.parametrize("found", [None, ["no"] * 200, np.zeros(200), np.zeros((200, 1), bool)])
def test_a_rule_says_of_every_sample_whether_it_leaves(found):
    table, y = make_path_probabilities(200)
    router = LeaveWhenSure().fit(table, y)
    router.make_decider = lambda tree: Follow(tree, router.classes_, [0, 1, 2], lambda _: found)
    with pytest.raises(ValueError, match="True or False for each of 200 samples, got"):
        router.predict(table)


def test_what_is_no_router_at_all_is_told_what_it_lacks():
    with pytest.raises(AssertionError, match=r"has no method route: expected route\(X\), as of"):
        check_router(PathErrorClassifier())


@pytest.mark.parametrize(
    "policy", [OptionValue(), OptionValue(0.2), Pessimistic(), ClosedLoop(n_lambdas=3), open_loop]
)
def test_our_policies_pass(policy):
    check_policy(policy)


class Aims:
    def __init__(self, aim):
        self._aim = aim

    def aim(self, errors, costs, lambda_, *, prefix):
        return self._aim(errors, costs)


class PositionalPrefix:
    def aim(self, errors, costs, lambda_):
        return np.zeros(len(errors), dtype=int)


class LearnsNoSelf(BaseEstimator):
    def fit(self, survey, wrong, tree):
        self.tree_ = tree

    def aim(self, errors, costs, lambda_, *, prefix):
        return np.zeros(len(errors), dtype=int)


def _spoils(errors, costs):
    errors += 1
    return np.zeros(len(errors), dtype=int)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (PositionalPrefix(), r"aim\(errors, costs, lambda_\) cannot be called as aim\(errors, cos"),
        (LearnsNoSelf(), r"LearnsNoSelf\.fit must return self"),
        (Aims(lambda errors, costs: errors.min(axis=1)), r"aim, before.*integers from 0 to 5, got"),
        (Aims(lambda e, c: np.full(len(e), e.shape[1])), r"got positions from 6 to 6"),
        (Aims(_spoils), r"must not change the errors and costs it is given"),
        (Aims(lambda e, c: np.arange(len(e)) % 2), r"must aim for each sample by its own errors"),
        ("open-loop", r"a policy has a method aim, or is called .*, got 'open-loop'"),
        (lambda errors, costs: None, r"takes? 2 positional arguments"),
    ],
)
def test_a_mistake_in_a_policy_is_told_by_method(policy, message):
    with pytest.raises(AssertionError, match=message):
        check_policy(policy)


class Doubt(BaseEstimator):
    """An error model of one's own, as the docs have it."""

    def fit(self, probs, targets, sample_weight=None):
        self.paths_ = probs.paths
        self.base_errors_ = np.average(targets, axis=0, weights=sample_weight)
        return self

    def judge(self, prefixes, history, context):
        doubt = 1 - history[-1].max(axis=1, keepdims=True)
        for prefix in np.unique(prefixes).tolist():
            rows, paths = np.flatnonzero(prefixes == prefix), self.paths_.descendants(prefix)
            yield rows, paths, np.repeat(doubt[rows], len(paths), axis=1)


class KnowsNoContext(Doubt):
    def judge(self, prefixes, history):
        yield from super().judge(prefixes, history, None)


class KnowsNoMeans(Doubt):
    def fit(self, probs, targets, sample_weight=None):
        self.paths_ = probs.paths
        return self


class JudgesAll(Doubt):
    def judge(self, prefixes, history, context):
        for rows, _, errors in super().judge(prefixes, history, context):
            yield rows, np.arange(self.paths_.n_paths), errors


class JudgesFirstOnly(Doubt):
    def judge(self, prefixes, history, context):
        yield next(super().judge(prefixes, history, context))


class JudgesInPercent(Doubt):
    def judge(self, prefixes, history, context):
        for rows, paths, errors in super().judge(prefixes, history, context):
            yield rows, paths, 100 * errors


class JudgesNothing(Doubt):
    def judge(self, prefixes, history, context):
        return None


class JudgesElsewhere(Doubt):
    def judge(self, prefixes, history, context):
        for rows, paths, errors in super().judge(prefixes, history, context):
            yield rows + len(prefixes), paths, errors


class JudgesInWords(Doubt):
    def judge(self, prefixes, history, context):
        for rows, paths, errors in super().judge(prefixes, history, context):
            yield rows, paths, np.where(errors > 0.5, "bad", "ok")


class JudgesUnevenly(Doubt):
    def judge(self, prefixes, history, context):
        for rows, paths, errors in super().judge(prefixes, history, context):
            yield rows, paths, [line[: 1 + n % 2] for n, line in enumerate(errors.tolist())]


class Forgets(Doubt):
    def judge(self, prefixes, history, context):
        history[-1][:] = 0.25
        yield from super().judge(prefixes, history, context)


def test_error_models_pass_and_route():
    check_error_model(Doubt())
    table, y = make_path_probabilities(200)
    router = CostAwareRouter(0.1, regressor=Doubt(), random_state=0).fit(table, y)
    assert router.predict(table).shape == (200,)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (KnowsNoContext, r"cannot be called as judge\(prefixes, history, context\), as of"),
        (KnowsNoMeans, r"KnowsNoMeans\.fit must set base_errors_"),
        (JudgesAll, r"JudgesAll\.judge must judge the paths tree\.descendants\(prefix\), here \["),
        (JudgesFirstOnly, r"judge must yield every sample once, got \[0, 1\] times"),
        (
            JudgesInPercent,
            r"judge must yield errors of shape .*, between 0 and 1, got float64 of shape",
        ),
        (JudgesNothing, r"judge must yield positions, .* but returned NoneType"),
        (JudgesElsewhere, r"first, from 0 to 119, got int64 of shape \(120,\) with 120 to 239"),
        (JudgesInWords, r"judge must yield errors of shape .*, got <U3 of shape"),
        (JudgesUnevenly, r"judge must yield errors of shape .*, got object of shape"),
        (Forgets, r"Forgets\.judge must not change the probabilities it is given"),
    ],
)
def test_a_mistake_in_an_error_model_is_told_by_method(model, message):
    with pytest.raises(AssertionError, match=message):
        check_error_model(model())


@pytest.mark.parametrize("rule", [EnsembleAnswer(), RecallAnswer()])
def test_our_answer_rules_pass(rule):
    check_answer_rule(rule)


class Summed(BaseEstimator):
    def fit(self, table, codes):
        return self

    def combine(self, path, history):
        return sum(history)


class SumsInPlace(Summed):
    def combine(self, path, history):
        return np.divide(sum(history), len(history), out=history[0])


class Inverted(Summed):
    def combine(self, path, history):
        return 2 / history[0].shape[1] - history[0]


class SaysTheFirst(Summed):
    def combine(self, path, history):
        return history[-1]

    def chosen(self, path, history):
        return np.zeros(len(history[0]), dtype=int)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Summed(), r"Summed\.combine must return probabilities of shape .* that sum to 1"),
        (SumsInPlace(), r"SumsInPlace\.combine must not change the probabilities it is given"),
        (Inverted(), r"that sum to 1, got float64 of shape .* with -0"),
        (SaysTheFirst(), r"chosen must tell the exit whose answer combine returns"),
        (Doubt(), r"Doubt has no method combine: expected combine\(path, history\)"),
    ],
)
def test_a_mistake_in_an_answer_rule_is_told_by_method(rule, message):
    with pytest.raises(AssertionError, match=message):
        check_answer_rule(rule)
