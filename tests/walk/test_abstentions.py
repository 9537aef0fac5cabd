"""A flat vector says nothing: the exit before answers, whoever asks and in whatever way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.testing import TableNetwork, make_path_probabilities
from skquee.values._checks import is_flat
from skquee.values._labels import path_answers
from skquee.walk import stream

N = 80
TREES = [PathTree.from_levels(3, (4, 8)), PathTree.chain([1, 2, 4]), PathTree.cascade([1, 3, 9])]
ERRORS: dict[str, Any] = {"targets": "bernoulli", "regressor": "logistic", "random_state": 0}
ROUTERS = [
    ThresholdRouter(0.8),
    FixedPath(),
    CostAwareRouter(0.05, **ERRORS),
    CostAwareRouter(0.05, **ERRORS, answer="recall"),
    CostAwareRouter(0.05, **ERRORS, answer="ensemble"),
]


def silenced(seed: int, tree: PathTree, share: float, n_classes: int) -> tuple[Any, Any, Any]:
    """Return a table, float32 and so the same lazy and stored, with abstentions in it."""
    table, y = make_path_probabilities(N, tree, n_classes, random_state=seed)
    values = np.asarray(table).astype(np.float32)
    values[np.random.default_rng(seed).random(values.shape[:2]) < share] = 1 / n_classes
    return PathProbabilities(values, tree), y, values


def said(values: Any, tree: PathTree, row: int, path: int) -> int:
    """Say it literally: the last exit on the way that does not give all classes alike."""
    line = [values[row, tree.path_columns[p]] for p in tree.prefixes(path)]
    spoken = [p for p in line if p.max() != p.min()]
    return int((spoken or line)[-1].argmax())


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 9999),
    tree=st.sampled_from(TREES),
    router=st.sampled_from(ROUTERS),
    share=st.sampled_from([0.02, 0.3, 0.9]),
    n_classes=st.integers(2, 5),
)
def test_stored_lazy_curve_and_single_rows_agree_on_abstentions(
    seed: int, tree: PathTree, router: Any, share: float, n_classes: int
) -> None:
    table, y, values = silenced(seed, tree, share, n_classes)
    router.fit(table, y)
    routes, server = router.route(table), router.freeze()
    if getattr(router, "answer", None) is None:
        literal = [said(values, tree, row, path) for row, path in enumerate(routes.paths)]
        assert routes.labels.tolist() == literal
    answers = router.path_answers(table)
    assert (routes.labels == answers[np.arange(N), routes.paths]).all()
    for row in range(0, N, 9):
        one = table[row : row + 1]
        assert server.predict(one).tolist() == [routes.labels[row]]
        assert server.predict_path(one).tolist() == [routes.paths[row]]
        np.testing.assert_allclose(
            server.predict_proba(one)[0], routes.probabilities[row], rtol=1e-5, atol=1e-7
        )
    if not isinstance(router, FixedPath):
        curve = router.cost_curve([getattr(router, router.knob.name)], table, y)
        assert curve.accuracy[0] == pytest.approx(np.mean(routes.labels == y))
    if tree.n_columns == tree.n_paths:
        lazy = MultiPathClassifierBank(TableNetwork(table), batch_size=32)
        X = np.arange(N)[:, None]
        assert (router.predict(lazy.transform(X)) == routes.labels).all()
        found = list(stream(router, lazy, X.reshape(8, 10, 1), group_size=16))
        assert (np.concatenate([part.labels for part in found]) == routes.labels).all()


@pytest.mark.parametrize("tree", TREES)
def test_every_path_answers_as_said_literally(tree: PathTree) -> None:
    table, y, values = silenced(3, tree, 0.5, 3)
    literal = [[said(values, tree, row, p) for p in range(tree.n_paths)] for row in range(N)]
    assert path_answers(table).tolist() == literal
    routes = OracleRouter().fit(table, y).route(table, y)
    assert (routes.labels == np.array(literal)[np.arange(N), routes.paths]).all()


def test_only_vectors_alike_in_every_class_are_flat() -> None:
    values = np.array([[0.25] * 4, [0.25, 0.3, 0.2, 0.25], [0.4, 0.2, 0.2, 0.2], [np.nan] * 4])
    assert is_flat(values).tolist() == [True, False, False, False]
    assert is_flat(values.reshape(2, 2, 4)).tolist() == [[True, False], [False, False]]
