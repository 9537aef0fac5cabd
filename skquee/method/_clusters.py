"""Clusters of one classifier's probability vectors, and how often each errs."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.utils.validation import has_fit_parameter

from skquee.values import PathProbabilities
from skquee.values._shipping import threads

__all__ = ["assign", "cluster_column", "placed"]

# Rows a cluster that the random starts of K-means are compared on.
START_ROWS = 100
TINY = 1e-12


def cluster_column(
    targets: BaseEstimator,
    clusterer: BaseEstimator | None,
    table: PathProbabilities,
    path: int,
    wrong: NDArray[np.bool_ | np.floating],
    weights: NDArray[np.float64] | None,
    n_clusters: int,
    seed: int,
    part_of: NDArray[np.intp],
) -> tuple[BaseEstimator, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cluster one classifier's vectors; return clusterer, errors, sizes, and targets of rows."""
    if not isinstance(targets.clusterer, (list, tuple)):
        clusterer = placed(clusterer, targets, table, path, weights, n_clusters, seed)
    assigned = assign(clusterer, table, path)
    k = max(int(assigned.max()) + 1, getattr(clusterer, "n_clusters", 0) or 0)
    n_parts = int(part_of.max()) + 1
    cells = assigned * n_parts + part_of
    sizes = np.bincount(cells, weights, k * n_parts).astype(np.float64).reshape(k, n_parts)
    mass = wrong if weights is None else wrong * weights
    errors = np.bincount(cells, mass, k * n_parts).reshape(k, n_parts)

    def shares(errors: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = errors.sum() / max(sizes.sum(), TINY)
        weight = sizes + targets.shrinkage
        drawn = errors + targets.shrinkage * mean
        found = np.divide(drawn, weight, out=np.full(k, mean), where=weight > 0)
        return np.clip(found, 0, 1)  # what is left of weights taken off is rounded

    all_errors, all_sizes = errors.sum(axis=1), sizes.sum(axis=1)
    whole = shares(all_errors, all_sizes)
    if n_parts == 1:
        return clusterer, whole, all_sizes, whole[assigned]
    held = [shares(all_errors - e, all_sizes - m) for e, m in zip(errors.T, sizes.T, strict=True)]
    return clusterer, whole, all_sizes, np.stack(held, axis=1)[assigned, part_of]


def placed(
    clusterer: BaseEstimator | None,
    targets: BaseEstimator,
    table: PathProbabilities,
    path: int,
    weights: NDArray[np.float64] | None,
    n_clusters: int,
    seed: int,
) -> BaseEstimator:
    """Return a clusterer fitted on one classifier's vectors; K-means where none is given."""
    chosen = np.arange(len(table)) if weights is None else np.flatnonzero(weights)
    rng = np.random.default_rng(seed)
    if targets.max_samples is not None and len(chosen) > targets.max_samples:
        chosen = np.sort(rng.choice(chosen, size=targets.max_samples, replace=False))
    vectors = table[chosen].path(path)  # no others are read
    weights = None if weights is None else weights[chosen]
    with threads().limit(limits=1), warnings.catch_warnings():
        # Fewer distinct vectors than clusters is fine: the empty ones get the path's error.
        warnings.filterwarnings("ignore", "Number of distinct clusters")
        if clusterer is None:
            return _k_means(
                vectors.astype(np.float32, copy=False),
                weights,
                n_clusters,
                targets.n_init,
                seed,
                rng,
            )
        made = clone(clusterer)
        known = made.get_params()
        if "n_clusters" in known:
            made.set_params(n_clusters=min(n_clusters, known["n_clusters"]))
        if "random_state" in known and known["random_state"] is None:
            made.set_params(random_state=seed)
        extra = {}
        if weights is not None and has_fit_parameter(made, "sample_weight"):
            extra["sample_weight"] = weights
        return made.fit(vectors, **extra)


def _k_means(
    vectors: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    n_clusters: int,
    n_init: int,
    seed: int,
    rng: np.random.Generator,
) -> KMeans:
    """Return K-means of the vectors, from the best of random starts on some of them."""
    start: str | NDArray[np.floating] = "random"
    limit = START_ROWS * n_clusters
    if n_init > 1 and len(vectors) > 2 * limit:
        some = np.sort(rng.choice(len(vectors), size=limit, replace=False))
        first = KMeans(n_clusters, init=start, n_init=n_init, random_state=seed, copy_x=False).fit(
            vectors[some], sample_weight=None if weights is None else weights[some]
        )
        start, n_init = first.cluster_centers_, 1
    made = KMeans(n_clusters, init=start, n_init=n_init, random_state=seed)
    return made.fit(vectors, sample_weight=weights)


def assign(clusterer: BaseEstimator, table: PathProbabilities, path: int) -> NDArray[np.intp]:
    parts = []
    centres = getattr(clusterer, "cluster_centers_", None)
    with threads().limit(limits=1):
        for _, chunk in table.chunks():
            vectors = chunk.path(path)
            if centres is not None:  # K-means takes no other float type than that of its fit
                vectors = vectors.astype(centres.dtype, copy=False)
            parts.append(clusterer.predict(vectors))
    return np.concatenate(parts)
