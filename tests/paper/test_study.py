"""The experiment on a small network: what it computes, keeps and draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from timm.models.vision_transformer import VisionTransformer

from skquee import PathTree
from skquee.baselines import ThresholdRouter
from skquee.evaluation import CostCurve
from skquee.networks import MultiExitNetwork, UniformPTQ, train_backbone
from skquee.paper import Setting, Study, _methods, _study, reproduce
from skquee.paper._claims import claims
from skquee.paper._figures import FIGURES
from skquee.paper._store import Store

TINY = Setting.quick(
    n_clusters=6,
    lambdas=(0.0, 1.0),
    alphas=(0.0, 2.0),
    jei_epochs=2,
    dqnet_epochs=2,
    ece_clusters=(1, 3, 6, 12),
    curve_clusters=(1, 5, 8),
    shown_clusters=(3, 8),
    many_clusters=10,
    next_step_lambdas=(0.1, 1.0),
    n_resamples=40,
)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def splits() -> dict[str, Any]:
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8) / 16
    rows = np.random.default_rng(0).permutation(len(y))
    parts = {"train": rows[:700], "val": rows[700:1000], "test": rows[1000:1400]}
    return {part: (X[r], y[r]) for part, r in parts.items()}


@pytest.fixture(scope="module")
def network(splits: Any) -> MultiExitNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = VisionTransformer(
            img_size=8,
            patch_size=4,
            in_chans=1,
            embed_dim=32,
            depth=3,
            num_heads=2,
            num_classes=10,
            weight_init="jax",
        )
    train_backbone(backbone, *splits["train"], epochs=8, random_state=0)
    network = MultiExitNetwork(backbone, exits=(1, 2, 3), random_state=0)
    network.fit(*splits["train"], validation_data=splits["val"])
    return network.quantize((3, 4, 8), calibration=splits["train"][0][:64], method=UniformPTQ())


@pytest.fixture(scope="module")
def study(network: Any, splits: Any, tmp_path_factory: Any) -> Study:
    folder = tmp_path_factory.mktemp("study")
    return reproduce(
        network, splits, folder, title="A small network", setting=TINY, class_names=NAMES
    )


def test_every_figure_claim_and_page_is_there(study: Study) -> None:
    folder = study.folder
    for name in FIGURES:
        assert (folder / f"{name}.png").stat().st_size > 5_000
        assert len(pd.read_csv(folder / f"{name}.csv")) > 0
    page = (folder / "report.html").read_text(encoding="utf8")
    for name in FIGURES:
        assert f'src="{name}.png"' in page
    assert "A small network" in page and "http" not in page
    found = pd.read_csv(folder / "claims.csv")
    assert set(found["holds"]) <= {"yes", "no", "level", "not measured"}
    assert found["claim"].is_unique and len(found) == 22
    assert not list(folder.rglob("*.new*")), "nothing is left half written"


def test_the_methods_are_measured_on_the_test_rows_in_one_unit_of_cost(study: Study) -> None:
    y = study.labels["test"]
    for name in ("QuEE", "JEI-DNN", "DQNet", "PTQ4ViT", "Thresholding", "Oracle", "Next step"):
        curve = study.curve(name)
        assert curve.paths.shape[1] == len(y) and curve.label == name
        assert curve.cost.max() <= 1 + 1e-9
    assert len(study.curve("JEI-DNN")) == 2 and len(study.curve("DQNet")) == 3 * 2
    threshold = ThresholdRouter().fit(study.table("val"), study.labels["val"])
    again = threshold.cost_curve(None, study.table("test"), y)
    np.testing.assert_array_equal(again.paths, study.curve("Thresholding").paths)


def test_ptq4vit_alone_runs_every_block_at_one_width(study: Study, splits: Any) -> None:
    curve, network = study.curve("PTQ4ViT"), study.network
    np.testing.assert_allclose(np.sort(curve.cost), [3 / 8, 4 / 8, 1.0])
    X, y = splits["test"]
    for cost, accuracy in zip(curve.cost, curve.accuracy, strict=True):
        state = network.start(X)
        for block in range(3):
            state = network.run_block(state, block, round(8 * cost))
        answers = network.classes_[network.head(state, 2, 8).argmax(axis=1)]
        # An answer on the edge may turn where rows are run in other company.
        assert abs(np.mean(answers == y) - accuracy) <= 1 / len(y)


def test_the_gates_learn_on_training_rows_with_clusters_of_validation_rows(study: Study) -> None:
    router = study.router()
    assert sum(router.targets_.cluster_size_[0]) == len(study.labels["val"])
    goals = router.targets_.transform(study.table("train"))
    np.testing.assert_allclose(router.regressor_.base_errors_, goals.mean(axis=0), atol=1e-6)


def test_rmse_is_over_every_prefix_and_path(study: Study) -> None:
    name, rmse, _ = study.by_regressor()[0]
    router, table, tree = study.router(), study.table("test"), study.tree
    goals = study.targets().transform(table)
    squares = []
    for prefix in range(tree.n_paths):
        if not tree.is_leaf(prefix):
            found = router.regressor_.predict(table, prefix=prefix)
            squares.append(((found - goals) ** 2)[np.isfinite(found)])
    assert name == "trained to the end"
    assert rmse == pytest.approx(np.sqrt(np.mean(np.concatenate(squares))), rel=1e-4)


def test_a_second_run_computes_nothing(
    study: Study, network: Any, splits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Study(network, splits, study.folder, title="again", setting=TINY, class_names=NAMES)
    before = {file: file.stat().st_mtime_ns for file in study.store.folder.rglob("*")}

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(Study, "router", refuse)
    monkeypatch.setattr(_methods, "MAKERS", dict.fromkeys(_methods.MAKERS, refuse))
    monkeypatch.setattr(_study, "MAKERS", _methods.MAKERS)
    again.run()
    assert before == {file: file.stat().st_mtime_ns for file in study.store.folder.rglob("*")}
    np.testing.assert_array_equal(again.curve("QuEE").correct, study.curve("QuEE").correct)


def test_what_was_interrupted_is_made_good(study: Study, network: Any, splits: Any) -> None:
    file = study.store.folder / "thresholding.npz"
    earlier = study.curve("Thresholding")
    file.unlink()
    again = Study(network, splits, study.folder, title="again", setting=TINY)
    np.testing.assert_array_equal(again.curve("Thresholding").paths, earlier.paths)
    assert file.exists()


def test_results_go_to_a_folder_and_not_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="must be a folder, but"):
        Store(tmp_path / "file" / "cache")


def test_a_store_keeps_curves_bit_for_bit_and_no_half_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tree = PathTree.from_levels(2, (4, 8)).with_classes(["a", "b"])
    paths, correct = rng.integers(3, size=(4, 13)), rng.random((4, 13)) < 0.5
    curve = CostCurve(rng.random(4), paths, correct, tree, knob="path", source="x", label="y")
    store = Store(tmp_path / "new")
    for found in (store.curve("c", lambda: curve), Store(tmp_path / "new").curve("c", dict)):  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.correct, correct)
        np.testing.assert_array_equal(found.paths, paths)
        np.testing.assert_array_equal(found.knobs, curve.knobs)
        assert found.tree == tree and (found.knob, found.source, found.label) == ("path", "x", "y")

    def fail() -> CostCurve:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        store.curve("d", fail)
    assert [file.name for file in sorted(store.folder.iterdir())] == ["c.npz", "seconds.json"]
    assert list(json.loads((store.folder / "seconds.json").read_text())) == ["c"]


def test_a_folder_of_another_experiment_is_refused(study: Study, network: Any, splits: Any) -> None:
    other = Setting(**{**TINY.to_dict(), "n_clusters": 7})
    with pytest.raises(ValueError, match=r"other settings \(n_clusters 6 -> 7\)"):
        Study(network, splits, study.folder, title="again", setting=other)
    fewer = {**splits, "test": tuple(part[:50] for part in splits["test"])}
    with pytest.raises(ValueError, match=r"other settings \(test rows"):
        Study(network, fewer, study.folder, title="again", setting=TINY)
    exits = network.with_paths(PathTree.from_levels(3, (8,)))
    with pytest.raises(ValueError, match=r"other settings \(paths"):
        Study(exits, splits, study.folder, title="again", setting=TINY)


class Fake:
    """A study of given curves, to try the verdicts on."""

    def __init__(self, study: Study, curves: dict[str, CostCurve]) -> None:
        self._study, self._curves = study, curves

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def curve(self, name: str) -> CostCurve:
        return self._curves.get(name, self._study.curve(name))


def test_a_verdict_is_yes_only_where_the_interval_excludes_the_opposite(study: Study) -> None:
    line = study.tree.prefixes(study.tree.fullest)
    n = len(study.labels["test"])

    def chain(right: float) -> CostCurve:
        correct = np.random.default_rng(0).random(n) < right
        return CostCurve(
            [0.0, 1.0, 2.0], np.repeat(line[:, None], n, 1), np.tile(correct, (3, 1)), study.tree
        )

    def verdict(quee: float, threshold: float) -> str:
        curves = {"QuEE": chain(quee), "Thresholding": chain(threshold)}
        found = claims(Fake(study, curves))  # type: ignore[arg-type]
        return str(found.set_index("claim").loc["QuEE is above thresholding", "holds"])

    assert verdict(0.9, 0.5) == "yes"
    assert verdict(0.5, 0.9) == "no"
    assert verdict(0.7, 0.7) == "level"


def test_bad_input_is_refused_before_work_starts(network: Any, splits: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['val'\] are missing"):
        Study(network, {k: v for k, v in splits.items() if k != "val"}, tmp_path, title="")
    with pytest.raises(ValueError, match="class_names must be 10, got 2"):
        Study(network, splits, tmp_path, title="", class_names=["a", "b"])
    one = network.with_paths(PathTree.from_levels(3, (8,)))
    one.parts_ = replace(one.parts_, levels={8: one.parts_.levels[8]})
    with pytest.raises(ValueError, match="two or more"):
        Study(one, splits, tmp_path, title="")
    study = Study(network, splits, tmp_path, title="")
    with pytest.raises(ValueError, match="name must be one of"):
        study.curve("QuEE2")
    with pytest.raises(ValueError, match="part must be one of"):
        study.table("validation")
