from __future__ import annotations

import subprocess
import sys
from copy import copy

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import entropy
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathProbabilities,
    PathTree,
    RoutedClassifier,
)
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.display import (
    ClusterDisplay,
    CostCurveDisplay,
    ErrorCalibrationDisplay,
    PathUsageDisplay,
)
from skquee.display._style import line_style
from skquee.evaluation import (
    CostCurve,
    bootstrap_interval,
    calibration_bins,
    calibration_error,
    compare,
    subset_interval,
)

TREE = PathTree.from_levels(n_exits=3, levels=(4, 8)).with_classes(["ant", "bee", "cat"])


def make_table(n=240, seed=0):
    """Three classes, "ant" the easiest; longer paths and higher levels answer better."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(3, size=n)
    logits = rng.normal(size=(n, TREE.n_paths, 3))
    logits[np.arange(n), :, codes] += 4 * TREE.path_costs * (1.5 - 0.5 * codes)[:, None]
    values = np.exp(logits)
    values /= values.sum(axis=2, keepdims=True)
    return PathProbabilities(values, TREE), np.array(["ant", "bee", "cat"])[codes]


@pytest.fixture(scope="module")
def router():
    return CostAwareRouter(
        0.2,
        targets=ClusteredErrorTargets(n_clusters=6, n_init=1),
        regressor=PathErrorRegressor(schedule="constant", max_epochs=20, batch_size=32),
        random_state=0,
    ).fit(*make_table())


@pytest.fixture(scope="module")
def banked():
    """Raw X, labels, a Pipeline of bank and router, and the same two as a RoutedClassifier."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    models = [("line", LogisticRegression()), ("tree", DecisionTreeClassifier(max_depth=4))]
    frozen = [(name, FrozenEstimator(model.fit(X, y))) for name, model in models]
    bank = MultiPathClassifierBank(frozen, step_costs=[1, 3])
    pipe = make_pipeline(bank, ThresholdRouter(0.7)).fit(X, y)
    return X, y, pipe, RoutedClassifier(bank, ThresholdRouter(0.7)).fit(X, y)


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def test_display_loads_matplotlib_only_to_plot():
    code = "import skquee.display, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "draw",
    [
        lambda e, X, y, **kw: CostCurveDisplay.from_estimator(e, X, y, lambdas=[0.1, 0.5], **kw),
        PathUsageDisplay.from_estimator,
        ErrorCalibrationDisplay.from_estimator,
    ],
)
def test_display_draws_on_the_given_axes_and_opens_no_figure(draw, router):
    figure, ax = plt.subplots()
    display = draw(router, *make_table(), ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    "draw",
    [
        CostCurveDisplay.from_estimator,
        PathUsageDisplay.from_estimator,
        ErrorCalibrationDisplay.from_estimator,
    ],
)
def test_legend_lies_beside_the_axes_and_inside_the_figure(draw, router):
    display = draw(router, *make_table())
    display.figure_.draw_without_rendering()
    box = display.legend_.get_window_extent()
    assert box.x0 >= display.ax_.get_window_extent().x1
    assert box.x1 <= display.figure_.bbox.x1
    assert box.y0 >= 0


# ---------------------------------------------------------------------- cost curves


def test_curve_line_is_the_hull_and_dots_are_the_operating_points(router):
    X, y = make_table(seed=1)
    display = CostCurveDisplay.from_estimator(router, X, y, lambdas=[0.0, 0.1, 0.5, 2.0])
    curve = router.cost_curve([0.0, 0.1, 0.5, 2.0], X, y)
    np.testing.assert_array_equal(display.points_[0].get_data(), [curve.cost, curve.accuracy])
    cost, accuracy = curve.hull()
    np.testing.assert_array_equal(
        display.line_.get_xydata()[:-1], np.column_stack([cost, accuracy])
    )
    np.testing.assert_array_equal(display.line_.get_xydata()[-1], [1.0, accuracy[-1]])
    assert display.line_.get_label() == "CostAwareRouter"


