"""The router family: every choice works with every other, and keeps the router's promises."""

from __future__ import annotations

import pickle
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
    TunedCostAwareRouterCV,
)
from skquee.answers import EnsembleAnswer, RecallAnswer
from skquee.evaluation import price_scorer
from skquee.gates import PathErrorClassifier
from skquee.persistence import dump, load
from skquee.policy import ClosedLoop, OptionValue
from skquee.router import BudgetRouter
from skquee.testing import TableNetwork, check_router, make_path_probabilities
from skquee.values._labels import correctness

FREE = PathTree.from_levels(2, (4, 8), first="free", monotone=False)
CASCADE = PathTree.cascade([1, 3, 9])
TABLE, Y = make_path_probabilities(160, FREE)
KNOBS = [0.0, 0.05, 0.3, 3.0]


def make(**changes: Any) -> CostAwareRouter:
    if hasattr(changes.get("regressor"), "judge"):
        changes["features"] = None  # an error model has its own
    return CostAwareRouter(
        0.1, targets="bernoulli", regressor="logistic", features="rich", random_state=0
    ).set_params(**changes)


CHOICES: dict[str, list[Any]] = {
    "targets": ["shrunken", "bernoulli", "mixed", ClusteredErrorTargets(4, n_init=1)],
    "features": ["paper", "rich"],
    "regressor": ["logistic", PathErrorRegressor(LinearRegression(), features="rich")],
    "answer": ["last", "recall", "ensemble"],
    "policy": ["open-loop", "option-value", "pessimistic", "closed-loop"],
    "first": ["planned", "free", "highest"],
}


def covering() -> list[dict[str, Any]]:
    """Every pair of choices in some router, as few routers as a greedy search finds."""
    rows = [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]
    index = {n: {id(v): i for i, v in enumerate(vs)} for n, vs in CHOICES.items()}
    keys = [sorted((n, index[n][id(v)]) for n, v in row.items()) for row in rows]
    pairs = [{(a, b) for a in line for b in line if a < b} for line in keys]
    left, chosen = set().union(*pairs), []
    while left:
        best = max(range(len(rows)), key=lambda i: len(pairs[i] & left))
        chosen.append(rows[best])
        left -= pairs[best]
    return chosen


def shown(options: dict[str, Any]) -> str:
    return "-".join(v if isinstance(v, str) else type(v).__name__ for v in options.values())


def routes_of(router: CostAwareRouter, table: PathProbabilities) -> list[np.ndarray]:
    return [router.set_params(lambda_=knob).predict_path(table) for knob in KNOBS]


@pytest.mark.parametrize("options", covering(), ids=shown)
def test_every_choice_goes_with_every_other(options: dict[str, Any], tmp_path: Path) -> None:
    router = make(**options)
    before = repr(router.get_params())
    assert router.fit(TABLE, Y) is router
    assert repr(router.get_params()) == before
    curve = router.cost_curve(KNOBS, TABLE, Y)
    for point, knob in enumerate(KNOBS):
        routes = router.set_params(lambda_=knob).route(TABLE)
        assert np.array_equal(routes.paths, curve.paths[point])
        assert np.array_equal(routes.labels == Y, curve.correct[point])
        assert np.allclose(routes.probabilities.sum(axis=1), 1, atol=1e-5)
        assert np.array_equal(routes.labels, routes.probabilities.argmax(axis=1))
        known = routes.predicted_errors[np.isfinite(routes.predicted_errors)]
        assert ((known >= 0) & (known <= 1)).all()
    assert len(router.cost_curve()) == 101  # on the rows held out
    dump(router, tmp_path / "router.skops")
    for again in (load(tmp_path / "router.skops"), pickle.loads(pickle.dumps(router))):
        assert np.array_equal(again.predict_proba(TABLE), router.predict_proba(TABLE))
        for ours, theirs in zip(routes_of(again, TABLE), curve.paths, strict=True):
            assert np.array_equal(ours, theirs)
    other = clone(router).fit(TABLE, Y)
    assert np.array_equal(other.predict_path(TABLE), router.predict_path(TABLE))


