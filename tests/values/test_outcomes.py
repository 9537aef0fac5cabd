"""Tables of outcomes: losses, prices of each row, and everything a router does with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skquee import (
    AutoRouter,
    BudgetRouter,
    CostAwareRouter,
    PathProbabilities,
    PathTree,
    TunedCostAwareRouterCV,
)
from skquee.baselines import FixedPath, OracleRouter, RandomMixing, ThresholdRouter
from skquee.evaluation import compare
from skquee.persistence import dump, load
from skquee.policy import open_loop
from skquee.router import RiskControlledRouter
from skquee.testing import make_path_probabilities

N = 600
NAMES = ["small", "middle", "large"]
ERRORS = {"targets": "bernoulli", "regressor": "logistic", "random_state": 0}


def make(seed: int = 0, *, graded: bool = False, **options: Any) -> PathProbabilities:
    """Make outcomes of three models, of which the dear ones bear hard questions."""
    rng = np.random.default_rng(seed)
    hard = rng.random(N)
    chance = hard[:, None] * [0.9, 0.5, 0.2]
    loss = chance * rng.random((N, 3)) if graded else rng.random((N, 3)) < chance
    context = np.column_stack([hard, rng.random(N)])
    given = {"context": context, "costs": [1, 4, 20], "names": NAMES, "cost_unit": "$", **options}
    if given.get("confidence") == "some":
        given["confidence"] = np.clip(1 - chance + 0.05 * rng.normal(size=(N, 3)), 0, 1)
    if given["costs"] == "each":
        given["costs"] = np.array([1, 4, 20]) * (0.5 + context[:, 1:])
    return PathProbabilities.from_outcomes(loss, **given)


KINDS: dict[str, dict[str, Any]] = {
    "context": {},
    "graded": {"graded": True},
    "cascade": {"confidence": "some"},
    "chain": {"confidence": "some", "paths": "chain"},
    "prices": {"costs": "each"},
    "prices of a cascade": {"costs": "each", "confidence": "some"},
    "prices not known": {"costs": "each", "costs_known": False, "confidence": "some"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_tells_what_routes_lose_and_cost(kind: str) -> None:
    table, new = make(0, **KINDS[kind]), make(1, **KINDS[kind])
    router = CostAwareRouter(**ERRORS).fit(table)
    curve = router.cost_curve([0.002, 0.02, 0.1], new)
    assert new.losses is not None
    prices = new.row_path_costs()
    for point, lambda_ in enumerate(curve.lambdas):
        routes = router.set_params(lambda_=lambda_).route(new)
        columns = routes.tree.path_columns[routes.paths]
        assert np.array_equal(curve.paths[point], routes.paths)
        assert routes.labels.tolist() == [NAMES[c] for c in columns]
        lost = new.losses[np.arange(N), columns]
        assert curve.accuracy[point] == pytest.approx(1 - lost.mean())
        paid = new.paths.path_costs[routes.paths]
        paid = paid if prices is None else prices[np.arange(N), routes.paths]
        np.testing.assert_allclose(routes.costs, paid)
        assert curve.cost[point] == pytest.approx(paid.mean())
        assert router.score(new) == pytest.approx(1 - lost.mean() - lambda_ * paid.mean())
    best = OracleRouter().fit(table).cost_curve(None, new)
    assert best.accuracy.max() >= curve.accuracy.max()
    assert curve.area() <= best.area()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_alone_and_in_any_order_are_routed_alike(kind: str) -> None:
    table = make(0, **KINDS[kind])
    router = CostAwareRouter(0.01, **ERRORS).fit(table)
    whole, server = router.route(table), router.freeze()
    order = np.random.default_rng(0).permutation(N)
    assert np.array_equal(router.predict_path(table[order]), whole.paths[order])
    for row in range(0, N, 97):
        one = table[row : row + 1]
        assert router.predict(one).tolist() == server.predict(one).tolist() == [whole.labels[row]]
        np.testing.assert_allclose(server.predict_cost(one), whole.costs[[row]])


def test_context_routes_better_than_chance_mixes_fixed_models() -> None:
    table, new = make(0), make(1)
    router = CostAwareRouter(**ERRORS).fit(table)
    assert router.cost_curve(None, new).area() > FixedPath().fit(table).cost_curve(None, new).area()


def test_frames_name_the_models() -> None:
    pd = pytest.importorskip("pandas")
    wrong = pd.DataFrame(np.eye(4, 2, dtype=bool), columns=["small", "large"])
    assert PathProbabilities.from_outcomes(wrong, costs=[1, 9]).paths.names == ("small", "large")
    numbered = wrong.set_axis([0, 1], axis=1)
    given = PathProbabilities.from_outcomes(numbered, costs=[1, 9], names=["a", "b"])
    assert given.paths.names == ("a", "b")
    assert PathProbabilities.from_outcomes(numbered, costs=[1, 9]).paths.names == ("1", "2")


def test_new_rows_need_no_losses() -> None:
    router = CostAwareRouter(0.05, **ERRORS).fit(make())
    new = PathProbabilities.from_outcomes(
        None, context=[[0.01, 0.5], [0.99, 0.5]], costs=[1, 4, 20], names=NAMES
    )
    assert router.predict(new).tolist()[0] == "small"
    assert router.predict(new).tolist()[1] != "small"
    with pytest.raises(ValueError, match="no losses to measure on"):
        router.cost_curve(None, new.with_losses(None), [0, 1])


def test_budgets_tuning_and_baselines_take_outcomes() -> None:
    table, new = make(0, costs="each"), make(1, costs="each")
    router = CostAwareRouter(**ERRORS).fit(table)
    held = router.at_budget(6.0, new, random_state=0)
    assert held.predict_cost(new).mean() == pytest.approx(6, abs=0.3)
    assert BudgetRouter(router, 6.0).fit(table).predict_cost(table).mean() == pytest.approx(6, 0.1)
    tuned = TunedCostAwareRouterCV(CostAwareRouter(**ERRORS), max_cost=5.0, cv=3).fit(table)
    assert tuned.best_cost_ <= 5
    with pytest.raises(ValueError, match="out of reach.*from"):
        router.at_budget(5000.0, new)
    chain = make(0, confidence="some", paths="chain")
    assert ThresholdRouter(0.5).fit(chain).predict_path(chain).shape == (N,)
    assert RandomMixing(4.0).fit(make(0)).route(make(1)).costs.mean() == pytest.approx(4, abs=0.6)


def test_prices_that_are_not_known_do_not_leak_into_decisions() -> None:
    table = make(0, costs="each", costs_known=False)
    router = CostAwareRouter(0.01, **ERRORS).fit(table)
    facts = table.facts
    assert facts.call_costs is not None
    other = table.with_call_costs(facts.call_costs[::-1].copy(), known=False)
    assert np.array_equal(router.predict_path(other), router.predict_path(table))
    assert not np.array_equal(router.predict_cost(other), router.predict_cost(table))


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(0.01, 1000), lambda_=st.floats(0.001, 0.2))
def test_prices_in_another_unit_change_nothing_but_lambda(factor: float, lambda_: float) -> None:
    for costs in ([1, 4, 20], "each"):
        table = make(0, costs=costs)
        router = CostAwareRouter(lambda_, **ERRORS).fit(table)
        prices = table.row_path_costs()
        scaled = table.with_paths(table.paths.with_costs(table.paths.path_costs * factor))
        if prices is not None:
            scaled = scaled.with_call_costs(table.facts.call_costs * factor)
        paths = router.predict_path(table)
        again = router.set_params(lambda_=lambda_ / factor).predict_path(scaled)
        assert (paths == again).mean() > 0.998  # ties within rounding


def test_equal_prices_of_all_rows_are_those_of_the_tree() -> None:
    plain = make(0)
    each = plain.with_call_costs([1, 4, 20])
    a, b = (CostAwareRouter(0.02, **ERRORS).fit(t) for t in (plain, each))
    assert np.array_equal(a.predict_path(plain), b.predict_path(each))
    np.testing.assert_allclose(a.predict_cost(plain), b.predict_cost(each))


@pytest.mark.parametrize("kind", ["prices", "prices of a cascade", "prices not known"])
def test_costs_set_on_a_router_hold_in_place_of_prices_that_rows_bring(kind: str) -> None:
    table, new = make(0, **KINDS[kind]), make(1, **KINDS[kind])
    router = CostAwareRouter(0.02, validation_fraction=0.2, **ERRORS).fit(table)
    given = np.arange(1.0, table.paths.n_paths + 1)
    router.set_params(path_costs=given)
    plain = CostAwareRouter(0.02, validation_fraction=0.2, path_costs=given, **ERRORS)
    plain.fit(table.with_call_costs(None))
    routes, expected = router.route(new), plain.route(new.with_call_costs(None))
    assert np.array_equal(routes.paths, expected.paths)
    np.testing.assert_allclose(routes.costs, given[routes.paths])
    assert np.array_equal(router.freeze().predict(new[:1]), routes.labels[:1])
    for rows in (None, new):
        curve = router.cost_curve([0.02], rows)
        np.testing.assert_allclose(curve.cost, given[curve.paths[0]].mean())


def test_losses_of_right_and_wrong_are_labels() -> None:
    table, y = make_path_probabilities(400)
    wrong = np.asarray(table).argmax(axis=2) != y[:, None]
    with_losses = table.with_losses(wrong)
    logistic = {"targets": "bernoulli", "regressor": "logistic"}
    for options in ({}, logistic, {**logistic, "answer": "recall"}):
        a = CostAwareRouter(0.1, random_state=0, **options).fit(table, y)
        b = CostAwareRouter(0.1, random_state=0, **options).fit(with_losses, y)
        assert np.array_equal(a.predict_path(table), b.predict_path(table))
        assert a.cost_curve().area() == pytest.approx(b.cost_curve().area())
        assert a.score(table, y) == pytest.approx(b.score(with_losses, y))
    with pytest.raises(ValueError, match="answer='ensemble' combines .* use answer='last' or"):
        CostAwareRouter(answer="ensemble").fit(with_losses, y)


def each_its_own(seed: int, paths: str) -> PathProbabilities:
    """Make graded outcomes of models that each know how well they do."""
    rng = np.random.default_rng(seed)
    sure = rng.random((N, 3))
    loss = (1 - sure) * rng.random((N, 3))
    return PathProbabilities.from_outcomes(
        loss,
        confidence=sure,
        context=rng.random((N, 2)),
        costs=[1, 4, 20],
        names=NAMES,
        paths=paths,
    )


@pytest.mark.parametrize("paths", ["cascade", "chain"])
def test_recall_of_outcomes_names_the_model_that_answers_and_loses_what_it_does(
    paths: str, tmp_path: Any
) -> None:
    table, new = (each_its_own(seed, paths) for seed in (0, 1))
    router = CostAwareRouter(0.001, answer="recall", **ERRORS).fit(table)
    routes = router.route(new)
    asked = routes.tree.path_columns[routes.paths]
    answers = np.array([NAMES.index(label) for label in routes.labels])
    assert (answers != asked).any(), "an earlier model is trusted more at times"
    called = routes.tree.path_calls[routes.paths].astype(bool)
    assert called[np.arange(N), answers].all()
    assert new.losses is not None and new.context is not None
    lost = new.losses[np.arange(N), answers].mean()
    assert lost < new.losses[np.arange(N), asked].mean()
    assert router.score(new) == pytest.approx(1 - lost - 0.001 * routes.costs.mean())
    curve = router.cost_curve([0.001], new)
    assert curve.accuracy[0] == pytest.approx(1 - lost)
    assert router.cost_curve([0.001]).source == "60 rows held out in fit"

    dump(router, tmp_path / "r.skops")
    for other in (load(tmp_path / "r.skops"), router.freeze()):
        assert np.array_equal(other.predict(new), routes.labels)
    alone = [router.freeze().predict(new[i : i + 1])[0] for i in range(30)]
    assert alone == routes.labels[:30].tolist()
    told = router.explain_route(new[:30]).groupby("row").last()
    assert told["label"].tolist() == alone

    held = BudgetRouter(router, float(curve.cost[0]), random_state=0).fit(new).route(new)
    assert set(held.labels) <= set(NAMES)
    safe = RiskControlledRouter(router, method="wsr", max_error_increase=0.2, random_state=0)
    safe.fit(new)
    picks = [NAMES.index(label) for label in safe.predict(new)]
    whole = new.losses[:, new.paths.path_columns[new.paths.fullest]].mean()
    assert safe.risk_ == pytest.approx(new.losses[np.arange(N), picks].mean() - whole)
    auto = AutoRouter(0.001, candidates={"recall": router}, random_state=0).fit(table)
    picks = [NAMES.index(label) for label in auto.predict(new)]
    gained = 1 - new.losses[np.arange(N), picks].mean()
    assert auto.cost_curve([0.001], new).accuracy[0] == pytest.approx(gained)


def test_costs_of_each_row_break_ties_to_the_cheapest() -> None:
    errors = np.array([[0.2, 0.2], [0.2, 0.1]])
    costs = np.array([[3.0, 1.0], [1.0, 3.0]])
    assert open_loop(errors, costs, 0.0).tolist() == [1, 1]
    assert open_loop(errors, costs, 0.1).tolist() == [1, 0]


def test_facts_survive_slices_files_and_pickles(tmp_path: Any) -> None:
    import pickle

    table = make(0, costs="each", costs_known=False)
    table.save(tmp_path / "t.npz")
    for other in (PathProbabilities.load(tmp_path / "t.npz"), pickle.loads(pickle.dumps(table))):
        part, own = other[[5, 3]], table[[5, 3]]
        assert part.facts.outcomes and not part.facts.costs_known
        for name in ("context", "losses", "call_costs"):
            assert np.array_equal(getattr(part.facts, name), getattr(own.facts, name))


# ---------------------------------------------------------------------- building


def test_arrays_of_any_library_make_a_table(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    small, large = rng.dirichlet(np.ones(3), size=(2, 50)).astype(np.float32)
    wanted = np.stack([small, large], axis=1)
    np.savez(tmp_path / "p.npz", small=small, large=large)
    torch = pytest.importorskip("torch")

    kinds: list[Any] = [
        {"small": small, "large": large},
        tmp_path / "p.npz",
        {
            "small": torch.tensor(small, requires_grad=True),
            "large": torch.from_numpy(large),
        },
    ]
    for kind in kinds:
        table = PathProbabilities.from_arrays(kind, step_costs=[1, 8], cost_unit="ms")
        assert np.array_equal(np.asarray(table), wanted)
        assert table.paths.names == ("small", "large") and table.paths.cost_unit == "ms"
    half = PathProbabilities.from_arrays(
        [torch.from_numpy(small).bfloat16(), torch.from_numpy(large)], step_costs=[1, 8]
    )
    assert np.allclose(np.asarray(half), wanted, atol=1e-2)
    import pandas as pd

    frame = pd.DataFrame(small, columns=["a", "b", "c"])
    assert PathProbabilities.from_arrays([frame], step_costs=[1]).paths.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match="Costs are left out"):
        PathProbabilities.from_arrays({"small": small, "large": large})
    with pytest.raises(ValueError, match="one shape"):
        PathProbabilities.from_arrays([small, large[:, :2]], step_costs=[1, 2])


@pytest.mark.parametrize("library", ["zarr", "h5py", "dask.array"])
def test_lazy_arrays_are_tables_and_columns(library: str, tmp_path: Any) -> None:
    module = pytest.importorskip(library)
    table, y = make_path_probabilities(120)
    values = np.asarray(table)
    if library == "zarr":
        array = module.array(values, chunks=(50, 6, 4))
    elif library == "h5py":
        array = module.File(tmp_path / "t.h5", "w").create_dataset("p", data=values)
    else:
        array = module.from_array(values, chunks=(50, 6, 4))
    lazy = PathProbabilities(array, table.paths)
    a, b = (ThresholdRouter(0.7).fit(t, y) for t in (lazy, table))
    for rows in (slice(None), slice(7, 60), [5, 3, 99], np.array([1])):
        assert np.array_equal(a.predict_path(lazy[rows]), b.predict_path(table[rows]))
    fitted = CostAwareRouter(0.1, **ERRORS).fit(lazy, y)
    again = CostAwareRouter(0.1, **ERRORS).fit(table, y)
    assert np.array_equal(fitted.predict_path(lazy), again.predict_path(table))
    assert fitted.cost_curve(None, lazy, y).area() == again.cost_curve(None, table, y).area()
    made = PathProbabilities.from_arrays([array[:, 0], array[:, 1]], step_costs=[1, 2])
    assert np.array_equal(np.asarray(made), values[:, :2].astype(made.dtype))


def test_labels_may_be_missing_or_come_without_scores() -> None:
    labels = [["cat", None], ["dog", "dog"]]
    table = PathProbabilities.from_labels(labels, None, ["cat", "dog"], step_costs=[1, 2])
    assert np.asarray(table)[0].tolist() == [[1, 0], [0.5, 0.5]]
    numbers = PathProbabilities.from_labels(
        [[5.0, np.nan]], [[0.9, np.nan]], [0, 5], step_costs=[1, 2]
    )
    np.testing.assert_allclose(np.asarray(numbers)[0], [[0.1, 0.9], [0.5, 0.5]], rtol=1e-6)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"loss": [[0.5, 1.5]]}, r"row 0, column 1 is 1\.5"),
    ({"loss": [[0.5, np.nan]]}, "Losses must lie in"),
    ({"loss": [["a", "b"]]}, "must hold numbers"),
    ({"loss": [0.5, 1.0]}, "shape"),
    ({"costs": [1, -2]}, "not negative, but entry"),
    ({"costs": [1, 2, 3]}, r"price of one call, of shape \(2,\)"),
    ({"costs": [[1, 2], [3, 4]]}, "Shapes must be one"),
    ({"costs": None}, "costs is missing"),
    ({"confidence": [[0.5, 2.0]]}, "lie in"),
    ({"confidence": [[0.5]]}, "Shapes must be one"),
    ({"context": [[1.0], [2.0]]}, "n_samples = 1"),
    ({"context": [[np.nan]]}, "finite"),
    ({"names": ["one"]}, "names has 1 entries"),
    ({"paths": "tree"}, "'chain', 'cascade', 'single'"),
    ({"paths": PathTree.chain([1, 1, 1])}, "reads 3 classifiers"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_outcomes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathProbabilities.from_outcomes(**{"loss": [[0.5, 1.0]], "costs": [1, 2], **options})


def test_fit_wants_losses_and_no_labels() -> None:
    table = make()
    with pytest.raises(ValueError, match="without y"):
        CostAwareRouter(**ERRORS).fit(table, np.zeros(N))
    bare = PathProbabilities.from_outcomes(None, context=np.ones((3, 1)), costs=[1, 2])
    with pytest.raises(ValueError, match="no losses to learn from"):
        CostAwareRouter(**ERRORS).fit(bare)


# ---------------------------------------------------------------------- the rest of the family


def test_methods_are_compared_without_labels() -> None:
    table, new = make(0), make(1)
    methods = {"router": CostAwareRouter(**ERRORS).fit(table), "fixed": FixedPath().fit(table)}
    frame = compare(methods, new, None, n_resamples=20, random_state=0)
    assert frame.loc["router", "area"] > frame.loc["fixed", "area"]
    with pytest.raises(ValueError, match="the others on 600"):
        other = methods["fixed"].cost_curve(None, new[:50])
        compare({"router": methods["router"], "fixed": other}, new, None)


@pytest.mark.parametrize("costs", [[1, 4, 20], "each"])
def test_the_search_takes_outcomes(costs: Any) -> None:
    candidates = {"router": CostAwareRouter(**ERRORS), "fixed": FixedPath()}
    auto = AutoRouter(0.01, candidates=candidates, random_state=0).fit(make(0, costs=costs))
    assert not auto.leaderboard_["failed"].any()
    assert set(auto.predict(make(1, costs=costs))) <= set(NAMES)


def test_the_search_weighs_what_rows_paid_and_not_mean_prices() -> None:
    def dear_where_asked(seed: int) -> PathProbabilities:
        table = make(seed, confidence="some", paths="chain")
        assert table.context is not None
        hard = table.context[:, :1]
        return table.with_call_costs(np.array([1, 4, 20]) * (0.1 + 3 * hard**4))

    candidates = {"router": CostAwareRouter(**ERRORS, first="free")}
    auto = AutoRouter(candidates=candidates, random_state=0).fit(dear_where_asked(0))
    prices = np.geomspace(0.002, 0.1, 20)
    curve = auto.cost_curve(prices)
    losses = (1 - curve.accuracy) + prices[:, None] * curve.cost
    # Rows that go on are dear: points chosen by mean prices lose up to 0.06 more than the best.
    assert (np.diag(losses) <= losses.min(axis=1) + 0.015).all()
    new = dear_where_asked(1)
    for price in (0.002, 0.1):
        routes = auto.set_params(lambda_=price).route(new)
        each = new.row_path_costs()
        assert each is not None
        np.testing.assert_allclose(routes.costs, each[np.arange(N), routes.paths])
        assert routes.costs.mean() == pytest.approx(auto.cost_curve([price]).cost[0], rel=0.2)


@pytest.mark.parametrize("limit", [{"max_error": 0.3}, {"max_error_increase": 0.1}])
@pytest.mark.parametrize("graded", [False, True])
def test_risks_of_outcomes_are_those_of_their_losses(limit: Any, graded: bool) -> None:
    router = CostAwareRouter(**ERRORS).fit(make(0, graded=graded))
    rows = make(1, graded=graded)
    if graded:
        with pytest.raises(ValueError, match="use method='wsr'"):
            RiskControlledRouter(router, **limit).fit(rows)
    method = "wsr" if graded else "ltt"
    safe = RiskControlledRouter(router, method=method, random_state=0, **limit).fit(rows)
    assert safe.risk_ <= safe.bound_ and rows.losses is not None
    routes = safe.route(rows)
    lost = rows.losses[np.arange(N), rows.paths.path_columns[routes.paths]].mean()
    whole = rows.losses[:, rows.paths.path_columns[rows.paths.fullest]].mean()
    assert safe.risk_ == pytest.approx(lost - whole * ("max_error_increase" in limit))
    assert safe.cost_ == pytest.approx(routes.costs.mean())
    with pytest.raises(ValueError, match="table of outcomes"):
        RiskControlledRouter(router, max_disagreement=0.1).fit(rows)


def test_a_router_that_predicts_prices_is_read_back(tmp_path: Any) -> None:
    table = make(0, costs="each", costs_known=False)
    router = CostAwareRouter(0.01, **ERRORS).fit(table)
    dump(router, tmp_path / "r.skops")
    again = load(tmp_path / "r.skops")
    assert np.array_equal(again.predict_path(table), router.predict_path(table))


def test_a_class_table_learns_from_graded_losses() -> None:
    table, y = make_path_probabilities(400)
    dear = np.random.default_rng(0).random((len(table), table.shape[1]))
    dear[:, 0] *= 0.1
    router = CostAwareRouter(0.0, **ERRORS)
    before = router.fit(table, y).predict_path(table)
    again = router.fit(table.with_losses(dear), y).predict_path(table)
    assert (again == 0).mean() > (before == 0).mean()


def test_a_model_that_is_not_called_costs_a_row_nothing() -> None:
    table = make(0, costs="each", costs_known=False, confidence="some")
    router = CostAwareRouter(0.01, **ERRORS).fit(table)
    prices, routes = table.facts.call_costs, router.route(table)
    assert prices is not None
    called = table.paths.path_calls[routes.paths].astype(bool)
    other = table.with_call_costs(np.where(called, prices, 100 * prices), known=False)
    np.testing.assert_allclose(router.predict_cost(other), routes.costs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": ["hello", "there"]}, "context must be an array of numbers, got list: encode"),
        ({"costs": {"small": 1, "large": 20}}, "costs must be an array of numbers, got {'small'"),
    ],
)
def test_what_are_no_numbers_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathProbabilities.from_outcomes([[0, 1], [1, 0]], **{"costs": [1, 20], **options})


def test_frames_of_the_same_models_stand_in_one_order() -> None:
    pd = pytest.importorskip("pandas")
    loss = pd.DataFrame({"small": [0, 1], "large": [0, 0]})
    options: dict[str, Any] = {"costs": [1, 20]}
    for wrong in (
        {"confidence": loss[["large", "small"]]},
        {"costs": loss[["large", "small"]]},
        {"costs": pd.Series({"large": 20, "small": 1})},
        {"names": ["large", "small"]},
    ):
        with pytest.raises(ValueError, match="Models must stand in one order"):
            PathProbabilities.from_outcomes(loss, **{**options, **wrong})
    sure = loss.set_axis(["small_sure", "large_sure"], axis=1)
    table = PathProbabilities.from_outcomes(loss, sure, **options, names=["a", "b"])
    assert table.paths.column_names == ("a", "b")
