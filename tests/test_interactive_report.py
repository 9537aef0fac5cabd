"""The page to play with: what it holds, that it is safe and small, and that a browser shows it."""

from __future__ import annotations

import base64
import json
import re
import shutil
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import skquee.display
from skquee import (
    AutoRouter,
    BudgetRouter,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
    RoutedClassifier,
    TunedCostAwareRouterCV,
)
from skquee.baselines import (
    JEIDNN,
    DQNetGate,
    FixedPath,
    NextStepRouter,
    OracleRouter,
    RandomMixing,
    ThresholdRouter,
)
from skquee.display._interactive import page_of, report_data, report_page
from skquee.evaluation import CostCurve
from skquee.testing import make_path_probabilities

TREE = PathTree.chain([1, 2, 5], cost_unit="ms")  # path costs 1, 3, 8
# Names that would be markup, script or placeholders if they were not escaped; all harmless.
NASTY = [
    "</script><b id=loud>x",
    "<!-- & -->",
    "a \"b\" 'c' \u2028",
    "@@data@@ $& \\u003c",
    "x" * 90,
]
STUMPS = PathErrorRegressor(DecisionTreeRegressor(max_depth=2))
KINDS = {"u1": "<u1", "u2": "<u2", "u4": "<u4", "f4": "<f4"}


def small_curve(**kwargs: Any) -> CostCurve:
    """Three points out of order, four rows; the last path is never taken."""
    paths = [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]]
    right = [[1, 0, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1]]
    return CostCurve([1.0, 0.0, 0.5], paths, right, TREE, **kwargs)


def large_curve(n_points: int, n_rows: int, n_paths: int = 6, seed: int = 0) -> CostCurve:
    """Rows that move to cheaper paths one after the other."""
    rng = np.random.default_rng(seed)
    tree = PathTree.chain(np.ones(n_paths))
    places = np.sort(rng.uniform(size=(n_paths - 1, n_rows)), axis=0)
    at = np.linspace(0, 1, n_points)
    paths = n_paths - 1 - (places[:, None] < at[None, :, None]).sum(axis=0)
    right = rng.uniform(size=(n_rows, n_paths)) < 0.6 + 0.06 * np.arange(n_paths)
    return CostCurve(at, paths, np.take_along_axis(right.T, paths, axis=0), tree)


def unpacked(packed: dict[str, str] | None) -> list[Any] | None:
    if packed is None:
        return None
    return np.frombuffer(base64.b64decode(packed["data"]), KINDS[packed["type"]]).tolist()


def replayed(rows: dict[str, Any], field: str, n_points: int) -> np.ndarray[Any, Any]:
    """Return what the page shows for every point and row, run by run."""
    found = np.full((n_points, rows["n"]), np.nan)
    runs, starts, values = (unpacked(rows[name]) for name in ("runs", "start", field))
    assert runs is not None and starts is not None and values is not None
    place = 0
    for row, n_runs in enumerate(runs):
        for _ in range(n_runs):
            found[starts[place] :, row] = values[place]
            place += 1
    assert place == len(starts) == len(values)
    return found


