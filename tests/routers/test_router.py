"""The router: equations 9 and 18 walked one sample at a time, and what fit promises."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
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
from skquee.persistence import dump, load
from skquee.policy import open_loop
from skquee.testing import make_path_probabilities

TREES = {
    "levels": PathTree.from_levels(3, (4, 8)),
    "free": PathTree.from_levels(3, (4, 8), first="free"),
    "chain": PathTree.chain([1, 2, 4]),
    "cascade": PathTree.cascade([1, 3, 9]),
}
TABLE, Y = make_path_probabilities(200)
NAMES = np.array(["ant", "bee", "cat", "dog"])


def quick(**changes: Any) -> CostAwareRouter:
    return CostAwareRouter(
        0.3,
        targets=ClusteredErrorTargets(n_clusters=5, n_init=1),
        regressor=PathErrorRegressor(schedule="constant", max_epochs=12, batch_size=64),
        random_state=0,
    ).set_params(**changes)


@pytest.fixture(scope="module")
def fitted() -> CostAwareRouter:
    return quick().fit(TABLE, Y)


def literal_walk(
    router: CostAwareRouter, table: PathProbabilities, row: int, judged: dict[int, Any]
) -> tuple[list[int], list[float]]:
    """Equations 9 and 18 for one sample: plan, take one step, plan again."""
    tree, lambda_ = router.paths_, router.lambda_

    def plan(candidates: list[int], errors: dict[int, float]) -> int:
        scores = {p: lambda_ * tree.costs[p] + float(errors[p]) for p in candidates}
        least = min(scores.values())
        # Scores within a rounding error are equal; equal scores go to the cheapest.
        return min(
            (p for p in candidates if scores[p] <= least + 1e-6), key=lambda p: tree.costs[p]
        )

    seen: list[float] = []
    visited: list[int] = []
    if len(tree.roots) == 1:
        here = int(tree.roots[0])
        seen.append(np.nan)
    else:
        base = dict(enumerate(router.regressor_.base_errors_))
        aim = plan(list(range(tree.n_paths)), base)
        here = int(tree.prefixes(aim)[0])
        seen.append(base[aim])
    while True:
        visited.append(here)
        if tree.is_leaf(here):
            return visited, seen
        errors = dict(enumerate(judged[here][row]))
        aim = plan([int(p) for p in tree.descendants(here)], errors)
        seen.append(errors[aim])
        if aim == here:
            return visited, seen
        here = int(tree.prefixes(aim)[len(visited)])


@pytest.mark.parametrize("name", TREES)
def test_routes_are_equations_9_and_18(name: str) -> None:
    table, y = make_path_probabilities(160, TREES[name])
    new = make_path_probabilities(40, TREES[name], random_state=3)[0]
    router = quick().fit(table, y)
    tree = router.paths_
    judged = {
        p: router.regressor_.predict(new, p) for p in range(tree.n_paths) if not tree.is_leaf(p)
    }
    taken = set()
    for lambda_ in (0.0, 0.05, 0.2, 0.6, 1e6):
        routes = router.set_params(lambda_=lambda_).route(new)
        for row in range(40):
            visited, seen = literal_walk(router, new, row, judged)
            path = visited[-1]
            answer = new.path(path)[row]
            assert routes.visited[row, : len(visited)].tolist() == visited
            assert (routes.visited[row, len(visited) :] == -1).all()
            assert routes.paths[row] == path
            assert routes.costs[row] == tree.costs[path]
            assert routes.labels[row] == answer.argmax()
            assert np.allclose(routes.probabilities[row], answer)
            assert np.allclose(
                routes.predicted_errors[row, : len(seen)], seen, atol=1e-5, equal_nan=True
            )
            assert np.isnan(routes.predicted_errors[row, len(seen) :]).all()
        taken |= set(routes.paths.tolist())
    assert len(taken) >= 3


def test_a_huge_price_exits_first_and_no_price_takes_the_least_predicted_error(
    fitted: CostAwareRouter,
) -> None:
    assert (fitted.set_params(lambda_=1e9).predict_path(TABLE) == TABLE.paths.index("8")).all()
    free = fitted.set_params(lambda_=0.0).route(TABLE)
    at_first = fitted.regressor_.predict(TABLE, "8")
    assert np.allclose(free.predicted_errors[:, 1], at_first.min(axis=1), atol=2e-6)
    fitted.set_params(lambda_=0.3)
    # Any first model may be the only one: the cheapest, not the first of the list, is it.
    table, y = make_path_probabilities(160, PathTree.cascade([5, 1, 9]))
    router = quick(lambda_=1e9).fit(table, y)
    assert set(router.predict_path(table)) == {table.paths.index("2")}


def test_mean_cost_falls_as_the_price_rises() -> None:
    curve = quick().fit(TABLE, Y).cost_curve(None, TABLE, Y)
    assert curve.cost[0] > 0.6
    assert curve.cost[-1] == pytest.approx(TABLE.paths.costs[0])
    assert (np.diff(curve.cost) < 0.03).all()


def test_a_path_that_is_not_reachable_is_never_chosen() -> None:
    # Every gate aims at "4-8", which no sample that started at level 8 can reach.
    tree = PathTree.from_levels(2, (4, 8), first="free", monotone=False)
    table, y = make_path_probabilities(120, tree)
    target = tree.index("4-8")

    def stubborn(errors: Any, costs: Any, lambda_: float) -> Any:
        found = np.flatnonzero(np.isclose(costs, tree.costs[target]))
        at = found[0] if found.size and len(costs) == tree.n_paths else 0
        return np.full(len(errors), at)

    router = quick(policy=stubborn).fit(table, y)
    chosen = int(np.flatnonzero(np.isclose(tree.path_costs, tree.costs[target]))[0])
    first = tree.prefixes(chosen)[0]
    assert set(router.predict_path(table)) == {first}
    open_router = quick(lambda_=0.05).fit(table, y)
    routes = open_router.route(table)
    start = routes.visited[0, 0]
    assert (routes.visited[:, 0] == start).all()
    assert set(routes.paths) <= set(tree.descendants(int(start)))


def test_unlabeled_rows_train_the_gates_and_labelled_ones_the_clusters() -> None:
    other = make_path_probabilities(150, random_state=9)[0]
    router = quick(validation_fraction=0.0).fit(TABLE, Y, unlabeled=other)
    assert np.allclose(
        router.regressor_.base_errors_, router.targets_.transform(other).mean(axis=0)
    )
    assert sum(router.targets_.cluster_size_[0]) == 200
    plain = quick(validation_fraction=0.0).fit(TABLE, Y)
    assert not np.allclose(router.regressor_.base_errors_, plain.regressor_.base_errors_)
    bare = quick(validation_fraction=0.0).fit(TABLE, Y, unlabeled=np.asarray(other))
    assert np.array_equal(bare.predict_path(TABLE), router.predict_path(TABLE))
    for wrong, message in (
        (np.asarray(other)[:, :3], "3 paths, but the tree has 6"),
        (np.asarray(other)[:, :, :3], "3 classes"),
        (np.asarray(other) * 9, "softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            quick().fit(TABLE, Y, unlabeled=wrong)


def test_rows_held_out_take_no_part_and_the_curve_names_them() -> None:
    class Noting(ClusteredErrorTargets):
        seen: list[Any] = []

        def fit(self, probs: Any, y: Any, sample_weight: Any = None) -> Any:
            Noting.seen.append(np.asarray(probs)[:, 0, 0])
            return super().fit(probs, y, sample_weight)

    router = quick(targets=Noting(5, n_init=1), validation_fraction=0.25).fit(TABLE, Y)
    curve = router.cost_curve([0.1, 1.0])
    assert "50 rows held out in fit" in repr(curve)
    assert curve.source == "50 rows held out in fit"
    assert curve.paths.shape == (2, 50)
    everything = np.asarray(TABLE)[:, 0, 0]
    held = np.flatnonzero(~np.isin(everything, np.concatenate(Noting.seen)))
    assert len(held) == 50
    assert np.bincount(Y[held]).min() >= 12  # by class
    again = router.cost_curve([0.1, 1.0], TABLE[held], Y[held])
    assert np.array_equal(again.paths, curve.paths)
    assert np.array_equal(again.correct, curve.correct)
    assert again.source == "given rows"
    with pytest.raises(ValueError, match="No rows were held out"):
        quick(validation_fraction=0.0).fit(TABLE, Y).cost_curve([1.0])
    # New costs reach the held-out curve too.
    router.set_params(path_costs=TABLE.paths.path_costs * 10)
    assert np.allclose(router.cost_curve([0.01, 0.1]).cost, curve.cost * 10)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_cross_fitting_gives_every_row_targets_of_other_rows(parts: int) -> None:
    calls: list[int] = []

    class Noting(ClusteredErrorTargets):
        def fit(self, probs: Any, y: Any, sample_weight: Any = None) -> Any:
            calls.append(len(y))
            return super().fit(probs, y, sample_weight)

    quick(targets=Noting(5, n_init=1), cross_fit=parts, validation_fraction=0.1).fit(TABLE, Y)
    expected = [180] if parts == 1 else [180] + [180 - 180 // parts] * parts
    assert calls == expected


def test_lambda_and_costs_need_no_refit(fitted: CostAwareRouter) -> None:
    router = clone(fitted).fit(TABLE, Y)
    gates = router.regressor_
    cheap = router.set_params(lambda_=2.0).predict_cost(TABLE).mean()
    dear = router.set_params(lambda_=0.01).predict_cost(TABLE).mean()
    assert cheap < dear
    milliseconds = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    routes = router.set_params(path_costs=milliseconds).route(TABLE)
    assert np.array_equal(routes.costs, np.array(milliseconds)[routes.paths])
    assert router.paths_.costs == tuple(milliseconds)
    assert router.regressor_ is gates
    # The table's own costs hold where the router has none.
    recosted = TABLE.with_paths(TABLE.paths.with_costs(milliseconds))
    same = router.set_params(path_costs=None).route(recosted)
    assert np.array_equal(same.paths, routes.paths)


def test_parts_left_at_their_default_take_nested_parameters() -> None:
    router = CostAwareRouter().set_params(
        targets__n_clusters=7, regressor__embedding_size=3, lambda_=0.1
    )
    assert router.targets.n_clusters == 7
    assert router.regressor.embedding_size == 3
    search = GridSearchCV(
        quick(targets=None, regressor__max_epochs=2),
        {"targets__n_clusters": [3, 6]},
        cv=2,
        scoring=price_scorer(0.3),
        error_score="raise",
    ).fit(TABLE, Y)
    assert (
        len(search.best_estimator_.targets_.cluster_error_[0])
        == (search.best_params_["targets__n_clusters"])
    )
    with pytest.raises(ValueError, match="Invalid parameter 'colour'"):
        CostAwareRouter().set_params(targets__colour=1)


def test_weights_change_what_is_learned_and_zero_means_absent() -> None:
    kept = np.arange(200) % 4 != 0
    weighted = quick(cross_fit=1, validation_fraction=0.0).fit(TABLE, Y, sample_weight=kept * 1.0)
    errors = (np.asarray(TABLE).argmax(axis=2) != Y[:, None])[kept].mean(axis=0)
    assert np.allclose(weighted.targets_.path_error_, errors)
    subset = quick(cross_fit=1, validation_fraction=0.0).fit(TABLE[kept], Y[kept])
    assert np.array_equal(weighted.predict_path(TABLE), subset.predict_path(TABLE))
    for bad, message in (
        (np.ones(3), "expected .200,."),
        (-np.ones(200), "not negative"),
        (np.zeros(200), "zero"),
    ):
        with pytest.raises(ValueError, match=message):
            quick().fit(TABLE, Y, sample_weight=bad)


class NotingTargets(ClusteredErrorTargets):
    """Notes whether weights arrived."""

    weights: list[Any] = []

    def fit(self, probs: Any, y: Any, sample_weight: Any = None) -> Any:
        NotingTargets.weights.append(sample_weight)
        return super().fit(probs, y, sample_weight)


@pytest.mark.filterwarnings("ignore:The classifiers of this table were fitted")
def test_weights_are_routed_through_pipeline_and_search_to_the_parts_that_ask() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) + np.eye(4)[Y]
    weights = rng.integers(1, 4, 200).astype(float)
    with config_context(enable_metadata_routing=True):
        NotingTargets.weights = []
        router = quick(
            targets=NotingTargets(4, n_init=1).set_fit_request(sample_weight=True),
            regressor=PathErrorRegressor(
                DecisionTreeRegressor(max_depth=3, random_state=0), random_state=0
            ).set_fit_request(sample_weight=False),
        ).set_fit_request(sample_weight=True)
        bank = MultiPathClassifierBank(
            [("nb", GaussianNB()), ("lr", LogisticRegression())], step_costs=[1, 4]
        ).set_fit_request(sample_weight=True)
        search = GridSearchCV(
            make_pipeline(bank, router),
            {"costawarerouter__lambda_": [0.1, 0.6]},
            cv=2,
            scoring=price_scorer(0.3).set_score_request(sample_weight=True),
            error_score="raise",
        ).fit(X, Y, sample_weight=weights)
        assert search.predict(X).shape == (200,)
        assert all(w is not None for w in NotingTargets.weights)
        assert {len(w) for w in NotingTargets.weights} >= {90, 180}  # folds, then all
        assert all(set(w) <= {1.0, 2.0, 3.0} for w in NotingTargets.weights)

        NotingTargets.weights = []
        deaf = quick(targets=NotingTargets(4, n_init=1).set_fit_request(sample_weight=False))
        deaf.regressor.set_fit_request(sample_weight=True)
        deaf.fit(TABLE, Y, sample_weight=weights)
        assert NotingTargets.weights[0] is None
        unasked = quick(targets=NotingTargets(4, n_init=1))
        with pytest.raises(Exception, match="sample_weight.*NotingTargets|not explicitly set"):
            unasked.fit(TABLE, Y, sample_weight=weights)


@pytest.mark.parametrize("name", ["levels", "cascade"])
def test_a_skops_file_brings_the_router_back(tmp_path: Path, name: str) -> None:
    table, y = make_path_probabilities(120, TREES[name].with_classes(NAMES))
    router = quick().fit(table, NAMES[y])
    dump(router, tmp_path / "r.skops")
    again = load(tmp_path / "r.skops")
    assert again.get_params()["lambda_"] == 0.3
    first, second = router.route(table), again.set_params(lambda_=0.3).route(table)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.predicted_errors, second.predicted_errors, equal_nan=True)
    assert np.array_equal(router.cost_curve([0.1]).paths, again.cost_curve([0.1]).paths)
    assert [file.name for file in tmp_path.iterdir()] == ["r.skops"]


class Homemade(BaseEstimator):
    """A type that the loader does not know."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Homemade:
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean_)


