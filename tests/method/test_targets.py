"""Error targets: equations 10 to 12, written out, and what the clusters promise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold

from skquee import ClusteredErrorTargets, PathProbabilities, PathTree
from skquee.method._targets import cross_fitted_targets
from skquee.testing import make_path_probabilities
from skquee.values._labels import path_answers

TABLE, Y = make_path_probabilities(200)
FRESH, FRESH_Y = make_path_probabilities(80, random_state=1)
CASCADE, CASCADE_Y = make_path_probabilities(150, PathTree.cascade([1, 3, 6]))


def quick(**options: Any) -> ClusteredErrorTargets:
    return ClusteredErrorTargets(**{"n_clusters": 6, "n_init": 2, "random_state": 0, **options})


def literal_targets(
    targets: ClusteredErrorTargets,
    train: PathProbabilities,
    y: np.ndarray,
    new: PathProbabilities,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Equations 10 to 12, one sample at a time, on the clusters that were found."""
    tree = train.paths
    w = np.ones(len(train)) if weights is None else weights
    out = np.empty((len(new), tree.n_paths))
    for path in range(tree.n_paths):
        centroids = targets.clusterers_[tree.path_columns[path]].cluster_centers_

        def nearest(vector: np.ndarray, centroids: np.ndarray = centroids) -> int:
            return int(np.argmin([np.sum((vector - c) ** 2) for c in centroids]))

        home = [nearest(vector) for vector in train.path(path)]
        wrong = [
            float(vector.argmax() != label)
            for vector, label in zip(train.path(path), y, strict=True)
        ]
        for i, vector in enumerate(new.path(path)):
            q = nearest(vector)
            members = [j for j in range(len(train)) if home[j] == q and w[j] > 0]
            mass = sum(w[j] for j in members)
            everyone = sum(w[j] * wrong[j] for j in range(len(train))) / w.sum()
            out[i, path] = sum(w[j] * wrong[j] for j in members) / mass if mass else everyone
    return out


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", ["levels", "cascade"])
def test_targets_are_equations_10_to_12(shape: str, weighted: bool) -> None:
    train, y = (TABLE, Y) if shape == "levels" else (CASCADE, CASCADE_Y)
    new = make_path_probabilities(40, train.paths, random_state=5)[0]
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    fitted = quick().fit(train, y, sample_weight=weights)
    expected = literal_targets(fitted, train, y, new, weights)
    assert np.allclose(fitted.transform(new), expected, rtol=0, atol=1e-12)


def test_default_clusters_are_scikit_learns_kmeans_started_ten_times_at_random() -> None:
    fitted = ClusteredErrorTargets(5, random_state=0).fit(TABLE, Y)
    for clusterer in fitted.clusterers_:
        assert type(clusterer) is KMeans
        assert (clusterer.init, clusterer.n_init, clusterer.n_clusters) == ("random", 10, 5)
    seed = fitted.clusterers_[2].random_state
    own = KMeans(5, init="random", n_init=10, random_state=seed).fit(TABLE.path(2))
    assert np.array_equal(own.labels_, fitted.predict_clusters(TABLE)[:, 2])


def test_one_cluster_gives_every_sample_its_paths_error() -> None:
    fitted = quick(n_clusters=1).fit(TABLE, Y)
    wrong = np.asarray(TABLE).argmax(axis=2) != Y[:, None]
    assert np.allclose(fitted.transform(FRESH), np.tile(wrong.mean(axis=0), (80, 1)))
    assert np.allclose(fitted.path_error_, wrong.mean(axis=0))


def test_a_weight_of_zero_is_an_absent_row_and_of_two_a_row_given_twice() -> None:
    kept = np.arange(200) % 3 != 0
    absent = quick().fit(TABLE, Y, sample_weight=kept.astype(float))
    assert np.allclose(absent.transform(FRESH), quick().fit(TABLE[kept], Y[kept]).transform(FRESH))
    first = quick(clusterer=FixedCells()).fit(TABLE, Y, sample_weight=1.0 + kept)
    rows = np.concatenate([np.arange(200), np.flatnonzero(kept)])
    second = quick(clusterer=FixedCells()).fit(TABLE[rows], Y[rows])
    assert np.allclose(first.transform(FRESH), second.transform(FRESH))