def test_fixed_paths_and_oracle_stand_beside_the_curve(router):
    X, y = make_table(seed=1)
    display = CostCurveDisplay.from_estimator(router, X, y, lambdas=[0.1])
    answers = np.asarray(X).argmax(axis=2)
    right = np.array(TREE.classes)[answers] == y[:, None]
    offsets = np.column_stack([TREE.path_costs, right.mean(axis=0)])
    np.testing.assert_allclose(display.fixed_.get_offsets(), offsets)
    assert display.oracle_.get_ydata()[-1] == pytest.approx(right.any(axis=1).mean())
    bare = CostCurveDisplay.from_estimator(router, X, y, lambdas=[0.1], fixed=False, oracle=False)
    assert bare.fixed_ is None
    assert bare.oracle_ is None
    assert bare.texts_ == []


def test_costs_set_on_the_router_hold_for_everything_drawn(router):
    X, y = make_table(seed=1)
    priced = copy(router).set_params(path_costs=TREE.path_costs * 40)
    display = CostCurveDisplay.from_estimator(priced, X, y, lambdas=[0.0, 0.01])
    assert display.fixed_.get_offsets()[:, 0].max() == 40
    assert display.line_.get_xdata()[-1] == 40
    assert display.oracle_.get_xdata()[-1] == 40


def test_only_names_of_unbeaten_paths_are_written_and_none_collide(router):
    display = CostCurveDisplay.from_estimator(router, *make_table(seed=1))
    cost, accuracy = display.fixed.hull()
    assert display.texts_
    boxes = [text.get_window_extent() for text in display.texts_]
    frame = display.ax_.get_window_extent()
    for i, (text, box) in enumerate(zip(display.texts_, boxes, strict=True)):
        assert TREE.path_costs[TREE.index(text.get_text())] in cost
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
    marks = display.ax_.transData.transform(display.fixed_.get_offsets())
    assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_every_path_of_a_short_cascade_is_named():
    X, y = make_table()
    tree = PathTree.chain([1, 3, 8], names=["small", "medium", "large"]).with_classes(TREE.classes)
    table = PathProbabilities(np.asarray(X)[:, [0, 2, 5]], tree)
    display = CostCurveDisplay.from_estimator(ThresholdRouter().fit(table, y), table, y)
    assert [text.get_text() for text in display.texts_] == ["small", "medium", "large"]


def test_bands_are_the_intervals(router):
    X, y = make_table(seed=1)
    first = router.cost_curve([0.0, 0.1, 0.5], X, y)
    second = ThresholdRouter().fit(X, y).cost_curve([0.5, 0.9], X, y)
    frame = subset_interval(first, random_state=0)
    display = CostCurveDisplay.from_predictions([first, second], intervals=[frame, None])
    corners = {tuple(v) for v in display.bands_[0].get_paths()[0].vertices}
    for side in ("accuracy_low", "accuracy_high"):
        assert set(zip(frame["cost"], frame[side], strict=True)) <= corners
    assert display.bands_[1] is None
    alone = CostCurveDisplay.from_predictions(
        first, intervals=bootstrap_interval(first, n_resamples=20, random_state=0)
    )
    assert alone.bands_[0] is not None


def test_curves_are_told_apart_by_colour_marker_and_name():
    X, y = make_table()
    curve = ThresholdRouter().fit(X, y).cost_curve([0.5, 0.9], X, y)
    display = CostCurveDisplay.from_predictions([curve] * 3, names=["a", "b", "c"])
    assert len({line.get_color() for line in display.lines_}) == 3
    assert len({line.get_marker() for line in display.lines_}) == 3
    assert [text.get_text() for text in display.legend_.get_texts()] == ["a", "b", "c"]


def test_eight_curves_and_more_differ_in_colour_and_in_marker_and_dashes():
    X, y = make_table()
    curve = ThresholdRouter().fit(X, y).cost_curve([0.5, 0.9], X, y)
    display = CostCurveDisplay.from_predictions([curve] * 9, names=list("abcdefghi"))
    assert len({line.get_color() for line in display.lines_}) == 9
    assert len({line.get_marker() for line in display.lines_}) == 9
    # Each line carries its markers, and neighbours are told apart in grey print.
    assert all(line.get_markevery() for line in display.lines_)
    looks = [tuple(map(str, line_style(place).values())) for place in range(36)]
    assert len(set(looks)) == 36
    assert all(one[2] != other[2] for one, other in zip(looks, looks[1:], strict=False))


