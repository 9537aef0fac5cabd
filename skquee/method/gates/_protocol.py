"""What an error model of one's own has to offer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skquee.values import PathProbabilities

__all__ = ["ErrorModel", "Inputs", "Judged"]

# Positions of samples on one prefix, the paths judged there, and an error for each pair.
Judged = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating]]


class Inputs(Protocol):
    """What fitted gates ask for the features of samples; :class:`GateInputs` is one."""

    def of(
        self,
        prefix: int,
        history: Sequence[NDArray[np.floating]],
        context: NDArray[np.floating] | None,
    ) -> NDArray[np.float64]:
        """Return the features of samples on one prefix, shape (n_samples, n_features)."""


class ErrorModel(Protocol):
    """What ``CostAwareRouter(regressor=)`` takes: an estimator that predicts errors of paths.

    :class:`skquee.PathErrorRegressor` and :class:`skquee.PathErrorClassifier` are two. It is
    cloned, and so has ``get_params`` (:class:`sklearn.base.BaseEstimator`). Held to by
    :func:`skquee.testing.check_error_model`. It may have ``judges_before_running = True``, where
    its first gate knows samples apart: it is then asked with prefixes of -1, too.

    Attributes
    ----------
    base_errors_ : ndarray of shape (n_paths,)
        Mean target of every path, known before anything has run.

    Examples
    --------
    An error model that trusts the last exit in everything:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skquee import CostAwareRouter
    >>> from skquee.testing import check_error_model, make_path_probabilities
    >>> class Doubt(BaseEstimator):
    ...     def fit(self, probs, targets, sample_weight=None):
    ...         self.paths_ = probs.paths
    ...         self.base_errors_ = np.average(targets, axis=0, weights=sample_weight)
    ...         return self
    ...
    ...     def judge(self, prefixes, history, context):
    ...         doubt, tree = 1 - history[-1].max(axis=1, keepdims=True), self.paths_
    ...         for prefix in np.unique(prefixes).tolist():
    ...             rows, paths = np.flatnonzero(prefixes == prefix), tree.descendants(prefix)
    ...             ahead = tree.depths[paths] - tree.depths[prefix]
    ...             yield rows, paths, doubt[rows] / 2.0**ahead
    >>> check_error_model(Doubt())
    >>> probs, y = make_path_probabilities(300)
    >>> CostAwareRouter(0.1, regressor=Doubt(), random_state=0).fit(probs, y).predict(probs).shape
    (300,)
    """

    @property
    def base_errors_(self) -> NDArray[np.float64]:
        """Mean target of every path, shape (n_paths,)."""
        ...

    def fit(
        self,
        probs: PathProbabilities,
        targets: NDArray[np.float64],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> ErrorModel:
        """Learn the targets of every path.

        Parameters
        ----------
        probs : PathProbabilities of shape (n_samples, n_paths, n_classes)
            Rows, with their tree.
        targets : ndarray of shape (n_samples, n_paths)
            Probabilities of error.
        sample_weight : ndarray of shape (n_samples,), default=None
            Weights. Not given where `fit` has no such parameter.

        Returns
        -------
        self
        """
        ...

    def judge(
        self,
        prefixes: NDArray[np.intp],
        history: Sequence[NDArray[np.floating]],
        context: NDArray[np.floating] | None,
    ) -> Iterable[Judged]:
        """Predict for samples that stand before one gate, on several prefixes.

        Parameters
        ----------
        prefixes : ndarray of shape (m,)
            Path each sample has taken, all of the same depth; -1 before anything has run.
        history : sequence of ndarray of shape (m, n_classes)
            Probabilities at every exit so far.
        context : ndarray of shape (m, n_context) or None
            What the table knows of the samples beforehand.

        Yields
        ------
        positions : ndarray of shape (k,)
            Samples on one prefix.
        judged : ndarray of shape (n_judged,)
            Paths judged there: ``tree.descendants(prefix)``, the prefix itself first.
        errors : ndarray of shape (k, n_judged)
            Predicted errors.
        """
        ...
