from __future__ import annotations

import re
import runpy
import textwrap
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import skquee

DOCS = Path(__file__).resolve().parents[1] / "docs"
# Those that are written, not those that a build of the documentation leaves beside them.
PAGES = sorted(
    str(page.relative_to(DOCS))
    for folder in ("", "start", "appendix")
    for page in (DOCS / folder).glob("*.rst")
    if page.name != "sg_execution_times.rst"
)


@pytest.mark.parametrize(
    "module",
    [
        "skquee",
        "answers",
        "auto",
        "baselines",
        "dask",
        "datasets",
        "display",
        "evaluation",
        "gates",
        "monitoring",
        "networks",
        "persistence",
        "policy",
        "router",
        "serving",
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


def run_page(page, folder, monkeypatch):
    """Run the snippets of a page as its reader would, and return the names they leave."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names = runpy.run_path(str(DOCS / "draw.py"))["run"](page)
    names["pictures"] = plt.get_fignums()
    plt.close("all")
    return names


def test_snippets_of_the_family_run(tmp_path, monkeypatch):
    names = run_page("family", tmp_path, monkeypatch)
    assert names["router"].predict(names["probs"][:2]).shape == (2,)


def test_snippets_of_budgets_run(tmp_path, monkeypatch):
    names = run_page("budgets", tmp_path, monkeypatch)
    assert abs(names["held"].predict_cost(names["probs"]).mean() - 5) < 0.1


def test_snippets_of_guarantees_run(tmp_path, monkeypatch):
    names = run_page("guarantees", tmp_path, monkeypatch)
    assert names["safe"].bound_ <= 0.05
    assert names["monitor"].cause_ == "cost"
    assert names["online"].cost_history_.mean() < 0.55


def test_snippets_of_explanations_run(tmp_path, monkeypatch):
    names = run_page("explain", tmp_path, monkeypatch)
    steps = names["told"].drop_duplicates("gate")[["gate", "step"]].values.tolist()
    assert steps == [[1, "8-8"], [2, "exit"]]
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert names["page"].startswith("<!DOCTYPE html>")
    found = names["compared"].xs("threshold", level="method")
    assert (100 * found["difference"]).round(1).tolist()[1:3] == [0.8, -1.2]
    assert (found["p_adjusted"] < 0.05).tolist() == [False, False, True, False]


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


def test_home_page_runs(tmp_path, monkeypatch):
    names = run_page("index", tmp_path, monkeypatch)
    assert names["pictures"]
    assert names["clf"].score(names["X_test"], names["y_test"]) > 0.9


def test_door_of_models_ends_in_a_verdict_and_a_budget(tmp_path, monkeypatch):
    names = run_page("start/models", tmp_path, monkeypatch)
    X, clf = names["X_test"], names["clf"]
    assert names["pictures"]
    assert clf.verdict_ == "route"
    assert names["cheap"].predict_cost(X).mean() < 0.03
    assert names["curve"].accuracy.max() > 0.97
    assert names["page"].startswith("<!DOCTYPE html>")


def test_door_of_networks_ends_in_milliseconds_of_exits(tmp_path, monkeypatch):
    names = run_page("start/networks", tmp_path, monkeypatch)
    clf, routes = names["clf"], names["routes"]
    assert names["pictures"]
    assert clf.verdict_
    assert clf.paths_.cost_unit == "ms"
    assert (routes.labels == names["y_test"]).mean() > 0.9
    assert names["curve"].accuracy.max() > 0.9


def test_door_of_tables_ends_in_a_budget_held(tmp_path, monkeypatch):
    names = run_page("start/tables", tmp_path, monkeypatch)
    routes, test, y = names["routes"], names["test"], names["y"]
    assert names["pictures"]
    assert routes.costs.mean() == pytest.approx(5, abs=0.1)
    kernel = names["table"][test].path("kernel").argmax(axis=1)
    assert (routes.labels == y[test]).mean() > (kernel == y[test]).mean() - 0.005
    assert names["told"].loc["single models", "difference_low"] > 0


def test_door_of_services_ends_in_dollars(tmp_path, monkeypatch):
    names = run_page("start/services", tmp_path, monkeypatch)
    assert names["pictures"]
    assert abs(names["held"].predict_cost(names["table"][1000:]).mean() - 0.0008) < 5e-5
    assert names["told"].loc["one model for all", "difference_low"] > 0.03
    # Better than the line between the two models, at the price in the middle.
    curve, losses = names["curve"], names["table"].losses[1000:].mean(axis=0)
    middle = names["prices"][1000:].mean()
    assert curve.accuracy_at(middle) > 1 - losses.mean() + 0.02
    assert set(names["held"].predict(names["new"])) <= {"small", "large"}


def test_the_map_leads_to_pages_that_exist_and_is_as_it_is_drawn():
    drawn = runpy.run_path(str(DOCS / "map.py"))["draw"]()
    assert (DOCS / "_static" / "map.html").read_text(encoding="utf-8") == drawn
    listed = re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.M)
    words = (DOCS / "choose.rst").read_text(encoding="utf-8")
    for link, choice in re.findall(r'<a href="([^"]+)">([^<]+)</a>', drawn):
        if link.startswith("api/skquee."):
            assert link.removeprefix("api/skquee.").removesuffix(".html") in listed
        else:
            assert (DOCS / link.split(".html")[0]).with_suffix(".rst").exists(), link
        assert choice in words, choice


def test_reference_shows_an_example_of_everything_and_no_private_modules():
    listed = re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.M)
    for name in listed:
        found = skquee
        for part in name.split("."):
            found = getattr(found, part)
        assert not re.search(r"skquee(\.\w+)*\._", found.__doc__), name
        assert ">>>" in found.__doc__, name


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("appendix")])
def test_a_page_is_read_in_one_sitting(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    prose = re.sub(r"^( *)\.\. (?:code-block|toctree)::.*\n(?:\1   .*\n|\n)+", "", text, flags=re.M)
    assert len(prose.split()) < 1200, "long tables belong in docs/appendix"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_of_the_pages_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in re.findall(r"^ *\.\. (?:figure|image):: (\S+)", text, re.M):
        assert (DOCS / page).parent.joinpath(target).exists(), target
    for target in re.findall(r":doc:`[^`<]*?<?(/?[\w/.]+)>?`", text):
        folder = DOCS if target.startswith("/") else (DOCS / page).parent
        assert folder.joinpath(target.lstrip("/") + ".rst").exists(), target


def test_the_floors_of_contributing_are_those_of_the_contract():
    text = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf8")
    told = [
        set(names.split())
        for names in re.findall(r"^ ?\d+  (.+?)(?:  .*)?$", text, flags=re.MULTILINE)
    ]
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert told == [set(re.split(r" [:|] ", layer)) for layer in layers]