@pytest.mark.parametrize("log_cost", [False, True])
def test_bands_are_as_long_as_their_lines(router, log_cost):
    X, y = make_table(seed=1)
    curves = [
        router.cost_curve([0.1, 0.5], X, y),
        ThresholdRouter().fit(X, y).cost_curve([0.5, 0.7], X, y),
    ]
    intervals = [
        subset_interval(curves[0], random_state=0),
        bootstrap_interval(curves[1], costs=7, n_resamples=20, random_state=0),
    ]
    display = CostCurveDisplay.from_predictions(
        curves, intervals=intervals, names=["a", "b"], log_cost=log_cost
    )
    for line, band in zip(display.lines_, display.bands_, strict=True):
        corners = band.get_paths()[0].vertices[:, 0]
        assert corners.max() == pytest.approx(1.0)
        assert corners.min() == pytest.approx(line.get_xdata().min())
        assert line.get_xdata().max() == pytest.approx(1.0)


def test_a_comparison_is_drawn_with_its_names_and_the_intervals_of_its_hulls(router):
    X, y = make_table(seed=1)
    methods = {"quee": router, "threshold": ThresholdRouter().fit(X, y)}
    table = compare(methods, X, y, confidence=0.9, n_resamples=20, random_state=3)
    display = CostCurveDisplay.from_comparison(table)
    assert [line.get_label() for line in display.lines_] == list(methods)
    curve = table.attrs["curves"]["quee"]
    low = float(curve.cost.min())
    frame = bootstrap_interval(
        curve, costs=[low, 1.0], confidence=0.9, n_resamples=20, random_state=3
    )
    corners = display.bands_[0].get_paths()[0].vertices
    for side in ("accuracy_low", "accuracy_high"):
        for cost, height in zip(frame["cost"], frame[side], strict=True):
            assert np.isclose(corners, [cost, height]).all(axis=1).any()
    assert CostCurveDisplay.from_comparison(table, bands=False).bands_ == [None, None]
    many = compare({str(i): curve for i in range(4)}, None, n_resamples=2, random_state=0)
    assert CostCurveDisplay.from_comparison(many).bands_ == [None] * 4
    with pytest.raises(ValueError, match="table must be what compare.* got DataFrame with attrs"):
        CostCurveDisplay.from_comparison(pd.DataFrame({"area": [1.0]}))


def test_the_axis_of_costs_can_be_logarithmic_and_lines_stay_what_mixing_reaches():
    tree = PathTree.chain([1, 99], cost_unit="ms")
    curve = CostCurve([0, 1], [[0, 0], [1, 1]], [[0, 1], [1, 1]], tree)
    display = CostCurveDisplay.from_predictions(curve, log_cost=True)
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "Mean cost (ms)"
    cost, height = display.line_.get_data()
    np.testing.assert_allclose(height, 0.5 + 0.5 * (cost - 1) / 99)
    assert len(cost) > 50
    free = CostCurve([0], [[0, 0]], [[0, 1]], PathTree.chain([0, 5]))
    with pytest.raises(ValueError, match="log_cost needs mean costs above 0, got 0"):
        CostCurveDisplay.from_predictions(free, log_cost=True)


def test_the_legend_goes_where_there_is_room():
    X, y = make_table()
    curve = ThresholdRouter().fit(X, y).cost_curve([0.5, 0.9], X, y)

    def beside(display):
        display.figure_.draw_without_rendering()
        right = display.ax_.get_window_extent().x1
        return display.legend_.get_window_extent().x0 >= right

    two = [curve, curve]
    assert beside(CostCurveDisplay.from_predictions(two))
    assert not beside(CostCurveDisplay.from_predictions(two, ax=plt.subplots()[1]))
    roomy = plt.subplots(layout="constrained")[1]
    assert beside(CostCurveDisplay.from_predictions(two, ax=roomy))
    assert not beside(CostCurveDisplay.from_predictions(curve))  # of one name
    assert beside(CostCurveDisplay.from_predictions(curve, legend="beside"))
    assert not beside(CostCurveDisplay.from_predictions(curve, legend="inside"))
    assert CostCurveDisplay.from_predictions(curve, legend="none").legend_ is None
    assert curve.plot(legend="none").legend_ is None
    with pytest.raises(ValueError, match="legend must be one of"):
        CostCurveDisplay.from_predictions(curve, legend="left")


