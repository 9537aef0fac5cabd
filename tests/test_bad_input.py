"""What cannot be used is refused before any work: received, expected, what to do."""

from __future__ import annotations

import numpy as np
import pytest

from skquee import PathTree
from skquee.evaluation import (
    CostCurve,
    area_scorer,
    budget_scorer,
    hull_points,
    price_scorer,
)

CHAIN = PathTree.chain([1, 1])


def refused(calls):
    """Parametrise a test by (call, message)."""
    names = [f"{place}-{message[:40]}" for place, (_, message) in enumerate(calls)]
    return pytest.mark.parametrize(("call", "message"), calls, ids=names)


def raises(call, message, error=ValueError):
    with pytest.raises(error, match=message):
        call()


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