class Page(HTMLParser):
    """Every element's name and attributes, and the text of scripts, styles and the heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    @property
    def ids(self) -> set[str]:
        return {attrs["id"] for _, attrs in self.elements if attrs.get("id")}  # type: ignore[misc]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["script"][0])
        return found


# ---------------------------------------------------------------- what it holds


def test_data_of_a_small_curve_is_what_one_writes_down_by_hand() -> None:
    errors = np.array(
        [[0.2, 0.3, 0.4, np.nan], [0.1, 0.2, 0.30004, np.nan], [0.1, 0.2, 0.4, np.nan]]
    )
    data = report_data(
        small_curve(label="mine"),
        labels=["b", "a", "b", "b"],
        predicted_errors=errors,
        models=[("small", 1, 0.5)],
        chosen=0,
    )
    rows = data.pop("rows")
    assert {k: v for k, v in data.items() if k not in ("notes", "version")} == {
        "title": "mine: accuracy and cost",
        "verdict": "",
        "source": "4 given rows",
        "knob": "lambda_",
        "unit": "ms",
        "n_samples": 4,
        "chosen": 2,
        # By the knob: 0, 0.5, 1.
        "points": {
            "knob": ["0", "0.5", "1"],
            "cost": [2.5, 2.0, 1.0],
            "accuracy": [0.75, 0.75, 0.5],
            "shares": [[0, 0.25, 1, 0.75], [0, 0.5, 1, 0.5], [0, 1.0]],
        },
        "hull": [[1.0, 0.5], [2.0, 0.75]],
        "paths": {
            "name": list(TREE.names[:2]),
            "cost": [1, 3],
            "hue": [0, 1],
            "strength": [100] * 2,
        },
        "models": [["small", 1.0, 0.5]],
        "classes": ["a", "b"],
    }
    assert rows["n"] == 4
    assert unpacked(rows["row"]) == [0, 1, 2, 3]
    assert unpacked(rows["label"]) == [1, 0, 1, 1]
    assert rows["weight"] is rows["name"] is rows["cost"] is None
    assert unpacked(rows["runs"]) == [2, 2, 2, 1]
    assert unpacked(rows["start"]) == [0, 2, 0, 2, 0, 1, 0]
    assert unpacked(rows["path"]) == [1, 0, 1, 0, 1, 0, 0]
    assert unpacked(rows["right"]) == [250, 250, 250, 0, 0, 0, 250]
    assert unpacked(rows["error"]) == [1000, 2000, 2000, 3000, 3000, 4000, 65535]


def test_notes_say_what_was_rounded_and_what_is_missing() -> None:
    notes = " ".join(report_data(small_curve())["notes"])
    assert "Labels of these rows are not known" in notes
    assert "Predicted errors of these rows are not known" in notes
    assert "1 of 3 paths are taken by no row" in notes
    graded = CostCurve([0.0], [[0, 1]], [[0.3, 0.5]], TREE)
    assert "Gradings of answers are rounded to the nearest 0.004" in report_data(graded)["notes"][2]


def test_runs_give_back_every_path_answer_error_and_cost_within_the_rounding_it_states() -> None:
    rng = np.random.default_rng(1)
    curve = large_curve(40, 70)
    curve = CostCurve(
        curve.knobs,
        curve.paths,
        rng.uniform(size=curve.paths.shape),
        curve.tree,
        row_costs=rng.uniform(1, 9, size=(70, 6)),
    )
    errors = rng.uniform(size=curve.paths.shape)
    rows = report_data(curve, predicted_errors=errors)["rows"]
    assert np.array_equal(replayed(rows, "path", 40), curve.paths)
    assert np.abs(replayed(rows, "right", 40) / rows["grades"] - curve.correct).max() <= 0.0021
    assert np.abs(replayed(rows, "error", 40) / rows["errors"] - errors).max() <= 0.000051
    np.testing.assert_allclose(replayed(rows, "cost", 40), curve.sample_costs, rtol=1e-6)


def test_weights_are_in_the_file_where_they_differ() -> None:
    data = report_data(small_curve(sample_weight=[1, 1, 2, 0]))
    assert unpacked(data["rows"]["weight"]) == [1, 1, 2, 0]
    assert data["points"]["accuracy"] == [0.5, 0.5, 0.25]
    assert any("weighted" in note for note in data["notes"])


def test_of_many_points_some_are_kept_with_the_ends_and_the_one_in_use() -> None:
    curve = large_curve(1000, 20)
    data = report_data(curve, chosen=501)
    knobs = data["points"]["knob"]
    assert len(knobs) == 255
    assert (knobs[0], knobs[-1]) == ("0", "1")
    assert knobs[data["chosen"]] == f"{curve.knobs[501]:.4g}"
    assert "255 of 1000 operating points" in " ".join(data["notes"])
    assert replayed(data["rows"], "path", 255)[data["chosen"]].tolist() == curve.paths[501].tolist()
    shown = set(zip(data["points"]["cost"], data["points"]["accuracy"], strict=True))
    assert {(c, a) for c, a in data["hull"]} <= shown  # what is drawn as the hull is there to pick


def test_of_many_rows_some_are_drawn_and_the_curve_is_of_all() -> None:
    curve = large_curve(20, 3000)
    labels = np.arange(3000) % 3
    page = Page(report_page(curve, labels=labels, max_rows=100))
    data = page.data
    rows = unpacked(data["rows"]["row"])
    assert rows is not None and len(set(rows)) == data["rows"]["n"] == 100
    assert unpacked(data["rows"]["label"]) == labels[rows].tolist()
    np.testing.assert_allclose(data["points"]["accuracy"], curve.accuracy, rtol=1e-5)
    assert "100 of 3,000 rows" in "".join(page.texts["li"])


def test_ten_thousand_rows_stay_below_a_megabyte() -> None:
    curve = large_curve(101, 10_000)
    errors = np.random.default_rng(0).uniform(size=(10_000, 6))
    page = report_page(
        curve,
        labels=np.arange(10_000) % 100,
        predicted_errors=lambda rows: errors[rows, curve.paths[:, rows]],
        row_names=[f"image {i}.png" for i in range(10_000)],
    )
    assert len(page) < 1_000_000
    assert Page(page).data["rows"]["n"] == 10_000


def test_what_would_be_too_large_is_thinned_and_says_so() -> None:
    rng = np.random.default_rng(0)
    restless = CostCurve(
        np.arange(60.0),
        rng.integers(6, size=(60, 10_000)),
        np.ones((60, 10_000)),
        PathTree.chain([1] * 6),
    )
    page = Page(
        report_page(restless, predicted_errors=lambda rows: rng.uniform(size=(60, len(rows))))
    )
    data, notes = page.data, "".join(page.texts["li"])
    assert f"{len(data['points']['knob'])} of 60 operating points" in notes
    assert f"{data['rows']['n']:,} of 10,000 rows" in notes
    assert len(data["points"]["knob"]) >= 30 and data["rows"]["n"] >= 2500


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="y must hold 4 labels"):
        small_curve().to_html(y=["a", "b"])


# ---------------------------------------------------------------- that it is safe


def nasty_page() -> str:
    tree = PathTree.from_paths([[name] for name in NASTY[:3]], [1, 2, 3], cost_unit="<i>ms</i>")
    curve = CostCurve([0.0, 1.0], [[0, 1, 2, 0, 1]] * 2, np.ones((2, 5)), tree, source=NASTY[1])
    return report_page(
        curve,
        labels=NASTY,
        row_names=NASTY,
        title=NASTY[0],
        verdict=NASTY[3],
        models=[(NASTY[0], 1.0, 0.5)],
    )


def test_names_from_outside_become_neither_markup_nor_script() -> None:
    page, plain = Page(nasty_page()), Page(small_curve().to_html() or "")
    assert "loud" not in page.ids
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | {"p"}
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert page.texts["h1"] == [NASTY[0]]
    assert NASTY[3] in page.texts["p"]
    data = page.data
    assert data["classes"] == sorted([*NASTY[:4], "x" * 60 + "\u2026"])
    assert data["paths"]["name"] == NASTY[:3]
    assert any("cut after 60" in note for note in data["notes"])


def test_the_data_of_a_page_holds_no_sign_that_could_end_its_element() -> None:
    raw = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', nasty_page(), re.S
    )
    assert len(raw) == 1
    assert not set("<>&") & set(raw[0])


def test_a_page_is_ascii_and_asks_for_nothing_from_elsewhere() -> None:
    text = nasty_page()
    assert text.isascii()
    page = Page(text)
    assert not [a for _, a in page.elements if {"src", "href", "srcset"} & set(a)]
    assert "url(" not in text and "@import" not in text and "fetch(" not in text
    (policy,) = (a["content"] for _, a in page.elements if a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")
    for code in (page.texts["script"][1], "".join(page.texts["style"])):
        digest = base64.b64encode(sha256(code.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_every_element_that_the_script_asks_for_exists() -> None:
    page = Page(small_curve().to_html() or "")
    script = page.texts["script"][1]
    asked = set(re.findall(r'\$\("([\w-]+)"\)', script))
    loops = re.findall(r"for \(const (?:id|\[id, \w+\]) of \[(.*)\]\)", script)
    assert len(loops) == 3
    asked |= {name for loop in loops for name in re.findall(r'"([a-z-]+)"', loop)}
    assert len(asked) > 25
    assert asked <= page.ids
    labelled = {a.get("for") for tag, a in page.elements if tag == "label"}
    controls = {a["id"] for tag, a in page.elements if tag in ("input", "select")}
    assert controls - labelled == {"budget-number"}  # named by the label of its slider
    told = {name for _, a in page.elements for name in (a.get("aria-labelledby") or "").split()}
    assert told <= page.ids


def test_the_points_are_a_table_without_script_too() -> None:
    page = small_curve().to_html()
    assert page is not None
    cells = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>', page)
    assert cells == [("0", "2.5", "0.7500"), ("0.5", "2", "0.7500"), ("1", "1", "0.5000")]


# ---------------------------------------------------------------- from estimators


@pytest.fixture(scope="module")
def tables() -> Any:
    table, y = make_path_probabilities(700, random_state=0)
    router = CostAwareRouter(0.3, regressor="logistic", random_state=0).fit(table[:400], y[:400])
    return router, table[400:], y[400:]


def read(file: Path) -> dict[str, Any]:
    return Page(file.read_text(encoding="ascii")).data


def test_report_of_a_router_shows_the_errors_that_it_predicts(tables: Any, tmp_path: Path) -> None:
    router, table, y = tables
    file = router.report(tmp_path / "report.html", table, y)
    assert [left.name for left in tmp_path.iterdir()] == ["report.html"]
    data = read(file)
    points, n_points = data["points"], len(data["points"]["knob"])
    assert float(points["knob"][data["chosen"]]) == 0.3
    shown = {f: replayed(data["rows"], f, n_points) for f in ("path", "right", "error")}
    for place in (0, data["chosen"], n_points - 1):
        knob = router.cost_curve(None).knobs
        lambda_ = np.unique(np.append(knob, 0.3))[place]
        routes = router.at_knob(lambda_).route(table)
        names = np.array(data["paths"]["name"])[shown["path"][place].astype(int)]
        assert names.tolist() == routes.path_names.tolist()
        assert np.array_equal(shown["right"][place] == 250, routes.labels == y)
        np.testing.assert_allclose(
            shown["error"][place] / 10_000, routes.predicted_error, atol=0.00006
        )
        np.testing.assert_allclose(points["cost"][place], routes.costs.mean(), rtol=1e-5)
    assert len(data["models"]) == table.paths.n_paths


def test_predicted_errors_of_kept_rows_are_those_that_judged_them(
    tables: Any, tmp_path: Path
) -> None:
    router, _, _ = tables
    data = read(router.report(tmp_path / "kept.html"))
    assert data["classes"] is None and data["rows"]["error"] is not None
    assert "held out in fit" in data["source"]


@pytest.mark.parametrize("costs", [[1.0, 3.0], [[1.0, 3.0], [2.0, 2.5]] * 40])
def test_first_steps_that_differ_by_row_keep_their_predicted_errors(
    costs: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random((80, 2)) < [0.4, 0.1]
    table = PathProbabilities.from_outcomes(
        wrong, context=rng.normal(size=(80, 2)), costs=costs, names=["small", "large"]
    )
    router = CostAwareRouter(0.1, regressor="logistic", targets="bernoulli", random_state=0).fit(
        table
    )
    data = read(router.report(tmp_path / "outcomes.html", table))
    place, n_points = data["chosen"], len(data["points"]["knob"])
    routes = router.route(table)
    errors = replayed(data["rows"], "error", n_points)[place] / 10_000
    np.testing.assert_allclose(errors, routes.predicted_error, atol=0.00006)
    if data["rows"]["cost"] is not None:
        shown = replayed(data["rows"], "cost", n_points)[place]
        np.testing.assert_allclose(shown, routes.costs, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ThresholdRouter(0.7),
        lambda: FixedPath(),
        lambda: RandomMixing(),
        lambda: OracleRouter(),
        lambda: NextStepRouter(
            0.3, lambdas=[0.3], regressor=PathErrorRegressor(DecisionTreeRegressor(max_depth=2))
        ),
        lambda: DQNetGate(max_epochs=2),
        lambda: JEIDNN(lambda_=0.1, max_epochs=2),
        lambda: TunedCostAwareRouterCV(CostAwareRouter(regressor="logistic"), price=0.2, cv=2),
    ],
)
def test_every_router_has_a_report(make: Any, tables: Any, tmp_path: Path) -> None:
    _, table, y = tables
    router = make().fit(table, y)
    data = read(router.report(tmp_path / "report.html", table, y, title="one", max_rows=50))
    assert data["title"] == "one"
    assert data["rows"]["n"] == 50
    assert data["classes"] is not None


def test_a_router_held_to_a_budget_shows_budgets(tables: Any, tmp_path: Path) -> None:
    router, table, y = tables
    held = BudgetRouter(router, 0.6, random_state=0).fit(table)
    data = read(held.report(tmp_path / "held.html", table, y))
    assert data["knob"] == "budget"


def test_where_no_rows_are_kept_a_report_asks_for_some(tables: Any, tmp_path: Path) -> None:
    _, table, y = tables
    with pytest.raises(ValueError, match="keeps no held-out rows"):
        ThresholdRouter(0.7).fit(table, y).report(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_rows_without_labels_and_labels_without_rows_are_refused(
    tables: Any, classifier: Any, tmp_path: Path
) -> None:
    for estimator, X, y in (tables, classifier):
        with pytest.raises(ValueError, match="rows with their labels.*got X alone"):
            estimator.report(tmp_path / "report.html", X)
        with pytest.raises(ValueError, match="got y alone"):
            estimator.report(tmp_path / "report.html", y=y)
        with pytest.raises(ValueError, match="sample_weight weighs the rows X"):
            estimator.report(tmp_path / "report.html", sample_weight=np.ones(len(y)))


def test_a_folder_that_is_missing_is_said_before_anything_is_worked_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make it first"):
        CostAwareRouter().report(tmp_path / "no" / "report.html")
    with pytest.raises(FileNotFoundError, match="make it first"):
        small_curve().to_html(tmp_path / "no" / "curve.html")


@pytest.fixture(scope="module")
def classifier() -> Any:
    X, y = make_classification(900, 6, n_informative=4, n_classes=3, random_state=0)
    names = np.array(["ant", "bee", "cat"])[y]
    stump = DecisionTreeClassifier(max_depth=2, random_state=0)
    forest = RandomForestClassifier(20, random_state=0)
    bank = MultiPathClassifierBank(
        [("stump", stump), ("forest", forest)], step_costs=[1, 20], cost_unit="ms"
    )
    return RoutedClassifier(bank).fit(X[:600], names[:600]), X[600:], names[600:]


def test_report_of_a_classifier_is_of_the_rows_that_judged_it(
    classifier: Any, tmp_path: Path
) -> None:
    model, _, _ = classifier
    data = read(model.report(tmp_path / "report.html"))
    curve = model.cv_curve_
    assert data["source"] == curve.source
    assert data["classes"] == ["ant", "bee", "cat"]
    assert data["rows"]["error"] is not None
    assert data["verdict"].startswith("Verdict: ")
    assert model.reason_.split(";")[0][:20] in data["verdict"]
    np.testing.assert_allclose(data["points"]["accuracy"], curve.accuracy, rtol=1e-5)
    assert float(data["points"]["knob"][data["chosen"]]) == pytest.approx(
        model.best_lambda_, rel=1e-3
    )
    told = model.summary()
    assert [m[0] for m in data["models"]] == ["stump", "forest"]
    np.testing.assert_allclose([m[2] for m in data["models"]], told["accuracy"].iloc[:2], rtol=1e-5)


def test_report_on_rows_of_a_frame_keeps_their_labels(classifier: Any, tmp_path: Path) -> None:
    model, X, y = classifier
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(len(X))])
    data = read(model.report(tmp_path / "report.html", frame.to_numpy(), y))
    assert data["rows"]["name"] is None
    data = read(
        RoutedClassifier(model.bank).fit(frame, y).report(tmp_path / "frame.html", frame, y)
    )
    assert data["rows"]["name"] == frame.index.tolist()
    counts = np.bincount(unpacked(data["rows"]["label"]))  # type: ignore[arg-type]
    assert counts.tolist() == np.unique(y, return_counts=True)[1].tolist()


def test_a_router_whose_curve_was_kept_reports_without_predicted_errors(
    classifier: Any, tmp_path: Path
) -> None:
    model, X, y = classifier
    other = RoutedClassifier(model.bank, ThresholdRouter(0.7)).fit(X, y)
    data = read(other.report(tmp_path / "report.html"))
    assert data["knob"] == "threshold" and data["rows"]["error"] is None
    assert data["classes"] == ["ant", "bee", "cat"]


def test_search_over_the_family_reports_too(tables: Any, tmp_path: Path) -> None:
    _, table, y = tables
    router = AutoRouter(candidates={"only": CostAwareRouter(0.2, regressor="logistic")}, cv=2)
    data = read(router.fit(table, y).report(tmp_path / "report.html"))
    assert data["rows"]["n"] == len(y)


def test_page_of_a_curve_is_returned_or_written(tmp_path: Path) -> None:
    page = small_curve().to_html(y=[0, 1, 1, 0], title="Mine")
    assert small_curve().to_html(tmp_path / "curve.html", y=[0, 1, 1, 0], title="Mine") is None
    assert (tmp_path / "curve.html").read_text(encoding="ascii") == page
    assert page == page_of(report_data(small_curve(), labels=[0, 1, 1, 0], title="Mine"))


def test_page_files_are_part_of_the_package() -> None:
    home = Path(skquee.display.__file__).parent / "page"
    assert {file.name for file in home.iterdir()} == {"page.html", "page.css", "page.js"}


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Any:
    """A headless Chromium driven by Playwright, or a skip that says what is missing."""
    play = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install it")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    programs = [name for name in found if name]
    if not programs:
        pytest.skip("needs Chromium or Chrome on the path (Debian: apt-get install chromium)")
    with play.sync_playwright() as started:
        # Containers run as root, where Chromium's sandbox does not start; the page is our own.
        chromium = started.chromium.launch(executable_path=programs[0], args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Any:
    """Open a page at a width; nothing may be complained about or asked for."""
    seen: list[str] = []
    contexts = []

    def opened(text: str, width: int = 1400, scheme: str = "light") -> Any:
        (tmp_path / "page.html").write_text(text, encoding="ascii")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in seen if not line.startswith("file:")] == []


def played() -> tuple[CostCurve, str]:
    curve = large_curve(30, 400)
    labels = np.array(["ant", "bee"])[np.arange(400) % 2]
    errors = np.random.default_rng(0).uniform(size=curve.paths.shape)
    return curve, report_page(curve, labels=labels, predicted_errors=lambda rows: errors[:, rows])


@pytest.mark.parametrize("width", [360, 1400])
def test_keys_on_the_sliders_move_everything(visit: Any, width: int) -> None:
    curve, text = played()
    page = visit(text, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.focus("#knob")
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert page.input_value("#knob") == "7"
    told = f"mean cost {float(f'{curve.cost[7]:.4g}'):g}, accuracy {100 * curve.accuracy[7]:.1f} %"
    assert told in page.inner_text("#summary")
    assert told in page.get_attribute("#knob", "aria-valuetext")
    page.locator("#live", has_text="point 8 of 30").wait_for(state="attached")
    shares = curve.path_shares[7]
    cells = page.locator("#paths-body tr td:nth-child(3)").all_inner_texts()
    told_shares = [float(cell.removesuffix(" %")) for cell in cells]
    np.testing.assert_allclose(told_shares, 100 * shares[shares > 0], atol=0.051)
    page.focus("#budget")
    page.keyboard.press("Home")
    assert f"accuracy {100 * curve.accuracy[-1]:.1f} %" in page.inner_text("#summary")


@pytest.mark.parametrize("width", [360, 1400])
def test_a_budget_takes_the_most_accurate_point_within_it(visit: Any, width: int) -> None:
    curve, text = played()
    page = visit(text, width)
    for budget in (2.0, 3.5, 5.0):
        page.fill("#budget-number", str(budget))
        within = np.flatnonzero(curve.cost <= budget)
        best = within[np.lexsort((curve.cost[within], -curve.accuracy[within]))[0]]
        assert page.input_value("#knob") == str(best)
        if curve.accuracy_at(budget) > curve.accuracy[best] + 0.0005:
            mixed = f"mixed would reach {100 * curve.accuracy_at(budget):.1f} % at {budget:g}"
            assert mixed in page.inner_text("#summary")
    page.fill("#budget-number", "0.001")
    assert "No point costs so little" in page.inner_text("#summary")


def test_a_budget_slides_by_ratios_where_costs_differ_a_hundredfold(visit: Any) -> None:
    tree = PathTree.from_paths([["a"], ["b"], ["c"]], [0.001, 0.03, 0.9])
    curve = CostCurve([0.0, 1.0, 2.0], [[2], [1], [0]], np.ones((3, 1)), tree)
    page = visit(report_page(curve))
    page.focus("#budget")
    page.keyboard.press("Home")
    assert page.input_value("#budget-number") == "0.001"
    page.locator("#budget").fill("500")
    assert page.input_value("#budget-number") == "0.03"
    page.keyboard.press("End")
    assert page.input_value("#budget-number") == "0.9"


@pytest.mark.parametrize("width", [360, 1400])
def test_a_click_on_a_dot_takes_its_point_and_hover_tells_it(visit: Any, width: int) -> None:
    curve, text = played()
    page = visit(text, width)
    dot = page.locator("#curve .dot").nth(12)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    assert f"accuracy {100 * curve.accuracy[12]:.1f} %" in page.inner_text("#tip")
    page.mouse.down()
    page.mouse.up()
    assert page.input_value("#knob") == "12"
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


@pytest.mark.parametrize("width", [360, 1400])
def test_rows_and_classes_are_those_of_the_point(visit: Any, width: int) -> None:
    curve, text = played()
    page = visit(text, width)
    page.focus("#knob")
    page.keyboard.press("End")
    page.select_option("#of-answer", "wrong")
    page.select_option("#of-class", label="bee")
    wrong = np.flatnonzero(~curve.correct[-1] & (np.arange(400) % 2 == 1))
    assert page.inner_text("#rows-count") == f"Rows 1 to 15 of {len(wrong)}."
    rows = page.locator("#rows-body th").all_inner_texts()
    assert rows == [str(row) for row in wrong[:15]]
    assert set(page.locator("#rows-body td:last-child").all_inner_texts()) == {"wrong"}
    page.click("#next")
    assert page.locator("#rows-body th").first.inner_text() == str(wrong[15])
    page.select_option("#row-order", "error")
    errors = page.locator("#rows-body td:nth-child(5)").all_inner_texts()
    assert [float(e) for e in errors] == sorted((float(e) for e in errors), reverse=True)
    page.select_option("#class-order", "name")
    heights = [curve.correct[-1][k::2].mean() for k in (0, 1)]
    found = page.locator("#classes-body td:last-child").all_inner_texts()
    assert found == [f"{100 * height:.1f} %" for height in heights]


def test_every_control_is_reached_by_the_tab_key_and_shows_its_focus(visit: Any) -> None:
    page = visit(played()[1])
    reached = {}
    for _ in range(25):
        page.keyboard.press("Tab")
        name, ring = page.evaluate(
            "[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached[name] = ring
    wanted = {"knob", "budget", "budget-number", "class-order", "of-class", "of-path", "of-answer"}
    assert wanted | {"row-order", "next"} <= set(reached)
    assert {reached[name] for name in wanted} == {"solid"}


def test_light_and_dark_follow_the_reader(visit: Any) -> None:
    text = played()[1]
    colour = "getComputedStyle(document.body).backgroundColor"
    shown = {scheme: visit(text, scheme=scheme).evaluate(colour) for scheme in ("light", "dark")}
    assert shown == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}


@pytest.mark.parametrize("width", [360, 1400])
def test_names_that_look_like_markup_are_shown_as_they_are(visit: Any, width: int) -> None:
    page = visit(nasty_page(), width)
    assert page.locator("#loud").count() == 0
    assert page.inner_text("h1") == NASTY[0]
    labels = page.evaluate(
        "[...document.querySelectorAll('#classes-body th')].map((head) => head.textContent)"
    )
    assert sorted(labels) == sorted([*NASTY[:4], "x" * 60 + "\u2026"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
