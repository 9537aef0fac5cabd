"""What every gate saw, predicted and chose: the route itself, noted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.policy import OptionValue, Pessimistic, open_loop
from skquee.routers._explain import COLUMNS
from skquee.testing import TableNetwork, make_path_probabilities

TREES = {
    "levels": PathTree.from_levels(3, (4, 8)),
    "free": PathTree.from_levels(3, (4, 8), first="free"),
    "cascade": PathTree.cascade([1, 3, 9]),
}
OPTIONS = {
    "paper": {},
    "recall": {"answer": "recall"},
    "ensemble": {"answer": "ensemble", "features": "rich"},
    "option value": {"policy": OptionValue(0.3)},
    "pessimistic": {"policy": Pessimistic(0.05)},
    "closed loop": {"policy": "closed-loop"},
    "callable": {"policy": open_loop},
    "highest": {"first": "highest"},
    "free": {"first": "free"},
}


def fitted(tree: PathTree = TREES["levels"], **options: Any) -> tuple[Any, PathProbabilities]:
    table, y = make_path_probabilities(400, tree)
    router = CostAwareRouter(0.2, **{"regressor": "logistic", "random_state": 0, **options}).fit(
        table, y
    )
    return router, make_path_probabilities(60, tree, random_state=3)[0]


def check_against_route(router: Any, new: Any, told: pd.DataFrame) -> None:
    """Read the route of every row back from what its gates are said to have done."""
    routes, tree = router.route(new), router.paths_
    names = np.array(tree.names, dtype=object)
    assert list(told.columns) == list(COLUMNS)
    assert np.array_equal(told["row"].unique(), np.arange(len(new)))
    assert told[["row", "gate"]].apply(tuple, axis=1).is_monotonic_increasing
    for row, lines in told.groupby("row"):
        visited = routes.visited[row][routes.visited[row] >= 0]
        gates = dict(list(lines.groupby("gate")))
        first = 0 if len(tree.roots) > 1 else 1
        exited_inside = bool(tree.is_inner[routes.paths[row]])
        assert list(gates) == list(range(first, len(visited) + 1))
        for gate, group in gates.items():
            prefix = "" if gate == 0 else names[visited[gate - 1]]
            step = "exit" if gate == len(visited) else names[visited[gate]]
            assert set(group["prefix"]) == {prefix}
            assert set(group["step"]) == {step}
            assert group["aimed"].sum() == 1
            (aimed,) = group[group["aimed"]].itertuples()
            start = prefix if step == "exit" else step
            ancestors = names[tree.prefixes(aimed.candidate)]
            assert start in ancestors
            assert (aimed.candidate == prefix) == (step == "exit")
            costs = tree.path_costs[[tree.index(c) for c in group["candidate"]]]
            assert np.array_equal(group["cost"], costs)
            if gate == len(visited) and not exited_inside:
                assert group[["predicted_error", "score"]].isna().all(axis=None)
                assert list(group["candidate"]) == [prefix]
                continue
            assert aimed.predicted_error == pytest.approx(routes.predicted_errors[row, gate])
            if gate == 0:
                assert list(group["candidate"]) == list(names)
                assert set(group["label"]) == {None} and group["confidence"].isna().all()
            else:
                assert list(group["candidate"]) == list(names[tree.descendants(prefix)])
        last = lines.iloc[-1]
        assert last["label"] == routes.labels[row]
        assert last["confidence"] == pytest.approx(routes.probabilities[row].max())


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_the_explanation_is_the_route(tree: PathTree, options: dict[str, Any]) -> None:
    router, new = fitted(tree, **options)
    for lambda_ in (0.0, 0.2, 1.0):
        router.set_params(lambda_=lambda_)
        check_against_route(router, new[:25], router.explain_route(new[:25]))
    assert router.predict_path(new).dtype == np.intp  # the router itself is left as it was
    assert not {"_decide", "_judge", "_aim"} & set(vars(router))


@pytest.mark.parametrize("name", ["paper", "option value", "pessimistic", "callable"])
def test_the_candidate_of_least_score_is_aimed_at(name: str) -> None:
    router, new = fitted(**OPTIONS[name])
    changed = False
    for lambda_ in (0.0, 0.2, 0.6):
        told = router.set_params(lambda_=lambda_).explain_route(new)
        told = told[told["score"].notna()]
        least = told.groupby(["row", "gate"])["score"].transform("min")
        assert (told["score"] - least)[told["aimed"]].max() <= 1e-6
        plain = lambda_ * told["cost"] + told["predicted_error"]
        changed |= not np.allclose(told["score"], plain)
        now = told["candidate"] == told["prefix"]
        assert np.allclose(told["score"][now], plain[now])
    assert changed == (name in ("option value", "pessimistic"))


def test_a_policy_set_after_fit_gives_its_own_scores() -> None:
    router, new = fitted(policy=Pessimistic(0.2))
    told = router.set_params(policy="open-loop").explain_route(new)
    known = told[told["score"].notna()]
    assert np.allclose(known["score"], 0.2 * known["cost"] + known["predicted_error"])


def test_before_anything_runs_errors_are_the_means() -> None:
    router, new = fitted(TREES["cascade"])
    start = router.explain_route(new[:5]).query("gate == 0")
    assert np.allclose(
        start["predicted_error"].to_numpy().reshape(5, -1), router.regressor_.base_errors_
    )


def test_before_anything_runs_a_context_tells_samples_apart() -> None:
    table, y = make_path_probabilities(400, TREES["cascade"])
    ease = table.path(0).max(axis=1)
    told = table.with_context(ease)
    router = CostAwareRouter(0.2, regressor="logistic", random_state=0).fit(told, y)
    some = told[:40]
    frame = router.explain_route(some)
    check_against_route(router, some, frame)
    assert frame.query("gate == 0 and candidate == '1'")["predicted_error"].nunique() > 1


def test_a_row_is_told_the_same_alone_and_among_others() -> None:
    router, new = fitted(answer="recall")
    values = np.asarray(new)
    whole = router.explain_route(new)
    for row in (0, 7, 21):
        ours = whole[whole["row"] == row].reset_index(drop=True).assign(row=0)
        for one in (new[row : row + 1], new[row], values[row], values[row : row + 1]):
            pd.testing.assert_frame_equal(router.explain_route(one), ours, rtol=1e-6)
    listed = router.explain_route(values[3].tolist())
    pd.testing.assert_frame_equal(listed, router.explain_route(new[3]))


def test_chunks_keep_their_row_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    router, new = fitted()
    whole = router.explain_route(new)
    monkeypatch.setattr(PathProbabilities, "chunk_size", 7)
    pd.testing.assert_frame_equal(router.explain_route(new), whole, rtol=1e-6)


def test_labels_are_those_of_y() -> None:
    table, y = make_path_probabilities(300)
    names = np.array(["ant", "bee", "cat", "dog"])
    router = CostAwareRouter(0.2, regressor="logistic", random_state=0).fit(table, names[y])
    told = router.explain_route(table[:10])
    assert set(told["label"]) <= set(names)
    assert told.groupby("row")["label"].last().tolist() == router.predict(table[:10]).tolist()


def test_only_the_blocks_of_the_route_run() -> None:
    router, new = fitted()
    network = TableNetwork(new)
    lazy = MultiPathClassifierBank(network).transform(np.arange(60)[:, None])
    told = router.explain_route(lazy[4:5])
    needed = int(told["gate"].max())
    assert network.blocks_run == needed
    depths = router.paths_.depths[router.predict_path(new)]
    assert needed == depths[4]
    router.explain_route(lazy)
    assert network.blocks_run == needed + depths.sum()


def test_at_an_exit_that_abstains_the_exit_before_answers() -> None:
    tree = PathTree.chain([1, 1, 1])
    table, y = make_path_probabilities(400, tree, n_classes=3)
    router = CostAwareRouter(0.0, regressor="logistic", random_state=0).fit(table, y)
    values = np.array(make_path_probabilities(60, tree, n_classes=3, random_state=3)[0])
    values[::2, 1] = 1 / 3
    told = router.explain_route(values)
    first = told[told["gate"] == 1].drop_duplicates("row").set_index("row")
    second = told[told["gate"] == 2].drop_duplicates("row").set_index("row")
    abstained = second.index[second.index % 2 == 0]
    assert len(abstained) > 3
    assert len(set(first.loc[abstained, "label"])) > 1
    for column in ("label", "confidence"):
        assert np.array_equal(second.loc[abstained, column], first.loc[abstained, column])
    check_against_route(router, PathProbabilities(values, router.paths_), told)


def test_rows_of_another_shape_are_refused() -> None:
    router, new = fitted()
    values = np.asarray(new)
    for wrong in (values[0, :4], values[:2, :4], values[0].T):
        with pytest.raises(ValueError, match="6"):
            router.explain_route(wrong)
    with pytest.raises(ValueError, match="classes"):
        router.explain_route(np.full((6, 2), 0.5))
    with pytest.raises(ValueError, match="got an array of shape"):
        router.explain_route(values[0, 0])
    with pytest.raises(ValueError, match="0 sample"):
        router.explain_route(new[:0])
    with pytest.raises(ValueError, match="fitted with"):
        router.explain_route(make_path_probabilities(2, TREES["cascade"])[0])
    with pytest.raises(TypeError, match="sparse"):
        router.explain_route(sparse.csr_array(values[0]))
    bad = values[0].copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        router.explain_route(bad)


def test_a_router_that_is_not_fitted_explains_nothing() -> None:
    with pytest.raises(NotFittedError):
        CostAwareRouter().explain_route(np.full((1, 2, 2), 0.5))
