from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

import skquee

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [
    "idea.rst",
    "data.rst",
    "decisions.rst",
    "language_models.rst",
    "networks.rst",
    "files.rst",
    "paper.rst",
    "api.rst",
]


@pytest.mark.parametrize(
    "module",
    [
        "skquee",
        "answers",
        "auto",
        "baselines",
        "datasets",
        "display",
        "evaluation",
        "gates",
        "monitoring",
        "networks",
        "persistence",
        "policy",
        "router",
        "testing",
        "walk",
    ],
)
def test_api_reference_lists_every_public_name(module):
    listed = re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.M)
    if module == "skquee":
        public = set(skquee.__all__) - {"__version__"}
    else:
        names = {name for name in getattr(skquee, module).__all__ if not name.isupper()}
        own = {f"{module}.{name}" for name in names - set(skquee.__all__)}
        public = own | names & set(skquee.__all__)
    assert public <= set(listed)


@pytest.mark.parametrize("page", PAGES)
def test_names_in_the_pages_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in set(re.findall(r":(?:class|meth|func|attr):`[^`<]*?<?(skquee[\w.]+)>?`", text)):
        found = skquee
        for part in target.split(".")[1:]:
            found = getattr(found, part)


def test_snippets_of_decisions_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "decisions.rst").read_text(encoding="utf-8")
    snippets = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.M)
    # A search over the whole family takes minutes.
    run = [code for code in snippets if "AutoRouter" not in code]
    assert len(run) == len(snippets) - 1 > 5
    names = {"__name__": "decisions"}
    for code in run:
        exec(compile(textwrap.dedent(code), "decisions.rst", "exec"), names)
    assert abs(names["held"].predict_cost(names["probs"]).mean() - 5) < 0.1
    assert names["safe"].bound_ <= 0.05
    assert names["monitor"].cause_ == "cost"
    assert names["online"].cost_history_.mean() < 0.55
    steps = names["told"].drop_duplicates("gate")[["gate", "step"]].values.tolist()
    assert steps == [[1, "8-8"], [2, "exit"]]
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert names["page"].startswith("<!DOCTYPE html>")


def test_snippets_of_costs_and_callables_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "data.rst").read_text(encoding="utf-8").split("What it costs\n---")[1]
    snippets = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.M)[:2]
    names = {"__name__": "data"}
    for code in snippets:
        exec(compile(textwrap.dedent(code), "data.rst", "exec"), names)
    routes = names["routes"]
    assert routes.labels.tolist() == ["praise", "blame", "praise"]
    assert routes.costs.tolist() == [0.002, 0.002, 0]
    assert (tmp_path / "answers").is_dir()


def test_snippets_of_language_models_run_one_after_the_other():
    text = (DOCS / "language_models.rst").read_text(encoding="utf-8")
    snippets = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.M)
    assert len(snippets) == 6
    names = {"__name__": "language_models"}
    for code in snippets:
        exec(compile(textwrap.dedent(code), "language_models.rst", "exec"), names)
    assert abs(names["held"].predict_cost(names["table"][1000:]).mean() - 0.0008) < 5e-5
    # Better than the line between the two models, at the price in the middle.
    curve, losses = names["curve"], names["table"].losses[1000:].mean(axis=0)
    middle = names["prices"][1000:].mean()
    assert curve.accuracy_at(middle) > 1 - losses.mean() + 0.02
    assert set(names["held"].predict(names["new"])) <= {"small", "large"}


def test_the_floors_of_contributing_are_those_of_the_contract():
    text = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf8")
    told = [
        set(names.split())
        for names in re.findall(r"^ ?\d+  (.+?)(?:  .*)?$", text, flags=re.MULTILINE)
    ]
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert told == [set(re.split(r" [:|] ", layer)) for layer in layers]