def test_picture_says_which_rows_were_measured(router):
    X, y = make_table(seed=1)
    given, own = router.cost_curve([0.1], X, y), router.cost_curve([0.1])
    one = CostCurveDisplay.from_predictions(own)
    assert one.ax_.get_title(loc="left") == f"Measured on {own.source}"
    two = CostCurveDisplay.from_predictions([given, own], names=["test", "own"])
    labels = [text.get_text() for text in two.legend_.get_texts()]
    assert labels == ["test (240 given rows)", f"own ({own.source})"]


@pytest.mark.parametrize(("what", "given"), [("names", ["a"]), ("intervals", [None])])
def test_names_and_intervals_must_match_the_curves(what, given):
    X, y = make_table()
    curve = ThresholdRouter().fit(X, y).cost_curve([0.5], X, y)
    with pytest.raises(ValueError, match=f"{what} has 1 entries for 2 curves"):
        CostCurveDisplay.from_predictions([curve, curve], **{what: given})


def test_curve_of_a_pipeline_or_routed_classifier_is_that_of_its_router(banked):
    X, y, pipe, routed = banked
    table = pipe[0].transform(X)
    for estimator, router in ((pipe, pipe[-1]), (routed, routed.router_)):
        display = CostCurveDisplay.from_estimator(estimator, X, y, lambdas=[0.5, 0.8], name="mine")
        curve = router.cost_curve([0.5, 0.8], table, y)
        np.testing.assert_array_equal(display.points_[0].get_data(), [curve.cost, curve.accuracy])
        assert len(display.fixed_.get_offsets()) == 2
        assert display.line_.get_label() == "mine"


def test_bare_arrays_and_line_styles_are_taken(router):
    X, y = make_table()
    display = CostCurveDisplay.from_estimator(
        router, np.asarray(X), y, lambdas=[0.1], color="red", linewidth=5
    )
    assert display.line_.get_color() == "red"
    assert display.line_.get_linewidth() == 5
    assert display.points_[0].get_color() == "red"


# ---------------------------------------------------------------------- path usage


def test_bars_are_the_shares_of_each_class(router):
    X, y = make_table(seed=1)
    display = PathUsageDisplay.from_estimator(router, X, y)
    names = np.array(TREE.names)[router.predict_path(X)]
    expected = pd.crosstab(y, names, normalize="index")
    rows = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert sorted(rows) == ["ant", "bee", "cat"]
    for bars in display.bars_:
        widths = [bar.get_width() for bar in bars]
        np.testing.assert_allclose(widths, expected.loc[rows, bars.get_label()])
    assert {bars.get_label() for bars in display.bars_} == set(expected)


def test_bars_start_where_the_one_before_ends_and_fill_the_class(router):
    display = PathUsageDisplay.from_estimator(router, *make_table(seed=1))
    end = np.zeros(3)
    for bars in display.bars_:
        np.testing.assert_allclose([bar.get_x() for bar in bars], end, atol=1e-12)
        end += [bar.get_width() for bar in bars]
    np.testing.assert_allclose(end, 1)


def test_classes_go_from_cheap_to_dear_with_their_mean_cost():
    paths = [TREE.fullest, TREE.fullest, 0, 0, 0, TREE.fullest]
    y = ["ant", "ant", "bee", "bee", "cat", "cat"]
    display = PathUsageDisplay.from_predictions(y, paths, tree=TREE)
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["bee", "cat", "ant"]
    low, high = display.ax_.get_ylim()
    assert low > high  # the first row is on top
    written = [text.get_text() for text in display.ax_.texts]
    assert [w for w in written if not w.startswith("mean cost")] == ["0.333", "0.667", "1.00"]


@pytest.mark.parametrize(
    ("by", "labels", "shares"),
    [("exit", ["1", "2", "3"], [0.25, 0.25, 0.5]), ("level", ["4", "8"], [0.25, 0.75])],
)
def test_paths_can_be_put_together_by_exit_or_level(by, labels, shares):
    paths = [TREE.index(name) for name in ("8", "8-8", "8-8-4", "8-8-8")]
    display = PathUsageDisplay.from_predictions(["ant"] * 4, paths, tree=TREE, by=by)
    assert [bars.get_label() for bars in display.bars_] == labels
    assert [bars[0].get_width() for bars in display.bars_] == pytest.approx(shares)


def test_levels_without_an_order_keep_that_of_the_tree():
    tree = PathTree.from_paths([("int8",), ("int8", "bf16"), ("int8", 4)], path_costs=[1, 2, 3])
    display = PathUsageDisplay.from_predictions([0, 0], [1, 2], tree=tree, by="level")
    assert [bars.get_label() for bars in display.bars_] == ["int8", "bf16", "4"]


