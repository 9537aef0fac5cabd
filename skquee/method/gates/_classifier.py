"""One classifier of errors for each prefix and path that a gate judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import delayed
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skquee.method.gates._logistic import MOST_FEATURES, fit_logistic
from skquee.method.gates._one import OneLinear
from skquee.method.gates._protocol import Judged
from skquee.method.gates._rich import FEATURES, GateInputs, check_goals, training_parts
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import TakesTables, as_path_probabilities
from skquee.values._checks import check_n_jobs, check_number, check_option, check_seed
from skquee.values._labels import check_weights, spawn_seeds
from skquee.values._rows import alike
from skquee.values._shipping import run_tasks, threads
from skquee.values._types import Seed

__all__ = ["PathErrorClassifier"]


class PathErrorClassifier(TakesTables):
    """Predict the errors of paths by a classifier for each prefix and path.

    An alternative to :class:`PathErrorRegressor`: no weights are shared between paths, so what
    speaks for one path may speak against another, and the loss is the log-loss. Targets may be
    errors (0 or 1) or probabilities between: those count as an error with that weight and as
    none with the rest.

    Parameters
    ----------
    estimator : {"logistic", "boosting"} or scikit-learn estimator, default="logistic"
        Logistic regression on standardised features; histogram gradient boosting (60 trees of 8
        leaves); or any classifier (``predict_proba``, e.g. ``CalibratedClassifierCV`` around one)
        or regressor.
    penalty : float, default=1.0
        Of "logistic": half of it times the squared weights is added to the summed log-loss, as
        ``C=1 / penalty`` of scikit-learn. More steadies models of many exits on few rows.
    features : {"rich", "paper"}, default="rich"
        :func:`rich_features` of all exits so far, or :func:`gate_features` of the last two
        (equation 13).
    paths : PathTree, default=None
        The tree, where the table is a bare array.
    random_state : int, RandomState or None, default=None
        Seed of estimators that take one.
    n_jobs : int, default=None
        Prefixes trained at once (joblib).

    Attributes
    ----------
    base_errors_ : ndarray of shape (n_paths,)
        Mean target of each path.
    paths_ : PathTree
        The tree.

    Raises
    ------
    ValueError
        If targets are no probabilities of the right shape, or a parameter is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.gates import PathErrorClassifier
    >>> rng = np.random.default_rng(0)
    >>> probs = rng.dirichlet(np.ones(3), size=(200, 2))
    >>> wrong = rng.random((200, 2)) < 0.3
    >>> gates = PathErrorClassifier(paths=PathTree.chain([1, 1])).fit(probs, wrong)
    >>> gates.predict(probs, prefix="1").shape
    (200, 2)
    """

    def __init__(
        self,
        estimator: BaseEstimator | str | None = "logistic",
        *,
        penalty: float = 1.0,
        features: str = "rich",
        paths: PathTree | None = None,
        random_state: Seed = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.penalty = penalty
        self.features = features
        self.paths = paths
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, probs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> PathErrorClassifier:
        """Train every gate.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        targets : array-like of shape (n_samples, n_paths)
            Errors or probabilities of error, in path order.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        table = as_path_probabilities(probs, self.paths)
        tree = table.paths
        inner = np.flatnonzero(tree.is_inner).tolist()
        judged = {int(prefix): tree.descendants(int(prefix)) for prefix in inner}
        if table.context is not None:
            judged[-1] = np.arange(tree.n_paths)
        return self.fit_judged(table, targets, judged, sample_weight)

    def fit_judged(
        self,
        table: PathProbabilities,
        targets: ArrayLike,
        judged: Mapping[int, NDArray[np.intp]],
        sample_weight: ArrayLike | None = None,
    ) -> PathErrorClassifier:
        """Train for chosen prefixes and paths; see :class:`skquee.answers.RecallAnswer`.

        Parameters
        ----------
        table : PathProbabilities
            Probabilities of every path.
        targets : array-like of shape (n_samples, n_paths)
            Errors or probabilities of error.
        judged : mapping of int to ndarray of int
            For each prefix, by index, the paths to judge there; -1: before anything has run.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        goals = check_goals(targets, table)
        weights = check_weights(sample_weight, len(table))
        if weights is not None and not weights.all():  # a row without weight counts as absent
            rows = np.flatnonzero(weights)
            table, goals, weights = table[rows], goals[rows], weights[rows]
        penalty = check_number(self.penalty, "penalty", above=0)
        template = _make(self.estimator, penalty)
        check_option(self.features, "features", FEATURES)
        check_seed(self.random_state)
        check_n_jobs(self.n_jobs)
        shared = isinstance(self.estimator, str) and self.estimator == "logistic"
        self.paths_ = table.paths
        self.n_features_in_ = table.shape[1]
        self.base_errors_ = np.average(goals, axis=0, weights=weights)
        self._inputs = GateInputs(self.features, table, goals)
        self._judged = dict(judged)
        seeds, parts = spawn_seeds(self.random_state, len(judged)), training_parts(len(table))
        fitted = run_tasks(
            (
                delayed(_fit_prefix)(
                    template,
                    self._inputs.rows(table, prefix, parts),
                    goals[:, paths],
                    weights,
                    int(seed),
                    penalty if shared else None,
                )
                for (prefix, paths), seed in zip(judged.items(), seeds, strict=True)
            ),
            self.n_jobs,
        )
        self._models = dict(zip(judged, fitted, strict=True))
        return self

    def predict(self, probs: ArrayLike, prefix: int | str | None = None) -> NDArray[np.float32]:
        """Predict the error of every path that is judged at `prefix`.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Table; only the columns up to the prefix are read.
        prefix : int or str, default=None
            Path already run, by index or name. None: nothing has run.

        Returns
        -------
        ndarray of shape (n_samples, n_paths), float32
            NaN for paths that are not judged there.
        """
        check_is_fitted(self)
        table = as_path_probabilities(probs, self.paths_)
        out = np.full((len(table), self.paths_.n_paths), np.nan, dtype=np.float32)
        index = -1 if prefix is None else self.paths_.index(prefix)
        if index not in self._judged:
            if index >= 0:
                raise ValueError(
                    f"No path extends {self.paths_.names[index]!r}, so no gate follows it."
                )
            out[:] = self.base_errors_
            return out
        out[:, self._judged[index]] = self._models[index].predict(self._inputs.rows(table, index))
        return out

    def judge(
        self,
        prefixes: NDArray[np.intp],
        history: Sequence[NDArray[np.floating]],
        context: NDArray[np.floating] | None,
    ) -> list[Judged]:
        """Predict for samples before one gate, as of :class:`ErrorModel`, and any paths judged."""
        found: list[Judged] = []
        for prefix, rows in alike(prefixes):
            whole = len(rows) == len(prefixes)
            mine = list(history) if whole else [p[rows] for p in history]
            known = context if whole or context is None else context[rows]
            features = self._inputs.of(prefix, mine, known)
            found.append((rows, self._judged[prefix], self._models[prefix].predict(features)))
        return found

    def one(self) -> OneLinear | None:
        """Return what judges one row on plain numbers, None where arrays are needed."""
        rates = self._inputs.rates
        linear = all(isinstance(model, _Linear) for model in self._models.values())
        if not linear or self._inputs.n_context:
            return None
        models = {prefix: (model.weights, model.bias) for prefix, model in self._models.items()}
        if rates is None:
            return OneLinear(models, None)
        n_classes = np.arange(rates.counts.shape[2])
        return OneLinear(models, {p: rates.of(p, n_classes).tolist() for p in models})

    @property
    def judges_before_running(self) -> bool:
        """Whether the first gate knows samples apart: by their context."""
        return -1 in self._judged


@dataclass(frozen=True)
class _Linear:
    """Several logistic models over the same features, as one product."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        scores = features @ self.weights + self.bias
        return expit(scores).astype(np.float32)