@pytest.mark.parametrize(
    "options",
    [
        {"regressor": "boosting", "answer": RecallAnswer(LogisticRegression(C=0.1))},
        {"regressor": GaussianNB(), "policy": ClosedLoop(3), "answer": EnsembleAnswer(0.1)},
        {"regressor": CalibratedClassifierCV(GaussianNB(), cv=2), "policy": OptionValue()},
        {"regressor": LinearRegression(), "targets": "mixed"},
        {"regressor": PathErrorClassifier("logistic", features="paper"), "first": "free"},
        {"regressor": "logistic", "answer": EnsembleAnswer(class_penalty=3.0)},
    ],
    ids=["boosting", "bayes", "calibrated", "linear", "classifier", "classes"],
)
def test_estimators_of_any_kind_travel_in_a_skops_file(options: Any, tmp_path: Path) -> None:
    table, y = make_path_probabilities(160, PathTree.cascade([1, 3]))
    router = make(**options).fit(table, y)
    before = routes_of(router, table)
    dump(router, tmp_path / "router.skops")
    again = load(tmp_path / "router.skops")
    for ours, theirs in zip(routes_of(again, table), before, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_router_with_context_travels_in_a_skops_file(tmp_path: Path) -> None:
    table, y = make_path_probabilities(160, CASCADE)
    table = table.with_context(np.arange(160) % 7)
    router = make(answer="recall").fit(table, y)
    dump(router, tmp_path / "router.skops")
    again = load(tmp_path / "router.skops")
    assert np.array_equal(again.predict_proba(table), router.predict_proba(table))


def test_a_search_chooses_among_answers() -> None:
    search = GridSearchCV(
        make(lambda_=0.05),
        {"answer": ["last", "recall", "ensemble"], "features": ["paper", "rich"]},
        scoring=price_scorer(0.05),
        cv=2,
        error_score="raise",
    ).fit(TABLE, Y)
    assert search.best_params_["answer"] in ("last", "recall", "ensemble")
    assert search.predict(TABLE).shape == (160,)
    assert clone(make(answer=RecallAnswer("boosting"))).answer.estimator == "boosting"


def test_nested_parameters_are_set_through_the_router() -> None:
    router = make(answer=EnsembleAnswer(), policy=OptionValue())
    router.set_params(answer__penalty=0.5, policy__k=0.1)
    router.fit(TABLE, Y)
    assert router.answer_.penalty == 0.5 and router.policy_.k_ == 0.1


@pytest.mark.parametrize("targets", ["bernoulli", "mixed"])
def test_errors_as_targets_need_labels(targets: str) -> None:
    with pytest.raises(ValueError, match="errors, which rows without labels have not"):
        make(targets=targets).fit(TABLE[:80], Y[:80], unlabeled=TABLE[80:])


def test_targets_are_errors_their_clusters_or_the_mean_of_both() -> None:
    wrong = ~correctness(TABLE, Y)
    goals: dict[str, Any] = {}

    class Noting(PathErrorClassifier):
        def fit(self, probs: Any, targets: Any, sample_weight: Any = None) -> Any:
            goals["now"] = targets
            return super().fit(probs, targets, sample_weight)

    for targets in ("bernoulli", "shrunken", "mixed"):
        router = make(targets=targets, regressor=Noting(), validation_fraction=0).fit(TABLE, Y)
        goals[targets] = goals["now"]
        assert (router.targets_ is None) == (targets == "bernoulli")
    assert np.array_equal(goals["bernoulli"], wrong)
    assert np.allclose(goals["mixed"], (goals["shrunken"] + wrong) / 2)
    assert router.targets_.shrinkage == 10


def test_shrinkage_draws_small_clusters_to_their_paths_mean() -> None:
    plain, drawn = (
        ClusteredErrorTargets(8, n_init=1, shrinkage=s, random_state=0).fit(TABLE, Y)
        for s in (0, 7.5)
    )
    for path in range(FREE.n_paths):
        mean, sizes = plain.path_error_[path], plain.cluster_size_[path]
        expected = (sizes * plain.cluster_error_[path] + 7.5 * mean) / (sizes + 7.5)
        assert np.allclose(drawn.cluster_error_[path], expected)
    with pytest.raises(ValueError, match="shrinkage must be a finite number >= 0"):
        ClusteredErrorTargets(shrinkage=-1).fit(TABLE, Y)


# ---------------------------------------------------------------------- first step


def loss(router: CostAwareRouter, root: int, knob: float) -> float:
    """What a router loses on its own rows when all samples begin at one root."""
    survey, wrong, _ = router._start_rows
    tree, rows = router.paths_, np.arange(len(wrong))
    at = np.full(len(rows), root)
    for _ in range(tree.n_exits):
        for prefix in np.unique(at).tolist():
            if prefix in survey and (stand := np.flatnonzero(at == prefix)).size:
                candidates = tree.descendants(prefix)
                scores = survey[prefix][stand] + knob * tree.path_costs[candidates]
                at[stand] = [
                    c if c == prefix else tree.ancestors[c, tree.depths[prefix]]
                    for c in candidates[scores.argmin(axis=1)]
                ]
    return float(np.mean(wrong[rows, at] + knob * tree.path_costs[at]))


@pytest.mark.parametrize("tree", [FREE, CASCADE], ids=["free", "cascade"])
def test_a_free_first_step_loses_least_on_its_own_rows(tree: PathTree) -> None:
    table, y = make_path_probabilities(300, tree)
    router = make(first="free", validation_fraction=0).fit(table, y)
    planned = make(validation_fraction=0).fit(table, y)
    for knob in (0.0, 0.03, 0.1, 0.3, 1.0):
        routes = router.set_params(lambda_=knob).route(table)
        (root,) = set(routes.visited[:, 0].tolist())
        losses = {r: loss(router, r, knob) for r in tree.roots.tolist()}
        assert losses[root] <= min(losses.values()) + 1e-5
        (other,) = set(planned.set_params(lambda_=knob).route(table).visited[:, 0].tolist())
        assert losses[root] <= losses[other] + 1e-5


def test_a_free_first_step_follows_a_policy_set_later() -> None:
    table, y = make_path_probabilities(300, CASCADE)

    def stays(errors: Any, costs: Any, lambda_: float) -> np.ndarray:
        return np.zeros(len(errors), dtype=int)

    router = make(lambda_=0.0, first="free").fit(table, y)
    router.predict_path(table)
    late = router.set_params(policy=stays).predict_path(table)
    fresh = make(lambda_=0.0, first="free", policy=stays).fit(table, y).predict_path(table)
    assert np.array_equal(late, fresh)


def test_a_free_first_step_set_after_fit_asks_for_a_fit() -> None:
    router = make().fit(TABLE, Y).set_params(first="free")
    with pytest.raises(
        ValueError, match="first='free' was set after fit, and has to be fitted: call fit again"
    ):
        router.predict(TABLE)


def test_the_highest_first_step_is_the_dearest_root() -> None:
    for table, y in (make_path_probabilities(150, CASCADE), (TABLE, Y)):
        tree = table.paths
        router = make(first="highest").fit(table, y)
        dearest = max(tree.roots.tolist(), key=lambda r: tree.costs[r])
        for knob in (0.0, 0.3, 1e6):
            routes = router.set_params(lambda_=knob).route(table)
            assert (routes.visited[:, 0] == dearest).all()
        assert (routes.paths == dearest).all()


@pytest.mark.parametrize("first", ["lowest", None])
def test_an_unknown_first_step_is_refused(first: Any) -> None:
    with pytest.raises(ValueError, match="first must be one of"):
        make(first=first).fit(TABLE, Y)


@pytest.mark.parametrize("targets", ["hard", "bernouilli"])
def test_unknown_targets_are_refused(targets: str) -> None:
    with pytest.raises(ValueError, match="targets must be one of"):
        make(targets=targets).fit(TABLE, Y)
    with pytest.raises(ValueError, match="estimator must be 'logistic'"):
        make(regressor="svm").fit(TABLE, Y)


# ---------------------------------------------------------------------- promises

MEMBERS = {
    "boosted": make(regressor=LogisticRegression(C=0.1), policy="pessimistic", targets="shrunken"),
    "recall": make(answer="recall", policy="closed-loop", first="free", targets="mixed"),
}


@pytest.mark.filterwarnings("ignore:n_clusters")  # some checks give very few rows
@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_the_family_pass_our_checks(name: str) -> None:
    check_router(MEMBERS[name])


@pytest.mark.parametrize("policy", ["option-value", "closed-loop"])
def test_a_cap_holds_a_policy_below_it_and_leaves_it_its_choice(policy: str) -> None:
    table, y = make_path_probabilities(400)
    router = make(policy=policy).fit(table, y)
    capped = BudgetRouter(router, budget=0.35, max_cost_per_sample=0.5, random_state=0)
    costs = capped.fit(table, y).route(table).costs
    assert costs.max() == 0.5
    assert costs.mean() == pytest.approx(0.35, abs=0.01)


@pytest.mark.parametrize("answer", ["recall", "ensemble"])
def test_a_stream_answers_as_batch_by_batch(answer: str) -> None:
    table, y = make_path_probabilities(160)
    table = PathProbabilities(np.asarray(table).astype(np.float32), table.paths)
    router = make(lambda_=0.05, answer=answer, policy="option-value").fit(table, y)
    whole = router.route(table)
    bank = MultiPathClassifierBank(TableNetwork(table))
    batches = [np.arange(a, a + 16)[:, None] for a in range(0, 160, 16)]
    parts = list(router.stream(bank, batches, group_size=11))
    assert np.array_equal(np.concatenate([p.paths for p in parts]), whole.paths)
    joined = np.concatenate([p.probabilities for p in parts])
    assert np.array_equal(joined, whole.probabilities)
    assert len(set(whole.paths.tolist())) > 2


def test_a_tuned_router_takes_a_member_of_the_family() -> None:
    tuned = TunedCostAwareRouterCV(make(answer="recall"), price=0.1, cv=2).fit(TABLE, Y)
    routes = tuned.route(TABLE)
    assert np.array_equal(routes.labels, routes.probabilities.argmax(axis=1))


def test_results_do_not_depend_on_n_jobs_and_take_weights() -> None:
    weights = np.linspace(0, 2, 160)
    with parallel_config("threading"):
        one, two = (
            make(answer="recall", targets="mixed", n_jobs=jobs).fit(TABLE, Y, sample_weight=weights)
            for jobs in (None, 2)
        )
    assert np.array_equal(one.predict_error(TABLE), two.predict_error(TABLE))
    assert one.cost_curve(KNOBS).cost.shape == (4,)
