"""Context features: kept by every way to take rows, and what a router makes of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeRegressor

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.gates import PathErrorClassifier, PathErrorRegressor
from skquee.testing import TableNetwork, make_path_probabilities

N = 120
TREE = PathTree.from_levels(3, (4, 8))
CONTEXT = np.column_stack([np.arange(N), np.arange(N) ** 2]).astype(float)


def stored() -> PathProbabilities:
    return make_path_probabilities(N, TREE)[0].with_context(CONTEXT)


def lazy() -> PathProbabilities:
    table = make_path_probabilities(N, TREE)[0]
    bank = MultiPathClassifierBank(TableNetwork(table), batch_size=32)
    return bank.transform(np.arange(N)[:, None]).with_context(CONTEXT)


kinds = pytest.mark.parametrize("make", [stored, lazy])
ROWS: list[Any] = [
    slice(3, 50, 4),
    [5, 2, 2],
    np.array([7, 1]),
    np.arange(N) % 3 == 0,
    (np.array([4, 9]), Ellipsis),
]


# ---------------------------------------------------------------------- the table


@kinds
@pytest.mark.parametrize("rows", ROWS, ids=["slice", "list", "array", "mask", "sklearn"])
def test_context_goes_with_its_rows(make: Any, rows: Any) -> None:
    key = rows[0] if isinstance(rows, tuple) else rows
    part = make()[rows]
    assert np.array_equal(part.context, CONTEXT[key])
    assert np.array_equal(part[[1, 0]].context, CONTEXT[key][[1, 0]])
    assert np.array_equal(np.concatenate([c.context for _, c in part.chunks(2)]), CONTEXT[key])


@kinds
def test_context_survives_pickle_another_tree_and_materialize(make: Any, tmp_path: Path) -> None:
    part = make()[10:40]
    dearer = part.paths.with_costs(np.array(part.paths.costs) * 2)
    for kept in (
        pickle.loads(pickle.dumps(part)),
        part.with_paths(dearer),
        pickle.loads(pickle.dumps(part.with_paths(dearer))),
    ):
        assert type(kept) is type(part)
        assert np.array_equal(kept.context, CONTEXT[10:40])
        assert np.array_equal(np.asarray(kept), np.asarray(part))
    if hasattr(part, "materialize"):
        for made in (part.materialize(), part.materialize(out=tmp_path / "table.npy")):
            assert np.array_equal(made.context, CONTEXT[10:40])
        same = part.with_network(TableNetwork(make_path_probabilities(N, TREE)[0]))
        assert np.array_equal(same.context, CONTEXT[10:40])


@pytest.mark.parametrize("mmap", [True, False])
def test_context_survives_a_file(mmap: bool, tmp_path: Path) -> None:
    for name, table in (("with", stored()[5:60]), ("without", stored().with_context(None))):
        table.save(tmp_path / f"{name}.npz", dtype="float16")
        again = PathProbabilities.load(tmp_path / f"{name}.npz", mmap=mmap)
        if table.context is None:
            assert again.context is None
        else:
            assert np.array_equal(again.context, table.context)
            assert np.array_equal(again[3:9].context, table.context[3:9])
        del again


@kinds
def test_giving_context_copies_no_rows_and_changes_no_other_table(make: Any) -> None:
    table = make()
    part = table[[3, 1, 2]]
    other = part.with_context([1.0, 2.0, 3.0])
    assert other.context.shape == (3, 1)
    assert np.array_equal(part.context, CONTEXT[[3, 1, 2]])
    assert part.with_context(None).context is None and part.context is not None
    assert type(other) is type(part)
    source = "_base" if make is stored else "_X"
    assert getattr(other, source) is getattr(part, source)


def test_a_subclass_stays_itself_when_given_context() -> None:
    class Chunked(PathProbabilities):
        chunk_size = 7

    table = Chunked(np.asarray(stored()), TREE).with_context(CONTEXT)
    assert type(table) is Chunked
    assert [len(chunk.context) for _, chunk in table.chunks()][0] == 7


@kinds
@pytest.mark.parametrize(
    ("context", "message"),
    [
        (CONTEXT[:-1], r"n_samples = 120, got \(119, 2\)"),
        (CONTEXT[None], "context must have shape"),
        (CONTEXT[:, :0], "context must have shape"),
        (1.0, "context must have shape"),
        (np.where(CONTEXT == 9, np.nan, 1), "context must be finite"),
        (np.where(CONTEXT == 9, np.inf, 1), "context must be finite"),
    ],
)
def test_context_of_another_length_or_not_finite_is_refused(
    make: Any, context: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make().with_context(context)


class Noting(BaseEstimator):
    """Checks that every row it is given has its own context."""

    def __init__(self, knob: int = 0) -> None:
        self.knob = knob

    def fit(self, X: Any, y: Any) -> Noting:
        assert np.array_equal(X.context[:, 0], y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return X.context[:, 0]


@kinds
def test_a_search_selects_rows_with_their_context(make: Any) -> None:
    y = CONTEXT[:, 0]
    scorer = make_scorer(lambda true, found: float(np.array_equal(true, found)))
    search = GridSearchCV(Noting(), {"knob": [0, 1]}, scoring=scorer, cv=3, error_score="raise")
    assert search.fit(make(), y).best_score_ == 1


# ---------------------------------------------------------------------- the router

CASCADE = PathTree.cascade([1, 1.2])
TREE_MODEL = DecisionTreeRegressor(max_depth=4)


def two_models(n: int, seed: int, extra: int = 0) -> tuple[PathProbabilities, np.ndarray]:
    """Two models of like cost; the first knows half of the questions, the context tells which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    topic = rng.normal(size=n)
    # A model is as sure where it is wrong: only the context knows.
    said = [
        np.where(known, y, (y + rng.integers(1, 3, size=n)) % 3) for known in (topic > 0, topic < 0)
    ]
    values = np.stack([0.1 + 0.7 * np.eye(3)[answer] for answer in said], axis=1)
    noise = rng.normal(size=(n, 1 + extra))
    table = PathProbabilities(values, CASCADE)
    return table.with_context(np.column_stack([topic, noise])), y


