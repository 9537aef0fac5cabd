"""The bank: anything with probabilities behind one lazy table."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
)
from skquee.baselines import ThresholdRouter
from skquee.testing import TableNetwork, make_path_probabilities

X, Y = make_classification(240, 6, n_informative=4, n_classes=3, random_state=0)
NAMES = np.array(["ant", "bee", "cat"])[Y]


class Counted(ClassifierMixin, BaseEstimator):
    """A fixed classifier that notes the rows it is run on; scikit-learn never copies it."""

    def __init__(self, weights: Any = None, fail_at: int | None = None) -> None:
        self.weights = weights
        self.fail_at = fail_at
        self.classes_ = np.array([0, 1, 2])
        self.sizes: list[int] = []

    def __sklearn_clone__(self) -> Counted:
        return self

    def fit(self, X: Any, y: Any = None) -> Counted:
        raise AssertionError("a fixed classifier is never fitted")

    def predict_proba(self, X: Any) -> Any:
        self.sizes.append(len(X))
        if self.fail_at == len(self.sizes):
            raise ConnectionError("lost the line")
        logits = np.asarray(X, dtype=float)[:, :3] * self.weights
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def counted_bank(**options: Any) -> MultiPathClassifierBank:
    models = [(name, Counted(w)) for name, w in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    return MultiPathClassifierBank(models, step_costs=[1, 3, 6], **options)


def quick_router(**changes: Any) -> CostAwareRouter:
    return CostAwareRouter(
        0.3,
        targets=ClusteredErrorTargets(n_clusters=4, n_init=1),
        regressor=PathErrorRegressor(schedule="constant", max_epochs=5),
        random_state=0,
    ).set_params(**changes)


def by_sign(X: Any) -> Any:
    right = np.asarray(X)[:, 0] > 0
    return np.column_stack([0.7 * right + 0.1, 0.2 - 0.1 * right, 0.7 - 0.6 * right])


# ---------------------------------------------------------------------- what it holds


def test_frozen_unfitted_callable_and_pipeline_stand_side_by_side() -> None:
    frozen = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, NAMES)
    frame = pd.DataFrame(X, columns=list("pqrstu"))
    frozen_frame = DecisionTreeClassifier(max_depth=2, random_state=0).fit(frame, NAMES)
    picked = make_pipeline(make_column_transformer(("passthrough", ["q", "s"])), GaussianNB())
    bank = MultiPathClassifierBank(
        [
            ("call", by_sign),
            ("frozen", FrozenEstimator(frozen_frame)),
            ("picked", picked),
            ("forest", RandomForestClassifier(5, random_state=0)),
        ],
        step_costs=[1, 2, 3, 4],
    ).fit(frame, NAMES)
    table = bank.transform(frame)
    assert table.shape == (240, 4, 3)
    assert list(bank.classes_) == ["ant", "bee", "cat"]
    assert np.allclose(bank.costs_, [1, 3, 6, 10])
    expected = [
        by_sign(X),
        frozen.predict_proba(X),
        GaussianNB().fit(X[:, [1, 3]], NAMES).predict_proba(X[:, [1, 3]]),
        RandomForestClassifier(5, random_state=0).fit(frame, NAMES).predict_proba(frame),
    ]
    assert np.allclose(np.asarray(table), np.stack(expected, axis=1))
    assert not hasattr(picked[-1], "classes_"), "the given estimator must stay unfitted"
    part = table[np.array([9, 2])].walk().advance(np.arange(2), np.array([0, 0]))
    assert np.allclose(part, by_sign(X[[9, 2]]))


@pytest.mark.filterwarnings("ignore:The classifiers of this table were fitted")
def test_a_list_of_texts_goes_through() -> None:
    texts = ["good film", "bad film", "very good", "awful bad", "good", "bad"] * 5
    labels = np.array(["pos", "neg"] * 15)
    bank = MultiPathClassifierBank(
        [
            ("words", make_pipeline(CountVectorizer(), MultinomialNB())),
            ("pairs", make_pipeline(CountVectorizer(ngram_range=(1, 2)), LogisticRegression())),
        ],
        step_costs=[1, 2],
    ).fit(texts, labels)
    table = bank.transform(texts)
    assert len(table) == 30
    assert np.array_equal(np.asarray(table[[3, 1]]), np.asarray(table)[[3, 1]])
    answers = ThresholdRouter(0.6).fit(table, labels).predict(bank.transform(["good", "bad"]))
    assert answers.tolist() == ["pos", "neg"]


def test_classes_a_model_lacks_get_probability_zero_in_the_right_columns() -> None:
    few = NAMES != "bee"
    narrow = LogisticRegression().fit(X[few], NAMES[few])
    wide = LogisticRegression().fit(X, NAMES)
    bank = MultiPathClassifierBank(
        [("narrow", FrozenEstimator(narrow)), ("wide", FrozenEstimator(wide))],
        step_costs=[1, 2],
        classes=["cat", "bee", "ant"],
    ).fit(X, NAMES)
    values = np.asarray(bank.transform(X))
    assert np.array_equal(values[:, 0, 1], np.zeros(240))
    assert np.allclose(values[:, 0, [2, 0]], narrow.predict_proba(X))
    assert np.allclose(values[:, 1, ::-1], wide.predict_proba(X))
    assert bank.paths_.classes == ("cat", "bee", "ant")
    # A fold of y that lacks a class the models know keeps the column.
    fold = MultiPathClassifierBank([("wide", FrozenEstimator(wide))]).fit(X[few], NAMES[few])
    assert list(fold.classes_) == ["ant", "bee", "cat"]


def test_a_bank_whose_parts_are_ready_needs_no_fit_and_others_do() -> None:
    ready = counted_bank()
    assert ready.transform(X).shape == (240, 3, 3)
    with pytest.raises(NotFittedError):
        MultiPathClassifierBank([("m", GaussianNB())]).transform(X)
    with pytest.raises(ValueError, match="requires y"):
        MultiPathClassifierBank([("m", GaussianNB())]).fit(X)


def test_weights_reach_the_classifiers_that_take_them() -> None:
    class Unweighted(GaussianNB):
        def fit(self, X: Any, y: Any) -> Any:
            return super().fit(X, y)

    weights = np.where(Y == 0, 5.0, 1.0)
    bank = MultiPathClassifierBank([("a", GaussianNB()), ("b", Unweighted())], step_costs=[1, 2])
    values = np.asarray(bank.fit(X, Y, sample_weight=weights).transform(X))
    assert np.allclose(values[:, 0], GaussianNB().fit(X, Y, weights).predict_proba(X))
    assert np.allclose(values[:, 1], GaussianNB().fit(X, Y).predict_proba(X))


def test_a_cascade_and_a_tree_over_classifiers_read_their_columns() -> None:
    cascade = counted_bank(paths="cascade").transform(X)
    assert cascade.shape == (240, 3, 3)
    assert cascade.paths.n_paths == 7
    assert np.array_equal(cascade.path("a-c"), cascade.path("c"))
    tree = PathTree.from_paths([("x",), ("x", "y")], [1, 2], columns=[1, 0])
    models = counted_bank().classifiers[:2]
    own = MultiPathClassifierBank(models, paths=tree).transform(X)
    assert np.array_equal(own.path("x"), models[1][1].predict_proba(X))


# ---------------------------------------------------------------------- lazy


def test_transform_and_selection_run_nothing() -> None:
    bank = counted_bank().fit(X, Y)
    table = bank.transform(X)[np.arange(100)][:50]
    assert (table.shape, table.ndim, len(table), table.dtype) == ((50, 3, 3), 3, 50, np.float64)
    repr(table), table.with_paths(table.paths)  # noqa: B018
    assert [model.sizes for _, model in bank.classifiers] == [[], [], []]


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_lazy_predict_runs_exactly_the_classifiers_each_row_needs(batch_size: int) -> None:
    bank = counted_bank(batch_size=batch_size)
    router = ThresholdRouter(0.75).fit(bank.materialize(X), Y)
    for _, model in bank.classifiers:
        model.sizes.clear()
    routes = router.route(bank.transform(X))
    reached = [int((routes.paths >= i).sum()) for i in range(3)]
    assert 0 < reached[2] < reached[1] < reached[0] == 240
    assert [sum(model.sizes) for _, model in bank.classifiers] == reached
    assert routes.counts == dict(zip("abc", reached, strict=True))
    assert max(bank.classifiers[0][1].sizes) <= batch_size


def test_skipping_a_model_leaves_it_alone() -> None:
    bank = counted_bank(paths="cascade")
    table = bank.transform(X)
    walk = table.walk()
    tree = table.paths
    walk.advance(np.arange(240), np.full(240, tree.index("a")))
    mixed = np.where(np.arange(40) % 2, tree.index("a-b"), tree.index("a-c"))
    answers = walk.advance(np.arange(0, 240, 6), mixed)
    assert walk.counts == {"a": 240, "b": 20, "c": 20}
    assert np.array_equal(answers[1::2], bank.classifiers[1][1].predict_proba(X[6::12]))


@pytest.mark.filterwarnings("ignore:The classifiers of this table were fitted")
def test_a_pipeline_searched_by_two_workers_and_pickled_predicts_the_same() -> None:
    bank = MultiPathClassifierBank(
        [
            ("stump", DecisionTreeClassifier(max_depth=1, random_state=0)),
            ("forest", RandomForestClassifier(8, random_state=0)),
        ],
        step_costs=[1, 9],
    )
    regressor = PathErrorRegressor(DecisionTreeRegressor(max_depth=3))  # workers load no torch
    pipe = make_pipeline(bank, quick_router(regressor=regressor))
    grid = {"costawarerouter__lambda_": [0.05, 0.5]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(X, NAMES)
    assert set(search.predict(X)) <= set(NAMES)
    best = search.best_estimator_
    elsewhere = joblib.Parallel(n_jobs=2)(joblib.delayed(best.predict)(X[:50]) for _ in "ab")
    for answers in elsewhere:
        assert np.array_equal(answers, pickle.loads(pickle.dumps(best)).predict(X[:50]))
    serial = GridSearchCV(pipe, grid, cv=2).fit(X, NAMES)
    assert np.array_equal(
        search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )


def test_a_lazy_table_pickles_its_own_rows_only() -> None:
    wide = np.random.default_rng(0).normal(size=(5000, 20))
    bank = counted_bank()
    part = bank.transform(wide)[np.array([17, 4000])]
    data = pickle.dumps(part)
    assert len(data) < 20_000 < wide.nbytes
    assert np.array_equal(
        np.asarray(pickle.loads(data)), np.asarray(bank.transform(wide[[17, 4000]]))
    )


def test_a_clone_is_unfitted_and_keeps_frozen_parts() -> None:
    bank = MultiPathClassifierBank([("m", FrozenEstimator(GaussianNB().fit(X, Y)))]).fit(X, Y)
    copy = clone(bank)
    assert "paths_" not in vars(copy)
    assert copy.classifiers[0][1].estimator is bank.classifiers[0][1].estimator


# ---------------------------------------------------------------------- materialize


@pytest.mark.parametrize("batch_size", [1, 50, 999])
def test_materialize_equals_lazy_in_chunks_of_any_size(batch_size: int) -> None:
    bank = counted_bank(paths="cascade")
    table = bank.transform(X[:60])
    full = bank.materialize(X[:60], batch_size=batch_size)
    assert type(full) is PathProbabilities
    assert full.paths == table.paths
    for path in range(7):
        assert np.allclose(full.path(path), table.path(path), rtol=0, atol=1e-15)


def test_out_is_a_memory_map_of_the_type_asked_for(tmp_path: Path) -> None:
    bank = counted_bank()
    out = tmp_path / "t.npy"
    table = bank.materialize(X, batch_size=100, out=out, dtype="float16")
    exact = np.asarray(bank.transform(X)).astype(np.float16)
    assert table.dtype == np.float16
    assert isinstance(table._base, np.memmap)
    assert np.array_equal(np.asarray(table), exact)
    again = PathProbabilities.load(out)
    assert again.paths == table.paths
    assert np.array_equal(np.asarray(again), exact)
    assert {file.name for file in tmp_path.iterdir()} == {"t.npy", "t.npy.json"}


def interrupted(tmp_path: Path, rows: Any = X) -> tuple[MultiPathClassifierBank, Counted, Path]:
    """Materialize 240 rows in threes of 80; classifier b breaks in the second chunk."""
    bank, out = counted_bank(), tmp_path / "t.npy"
    broken = bank.classifiers[1][1]
    broken.fail_at = 2
    with pytest.raises(RuntimeError, match="'b' raised ConnectionError on 80 rows: lost the line"):
        bank.materialize(rows, batch_size=80, out=out)
    assert not out.exists()
    broken.fail_at = None
    broken.sizes.clear()
    return bank, broken, out


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    bank, broken, out = interrupted(tmp_path)
    table = bank.materialize(X, batch_size=80, out=out)
    assert broken.sizes == [1, 80, 80]  # one row to know the weights again
    assert np.array_equal(np.asarray(table), np.asarray(bank.transform(X)))
    assert {file.name for file in tmp_path.iterdir()} == {"t.npy", "t.npy.json"}


def test_other_weights_under_the_same_names_start_again(tmp_path: Path) -> None:
    bank, _, out = interrupted(tmp_path)
    other = GaussianNB().fit(X[::-1], Y)  # learned other labels for the same rows
    named = [(name, other.predict_proba) for name, _ in bank.classifiers]
    changed = MultiPathClassifierBank(named, step_costs=bank.step_costs, classes=bank.classes_).fit(
        X
    )
    table = changed.materialize(X, batch_size=80, out=out)
    assert np.array_equal(np.asarray(table), np.asarray(changed.transform(X)))


@pytest.mark.parametrize("kind", ["objects", "frame", "list"])
def test_a_run_is_known_again_by_equal_rows_of_any_type(tmp_path: Path, kind: str) -> None:
    def rows() -> Any:  # equal content, other objects
        frame = pd.DataFrame(X[:, :3].copy()).astype(object)
        return {"objects": frame.to_numpy(), "frame": frame, "list": X[:, :3].tolist()}[kind]

    bank, broken, out = interrupted(tmp_path, rows())
    bank.materialize(rows(), batch_size=80, out=out)
    assert broken.sizes == [1, 80, 80]  # one row to know the weights again


@pytest.mark.parametrize("change", ["rows", "dtype", "costs", "note"])
def test_another_job_does_not_go_on_with_the_rest_of_this_one(tmp_path: Path, change: str) -> None:
    bank, broken, out = interrupted(tmp_path)
    rows, options = X, {}
    if change == "rows":
        rows = X[::-1]
    elif change == "dtype":
        options = {"dtype": "float32"}
    elif change == "costs":
        bank.set_params(step_costs=[1, 1, 1]).fit(X)
    else:
        (tmp_path / "t.npy.partial.json").write_text('{"done": 1')
    table = bank.materialize(rows, batch_size=80, out=out, **options)
    assert broken.sizes == [80, 80, 80]
    expected = np.asarray(bank.transform(rows)).astype(table.dtype)
    assert np.array_equal(np.asarray(table), expected)


def test_a_job_that_took_over_the_file_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    bank, broken, out = interrupted(tmp_path)
    broken.fail_at = 1
    with pytest.raises(RuntimeError, match="'b'"):
        bank.materialize(X[::-1], batch_size=80, out=out)
    broken.fail_at = None
    broken.sizes.clear()
    table = bank.materialize(X, batch_size=80, out=out)
    assert np.array_equal(np.asarray(table), np.asarray(bank.transform(X)))


def test_a_half_written_file_has_no_tree_and_no_name(tmp_path: Path) -> None:
    _, _, out = interrupted(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"t.npy.partial", "t.npy.partial.json"}
    assert json.loads((tmp_path / "t.npy.partial.json").read_text())["done"] == 80
    with pytest.raises(FileNotFoundError):
        PathProbabilities.load(out)


def test_bad_options_of_materialize_fail_before_any_work(tmp_path: Path) -> None:
    bank = counted_bank()
    for options, error, message in (
        ({"out": tmp_path / "t.npz"}, ValueError, "must end in .npy"),
        ({"out": tmp_path / "no" / "t.npy"}, FileNotFoundError, "does not exist"),
        ({"dtype": "int8"}, ValueError, "float64, got int8"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1"),
    ):
        with pytest.raises(error, match=message):
            bank.materialize(X, **options)  # type: ignore[arg-type]
    assert all(model.sizes == [] for _, model in bank.classifiers)


# ---------------------------------------------------------------------- networks


def network_bank(**options: Any) -> tuple[MultiPathClassifierBank, TableNetwork]:
    table, _ = make_path_probabilities(90)
    network = TableNetwork(table)
    return MultiPathClassifierBank(network, batch_size=40, **options), network


def test_materialize_runs_each_prefix_and_level_once_a_row() -> None:
    bank, network = network_bank()
    rows = np.arange(90)[:, None]
    table = bank.materialize(rows)
    assert network.blocks_run == 90 * network.paths_.n_paths
    assert np.array_equal(np.asarray(table), np.asarray(network.table).astype(np.float32))
    network.blocks_run = 0
    bank.transform(rows).path("8-8-4")
    assert network.blocks_run == 90 * 3


def test_a_network_bank_takes_costs_and_classes_and_is_shared_by_clones() -> None:
    bank, network = network_bank(path_costs=[1, 2, 3, 4, 5, 10], classes=list("abcd"))
    assert clone(bank).classifiers is network
    assert bank.fit(np.arange(90)[:, None]).paths_.classes == tuple("abcd")
    assert np.allclose(bank.costs_, [1, 2, 3, 4, 5, 10])


def test_network_rows_that_leave_in_any_pattern_keep_their_own_activations() -> None:
    bank, network = network_bank()
    values, tree = np.asarray(network.table), network.paths_
    rng = np.random.default_rng(0)
    walk = bank.transform(np.arange(90)[:, None]).walk()
    rows, at = np.arange(90), np.full(90, tree.index("8"))
    while rows.size:
        answers = walk.advance(rows, at)
        assert np.allclose(answers, values[rows, at])
        stay = (rng.random(len(rows)) < 0.6) & np.array([not tree.is_leaf(p) for p in at])
        shuffled = rng.permutation(np.flatnonzero(stay))
        rows, at = rows[shuffled], at[shuffled]
        at = np.array([rng.choice(tree.children(p)) for p in at], dtype=int)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("classifiers", "options", "error", "message"),
    [
        ([("svm", LinearSVC())], {}, TypeError, "'svm' .LinearSVC. has no predict_proba. Wrap it"),
        ([("x", 5)], {}, TypeError, "Give a classifier or a callable"),
        (
            [("a", GaussianNB()), ("a", GaussianNB())],
            {"step_costs": [1, 2]},
            ValueError,
            "unique, got",
        ),
        ([("a", GaussianNB())], {"step_costs": [1, 2]}, ValueError, "step_costs must be 1 numb"),
        ([("a", GaussianNB())], {"step_costs": [-1]}, ValueError, "entry 0 is -1"),
        (RandomForestClassifier(), {}, ValueError, "An ensemble is one classifier"),
        ([GaussianNB()], {}, ValueError, "list of .name, estimator or callable"),
        ([], {}, ValueError, "list of .name, estimator or callable"),
        ([("a", GaussianNB())], {"paths": "net"}, ValueError, "'chain', 'cascade' or a PathTree"),
        ([("a", GaussianNB())], {"classes": [0, 1]}, ValueError, r"'a' knows the classes \[2\]"),
        (
            [("a", GaussianNB())],
            {"paths": PathTree.chain([1, 1])},
            ValueError,
            "reads 2 classifiers, but 1",
        ),
        (
            [("a", GaussianNB())],
            {"paths": PathTree.chain([1]), "step_costs": [1]},
            ValueError,
            "not both",
        ),
    ],
)
def test_bad_banks_fail_in_fit(
    classifiers: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MultiPathClassifierBank(classifiers, **options).fit(X, Y)


def test_callables_alone_need_classes() -> None:
    with pytest.raises(ValueError, match="callables only: pass classes="):
        MultiPathClassifierBank([("call", by_sign)]).fit(X)
    bank = MultiPathClassifierBank([("call", by_sign)], classes=list("abc"))
    assert bank.transform(X).shape == (240, 1, 3)
    assert MultiPathClassifierBank([("call", by_sign)]).fit(X, NAMES).classes_.tolist() == [
        "ant",
        "bee",
        "cat",
    ]


def test_wrong_output_of_a_classifier_is_named() -> None:
    bank = MultiPathClassifierBank([("call", lambda X: by_sign(X)[:, :2])], classes=list("abc"))
    with pytest.raises(ValueError, match=r"'call': it returned .* shape \(240, 2\).*\(240, 3\)"):
        bank.materialize(X)
    logits = MultiPathClassifierBank([("call", lambda X: 9 * by_sign(X))], classes=list("abc"))
    letters = np.array(list("abc"))[Y]
    for run in (logits.materialize, lambda X: quick_router().fit(logits.transform(X), letters)):
        with pytest.raises(ValueError, match="row 0, path 'call'.*softmax"):
            run(X)


def test_an_error_in_fitting_names_the_classifier() -> None:
    class Broken(GaussianNB):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            raise RuntimeError("no licence")

    with pytest.raises(RuntimeError, match="no licence") as caught:
        MultiPathClassifierBank([("ok", GaussianNB()), ("bad", Broken())], step_costs=[1, 2]).fit(
            X, Y
        )
    assert caught.value.__notes__ == ["(while fitting classifier 'bad' of the bank)"]
