"""Answer rules: recall and ensemble written out, and what a router makes of them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.method._answers import (
    EnsembleAnswer,
    RecallAnswer,
    answered,
    cross_fitted_answers,
)
from skquee.method._ensemble import TINY
from skquee.testing import TableNetwork, make_path_probabilities

N = 180
TREES = {
    "levels": PathTree.from_levels(3, (4, 8)),
    "chain": PathTree.chain([1, 2, 4]),
    "cascade": PathTree.cascade([1, 3, 9]),
}
CLASSES = EnsembleAnswer(class_penalty=3.0)
RULES: list[Any] = [RecallAnswer(), EnsembleAnswer(), CLASSES]
ANSWERS: dict[str, Any] = {"recall": "recall", "ensemble": "ensemble", "classes": CLASSES}
names = pytest.mark.parametrize("name", TREES)
rules = pytest.mark.parametrize("rule", RULES, ids=["recall", "ensemble", "classes"])


def make(name: str, n_samples: int = N) -> tuple[PathProbabilities, np.ndarray]:
    table, y = make_path_probabilities(n_samples, TREES[name])
    return PathProbabilities(np.asarray(table).astype(np.float32), TREES[name]), y


def quick(**changes: Any) -> CostAwareRouter:
    return CostAwareRouter(
        0.1, targets="bernoulli", regressor="logistic", features="rich", random_state=0
    ).set_params(**changes)


def passed(table: PathProbabilities, path: int) -> list[np.ndarray]:
    return [table.path(s) for s in table.paths.prefixes(path)]


# ---------------------------------------------------------------------- the rules


@names
def test_recall_answers_with_the_visited_exit_of_least_predicted_error(name: str) -> None:
    table, y = make(name)
    new = make_path_probabilities(40, TREES[name], random_state=5)[0]
    rule = RecallAnswer().fit(table, y)
    for path in range(table.paths.n_paths):
        visited = table.paths.prefixes(path).tolist()
        found = rule.combine(path, passed(new, path))
        if len(visited) == 1:
            assert np.array_equal(found, new.path(path))
            continue
        errors = rule.errors_.predict(new, path)
        for row in range(len(new)):
            best = min(reversed(visited), key=lambda s: errors[row, s])
            assert np.array_equal(found[row], new.path(best)[row])


def test_recall_takes_the_last_exit_where_errors_are_equal() -> None:
    table, _ = make("chain")
    # Every exit is right: constant predictions, all alike.
    same = PathProbabilities(np.repeat(np.asarray(table)[:, :1], 3, axis=1), TREES["chain"])
    codes = same.path(0).argmax(axis=1)
    rule = RecallAnswer().fit(same, codes)
    other = [np.full((4, 4), 0.25), np.full((4, 4), 0.25), np.eye(4)]
    assert np.array_equal(rule.combine(2, other), np.eye(4))


def test_recall_goes_back_to_an_earlier_exit_that_is_more_often_right() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    sure = np.where(np.eye(2)[y], 0.9, 0.1)
    guess = rng.dirichlet(np.ones(2), size=400)
    table = PathProbabilities(np.stack([sure, guess], axis=1), PathTree.chain([1, 1]))
    answer = RecallAnswer().fit(table, y).combine(1, [sure, guess])
    assert np.array_equal(answer.argmax(axis=1), y)
    assert np.mean(guess.argmax(axis=1) == y) < 0.6


@pytest.mark.parametrize(
    "estimator", [RandomForestClassifier(5), LinearRegression()], ids=["forest", "linear"]
)
def test_recall_takes_any_error_model_and_repeats_its_bits(estimator: Any) -> None:
    table, y = make("chain")
    a, b = (answered(RecallAnswer(estimator).fit(table, y), table) for _ in range(2))
    assert np.array_equal(np.asarray(a), np.asarray(b))


@names
def test_ensemble_is_at_least_as_likely_as_the_last_exit_on_its_rows(name: str) -> None:
    table, y = make(name)
    rule = EnsembleAnswer().fit(table, y)
    made = answered(rule, table)
    rows = np.arange(N)
    for path in range(table.paths.n_paths):
        loss = -np.log(made.path(path)[rows, y]).mean()
        last = -np.log(np.maximum(table.path(path)[rows, y], TINY)).mean()
        assert loss <= last + 1e-6
        assert (rule.weights_[path] >= 0).all()
        assert len(rule.weights_[path]) == table.paths.depths[path]


def test_ensemble_weights_are_those_of_a_literal_fit() -> None:
    table, y = make("chain", 60)
    rule = EnsembleAnswer(penalty=0.01).fit(table, y)
    logs = np.log(np.maximum(np.asarray(table, dtype=np.float64), TINY))

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for row, label in zip(logs, y, strict=True):
            scores = sum(w * exit_ for w, exit_ in zip(weights, row, strict=True))
            total += np.log(np.exp(scores).sum()) - scores[label]
        return total / len(y) + 0.01 * ((weights - [0, 0, 1]) ** 2).sum()

    found = minimize(loss, [0.3, 0.3, 0.3], method="Nelder-Mead", bounds=[(0, None)] * 3)
    assert np.allclose(rule.weights_[2], found.x, atol=2e-3)
    scores = (logs * rule.weights_[2][:, None]).sum(axis=1)
    literal = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert np.allclose(rule.combine(2, passed(table, 2)), literal, atol=1e-6)


def test_ensemble_counts_a_weight_as_so_many_rows() -> None:
    table, y = make("levels")
    weights = np.random.default_rng(1).integers(0, 4, len(y))
    rows = np.repeat(np.arange(len(y)), weights)
    found = EnsembleAnswer().fit(table, y, weights.astype(float)).weights_
    again = EnsembleAnswer().fit(table[rows], y[rows]).weights_
    plain = EnsembleAnswer().fit(table, y).weights_
    for one, other in zip(found, again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert not np.allclose(found[-1], plain[-1], atol=1e-3)


def test_recall_leaves_out_rows_without_weight() -> None:
    table, y = make("levels")
    kept = np.random.default_rng(1).random(len(y)) < 0.6
    found = RecallAnswer().fit(table, y, kept.astype(float))
    again = RecallAnswer().fit(table[np.flatnonzero(kept)], y[kept])
    path = table.paths.fullest
    assert np.array_equal(
        found.combine(path, passed(table, path)), again.combine(path, passed(table, path))
    )


def test_ensemble_draws_rows_whatever_their_order() -> None:
    # Labels cycle with period 4: every fourth row would show one class only.
    table, y = make_path_probabilities(400, TREES["chain"])
    few = EnsembleAnswer(max_samples=100).fit(table, y).weights_[2]
    assert np.abs(few - EnsembleAnswer().fit(table, y).weights_[2]).max() < 0.5


def test_classes_that_an_exit_takes_for_one_another_are_set_right() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=400)
    taken = np.array([1, 0, 2, 3])[y]  # the first two for one another
    guess = rng.dirichlet(np.ones(4), size=400)
    table = PathProbabilities(
        np.stack([np.where(np.eye(4)[taken], 0.7, 0.1), guess], axis=1), PathTree.chain([1, 1])
    )
    shared, own = (EnsembleAnswer(class_penalty=p).fit(table, y) for p in (None, 3.0))
    assert np.mean(shared.combine(1, passed(table, 1)).argmax(axis=1) == y) < 0.7
    assert (own.combine(1, passed(table, 1)).argmax(axis=1) == y).all()
    heavy = EnsembleAnswer(class_penalty=1e9).fit(table, y)
    for rule in (heavy, shared):
        np.testing.assert_allclose(
            rule.combine(1, passed(table, 1)), shared.combine(1, passed(table, 1)), atol=1e-5
        )


def test_weights_of_classes_are_those_of_least_penalised_log_loss() -> None:
    table, y = make("chain", 120)
    rule = EnsembleAnswer(class_penalty=2.0).fit(table, y)
    design = np.log(np.maximum(np.hstack([table.path(p) for p in range(3)]), 1e-3))
    base = sum(w * np.log(np.maximum(table.path(p), TINY)) for p, w in enumerate(rule.weights_[2]))

    def loss(weights: np.ndarray) -> float:
        scores = base + design @ weights[:-1] + weights[-1]
        told = scores[np.arange(120), y] - np.log(np.exp(scores).sum(axis=1))
        return float((weights**2).sum() - told.sum())

    found, rng = rule.class_weights_[2], np.random.default_rng(0)
    least = loss(found)
    assert least < loss(np.zeros_like(found)) - 1
    assert all(loss(found + 0.02 * rng.normal(size=found.shape)) > least for _ in range(50))
    assert loss(0.99 * found) > least - 1e-3 and loss(1.01 * found) > least - 1e-3
    scores = base + design @ found[:-1] + found[-1]
    literal = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rule.combine(2, passed(table, 2)), literal, atol=1e-5)


def test_weights_of_classes_count_a_weight_as_so_many_rows() -> None:
    table, y = make("chain")
    weights = np.random.default_rng(1).integers(0, 4, len(y))
    rows = np.repeat(np.arange(len(y)), weights)
    found = EnsembleAnswer(class_penalty=3.0).fit(table, y, weights.astype(float))
    again = EnsembleAnswer(class_penalty=3.0).fit(table[rows], y[rows])
    for one, other in zip(found.class_weights_[1:], again.class_weights_[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    assert found.class_weights_[0] is None


def test_paths_of_many_probabilities_have_no_weights_of_classes() -> None:
    rng = np.random.default_rng(0)
    table = PathProbabilities(rng.dirichlet(np.ones(100), size=(60, 2)), PathTree.chain([1, 1]))
    rule = EnsembleAnswer(class_penalty=3.0).fit(table, np.arange(60))
    assert rule.class_weights_ == [None, None]
    with pytest.raises(ValueError, match="class_penalty must be"):
        EnsembleAnswer(class_penalty=0).fit(table, np.arange(60))


def test_a_rule_saved_before_classes_had_weights_answers_as_it_did() -> None:
    table, y = make("chain")
    rule = EnsembleAnswer().fit(table, y)
    state = {k: v for k, v in rule.__getstate__().items() if not k.startswith("class")}
    old = EnsembleAnswer.__new__(EnsembleAnswer)
    old.__setstate__(state)
    assert old.get_params() == rule.get_params()
    assert np.array_equal(old.combine(2, passed(table, 2)), rule.combine(2, passed(table, 2)))


def test_gates_see_the_answers_of_classes() -> None:
    table, y = make("chain")
    router = quick(answer=CLASSES, validation_fraction=0).fit(table, y)
    routes, made = router.route(table), answered(router.answer_, table)
    for path in (0, 1):  # there the gate after it decided
        rows = np.flatnonzero(routes.paths == path)
        told = router.regressor_.predict(made, path)[rows, path]
        assert len(rows)
        np.testing.assert_allclose(routes.predicted_error[rows], told, atol=1e-6)


@rules
def test_a_path_of_one_exit_answers_as_that_exit(rule: Any) -> None:
    table, y = make("cascade")
    made = answered(rule.fit(table, y), table)
    for path in table.paths.roots.tolist():
        assert np.array_equal(made.path(path), table.path(path))
    alone = PathProbabilities(np.asarray(table)[:, :1], PathTree.chain([1]))
    assert np.array_equal(np.asarray(answered(rule.fit(alone, y), alone)), np.asarray(alone))


# ---------------------------------------------------------------------- tables of answers


@names
@rules
def test_a_table_of_answers_holds_what_the_rule_says_of_each_path(name: str, rule: Any) -> None:
    table, y = make(name)
    table = table.with_context(np.arange(N))
    made = answered(rule.fit(table, y), table)
    tree = made.paths
    assert tree.n_columns == tree.n_paths == table.paths.n_paths
    assert tree.names == table.paths.names and tree.costs == table.paths.costs
    assert np.array_equal(made.context, table.context)
    for path in range(tree.n_paths):
        assert np.array_equal(made.path(path), rule.combine(path, passed(table, path)))
    assert answered(None, table) is table


class Rememberer(BaseEstimator):
    """Answers rows it has seen with class 0, others with class 1."""

    def fit(self, table: PathProbabilities, codes: np.ndarray) -> Rememberer:
        self.seen_ = {row.tobytes() for row in table.path(0)}
        return self

    def combine(self, path: int, history: Any) -> np.ndarray:
        known = np.array([row.tobytes() in self.seen_ for row in history[0]])
        return np.eye(4)[np.where(known, 0, 1)]


def test_cross_fitted_answers_come_from_rules_that_have_not_seen_the_row() -> None:
    table, y = make("chain")
    rule, made = cross_fitted_answers(Rememberer(), table, y)
    assert len(rule.seen_) == N
    assert (np.asarray(made).argmax(axis=2) == 1).all()
    few, made = cross_fitted_answers(Rememberer(), table[:8], y[:8])
    assert len(few.seen_) == 8
    assert (np.asarray(made).argmax(axis=2) == 0).all()


def test_a_router_trains_and_measures_on_answers_the_rule_has_not_seen() -> None:
    table, y = make("chain", 1500)
    router = quick(answer=Rememberer(), validation_fraction=0.3).fit(table, y)
    assert len(router.answer_.seen_) == 1050
    assert np.allclose(router.regressor_.base_errors_, np.mean(y != 1), atol=0.03)
    assert (router.cost_curve([0.1]).accuracy <= 0.3).all()


# ---------------------------------------------------------------------- the router


@pytest.fixture(scope="module")
def fitted() -> dict[tuple[str, str], CostAwareRouter]:
    return {
        (name, answer): quick(answer=rule).fit(*make(name))
        for name in TREES
        for answer, rule in ANSWERS.items()
    }


@names
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_routers_answer_is_the_rules_answer_at_the_path_taken(
    fitted: Any, name: str, answer: str
) -> None:
    router, (table, y) = fitted[name, answer], make(name)
    made = answered(router.answer_, table)
    for lambda_ in (0.0, 0.05, 0.4):
        routes = router.set_params(lambda_=lambda_).route(table)
        assert np.allclose(routes.probabilities.sum(axis=1), 1, atol=1e-5)
        assert np.array_equal(routes.labels, routes.probabilities.argmax(axis=1))
        expected = np.asarray(made)[np.arange(N), routes.paths]
        assert np.array_equal(routes.probabilities, expected)
        curve = router.cost_curve([lambda_], table, y)
        assert np.array_equal(curve.paths[0], routes.paths)
        assert curve.accuracy[0] == pytest.approx(np.mean(routes.labels == y))


@pytest.mark.parametrize("name", ["levels", "chain"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_of_a_lazy_table_and_of_single_rows_are_those_of_the_stored_one(
    fitted: Any, name: str, answer: str
) -> None:
    router, (table, _) = fitted[name, answer].set_params(lambda_=0.05), make(name)
    read = router.route(table)
    bank = MultiPathClassifierBank(TableNetwork(table), batch_size=23)
    live = router.route(bank.transform(np.arange(N)[:, None]))
    assert np.array_equal(live.paths, read.paths)
    assert np.array_equal(live.probabilities, read.probabilities)
    assert sum(live.counts.values()) == table.paths.depths[read.paths].sum()
    for row in range(0, N, 17):
        single = router.route(table[[row]])
        assert single.paths[0] == read.paths[row]
        assert np.array_equal(single.probabilities[0], read.probabilities[row])
    again = pickle.loads(pickle.dumps(router))
    assert np.array_equal(again.predict_proba(table), read.probabilities)


@pytest.mark.parametrize("answer", ["last", *ANSWERS.values()])
def test_unlabeled_rows_of_any_float_type_train_gates(answer: Any) -> None:
    table, y = make("cascade", 300)
    table = PathProbabilities(np.asarray(table, dtype=np.float64), table.paths)
    bare = PathProbabilities(np.asarray(table)[200:].astype(np.float32), table.paths)
    router = quick(answer=answer, targets="shrunken")
    routes = router.fit(table[:200], y[:200], unlabeled=bare).route(table)
    assert np.isfinite(routes.predicted_error).all()


@pytest.mark.parametrize("answer", ["best", None, RecallAnswer, 3])
def test_an_unknown_answer_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"answer must be one of .*'recall'.* or a rule"):
        quick(answer=answer).fit(*make("chain"))
