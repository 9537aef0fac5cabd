"""Gates as classifiers, and the richer features they see, written out."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skquee import CostAwareRouter, PathErrorRegressor, PathProbabilities, PathTree
from skquee.baselines import NextStepRouter
from skquee.gates import PathErrorClassifier, rich_features
from skquee.method.gates._logistic import fit_logistic
from skquee.method.gates._rich import (
    N_PARTS,
    PRIOR_ROWS,
    TINY,
    ClassErrorRates,
    GateInputs,
    training_parts,
)
from skquee.testing import make_path_probabilities
from skquee.values._labels import path_answers

TABLE, Y = make_path_probabilities(240)
TREE = TABLE.paths
WRONG = (path_answers(TABLE) != Y[:, None]).astype(float)
SOFT = 0.1 + 0.8 * np.random.default_rng(1).random(WRONG.shape)
PREFIX = TREE.index("8-4")


# ---------------------------------------------------------------------- rich features


def literal_rich(history: list[np.ndarray], rates: list[float]) -> list[float]:
    """Features of one sample."""

    def odds(p: float) -> float:
        p = min(max(p, TINY), 1 - TINY)
        return math.log(p / (1 - p))

    def h(vector: np.ndarray) -> float:
        return -sum(p * math.log(p) for p in vector if p > 0)

    now = history[-1]
    best = int(np.argmax(now))
    top = sorted(now, reverse=True)[:3]
    line = [*top, odds(top[0]), top[0] - top[1], h(now), 1 / sum(p * p for p in now), rates[-1]]
    for before in history[-2::-1]:
        said = int(np.argmax(before))
        line += [odds(max(before)), h(before), float(said == best)]
        line += [odds(now[said]), odds(before[best])]
        line.append(
            sum(
                p * (math.log(max(p, TINY)) - math.log(max(q, TINY)))
                for p, q in zip(now, before, strict=True)
            )
        )
    if len(history) > 1:
        run = 1
        while run < len(history) and int(np.argmax(history[-1 - run])) == best:
            run += 1
        line.append(run)
    return line


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_rich_features_are_the_literal_ones(n_classes: int, depth: int) -> None:
    rng = np.random.default_rng(0)
    history = list(rng.dirichlet(np.full(n_classes, 0.7), size=(depth, 30)))
    history[0][0] = np.eye(n_classes)[1]
    rates = list(rng.random((depth, 30)))
    found = rich_features(history, rates)
    expected = [literal_rich([p[i] for p in history], [r[i] for r in rates]) for i in range(30)]
    assert found.dtype == np.float64
    assert np.allclose(found, expected, atol=1e-9)
    context = rng.normal(size=(30, 2))
    assert np.array_equal(rich_features(history, rates, context)[:, :2], context)
    assert np.array_equal(rich_features(history, rates, context)[:, 2:], found)
    assert np.array_equal(rich_features([], [], context), context)
    none = rich_features([p[:0] for p in history], [r[:0] for r in rates])
    assert none.shape == (0, found.shape[1])
    many = np.arange(9000) % 30
    together = rich_features([p[many] for p in history], [r[many] for r in rates], context[many])
    assert np.array_equal(together[:, 2:], found[many])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 999))
def test_rich_features_do_not_depend_on_the_order_of_classes(
    n_classes: int, depth: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    history = list(rng.dirichlet(np.ones(n_classes), size=(depth, 5)))
    rates = list(rng.random((depth, 5)))
    order = rng.permutation(n_classes)
    moved = rich_features([p[:, order] for p in history], rates)
    assert np.allclose(moved, rich_features(history, rates), atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)))
def test_gates_do_not_depend_on_the_order_of_classes(order: list[int]) -> None:
    gates = PathErrorClassifier().fit(TABLE, WRONG)
    moved = PathProbabilities(np.asarray(TABLE)[:, :, order], TREE)
    again = PathErrorClassifier().fit(moved, WRONG)
    assert np.allclose(
        again.predict(moved, PREFIX), gates.predict(TABLE, PREFIX), atol=1e-4, equal_nan=True
    )


def test_class_error_rates_of_training_rows_are_counted_on_the_other_parts() -> None:
    rates, parts = ClassErrorRates(TABLE, WRONG), training_parts(240)
    assert np.bincount(parts).tolist() == [240 // N_PARTS] * N_PARTS
    for path in range(TREE.n_paths):
        said = TABLE.path(path).argmax(axis=1)
        mean = WRONG[:, path].mean()
        own, every = rates.of(path, said, parts), rates.of(path, said)
        for row in range(0, 240, 13):
            same = said == said[row]
            total = WRONG[same, path].sum() + PRIOR_ROWS * mean
            assert every[row] == pytest.approx(total / (same.sum() + PRIOR_ROWS))
            same &= parts != parts[row]
            total = WRONG[same, path].sum() + PRIOR_ROWS * mean
            assert own[row] == pytest.approx(total / (same.sum() + PRIOR_ROWS))


def test_features_of_training_rows_do_not_tell_their_own_error() -> None:
    """Rates without the row alone would: the lower of two in a class is that of an error."""
    tree = PathTree.chain([1, 2])
    table, y = make_path_probabilities(1400, tree)
    wrong = path_answers(table) != y[:, None]
    gates = PathErrorClassifier(DecisionTreeClassifier(max_depth=4), random_state=0)
    found = gates.fit(table[:700], wrong[:700]).predict(table[700:], 0)
    for path in (0, 1):
        loss = np.mean((found[:, path] - wrong[700:, path]) ** 2)
        assert loss < 1.05 * np.var(wrong[700:, path])


@pytest.mark.parametrize("make", [PathErrorClassifier, PathErrorRegressor])
def test_gates_train_on_rates_of_other_parts_and_predict_with_all(
    make: Any, monkeypatch: Any
) -> None:
    given: list[Any] = []
    plain = GateInputs.of

    def noting(self: Any, prefix: int, history: Any, context: Any, parts: Any = None) -> Any:
        given.append(parts)
        return plain(self, prefix, history, context, parts)

    monkeypatch.setattr(GateInputs, "of", noting)
    estimator = DecisionTreeRegressor(max_depth=2)
    gates = make(estimator, features="rich").fit(TABLE, WRONG)
    assert sum(len(parts) for parts in given if parts is not None) == TREE.is_inner.sum() * 240
    given.clear()
    gates.predict(TABLE, PREFIX)
    assert given == [None]


# ---------------------------------------------------------------------- the classifier


def features_of(prefix: int, parts: Any = None) -> np.ndarray:
    history = [TABLE.path(p) for p in TREE.prefixes(prefix)]
    rates = [
        ClassErrorRates(TABLE, WRONG).of(p, v.argmax(axis=1), parts)
        for p, v in zip(TREE.prefixes(prefix).tolist(), history, strict=True)
    ]
    return rich_features(history, rates)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 240)], ids=["plain", "weighted"])
def test_logistic_is_scikit_learns_on_standardised_features_for_every_pair(weights: Any) -> None:
    if weights is not None:
        weights[0] = 0.5
    gates = PathErrorClassifier(random_state=0).fit(TABLE, WRONG, weights)
    for prefix in np.flatnonzero(TREE.is_inner).tolist():
        own, seen = features_of(prefix, training_parts(240)), features_of(prefix)
        scaler = StandardScaler().fit(own)
        predicted = gates.predict(TABLE, prefix)
        for path in TREE.descendants(prefix).tolist():
            model = LogisticRegression(max_iter=5000, tol=1e-9)
            model.fit(scaler.transform(own), WRONG[:, path], sample_weight=weights)
            expected = model.predict_proba(scaler.transform(seen))[:, 1]
            assert np.allclose(predicted[:, path], expected, atol=1e-5), (prefix, path)
        closed = np.setdiff1d(np.arange(TREE.n_paths), TREE.descendants(prefix))
        assert np.isnan(predicted[:, closed]).all()
    assert np.allclose(gates.base_errors_, np.average(WRONG, axis=0, weights=weights))


def test_the_penalty_is_that_of_scikit_learn() -> None:
    ours = PathErrorClassifier(penalty=10).fit(TABLE, WRONG).predict(TABLE, PREFIX)
    theirs = PathErrorClassifier(LogisticRegression(C=0.1, max_iter=5000, tol=1e-9))
    assert np.allclose(
        ours, theirs.fit(TABLE, WRONG).predict(TABLE, PREFIX), equal_nan=True, atol=1e-4
    )
    for bad in (0, -1, "much"):
        with pytest.raises(ValueError, match="penalty must be a finite number > 0"):
            PathErrorClassifier(penalty=bad).fit(TABLE, WRONG)


def test_many_features_are_left_to_scikit_learns_own_solver(monkeypatch: Any) -> None:
    fast = PathErrorClassifier().fit(TABLE, SOFT).predict(TABLE, PREFIX)
    monkeypatch.setattr("skquee.method.gates._classifier.MOST_FEATURES", 3)
    slow = PathErrorClassifier().fit(TABLE, SOFT).predict(TABLE, PREFIX)
    assert np.allclose(fast, slow, atol=0.02, equal_nan=True)


def test_rows_that_a_line_separates_have_a_finite_logistic_model() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    goals = (x > 0).astype(float)
    coefficients, intercepts = fit_logistic(1e6 * x, goals)
    assert np.isfinite(coefficients).all() and np.isfinite(intercepts).all()
    assert ((1e6 * x @ coefficients + intercepts > 0) == (goals > 0)).all()


def test_a_probability_counts_as_an_error_with_that_weight_and_as_none_with_the_rest() -> None:
    tree = PathTree.chain([1, 1])
    table = make_path_probabilities(120, tree)[0]
    soft = np.random.default_rng(0).choice([0.0, 0.25, 0.5, 1.0], size=(120, 2))
    gates = PathErrorClassifier(features="paper").fit(table, soft)
    # The same as each row four times, with as many errors as the probability says.
    repeated = table[np.repeat(np.arange(120), 4)]
    hard = (np.tile([0.1, 0.3, 0.6, 0.9], 120)[:, None] < np.repeat(soft, 4, axis=0)).astype(float)
    again = PathErrorClassifier(LogisticRegression(C=0.25, max_iter=200), features="paper")
    again.fit(repeated, hard)
    assert np.allclose(gates.predict(table, 0), again.predict(table, 0), atol=1e-3)
    assert np.allclose(gates.base_errors_, soft.mean(axis=0))


@pytest.mark.parametrize("estimator", ["logistic", DecisionTreeClassifier(max_depth=2)])
def test_a_target_that_never_varies_is_predicted_as_itself_drawn_by_one_row(estimator: Any) -> None:
    goals = WRONG.copy()
    goals[:, 0], goals[:, 1], goals[:, 2] = 0, 1, 0.3
    gates = PathErrorClassifier(estimator).fit(TABLE, goals)
    found = {p: gates.predict(TABLE, 0)[:, p] for p in (0, 1, 2) if p in TREE.descendants(0)}
    for path, values in found.items():
        constant = (goals[0, path] * 240 + 0.5) / 241
        assert np.allclose(values, constant, atol=1e-6)
    assert 0 in found


@pytest.mark.parametrize(
    "estimator",
    [
        "boosting",
        GaussianNB(),
        CalibratedClassifierCV(GaussianNB(), cv=2),
        make_pipeline(StandardScaler(), LogisticRegression()),
        LinearRegression(),
        DecisionTreeRegressor(max_depth=3),
    ],
    ids=lambda e: e if isinstance(e, str) else type(e).__name__,
)
def test_any_classifier_or_regressor_predicts_probabilities_of_error(estimator: Any) -> None:
    tree = PathTree.chain([1, 2])
    table, y = make_path_probabilities(240, tree)
    wrong = path_answers(table) != y[:, None]
    gates = PathErrorClassifier(estimator, random_state=0).fit(table, wrong)
    found = gates.predict(table, 0)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    for path in (0, 1):
        assert roc_auc_score(wrong[:, path], found[:, path]) > 0.6
    again = pickle.loads(pickle.dumps(gates))
    assert np.array_equal(again.predict(table, 0), found)


@pytest.mark.parametrize(
    "estimator",
    [
        "logistic",
        RandomForestClassifier(3),
        make_pipeline(StandardScaler(), RandomForestClassifier(3)),
        CalibratedClassifierCV(RandomForestClassifier(3), cv=2),
    ],
    ids=["logistic", "forest", "pipeline", "calibrated"],
)
def test_the_same_seed_gives_the_same_bits_whatever_n_jobs(estimator: Any) -> None:
    with parallel_config("loky" if estimator == "logistic" else "threading"):
        one, two, other = (
            PathErrorClassifier(estimator, random_state=seed, n_jobs=jobs)
            .fit(TABLE, WRONG)
            .predict(TABLE, PREFIX)
            for seed, jobs in ((0, None), (0, 2), (1, None))
        )
    assert np.array_equal(one, two, equal_nan=True)
    if estimator != "logistic":
        assert not np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("estimator", ["logistic", GaussianNB()], ids=["logistic", "bayes"])
@pytest.mark.parametrize("features", ["paper", "rich"])
def test_predict_is_judge_row_by_row(estimator: Any, features: str) -> None:
    gates = PathErrorClassifier(estimator, features=features).fit(TABLE, WRONG)
    level = np.flatnonzero((TREE.depths == 2) & TREE.is_inner)
    at = level[np.arange(240) % len(level)]
    parents = TREE.parents
    history = [
        np.stack([TABLE.path(parents[p])[i] for i, p in enumerate(at)]),
        np.stack([TABLE.path(p)[i] for i, p in enumerate(at)]),
    ]
    seen = np.zeros(240, dtype=int)
    for positions, judged, errors in gates.judge(at, history, None):
        prefix = int(at[positions[0]])
        assert np.array_equal(judged, TREE.descendants(prefix))
        assert np.allclose(errors, gates.predict(TABLE, prefix)[positions][:, judged], atol=1e-6)
        seen[positions] += 1
    assert (seen == 1).all()
    assert np.allclose(gates.predict(TABLE), WRONG.mean(axis=0))
    assert not gates.judges_before_running


def test_rows_without_weight_count_as_absent() -> None:
    weights = np.ones(240)
    weights[::3] = 0
    kept = np.flatnonzero(weights)
    whole = PathErrorClassifier().fit(TABLE, WRONG, weights).predict(TABLE, PREFIX)
    part = PathErrorClassifier().fit(TABLE[kept], WRONG[kept]).predict(TABLE, PREFIX)
    assert np.allclose(whole, part, atol=1e-6, equal_nan=True)


def test_bad_input_fails_with_a_message_that_says_what() -> None:
    def fit(estimator: Any = "logistic", goals: Any = WRONG, **extra: Any) -> PathErrorClassifier:
        weights = extra.pop("weights", None)
        return PathErrorClassifier(estimator, **extra).fit(TABLE, goals, weights)

    cases: list[tuple[str, dict[str, Any]]] = [
        (r"targets must have shape .*\(240, 6\), got \(240, 2\)", {"goals": WRONG[:, :2]}),
        ("between 0 and 1", {"goals": WRONG + 1}),
        ("between 0 and 1", {"goals": np.where(WRONG == 1, np.nan, 0)}),
        (r"sample_weight.shape == \(3,\)", {"weights": np.ones(3)}),
        ("must be finite and not negative", {"weights": -np.ones(240)}),
        ("estimator must be 'logistic', 'boosting' or", {"estimator": "linear"}),
        ("estimator must be 'logistic', 'boosting' or", {"estimator": 3}),
        (r"features must be one of .*'rich'", {"features": "poor"}),
        (
            "fit of KNeighborsClassifier does not take",
            {"estimator": KNeighborsClassifier(), "goals": SOFT},
        ),
        (
            "sample_weight was given, but the fit of KNeighborsClassifier",
            {"estimator": KNeighborsClassifier(), "weights": np.ones(240)},
        ),
    ]
    for message, options in cases:
        with pytest.raises(ValueError, match=message):
            fit(**options)
    with pytest.raises(ValueError, match="No path extends '8-8-8', so no gate follows it"):
        fit().predict(TABLE, "8-8-8")


# ---------------------------------------------------------------------- the network, rich


def test_the_network_takes_rich_features_and_predicts_what_it_judges() -> None:
    gates = PathErrorRegressor(
        features="rich", schedule="constant", max_epochs=5, batch_size=128, random_state=0
    ).fit(TABLE, WRONG)
    found = gates.predict(TABLE, PREFIX)
    open_paths = TREE.descendants(PREFIX)
    assert ((found[:, open_paths] >= 0) & (found[:, open_paths] <= 1)).all()
    history = [TABLE.path(p) for p in TREE.prefixes(PREFIX)]
    at = np.full(240, PREFIX)
    ((rows, judged, errors),) = gates.judge(at, history, None)
    assert np.array_equal(errors, found[:, judged]) and len(rows) == 240
    order = [2, 0, 3, 1]
    moved = PathProbabilities(np.asarray(TABLE)[:, :, order], TREE)
    assert np.allclose(
        gates.predict(moved, PREFIX)[:, open_paths].mean(), found[:, open_paths].mean(), atol=0.05
    )
    again = pickle.loads(pickle.dumps(gates))
    assert np.array_equal(again.predict(TABLE, PREFIX), found, equal_nan=True)


def test_what_cannot_take_rich_features_says_so() -> None:
    router = NextStepRouter(regressor=PathErrorRegressor(features="rich"), random_state=0)
    with pytest.raises(ValueError, match="use features='paper'"):
        router.fit(TABLE, Y)
    with pytest.raises(ValueError, match="features must be one of"):
        CostAwareRouter(features="poor").fit(TABLE, Y)