@dataclass(frozen=True)
class _Several:
    """One estimator for each path; a number where its target never varies."""

    estimators: list[BaseEstimator | float]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        out = np.empty((len(features), len(self.estimators)), dtype=np.float32)
        for place, estimator in enumerate(self.estimators):
            if isinstance(estimator, float):
                out[:, place] = estimator
            elif hasattr(estimator, "predict_proba"):
                out[:, place] = estimator.predict_proba(features)[:, 1]
            else:
                out[:, place] = np.clip(estimator.predict(features), 0, 1)
        return out


def _make(estimator: BaseEstimator, penalty: float) -> BaseEstimator:
    if estimator == "logistic":
        return LogisticRegression(C=1 / penalty, max_iter=200)
    if estimator == "boosting":
        return HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=8, early_stopping=False, min_samples_leaf=40
        )
    if isinstance(estimator, str) or not hasattr(estimator, "fit"):
        raise ValueError(
            "estimator must be 'logistic', 'boosting' or a scikit-learn estimator, got "
            f"{estimator!r}."
        )
    return estimator


def _fit_prefix(
    template: BaseEstimator,
    features: NDArray[np.float64],
    goals: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    seed: int,
    penalty: float | None,
) -> _Linear | _Several:
    """Train the models of one prefix; with a penalty all of them over one design."""
    linear = type(template) is LogisticRegression
    centre, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if linear:
        centre, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
        features = (features - centre) / scale
    if penalty is not None and features.shape[1] <= MOST_FEATURES:
        return _fit_shared(features, goals, weights, centre, scale, penalty)
    with threads().limit(limits=1):  # the same bits whatever n_jobs
        models = [_fit_one(template, features, goal, weights, seed) for goal in goals.T]
    if not linear:
        return _Several(models)
    coefficients = np.zeros((features.shape[1], len(models)))
    bias = np.zeros(len(models))
    for place, model in enumerate(models):
        if isinstance(model, float):
            bounded = min(max(model, 1e-6), 1 - 1e-6)
            bias[place] = np.log(bounded / (1 - bounded))
        else:
            coefficients[:, place] = model.coef_[0] / scale
            bias[place] = model.intercept_[0] - centre @ coefficients[:, place]
    return _Linear(coefficients, bias)


