"""Error targets: the clustered probability of error of every path."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from skquee.evaluation import calibration_error
from skquee.method._clusters import assign, cluster_column
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import TakesTables, as_path_probabilities
from skquee.values._checks import check_integer, check_n_jobs, check_number, check_seed
from skquee.values._labels import (
    check_labels,
    check_weights,
    correctness,
    encode_labels,
    path_answers,
    spawn_seeds,
    wrong_of,
)
from skquee.values._public import publish
from skquee.values._shipping import TableLoop
from skquee.values._types import Seed

__all__ = ["ClusteredErrorTargets", "cross_fitted_targets"]


class ClusteredErrorTargets(TransformerMixin, TakesTables):
    """Approximate each path's probability of error by that of its cluster.

    The probability vectors of every path are clustered by K-means, and a sample's target is
    the share of wrong answers in its cluster (equations 10 to 12, section 4.1)::

        pe(path, x) = 1 / m_Q * sum_{x_j in Q} 1[f_path(x_j) != y_j],  x in Q

    Parameters
    ----------
    n_clusters : int, default=20
        Clusters a path (K). Lowered, with a warning, where there are fewer samples.
    n_init : int, default=10
        Random starts of K-means, each on 100 rows a cluster; the best goes on with all rows.
    clusterer : scikit-learn clusterer, or a list of fitted ones, default=None
        With ``fit`` and ``predict``; replaces K-means and `n_init`, and `n_clusters` unless
        it is its parameter. Fitted ones, each in a ``FrozenEstimator`` and one a column, are used
        as they are.
    max_samples : int or None, default=10_000
        Samples that place the centroids (drawn uniformly); every sample counts in the
        clusters' shares of errors.
    shrinkage : float, default=0.0
        Rows that the path's mean error counts as in the share of each cluster:
        ``(m * pe + shrinkage * mean) / (m + shrinkage)``. 0 is the paper's.
    paths : PathTree, default=None
        The tree, where `probs` is a bare array.
    classes : sequence, default=None
        Labels of the class axis, where the tree does not carry them.
    random_state : int, RandomState or None, default=None
        One seed a path is derived from it: results depend on neither order nor `n_jobs`.
    n_jobs : int, default=None
        Paths clustered at once (joblib).

    Attributes
    ----------
    paths_ : PathTree
        The tree it was fitted with.
    classes_ : ndarray
        Labels of the class axis.
    clusterers_ : list, length n_columns
        Fitted clusterer of each classifier.
    cluster_error_ : list of ndarray, length n_paths
        Share of wrong answers in each cluster. A cluster without samples has the path's.
    cluster_size_ : list of ndarray, length n_paths
        Weight of the samples in each cluster.
    path_error_ : ndarray of shape (n_paths,)
        Share of wrong answers of each path.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import ClusteredErrorTargets, PathProbabilities, PathTree
    >>> rng = np.random.default_rng(0)
    >>> probs = PathProbabilities(rng.dirichlet(np.ones(3), size=(90, 2)), PathTree.chain([1, 1]))
    >>> y = rng.integers(3, size=90)
    >>> ClusteredErrorTargets(n_clusters=4, random_state=0).fit(probs, y).transform(probs).shape
    (90, 2)
    """

    def __init__(
        self,
        n_clusters: int = 20,
        *,
        n_init: int = 10,
        clusterer: BaseEstimator | Sequence[BaseEstimator] | None = None,
        max_samples: int | None = 10_000,
        shrinkage: float = 0.0,
        paths: PathTree | None = None,
        classes: Sequence[object] | None = None,
        random_state: Seed = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.clusterer = clusterer
        self.max_samples = max_samples
        self.shrinkage = shrinkage
        self.paths = paths
        self.classes = classes
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, probs: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None = None
    ) -> ClusteredErrorTargets:
        """Cluster every path and measure the errors of its clusters.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, of the clustering and of the shares.

        Returns
        -------
        self
        """
        self.fit_held_out(probs, y, sample_weight, parts=1)
        return self

    def fit_held_out(
        self,
        probs: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None = None,
        *,
        parts: int = 2,
        seed: int = 0,
        wrong: NDArray[Any] | None = None,
    ) -> NDArray[np.float64]:
        """Fit, and return targets of the rows themselves that know nothing of their own labels.

        Clusters need no labels, so all rows place them; the share of errors in a cluster is then
        counted for each part of the rows on the other parts.

        Parameters
        ----------
        probs, y, sample_weight
            As of :meth:`fit`.
        parts : int, default=2
            Parts, at random. 1, or too few rows to part: each row counts in its own target.
        seed : int, default=0
            Of the parts.
        wrong : ndarray of shape (n_samples, n_paths), default=None
            Whether each path errs on each row, or its loss, where that is known. Default: worked
            out from `probs` and `y`.

        Returns
        -------
        ndarray of shape (n_samples, n_paths)
        """
        table = as_path_probabilities(probs, self.paths, classes=self.classes)
        classes, codes = encode_labels(table, y)
        weights = check_weights(sample_weight, len(table))
        n_clusters = self._settle_n_clusters(len(table))
        if wrong is None:
            wrong = wrong_of(correctness(table, codes))
        columns = table.paths.path_columns
        readers = table.paths.first_of_column.tolist()
        seeds = spawn_seeds(self.random_state, table.shape[1])
        folds, given = _parts(len(table), parts, seed), self.clusterer
        if not isinstance(given, (list, tuple)):
            given = [given] * table.shape[1]
        elif len(given) != table.shape[1]:
            raise ValueError(
                f"clusterer lists {len(given)} fitted clusterers, but the table has "
                f"{table.shape[1]} columns: give one for each, in order."
            )
        loop = TableLoop(table, self.n_jobs)
        fitted = loop.run(
            loop.task(
                cluster_column,
                self,
                clusterer,
                table,
                path,
                wrong[:, path],
                weights,
                n_clusters,
                int(s),
                folds,
            )
            for path, s, clusterer in tqdm(
                list(zip(readers, seeds, given, strict=True)),
                desc="clustering paths",
                disable=None,
                leave=False,
            )
        )
        outcomes = table.facts.outcomes
        self.paths_ = table.paths.with_classes(None if outcomes else classes.tolist())
        self.classes_ = classes
        self.n_features_in_ = table.shape[1]
        self.clusterers_ = [clusterer for clusterer, _, _, _ in fitted]
        self.cluster_error_ = [fitted[c][1] for c in columns]
        self.cluster_size_ = [fitted[c][2] for c in columns]
        self.path_error_ = np.average(wrong, axis=0, weights=weights)
        return np.column_stack([fitted[c][3] for c in columns])

    def transform(self, probs: ArrayLike) -> NDArray[np.float64]:
        """Return the error targets of samples, which need no labels.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.

        Returns
        -------
        ndarray of shape (n_samples, n_paths)
        """
        clusters = self.predict_clusters(probs)
        return np.column_stack(
            [error[clusters[:, p]] for p, error in enumerate(self.cluster_error_)]
        )

    def predict_clusters(self, probs: ArrayLike) -> NDArray[np.intp]:
        """Return the cluster of every sample on every path.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.

        Returns
        -------
        ndarray of shape (n_samples, n_paths)
        """
        check_is_fitted(self)
        table = as_path_probabilities(probs, self.paths_)
        columns = table.paths.path_columns
        readers = table.paths.first_of_column.tolist()
        loop = TableLoop(table, self.n_jobs)
        found = loop.run(
            loop.task(assign, clusterer, table, path)
            for clusterer, path in zip(self.clusterers_, readers, strict=True)
        )
        return np.column_stack(found)[:, columns]

    def calibration_error(
        self, probs: ArrayLike, y: ArrayLike, n_bins: int = 15, *, per_path: bool = False
    ) -> float | NDArray[np.float64]:
        """Return the expected calibration error of the targets (appendix 7.2).

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Rows that were not used in fit.
        y : array-like of shape (n_samples,)
            Their labels.
        n_bins : int, default=15
            Bins of equal mass.
        per_path : bool, default=False
            Return one number a path instead of their mean.

        Returns
        -------
        float or ndarray of shape (n_paths,)
        """
        targets = self.transform(probs)
        table = as_path_probabilities(probs, self.paths_)
        codes = check_labels(y, self.classes_, len(table))
        wrong = path_answers(table) != codes[:, None]
        errors = np.array(
            [
                calibration_error(targets[:, p], wrong[:, p], n_bins=n_bins)
                for p in range(table.paths.n_paths)
            ]
        )
        return errors if per_path else float(errors.mean())

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return ``pe_<path name>`` for every path.

        Parameters
        ----------
        input_features : ignored
            For scikit-learn's convention.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.array([f"pe_{name}" for name in self.paths_.names], dtype=object)

    def _settle_n_clusters(self, n_samples: int) -> int:
        check_integer(self.n_clusters, "n_clusters", at_least=1)
        check_integer(self.n_init, "n_init", at_least=1)
        if self.max_samples is not None:
            check_integer(self.max_samples, "max_samples", at_least=1)
        check_number(self.shrinkage, "shrinkage", at_least=0)
        check_seed(self.random_state)
        check_n_jobs(self.n_jobs)
        if self.max_samples is not None and self.max_samples < self.n_clusters:
            raise ValueError(
                f"max_samples={self.max_samples} cannot place n_clusters={self.n_clusters}."
            )
        if n_samples < 2:
            raise ValueError(
                f"Clustering needs at least 2 samples, got n_samples = {n_samples} "
                "(1 sample cannot tell a share of errors)."
            )
        if n_samples < self.n_clusters:
            warnings.warn(
                f"n_clusters={self.n_clusters} is more than the {n_samples} samples given; "
                f"{n_samples} clusters are used. Give more rows or lower n_clusters.",
                UserWarning,
                stacklevel=3,
            )
        return min(self.n_clusters, n_samples)


def cross_fitted_targets(
    targets: ClusteredErrorTargets,
    table: PathProbabilities,
    labels: NDArray[np.generic] | None,
    *,
    parts: int,
    seed: int,
    wrong: NDArray[Any] | None = None,
    sample_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Fit targets on all rows and return those of every row, counted on other rows' labels.

    `targets`: fitted here on all the rows. Of another class: its clones are fitted on the parts
    too. `labels` (n_samples,). `wrong` (n_samples, n_paths): errors of the paths, where
    they are known. `parts`: parts. With too few rows to part, or ``parts=1``, rows
    count in their own targets. `sample_weight` (n_samples,). Returns shape (n_samples, n_paths).
    """
    own = {} if sample_weight is None else {"sample_weight": sample_weight}
    if type(targets) is ClusteredErrorTargets:  # heirs may fit in another way
        return targets.fit_held_out(table, labels, parts=parts, seed=seed, wrong=wrong, **own)
    targets.fit(table, labels, **own)
    part_of = _parts(len(table), parts, seed)
    goals: NDArray[np.float64] = targets.transform(table)
    for part in range(int(part_of.max()) + 1 if part_of.any() else 0):
        mine, rest = part_of == part, part_of != part
        known = None if labels is None else labels[rest]
        if known is not None and len(np.unique(known)) < 2:
            continue
        other = clone(targets)
        if "random_state" in other.get_params(deep=False):
            other.set_params(random_state=(seed + part + 1) % 2**31)
        extra = {} if sample_weight is None else {"sample_weight": sample_weight[rest]}
        goals[mine] = other.fit(table[rest], known, **extra).transform(table[mine])
    return goals


def _parts(n_samples: int, parts: int, seed: int) -> NDArray[np.intp]:
    """Return the part of each row, at random; all 0 where there are too few rows to part."""
    parts, found = min(parts, n_samples // 2), np.zeros(n_samples, dtype=np.intp)
    if parts > 1:
        splits = KFold(parts, shuffle=True, random_state=seed).split(found)
        for part, (_, rows) in enumerate(splits):
            found[rows] = part
    return found


publish("skquee.method", ClusteredErrorTargets)
