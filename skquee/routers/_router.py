"""The paper's router: gates that predict errors and step toward the best path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import has_fit_parameter

from skquee.method._answers import AnswerRule, answered, cross_fitted_answers, gates_see
from skquee.method._targets import ClusteredErrorTargets, cross_fitted_targets
from skquee.method.gates import ErrorModel, PathErrorRegressor
from skquee.method.policy._protocol import PolicyLike
from skquee.routers._at_budget import BudgetMixin
from skquee.routers._checking import (
    answer_rule,
    check_fit_parameters,
    error_model,
    warn_where_context_is_unread,
)
from skquee.routers._explain import ExplainMixin
from skquee.routers._prices import CallCostModel
from skquee.routers._survey import SurveyMixin
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import (
    check_weights,
    correctness,
    hold_out,
    spawn_seeds,
    stored,
    wrong_of,
)
from skquee.values._types import Seed

__all__ = ["CostAwareRouter"]

# Of targets="shrunken".
SHRINKAGE = 10.0


class _Weights(TypedDict, total=False):
    sample_weight: NDArray[np.float64]


class CostAwareRouter(BudgetMixin, ExplainMixin, SurveyMixin, BaseEstimator):
    """Route every sample to the path of least ``lambda_ * cost + predicted error``.

    The QuEE method. After each block a gate predicts the probability of error of every path
    that is still open, aims at the best one, and takes its first step or exits (equations 9
    and 18). It is trained once; ``lambda_`` and ``path_costs`` are read at prediction.

    Parameters
    ----------
    lambda_ : float or None, default=1.0
        Price of one unit of cost, in units of error probability. Not learned: change it with
        ``set_params`` at any time. It is per unit of cost (``paths_.cost_unit``). None: still
        open, for :class:`RoutedClassifier` or :class:`TunedCostAwareRouterCV` to choose; such a
        router is fitted and swept, but does not route.
    targets : ClusteredErrorTargets or str, default=None
        Makes the error targets. Default: K-means with 20 clusters a path (the paper). "shrunken":
        the same, each cluster drawn towards its path's mean by ten rows. "bernoulli": the errors
        themselves, 0 or 1. "mixed": the mean of the two.
    regressor : PathErrorRegressor, PathErrorClassifier, str or estimator, default=None
        The gates' error model. Default: the paper's network. "logistic", "boosting" or a
        scikit-learn estimator: :class:`skquee.gates.PathErrorClassifier`.
    paths : PathTree, default=None
        The tree, where the table is a bare array. Its costs go before the table's.
    path_costs : array-like of shape (n_paths,), default=None
        Cost of each whole path, in place of the tree's and in its ``cost_unit``.
    classes : sequence, default=None
        Labels of the class axis, where the tree does not carry them.
    features : {"paper", "rich"}, default=None
        What gates see, where `regressor` is None, a name or an estimator of scikit-learn: equation
        13, or :func:`skquee.gates.rich_features` of all exits so far. Default: that of the error
        model, "paper" for the paper's network and "rich" for the others. A `regressor` that is an
        error model has `features` of its own.
    answer : {"last", "recall", "ensemble"} or rule, default="last"
        Who answers where a sample exits: that exit (the paper), the visited one of least
        predicted error (:class:`skquee.answers.RecallAnswer`), or all visited ones together
        (:class:`skquee.answers.EnsembleAnswer`). Errors are then those of that answer.
    policy : str, policy or callable, default="open-loop"
        "open-loop" (the paper), "option-value", "pessimistic", "closed-loop", or one of
        :mod:`skquee.policy`; the last three are fitted with the gates. A callable
        ``policy(predicted_errors, costs, lambda_)`` returns the position of the path aimed at;
        see :func:`skquee.policy.open_loop`.
    first : {"planned", "free", "highest"}, default="planned"
        First step, where the tree has several and nothing is known of a sample: that of the path
        that is best on average; the one from which this router loses least, on the rows of fit,
        at the `lambda_` that holds; or always the dearest (the paper's restriction R2).
    cross_fit : int, default=2
        Parts for cross-fitting: the targets that train the gates come from clusters of
        other rows. 1 clusters and trains on the same rows.
    validation_fraction : float, default=0.1
        Share of the rows kept out of everything for ``cost_curve(lambdas)``; 0 keeps none.
    random_state : int, RandomState or None, default=None
        Seed of every part. Results do not depend on `n_jobs`.
    n_jobs : int, default=None
        Paths clustered and gates trained at once, where `targets` and `regressor` are the
        defaults.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the class axis.
    paths_ : PathTree
        The tree, with the costs that hold now.
    targets_ : ClusteredErrorTargets
        Clusters of the training rows.
    regressor_ : PathErrorRegressor or PathErrorClassifier
        The gates.
    answer_ : rule or None
        Fitted; None where the last exit answers.
    policy_ : policy or None
        Fitted; None where there is nothing to fit.
    cost_model_ : CallCostModel or None
        Predicts prices of calls that the table says are not known before.
    n_paths_, n_classes_, n_features_in_ : int
        Size of the table (``n_features_in_`` counts its columns).

    Raises
    ------
    ValueError
        If X is not a table of probabilities, y does not fit it, or a parameter is out of
        range; the message names row and path, or parameter and value.

    References
    ----------
    .. [1] QuEE: "Predicting Probabilities of Error to Combine Quantization and Early
       Exiting", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import CostAwareRouter, PathTree
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=300)
    >>> logits = rng.normal(size=(300, 2, 3)) + np.array([1, 4])[:, None] * np.eye(3)[y][:, None]
    >>> probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    >>> router = CostAwareRouter(lambda_=0.1, paths=PathTree.chain([1, 3]), random_state=0)
    >>> router.fit(probs, y).predict(probs).shape
    (300,)
    >>> bool(router.predict_cost(probs).mean() < 4)
    True
    >>> bool((router.set_params(lambda_=100.0).predict_cost(probs) == 1).all())
    True
    """

    _parts: ClassVar = {"targets": ClusteredErrorTargets, "regressor": PathErrorRegressor}
    _read_in_fit: ClassVar = (
        "targets",
        "regressor",
        "features",
        "answer",
        "classes",
        "cross_fit",
    )

    def __init__(
        self,
        lambda_: float | None = 1.0,
        *,
        targets: ClusteredErrorTargets | str | None = None,
        regressor: ErrorModel | BaseEstimator | str | None = None,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
        features: str | None = None,
        answer: AnswerRule | str = "last",
        policy: PolicyLike = "open-loop",
        first: str = "planned",
        cross_fit: int = 2,
        validation_fraction: float = 0.1,
        random_state: Seed = None,
        n_jobs: int | None = None,
    ) -> None:
        self.lambda_ = lambda_
        self.targets = targets
        self.regressor = regressor
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes
        self.features = features
        self.answer = answer
        self.policy = policy
        self.first = first
        self.cross_fit = cross_fit
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.n_jobs = n_jobs

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        unlabeled: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> CostAwareRouter:
        """Cluster the rows, make error targets, and train the gates on them.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path on rows that trained no classifier. A lazy table is
            run once, whole.
        y : array-like of shape (n_samples,)
            Labels. None for a table of outcomes, which knows its losses.
        unlabeled : PathProbabilities or array-like, default=None
            Further rows, without labels, that train the gates instead (the paper's way:
            clusters from validation rows, gates on training rows).
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows of X.

        Returns
        -------
        self
        """
        self.__dict__.pop("policy_", None)  # of an earlier fit
        self.check_knobs()
        check_fit_parameters(self)
        rule = answer_rule(self.answer)
        table, codes = self.start_fit(X, y)
        weights = check_weights(sample_weight, len(table))
        extra = None
        if unlabeled is not None:
            if self.targets in ("bernoulli", "mixed"):
                raise ValueError(
                    f"targets={self.targets!r} are errors, which rows without labels have not: use "
                    "clusters for unlabeled rows."
                )
            extra = as_path_probabilities(unlabeled, self._fitted_paths)
            if extra.shape[2] != self.n_classes_:
                raise ValueError(
                    f"unlabeled has {extra.shape[2]} classes, but X has {self.n_classes_}."
                )
        table = stored(table)
        warn_where_context_is_unread(table, error_model(self.regressor, self.features))
        right = correctness(table, codes)
        if table.losses is not None and rule is not None and not hasattr(rule, "chosen"):
            raise ValueError(
                f"answer={self.answer!r} combines the answers of several exits, and the loss of "
                "that is not known: use answer='last' or 'recall' for a table with losses."
            )
        split_seed, target_seed, gate_seed = spawn_seeds(self.random_state, 3)
        train, held = hold_out(codes, self.validation_fraction, int(split_seed), weights)
        ours = table[train]
        kept = None if weights is None else weights[train]
        params_t, params_r = self._fit_params(kept)
        self.answer_, answers = None, ours
        if rule is not None:
            self.answer_, answers = cross_fitted_answers(
                rule, ours, codes[train], seed=int(split_seed), sample_weight=kept
            )
            right = np.empty((len(table), table.paths.n_paths), dtype=right.dtype)
            right[train] = correctness(answers, codes[train])
            if len(held):
                right[held] = self.correct_paths(table[held], codes[held])
        if extra is not None:
            extra, params_r = stored(extra), _Weights()
        seeds = int(target_seed), int(split_seed)
        wrong = wrong_of(right[train])
        goals = self._goals(answers, codes[train], wrong, extra, params_t, seeds)
        self.regressor_ = self._part("regressor", int(gate_seed))
        seen = answers if gates_see(self.answer_) else ours
        self.regressor_.fit(seen if extra is None else self._as_gates_see(extra), goals, **params_r)
        self._held_out, self.cost_model_, self._held_rows = None, None, held
        self._held_source = f"{len(held)} rows held out in fit"
        self._held_costs = None, None
        facts = ours.facts
        if facts.call_costs is not None and not facts.costs_known:
            self.cost_model_ = CallCostModel(int(split_seed))
            self.cost_model_.fit(facts.context, facts.call_costs, kept)
        if len(held):
            rest = table[held]
            self._held_out = (
                self._survey(rest),
                right[held],
                None if weights is None else weights[held],
            )
            self._held_costs = rest.row_path_costs(), self._seen_costs(rest)
        self._fit_policy(seen, wrong, kept)
        return self

    def _goals(
        self,
        answers: PathProbabilities,
        codes: NDArray[np.intp],
        wrong: NDArray[np.bool_],
        extra: PathProbabilities | None,
        params: _Weights,
        seeds: tuple[int, int],
    ) -> NDArray[np.float64]:
        """Return the targets of the rows that train the gates."""
        if self.targets == "bernoulli":
            self.targets_ = None
            return wrong.astype(np.float64)
        labels = None if answers.facts.outcomes else self.classes_[codes]
        self.targets_ = self._part("targets", seeds[0])
        if extra is not None:
            self.targets_.fit(answers, labels, **params)
            return self.targets_.transform(answered(self.answer_, extra))
        goals = cross_fitted_targets(
            self.targets_,
            answers,
            labels,
            parts=self.cross_fit,
            seed=seeds[1],
            wrong=wrong,
            **params,
        )
        return (goals + wrong) / 2 if self.targets == "mixed" else goals

    def _part(self, name: str, seed: int) -> BaseEstimator:
        """Return a fresh copy of a part, seeded and given workers where it leaves them open."""
        given = getattr(self, name)
        if name == "targets":
            if given in ("shrunken", "mixed"):
                part: BaseEstimator = ClusteredErrorTargets(shrinkage=SHRINKAGE)
            else:
                part = ClusteredErrorTargets() if given is None else clone(given)
        else:
            part = error_model(given, self.features)
        own = part.get_params(deep=False)
        for key, value in (("random_state", seed), ("n_jobs", self.n_jobs)):
            if own.get(key, 0) is None:
                part.set_params(**{key: value})
        return part

    def _fit_params(self, weights: NDArray[np.float64] | None) -> tuple[_Weights, _Weights]:
        """Return what targets and regressor get in fit besides rows."""
        if weights is None:
            return {}, {}
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=weights)
            given: _Weights = {"sample_weight": weights}
            return (
                routed["targets"]["fit"] if hasattr(self.targets, "fit") else given,
                routed["regressor"]["fit"] if hasattr(self.regressor, "fit") else given,
            )
        given = {"sample_weight": weights}
        takes = [
            part is None
            or isinstance(part, str)
            or not hasattr(part, method)
            or has_fit_parameter(part, "sample_weight")
            for part, method in ((self.targets, "fit"), (self.regressor, "judge"))
        ]
        return given if takes[0] else {}, given if takes[1] else {}

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata travels: to this router, its targets and its regressor.

        Returns
        -------
        MetadataRouter
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        mapping = MethodMapping().add(caller="fit", callee="fit")
        for name in ("targets", "regressor"):
            part = getattr(self, name)
            if hasattr(part, "fit"):
                router.add(method_mapping=mapping, **{name: part})
        return router