def _fit_shared(
    features: NDArray[np.float64],
    goals: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
    penalty: float,
) -> _Linear:
    """Train the logistic models of one prefix together."""
    share = np.ones(len(goals)) if weights is None else weights
    varies = np.ptp(goals, axis=0) > 0
    coefficients, bias = np.zeros((features.shape[1], goals.shape[1])), np.empty(goals.shape[1])
    constant = (np.average(goals[:, ~varies], axis=0, weights=share) * len(goals) + 0.5) / (
        len(goals) + 1
    )
    bias[~varies] = np.log(constant / (1 - constant))
    if varies.any():
        with threads().limit(limits=1):  # the same bits whatever n_jobs
            found, bias[varies] = fit_logistic(features, goals[:, varies], weights, penalty=penalty)
        coefficients[:, varies] = found / scale[:, None]
        bias[varies] -= centre @ coefficients[:, varies]
    return _Linear(coefficients, bias)


def _fit_one(
    template: BaseEstimator,
    features: NDArray[np.float64],
    goal: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    seed: int,
) -> BaseEstimator:
    """Train one model; where the target never varies, return it shrunken by one row."""
    share = np.ones(len(goal)) if weights is None else weights
    mean = float(np.average(goal, weights=share))
    if goal.min() == goal.max():
        return (mean * len(goal) + 0.5) / (len(goal) + 1)
    model = clone(template)
    for key, value in sorted(model.get_params().items()):
        if value is None and (key == "random_state" or key.endswith("__random_state")):
            model.set_params(**{key: seed})
    weighted = has_fit_parameter(model, "sample_weight")
    if weights is not None and not weighted:
        raise ValueError(
            f"sample_weight was given, but the fit of {type(model).__name__} does not take it."
        )
    hard = bool(np.isin(goal, (0, 1)).all())
    if not is_classifier(model):
        extra = {} if weights is None else {"sample_weight": weights}
        return model.fit(features, goal, **extra)
    if hard:
        extra = {} if weights is None else {"sample_weight": weights}
        return model.fit(features, goal.astype(int), **extra)
    if not weighted:
        raise ValueError(
            "Targets that are probabilities need sample_weight, which the fit of "
            f"{type(model).__name__} does not take. Use targets='bernoulli'."
        )
    # A probability counts as an error with that weight, and as none with the rest.
    labels = np.repeat([1, 0], len(goal))
    both = np.concatenate([goal * share, (1 - goal) * share])
    kept = both > 0
    doubled = np.concatenate([features, features])
    return model.fit(doubled[kept], labels[kept], sample_weight=both[kept])
