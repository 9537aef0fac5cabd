"""Appendix 7.3: predict the value of each next step instead of each path's error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from skquee.method._targets import ClusteredErrorTargets, cross_fitted_targets
from skquee.method.gates import PathErrorRegressor, gate_layouts
from skquee.method.gates._network import GateLayout
from skquee.method.policy import open_loop
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer, check_n_jobs, check_numbers, check_seed
from skquee.values._labels import (
    check_weights,
    correctness,
    hold_out,
    spawn_seeds,
    stored,
    wrong_of,
)
from skquee.values._shipping import TableLoop
from skquee.values._types import Seed
from skquee.walk import Decider, RoutingMixin, Visit

__all__ = ["NextStepRouter"]


class NextStepRouter(RoutingMixin, BaseEstimator):
    """Predict, for exit and for every next step, the best loss that can follow it.

    The variant of appendix 7.3 (equation 19)::

        l*_b(x) = min over paths that go on with b of lambda_ * cost + error target

    One number a step makes a gate cheap, but the target holds ``lambda_`` and the costs, so
    each trade-off is trained by itself. It looks into the future of the same sample, and so
    underestimates the loss.

    Parameters
    ----------
    lambda_ : float, default=1.0
        Price of one unit of cost, among the trained ones.
    lambdas : array-like, default=None
        Further trade-offs trained in fit, for ``cost_curve`` and ``set_params(lambda_=...)``.
    targets, regressor, paths, path_costs, classes, cross_fit, random_state, n_jobs
        As of :class:`skquee.CostAwareRouter`. Costs are read in fit here.

    Attributes
    ----------
    regressors_ : dict of float to PathErrorRegressor
        One a trade-off.
    targets_ : ClusteredErrorTargets
        Clusters of the rows given to fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import NextStepRouter
    >>> rng = np.random.default_rng(0)
    >>> probs = rng.dirichlet(np.ones(3), size=(200, 2))
    >>> router = NextStepRouter(lambda_=5.0, paths=PathTree.chain([1, 1]), random_state=0)
    >>> np.unique(router.fit(probs, rng.integers(3, size=200)).predict_path(probs))
    array([0])
    """

    _parts: ClassVar = {"targets": ClusteredErrorTargets, "regressor": PathErrorRegressor}
    _read_in_fit: ClassVar = ("lambdas", "targets", "regressor", "classes", "cross_fit")

    def __init__(
        self,
        lambda_: float = 1.0,
        *,
        lambdas: ArrayLike | None = None,
        targets: ClusteredErrorTargets | None = None,
        regressor: PathErrorRegressor | None = None,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
        cross_fit: int = 2,
        random_state: Seed = None,
        n_jobs: int | None = None,
    ) -> None:
        self.lambda_ = lambda_
        self.lambdas = lambdas
        self.targets = targets
        self.regressor = regressor
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes
        self.cross_fit = cross_fit
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NextStepRouter:
        """Make error targets once, and train the gates for every trade-off.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path on rows that trained no classifier.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        given = [*np.atleast_1d([] if self.lambdas is None else self.lambdas), self.lambda_]
        knobs = np.unique(check_numbers(given, "lambda_ and lambdas", at_least=0))
        check_integer(self.cross_fit, "cross_fit", at_least=1)
        check_seed(self.random_state)
        check_n_jobs(self.n_jobs)
        table, codes = self.start_fit(X, y)
        weights = check_weights(sample_weight, len(table))
        rows, _ = hold_out(codes, 0.0, 0, weights)
        table = stored(table)
        wrong = wrong_of(correctness(table, codes))[rows]
        table, labels = table[rows], self.classes_[codes][rows]
        kept = None if weights is None else weights[rows]
        split_seed, target_seed, gate_seed = spawn_seeds(self.random_state, 3).tolist()
        self.targets_ = self._make("targets", target_seed)
        errors = cross_fitted_targets(
            self.targets_,
            table,
            labels,
            parts=self.cross_fit,
            seed=split_seed,
            wrong=wrong,
            sample_weight=kept,
        )
        regressor = self._make("regressor", gate_seed)
        loop = TableLoop(table, self.n_jobs)
        fitted = loop.run(
            loop.task(_fit_knob, regressor, table, errors, kept, knob) for knob in knobs.tolist()
        )
        self.regressors_ = dict(zip(knobs.tolist(), fitted, strict=True))
        return self

    def _make(self, name: str, seed: int) -> BaseEstimator:
        given = getattr(self, name)
        part = self._parts[name]() if given is None else clone(given)
        if part.get_params(deep=False).get("random_state", 0) is None:
            part.set_params(random_state=seed)
        return part

    def check_knobs(self) -> None:
        if float(self.lambda_) not in self.regressors_:
            raise ValueError(
                f"lambda_={self.lambda_!r} was not trained; this method trains each trade-off by "
                f"itself. Trained: {list(self.regressors_)}. Add it to lambdas and fit again."
            )

    def make_decider(self, tree: PathTree) -> _NextStep:
        return _NextStep(tree, self.classes_, self.regressors_[float(self.lambda_)])

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.array(list(self.regressors_))


@dataclass(frozen=True, eq=False)
class _NextStep(Decider):
    """Step to the child of least predicted loss, or exit."""

    regressor: PathErrorRegressor

    def step(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        regressor = self.regressor
        unknown = np.full(len(visit.rows), np.nan)
        if visit.now is None:
            roots = visit.tree.roots
            mean_losses = regressor.base_errors_[roots][None]
            # The cost is inside the loss already; ties still go to the cheaper path.
            best = open_loop(mean_losses, visit.tree.path_costs[roots], 0.0)[0]
            return np.full(len(visit.rows), roots[best]), unknown
        steps = np.empty_like(visit.prefixes)
        for rows, candidates, losses in regressor.judge(
            visit.prefixes, visit.history(), visit.context
        ):
            steps[rows] = candidates[open_loop(losses, visit.tree.path_costs[candidates], 0.0)]
        return steps, unknown


def _fit_knob(
    regressor: PathErrorRegressor,
    table: PathProbabilities,
    errors: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    knob: float,
) -> PathErrorRegressor:
    tree = table.paths
    losses = errors + knob * tree.path_costs
    best = np.column_stack(
        [losses[:, tree.descendants(path)].min(axis=1) for path in range(tree.n_paths)]
    )
    layouts = gate_layouts(tree, steps_only=True)
    goals = [_step_goals(layout, losses, best) for layout in layouts]
    fitted = clone(regressor)
    fitted.base_errors_ = np.average(best, axis=0, weights=weights)
    kept = None if weights is None else weights.astype(np.float32)
    return fitted.fit_layouts(table, layouts, goals, kept, sigmoid=False)


def _step_goals(
    layout: GateLayout, losses: NDArray[np.float64], best: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return exit's own loss beside the best loss behind every next step."""
    goals = best[:, np.maximum(layout.candidates, 0)].astype(np.float32)
    goals[:, :, 0] = losses[:, layout.prefixes]
    return goals
