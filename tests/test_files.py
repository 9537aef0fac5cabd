from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skquee import PathProbabilities, PathTree
from skquee.baselines import ThresholdRouter
from skquee.testing import make_path_probabilities
from skquee.values._archives import open_arrays

NOT_WHOLE = "is not a whole (table file|tree of paths)"


@pytest.fixture(scope="module")
def table():
    return make_path_probabilities(50, random_state=0)[0].with_context(np.arange(50.0))


def npy(values, version=None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(values), version=version, allow_pickle=True)
    return stream.getvalue()


def header(shape: str, data: bytes = b"", descr: str = "'<f8'", version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(size, "little") + text + data


def archive(file: Path, table: PathProbabilities, compression=zipfile.ZIP_STORED, **members):
    """Write a table file with some members in place of its own."""
    own = {
        "values": npy(np.asarray(table)),
        "paths": npy(json.dumps(table.paths.to_dict())),
        "context": npy(table.context),
    }
    with zipfile.ZipFile(file, "w", compression) as zipped:
        for name, content in {**own, **members}.items():
            if content is not None:
                zipped.writestr(f"{name}.npy", content)
    return file


def tree(table: PathProbabilities, **changes) -> bytes:
    fields = {**table.paths.to_dict(), **changes}
    return npy(json.dumps({k: v for k, v in fields.items() if v is not Ellipsis}))


def refuses(file: Path, message: str, mmap=(True, False)) -> None:
    for mapped in mmap:
        with pytest.raises(ValueError, match=message):
            PathProbabilities.load(file, mmap=mapped)


# ---------------------------------------------------------------------- what is right


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("mmap", [True, False])
def test_a_table_comes_back_as_it_was_saved(table, tmp_path, dtype, mmap):
    table.save(tmp_path / "t.npz", dtype=dtype)
    loaded = PathProbabilities.load(tmp_path / "t.npz", mmap=mmap)
    assert loaded.paths == table.paths
    assert loaded.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(table).astype(dtype))
    np.testing.assert_array_equal(loaded.context, table.context)


