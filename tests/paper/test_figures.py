"""Figures, claims and page of a study that is made up, so that nothing is trained for long."""

from __future__ import annotations

import re
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from sklearn.tree import DecisionTreeRegressor

from skquee import CostAwareRouter, PathErrorRegressor, PathTree
from skquee.baselines import FixedPath, NextStepRouter, OracleRouter, ThresholdRouter
from skquee.evaluation import CostCurve, paired_bootstrap
from skquee.method._targets import ClusteredErrorTargets
from skquee.paper._claims import RULE, claims
from skquee.paper._clusters_figures import figure_6_7
from skquee.paper._figures import CAPTIONS, FIGURES, TITLES, accuracy_table, common_range, figure_3
from skquee.report import Setting, write_report
from skquee.testing import make_path_probabilities

GATE = DecisionTreeRegressor(max_depth=4, random_state=0)  # trained in no time
NAMES = ["automobile", "ship", "dog", "frog"]
SETTING = Setting.quick(
    n_clusters=6,
    ece_clusters=(1, 3, 6, 12),
    curve_clusters=(1, 5, 8),
    shown_clusters=(3, 8),
    many_clusters=10,
    n_resamples=40,
)


class FakeStudy:
    """What figures, claims and page read of a study, from a table that is made up."""

    title = "A <made-up> network"
    setting = SETTING
    class_names = NAMES
    network: Any

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tree = PathTree.from_levels(3, (4, 6, 8), block_costs=[2.0, 1.0, 1.0])
        self.tree = tree.with_classes(range(4))
        rows, y = make_path_probabilities(900, self.tree)
        self.tables = {"val": rows[:400], "test": rows[400:]}
        self.labels = {"train": y[:400], "val": y[:400], "test": y[400:]}
        self.network = SimpleNamespace(
            classes_=np.arange(4), levels_=(4, 6, 8), exits_=(1, 2, 3), summary=self._summary
        )
        self.store = SimpleNamespace(seconds={"test table": 2.0, "quee": 3.0})

    def _summary(self) -> pd.DataFrame:
        return pd.DataFrame({"cost": self.tree.path_costs}, index=list(self.tree.names))

    @property
    def full_levels(self) -> tuple[Any, ...]:
        return self.tree.steps(self.tree.fullest)

    def table(self, part: str) -> Any:
        return self.tables[part]

    def targets(self, k: int) -> ClusteredErrorTargets:
        return ClusteredErrorTargets(k, random_state=0).fit(self.table("val"), self.labels["val"])

    def _swept(self, method: Any) -> CostCurve:
        method.fit(self.table("val"), self.labels["val"])
        found: CostCurve = method.cost_curve(None, self.table("test"), self.labels["test"])
        found.source = "test images"
        return found

    def _router(self, k: int) -> CostCurve:
        return self._swept(
            CostAwareRouter(
                targets=ClusteredErrorTargets(k, random_state=0),
                regressor=PathErrorRegressor(estimator=GATE),
                cross_fit=1,
                validation_fraction=0,
                random_state=0,
            )
        )

    @cached_property
    def curves(self) -> dict[str, CostCurve]:
        fixed = self._swept(FixedPath())
        full = np.flatnonzero(self.tree.depths == self.tree.n_exits)
        threshold = self._swept(ThresholdRouter())
        quee = self._router(6)
        return {
            "QuEE": quee,
            "QuEE on validation rows": quee,
            "JEI-DNN": some_points(threshold, np.arange(0, len(threshold), 5)),
            "DQNet": some_points(fixed, full[::2]),
            "PTQ4ViT": some_points(fixed, full),
            "Thresholding": threshold,
            "Fixed paths": fixed,
            "Oracle": self._swept(OracleRouter()),
            "Next step": self._swept(
                NextStepRouter(
                    0.1,
                    lambdas=(0.1, 1.0),
                    targets=ClusteredErrorTargets(6, random_state=0),
                    regressor=PathErrorRegressor(estimator=GATE),
                    random_state=0,
                )
            ),
        }

    def curve(self, name: str) -> CostCurve:
        return self.curves[name]

    def by_regressor(self) -> list[tuple[str, float, CostCurve]]:
        return [
            ("good", 0.1, self.curve("QuEE")),
            ("middling", 0.2, self.curve("Thresholding")),
            ("bad", 0.3, self.curve("Fixed paths")),
        ]

    def calibration_by_clusters(self) -> pd.DataFrame:
        counts = pd.Index(self.setting.ece_clusters, name="K")
        return pd.DataFrame({"ece": [0.01, 0.02, 0.03, 0.05]}, index=counts)

    def curves_by_clusters(self) -> dict[int, CostCurve]:
        names = ("Thresholding", "Fixed paths", "QuEE")
        return {k: self.curve(n) for k, n in zip(self.setting.curve_clusters, names, strict=True)}

    def usage(self, cost: float) -> tuple[float, Any]:
        curve = self.curve("QuEE")
        point = int(np.abs(curve.cost - cost).argmin())
        return float(curve.knobs[point]), curve.paths[point]


