"""One helper for each kind of check: what it takes, and what it says of the rest."""

import fractions
import os

import numpy as np
import pytest

from skquee.values._checks import (
    check_flag,
    check_folder,
    check_integer,
    check_n_jobs,
    check_number,
    check_numbers,
    check_option,
    check_output,
    check_path,
    check_seed,
    check_sequence,
)


@pytest.mark.parametrize(
    "value", [1, 1.0, np.float32(1), np.int8(1), np.array(1.0), fractions.Fraction(1)]
)
def test_a_number_is_any_finite_real_one(value):
    found = check_number(value, "x", at_least=0, at_most=1)
    assert type(found) is float and found == 1


@pytest.mark.parametrize(
    "value", [True, np.True_, "1", None, np.nan, np.inf, 1j, [1.0], np.array([1.0]), -0.1]
)
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="x must be a finite number >= 0, got "):
        check_number(value, "x", at_least=0)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"at_least": 3}, ">= 3"),
        ({"above": 2}, "> 2"),
        ({"at_most": 1}, "<= 1"),
        ({"below": 2}, "< 2"),
        ({"above": 0, "below": 1}, "> 0 and < 1"),
    ],
)
def test_bounds_are_said(bounds, words):
    with pytest.raises(ValueError, match=f"x must be a finite number {words}, got 2"):
        check_number(2, "x", **bounds)


@pytest.mark.parametrize("value", [2, np.int64(2), np.array(2)])
def test_an_integer_is_a_whole_number(value):
    found = check_integer(value, "x", at_least=1, at_most=2)
    assert type(found) is int and found == 2


@pytest.mark.parametrize("value", [2.0, 2.5, True, "2", None, np.nan, 0, [2]])
def test_what_is_no_integer_is_named(value):
    with pytest.raises(ValueError, match="x must be an integer >= 1, got "):
        check_integer(value, "x", at_least=1)


def test_whole_floats_of_an_array_pass_where_they_are_asked_for():
    assert check_integer(np.float64(2), "x", whole_floats=True) == 2
    for value in (2.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="must be an integer"):
            check_integer(value, "x", whole_floats=True)


@pytest.mark.parametrize("value", ["c", None, 1, ["a"], np.array(["a"])])
def test_an_option_is_one_of_the_names(value):
    assert check_option("a", "x", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"x must be one of \['a', 'b'\] or a rule, got "):
        check_option(value, "x", ("a", "b"), besides=" or a rule")


def test_a_seed_is_what_numpy_takes():
    state = np.random.RandomState(0)
    assert check_seed(None) is None and check_seed(state) is state
    assert check_seed(np.int64(3)) == 3
    for value in (-1, 2**32, 1.5, "a", True, np.random.default_rng(0)):
        with pytest.raises(ValueError, match="random_state must be None, an integer from 0"):
            check_seed(value)


def test_workers_are_a_number_other_than_zero():
    assert [check_n_jobs(value) for value in (None, 2, -1)] == [None, 2, -1]
    for value in (0, 1.5, "a", True):
        with pytest.raises(ValueError, match="n_jobs must be None or an integer other than 0"):
            check_n_jobs(value)


def test_a_text_is_no_sequence():
    assert check_sequence(np.arange(2), "x", "names") == [0, 1]
    assert check_sequence((i for i in "ab"), "x", "names") == ["a", "b"]
    for value in ("ab", b"ab", {"a": 1}, 3, None, np.array(3)):
        with pytest.raises(ValueError, match="x must be a sequence of names, got "):
            check_sequence(value, "x", "names")


def test_numbers_come_as_a_float_array():
    found = check_numbers([[1, 2]], "x", shape=(None, 2), at_least=1, at_most=2)
    assert found.dtype == np.float64 and found.shape == (1, 2)
    assert np.isposinf(check_numbers(np.inf, "x", finite=False))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"], r"x must hold finite numbers >= 0, one a row, got \['a'\]"),
        (np.array(["1"], dtype=object), "must hold finite numbers"),
        ([[1.0], [1.0, 2.0]], "must hold finite numbers"),
        (np.array([1j]), "must hold finite numbers"),
        ([1.0, np.nan], "but entry 1 is nan"),
        ([1.0, None], "but entry 1 is nan"),
        ([np.inf], "but entry 0 is inf"),
        ([1.0, -2.0], "x must hold finite numbers >= 0, one a row, but entry 1 is -2"),
        ([], r"x must have shape \(n,\), one a row, not empty, got \(0,\)"),
        ([[1.0]], r"x must have shape \(n,\), one a row, not empty, got \(1, 1\)"),
        (1.0, r"got \(\)"),
    ],
)
def test_numbers_that_do_not_fit_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        check_numbers(values, "x", shape=(None,), what="one a row", at_least=0)


def test_where_a_file_is_written_is_known_before_the_work(tmp_path):
    assert check_output(tmp_path / "a.npy") == tmp_path / "a.npy"
    with pytest.raises(FileNotFoundError, match="The folder of out, .* does not exist"):
        check_output(tmp_path / "no" / "a.npy", "out")
    with pytest.raises(IsADirectoryError, match="out=.* is a folder: give a file's name in it"):
        check_output(tmp_path, "out")


def test_a_folder_may_be_made_but_is_no_file(tmp_path):
    assert check_folder(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(
            NotADirectoryError, match=r"cache=.* must be a folder, but .* is a file"
        ):
            check_folder(place, "cache")


@pytest.mark.parametrize("check", [check_path, check_output, check_folder])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3, TypeError, "out must be a path, a text or a pathlib.Path, got 3"),
        (None, TypeError, "out must be a path, .* got None"),
        (b"a", TypeError, "out must be a path"),
        ("", ValueError, "out must be a path, got '': it is empty"),
        ("a\0b", ValueError, "out must be a path, got .*null"),
        ("n" * 300, ValueError, "out must be a path, got .*: File name too long"),
    ],
)
def test_what_is_no_path_is_named(check, value, error, message):
    with pytest.raises(error, match=message):
        check(value, "out")


def test_a_place_where_nothing_can_be_written_is_known_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    for check, place in ((check_output, tmp_path / "a.npy"), (check_folder, tmp_path / "a" / "b")):
        with pytest.raises(PermissionError, match="out=.* cannot be written: no file can be made"):
            check(place, "out")


def test_a_relative_folder_is_made_in_the_one_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(check_folder("new")) == "new" and str(check_output("a.npy")) == "a.npy"


@pytest.mark.parametrize("value", [1, 0, "yes", None, np.array([True])])
def test_a_flag_is_true_or_false(value):
    assert check_flag(np.True_, "x") is True
    with pytest.raises(ValueError, match="x must be True or False, got "):
        check_flag(value, "x")


def test_long_values_are_cut_short():
    with pytest.raises(ValueError, match=r"\.\.\. \(list\)\.$"):
        check_number(list(range(1000)), "x")
