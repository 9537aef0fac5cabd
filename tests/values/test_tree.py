"""The tree of paths: sizes, costs, codes, and what every tree promises."""

from __future__ import annotations

import itertools
import json
import pickle

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skquee import CostAwareRouter, PathTree


@pytest.mark.parametrize(
    ("levels", "n_exits", "everything", "monotone", "paper"),
    [
        ((5, 6, 7), 3, 39, 19, 10),
        ((5, 6, 7, 8), 3, 84, 34, 15),
        ((6, 8), 4, 30, 14, 10),
        ((6, 7, 8), 5, 363, 55, 35),
    ],
)
def test_number_of_paths_is_the_papers(
    levels: tuple[int, ...], n_exits: int, everything: int, monotone: int, paper: int
) -> None:
    def count(**options: object) -> int:
        return PathTree.from_levels(n_exits, levels, max_paths=None, **options).n_paths  # type: ignore[arg-type]

    assert count(monotone=False, first="free") == everything
    assert count(first="free") == monotone
    assert count() == paper


def test_monotone_trees_never_go_back_up_and_start_at_the_highest_level() -> None:
    tree = PathTree.from_levels(4, (2, 4, 8))
    for path in range(tree.n_paths):
        steps = tree.steps(path)
        assert steps[0] == 8
        assert list(steps) == sorted(steps, reverse=True)


def test_encoding_is_equation_14() -> None:
    tree = PathTree.from_levels(3, (5, 8))
    for path in range(tree.n_paths):
        steps = tree.steps(path)
        code = [*steps, *[0] * (tree.n_exits - len(steps)), len(steps)]
        assert tree.encoding[path].tolist() == code


def test_encoding_of_named_levels_counts_them() -> None:
    tree = PathTree.from_paths(
        [("int8",), ("int8", "fp32"), ("int8", "int8")], path_costs=[1, 5, 2]
    )
    assert tree.encoding.tolist() == [[1, 0, 1], [1, 2, 2], [1, 1, 2]]


def test_costs_are_equation_17() -> None:
    flops, levels = [3.0, 5.0, 2.0], (4, 6, 8)
    tree = PathTree.from_levels(3, levels, flops, first="free")
    for path in range(tree.n_paths):
        steps = tree.steps(path)
        ran = sum(flops[i] * bits for i, bits in enumerate(steps))  # type: ignore[operator,misc]
        assert tree.path_costs[path] == pytest.approx(ran)
    equal = PathTree.from_levels(3, levels, first="free")
    assert equal.path_costs.max() == 1
    assert equal.cost_unit == "of the whole network"


def test_costs_of_every_block_at_every_level_follow_the_given_order_of_levels() -> None:
    tree = PathTree.from_levels(2, (8, 4), [[10, 1], [20, 2]])
    assert dict(zip(tree.names, tree.costs, strict=True)) == {"8": 10, "8-4": 12, "8-8": 30}
    named = PathTree.from_levels(2, ("low", "high"), [[1, 10], [2, 20]], first="free")
    assert named.costs[named.index("high-low")] == 12
    with pytest.raises(ValueError, match=r"not numbers.*shape \(2, 2\), got \(2,\)"):
        PathTree.from_levels(2, ("low", "high"), [1, 2])
    with pytest.raises(ValueError, match="block_costs must have shape"):
        PathTree.from_levels(2, (4, 8), [1, 2, 3])


@pytest.mark.parametrize("first", ["free", "highest"])
@pytest.mark.parametrize("monotone", [True, False])
def test_a_sampled_tree_keeps_the_fullest_path_every_prefix_and_the_bound(
    first: str, monotone: bool
) -> None:
    def build(seed: int, max_paths: int = 30) -> PathTree:
        return PathTree.from_levels(
            6, (2, 4, 6, 8), first=first, monotone=monotone, max_paths=max_paths, random_state=seed
        )

    tree = build(0)
    whole = PathTree.from_levels(6, (2, 4, 6, 8), first=first, monotone=monotone, max_paths=None)
    assert 25 <= tree.n_paths <= 30
    assert set(tree.names) < set(whole.names)
    assert tree.names[tree.fullest] == "8-8-8-8-8-8"
    kept = {tree.steps(path) for path in range(tree.n_paths)}
    assert all(steps[:end] in kept for steps in kept for end in range(1, len(steps)))
    for path, name in enumerate(tree.names):
        assert tree.costs[path] == pytest.approx(whole.costs[whole.index(name)])
    assert build(0) == tree
    assert any(build(seed) != tree for seed in (1, 2))
    with pytest.raises(ValueError, match="max_paths=5 cannot hold"):
        build(0, max_paths=5)


