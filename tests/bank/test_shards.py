"""Tables in folders of shards: written by tasks, resumed, checked, opened anywhere."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.naive_bayes import GaussianNB

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.bank import _shards
from skquee.values._atomic import held

RNG = np.random.default_rng(0)
Y = RNG.integers(3, size=240)
X = RNG.normal(size=(240, 4)) + Y[:, None]


class Models:
    """Two classifiers that count their rows and may break."""

    def __init__(self, fail_at: int | None = None, turned: bool = False) -> None:
        self.fail_at, self.calls = fail_at, []
        self.models = [GaussianNB().fit(X[:, :k], Y[::-1] if turned else Y) for k in (1, 4)]

    def bank(self, **options: Any) -> MultiPathClassifierBank:
        named = [("small", self.small), ("large", self.large)]
        options = {"step_costs": [1, 9], "classes": [0, 1, 2], **options}
        return MultiPathClassifierBank(named, **options).fit(X)

    def small(self, rows: NDArray[Any]) -> NDArray[Any]:
        self.calls.append(len(rows))
        if self.fail_at is not None and len(self.calls) > self.fail_at:
            raise ConnectionError("lost the line")
        return self.models[0].predict_proba(rows[:, :1])

    def large(self, rows: NDArray[Any]) -> NDArray[Any]:
        return self.models[1].predict_proba(rows)


def whole(models: Models | None = None) -> NDArray[Any]:
    return np.asarray((models or Models()).bank().materialize(X, batch_size=30))


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
def test_shards_hold_the_same_bits_as_the_whole_by_any_backend(
    tmp_path: Path, backend: str
) -> None:
    with joblib.parallel_config(backend, n_jobs=2):
        table = Models().bank().materialize(X, out=tmp_path / "t", shards=5, batch_size=30)
    assert type(table) is PathProbabilities
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == [
        *(f"shard-{i:05d}.npz" for i in range(5)),
        "table.json",
    ]
    again = PathProbabilities.open(tmp_path / "t")
    direct = np.concatenate(
        [
            np.asarray(Models().bank().materialize(X[a : a + 48], batch_size=30))
            for a in range(0, 240, 48)
        ]
    )
    for found in (table, again):
        assert np.array_equal(np.asarray(found), direct)
        assert found.paths == Models().bank().paths_


def test_a_run_cut_short_goes_on_with_the_missing_shards_only(tmp_path: Path) -> None:
    broken = Models(fail_at=2)
    with pytest.raises(RuntimeError, match="'small' raised ConnectionError"):
        broken.bank().materialize(X, out=tmp_path / "t", shards=4)
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "t").glob("shard*")}
    assert sorted(kept) == ["shard-00000.npz", "shard-00001.npz"]
    with pytest.raises(ValueError, match=r"t is half written: 2 of 4 shards are missing \(shard-"):
        PathProbabilities.open(tmp_path / "t")
    models = Models()
    table = models.bank().materialize(X, out=tmp_path / "t", shards=4)
    assert models.calls == [1, 1, 60, 60]  # a row of each that is there tells other weights
    assert np.allclose(np.asarray(table), whole(), rtol=0, atol=1e-12)
    for name, changed in kept.items():
        assert (tmp_path / "t" / name).stat().st_mtime_ns == changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rows", "another table \\(rows of input differ\\)"),
        ("dtype", "another table \\(type differ\\)"),
        ("shards", "another table \\(shards differ\\)"),
        ("costs", "another table \\(tree differ\\)"),
        ("weights", "written by other classifiers"),
    ],
)
def test_a_folder_of_another_table_is_refused_and_left_as_it_is(
    tmp_path: Path, change: str, message: str
) -> None:
    Models().bank().materialize(X, out=tmp_path / "t", shards=4)
    before = {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()}
    options: dict[str, Any] = {"shards": 4}
    rows, bank = X, Models(turned=change == "weights").bank()
    if change == "rows":
        rows = X[::-1]
    elif change == "costs":
        bank = Models().bank(step_costs=[1, 2])
    elif change != "weights":
        options |= {"dtype": {"dtype": "float32"}, "shards": {"shards": 5}}[change]
    with pytest.raises(ValueError, match=message):
        bank.materialize(rows, out=tmp_path / "t", **options)
    assert {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()} == before


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds \['notes.txt'\], which are no shards"):
        Models().bank().materialize(X, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_two_writers_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    with held(folder / "table.json", "writing"), pytest.raises(BlockingIOError, match="wait"):
        Models().bank().materialize(X, out=folder)


def test_a_shard_of_another_table_is_refused(tmp_path: Path) -> None:
    Models().bank().materialize(X, out=tmp_path / "a", shards=4)
    Models().bank().materialize(X[::-1], out=tmp_path / "b", shards=4)
    shutil.copy(tmp_path / "a" / "shard-00001.npz", tmp_path / "b" / "shard-00001.npz")
    for refused in (
        lambda: PathProbabilities.open(tmp_path / "b"),
        lambda: Models().bank().materialize(X[::-1], out=tmp_path / "b", shards=4),
    ):
        with pytest.raises(ValueError, match="shard-00001.npz is shard 1 of another table"):
            refused()
    shutil.copy(tmp_path / "a" / "shard-00001.npz", tmp_path / "a" / "shard-00002.npz")
    with pytest.raises(ValueError, match=r"shard-00002.npz is shard 1 of this table\. Put back"):
        PathProbabilities.open(tmp_path / "a")


def test_a_damaged_shard_is_found_before_anything_goes_on(tmp_path: Path) -> None:
    Models().bank().materialize(X, out=tmp_path / "t", shards=4)
    file = tmp_path / "t" / "shard-00003.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="shard-00003.npz.* is not a whole shard of a table"):
        Models().bank().materialize(X, out=tmp_path / "t", shards=4)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError, match="shard-00003.npz is not a whole shard of a table.*goes on with"
    ):
        PathProbabilities.open(tmp_path / "t")


def test_a_folder_of_a_later_release_is_refused(tmp_path: Path) -> None:
    Models().bank().materialize(X, out=tmp_path / "t")
    file = tmp_path / "t" / "table.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2, "skquee": "9.1"}))
    with pytest.raises(ValueError, match="was written by skquee 9.1 in format 2; .* Update"):
        PathProbabilities.open(tmp_path / "t")


def test_a_worker_of_another_release_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _shards._run_shard

    def elsewhere(*args: Any) -> int:
        return real(*args[:-1], "0.0.1")

    monkeypatch.setattr(_shards, "_run_shard", elsewhere)
    with pytest.raises(RuntimeError, match="the process that sent the task runs 0.0.1: install"):
        Models().bank().materialize(X, out=tmp_path / "t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 0}, "shards must be an integer >= 1"),
        ({"shards": 2.5}, "shards must be"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"dtype": "int8"}, "float64, got int8"),
        ({"out": None, "shards": 2}, "for a folder of shards, got out=None"),
        ({"out": "t.npy", "n_jobs": 2}, "for a folder of shards, got out='t.npy'"),
        ({"out": "t.csv"}, "must end in .npy, or name a folder"),
        ({"out": "s3://bucket/t/"}, "it is an address; take a place on this machine"),
        ({"out": "memory://t.npy"}, "it is an address; take a place on this machine"),
    ],
)
def test_bad_options_fail_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    models = Models()
    with pytest.raises((TypeError, ValueError), match=message):
        models.bank().materialize(X, **{"out": "t", **options})
    assert models.calls == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_known_of_rows_comes_back(tmp_path: Path) -> None:
    lazy = Models().bank().transform(X).with_context(X[:, :2]).with_call_costs(np.ones((240, 2)))
    lazy.materialize(out=tmp_path / "t", shards=3)
    table = PathProbabilities.open(tmp_path / "t")
    assert table.context is not None and np.array_equal(table.context, X[:, :2])
    assert np.array_equal(table[5:9].row_path_costs(), lazy[5:9].row_path_costs())


# ---------------------------------------------------------------------- open and read


@pytest.fixture
def opened(tmp_path: Path) -> tuple[PathProbabilities, NDArray[Any]]:
    Models().bank().materialize(X, out=tmp_path / "t", shards=7, dtype="float32")
    table = PathProbabilities.open(tmp_path / "t")
    return table, np.array(table)


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(30, 200),
        slice(40, 40),
        slice(200, 3, -7),
        np.array([239, 0, 34, 35, 34]),
        np.array([-1, 5]),
        np.arange(240) % 3 == 0,
        np.array([], dtype=int),
    ],
)
def test_rows_over_several_shards_are_those_of_the_whole(
    opened: tuple[PathProbabilities, NDArray[Any]], rows: Any
) -> None:
    table, exact = opened
    part = table[rows]
    assert np.array_equal(np.asarray(part), exact[rows])
    assert np.array_equal(part.path(1), exact[rows][:, 1])
    assert np.array_equal(np.asarray(part[1:]), exact[rows][1:])
    assert np.array_equal(table[7], exact[7])
    assert np.array_equal(table[100:150, 1, 2], exact[100:150, 1, 2])
    back = pickle.loads(pickle.dumps(part))
    assert np.array_equal(np.asarray(back), exact[rows])


def test_a_router_over_shards_is_the_router_over_one_array(
    opened: tuple[PathProbabilities, NDArray[Any]],
) -> None:
    table, exact = opened
    fitted = [
        CostAwareRouter(0.01, random_state=0).fit(t, Y)
        for t in (table, PathProbabilities(exact, table.paths))
    ]
    curves = [router.cost_curve(X=t, y=Y) for router, t in zip(fitted, (table, exact), strict=True)]
    assert np.array_equal(curves[0].accuracy, curves[1].accuracy)
    assert np.array_equal(fitted[0].predict(table), fitted[1].predict(exact))


def test_concatenated_tables_read_as_one(opened: tuple[PathProbabilities, NDArray[Any]]) -> None:
    table, exact = opened
    joined = PathProbabilities.concatenate([table, table[10:20], table[[3, 1]]])
    assert np.array_equal(np.asarray(joined), exact[[*range(240), *range(10, 20), 3, 1]])
    assert np.array_equal(np.asarray(joined[235:245]), exact[[*range(235, 240), *range(10, 15)]])
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(joined))), np.asarray(joined))


def test_concatenate_refuses_what_does_not_belong_together(
    opened: tuple[PathProbabilities, NDArray[Any]],
) -> None:
    table, _ = opened
    lazy = Models().bank().transform(X)
    for tables, message in (
        ([], "no tables"),
        ([table, table.with_paths(table.paths.with_costs([1, 2]))], "another tree than table 0"),
        ([table, lazy], "only stored tables"),
        ([table.with_context(X), table], "Some tables have context"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            PathProbabilities.concatenate(tables)


def test_zarr_is_opened_with_its_tree(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    tree = PathTree.chain([1, 1])
    values = RNG.dirichlet(np.ones(3), size=(50, 2)).astype(np.float32)
    array = zarr.create_array(tmp_path / "t.zarr", shape=values.shape, chunks=(8, 2, 3), dtype="f4")
    array[:] = values
    with pytest.raises(ValueError, match="has no tree: pass paths="):
        PathProbabilities.open(tmp_path / "t.zarr")
    table = PathProbabilities.open(tmp_path / "t.zarr", tree)
    rows = np.array([30, 2, 9])
    assert np.array_equal(np.asarray(table[rows]), values[rows])
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(table[rows]))), values[rows])
    array.attrs["skquee_paths"] = tree.to_dict()
    assert PathProbabilities.open(tmp_path / "t.zarr").paths == tree
    array.attrs["skquee_paths"] = {"names": 3}
    with pytest.raises(ValueError, match="not a whole tree of paths"):
        PathProbabilities.open(tmp_path / "t.zarr")
    (tmp_path / "t.zarr" / "c" / "0" / "0" / "0").write_bytes(b"no chunk")
    with pytest.raises(OSError, match=r"Rows of .*t\.zarr cannot be read"):
        np.asarray(table)


def test_an_address_is_read_as_the_folder_it_is_a_copy_of(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    Models().bank().materialize(X, out=tmp_path / "t", shards=4)
    exact = np.asarray(PathProbabilities.open(tmp_path / "t"))
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / "t"), "/bucket/t", recursive=True)
    try:
        table = PathProbabilities.open("memory://bucket/t")
        rows = np.array([200, 3, 61, 60, 3])
        assert np.array_equal(np.asarray(table), exact)
        assert np.array_equal(np.asarray(table[rows]), exact[rows])
        assert np.array_equal(table[rows].path(0), exact[rows, 0])
        assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(table))), exact)
        files.rm("/bucket/t/shard-00002.npz")
        with pytest.raises(ValueError, match="memory://bucket/t is half written: 1 of 4"):
            PathProbabilities.open("memory://bucket/t")
    finally:
        files.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "neither a file nor a folder nowhere"),
        ("memory://nowhere/at/all", FileNotFoundError, "no folder at the address memory://nowhere"),
        ("nosuch://bucket/t", ValueError, "address nosuch://bucket/t cannot be read"),
        ("zip://t::no.zip", FileNotFoundError, "no folder at the address zip://t::no.zip"),
        (f"file://{__file__}", NotADirectoryError, "is a file's: give that of a folder"),
        (f"zip://t::{__file__}", OSError, "cannot be read: BadZipFile: File is not a zip file"),
        (".", FileNotFoundError, "holds no table"),
    ],
)
def test_an_address_that_does_not_exist_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    error: type[Exception],
    message: str,
) -> None:
    if "://" in address:
        pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        PathProbabilities.open(address)


def test_a_large_mapped_table_travels_by_the_name_of_its_file(tmp_path: Path) -> None:
    tree = PathTree.chain([1, 1])
    values = RNG.dirichlet(np.ones(50), size=(3000, 2))
    PathProbabilities(values, tree).save(tmp_path / "t.npz")
    table = PathProbabilities.load(tmp_path / "t.npz")
    part = table[1000:2900]
    for sent, exact in (
        (table, values),
        (part, values[1000:2900]),
        (table[[5, 2]], values[[5, 2]]),
    ):
        data = pickle.dumps(sent)
        assert len(data) < 3000
        assert np.array_equal(np.asarray(pickle.loads(data)), exact)
    data = pickle.dumps(table)
    PathProbabilities(values[:2900], tree).save(tmp_path / "t.npz")
    with pytest.raises(ValueError, match="has been written anew since"):
        pickle.loads(data)
    (tmp_path / "t.npz").unlink()
    with pytest.raises(FileNotFoundError, match="sent by the name of its file"):
        pickle.loads(data)
    # What the file no longer holds travels as values.
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(table))), values)
