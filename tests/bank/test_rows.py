"""Rows of anything: what a bank of classifiers eats, and how it takes some of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.bank import take_rows
from skquee.baselines import ThresholdRouter
from skquee.values._rows import n_rows_of

X, Y = make_classification(120, 4, n_informative=3, n_redundant=0, n_classes=3, random_state=0)
COLUMNS = list("pqrs")


def array_of(rows: Any) -> Any:
    """Return rows of any kind as an array, as a callable of a user would."""
    if isinstance(rows, dict):
        return np.column_stack([np.asarray(rows[name]) for name in COLUMNS])
    if hasattr(rows, "num_rows"):
        return np.column_stack([rows[name].to_numpy() for name in COLUMNS])
    return np.asarray(rows)


def arrow(folder: Path) -> Any:
    return pytest.importorskip("pyarrow").table({name: X[:, i] for i, name in enumerate(COLUMNS)})


def tensors(folder: Path) -> Any:
    torch = pytest.importorskip("torch")
    return {name: torch.tensor(X[:, i]) for i, name in enumerate(COLUMNS)}


def stored_in_zarr(folder: Path) -> Any:
    kept = pytest.importorskip("zarr").create_array(
        str(folder / "x.zarr"), shape=X.shape, dtype=X.dtype, chunks=(50, 4)
    )
    kept[:] = X
    return kept


def stored_in_hdf5(folder: Path) -> Any:
    return pytest.importorskip("h5py").File(folder / "x.h5", "w").create_dataset("x", data=X)


KINDS: dict[str, Callable[[Path], Any]] = {
    "array": lambda folder: X,
    "list": lambda folder: X.tolist(),
    "frame": lambda folder: pd.DataFrame(X, columns=COLUMNS),
    "pyarrow": arrow,
    "dict of arrays": lambda folder: {name: X[:, i] for i, name in enumerate(COLUMNS)},
    "dict of tensors": tensors,
    "torch": lambda folder: pytest.importorskip("torch").tensor(X),
    "zarr": stored_in_zarr,
    "h5py": stored_in_hdf5,
    "dask": lambda folder: pytest.importorskip("dask.array").from_array(X, chunks=(50, 4)),
}
TABLES = ["pyarrow", "dict of arrays", "dict of tensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_are_counted_and_taken(kind: str, tmp_path: Path) -> None:
    rows = KINDS[kind](tmp_path)
    assert n_rows_of(rows) == 120
    some = np.array([5, 3, 3, 80])
    assert np.array_equal(array_of(take_rows(rows, some)), X[some])
    assert np.array_equal(array_of(take_rows(rows, slice(10, 14))), X[10:14])


@pytest.mark.parametrize("kind", KINDS)
def test_a_bank_routes_rows_of_every_kind_as_an_array(kind: str, tmp_path: Path) -> None:
    models = [GaussianNB().fit(X[:, :2], Y), LogisticRegression().fit(X, Y)]
    bank = MultiPathClassifierBank(
        [
            ("cheap", lambda rows: models[0].predict_proba(array_of(rows)[:, :2])),
            ("dear", lambda rows: models[1].predict_proba(array_of(rows))),
        ],
        step_costs=[1, 5],
        batch_size=50,
    )
    router = ThresholdRouter(0.8)
    expected = RoutedClassifier(bank, router).fit(X, Y).route(X)
    routed = RoutedClassifier(bank, router).fit(KINDS[kind](tmp_path), Y)
    rows = KINDS[kind](tmp_path / "again") if kind not in ("zarr", "h5py") else X
    found = routed.route(rows)
    assert 0 < found.paths.sum() < 120
    assert np.array_equal(found.paths, expected.paths)
    assert np.array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TABLES])
def test_estimators_are_fitted_on_rows_of_every_array_kind(kind: str, tmp_path: Path) -> None:
    bank = MultiPathClassifierBank(
        [("nb", GaussianNB()), ("lr", LogisticRegression())], step_costs=[1, 5]
    )
    fitted = bank.fit(KINDS[kind](tmp_path), Y)
    values = np.asarray(fitted.transform(X if kind != "frame" else KINDS[kind](tmp_path)))
    assert np.allclose(values[:, 0], GaussianNB().fit(X, Y).predict_proba(X))


def test_rows_of_a_frame_keep_their_columns() -> None:
    frame = pd.DataFrame(X, columns=COLUMNS, index=range(1000, 1120))
    seen: list[Any] = []

    def call(rows: Any) -> Any:
        seen.append(rows)
        return np.full((len(rows), 3), 1 / 3)

    bank = MultiPathClassifierBank([("call", call)], classes=[0, 1, 2])
    bank.fit(frame).transform(frame)[np.array([7, 2])].materialize()
    assert seen[-1].index.tolist() == [1007, 1002]
    assert seen[-1].columns.tolist() == COLUMNS


def test_texts_and_sparse_rows_go_through() -> None:
    lengths = MultiPathClassifierBank(
        [("call", lambda texts: ["long" if len(t) > 3 else "short" for t in texts])],
        classes=["long", "short"],
    )
    assert np.asarray(lengths.transform(["a", "abcdef"]))[:, 0].tolist() == [[0, 1], [1, 0]]
    sparse = csr_array(X)
    bank = MultiPathClassifierBank([("lr", LogisticRegression())]).fit(sparse, Y)
    assert np.allclose(np.asarray(bank.transform(sparse)), np.asarray(bank.transform(sparse[:])))


# ---------------------------------------------------------------------- bad input


def frozen_bank() -> MultiPathClassifierBank:
    frame = pd.DataFrame(X, columns=COLUMNS)
    return MultiPathClassifierBank(
        [("nb", GaussianNB()), ("lr", LogisticRegression())], step_costs=[1, 5]
    ).fit(frame, Y)


def test_one_row_as_a_series_is_refused_with_the_way_to_give_it() -> None:
    frame = pd.DataFrame(X, columns=COLUMNS)
    with pytest.raises(ValueError, match=r"df\.iloc\[\[0\]\] in place of df\.iloc\[0\]"):
        frozen_bank().transform(frame.iloc[0])
    assert frozen_bank().transform(frame.iloc[[0]]).shape == (1, 2, 3)


def test_an_iterator_is_refused() -> None:
    for run in (
        lambda: frozen_bank().transform(row for row in X),
        lambda: MultiPathClassifierBank([("nb", GaussianNB())]).fit((row for row in X), Y),
    ):
        with pytest.raises(TypeError, match="got generator: make a list of an iterator"):
            run()


@pytest.mark.parametrize("kind", ["array", "frame", "dict of arrays", "list of texts", "list"])
def test_no_rows_are_refused(kind: str) -> None:
    none: Any = {
        "array": X[:0],
        "frame": pd.DataFrame(X[:0], columns=COLUMNS),
        "dict of arrays": dict.fromkeys(COLUMNS, X[:0, 0]),
        "list of texts": [],
        "list": [],
    }[kind]
    call = MultiPathClassifierBank([("call", lambda rows: None)], classes=[0, 1])
    bank = call if kind in ("dict of arrays", "list of texts") else frozen_bank()
    with pytest.raises(ValueError, match="0 sample"):
        RoutedClassifier(bank, ThresholdRouter(0.5)).fit(none, [])
    with pytest.raises(ValueError, match="0 sample"):
        bank.transform(none).materialize()


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one length, got {'p': 120, 'q': 3}"):
        n_rows_of({"p": X[:, 0], "q": X[:3, 1]})


def test_another_number_of_columns_and_numbers_that_are_none_are_refused() -> None:
    bank = MultiPathClassifierBank([("lr", LogisticRegression())]).fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but"):
        bank.transform(X[:, :3])
    wrong = X.copy()
    wrong[7, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        bank.transform(wrong)
    frame = pd.DataFrame(X, columns=COLUMNS)
    with pytest.raises(ValueError, match="feature names should match"):
        frozen_bank().transform(frame[["q", "p", "r", "s"]])