def test_sampling_does_not_list_every_path_of_a_huge_tree() -> None:
    tree = PathTree.from_levels(
        24, tuple(range(2, 9)), monotone=False, max_paths=40, random_state=0
    )
    assert tree.n_exits == 24
    assert tree.n_paths <= 40


def test_cascade_lists_every_increasing_sequence_with_columns_and_costs() -> None:
    costs = [1.0, 4.0, 10.0, 5.0]
    tree = PathTree.cascade(costs, names=["a", "b", "c", "d"])
    expected = {
        "-".join("abcd"[i] for i in sequence): (sequence[-1], sum(costs[i] for i in sequence))
        for length in range(1, 5)
        for sequence in itertools.combinations(range(4), length)
    }
    found = {
        name: (column, cost)
        for name, column, cost in zip(tree.names, tree.columns, tree.costs, strict=True)  # type: ignore[arg-type]
    }
    assert found == expected
    assert tree.n_columns == 4
    assert len(tree.roots) == 4
    for path, parent in enumerate(tree.parents):
        if parent >= 0:
            assert tree.names[path].rpartition("-")[0] == tree.names[parent]


def test_cascade_may_start_at_the_first_model_only_or_skip_nothing() -> None:
    lowest = PathTree.cascade([1, 2, 3], first="lowest", names=["a", "b", "c"])
    assert set(lowest.names) == {"a", "a-b", "a-c", "a-b-c"}
    assert PathTree.cascade([1, 2, 3], skip=False) == PathTree.chain([1, 2, 3])
    with pytest.raises(ValueError, match="63 paths, more than max_paths=50"):
        PathTree.cascade([1] * 6)
    with pytest.raises(ValueError, match="names has 1 entries"):
        PathTree.cascade([1, 2], names=["a"])