def test_a_skops_file_with_unknown_types_is_refused_unless_trusted(tmp_path: Path) -> None:
    from skops.io.exceptions import UntrustedTypesFoundException

    router = quick(regressor=PathErrorRegressor(Homemade())).fit(TABLE, Y)
    dump(router, tmp_path / "r.skops")
    with pytest.raises(UntrustedTypesFoundException, match="Homemade"):
        load(tmp_path / "r.skops")


def test_string_labels_go_in_and_come_out() -> None:
    named = TABLE.with_paths(TABLE.paths.with_classes(NAMES[::-1]))
    router = quick().fit(named, NAMES[::-1][Y])
    plain = quick().fit(TABLE, Y)
    assert list(router.classes_) == list(NAMES[::-1])
    assert np.array_equal(router.predict(named), NAMES[::-1][plain.predict(TABLE)])
    assert router.score(named, NAMES[::-1][Y]) == pytest.approx(plain.score(TABLE, Y))
    # Without classes on the tree, as many distinct labels as columns: in sorted order.
    assert list(quick().fit(TABLE, NAMES[Y]).classes_) == list(NAMES)
    with pytest.raises(ValueError, match="4 classes, but y has 3 distinct labels.*classes="):
        quick().fit(TABLE[Y < 3], NAMES[Y[Y < 3]])
    assert list(quick(classes=NAMES).fit(TABLE[Y < 3], NAMES[Y[Y < 3]]).classes_) == list(NAMES)


