"""The paper's router: gates that predict errors and step toward the best path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skquee.base import RoutingMixin, Visit
from skquee.evaluation import CostCurve
from skquee.gates import PathErrorRegressor
from skquee.paths import PathTree
from skquee.policy import POLICIES
from skquee.probabilities import PathProbabilities, as_path_probabilities
from skquee.tables import check_weights, correctness, hold_out, spawn_seeds, stored
from skquee.targets import ClusteredErrorTargets, cross_fitted_targets

__all__ = ["CostAwareRouter"]


class CostAwareRouter(RoutingMixin, BaseEstimator):
    """Route every sample to the path of least ``lambda_ * cost + predicted error``.

    The QuEE method. After each block a gate predicts the probability of error of every path
    that is still open, aims at the best one, and takes its first step or exits (equations 9
    and 18). It is trained once; ``lambda_`` and ``costs`` are read at prediction.

    Parameters
    ----------
    lambda_ : float, default=1.0
        Price of one unit of cost, in units of error probability. Not learned: change it with
        ``set_params`` at any time. It is per unit of ``paths_.costs``.
    targets : ClusteredErrorTargets, default=None
        Makes the error targets. Default: K-means with 20 clusters a path.
    regressor : PathErrorRegressor, default=None
        The gates' error model. Default: the paper's network.
    paths : PathTree, default=None
        The tree, where the table is a bare array. Its costs go before the table's.
    costs : array-like of shape (n_paths,), default=None
        Cost of each whole path in any unit, in place of the tree's.
    classes : sequence, default=None
        Labels of the class axis, where the tree does not carry them.
    policy : {"open-loop"} or callable, default="open-loop"
        ``policy(predicted_errors, costs, lambda_)`` returns the position of the path aimed
        at; see :func:`skquee.policy.open_loop`.
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
    regressor_ : PathErrorRegressor
        The gates.
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
    >>> router = CostAwareRouter(lambda_=0.3, paths=PathTree.chain([1, 3]), random_state=0)
    >>> router.fit(probs, y).predict(probs).shape
    (300,)
    >>> bool(router.predict_cost(probs).mean() < 1)
    True
    >>> bool((router.set_params(lambda_=100.0).predict_cost(probs) == 0.25).all())
    True
    """

    _parts: ClassVar = {"targets": ClusteredErrorTargets, "regressor": PathErrorRegressor}

    def __init__(
        self,
        lambda_: float = 1.0,
        *,
        targets: Any = None,
        regressor: Any = None,
        paths: PathTree | None = None,
        costs: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        policy: str | Callable[..., Any] = "open-loop",
        cross_fit: int = 2,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.lambda_ = lambda_
        self.targets = targets
        self.regressor = regressor
        self.paths = paths
        self.costs = costs
        self.classes = classes
        self.policy = policy
        self.cross_fit = cross_fit
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.n_jobs = n_jobs

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        unlabeled: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> CostAwareRouter:
        """Cluster the rows, make error targets, and train the gates on them.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path on rows that trained no classifier. A lazy table is
            run once, whole.
        y : array-like of shape (n_samples,)
            Labels.
        unlabeled : PathProbabilities or array-like, default=None
            Further rows, without labels, that train the gates instead (the paper's way:
            clusters from validation rows, gates on training rows).
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows of X.

        Returns
        -------
        self
        """
        self._check_knobs()
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must lie in [0, 1), got {self.validation_fraction}."
            )
        if self.cross_fit < 1:
            raise ValueError(f"cross_fit must be at least 1, got {self.cross_fit}.")
        table, codes = self._start_fit(X, y)
        weights = check_weights(sample_weight, len(table))
        extra = None
        if unlabeled is not None:
            extra = as_path_probabilities(unlabeled, self._fitted_paths)
            if extra.shape[2] != self.n_classes_:
                raise ValueError(
                    f"unlabeled has {extra.shape[2]} classes, but X has {self.n_classes_}."
                )
        table = stored(table)
        right = correctness(table, codes)
        split_seed, target_seed, gate_seed = spawn_seeds(self.random_state, 3)
        train, held = hold_out(codes, self.validation_fraction, int(split_seed), weights)
        labels = self.classes_[codes]
        ours = table[train]
        kept = None if weights is None else weights[train]
        params_t, params_r = self._fit_params(kept)
        self.targets_ = self._part("targets", int(target_seed))
        self.targets_.fit(ours, labels[train], **params_t)
        if extra is not None:
            extra, params_r = stored(extra), {}
            goals = self.targets_.transform(extra)
        else:
            extra = ours
            goals = cross_fitted_targets(
                self.targets_,
                ours,
                labels[train],
                parts=self.cross_fit,
                seed=int(split_seed),
                **params_t,
            )
        self.regressor_ = self._part("regressor", int(gate_seed))
        self.regressor_.fit(extra, goals, **params_r)
        self._held_out = None
        if len(held):
            rest = table[held]
            self._held_out = (
                self._survey(rest),
                right[held],
                None if weights is None else weights[held],
            )
        return self

    def _part(self, name: str, seed: int) -> Any:
        """Return a fresh copy of a part, seeded and given workers where it leaves them open."""
        given = getattr(self, name)
        part = self._parts[name]() if given is None else clone(given)
        own = part.get_params(deep=False)
        for key, value in (("random_state", seed), ("n_jobs", self.n_jobs)):
            if own.get(key, 0) is None:
                part.set_params(**{key: value})
        return part

    def _fit_params(
        self, weights: NDArray[np.float64] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what targets and regressor get in fit besides rows."""
        if weights is None:
            return {}, {}
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=weights)
            given = {"sample_weight": weights}
            return (
                given if self.targets is None else dict(routed["targets"]["fit"]),
                given if self.regressor is None else dict(routed["regressor"]["fit"]),
            )
        given = {"sample_weight": weights}
        takes = [
            part is None or has_fit_parameter(part, "sample_weight")
            for part in (self.targets, self.regressor)
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
            if part is not None:
                router.add(method_mapping=mapping, **{name: part})
        return router

    # ------------------------------------------------------------------ decide

    def _check_knobs(self) -> None:
        number = isinstance(self.lambda_, Real)
        if not (number and np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise ValueError(f"lambda_ must be a finite number >= 0, got {self.lambda_!r}.")
        if not callable(self.policy) and self.policy not in POLICIES:
            raise ValueError(
                f"policy must be one of {sorted(POLICIES)} or a callable, got {self.policy!r}."
            )

    def _aim(
        self, errors: NDArray[np.floating], costs: NDArray[np.float64], lambda_: float
    ) -> NDArray[np.intp]:
        policy = self.policy if callable(self.policy) else POLICIES[self.policy]
        return np.asarray(policy(errors, costs, lambda_))

    def _decide(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        tree = visit.tree
        if visit.now is None:
            # Nothing is known yet: every sample aims at the path that is best on average.
            errors = self.regressor_.base_errors_[None]
            aimed = int(self._aim(errors, tree.path_costs, self.lambda_)[0])
            step = tree.ancestors[aimed, 0]
            return np.full(len(visit.rows), step), np.full(len(visit.rows), errors[0, aimed])
        steps = np.empty_like(visit.prefixes)
        seen = np.empty(len(steps))
        for rows, candidates, errors in self.regressor_.judge(
            visit.prefixes, visit.now, visit.previous
        ):
            best = self._aim(errors, tree.path_costs[candidates], self.lambda_)
            steps[rows] = _next_step(tree, candidates, visit.depth)[best]
            seen[rows] = errors[np.arange(len(best)), best]
        return steps, seen

    # ------------------------------------------------------------------ curves

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return accuracy and cost at every ``lambda_``, from one training.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs. Default: 0 and a hundred that span the curve.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure on; a lazy table is run once. Default: the rows held out in fit
            (``validation_fraction``), and the curve's ``source`` says so.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        check_is_fitted(self)
        self._check_knobs()
        if X is not None or y is not None:
            return super().cost_curve(lambdas, X, y, sample_weight=sample_weight)
        if self._held_out is None:
            raise ValueError(
                "No rows were held out in fit (validation_fraction=0, or too few rows): give "
                "cost_curve X and y."
            )
        survey, right, weights = self._held_out
        tree = self.paths_
        knobs = self._knobs(lambdas, tree)
        taken = self._sweep_survey(survey, knobs, tree, len(right))
        return CostCurve(
            knobs,
            taken,
            np.take_along_axis(right.T, taken, axis=0),
            tree,
            knob=self._knob,
            sample_weight=weights,
            source=f"{len(right)} rows held out in fit",
            label=type(self).__name__,
        )

    def _knobs(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = super()._knobs(values, tree)
        if not np.isfinite(knobs).all() or knobs.min() < 0:
            raise ValueError("lambdas must be finite and not negative.")
        return knobs

    def _survey(self, table: PathProbabilities) -> dict[int, NDArray[np.float32]]:
        """Return what every gate would predict on every prefix: all that routes depend on."""
        tree = table.paths
        survey: dict[int, list[NDArray[np.float32]]] = {}
        inner = [p for p in range(tree.n_paths) if not tree.is_leaf(p)]
        for _, chunk in table.chunks():
            for prefix in inner:
                parent = tree.parents[prefix]
                previous = None if parent < 0 else chunk.path(parent)
                judged = self.regressor_.judge(
                    np.full(len(chunk), prefix), chunk.path(prefix), previous
                )
                survey.setdefault(prefix, []).extend(errors for _, _, errors in judged)
        return {prefix: np.concatenate(parts) for prefix, parts in survey.items()}

    def _sweep(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        return self._sweep_survey(self._survey(table), knobs, table.paths, len(table))

    def _sweep_survey(
        self,
        survey: dict[int, NDArray[np.float32]],
        knobs: NDArray[np.float64],
        tree: PathTree,
        n_samples: int,
    ) -> NDArray[np.intp]:
        taken = np.empty((len(knobs), n_samples), dtype=np.intp)
        for line, knob in zip(taken, knobs.tolist(), strict=True):
            first = tree.roots[0]
            if len(tree.roots) > 1:
                aimed = self._aim(self.regressor_.base_errors_[None], tree.path_costs, knob)[0]
                first = tree.ancestors[aimed, 0]
            standing = {int(first): np.arange(n_samples)}
            while standing:
                prefix, rows = standing.popitem()
                if prefix not in survey:
                    line[rows] = prefix
                    continue
                candidates = tree.descendants(prefix)
                judged = survey[prefix]
                judged = judged if len(rows) == n_samples else judged[rows]
                best = self._aim(judged, tree.path_costs[candidates], knob)
                steps = _next_step(tree, candidates, int(tree.depths[prefix]))[best]
                for step in np.unique(steps).tolist():
                    members = rows[steps == step]
                    if step == prefix:
                        line[members] = prefix
                    else:
                        standing[step] = members
        return taken


def _next_step(tree: PathTree, candidates: NDArray[np.intp], depth: int) -> NDArray[np.intp]:
    """Return the path one step on toward each candidate; the prefix itself means exit."""
    if depth >= tree.n_exits:
        return candidates
    steps = tree.ancestors[candidates, depth]
    return np.where(steps >= 0, steps, candidates)
