"""Files of earlier releases are read: tests/saved holds one of each kind (make_saved.py)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.exceptions import InconsistentVersionWarning

import skquee
from skquee import PathProbabilities, PathTree

FOLDER = Path(__file__).parent / "saved"
ANSWERS = json.loads((FOLDER / "answers.json").read_text(encoding="utf8"))
ROUTERS = sorted(name for name, kept in ANSWERS.items() if "labels" in kept if name != "classifier")


def load(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        return skquee.load(FOLDER / f"{name}.skops")


@pytest.mark.parametrize("mmap", [True, False])
def test_tables_of_earlier_releases_are_read(mmap):
    table = PathProbabilities.load(FOLDER / "table.npz", mmap=mmap)
    np.testing.assert_allclose(table, ANSWERS["table"], atol=1e-5)
    assert table.paths.cost_unit == "ms"
    np.testing.assert_array_equal(table.context[:, 0], np.arange(20) % 7)
    bare = PathProbabilities.load(FOLDER / "table.npy", mmap=mmap)
    np.testing.assert_allclose(bare, ANSWERS["table"], atol=1e-3)
    assert bare.paths.names == ("small", "medium", "large")


@pytest.mark.parametrize("name", ROUTERS)
def test_routers_of_earlier_releases_answer_as_they_did(name):
    routes = load(name).route(PathProbabilities.load(FOLDER / "table.npz"))
    assert routes.paths.tolist() == ANSWERS[name]["paths"]
    assert routes.labels.tolist() == ANSWERS[name]["labels"]
    np.testing.assert_allclose(routes.probabilities, ANSWERS[name]["probabilities"], atol=1e-5)


def test_trees_and_curves_of_earlier_releases_are_read():
    assert load("tree") == PathTree.from_dict(ANSWERS["tree"])
    curve = load("curve")
    np.testing.assert_allclose(curve.cost, ANSWERS["curve"]["cost"])
    np.testing.assert_allclose(curve.accuracy, ANSWERS["curve"]["accuracy"])


def test_classifiers_of_earlier_releases_answer_as_they_did():
    try:
        clf = load("classifier")
    except (ValueError, TypeError) as error:  # damaged, it seems; or types of another name
        if sklearn.__version__ == ANSWERS["sklearn"]:
            raise
        pytest.skip(f"models of scikit-learn {ANSWERS['sklearn']} are not read by others: {error}")
    X = load_iris().data[::10, :2]
    assert clf.route(X).paths.tolist() == ANSWERS["classifier"]["paths"]
    assert clf.predict(X).tolist() == ANSWERS["classifier"]["labels"]
