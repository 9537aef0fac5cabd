"""Answers of the visited exits put together."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator

from skquee.values import PathProbabilities
from skquee.values._checks import check_number
from skquee.values._shipping import threads

__all__ = ["EnsembleAnswer"]

TINY = 1e-7
# Weights of classes: the least probability they read, inputs and classes at most, steps of the fit.
LEAST, MOST_INPUTS, STEPS = 1e-3, 150, 60


class EnsembleAnswer(BaseEstimator):
    """Answer with a weighted geometric mean of the visited exits, fitted for each path.

    ``log p(x) = sum_{s <= t} w_s log p_s(x) + const``, the weights of each path by least
    log-loss, drawn towards the last exit alone. With `class_penalty` each class is then given a
    weight for what every exit says of every class, and a bias, drawn towards that mean: exits
    that take one class for another are set right. A router's gates then see these answers in place
    of what each exit says.

    Parameters
    ----------
    penalty : float, default=1e-3
        Weight of the squared distance to the last exit alone.
    max_samples : int, default=5000
        Rows that fit the weights.
    class_penalty : float, default=None
        Half of it times the squared weights of classes is added to the summed log-loss. None: no
        such weights. Paths of more than 150 probabilities (exits times classes) have none either.

    Attributes
    ----------
    weights_ : list of ndarray
        For each path, one weight an exit; a path of one exit answers as it does.
    class_weights_ : list of ndarray of shape (n_exits * n_classes + 1, n_classes) or None
        For each path, what is added for each class: by the logarithm of every probability (none
        below 0.001), and biases. None where there are none.

    References
    ----------
    .. [1] Wolczyk et al., "Zero Time Waste", NeurIPS 2021.

    Examples
    --------
    >>> from skquee.answers import EnsembleAnswer
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> EnsembleAnswer().fit(table, y).combine(1, [table.path(p) for p in (0, 1)]).shape
    (200, 4)
    """

    def __init__(
        self,
        penalty: float = 1e-3,
        max_samples: int = 5000,
        class_penalty: float | None = None,
    ) -> None:
        self.penalty = penalty
        self.max_samples = max_samples
        self.class_penalty = class_penalty

    def __setstate__(self, state: dict[str, object]) -> None:
        # Of before there were weights of classes.
        weights = state.get("weights_", ())
        none = [None] * len(weights) if isinstance(weights, list) else []
        super().__setstate__({"class_penalty": None, "class_weights_": none, **state})

    def fit(
        self,
        table: PathProbabilities,
        codes: NDArray[np.intp],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> EnsembleAnswer:
        """Fit the weights of every path.

        Parameters
        ----------
        table : PathProbabilities
            Probabilities of every path.
        codes : ndarray of shape (n_samples,)
            Class index of each row.
        sample_weight : ndarray of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        if self.class_penalty is not None:
            check_number(self.class_penalty, "class_penalty", above=0)
        tree = table.paths
        some, labels, share = table, codes, sample_weight
        if len(table) > self.max_samples:
            rng = np.random.default_rng(0)
            rows = np.sort(rng.choice(len(table), size=self.max_samples, replace=False))
            some, labels = table[rows], codes[rows]
            share = None if share is None else share[rows]
        seen = [some.path(p) for p in range(tree.n_paths)]
        logs = [np.log(np.maximum(p, TINY)) for p in seen]
        self.weights_, self.class_weights_ = [], []
        for path in range(tree.n_paths):
            line = tree.prefixes(path)
            mine = np.stack([logs[s] for s in line])
            weights = _fit_weights(mine, labels, self.penalty, share)
            self.weights_.append(weights)
            few = 1 < len(line) and len(line) * table.shape[2] <= MOST_INPUTS
            self.class_weights_.append(
                _fit_class_weights(
                    np.tensordot(weights, mine, axes=1),
                    [seen[s] for s in line],
                    labels,
                    self.class_penalty,
                    share,
                )
                if self.class_penalty is not None and few
                else None
            )
        return self

    def combine(self, path: int, history: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
        """Return the answer of a path; see :class:`AnswerRule`."""
        if len(history) == 1:
            return history[0]
        # Summed exit by exit: a matrix product would round rows by how many there are.
        scores = np.zeros(history[0].shape)
        for weight, p in zip(self.weights_[path].tolist(), history, strict=True):
            scores += weight * np.log(np.maximum(p, TINY))
        added = self.class_weights_[path]
        if added is not None:
            scores += added[-1]
            inputs = (column for p in history for column in np.log(np.maximum(p, LEAST)).T)
            for column, weights in zip(inputs, added, strict=False):
                scores += column[:, None] * weights
        return _softmax(scores)

    @property
    def gates_see_answers(self) -> bool:
        """Whether gates judge by these answers; see :class:`AnswerRule`."""
        return self.class_penalty is not None

    def one(self) -> _OneEnsemble | None:
        """Return what answers for one row on plain numbers, None where arrays are needed."""
        if self.class_penalty is not None:
            return None
        return _OneEnsemble([weights.tolist() for weights in self.weights_])


class _OneEnsemble:
    """:class:`EnsembleAnswer` for one row on plain numbers."""

    def __init__(self, weights: list[list[float]]) -> None:
        self.weights = weights

    def combine(self, path: int, history: list[list[float]]) -> list[float]:
        """Return the answer of a path."""
        if len(history) == 1:
            return history[0]
        weights = self.weights[path]
        scores = [
            sum(w * log(q if q > TINY else TINY) for w, q in zip(weights, column, strict=True))
            for column in zip(*history, strict=True)
        ]
        top = max(scores)
        grown = [exp(score - top) for score in scores]
        total = sum(grown)
        return [value / total for value in grown]


def _softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def _fit_weights(
    logs: NDArray[np.floating],
    labels: NDArray[np.intp],
    penalty: float,
    sample_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return weights (n_exits,) of log-probabilities (n_exits, n, n_classes)."""
    start = np.zeros(len(logs))
    start[-1] = 1.0
    if len(logs) == 1:
        return start
    share = np.ones(len(labels)) if sample_weight is None else sample_weight
    share = share / share.sum()
    right = logs[:, np.arange(len(labels)), labels] @ share

    def loss(weights: ArrayLike) -> tuple[float, NDArray[np.float64]]:
        w = np.asarray(weights)
        p = _softmax(np.tensordot(w, logs, axes=1))
        chosen = np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-30))
        gradient = np.einsum("snc,nc,n->s", logs, p, share) - right
        away = w - start
        return -(chosen @ share) + penalty * away @ away, gradient + 2 * penalty * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(logs))
    return np.asarray(found.x)


def _fit_class_weights(
    scores: NDArray[np.floating],
    seen: Sequence[NDArray[np.floating]],
    labels: NDArray[np.intp],
    penalty: float,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return what each class is given for the logarithms of `seen`, added to `scores`.

    `scores` (n, n_classes): of the mean. `seen` (n, n_classes): probabilities at each exit. Returns
    (n_exits * n_classes + 1, n_classes), biases last.
    """
    n, n_classes = scores.shape
    share = np.ones(n) if sample_weight is None else sample_weight
    design = np.hstack([*(np.log(np.maximum(p, LEAST)) for p in seen), np.ones((n, 1))])
    told, size = np.arange(n), design.shape[1]
    with threads().limit(limits=1):  # the same bits whatever n_jobs
        # In units of their own curvature weights are found in few steps.
        curvature = design.T @ (design * (share / 4)[:, None]) + penalty * np.eye(size)
        turn = np.linalg.inv(np.linalg.cholesky(curvature)).T
        white = design @ turn

        def loss(turned: ArrayLike) -> tuple[float, NDArray[np.float64]]:
            z = np.asarray(turned).reshape(size, n_classes)
            weights = turn @ z
            p = _softmax(scores + white @ z)
            value = penalty / 2 * (weights**2).sum()
            value -= np.log(np.maximum(p[told, labels], 1e-30)) @ share
            p[told, labels] -= 1
            slope = white.T @ (p * share[:, None]) + penalty * (turn.T @ weights)
            return value, slope.ravel()

        start = np.zeros(size * n_classes)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
        return np.asarray(turn @ found.x.reshape(size, n_classes))
