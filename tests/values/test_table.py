"""The table: slicing, files, labels of black boxes, and messages about bad rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from skquee import CostAwareRouter, PathProbabilities, PathTree
from skquee.testing import make_path_probabilities
from skquee.values._as_table import as_path_probabilities
from skquee.values._checks import check_probabilities


@pytest.mark.parametrize(
    "key",
    [
        [3, 1, 1],
        np.array([5, 0]),
        np.arange(20) % 3 == 0,
        slice(4, 11, 2),
        slice(None, None, -1),
        (np.array([2, 7]), Ellipsis),
        (slice(0, 5), Ellipsis),
    ],
    ids=str,
)
def test_rows_are_selected_as_from_an_array_and_again_from_the_selection(key: Any) -> None:
    table, _ = make_path_probabilities(20)
    values = np.asarray(table)
    part = table[key]
    assert isinstance(part, PathProbabilities)
    assert part.paths is table.paths
    assert np.array_equal(np.asarray(part), values[key])
    assert part.shape == values[key].shape
    assert np.array_equal(np.asarray(part[[1, 0]]), values[key][[1, 0]])
    assert np.array_equal(np.asarray(part[:1]), values[key][:1])


def test_other_keys_give_arrays() -> None:
    table, _ = make_path_probabilities(8)
    values = np.asarray(table)
    assert np.array_equal(table[3], values[3])
    assert np.array_equal(table[[2, 1]][:, 0], values[[2, 1]][:, 0])
    assert np.array_equal(table[2:4, 1, 0], values[2:4, 1, 0])
    assert np.array_equal(_safe_indexing(table, [4, 2]), values[[4, 2]])


def test_a_mask_of_the_wrong_length_fails() -> None:
    table, _ = make_path_probabilities(8)
    with pytest.raises(IndexError):
        table[np.ones(7, dtype=bool)]


def test_array_conversion_copies_only_when_it_must() -> None:
    table, _ = make_path_probabilities(8)
    values = np.asarray(table)
    assert np.shares_memory(np.asarray(table[2:5]), values)
    assert not np.shares_memory(np.array(table, copy=True), values)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(table[[0, 2]], copy=False)


class Watched(np.ndarray):
    """An array that notes how many rows are read from it."""

    read: list[int] = []

    def __getitem__(self, key: Any) -> Any:
        out = super().__getitem__(key)
        Watched.read.append(np.shape(out)[0] if np.ndim(out) else 0)
        return out


def test_a_subset_reads_only_its_rows() -> None:
    table, _ = make_path_probabilities(1000)
    watched = PathProbabilities(np.asarray(table).view(Watched), table.paths)
    Watched.read = []
    part = watched[np.arange(500)][np.array([7, 400])]
    assert Watched.read == []
    assert part.path("8").shape == (2, 4)
    assert Watched.read and max(Watched.read) == 2


def test_a_pickle_holds_its_own_rows_only(tmp_path: Path) -> None:
    table, _ = make_path_probabilities(2000)
    table.save(tmp_path / "t.npz")
    for source in (table, PathProbabilities.load(tmp_path / "t.npz")):
        for part in (source[np.arange(0, 2000, 200)], source[:10]):
            data = pickle.dumps(part)
            assert len(data) < 10 * 6 * 4 * 8 + 2000
            assert np.array_equal(np.asarray(pickle.loads(data)), np.asarray(part))
            assert pickle.loads(data).paths == table.paths


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("dtype", [None, "float16", "float32"])
def test_a_saved_table_loads_with_its_tree(tmp_path: Path, mmap: bool, dtype: Any) -> None:
    table, _ = make_path_probabilities(30)
    table = table.with_paths(table.paths.with_classes(["a", "b", "c", "d"]))
    table[5:25].save(tmp_path / "t.npz", dtype=dtype)
    again = PathProbabilities.load(tmp_path / "t.npz", mmap=mmap)
    assert again.paths == table.paths
    assert again.dtype == (dtype or np.float64)
    assert isinstance(again._base, np.memmap) is mmap
    assert np.array_equal(np.asarray(again), np.asarray(table)[5:25].astype(again.dtype))
    assert [file.name for file in tmp_path.iterdir()] == ["t.npz"]


def test_a_compressed_file_loads_too(tmp_path: Path) -> None:
    table, _ = make_path_probabilities(6)
    table.save(tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as archive:
        np.savez_compressed(tmp_path / "z.npz", **archive)
    assert np.array_equal(np.asarray(PathProbabilities.load(tmp_path / "z.npz")), np.asarray(table))


def test_a_plain_npy_needs_a_tree(tmp_path: Path) -> None:
    table, _ = make_path_probabilities(6)
    np.save(tmp_path / "t.npy", np.asarray(table))
    with pytest.raises(ValueError, match=r"no tree beside it \(t\.npy\.json\): pass paths="):
        PathProbabilities.load(tmp_path / "t.npy")
    again = PathProbabilities.load(tmp_path / "t.npy", paths=table.paths)
    assert np.array_equal(np.asarray(again), np.asarray(table))
    np.savez(tmp_path / "other.npz", stuff=np.zeros(2))
    with pytest.raises(ValueError, match="holds .'stuff'., not"):
        PathProbabilities.load(tmp_path / "other.npz")


def test_a_failed_save_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = make_path_probabilities(6)
    file = tmp_path / "t.npz"
    table.save(file)
    before = file.read_bytes()

    def full_disk(stream: Any, **arrays: Any) -> None:
        stream.write(b"PK half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    for name in ("t.npz", "new.npz"):
        with pytest.raises(OSError, match="No space"):
            table[:3].save(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.npz"]
    assert file.read_bytes() == before


@pytest.mark.parametrize("n_classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_label_of_a_black_box_stays_the_answer_at_any_confidence(
    n_classes: int, dtype: str
) -> None:
    names = np.array([f"c{i:04d}" for i in range(n_classes)])[::-1]
    rng = np.random.default_rng(0)
    labels = rng.choice(names, size=(40, 2))
    scores = rng.random((40, 2))
    scores[:3] = [[0, 1], [1 / n_classes, 0.5], [1e-9, 1 - 1e-9]]
    table = PathProbabilities.from_labels(labels, scores, names, step_costs=[1, 3])
    values = np.asarray(table).astype(dtype)
    assert (names[values.argmax(axis=2)] == labels).all()
    check_probabilities(values, 0, table.paths.names)
    kept = scores > 1.002 / n_classes
    assert np.allclose(np.asarray(table).max(axis=2)[kept], scores[kept], atol=1e-6)
    assert table.paths.classes == tuple(names)
    assert table.paths.costs == (1, 4)


@pytest.mark.parametrize(
    ("labels", "scores", "options", "message"),
    [
        ([["a"]], [[0.5]], {"classes": ["b", "c"]}, r"holds \['a'\]"),
        ([["a"]], [[1.2]], {}, r"lie in \[0, 1\]"),
        ([["a"]], [[-0.1]], {}, r"lie in \[0, 1\]"),
        ([["a"]], [[np.nan]], {}, "not be NaN"),
        (["a"], [0.5], {}, r"shape \(n_samples, n_columns\)"),
        ([["a"]], [[0.5, 0.5]], {}, r"\(1, 1\) and \(1, 2\)"),
        ([["a"]], [[0.5]], {"classes": ["a"]}, "at least 2 labels"),
        ([["a"]], [[0.5]], {"paths": PathTree.chain([1])}, "not both"),
        ([["a"]], [[0.5]], {"step_costs": None}, "Costs are left out: give step_costs="),
        ([["a"]], [[0.5]], {"step_costs": [1, 2]}, "step_costs must be 1 numbers, one a class"),
    ],
)
def test_bad_labels_and_confidences_fail(
    labels: Any, scores: Any, options: Any, message: str
) -> None:
    options = {"classes": ["a", "b"], "step_costs": [1], **options}
    with pytest.raises(ValueError, match=message):
        PathProbabilities.from_labels(labels, scores, **options)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([np.nan, 0.5, 0.5], "NaN for row 12, path 'b'"),
        ([np.inf, 0.5, 0.5], "infinity for row 12, path 'b'"),
        ([-0.5, 1.0, 0.5], "negative probability -0.5 for row 12, path 'b'"),
        ([0.1, 0.2, 0.3], "row 12, path 'b' sum to 0.6"),
    ],
)
def test_a_bad_vector_is_named_by_row_and_path(vector: list[float], message: str) -> None:
    block = np.full((4, 2, 3), 1 / 3)
    block[2, 1] = vector
    with pytest.raises(ValueError, match=message):
        check_probabilities(block, 10, ["a", "b"])
    with pytest.raises(ValueError, match=message):
        check_probabilities(
            block[:, 1], np.array([3, 7, 12, 1]), np.array(["a", "a", "b", "a"], dtype=object)
        )


@pytest.mark.parametrize("vector", [[2.0, 3.0, -1.0], [2.0, 3.0, 1.0]])
def test_logits_get_a_hint_and_small_sums_do_not(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="apply a softmax first"):
        check_probabilities(np.array([[vector]]), 0, ["a"])
    with pytest.raises(ValueError) as caught:
        check_probabilities(np.array([[[0.1, 0.2, 0.3]]]), 0, ["a"])
    assert "softmax" not in str(caught.value)


def test_float16_is_precise_enough_and_is_widened_when_read() -> None:
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.full(1000, 0.1), size=(50, 2)).astype(np.float16)
    check_probabilities(values, 0, ["a", "b"])
    table = PathProbabilities(values, PathTree.chain([1, 1]))
    assert table.path("2").dtype == np.float32
    assert table.walk().advance(np.arange(3), np.zeros(3, dtype=int)).dtype == np.float32


def test_what_is_not_a_table_fails_with_what_was_got() -> None:
    tree = PathTree.chain([1, 1])
    with pytest.raises(ValueError, match=r"n_paths, n_classes\), got .* shape \(4, 2\)"):
        as_path_probabilities(np.zeros((4, 2)), tree)
    with pytest.raises(ValueError, match="X has 3 paths, but the tree has 2"):
        as_path_probabilities(np.zeros((4, 3, 2)), tree)
    with pytest.raises(ValueError, match="X has 2 classes, but the tree has 3"):
        as_path_probabilities(np.zeros((4, 2, 2)), tree.with_classes(list("abc")))
    with pytest.raises(ValueError, match="bare array, so the paths are not known"):
        as_path_probabilities(np.zeros((4, 2, 2)))
    with pytest.raises(ValueError, match="bank used in fit"):
        as_path_probabilities(
            PathProbabilities(np.zeros((4, 3, 2)), PathTree.chain([1, 1, 1])), tree
        )
    assert as_path_probabilities(np.zeros((4, 2, 2)), path_costs=[3, 9]).paths.costs == (3, 9)


def test_a_bare_array_with_costs_is_a_chain_of_whole_path_costs() -> None:
    table, y = make_path_probabilities(100, PathTree.chain([1, 2, 5]))
    router = CostAwareRouter(path_costs=[10, 30, 80], random_state=0, cross_fit=1)
    fitted = clone(router).fit(np.asarray(table), y)
    assert fitted.paths_.costs == (10, 30, 80)
    assert fitted.paths_.parents == (-1, 0, 1)


def test_classes_given_in_another_order_than_columns_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [0.9, 0.2], "b": [0.1, 0.8]})
    for classes in (["a", "b"], ["first", "second"]):
        table = PathProbabilities.from_arrays([frame], step_costs=[1], classes=classes)
        assert table.paths.classes == tuple(classes)
    with pytest.raises(ValueError, match="classes must stand in the order of the frames' columns"):
        PathProbabilities.from_arrays([frame], step_costs=[1], classes=["b", "a"])
