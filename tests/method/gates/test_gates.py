"""Gates: equations 13 to 16, written out, and what training promises."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

from skquee import PathErrorRegressor, PathProbabilities, PathTree
from skquee.gates import entropy, gate_features, gate_layouts
from skquee.method.gates._mlp import _deviations, _parted
from skquee.testing import make_path_probabilities

TABLE, Y = make_path_probabilities(240)
TREE = TABLE.paths
GOALS = 1 - np.asarray(TABLE).max(axis=2)  # any numbers in [0, 1], one a path


def quick(**options: Any) -> PathErrorRegressor:
    default = {"schedule": "constant", "max_epochs": 8, "batch_size": 64, "random_state": 0}
    return PathErrorRegressor(**{**default, **options})


def literal_features(now: np.ndarray, before: np.ndarray | None) -> list[float]:
    """Equation 13 for one sample."""

    def h(vector: np.ndarray) -> float:
        return -sum(p * math.log(p) for p in vector if p > 0)

    if before is None:
        return [*now, *[0.0] * len(now), h(now), 0.0, 0.0, max(now)]
    return [*now, *before, h(now), h(before), max(before), max(now)]


def literal_network(weights: dict[str, np.ndarray], u: np.ndarray, code: np.ndarray) -> float:
    """Equation 15 for one sample and one path, on the joined input."""
    first = np.concatenate([weights["sample"], weights["path"]])
    x = np.concatenate([u, code]).astype(np.float64)
    x = np.maximum(x @ first + weights["bias"], 0)
    x = np.maximum(x @ weights["hidden"] + weights["hidden_bias"], 0)
    return float(1 / (1 + np.exp(-(x @ weights["output"] + weights["output_bias"][0]))))


def test_features_are_equation_13() -> None:
    now, before = TABLE.path("8-4")[:25].copy(), TABLE.path("8")[:25]
    now[0] = [1, 0, 0, 0]
    for previous in (before, None):
        found = gate_features(now, previous)
        expected = [
            literal_features(now[i], None if previous is None else previous[i]) for i in range(25)
        ]
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-6)
    assert entropy(np.array([1.0, 0.0])) == 0
    assert entropy(np.array([1.0, 0.0], dtype=np.float16)) == 0


@pytest.mark.parametrize(
    "tree",
    [TREE, PathTree.chain([1, 1, 1]), PathTree.cascade([1, 2, 3])],
    ids=["levels", "chain", "cascade"],
)
def test_prediction_is_equation_15_on_every_open_path_and_nan_elsewhere(tree: PathTree) -> None:
    table = make_path_probabilities(120, tree)[0]
    goals = 1 - np.asarray(table).max(axis=2)[:, tree.path_columns]
    gates = quick().fit(table, goals)
    for prefix in range(tree.n_paths):
        if tree.is_leaf(prefix):
            with pytest.raises(ValueError, match="so no gate follows it"):
                gates.predict(table, prefix)
            continue
        found = gates.predict(table, tree.names[prefix])
        parent = tree.parents[prefix]
        weights = gates.gates_[tree.depths[prefix] - 1].weights
        for row in range(0, 120, 29):
            u = literal_features(
                table.path(prefix)[row], None if parent < 0 else table.path(parent)[row]
            )
            for path in range(tree.n_paths):
                if prefix in tree.prefixes(path):
                    expected = literal_network(weights, np.array(u), tree.encoding[path])
                    assert found[row, path] == pytest.approx(expected, abs=2e-5)
                else:
                    assert np.isnan(found[row, path])


def test_layers_have_the_widths_asked_for() -> None:
    gates = quick(embedding_size=5, hidden_size=7, max_epochs=1).fit(TABLE, GOALS)
    assert len(gates.gates_) == TREE.n_exits - 1
    shapes = {name: array.shape for name, array in gates.gates_[0].weights.items()}
    assert shapes == {
        "sample": (2 * 4 + 4, 5),
        "path": (TREE.n_exits + 1, 5),
        "bias": (5,),
        "hidden": (5, 7),
        "hidden_bias": (7,),
        "output": (7,),
        "output_bias": (1,),
    }
    assert all(array.dtype == np.float32 for array in gates.gates_[0].weights.values())


def held_rows(gates: PathErrorRegressor, table: PathProbabilities, goals: np.ndarray) -> list[int]:
    """Rows whose goals change the reported error but not one weight."""
    rows = []
    for row in range(len(table)):
        other = goals.copy()
        other[row] = 1 - other[row]
        again = quick(max_epochs=1).fit(table, other)
        same = all(
            np.array_equal(a.weights[k], b.weights[k])
            for a, b in zip(gates.gates_, again.gates_, strict=True)
            for k in a.weights
        )
        if same:
            rows.append(row)
    return rows


def test_reported_error_is_the_root_mean_square_of_equation_16_on_rows_not_trained_on() -> None:
    table, goals = TABLE[:40], GOALS[:40].astype(np.float32)
    gates = quick(max_epochs=1).fit(table, goals)
    held = held_rows(gates, table, goals)
    assert len(held) == 4  # validation_fraction
    per_gate: list[list[float]] = [[], []]
    for prefix in range(TREE.n_paths):
        if TREE.is_leaf(prefix):
            continue
        found = gates.predict(table[held], prefix)
        for path in TREE.descendants(prefix):
            for i, row in enumerate(held):
                per_gate[TREE.depths[prefix] - 1].append((found[i, path] - goals[row, path]) ** 2)
    assert np.allclose(gates.gate_rmse_, [np.sqrt(np.mean(part)) for part in per_gate], atol=1e-6)
    assert gates.rmse_ == pytest.approx(np.sqrt(np.mean(sum(per_gate, []))), abs=1e-6)


def test_kept_weights_are_those_of_the_best_epoch() -> None:
    gates = quick(max_epochs=30, learning_rate=0.3).fit(TABLE, GOALS)
    for report, error in zip(gates.reports_, gates.gate_rmse_, strict=True):
        assert len(report["validation_loss"]) == report["n_epochs"]
        assert min(report["validation_loss"]) == pytest.approx(error**2, rel=1e-4)


def test_folded_standardisation_survives_features_and_levels_of_any_scale() -> None:
    tree = PathTree.from_levels(3, (1000, 8000))
    table = PathProbabilities(np.asarray(TABLE), tree)
    gates = quick(max_epochs=25).fit(table, GOALS)
    small = quick(max_epochs=25).fit(TABLE, GOALS)
    assert gates.rmse_ == pytest.approx(small.rmse_, rel=0.3)
    # Stored weights act on raw input: the loss of training is the loss of predict.
    for report, error in zip(gates.reports_, gates.gate_rmse_, strict=True):
        assert min(report["validation_loss"]) == pytest.approx(error**2, rel=1e-3)


def test_gates_learn_what_the_sample_tells_and_converge_by_default() -> None:
    gates = PathErrorRegressor(random_state=0).fit(TABLE, GOALS)  # a warning would be an error
    assert all(report["converged"] for report in gates.reports_)
    assert gates.rmse_ < 0.8 * GOALS.std()
    found = gates.predict(TABLE, "8-8")
    assert np.corrcoef(found[:, TREE.index("8-8")], GOALS[:, TREE.index("8-8")])[0, 1] > 0.9


def test_too_few_epochs_warn_and_the_papers_schedule_does_not() -> None:
    with pytest.warns(ConvergenceWarning) as caught:
        PathErrorRegressor(max_epochs=1, random_state=0).fit(TABLE, GOALS)
    for block, warning in enumerate(caught, start=1):
        assert f"gate after block {block} was still improving" in str(warning.message)
        assert "max_epochs=1; raise max_epochs" in str(warning.message)
    assert len(caught) == 2
    paper = PathErrorRegressor(
        schedule="constant", learning_rate=1e-3, max_epochs=2, random_state=0
    ).fit(TABLE, GOALS)
    assert [report["n_epochs"] for report in paper.reports_] == [2, 2]


def test_epochs_are_even_parts_of_a_pass_where_it_is_long() -> None:
    order = np.arange(1000)
    for steps, n_parts in ((20, 1), (8, 3), (1, 20), (1000, 1)):
        parts = _parted(order, 50, steps)
        sizes = [len(part) for part in parts]
        assert len(parts) == n_parts
        assert max(sizes) <= steps
        assert max(sizes) - min(sizes) <= 1
        assert np.array_equal(np.concatenate([rows for part in parts for rows in part]), order)


def test_deviations_are_those_of_all_columns_at_once_to_the_bit() -> None:
    features = np.random.default_rng(0).gamma(0.5, size=(700, 131)).astype(np.float32)
    assert np.array_equal(_deviations(features), features.std(axis=0, dtype=np.float64))


def test_before_anything_has_run_every_sample_gets_the_mean_target() -> None:
    weights = np.arange(240.0)
    gates = quick(max_epochs=1).fit(TABLE, GOALS, sample_weight=weights)
    expected = (GOALS * weights[:, None]).sum(axis=0) / weights.sum()
    assert np.allclose(gates.base_errors_, expected)
    assert np.allclose(gates.predict(TABLE[:3]), np.tile(expected, (3, 1)))


def test_any_regressor_can_be_the_module() -> None:
    gates = PathErrorRegressor(DecisionTreeRegressor(max_depth=4), random_state=0).fit(TABLE, GOALS)
    found = gates.predict(TABLE, "8-4")
    module = gates.gates_[1]
    u = gate_features(TABLE.path("8-4"), TABLE.path("8"))
    for path in TREE.descendants("8-4"):
        joined = np.hstack([u, np.tile(TREE.encoding[path], (240, 1))])
        assert np.allclose(found[:, path], np.clip(module.predict(joined), 0, 1))
    assert np.isnan(found[:, TREE.index("8")]).all()
    assert gates.rmse_ < GOALS.std()
    assert gates.reports_ == [{}, {}]


def test_a_regressors_answers_are_clipped_to_probabilities() -> None:
    wild = LinearRegression()
    gates = PathErrorRegressor(wild, random_state=0).fit(TABLE, np.round(GOALS))
    found = gates.predict(TABLE, "8")
    assert found.min() >= 0
    assert found.max() <= 1


def test_weights_count_and_a_module_that_cannot_take_them_is_named() -> None:
    weights = (np.arange(240) < 120) + 0.0
    goals = np.where(np.arange(240)[:, None] < 120, 0.1, 0.9) * np.ones((1, 6))
    for module in (None, DecisionTreeRegressor(max_depth=2)):
        gates = quick(estimator=module, max_epochs=30).fit(TABLE, goals, sample_weight=weights)
        assert abs(np.nanmean(gates.predict(TABLE, "8")) - 0.1) < 0.05
    with pytest.raises(ValueError, match="KNeighborsRegressor does not take it"):
        quick(estimator=KNeighborsRegressor()).fit(TABLE, goals, sample_weight=weights)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_change_no_bit(backend: str) -> None:
    with parallel_config(backend=backend):
        one, two = (quick(n_jobs=n).fit(TABLE, GOALS) for n in (1, 2))
    assert np.array_equal(one.predict(TABLE, "8"), two.predict(TABLE, "8"))
    assert one.rmse_ == two.rmse_
    assert not np.array_equal(
        quick(random_state=1).fit(TABLE, GOALS).predict(TABLE, "8"), one.predict(TABLE, "8")
    )


def test_too_many_pairs_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Noting(LinearRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            sizes.append(len(X))
            return super().fit(X, y)

    quick(estimator=Noting()).fit(TABLE, GOALS)
    layouts = gate_layouts(TREE)
    # 216 training rows, each with every path that starts with each prefix
    assert sizes == [216 * int((layout.candidates >= 0).sum()) for layout in layouts]
    sizes.clear()
    few = quick(estimator=Noting(), max_pairs=100).fit(TABLE, GOALS)
    assert sizes[0] == 100 * 6
    assert 100 * 2 <= sizes[1] <= 100 * 3
    assert few.predict(TABLE, "8-8").shape == (240, 6)
    assert np.isfinite(quick(max_pairs=100).fit(TABLE, GOALS).rmse_)


def test_only_the_last_two_columns_are_read() -> None:
    gates = quick().fit(TABLE, GOALS)
    values = np.full(TABLE.shape, np.nan)
    for name in ("8", "8-4"):
        values[:, TREE.index(name)] = TABLE.path(name)
    found = gates.predict(PathProbabilities(values, TREE), "8-4")
    assert np.array_equal(found, gates.predict(TABLE, "8-4"), equal_nan=True)


def test_a_fitted_regressor_predicts_where_there_is_no_torch(tmp_path: Path) -> None:
    gates = quick().fit(TABLE, GOALS)
    (tmp_path / "gates.pickle").write_bytes(pickle.dumps((gates, TABLE, gates.predict(TABLE, "8"))))
    script = (
        "import sys, pickle\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError('no torch here')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import numpy as np\n"
        "gates, table, expected = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert np.array_equal(gates.predict(table, '8'), expected, equal_nan=True)\n"
        "print('same')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "gates.pickle")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        check=False,
    )
    assert done.stdout == "same\n", done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_size": 0}, "embedding_size must be an integer >= 1"),
        ({"max_epochs": 0}, "max_epochs must be an integer >= 1"),
        ({"max_pairs": 1}, "max_pairs must be an integer >= 2"),
        ({"validation_fraction": 1.0}, "validation_fraction must be a finite number > 0 and < 1"),
        ({"schedule": "cosine"}, r"schedule must be one of \['plateau', 'constant'\]"),
    ],
)
def test_bad_options_fail(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(TABLE, GOALS)


def test_bad_targets_and_tables_fail() -> None:
    with pytest.raises(ValueError, match=r"\(240, 6\), got \(240, 5\)"):
        quick().fit(TABLE, GOALS[:, :5])
    for bad in (np.nan, -0.1, 1.1):
        goals = GOALS.copy()
        goals[3, 2] = bad
        with pytest.raises(ValueError, match="between 0 and 1"):
            quick().fit(TABLE, goals)
    with pytest.raises(ValueError, match="sample_weight.shape == "):
        quick().fit(TABLE, GOALS, sample_weight=np.ones(3))
    with pytest.raises(NotFittedError):
        quick().predict(TABLE)
    values = np.asarray(TABLE).copy()
    values[11, 0, 2] = np.nan
    with pytest.raises(ValueError, match="NaN for row 11, path '8'"):
        quick().fit(PathProbabilities(values, TREE), GOALS)
