"""The model card, read back from its file."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import skquee
from skquee import (
    BudgetRouter,
    MultiPathClassifierBank,
    PathTree,
    RiskControlledRouter,
    RoutedClassifier,
)
from skquee.baselines import FixedPath, ThresholdRouter
from skquee.cli import main
from skquee.router import model_card
from skquee.testing import make_path_probabilities

GUARANTEE = "Model description/Guarantee"
# What would be markup or another column if it were not escaped.
NAMES = ("a|b", "*loud* <b>", "[c](d)")


@pytest.fixture(scope="module")
def rows():
    return make_classification(600, 6, n_informative=4, random_state=0)


@pytest.fixture(scope="module")
def clf(rows):
    models = (
        DecisionTreeClassifier(max_depth=1),
        DecisionTreeClassifier(max_depth=4, random_state=0),
        RandomForestClassifier(9, random_state=0),  # an even number would tie
    )
    bank = MultiPathClassifierBank(
        list(zip(NAMES, models, strict=True)), step_costs=[1, 4, 40], cost_unit="nodes"
    )
    return RoutedClassifier(bank).fit(*rows)


@pytest.fixture(scope="module")
def tables():
    table, y = make_path_probabilities(4000)
    router = ThresholdRouter().fit(table[:1000], y[:1000])
    return router, table[1000:], y[1000:]


def cells(text: str, title: str) -> list[list[str]]:
    """Return the rows of the table under a heading, the header first, as Markdown reads them."""
    part = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)[1]
    part = re.split(r"^#", part, flags=re.MULTILINE)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    found = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[re.sub(r"\\(.)", r"\1", c.strip()) for c in row] for row in found[:1] + found[2:]]


def test_card_of_the_rows_of_fit_tells_what_the_classifier_tells(clf, tmp_path):
    skquee.dump(clf, tmp_path / "clf.skops")
    model_card(clf, file=tmp_path / "README.md", model_file=tmp_path / "clf.skops")
    text = (tmp_path / "README.md").read_text(encoding="utf8")
    curve = clf.cv_curve_
    at = int(np.flatnonzero(curve.knobs == clf.best_lambda_)[0])

    metrics = dict(cells(text, "Evaluation Results")[1:])
    assert float(metrics["lambda_"]) == pytest.approx(clf.best_lambda_, rel=1e-3)
    assert metrics["accuracy"].startswith(f"{curve.accuracy[at]:.4f} (95 %: ")
    assert float(metrics["mean cost (nodes)"]) == pytest.approx(curve.cost[at], rel=1e-3)
    alone = cells(text, "Each alone")
    assert [row[0] for row in alone[1:]] == list(NAMES)
    told = clf.summary()["accuracy"]
    assert [float(row[2]) for row in alone[1:]] == pytest.approx(
        [told[f"{name} alone"] for name in NAMES], abs=1e-4
    )
    along = cells(text, "Accuracy and cost")
    assert along[0] == ["lambda_", "mean cost (nodes)", "accuracy", "most taken path"]
    for knob, cost, accuracy, _ in along[1:]:
        place = int(np.argmin(np.abs(curve.knobs - float(knob))))
        assert float(cost) == pytest.approx(curve.cost[place], rel=1e-3)
        assert float(accuracy) == pytest.approx(curve.accuracy[place], abs=1e-4)
    digest = hashlib.sha256((tmp_path / "clf.skops").read_bytes()).hexdigest()
    assert digest in text and "skquee.load('clf.skops')" in text
    assert f"Measured on {curve.source}" in text and "2 classes (0, 1)" in text
    assert dict(cells(text, "Versions")[1:])["skquee"] == skquee.__version__
    shown = text.replace(repr(clf), "")  # parameters are code, and stand in a block of code
    assert f"Verdict: {clf.verdict_.split()[0]}" in shown and "<b>" not in shown.replace(r"\<b", "")


def test_card_is_written_whole_with_its_picture_beside(clf, tmp_path):
    card = model_card(clf, file=tmp_path / "CARD.md")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["CARD.md", "CARD_curve.svg"]
    assert (tmp_path / "CARD.md").read_text(encoding="utf8") == card.render()
    assert "](CARD_curve.svg)" in card.render()
    assert "<svg" in (tmp_path / "CARD_curve.svg").read_text(encoding="utf8")
    assert "![" not in model_card(clf).render()


def test_card_of_given_rows_is_measured_on_them(clf, rows):
    X, y = rows[0][:200], rows[1][:200]
    text = model_card(clf, X, y).render()
    metrics = dict(cells(text, "Evaluation Results")[1:])
    assert metrics["accuracy"].startswith(f"{clf.score(X, y):.4f}")
    assert float(metrics["mean cost (nodes)"]) == pytest.approx(clf.route(X).costs.mean(), rel=1e-3)
    assert "Verdict" not in text
    right = (clf.bank_.classifiers_[2][1].predict(X) == y).mean()
    assert float(cells(text, "Each alone")[3][2]) == pytest.approx(right, abs=1e-4)


def test_card_runs_every_model_of_a_bank_once(rows):
    X, y = rows
    calls = []

    def counted(rows):
        calls.append(len(rows))
        return model.predict_proba(rows)

    model = LogisticRegression().fit(X, y)
    stump = DecisionTreeClassifier(max_depth=1).fit(X, y)
    bank = MultiPathClassifierBank(
        [("stump", stump.predict_proba), ("model", counted)], step_costs=[1, 5], classes=[0, 1]
    )
    clf = RoutedClassifier(bank).fit(X, y)
    calls.clear()
    text = model_card(clf, X[:100], y[:100]).render()
    assert sum(calls) == 100
    assert "route(bank.transform(X))  # of its bank, made again" in text  # no file holds functions


def test_guarantee_of_a_risk_is_told_with_its_conditions(tables):
    router, table, y = tables
    held = RiskControlledRouter(router, max_error_increase=0.03, confidence=0.9)
    held.fit(table[:2000], y[:2000])
    card = model_card(held, table[2000:], y[2000:])
    told = card.select(GUARANTEE).content
    assert "`max_error_increase` is at most 0.03 with probability 0.9" in told
    assert "2000 calibration rows" in told and f"upper bound {held.bound_:.4g}" in told
    metrics = dict(cells(card.render(), "Evaluation Results")[1:])
    assert float(metrics["threshold"]) == pytest.approx(held.best_lambda_, rel=1e-3)


def test_guarantee_on_average_claims_no_confidence(tables):
    router, table, y = tables
    held = RiskControlledRouter(router, max_error_increase=0.03, method="crc").fit(table, y)
    told = model_card(held, table, y).select(GUARANTEE).content
    assert "on average over the draw" in told and "with probability" not in told


def test_guarantees_of_budgets_are_told_with_their_unit(tables):
    router, table, y = tables
    held = BudgetRouter(router, 0.6, max_cost_per_sample=0.9, random_state=0).fit(table)
    told = model_card(held, table, y).select(GUARANTEE).content
    assert "mean cost is 0.6 of the whole network a row in expectation" in told
    assert "No row costs more than 0.9 of" in told
    rare = BudgetRouter(router, exceed_cost=0.9, exceed_probability=0.1).fit(table)
    told = model_card(rare, table, y).select(GUARANTEE).content
    assert "costs more than 0.9 of the whole network with probability at most 0.1" in told


def test_nothing_is_promised_where_nothing_was_asked(clf):
    assert model_card(clf).select(GUARANTEE).content.startswith("None was asked for")


def test_fingerprint_differs_where_outcomes_do(clf, rows):
    X, y = rows
    cards = [model_card(clf, X[part], y[part]).render() for part in np.s_[:200, :200, 200:400]]
    marks = [re.search(r"points: `([0-9a-f]{32})`", card)[1] for card in cards]
    assert marks[0] == marks[1] != marks[2]


def test_what_is_no_router_and_rows_without_labels_are_refused(clf, rows, tables):
    with pytest.raises(TypeError, match=r"got LogisticRegression: skops\.card\.Card describes"):
        model_card(LogisticRegression())
    with pytest.raises(TypeError, match="got the class FixedPath"):
        model_card(FixedPath)
    with pytest.raises(NotFittedError):
        model_card(RoutedClassifier())
    with pytest.raises(ValueError, match="rows with their labels"):
        model_card(clf, rows[0])
    with pytest.raises(FileNotFoundError):
        model_card(clf, file="no/such/folder/README.md")
    with pytest.raises(FileNotFoundError, match=r"write it first, skquee\.dump"):
        model_card(clf, model_file="no/such/file.skops")
    fixed = FixedPath(paths=PathTree.chain([1, 1])).fit(np.full((2, 2, 2), 0.5), [0, 1])
    with pytest.raises(ValueError, match="X"):
        model_card(fixed)


def test_without_skops_the_message_says_what_to_install(clf, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    with pytest.raises(ModuleNotFoundError, match="pip install skops"):
        model_card(clf)


def test_skops_loads_with_the_first_card_alone():
    code = "import skquee.router, sys; print('skops' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_command_writes_the_card_of_a_saved_classifier(clf, tmp_path, capsys):
    file, out = tmp_path / "clf.skops", tmp_path / "README.md"
    skquee.dump(clf, file)
    assert main(["card", str(file), "--out", str(out)]) == 0
    assert hashlib.sha256(file.read_bytes()).hexdigest() in out.read_text(encoding="utf8")
    assert "README_curve.svg" in capsys.readouterr().out
    for wrong in ([str(tmp_path / "x.skops")], [str(file), "--out", str(Path("README.txt"))]):
        with pytest.raises(SystemExit):
            main(["card", *wrong])
