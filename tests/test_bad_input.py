"""What cannot be used is refused before any work: received, expected, what to do."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import skquee
from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathProbabilities,
    PathTree,
)
from skquee.baselines import OracleRouter, ThresholdRouter
from skquee.display import CostCurveDisplay, PathUsageDisplay
from skquee.evaluation import (
    CostCurve,
    area_scorer,
    budget_scorer,
    hull_points,
    price_scorer,
)
from skquee.policy import OptionValue
from skquee.testing import TableNetwork, make_path_probabilities
from skquee.walk import Knob

CHAIN = PathTree.chain([1, 1])


def refused(calls):
    """Parametrise a test by (call, message)."""
    names = [f"{place}-{message[:40]}" for place, (_, message) in enumerate(calls)]
    return pytest.mark.parametrize(("call", "message"), calls, ids=names)


def raises(call, message, error=ValueError):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------- the tree


def tree(names=("a", "b"), parents=(-1, 0), levels=(1, 1), costs=(1, 2), **options):
    return PathTree(names, parents, levels, costs, **options)


@refused(
    [
        (lambda: tree(names="ab"), "names must be a sequence of texts, one a path, got 'ab'"),
        (lambda: tree(names=2), "names must be a sequence of texts"),
        (lambda: tree(levels="ab"), "levels must be a sequence of levels"),
        (lambda: tree(levels=([1], [2])), r"\[1\] cannot be told from others: a list is not"),
        (lambda: tree(levels=(1, np.nan)), "A level that is a number must be a finite number"),
        (lambda: tree(parents=(-1, 0.9)), "Each of parents must be an integer, got 0.9"),
        (lambda: tree(parents="ab"), "parents must be a sequence of integers"),
        (lambda: tree(parents=(-1, True)), "Each of parents must be an integer, got True"),
        (lambda: tree(columns=(0, 1.5)), "Each of columns must be an integer, got 1.5"),
        (lambda: tree(columns=(0, 10**15)), "columns must use every number from 0 up"),
        (lambda: tree(columns=(-1, 0)), "columns must use every number from 0 up"),
        (lambda: tree(classes="ab"), "classes must be a sequence of labels, in order, got 'ab'"),
        (lambda: tree(classes=("a",)), r"classes must be at least 2 labels, got \['a'\]"),
        (lambda: tree(classes=("a", None)), "classes must hold a label for each"),
        (lambda: tree(classes=(1, "a")), "classes must be all texts or all numbers"),
        (lambda: tree(costs="ab"), "costs must be numbers, one a path, got 'ab'"),
        (lambda: tree().with_classes("ab"), "classes must be a sequence"),
        (lambda: tree().with_costs(["a", "b"]), "path_costs must be numbers"),
        (lambda: tree().index(1.5), "must be an integer, got 1.5"),
        (lambda: tree().index(True), "must be an integer, got True"),
        (lambda: tree().index(None), "must be an integer, got None"),
        (lambda: tree().index(-1), "indices run from 0 to 1"),
        (lambda: PathTree.chain([1, 1], names="ab"), "names must be a sequence"),
        (lambda: PathTree.chain(["a"]), "step_costs must be numbers"),
        (lambda: PathTree.cascade([1, 1], names="ab"), "names must be a sequence"),
        (lambda: PathTree.cascade([1, 1], max_paths=2.5), "max_paths must be an integer >= 1"),
        (lambda: PathTree.from_paths("ab", [1, 2]), "paths must be a sequence of paths"),
        (lambda: PathTree.from_paths(["a", "b"], [1, 2]), "Each path must be a sequence of"),
        (lambda: PathTree.from_levels(2.5, (4, 8)), "n_exits must be an integer >= 1"),
        (lambda: PathTree.from_levels(2, "48"), "levels must be a sequence"),
        (lambda: PathTree.from_levels(2, ([4], [8])), "a list is not hashable"),
        (lambda: PathTree.from_levels(2, (4, np.nan)), "must be a finite number, got nan"),
        (lambda: PathTree.from_levels(2, (4, 8), "ab"), "block_costs must hold numbers"),
        (lambda: PathTree.from_levels(2, (4, 8), max_paths=0), "max_paths must be an integer >="),
        (lambda: PathTree.from_levels(2, (4, 8), max_paths="a"), "max_paths must be an integer"),
    ]
)
def test_trees(call, message):
    raises(call, message)


@refused(
    [
        (lambda: PathTree.from_levels(10**7, (4, 8)), "n_exits must be an integer >= 1 and <="),
        (lambda: PathTree.from_levels(10**4, range(100)), "max_paths=50 cannot hold"),
        (lambda: PathTree.from_levels(40, range(40), max_paths=None), "more than 100000 paths"),
        (
            lambda: PathTree.from_levels(40, range(40), max_paths=None, monotone=False),
            "more than 100000 paths. Give max_paths",
        ),
        (
            lambda: PathTree.from_levels(5000, (4, 8), max_paths=10**5),
            "are more than 10000000 steps: lower max_paths",
        ),
    ]
)
def test_a_tree_that_is_too_large_is_refused_before_it_is_made(call, message):
    raises(call, message)


def test_a_tree_of_many_levels_is_drawn_without_being_counted_out():
    # 5 ** 11 longest sequences, of which 1,365 never rise: they are made, not searched for.
    assert PathTree.from_levels(12, range(1, 6), max_paths=5_000).n_paths == 4_368
    found = PathTree.from_levels(40, range(1, 100_001), max_paths=60, random_state=0)
    assert found.n_paths <= 60 and found.n_exits == 40


def test_a_tree_of_many_blocks_is_folded_without_recursion():
    deep = PathTree.chain(np.ones(1500))
    seen = []
    deep.fold(0, lambda state, path: seen.append((state, path)) or state + 1)
    assert seen == [(path, path) for path in range(1500)]
    table = PathProbabilities(np.full((2, 1500, 2), 0.5), deep)
    bank = MultiPathClassifierBank(TableNetwork(table))
    assert bank.transform(np.arange(2)[:, None]).materialize().shape == (2, 1500, 2)


def test_a_fold_keeps_one_state_a_depth():
    found = PathTree.from_levels(3, (4, 8))
    lines = []
    found.fold((), lambda state, path: lines.append((*state, path)) or (*state, path))
    expected = [tuple(found.prefixes(path).tolist()) for path in range(found.n_paths)]
    assert sorted(lines) == sorted(expected)
    assert lines == sorted(lines)  # depth first


# ---------------------------------------------------------------------- rows of a table


@pytest.mark.parametrize("lazy", [False, True], ids=["stored", "lazy"])
@pytest.mark.parametrize(
    ("key", "message"),
    [
        (1000, "There is no row 1000: the table has 20, from 0"),
        (-21, "There is no row -21"),
        ([0, 1000], "There is no row 1000: the table has 20, from 0"),
        ([True, False, True], r"A mask of shape \(3,\) cannot choose among 20 rows"),
        ("a", "Rows are chosen by an integer, a slice, a list of integers or a mask, got 'a'"),
        ([0.5], r"a list of integers or a mask, got \[0.5\]"),
        (None, "Rows are chosen by an integer"),
    ],
)
def test_rows_that_there_are_not_are_named(lazy, key, message):
    X, _ = make_path_probabilities(20)
    table = MultiPathClassifierBank(TableNetwork(X)).transform(np.arange(20)[:, None])
    raises(lambda: (table if lazy else X)[key], message, IndexError)


def test_a_table_that_cannot_be_written_is_refused_before_it_runs(tmp_path, monkeypatch):
    X, _ = make_path_probabilities(20)
    bank = MultiPathClassifierBank(TableNetwork(X))
    lazy = bank.transform(np.arange(20)[:, None])
    monkeypatch.setattr(TableNetwork, "run_block", None)
    nowhere = tmp_path / "no" / "a.npz"
    raises(lambda: lazy.save(nowhere), "does not exist: make it first", FileNotFoundError)
    raises(lambda: lazy.materialize(out=nowhere), "does not exist", FileNotFoundError)
    raises(lambda: lazy.save(tmp_path), "is a folder: give a file's name", IsADirectoryError)
    raises(lambda: lazy.save(3), "file must be a path", TypeError)
    raises(lambda: lazy.save(tmp_path / "a.npz", dtype=int), "float16, float32 or float64")
    raises(lambda: skquee.dump(bank, 3), "file must be a path", TypeError)


def test_rows_are_chosen_as_numpy_does():
    X, _ = make_path_probabilities(20)
    values = np.asarray(X)
    for key in ([], [3, -1], np.array([2, 2]), np.arange(20) > 10, slice(3, 5), X.paths.roots):
        assert np.array_equal(np.asarray(X[key]), values[key])
    assert np.array_equal(X[-1], values[-1])
    assert np.array_equal(X[2, 1], values[2, 1])
    assert len(list(X)) == 20  # by IndexError at the end


@pytest.mark.parametrize("size", [0, -1, 1.5, "a"])
def test_chunks_hold_a_row_at_least(size):
    X, _ = make_path_probabilities(20)
    raises(lambda: list(X.chunks(size)), "size must be an integer >= 1, got")


def test_workers_see_what_was_changed_in_a_copy_on_write_map(tmp_path):
    X, y = make_path_probabilities(60)
    np.save(tmp_path / "values.npy", np.full(X.shape, 0.25))
    mapped = np.load(tmp_path / "values.npy", mmap_mode="c")
    mapped[:] = np.asarray(X)
    table = PathProbabilities(mapped, X.paths)
    for part in (table, table[:40], table[[3, 1]], PathProbabilities(mapped[:], X.paths)):
        again = pickle.loads(pickle.dumps(part))
        assert np.array_equal(np.asarray(again), np.asarray(part))
        values = part.__reduce__()[1][0]
        assert not isinstance(values, np.memmap) and not isinstance(values.base, np.memmap)
    targets = ClusteredErrorTargets(3, n_init=1, random_state=0)
    alone = targets.fit(table, y).transform(table)
    assert np.ptp(alone) > 0
    assert np.array_equal(targets.set_params(n_jobs=2).fit(table, y).transform(table), alone)
    read = PathProbabilities(np.load(tmp_path / "values.npy", mmap_mode="r"), X.paths)
    assert isinstance(read.__reduce__()[1][0], np.memmap), "what cannot change goes by its file"


# ---------------------------------------------------------------------- pictures, made tables


@refused(
    [
        (lambda: make_path_probabilities(-1), "n_samples must be an integer >= 1, got -1"),
        (lambda: make_path_probabilities(2.5), "n_samples must be an integer >= 1, got 2.5"),
        (lambda: make_path_probabilities(9, n_classes=1), "n_classes must be an integer >= 2"),
        (
            lambda: PathUsageDisplay.from_predictions([0, None], [0, 1], tree=CHAIN),
            "y_true must hold a label for each row, but row 1 has None",
        ),
        (
            lambda: PathUsageDisplay.from_predictions([0, 1], [0.5, 1], tree=CHAIN),
            "paths must be indices, as of predict_path, got float64",
        ),
        (
            lambda: PathUsageDisplay.from_predictions(
                [0, 1], [0, 1], tree=CHAIN, sample_weight=[1, -1]
            ),
            "sample_weight must be finite and not negative",
        ),
    ]
)
def test_displays_and_made_tables(call, message):
    raises(call, message)


@refused(
    [
        (lambda: make_path_probabilities(9, "chain"), "paths must be a PathTree or None, got str"),
        (lambda: CostCurveDisplay.from_predictions([]), "at least one, .* got none"),
        (lambda: CostCurveDisplay.from_predictions(None), "curves must hold CostCurves"),
        (lambda: CostCurveDisplay.from_predictions(curve(), fixed=3), "fixed and oracle be one"),
        (
            lambda: CostCurveDisplay.from_estimator(LogisticRegression(), [[1]], [1]),
            "LogisticRegression has no route and cost_curve: give a fitted router",
        ),
        (
            lambda: PathUsageDisplay.from_estimator(LogisticRegression(), [[1]], [1]),
            "LogisticRegression has no route and cost_curve: give a fitted router",
        ),
        (
            lambda: PathUsageDisplay.from_predictions([0], [0], tree="chain"),
            "tree must be a PathTree, router.paths_, got str",
        ),
    ]
)
def test_what_is_of_another_kind(call, message):
    raises(call, message, TypeError)


# ---------------------------------------------------------------------- baselines


def test_a_chain_of_many_steps_is_swept_as_it_is_predicted():
    deep = PathTree.chain(np.ones(140))
    X, y = make_path_probabilities(20, deep)
    router = ThresholdRouter().fit(X, y)
    knobs = [0.5, 0.9, 1.1]
    swept = router.cost_curve(knobs, X, y).paths
    assert swept.max() == 139
    for knob, line in zip(knobs, swept, strict=True):
        assert np.array_equal(router.set_params(threshold=knob).predict_path(X), line)


def test_paths_of_a_network_may_share_a_column():
    X, y = make_path_probabilities(12, PathTree.cascade([1, 4], names=["small", "large"]))
    lazy = MultiPathClassifierBank(TableNetwork(X)).transform(np.arange(12)[:, None])
    assert np.allclose(np.asarray(lazy), np.asarray(X))
    oracle = OracleRouter().fit(X, y)
    assert np.array_equal(oracle.predict_path(lazy, y), oracle.predict_path(X, y))


# ---------------------------------------------------------------------- evaluation


def curve(knobs=(0.0,), paths=((0, 1),), correct=((True, False),), **options):
    return CostCurve(knobs, paths, correct, CHAIN, **options)


@refused(
    [
        (lambda: curve(paths=[[0.7, 0]]), "paths must hold indices of paths, got float64"),
        (lambda: curve(paths=[["a", "b"]]), "paths must hold indices of paths"),
        (lambda: curve(paths=[[0, 2]]), "paths must be indices from 0 to 1"),
        (lambda: curve(correct=[[7, 0]]), "correct must hold True or False"),
        (lambda: curve(correct=[[np.nan, 0]]), "correct must hold True or False"),
        (lambda: curve(knobs=[np.nan]), "knobs must hold numbers, but entry 0 is nan"),
        (lambda: curve(knobs=["a"]), "knobs must hold numbers, got"),
        (lambda: curve(sample_weight=[1, -1]), "sample_weight must hold 2 numbers >= 0"),
        (lambda: curve().area((1, 0)), "cost_range must rise"),
        (lambda: curve().area("ab"), "cost_range must hold finite numbers"),
        (lambda: curve().accuracy_at("a"), "cost must hold numbers"),
        (lambda: curve().cost_at(np.nan), "accuracy must hold numbers"),
        (lambda: hull_points([], []), r"cost must have shape \(n,\), one a point, not empty"),
        (lambda: hull_points([1.0, np.nan], [0.5, 0.6]), "cost must hold .* entry 1 is nan"),
        (lambda: hull_points([1.0, 2.0], [0.5]), r"accuracy must have shape \(2,\)"),
        (lambda: hull_points(["a"], [0.5]), "cost must hold finite numbers"),
        (lambda: price_scorer(True), "price must be a finite number >= 0, got True"),
        (lambda: budget_scorer("a"), "max_cost must be a finite number >= 0, got 'a'"),
        (lambda: area_scorer("a"), "lambdas must hold numbers"),
        (lambda: area_scorer([]), "lambdas must have shape"),
        (lambda: area_scorer([np.nan]), "lambdas must hold numbers, but entry 0 is nan"),
    ]
)
def test_curves_hulls_and_scorers(call, message):
    raises(call, message)


def test_whole_numbers_of_any_type_are_paths_and_answers():
    found = curve(knobs=[np.inf], paths=[[0.0, 1.0]], correct=[[1, 0]])
    assert found.paths.dtype == np.int32 and found.correct.dtype == bool


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: [p[:, 0], p[:, 1]], r"second axis: np\.stack\(arrays, axis=1\)"),
        (lambda p: p[:, 0], r"shape \(20, 3\): np\.stack\(\[small, large\], axis=1\) makes one"),
        (lambda p: p * 1.2, r"sum to 1\.2\. Divide each vector by its sum"),
        (lambda p: p * 100, "per cent: divide by 100"),
        (lambda p: p * 7, "sum to 7. These look like logits"),
        (lambda p: p - 0.5, "look like logits: apply a softmax"),
        (lambda p: p * np.nan, "contains NaN for row 0, path '1': leave such rows out"),
    ],
)
def test_what_a_newcomer_gives_for_a_table_is_answered_with_what_to_do(change, message):
    probs = np.full((20, 2, 3), 1 / 3)
    router = CostAwareRouter(paths=PathTree.chain([1, 5]))
    with pytest.raises(ValueError, match=message):
        router.fit(change(probs), np.arange(20) % 3)


def test_labels_of_a_column_a_class_are_told_how_they_become_one():
    with pytest.raises(ValueError, match=r"shape \(6, 3\) instead: .*y\.argmax\(axis=1\) makes"):
        CostAwareRouter(paths=CHAIN).fit(np.full((6, 2, 3), 1 / 3), np.eye(3)[np.arange(6) % 3])


def test_models_without_names_are_told_how_they_get_some():
    models = [LogisticRegression(), LogisticRegression()]
    for given, message in ((models, r"Give each a name, \[\("), ({"a": 1}, r"list\(models\.item")):
        for costs in ([1, 2], "latency"):
            with pytest.raises(ValueError, match=message):
                MultiPathClassifierBank(given, step_costs=costs).fit([[0.0], [1.0]], [0, 1])


# ---------------------------------------------------------------------- routers


@refused(
    [
        (lambda: fit(paths=3), "paths must be a PathTree or None, got 3"),
        (lambda: fit().set_params(paths=3).predict(SMALL[0]), "paths=3 was set after fit"),
        (lambda: fit(policy=OptionValue), r"must be an instance.*: write OptionValue\(\)"),
        (lambda: fit().predict("a"), "X must hold probabilities, numbers: could not convert"),
        (lambda: Knob(1), "name must be that of a parameter, got 1"),
        (
            lambda: Knob("cost", "up"),
            r"order must be one of \['falls', 'rises'\] or None, got 'up'",
        ),
        (lambda: Knob("cost", kind=str), "kind must be float or int, got <class 'str'>"),
    ]
)
def test_what_a_router_cannot_use_is_refused(call, message):
    raises(call, message)


SMALL = make_path_probabilities(60, CHAIN)


def fit(**params):
    return CostAwareRouter(0.1, random_state=0, **params).fit(*SMALL)