def quick(**changes: Any) -> CostAwareRouter:
    return CostAwareRouter(
        0.3, targets="bernoulli", regressor="logistic", features="rich", random_state=0
    ).set_params(**changes)


@pytest.fixture(scope="module")
def fitted() -> CostAwareRouter:
    return quick().fit(*two_models(500, 0))


def test_the_first_step_follows_the_context(fitted: CostAwareRouter) -> None:
    table, _ = two_models(300, 1)
    routes = fitted.route(table)
    first = np.array(CASCADE.names)[routes.visited[:, 0]]
    topic = table.context[:, 0]
    clear = np.abs(topic) > 0.3
    assert np.mean(first[clear] == np.where(topic[clear] > 0, "1", "2")) > 0.95
    predicted = fitted.regressor_.predict(table)
    aimed = predicted + 0.3 * CASCADE.path_costs
    assert np.array_equal(routes.visited[:, 0], CASCADE.ancestors[aimed.argmin(axis=1), 0])
    assert np.allclose(
        routes.predicted_errors[:, 0], predicted[np.arange(300), aimed.argmin(axis=1)]
    )


@pytest.mark.parametrize(
    ("features", "regressor"), [("rich", "logistic"), ("paper", "logistic"), ("paper", TREE_MODEL)]
)
def test_a_router_that_knows_the_context_beats_the_same_without(
    features: str, regressor: Any
) -> None:
    rows, y = two_models(500, 0)
    new, labels = two_models(500, 1)
    router = quick(features=features, regressor=regressor)
    knowing = router.fit(rows, y).score(new, labels)
    blind = router.fit(rows.with_context(None), y).score(new.with_context(None), labels)
    assert knowing > blind + 0.2