def test_other_ways_to_write_the_same_are_read(table, tmp_path):
    values = np.asarray(table)
    for name, content in (
        ("fortran", npy(np.asfortranarray(values))),
        ("version 2", npy(values, version=(2, 0))),
    ):
        file = archive(tmp_path / "t.npz", table, values=content)
        for mmap in (True, False):
            np.testing.assert_array_equal(PathProbabilities.load(file, mmap=mmap), values, name)
    file = archive(tmp_path / "t.npz", table, zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(PathProbabilities.load(file), values)
    np.save(tmp_path / "t.npy", values)
    bare = PathProbabilities.load(tmp_path / "t.npy", table.paths)
    np.testing.assert_array_equal(bare, values)


def test_a_table_without_rows_comes_back(table, tmp_path):
    table[:0].save(tmp_path / "t.npz")
    assert PathProbabilities.load(tmp_path / "t.npz").shape == (0, *table.shape[1:])


def test_a_table_of_whole_numbers_is_saved_as_floats(table, tmp_path):
    values = np.asarray(table).round().astype(int)
    PathProbabilities(values, table.paths).save(tmp_path / "t.npz")
    assert PathProbabilities.load(tmp_path / "t.npz").dtype == np.float32


def test_what_could_not_be_read_again_is_not_written(table, tmp_path):
    for dtype in ("int8", "U4", "complex64", "longdouble", object, "nonsense"):
        with pytest.raises(ValueError, match=r"dtype must be float16, float32 or float64, got"):
            table.save(tmp_path / "t.npz", dtype=dtype)
    odd = PathTree(("a", "b"), (-1, 0), ((1, 2), (3, 4)), (1.0, 2.0))
    with pytest.raises(ValueError, match="levels and classes must be texts or numbers"):
        PathProbabilities(np.full((3, 2, 2), 0.5), odd).save(tmp_path / "t.npz")
    with pytest.raises(FileNotFoundError, match="does not exist: make it first"):
        table.save(tmp_path / "no" / "t.npz")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        table.save(tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- what is not


def test_what_is_no_table_file_is_refused(table, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        PathProbabilities.load(tmp_path / "missing.npz")
    refuses(tmp_path, f"{NOT_WHOLE}.*it is a folder")
    refuses(Path("/dev/null"), f"{NOT_WHOLE}.*no regular file")
    whole = tmp_path / "whole.npz"
    table.save(whole)
    content = whole.read_bytes()
    file = tmp_path / "cut.npz"
    for size in (0, 4, 100, *(int(len(content) * part) for part in (0.3, 0.7, 0.95, 0.999))):
        file.write_bytes(content[:size])
        refuses(file, NOT_WHOLE)
    file.write_text("neither")
    refuses(file, f"{NOT_WHOLE}.*begins neither")


def test_damage_inside_is_found(table, tmp_path):
    file = archive(tmp_path / "t.npz", table)
    content = bytearray(file.read_bytes())
    place = content.index('"names"'.encode("utf-32-le"))
    content[place + 4] ^= 1
    file.write_bytes(content)
    refuses(file, f"{NOT_WHOLE}.*CRC")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("{"), "JSON cannot be read"),
        (npy("[]"), "a list where an object"),
        (npy("null"), "a NoneType where an object"),
        (npy("{}"), "'names' is missing"),
        (npy("[" * 100_000), "nested too deep"),
        (npy(5), "array of type int64; a table file holds text"),
    ],
)
def test_a_tree_that_is_none_is_refused(table, tmp_path, member, message):
    file = archive(tmp_path / "t.npz", table, paths=member)
    refuses(file, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evil": 1}, r"fields that this release does not know: \['evil'\]"),
        ({"parents": ...}, "'parents' is missing"),
        ({"names": "abcdef"}, "'names' must be a list, got 'abcdef'"),
        ({"names": [1, 2, 3, 4, 5, 6]}, "'names' must hold texts, got 1"),
        ({"parents": [-1, 0.5, 0, 0, 1, 1]}, "'parents' must hold whole numbers, got 0.5"),
        ({"levels": [[8]] * 6}, r"'levels' must hold texts or numbers, got \[8\]"),
        ({"columns": [0, 1, 2, 3, 4, 10**9]}, "fewer than paths: 1000000000"),
        ({"columns": [0, 1, 2, 3, 4, -1]}, "fewer than paths: -1"),
        ({"columns": [True] * 6}, "'columns' must hold whole numbers"),
        ({"classes": [["a"], ["b"], ["c"], ["d"]]}, "'classes' must hold texts or numbers"),
        ({"classes": [0, 1]}, "X has 4 classes, but the tree has 2"),
        ({"costs": [1, 2, 3, 4, 5, float("nan")]}, "'costs' must hold numbers, got nan"),
        ({"costs": [1, 2, 3, 4, 5, "6"]}, "'costs' must hold numbers, got '6'"),
        ({"costs": [1, 2, 3, 4, 5, -6]}, "negative|>= 0"),
        ({"cost_unit": 5}, "'cost_unit' must be a text or null, got 5"),
    ],
)
def test_fields_of_a_tree_are_checked(table, tmp_path, changes, message):
    file = archive(tmp_path / "t.npz", table, paths=tree(table, **changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # costs that fall
        refuses(file, message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (npy(np.full((50, 6, 4), "0.25")), "array of type <U4; a table file holds float16"),
        (npy(np.full((50, 6, 4), 0.25j)), "array of type complex128"),
        (npy(np.zeros((50, 6, 4), int)), "array of type int64"),
        (npy(np.zeros((50, 6, 4), [("a", "f4")])), "array of type"),
        (npy(np.zeros((50, 6, 4), object)), "array of type object"),
        (npy(np.zeros((50, 6), "f4")), "must be a table of probabilities of shape"),
        (npy(np.zeros((50, 7, 4), "f4")), "has 7 paths, but the tree has 6"),
        (header("(10**12, 6, 4)"), NOT_WHOLE),
        (header("(1000000000000, 6, 4)"), f"{NOT_WHOLE}.*bytes, but 0 follow"),
        (header("(100000000000000000000, 6, 4)"), f"{NOT_WHOLE}.*bytes, but 0 follow"),
        (header("(2305843009213693952, 6, 4)"), f"{NOT_WHOLE}.*bytes, but 0 follow"),
        (header("(-1, 6, 4)"), f"{NOT_WHOLE}.*says the shape"),
        (header("(True, 6, 4)", bytes(192)), NOT_WHOLE),
        (header("(2.5, 6, 4)"), f"{NOT_WHOLE}.*shape is not valid"),
        (header("(1, 6, 4)", bytes(192), version=9), f"{NOT_WHOLE}.*version"),
        (header("(1, 6, 4)", bytes(192), version=3), f"{NOT_WHOLE}.*version"),
        (header("(4, 6, 4)", bytes(192)), f"{NOT_WHOLE}.*768 bytes, but 192 follow"),
        (header("(1, 6, 4)", bytes(768)), f"{NOT_WHOLE}.*192 bytes, but 768 follow"),
        (header("(" * 300 + ")" * 300), NOT_WHOLE),
        (header("(1, 6, 4)", descr="'|O'"), "array of type object"),
        (b"", NOT_WHOLE),
    ],
)
def test_headers_are_checked_before_anything_is_made(table, tmp_path, values, message):
    file = archive(tmp_path / "t.npz", table, values=values, context=None)
    refuses(file, message)
    bare = tmp_path / "t.npy"
    bare.write_bytes(values)
    (tmp_path / "t.npy.json").write_text(json.dumps(table.paths.to_dict()))
    refuses(bare, message)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (npy(np.zeros(49)), "n_samples = 50"),
        (npy(np.full(50, np.nan)), "context must be finite"),
        (npy(np.full(50, "a")), "array of type <U1"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(table, tmp_path, context, message):
    refuses(archive(tmp_path / "t.npz", table, context=context), message)


def test_members_of_an_archive_are_checked(table, tmp_path):
    refuses(archive(tmp_path / "t.npz", table, **{"../../other": b""}), r"holds \['../../other'")
    refuses(archive(tmp_path / "t.npz", table, values=None), "not the 'values' and 'paths'")
    file = archive(tmp_path / "t.npz", table)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as zipped:
        warnings.simplefilter("ignore")
        zipped.writestr("values.npy", b"")
    refuses(file, f"{NOT_WHOLE}.*two members are named 'values.npy'")
    file = archive(tmp_path / "t.npz", table, zipfile.ZIP_BZIP2)
    refuses(file, f"{NOT_WHOLE}.*packed in an unknown way")
    content = archive(file, table).read_bytes()
    entry = content.index(b"PK\x01\x02")
    forged = bytearray(content)
    forged[entry + 8] |= 1
    file.write_bytes(forged)
    refuses(file, f"{NOT_WHOLE}.*encrypted")
    forged = bytearray(content)
    forged[entry + 20 : entry + 28] = (2**31).to_bytes(4, "little") * 2
    file.write_bytes(forged)
    refuses(file, f"{NOT_WHOLE}.*larger than the file")


def test_a_small_file_that_unpacks_to_much_is_refused(table, tmp_path):
    zeros = npy(np.zeros((500_000, 6, 4)))
    file = archive(tmp_path / "t.npz", table, zipfile.ZIP_DEFLATED, values=zeros, context=None)
    assert file.stat().st_size < 200_000
    refuses(file, f"{NOT_WHOLE}.*more than 300 times as many")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "JSON cannot be read"),
        (b"{", "JSON cannot be read"),
        (b"[]", "a list where an object"),
        (b"\xff\xfe\xff", "JSON cannot be read"),
        (b'{"names": []}', "missing|at least one path"),
    ],
)
def test_sidecars_are_checked(table, tmp_path, text, message):
    np.save(tmp_path / "t.npy", np.asarray(table))
    (tmp_path / "t.npy.json").write_bytes(text)
    refuses(tmp_path / "t.npy", message)
    (tmp_path / "t.npy.json").unlink()
    refuses(tmp_path / "t.npy", "has no tree beside it")