def test_weights_count_like_copies_and_classes_without_weight_are_left_out():
    y, paths = np.array(["ant", "ant", "bee", "cat"]), np.array([0, 1, 1, 0])
    weights = np.array([3, 1, 0, 2])
    weighted = PathUsageDisplay.from_predictions(y, paths, tree=TREE, sample_weight=weights)
    copied = PathUsageDisplay.from_predictions(y.repeat(weights), paths.repeat(weights), tree=TREE)
    assert weighted.classes == copied.classes == ["ant", "cat"]
    np.testing.assert_array_equal(weighted.shares, copied.shares)


def test_rare_paths_are_shown_together():
    tree = PathTree.from_levels(n_exits=4, levels=(4, 6, 8))
    paths = np.arange(tree.n_paths).repeat(np.arange(1, tree.n_paths + 1))
    display = PathUsageDisplay.from_predictions(np.zeros(len(paths)), paths, tree=tree)
    labels = [bars.get_label() for bars in display.bars_]
    assert len(labels) == 13
    assert labels[-1] == "other"
    rest = sum(range(1, tree.n_paths - 11)) / len(paths)
    assert display.bars_[-1][0].get_width() == pytest.approx(rest)


def test_long_legend_beside_few_classes_stays_in_the_figure():
    tree = PathTree.from_levels(n_exits=4, levels=(4, 6, 8))
    display = PathUsageDisplay.from_predictions(np.zeros(20), np.arange(20), tree=tree)
    display.figure_.draw_without_rendering()
    assert display.legend_.get_window_extent().y0 >= 0


def test_of_many_classes_the_cheapest_and_the_dearest_are_shown():
    y = np.arange(100).repeat(2)
    paths = np.where(y < 50, 0, TREE.fullest)
    paths[100:102] = 0
    display = PathUsageDisplay.from_predictions(y, paths, tree=TREE, max_classes=4)
    shown = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert shown == ["0", "1", "98", "99"]
    assert "96 in the middle left out" in display.ax_.get_ylabel()


@pytest.mark.parametrize(
    ("y", "paths", "by", "message"),
    [
        ([], [], "path", "not empty"),
        ([0, 1], [0], "path", r"shapes \(2,\) and \(1,\)"),
        ([0], [6], "path", "indices from 0 to 5"),
        ([0], [0], "block", "by must be 'path', 'exit' or 'level', got 'block'"),
    ],
)
def test_path_usage_refuses_what_does_not_fit(y, paths, by, message):
    with pytest.raises(ValueError, match=message):
        PathUsageDisplay.from_predictions(y, paths, tree=TREE, by=by)


def test_path_usage_takes_pipelines(banked):
    X, y, pipe, routed = banked
    shares = [PathUsageDisplay.from_estimator(e, X, y).shares for e in (pipe, routed)]
    np.testing.assert_array_equal(*shares)


# ---------------------------------------------------------------------- calibration


def test_calibration_line_goes_through_the_bins(router):
    X, y = make_table(seed=1)
    display = ErrorCalibrationDisplay.from_estimator(router, X, y, n_bins=8)
    routes = router.route(X)
    predicted, wrong = routes.predicted_error, routes.labels != y
    expected = calibration_bins(predicted, wrong, n_bins=8)
    np.testing.assert_array_equal(display.line_.get_data(), expected[:2])
    assert display.calibration_error == pytest.approx(
        calibration_error(predicted, wrong, n_bins=8), rel=1e-12
    )
    assert f"ECE {display.calibration_error:.3f}" in display.line_.get_label()
    assert display.line_.get_label().startswith("CostAwareRouter")


def test_second_calibration_shares_the_diagonal_and_widens_the_view():
    wrong = np.arange(60) % 3 == 0
    first = ErrorCalibrationDisplay.from_predictions(wrong, np.full(60, 0.1), name="a")
    narrow = first.ax_.get_xlim()[1]
    second = ErrorCalibrationDisplay.from_predictions(
        wrong, np.full(60, 0.9), name="b", ax=first.ax_
    )
    labels = [text.get_text() for text in second.legend_.get_texts()]
    assert [label.split("\n")[0] for label in labels] == ["calibrated", "a", "b"]
    assert second.ax_.get_xlim()[1] > 0.9 > narrow
    assert first.line_.get_color() != second.line_.get_color()


