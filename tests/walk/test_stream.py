"""Streams: the same answers as batch by batch, fuller groups, bounded waiting, no batch lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skquee import (
    AutoRouter,
    BudgetRouter,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    RiskControlledRouter,
    RoutedClassifier,
    TunedCostAwareRouterCV,
)
from skquee.baselines import JEIDNN, DQNetGate, PatienceRouter, ThresholdRouter
from skquee.testing import TableNetwork, make_path_probabilities
from skquee.walk import StreamError, stream

TABLE, Y = make_path_probabilities(400)
EXACT = PathProbabilities(np.asarray(TABLE).astype(np.float32), TABLE.paths)
REGRESSOR = PathErrorRegressor(schedule="constant", max_epochs=20, batch_size=32)
ROUTERS = [
    CostAwareRouter(0.3, regressor=REGRESSOR, random_state=0).fit(EXACT, Y),
    ThresholdRouter(0.7).fit(EXACT, Y),
    PatienceRouter().fit(EXACT, Y),
    JEIDNN(lambda_=0.2, max_epochs=2, random_state=0).fit(EXACT, Y),
    DQNetGate(target_bits=5, max_epochs=2, random_state=0).fit(EXACT, Y),
    CostAwareRouter(
        0.3,
        targets="bernoulli",
        regressor="logistic",
        features="rich",
        answer="recall",
        random_state=0,
    ).fit(EXACT, Y),
]
ROUTERS += [
    TunedCostAwareRouterCV(ROUTERS[-1], max_cost=0.8, cv="prefit").fit(EXACT, Y),
    RiskControlledRouter(ROUTERS[-1], max_error_increase=0.2, random_state=0).fit(EXACT, Y),
    BudgetRouter(ROUTERS[0], 0.7, random_state=0).fit(EXACT),
    AutoRouter(0.3, candidates={"threshold": ThresholdRouter()}, random_state=0).fit(EXACT, Y),
]


class Counting(TableNetwork):
    """Notes how many rows each block run had."""

    def __init__(self, table: PathProbabilities) -> None:
        super().__init__(table)
        self.groups: list[tuple[int, int]] = []

    def run_block(self, state: Any, block: int, level: Any) -> Any:
        self.groups.append((block, len(state)))
        return super().run_block(state, block, level)


def split(sizes: list[int]) -> list[np.ndarray]:
    rows = np.arange(400)[:, None]
    return [part for part in np.split(rows, np.cumsum(sizes)[:-1]) if len(part)]


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: type(router).__name__)
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    group_size=st.integers(1, 80),
    max_waiting=st.integers(1, 200),
)
def test_a_stream_answers_as_batch_by_batch_and_in_order(
    router: Any, sizes: list[int], group_size: int, max_waiting: int
) -> None:
    bank = MultiPathClassifierBank(TableNetwork(EXACT))
    starts = np.cumsum([0, *sizes])
    batches = [np.arange(a, b)[:, None] for a, b in zip(starts, starts[1:], strict=False)]
    options = {"group_size": group_size, "max_waiting": max_waiting}
    found = list(router.stream(bank, iter(batches), **options))
    assert len(found) == len(batches)
    for routes, batch in zip(found, batches, strict=True):
        expected = router.route(bank.transform(batch))
        np.testing.assert_array_equal(routes.paths, expected.paths)
        np.testing.assert_array_equal(routes.labels, expected.labels)
        np.testing.assert_array_equal(routes.visited, expected.visited)
        np.testing.assert_array_equal(routes.probabilities, expected.probabilities)
        np.testing.assert_allclose(routes.predicted_errors, expected.predicted_errors, rtol=1e-5)


def test_deep_blocks_run_full_groups_of_several_batches() -> None:
    network = Counting(EXACT)
    bank = MultiPathClassifierBank(network)
    router = ThresholdRouter(0.7).fit(EXACT, Y)
    batches = split([20] * 20)
    for batch in batches:
        router.route(bank.transform(batch))
    alone = [n for block, n in network.groups if block]
    network.groups.clear()
    list(router.stream(bank, batches, group_size=32))
    pooled = [n for block, n in network.groups if block]
    assert sum(pooled) == sum(alone), "the same rows go on"
    assert len(pooled) < len(alone) / 2
    full = [n for n in pooled if n >= 32]
    assert len(full) >= len(pooled) - 4, "all but what is left at the end"


def test_few_rows_wait_and_results_do_not_lag_far() -> None:
    bank = MultiPathClassifierBank(TableNetwork(EXACT))
    router = ThresholdRouter(0.7).fit(EXACT, Y)
    taken = 0

    def batches() -> Any:
        nonlocal taken
        for batch in split([10] * 40):
            taken += 1
            yield batch

    lags = [
        taken - number
        for number, _ in enumerate(router.stream(bank, batches(), group_size=64, max_waiting=50))
    ]
    assert max(lags) <= 50 / 10 + 2 + 64 / 10


class Failing(TableNetwork):
    """A network whose second block cannot bear row 25."""

    def run_block(self, state: Any, block: int, level: Any) -> Any:
        if block == 1 and (np.asarray(state) == 25).any():
            raise MemoryError("row 25")
        return super().run_block(state, block, level)


def test_an_exception_in_one_batch_loses_no_other() -> None:
    router = ThresholdRouter(1.1).fit(EXACT, Y)  # all rows go on to the end
    bank = MultiPathClassifierBank(Failing(EXACT))
    batches: list[Any] = [*split([20] * 5)[:5]]
    batches.insert(3, object())  # not even a batch
    found = list(router.stream(bank, batches, group_size=30))
    kinds = [type(entry).__name__ for entry in found]
    assert kinds == ["Routes", "StreamError", "Routes", "StreamError", "Routes", "Routes"]
    failed = found[1]
    assert isinstance(failed, StreamError) and failed.batch == 1 and "row 25" in str(failed.error)
    good = MultiPathClassifierBank(TableNetwork(EXACT))
    for number in (0, 2, 4, 5):
        expected = router.predict_path(good.transform(batches[number]))
        np.testing.assert_array_equal(found[number].paths, expected)


def test_labels_of_a_loader_are_left_aside() -> None:
    bank = MultiPathClassifierBank(TableNetwork(EXACT))
    router = ThresholdRouter(0.7).fit(EXACT, Y)
    pairs = [(batch, Y[batch[:, 0]]) for batch in split([40] * 3)]
    found = list(router.stream(bank, pairs))
    expected = router.predict(EXACT[:80])
    np.testing.assert_array_equal(np.concatenate([r.labels for r in found])[:80], expected)
    assert list(router.stream(bank, [])) == []


def test_what_ends_in_a_bank_streams_as_the_bank_does() -> None:
    rows = np.arange(200)[:, None].reshape(10, 20, 1)
    bank = MultiPathClassifierBank(TableNetwork(EXACT))
    router = ThresholdRouter(0.7).fit(EXACT, Y)
    whole = Pipeline([("shift", FunctionTransformer(lambda X: X - 5)), ("bank", bank)])
    found = list(router.stream(whole.fit(rows[0], Y[:20]), rows + 5))
    assert np.array_equal(
        np.concatenate([r.paths for r in found]), router.predict_path(EXACT[:200])
    )


def test_a_routed_classifier_streams_with_its_own_bank() -> None:
    X = np.arange(400)[:, None]
    model = RoutedClassifier(MultiPathClassifierBank(TableNetwork(EXACT)), ThresholdRouter(0.7))
    batches = X[:200].reshape(10, 20, 1)
    found = list(model.fit(X, Y).stream(iter(batches), group_size=32))
    assert np.array_equal(np.concatenate([r.labels for r in found]), model.predict(X[:200]))
    with pytest.raises(NotFittedError):
        RoutedClassifier().stream([])


def test_bad_input_is_refused_before_anything_runs() -> None:
    bank = MultiPathClassifierBank(TableNetwork(EXACT))
    router = ThresholdRouter(0.7).fit(EXACT, Y)
    with pytest.raises(ValueError, match="group_size must be an integer >= 1"):
        router.stream(bank, [], group_size=0)
    with pytest.raises(ValueError, match="max_waiting must be an integer >= 1"):
        stream(router, bank, [], max_waiting=0)
    with pytest.raises(NotFittedError):
        ThresholdRouter().stream(bank, [])
    lone = MultiPathClassifierBank([("one", DummyClassifier())]).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(TypeError, match="its bank must be a network's"):
        next(router.stream(lone, [np.zeros((2, 1))]))