def test_the_curve_is_what_prediction_does_with_context(fitted: CostAwareRouter) -> None:
    table, y = two_models(200, 1)
    curve = fitted.cost_curve([0.0, 0.1, 0.3, 2.0], table, y)
    for line, knob in zip(curve.paths, curve.knobs, strict=True):
        routes = fitted.set_params(lambda_=knob).route(table)
        assert np.array_equal(routes.paths, line)
        for row in range(0, 200, 31):
            assert fitted.predict_path(table[[row]])[0] == line[row]
    fitted.set_params(lambda_=0.3)
    assert len(fitted.cost_curve()) == 101
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_path(table), fitted.predict_path(table))


@pytest.mark.parametrize("tree", [TREE, PathTree.from_levels(3, (4, 8), first="free")])
def test_a_lazy_table_with_context_gives_the_routes_of_the_stored_one(tree: PathTree) -> None:
    table, y = make_path_probabilities(N, tree)
    exact = PathProbabilities(np.asarray(table).astype(np.float32), tree).with_context(CONTEXT)
    bank = MultiPathClassifierBank(TableNetwork(exact), batch_size=17)
    live = bank.transform(np.arange(N)[:, None]).with_context(CONTEXT)
    router = quick(lambda_=0.1).fit(exact, y)
    assert np.array_equal(router.predict_path(live), router.predict_path(exact))
    assert np.array_equal(
        quick(lambda_=0.1).fit(live, y).predict_path(exact), router.predict_path(exact)
    )


@pytest.mark.parametrize("regressor", ["logistic", TREE_MODEL], ids=["logistic", "tree"])
def test_missing_or_other_context_at_predict_says_what_to_do(regressor: Any) -> None:
    for tree in (CASCADE, PathTree.chain([1, 1.2])):
        table, y = make_path_probabilities(N, tree)
        router = quick(regressor=regressor).fit(table.with_context(CONTEXT), y)
        for other, found in ((table, 0), (table.with_context(CONTEXT[:, 0]), 1)):
            message = rf"X has {found} context features, but the gates were trained with 2: give"
            with pytest.raises(ValueError, match=message):
                router.predict(other)
            with pytest.raises(ValueError, match=message):
                router.cost_curve(None, other, y)
    bare = quick(regressor=regressor).fit(table, y)
    with pytest.raises(ValueError, match=r"2 context features, but .* trained with 0: give .*None"):
        bare.predict(table.with_context(CONTEXT))


@pytest.mark.parametrize("features", ["paper", "rich"])
def test_the_network_of_the_paper_takes_no_notice_of_context(features: str) -> None:
    table, y = make_path_probabilities(N, TREE)
    regressor = PathErrorRegressor(schedule="constant", max_epochs=2, features=features)
    plain = quick(regressor=regressor, features=features).fit(table, y)
    with pytest.warns(UserWarning, match="2 context features, which .* does not read"):
        knowing = quick(regressor=regressor, features=features).fit(table.with_context(CONTEXT), y)
    assert np.array_equal(plain.predict_path(table), knowing.predict_path(stored()))
    assert np.array_equal(knowing.predict_path(table), knowing.predict_path(stored()))


def test_the_gate_before_anything_runs_judges_every_path_by_context() -> None:
    table, y = two_models(400, 0, extra=2)
    wrong = np.stack([table.path(p).argmax(axis=1) != y for p in range(CASCADE.n_paths)], axis=1)
    gates = PathErrorClassifier(random_state=0).fit(table, wrong)
    assert gates.judges_before_running
    found = gates.predict(table)
    assert np.isfinite(found).all() and np.ptp(found[:, 0]) > 0.5
    ((rows, judged, errors),) = gates.judge(np.full(400, -1), [], table.context)
    assert np.array_equal(errors, found[:, judged]) and len(rows) == 400