def some_points(curve: CostCurve, points: Any) -> CostCurve:
    return CostCurve(
        curve.knobs[points],
        curve.paths[points],
        curve.correct[points],
        curve.tree,
        knob=curve.knob,
        source=curve.source,
    )


class Changed:
    """A study with some of its answers given."""

    def __init__(self, study: FakeStudy, **answers: Any) -> None:
        self._study, self._answers = study, answers

    def __getattr__(self, name: str) -> Any:
        if name in self._answers:
            given = self._answers[name]
            return lambda *args: given
        return getattr(self._study, name)

    def curve(self, name: str) -> CostCurve:
        return self._answers.get("curves", {}).get(name, self._study.curve(name))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return FakeStudy(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def page(study: Any) -> Path:
    return write_report(study)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_with_a_table_and_no_legend_over_its_data(
    study: Any, name: str
) -> None:
    figure, table = FIGURES[name](study)
    assert isinstance(figure, Figure) and len(table) > 0
    assert not table.isna().all().any(), "a column without a number"
    figure.draw_without_rendering()
    for ax in figure.findobj(lambda artist: hasattr(artist, "get_legend")):
        legend = ax.get_legend()  # type: ignore[attr-defined]
        if legend is not None:
            box, frame = legend.get_window_extent(), ax.get_window_extent()
            assert box.x0 >= frame.x1 and box.x1 <= figure.bbox.x1 + 1


def test_titles_and_captions_go_with_the_figures() -> None:
    assert list(TITLES) == list(FIGURES) == list(CAPTIONS)
    for name in FIGURES:
        assert "test images" in CAPTIONS[name] or "validation images" in CAPTIONS[name]


def test_figure_3_compares_on_the_costs_all_methods_reach(study: Any) -> None:
    _, table = figure_3(study)
    low, high = table.attrs["cost_range"]
    assert low == pytest.approx(max(c.cost.min() for c in (study.curve(n) for n in table.index)))
    for name in table.index:
        assert table.loc[name, "area"] == pytest.approx(study.curve(name).area((low, high)))
    assert table.loc["QuEE", "difference"] == 0


def test_costs_that_no_curve_reaches_are_left_out_of_the_table(study: Any) -> None:
    # Half depth is in the tree, but only whole paths are points.
    curves = {"PTQ4ViT": study.curve("PTQ4ViT")}
    table = accuracy_table(curves)
    assert min(map(float, table.columns)) >= study.curve("PTQ4ViT").cost.min() - 1e-9
    cost = table.columns[-1]
    assert table.loc["PTQ4ViT", cost] == study.curve("PTQ4ViT").accuracy_at([float(cost)])[0]


def test_the_parts_of_figures_6_and_7_share_colours_and_range(study: Any) -> None:
    figure, table = figure_6_7(study)
    parts = figure.subfigs
    tops = [part.axes[0].get_ylim() for part in parts]
    assert tops[0] == tops[1]
    bars = [part.axes[-1] for part in parts]
    assert bars[0].get_ylim() == bars[1].get_ylim()
    # A box has the colour of its own share of wrong answers.
    targets, rows = study.targets(3), study.table("test")
    path = study.tree.index("8-6-6")
    clusters = targets.predict_clusters(rows)[:, path]
    wrong = np.asarray(rows.path(path)).argmax(axis=1) != study.labels["test"]
    shares = np.sort([wrong[clusters == c].mean() for c in np.unique(clusters)])
    mappable = bars[0]._colorbar.mappable
    boxes = list(parts[0].axes[0].patches)
    for box, share in zip(boxes, shares, strict=True):
        np.testing.assert_allclose(box.get_facecolor(), to_rgba(mappable.to_rgba(share)))
    assert list(table.index) == ["K = 3", "K = 8"] and table.to_numpy().max() <= 1


def test_a_claim_has_a_verdict_and_the_rule_that_gave_it(study: Any) -> None:
    found = claims(study)
    assert list(found.columns) == ["claim", "paper", "measured", "holds", "why"]
    assert set(found["holds"]) <= {"yes", "no", "level", "not measured"}
    assert found["claim"].is_unique and (found["why"].str.len() > 0).all()
    # Where no interval is given and none was promised, the row says what was compared.
    plain = ~found["measured"].str.contains(r"\([+-]\d") & (found["holds"] != "not measured")
    assert not found.loc[plain, "why"].str.startswith("The interval").any()


def test_a_claim_tells_the_paired_interval_in_points(study: Any) -> None:
    quee, other = study.curve("QuEE"), study.curve("Thresholding")
    gap = paired_bootstrap(
        quee,
        other,
        cost_range=common_range({"a": quee, "b": other}),
        n_resamples=SETTING.n_resamples,
        random_state=SETTING.random_state,
    )
    row = claims(study).set_index("claim").loc["QuEE is above thresholding"]
    numbers = [float(n) for n in re.findall(r"[+-]\d+\.\d+", row["measured"])]
    np.testing.assert_allclose(
        numbers, 100 * np.array([gap.difference, gap.low, gap.high]), atol=0.006
    )


def flat(study: FakeStudy, share: float) -> CostCurve:
    """A curve of the same accuracy at every cost."""
    line = study.tree.prefixes(study.tree.fullest)
    n = len(study.labels["test"])
    right = np.random.default_rng(0).random(n) < share
    paths = np.repeat(line[:, None], n, axis=1)
    return CostCurve(np.arange(3.0), paths, np.tile(right, (3, 1)), study.tree)


@pytest.mark.parametrize(
    ("high", "low", "verdicts"),
    [
        (0.9, 0.5, ["yes", "yes", "no", "yes", "no"]),
        (0.5, 0.9, ["no", "no", "yes", "no", "no"]),
        (0.7, 0.7, ["level", "level", "level", "yes", "yes"]),
    ],
)
def test_verdicts_follow_their_rules(
    study: Any, high: float, low: float, verdicts: list[str]
) -> None:
    ahead = ("QuEE", "DQNet", "QuEE on validation rows")
    behind = ("JEI-DNN", "Thresholding", "PTQ4ViT", "Next step")
    curves = {
        **dict.fromkeys(ahead, flat(study, high)),
        **dict.fromkeys(behind, flat(study, low)),
    }
    found = claims(Changed(study, curves=curves)).set_index("claim")["holds"]  # type: ignore[arg-type]
    assert [
        found["QuEE is above JEI-DNN at low cost"],
        found["QuEE is above thresholding"],
        found["JEI-DNN passes QuEE at high cost"],
        found["DQNet is not below PTQ4ViT alone"],
        found["Predicting only the next best step is level with QuEE at the highest cost"],
    ] == verdicts


def test_the_calibration_claim_reads_the_fitted_quadratic(study: Any) -> None:
    claim = "The calibration error falls until K is about 50, then rises"

    def verdict(errors: Any) -> str:
        counts = np.array([1.0, 20, 50, 100, 150])
        frame = pd.DataFrame({"ece": errors(counts)}, index=counts.astype(int))
        found = claims(Changed(study, calibration_by_clusters=frame))  # type: ignore[arg-type]
        return str(found.set_index("claim").loc[claim, "holds"])

    assert verdict(lambda k: 0.02 + 1e-6 * (k - 50) ** 2) == "yes"
    assert verdict(lambda k: 0.02 + 1e-6 * (k - 140) ** 2) == "no"
    assert verdict(lambda k: 0.02 + 1e-4 * k - 1e-7 * k**2) == "no"


def test_classes_of_another_data_set_are_not_measured(study: Any) -> None:
    other = Changed(study)
    other.class_names = ["0", "1", "2", "3"]
    found = claims(other).set_index("claim")["holds"]  # type: ignore[arg-type]
    assert found.filter(like="automobile").tolist() == ["not measured"]


class Reader(HTMLParser):
    """Collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_stands_alone(study: Any, page: Path) -> None:
    text = page.read_text(encoding="utf8")
    reader = Reader()
    reader.feed(text)
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "iframe")]
    images = [a for tag, a in reader.tags if tag == "img"]
    assert [image["src"] for image in images] == [f"{name}.png" for name in FIGURES]
    assert all(image["alt"] for image in images)
    for attributes in images:
        assert (page.parent / str(attributes["src"])).stat().st_size > 5_000
    assert "http" not in text and "<made-up>" not in text and "&lt;made-up&gt;" in text
    for title in TITLES.values():
        assert f"<h2>{title}</h2>" in text.replace("&#x27;", "'")


def test_what_the_page_shows_lies_beside_it(study: Any, page: Path) -> None:
    for name in FIGURES:
        assert len(pd.read_csv(page.parent / f"{name}.csv", index_col=0)) > 0
    found = pd.read_csv(page.parent / "claims.csv")
    lines = (page.parent / "claims.md").read_text(encoding="utf8").splitlines()
    assert lines[0] == RULE
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert rows[0] == list(found.columns)
    assert rows[2:] == found.to_numpy().tolist()
    assert not list(page.parent.glob("*.new*")), "nothing is left half written"