class FixedCells(KMeans):
    """Clusters by the answer; cell ``n_classes`` never has a member in fit."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> FixedCells:
        self.n_clusters = X.shape[1] + 1
        return self

    def predict(self, X: Any) -> Any:
        cells = X.argmax(axis=1)
        cells[X.max(axis=1) > 0.999999] = X.shape[1]
        return cells


def test_an_empty_cluster_has_the_paths_own_error() -> None:
    sure = (np.asarray(TABLE).max(axis=2) > 0.999999).any(axis=1)
    rows = np.flatnonzero(~sure)
    fitted = quick(clusterer=FixedCells()).fit(TABLE[rows], Y[rows])
    values = np.zeros((1, 6, 4))
    values[:, :, 2] = 1
    assert np.allclose(
        fitted.transform(PathProbabilities(values, TABLE.paths))[0], fitted.path_error_
    )
    assert all(sizes[-1] == 0 for sizes in fitted.cluster_size_)


def test_equal_vectors_make_fewer_clusters_without_a_warning() -> None:
    labels = np.array([["a"], ["b"], ["c"]] * 20)
    table = PathProbabilities.from_labels(
        labels, np.full((60, 1), 0.8), ["a", "b", "c"], step_costs=[1]
    )
    y = np.where(np.arange(60) < 30, labels[:, 0], "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quick(n_clusters=8).fit(table, y).transform(table)
    for letter in "abc":
        members = labels[:, 0] == letter
        assert np.allclose(found[members, 0], np.mean(y[members] != letter))


def test_fewer_rows_than_clusters_warn_and_lower_and_one_row_fails() -> None:
    with pytest.warns(UserWarning, match="n_clusters=20 is more than the 12 samples"):
        fitted = ClusteredErrorTargets(n_init=1, random_state=0).fit(TABLE[:12], Y[:12])
    assert all(len(errors) == 12 for errors in fitted.cluster_error_)
    with pytest.raises(ValueError, match="1 class only"):
        quick().fit(TABLE[:1], Y[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "n_clusters must be an integer >= 1"),
        ({"max_samples": 3}, "max_samples=3 cannot place n_clusters=6"),
    ],
)
def test_bad_options_fail(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(TABLE, Y)


def test_bad_tables_and_labels_fail_before_clustering() -> None:
    values = np.asarray(TABLE).copy()
    values[9, 3, 0] = np.nan
    with pytest.raises(ValueError, match="NaN for row 9, path '8-4-4'"):
        quick().fit(PathProbabilities(values, TABLE.paths), Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(TABLE, Y[:-1])
    named = TABLE.with_paths(TABLE.paths.with_classes(list("abcd")))
    with pytest.raises(ValueError, match="labels"):
        quick().fit(named, np.where(Y == 0, "z", "a"))


def test_another_clusterer_takes_the_place_of_kmeans() -> None:
    given = MiniBatchKMeans(3, n_init=1)
    fitted = quick(clusterer=given, n_clusters=20).fit(TABLE, Y)
    assert {type(c) for c in fitted.clusterers_} == {MiniBatchKMeans}
    assert {c.n_clusters for c in fitted.clusterers_} == {3}
    assert given.random_state is None
    again = quick(clusterer=given, n_clusters=20).fit(TABLE, Y)
    assert np.array_equal(again.transform(FRESH), fitted.transform(FRESH))


@pytest.mark.parametrize("max_samples", [None, 50])
def test_workers_change_no_bit(max_samples: int | None) -> None:
    with parallel_config(backend="threading"):
        one, two = (quick(n_jobs=n, max_samples=max_samples).fit(TABLE, Y) for n in (1, 2))
        assert np.array_equal(one.transform(FRESH), two.transform(FRESH))
        assert np.array_equal(one.predict_clusters(FRESH), two.predict_clusters(FRESH))


def test_every_sample_counts_also_where_few_place_the_centroids() -> None:
    fitted = quick(max_samples=20).fit(TABLE, Y)
    assert all(sizes.sum() == 200 for sizes in fitted.cluster_size_)


def test_paths_that_end_in_one_model_share_its_targets() -> None:
    tree = CASCADE.paths
    found = quick().fit(CASCADE, CASCADE_Y).transform(CASCADE)
    assert found.shape == (150, 7)
    assert np.array_equal(found[:, tree.index("1-3")], found[:, tree.index("3")])


@pytest.mark.parametrize("n_bins", [4, 15])
def test_calibration_error_is_appendix_7_2(n_bins: int) -> None:
    fitted = quick().fit(TABLE, Y)
    targets = fitted.transform(FRESH)
    total = []
    for path in range(6):
        sure = 1 - targets[:, path]
        right = (FRESH.path(path).argmax(axis=1) == FRESH_Y).astype(float)
        # Samples of one cluster cannot be told apart: each carries the cluster's mean.
        right = np.array([right[sure == s].mean() for s in sure])
        order = np.argsort(targets[:, path])
        ece = 0.0
        for part in np.array_split(order, n_bins):
            ece += len(part) / 80 * abs(right[part].mean() - sure[part].mean())
        total.append(ece)
    assert np.allclose(fitted.calibration_error(FRESH, FRESH_Y, n_bins, per_path=True), total)
    assert fitted.calibration_error(FRESH, FRESH_Y, n_bins) == pytest.approx(np.mean(total))


def test_columns_are_named_after_paths() -> None:
    fitted = quick().fit(TABLE, Y)
    assert fitted.get_feature_names_out().tolist() == [f"pe_{name}" for name in TABLE.paths.names]


def test_cross_fitted_targets_never_see_a_rows_own_label() -> None:
    fitted = quick().fit(TABLE, Y)
    before = cross_fitted_targets(fitted, TABLE, Y, parts=4, seed=3)
    changed = Y.copy()
    changed[50] = (Y[50] + 1) % 4
    after = cross_fitted_targets(fitted, TABLE, changed, parts=4, seed=3)
    known = path_answers(TABLE) != Y[:, None]
    again = cross_fitted_targets(fitted, TABLE, Y, parts=4, seed=3, wrong=known)
    assert np.array_equal(before, again), "errors that are known need not be worked out"
    assert np.array_equal(before[50], after[50])
    assert not np.array_equal(before, after)
    assert np.array_equal(
        cross_fitted_targets(fitted, TABLE, Y, parts=1, seed=3), fitted.transform(TABLE)
    )


def test_bare_arrays_work_with_a_tree_and_a_clone_is_unfitted() -> None:
    fitted = quick(paths=TABLE.paths).fit(np.asarray(TABLE), Y)
    assert np.array_equal(
        fitted.transform(np.asarray(FRESH)), quick().fit(TABLE, Y).transform(FRESH)
    )
    assert not hasattr(clone(fitted), "clusterers_")


def test_held_out_targets_are_counted_on_the_other_parts() -> None:
    fitted = quick(shrinkage=3.0)
    weights = np.linspace(0.5, 2, len(Y))
    held = fitted.fit_held_out(TABLE, Y, weights, parts=3, seed=1)
    clusters, wrong = fitted.predict_clusters(TABLE), path_answers(TABLE) != Y[:, None]
    for rest, part in KFold(3, shuffle=True, random_state=1).split(Y):
        mean = np.average(wrong[rest], axis=0, weights=weights[rest])
        for row in part[:20]:
            for path in range(TABLE.paths.n_paths):
                same = rest[clusters[rest, path] == clusters[row, path]]
                drawn = weights[same] @ wrong[same, path] + 3 * mean[path]
                assert held[row, path] == pytest.approx(drawn / (weights[same].sum() + 3))


def test_held_out_targets_are_probabilities_whatever_the_weights() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights, wrong = rng.random(len(Y)), rng.random((len(Y), TABLE.paths.n_paths)) < 0.98
        held = quick().fit_held_out(TABLE, Y, weights, wrong=wrong)
        assert held.min() >= 0 and held.max() <= 1


def test_fitted_clusterers_are_used_as_they_are() -> None:
    whole = quick().fit(TABLE, Y)
    given = [FrozenEstimator(clusterer) for clusterer in whole.clusterers_]
    part = clone(quick(clusterer=given)).fit(TABLE[:100], Y[:100])
    assert part.clusterers_ == given
    assert np.array_equal(part.predict_clusters(FRESH), whole.predict_clusters(FRESH))
    assert sum(size.sum() for size in part.cluster_size_) == 100 * TABLE.paths.n_paths
    with pytest.raises(ValueError, match=r"lists 1 fitted clusterers, but the table has"):
        quick(clusterer=given[:1]).fit(TABLE, Y)