def test_folds_that_lack_a_class_score_without_error() -> None:
    order = np.argsort(Y, kind="stable")
    named = TABLE.with_paths(TABLE.paths.with_classes(NAMES))[order]
    labels = NAMES[Y[order]]
    scores = cross_val_score(quick(), named, labels, cv=KFold(4), error_score="raise")
    assert scores.shape == (4,)
    half = quick().fit(named[:100], labels[:100])
    assert half.predict_proba(named).shape == (200, 4)
    assert set(half.predict(named[100:])) & {"cat", "dog"}, "an unseen class can still be answered"


def test_a_policy_can_be_any_function_of_errors_costs_and_lambda() -> None:
    seen = []

    def cautious(errors: Any, costs: Any, lambda_: float) -> Any:
        seen.append((np.shape(errors), np.shape(costs), lambda_))
        return open_loop(np.asarray(errors) ** 0.5, costs, lambda_)

    router = quick(policy=cautious).fit(TABLE, Y)
    own = router.predict_path(TABLE)
    assert seen
    assert all(e[1] == c[0] and lam == 0.3 for e, c, lam in seen)
    assert not np.array_equal(own, router.set_params(policy="open-loop").predict_path(TABLE))
    exits = quick(policy=lambda e, c, lambda_: np.zeros(len(e), dtype=int)).fit(TABLE, Y)
    assert set(exits.predict_path(TABLE)) == {0}