def test_a_missing_prefix_is_named() -> None:
    with pytest.raises(ValueError, match="'8-6-4' needs its prefix '8-6'"):
        PathTree.from_paths([(8,), (8, 6, 4)], path_costs=[1, 2])
    with pytest.raises(ValueError, match="parent must"):  # a prefix behind its path
        PathTree.from_paths([(8, 6), (8,)], path_costs=[2, 1])
    with pytest.raises(ValueError, match="same path twice"):
        PathTree.from_paths([(8,), (8,)], path_costs=[1, 1])
    with pytest.raises(ValueError, match="at least one step"):
        PathTree.from_paths([()], path_costs=[1])


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ([1.0, -2.0], "entry 1 is -2"),
        ([np.nan, 2.0], "entry 0 is nan"),
        ([1.0, np.inf], "entry 1 is inf"),
        ([1.0, 2.0, 3.0], "2 numbers, one a path, got an array of shape"),
        (["1", "2"], "must be numbers, one a path, got"),
        (None, "got none"),
        ([[1.0, 2.0]], "got an array of shape"),
    ],
)
def test_bad_costs_fail_with_the_entry(costs: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathTree.from_paths([(8,), (8, 6)], path_costs=costs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        PathTree.chain([1, 1]).with_costs(costs)  # type: ignore[arg-type]


def test_costs_that_fall_along_a_path_warn() -> None:
    with pytest.warns(UserWarning, match="'8-6' costs 1, less than its prefix '8'"):
        PathTree.from_paths([(8,), (8, 6)], path_costs=[4, 1])
    with pytest.warns(UserWarning, match="Costs are those of whole paths"):
        PathTree.chain([1, 1]).with_costs([3, 1])


def test_a_tree_checks_its_fields() -> None:
    with pytest.raises(ValueError, match=r"unique, but \['a'\] repeat"):
        PathTree(("a", "a"), (-1, -1), (1, 2), (1, 2))
    with pytest.raises(ValueError, match="levels has 1 entries, but there are 2"):
        PathTree(("a", "b"), (-1, -1), (1,), (1, 2))
    with pytest.raises(ValueError, match="every number from 0 up"):
        PathTree(("a", "b"), (-1, -1), (1, 2), (1, 2), columns=(0, 2))
    with pytest.raises(ValueError, match="at least one path"):
        PathTree((), (), (), ())
    with pytest.raises(ValueError, match="distinct labels"):
        PathTree.chain([1], classes=["a", "a"])
    with pytest.raises(ValueError, match="no path 'x'"):
        PathTree.chain([1]).index("x")
    with pytest.raises(ValueError, match="indices run from 0 to 0"):
        PathTree.chain([1]).index(1)
    for wrong in ({"n_exits": 0, "levels": (8,)}, {"n_exits": 1, "levels": (8, 8)}):
        with pytest.raises(ValueError, match="at least one|integer >= 1"):
            PathTree.from_levels(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first must be"):
        PathTree.from_levels(1, (8,), first="lowest")


def test_new_costs_keep_everything_else() -> None:
    tree = PathTree.from_levels(2, (4, 8), classes=["a", "b"])
    dear = tree.with_costs([10, 20, 40])
    assert dear.same_structure(tree)
    assert dear.costs == (10, 20, 40)
    assert dear.classes == ("a", "b")
    assert tree.costs[-1] == 1.0
    assert not tree.same_structure(PathTree.chain([1, 1, 1]))


def test_json_pickle_clone_and_hash_see_equal_trees_as_equal() -> None:
    tree = PathTree.cascade([1, 2, 4], classes=np.array(["x", "y"]))
    used = PathTree.cascade([1, 2, 4], classes=np.array(["x", "y"]))
    used.encoding, used.ancestors, used.fullest  # noqa: B018 - fills the caches
    again = PathTree(**json.loads(json.dumps(tree.to_dict())))
    restored = pickle.loads(pickle.dumps(used))
    for other in (used, again, restored):
        assert other == tree
        assert hash(other) == hash(tree)
        assert joblib.hash(other) == joblib.hash(tree)
    assert joblib.hash(tree.with_costs(np.arange(7.0))) != joblib.hash(tree)
    assert clone(CostAwareRouter(paths=tree)).paths == tree


def test_arrays_of_a_tree_cannot_be_changed() -> None:
    tree = PathTree.chain([1, 1])
    with pytest.raises(ValueError, match="read-only"):
        tree.path_costs[0] = 5


trees = st.one_of(
    st.builds(
        lambda e, b, m, f, k, s: PathTree.from_levels(
            e, tuple(range(2, 2 + b)), monotone=m, first=f, max_paths=max(e, k), random_state=s
        ),
        st.integers(1, 5),
        st.integers(1, 3),
        st.booleans(),
        st.sampled_from(["free", "highest"]),
        st.integers(5, 50),
        st.integers(0, 5),
    ),
    st.builds(PathTree.chain, st.lists(st.floats(0.1, 9), min_size=1, max_size=5)),
    st.builds(PathTree.cascade, st.lists(st.floats(0.1, 9), min_size=1, max_size=4)),
)


@settings(max_examples=60, deadline=None)
@given(trees)
def test_every_tree_holds_every_prefix_and_its_views_agree(tree: PathTree) -> None:
    assert tree.depths.max() == tree.n_exits
    for path in range(tree.n_paths):
        line = tree.prefixes(path)
        assert line[-1] == path
        assert [tree.steps(int(p)) for p in line] == [
            tree.steps(path)[:end] for end in range(1, len(line) + 1)
        ]
        assert all(path in tree.descendants(int(p)) for p in line)
        assert set(tree.children(path)) == {
            p for p in tree.descendants(path) if tree.depths[p] == tree.depths[path] + 1
        }
        assert tree.is_leaf(path) == (tree.descendants(path).tolist() == [path])
        assert tree.descendants(path)[0] == path
        assert (np.diff(tree.path_costs[line]) >= 0).all()
    assert sorted(p for root in tree.roots for p in tree.descendants(int(root))) == list(
        range(tree.n_paths)
    )
    assert tree.depths[tree.fullest] == tree.n_exits
