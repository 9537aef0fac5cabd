"""Laws that hold for every table, tree and trade-off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeRegressor

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
)
from skquee.evaluation import price_scorer
from skquee.policy import open_loop
from skquee.testing import TableNetwork, make_path_probabilities
from skquee.walk import Routes

N = 150
TREES = [
    PathTree.from_levels(3, (4, 8)),
    PathTree.from_levels(3, (4, 8), first="free", monotone=False),
    PathTree.chain([1, 2, 4]),
    PathTree.cascade([1, 3, 9]),
]


def fit(tree: PathTree) -> tuple[CostAwareRouter, PathProbabilities]:
    table, y = make_path_probabilities(N, tree)
    table = PathProbabilities(np.asarray(table).astype(np.float32), tree)
    router = CostAwareRouter(
        targets=ClusteredErrorTargets(n_clusters=5, n_init=1),
        regressor=PathErrorRegressor(schedule="constant", max_epochs=10, batch_size=64),
        random_state=0,
    )
    return router.fit(table, y), table


FITTED = [fit(tree) for tree in TREES]
routers = st.sampled_from(FITTED)
prices = st.one_of(st.just(0.0), st.floats(1e-3, 5.0))
law = settings(max_examples=25, deadline=None)


def route(router: CostAwareRouter, table: Any, lambda_: float, costs: Any = None) -> Routes:
    return router.set_params(lambda_=lambda_, path_costs=costs).route(table)


class Chunked(PathProbabilities):
    """A stored table that is read in chunks of a size of our choosing."""

    size = 7

    @property
    def chunk_size(self) -> int:
        return self.size

    def with_paths(self, paths: PathTree) -> Chunked:
        other = Chunked(self._base, paths)
        other.size = self.size
        return other


@law
@given(routers, prices, st.sampled_from([0.25, 4.0, 1024.0]))
def test_costs_times_k_with_price_over_k_give_the_same_routes(
    fitted: Any, lambda_: float, k: float
) -> None:
    router, table = fitted
    whole = route(router, table, lambda_)
    scaled = route(router, table, lambda_ / k, table.paths.path_costs * k)
    assert np.array_equal(scaled.paths, whole.paths)
    assert np.allclose(scaled.costs, whole.costs * k)


@law
@given(routers, prices, st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(fitted: Any, lambda_: float, seed: int) -> None:
    router, table = fitted
    order = np.random.default_rng(seed).permutation(N)
    whole, moved = route(router, table, lambda_), route(router, table[order], lambda_)
    assert np.array_equal(moved.paths, whole.paths[order])
    assert np.array_equal(moved.labels, whole.labels[order])


@law
@given(routers, prices, st.integers(1, N))
def test_the_size_of_chunks_does_not_matter(fitted: Any, lambda_: float, size: int) -> None:
    router, table = fitted
    chunked = Chunked(np.asarray(table), table.paths)
    chunked.size = size
    whole, parts = route(router, table, lambda_), route(router, chunked, lambda_)
    assert np.array_equal(parts.paths, whole.paths)
    assert np.allclose(parts.predicted_errors, whole.predicted_errors, atol=1e-5, equal_nan=True)


@law
@given(routers, prices, st.integers(0, N - 1))
def test_a_row_alone_takes_the_route_it_takes_among_others(
    fitted: Any, lambda_: float, row: int
) -> None:
    router, table = fitted
    whole, single = route(router, table, lambda_), route(router, table[[row]], lambda_)
    assert single.paths[0] == whole.paths[row]
    assert np.array_equal(single.probabilities[0], whole.probabilities[row])


@law
@given(
    st.sampled_from([pair for pair in FITTED if pair[1].paths.n_columns == pair[1].paths.n_paths]),
    prices,
    st.integers(1, 200),
)
def test_a_lazy_table_gives_the_routes_of_the_stored_one(
    fitted: Any, lambda_: float, batch_size: int
) -> None:
    router, table = fitted
    bank = MultiPathClassifierBank(TableNetwork(table), batch_size=batch_size)
    live = route(router, bank.transform(np.arange(N)[:, None]), lambda_)
    read = route(router, table, lambda_)
    assert np.array_equal(live.paths, read.paths)
    assert np.array_equal(live.labels, read.labels)
    assert sum(live.counts.values()) == table.paths.depths[read.paths].sum()


@law
@given(routers, prices)
def test_a_point_of_the_curve_is_what_prediction_does(fitted: Any, lambda_: float) -> None:
    router, table = fitted
    y = np.arange(N) % 4
    curve = router.set_params(path_costs=None).cost_curve([lambda_], table, y)
    routes = route(router, table, lambda_)
    assert np.array_equal(curve.paths[0], routes.paths)
    assert curve.cost[0] == pytest.approx(routes.costs.mean())
    assert curve.accuracy[0] == pytest.approx(np.mean(routes.labels == y))


@law
@given(routers, prices)
def test_a_route_is_one_walk_down_the_tree(fitted: Any, lambda_: float) -> None:
    router, table = fitted
    routes = route(router, table, lambda_)
    assert np.array_equal(routes.visited, table.paths.ancestors[routes.paths])
    assert (routes.gates_visited <= table.paths.n_exits).all()


errors_and_costs = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        arrays(np.float64, (4, k), elements=st.floats(0, 1)),
        arrays(np.float64, k, elements=st.floats(0, 10)),
        st.floats(0, 5),
    )
)


@settings(max_examples=150, deadline=None)
@given(errors_and_costs)
def test_the_policy_takes_the_least_score_and_the_cheapest_of_equals(case: Any) -> None:
    errors, costs, lambda_ = case
    chosen = open_loop(errors, costs, lambda_)
    for row, choice in zip(errors, chosen, strict=True):
        scores = row + lambda_ * costs
        assert scores[choice] <= scores.min() + 2e-6
        equals = np.flatnonzero(scores <= scores.min())
        assert costs[choice] <= costs[equals].min() + 1e-12


def test_equal_errors_go_to_the_cheapest_path_wherever_it_stands() -> None:
    assert open_loop([[0.2, 0.2, 0.2]], [3.0, 1.0, 2.0], 0.0).tolist() == [1]
    assert open_loop([[0.1, 0.2, 0.3]], [3.0, 2.0, 1.0], 0.1).tolist() == [2]
    assert open_loop([[0.1, 0.2 - 1e-9, 0.3]], [3.0, 2.0, 1.0], 0.1).tolist() == [2]
    assert open_loop([[0.1, 0.19, 0.3]], [3.0, 2.0, 1.0], 0.1).tolist() == [1]


@pytest.mark.parametrize("price", [0.1, 0.3])
def test_a_search_at_a_fixed_price_picks_a_trade_off_near_it(price: float) -> None:
    rng = np.random.default_rng(0)
    n = 6000
    sure = rng.choice(np.linspace(0.5, 0.999, 40), size=n)
    y = np.arange(n) % 2
    first = np.where(rng.random(n) < sure, y, 1 - y)
    values = np.zeros((n, 2, 2))
    values[np.arange(n), 0, first] = sure
    values[np.arange(n), 0, 1 - first] = 1 - sure
    values[np.arange(n), 1, y] = 1
    table = PathProbabilities(values, PathTree.from_paths([(1,), (1, 1)], [1, 2]))
    router = CostAwareRouter(
        targets=ClusteredErrorTargets(40, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=100)),
        random_state=0,
    )
    grid = {"lambda_": [0.0, 0.03, 0.1, 0.3, 0.45, 1.0]}
    search = GridSearchCV(router, grid, scoring=price_scorer(price), cv=2, error_score="raise")
    search.fit(table, y)
    assert search.best_params_["lambda_"] == price
    # The router's own score moves with lambda_, and so picks the least one.
    own = GridSearchCV(router, {"lambda_": [0.0, 0.3]}, cv=2).fit(table, y)
    assert own.best_params_["lambda_"] == 0.0
