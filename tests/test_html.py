"""What notebooks show: HTML that loads nothing, says what the object says, and escapes names."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from skquee import MultiPathClassifierBank, PathProbabilities, PathTree, RoutedClassifier
from skquee.baselines import ThresholdRouter
from skquee.evaluation import CostCurve
from skquee.testing import make_path_probabilities

VOID = {"circle", "path", "polyline", "input", "meta", "br", "link"}


class Reader(HTMLParser):
    """Rows of tables, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def table():
    return make_path_probabilities(200)


@pytest.fixture(scope="module")
def router(table):
    return ThresholdRouter(0.7).fit(*table)


def test_nothing_is_loaded_and_every_tag_is_closed(table, router):
    X, y = table
    shown = (X, X.paths, router.route(X), router.cost_curve(None, X, y))
    for text in (one._repr_html_() for one in shown):
        reader = Reader(text)
        assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "img", "iframe"})
        assert not re.search(r"https?:|url\(", text)


def test_a_tree_lists_its_paths_with_exit_level_and_cost_in_its_unit():
    tree = PathTree.chain([1, 2.5], names=["<i>lr</i>", "a&b"], cost_unit="ms")
    text = tree._repr_html_()
    assert Reader(text).rows == [
        ["path", "exit", "level", "cost (ms)"],
        ["<i>lr</i>", "1", str(tree.levels[0]), "1"],
        [tree.names[1], "2", str(tree.levels[1]), "3.5"],
    ]
    assert "<i>" not in text


def test_of_many_paths_the_first_and_the_last_are_shown():
    tree = PathTree.chain(np.ones(1000))
    rows = Reader(tree._repr_html_()).rows
    assert len(rows) == 14
    assert rows[7] == ["988 more"]
    assert rows[-1][0] == tree.names[-1]


def test_a_table_says_its_size_and_what_it_knows(table):
    X, _ = table
    text = X.with_context(np.zeros(len(X)))._repr_html_()
    for told in ("<strong>PathProbabilities</strong>", "rows <strong>200<", "float64"):
        assert told in text
    assert "Known of each row: context" in text
    outcomes = PathProbabilities.from_outcomes(
        np.ones((4, 2), dtype=bool), costs=[1, 2], names=["a", "b"]
    )
    assert "outcomes only" in outcomes._repr_html_()


def test_a_lazy_table_is_shown_without_running_anything(table):
    def called(rows):
        raise AssertionError("ran")

    bank = MultiPathClassifierBank([("api", called)], step_costs=[1], classes=[0, 1])
    lazy = bank.fit(np.zeros((3, 1))).transform(np.zeros((3, 1)))
    assert "LazyPathProbabilities" in lazy._repr_html_()


def test_routes_tell_how_many_rows_took_each_path_and_what_they_cost(table, router):
    X, _ = table
    routes = router.route(X)
    header, *rows = Reader(routes._repr_html_()).rows
    assert header[:3] == ["path", "rows", "share"]
    names, counts = np.unique(routes.path_names.astype(str), return_counts=True)
    assert {row[0]: int(row[1]) for row in rows} == dict(zip(names, counts, strict=True))
    for row in rows:
        taken = routes.path_names == row[0]
        assert row[2] == f"{100 * taken.mean():.1f} %"
        assert float(row[3]) == pytest.approx(routes.costs[taken].mean(), rel=1e-3)
    assert f"{routes.costs.mean():.4g}" in routes._repr_html_()


def test_a_curve_is_a_picture_with_a_label_and_the_corners_of_its_hull(table, router):
    X, y = table
    curve = router.cost_curve(None, X, y)
    reader = Reader(curve._repr_html_())
    (svg,) = (attrs for tag, attrs in reader.tags if tag == "svg")
    assert svg["role"] == "img"
    assert svg["aria-label"].startswith("Accuracy")
    cost, accuracy = curve.hull()
    found = np.array(reader.rows[1:], dtype=float)
    if len(cost) <= 12:
        np.testing.assert_allclose(found[:, 1], cost, rtol=1e-3)
        np.testing.assert_allclose(found[:, 2], accuracy, rtol=1e-3)
    one = CostCurve([0.5], [[0, 0]], [[True, True]], PathTree.chain([1]))
    assert Reader(one._repr_html_()).rows[1] == ["0.5", "1", "1"]


def test_the_diagram_of_a_bank_shows_its_members_by_name():
    def ask(rows):
        return rows

    members = [
        ("line", FrozenEstimator(LogisticRegression().fit([[0], [1]], [0, 1]))),
        ("tree", DecisionTreeClassifier()),
        ("api", ask),
    ]
    bank = MultiPathClassifierBank(members, step_costs=[1, 2, 30])
    pipe = make_pipeline(bank, ThresholdRouter())
    for shown in (bank, pipe, RoutedClassifier(bank, ThresholdRouter())):
        text = shown._repr_html_()
        for told in ("line", "LogisticRegression", "tree", "DecisionTreeClassifier", ">ask<"):
            assert told in text
    assert "DecisionTreeClassifier" in MultiPathClassifierBank()._repr_html_()
