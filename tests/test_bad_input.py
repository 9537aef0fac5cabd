"""What cannot be used is refused before any work: received, expected, what to do."""

from __future__ import annotations

import numpy as np
import pytest

from skquee import MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.baselines import OracleRouter, ThresholdRouter
from skquee.evaluation import (
    CostCurve,
    area_scorer,
    budget_scorer,
    hull_points,
    price_scorer,
)
from skquee.testing import TableNetwork, make_path_probabilities

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