def test_calibration_of_a_method_without_predictions_is_refused(banked):
    X, y, _, _ = banked
    pipe = make_pipeline(banked[2][0], FixedPath()).fit(X, y)
    with pytest.raises(ValueError, match="method without predictions"):
        ErrorCalibrationDisplay.from_estimator(pipe, X, y)


# ---------------------------------------------------------------------- clusters


def test_boxes_hold_entropy_and_true_probability_of_their_cluster(router):
    X, y = make_table(seed=1)
    display = ClusterDisplay.from_estimator(router, X, y, path="8-8")
    index = TREE.index("8-8")
    vectors = np.asarray(X)[:, index]
    codes = np.searchsorted(TREE.classes, y)
    clusters = router.targets_.predict_clusters(X)[:, index]
    wrong = vectors.argmax(axis=1) != codes
    errors = [wrong[clusters == c].mean() for c in display.order_]
    assert errors == sorted(errors)
    assert set(display.order_) == set(clusters)
    values = (entropy(vectors, axis=1), vectors[np.arange(len(y)), codes])
    for boxes, value in zip(display.boxes_, values, strict=True):
        for box, cluster in zip(boxes, display.order_, strict=True):
            heights = box.get_path().vertices[:, 1]
            quartiles = np.quantile(value[clusters == cluster], [0.25, 0.75])
            np.testing.assert_allclose([heights.min(), heights.max()], quartiles)
    assert "8-8" in display.ax_[0].get_title(loc="left")


def test_clusters_of_targets_and_of_their_router_are_the_same(router):
    X, y = make_table(seed=1)
    first = ClusterDisplay.from_estimator(router, X, y)
    second = ClusterDisplay.from_estimator(router.targets_, X, y)
    assert first.path == second.path == "8-8-8"
    np.testing.assert_array_equal(first.clusters, second.clusters)


@pytest.mark.parametrize("kind", ["box", "violin"])
def test_clusters_of_one_sample_can_be_drawn(kind):
    figure, axes = plt.subplots(1, 2)
    display = ClusterDisplay.from_predictions(
        ["ant", "bee", "bee"],
        [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]],
        [7, 3, 3],
        classes=["ant", "bee"],
        kind=kind,
        ax=axes,
    )
    figure.draw_without_rendering()
    assert list(display.order_) == [7, 3]
    assert [len(boxes) for boxes in display.boxes_] == [2, 2]
    assert display.figure_ is figure


def test_darker_is_more_often_right(router):
    display = ClusterDisplay.from_estimator(router, *make_table(seed=1))
    light = [sum(box.get_facecolor()[:3]) for box in display.boxes_[0]]
    assert light == sorted(light)
    assert light[0] < light[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "bar"}, "kind must be 'box' or 'violin', got 'bar'"),
        ({"ax": [None]}, "ax must be two Axes"),
        ({"classes": ["ant", "bee", "cat"]}, r"\(n_samples, 3 classes\)"),
        ({"clusters": [0]}, "clusters must have 2 entries"),
        ({"y_true": ["ant", "dog"]}, "dog"),
    ],
)
def test_clusters_refuse_what_does_not_fit(change, message):
    given = {
        "y_true": ["ant", "bee"],
        "probabilities": [[0.9, 0.1], [0.6, 0.4]],
        "clusters": [0, 1],
        "classes": ["ant", "bee"],
    }
    with pytest.raises(ValueError, match=message):
        ClusterDisplay.from_predictions(**{**given, **change})


def test_clusters_of_a_router_without_any_are_refused(banked):
    X, y, pipe, _ = banked
    with pytest.raises(TypeError, match="ThresholdRouter has no clusters"):
        ClusterDisplay.from_estimator(pipe, X, y)


def test_oracle_given_as_a_curve_is_drawn_to_the_dearest_path():
    X, y = make_table()
    oracle = OracleRouter().fit(X, y).cost_curve(None, X, y)
    curve = ThresholdRouter().fit(X, y).cost_curve([0.5], X, y)
    display = CostCurveDisplay.from_predictions(curve, oracle=oracle)
    assert display.oracle_.get_xdata()[-1] == 1.0
    assert display.oracle_.get_ydata()[-1] == oracle.accuracy.max()