def test_the_seed_settles_everything_whatever_the_workers() -> None:
    def errors(seed: int, n_jobs: int | None) -> Any:
        with parallel_config(backend="threading"):
            router = quick(random_state=seed, n_jobs=n_jobs).fit(TABLE, Y)
        return router.route(TABLE).predicted_errors

    one = errors(0, None)
    assert np.array_equal(one, errors(0, 2), equal_nan=True)
    assert not np.array_equal(one, errors(1, None), equal_nan=True)


def test_a_pickle_and_a_clone_behave(fitted: CostAwareRouter) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_path(TABLE), fitted.predict_path(TABLE))
    assert clone(fitted).get_params()["lambda_"] == fitted.lambda_
    assert not hasattr(clone(fitted), "targets_")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": -1.0}, "lambda_ must be a finite number >= 0, got -1.0"),
        ({"lambda_": np.nan}, "lambda_ must be"),
        ({"lambda_": np.inf}, "lambda_ must be"),
        ({"policy": "greedy"}, "policy must be one of"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be a finite number >= 0 and < 1"),
        ({"cross_fit": 0}, "cross_fit must be an integer >= 1"),
        ({"path_costs": [1.0]}, "path_costs must be 6 numbers"),
        ({"paths": TREES["chain"]}, "is expected"),
        ({"classes": ["a", "b"]}, "4 classes, but the tree has 2"),
    ],
)
def test_bad_parameters_fail_in_fit(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(TABLE, Y)


def test_bad_knobs_fail_at_prediction_and_in_curves(fitted: CostAwareRouter) -> None:
    router = clone(fitted).fit(TABLE, Y)
    with pytest.raises(ValueError, match="lambda_ must be"):
        router.set_params(lambda_=-0.1).predict(TABLE)
    router.set_params(lambda_=0.1)
    for bad in ([-1.0], [np.nan], []):
        with pytest.raises(ValueError, match="lambdas must be"):
            router.cost_curve(bad, TABLE, Y)
    with pytest.raises(ValueError, match="0 sample"):
        router.predict(TABLE[:0])


def test_gates_see_each_rows_own_exits_where_some_rows_end_on_short_paths() -> None:
    tree = PathTree.cascade([1, 2, 4, 8])
    table, y = make_path_probabilities(200, tree)

    def scattered(errors: Any, costs: Any, lambda_: float) -> Any:
        return (np.asarray(errors, dtype=float) * 1e4).astype(int).sum(axis=1) % len(costs)

    router = quick(policy=scattered, regressor__max_epochs=40).fit(table, y)
    routes = router.route(table)
    short = (routes.visited[:, 1] >= 0) & np.isnan(routes.predicted_errors[:, 2])
    judged = np.flatnonzero(np.isfinite(routes.predicted_errors[:, 2]))
    assert short.any()
    assert len(judged) > 10
    for prefix in np.unique(routes.visited[judged, 1]):
        found = router.regressor_.predict(table, int(prefix))
        for row in judged[routes.visited[judged, 1] == prefix]:
            assert np.isclose(found[row], routes.predicted_errors[row, 2], atol=1e-6).any()


class HalfNaN(BaseEstimator):
    """An error model that knows no difference on one half of the rows, and nothing on the other."""

    def fit(self, probs: PathProbabilities, targets: Any, sample_weight: Any = None) -> HalfNaN:
        self.paths_, self.base_errors_ = probs.paths, np.asarray(targets).mean(axis=0)
        return self

    def judge(self, prefixes: Any, history: Any, context: Any) -> Iterator[Any]:
        paths, n = self.paths_.descendants(int(prefixes[0])), len(prefixes)
        yield np.arange(n), paths, np.where(np.arange(n) % 2, np.nan, 0.5)[:, None] + 0 * paths


def test_a_prediction_that_is_no_number_is_refused_beside_any_others() -> None:
    probs, y = make_path_probabilities(60, PathTree.from_levels(2, (8,)))
    router = CostAwareRouter(0.0, regressor=HalfNaN(), random_state=0)
    with pytest.raises(ValueError, match="of sample 1 is NaN"):
        router.fit(probs, y).predict(probs)