# ---------------------------------------------------------------------- any damage


@st.composite
def damage(draw, size: int):
    """Return a function that damages bytes: cuts them, or changes some."""
    if draw(st.booleans()):
        end = draw(st.integers(0, size - 1))
        return lambda content: content[:end]
    places = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8))
    flips = [(place, draw(st.integers(1, 255))) for place in places]

    def change(content):
        changed = bytearray(content)
        for place, flip in flips:
            changed[place] ^= flip
        return bytes(changed)

    return change


@pytest.mark.parametrize("mmap", [True, False])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_table_is_refused_or_is_the_same(tmp_path_factory, mmap, data):
    table, _ = make_path_probabilities(6, random_state=0)
    folder = tmp_path_factory.mktemp("damaged")
    table.save(folder / "t.npz")
    content = (folder / "t.npz").read_bytes()
    changed = data.draw(damage(len(content)))(content)
    (folder / "t.npz").write_bytes(changed)
    try:
        loaded = PathProbabilities.load(folder / "t.npz", mmap=mmap)
    except ValueError:
        return
    assert loaded.paths == table.paths
    assert loaded.shape == table.shape
    if not mmap:  # what is mapped is not read, so not compared with its checksum either
        np.testing.assert_array_equal(loaded, table)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_array_is_refused_or_stays_usable(tmp_path_factory, data):
    table, y = make_path_probabilities(6, random_state=0)
    folder = tmp_path_factory.mktemp("damaged")
    np.save(folder / "t.npy", np.asarray(table))
    text = json.dumps(table.paths.to_dict()).encode()
    which = data.draw(st.sampled_from(["t.npy", "t.npy.json"]))
    (folder / "t.npy.json").write_bytes(text)
    content = (folder / which).read_bytes()
    (folder / which).write_bytes(data.draw(damage(len(content)))(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # costs that fall
        try:
            loaded = PathProbabilities.load(folder / "t.npy")
            ThresholdRouter(0.5).fit(loaded, y).predict(loaded)
        except ValueError:
            return
    assert loaded.shape == table.shape


def test_arrays_of_any_archive_are_checked_before_they_are_read(table, tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, x=np.arange(3), label=np.array(["a"]), odd=np.array([{}], dtype=object))
    with open_arrays(file, "file of images") as arrays:
        assert ("x" in arrays, "y" in arrays) == (True, False)
        assert arrays["x"].tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match=r"holds \['x', 'label', 'odd'\], no array 'y'"):
            arrays["y"]
        with pytest.raises(ValueError, match="array of type object; a file of images holds"):
            arrays["odd"]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a whole file of images"):
        with open_arrays(file, "file of images"):
            pass
