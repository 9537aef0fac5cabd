"""What gates predict of rows: all that routes and curves depend on, worked out once."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.evaluation import CostCurve
from skquee.method.policy._aim import plan_of
from skquee.method.policy._protocol import PolicyLike
from skquee.method.policy._sweep import fit_policy, sweep
from skquee.routers._checking import make_policy
from skquee.routers._deciding import DecidingMixin
from skquee.values import PathProbabilities, PathTree
from skquee.values._labels import wrong_of
from skquee.walk._curves import check_curve_rows

__all__ = ["SurveyMixin", "Surveyed"]

# Held-out rows that are enough to choose a policy by; rows at most that choose the first step.
ENOUGH, START_ROWS = 300, 1000


@dataclass(frozen=True, eq=False)
class Surveyed:
    """What every gate predicts of some rows, and whether each path answers them right.

    `errors` (n_samples, n_candidates): by prefix; -1 is the gate before anything has run. `right`
    (n_samples, n_paths): whether each path's answer is right. `tree`: with the costs that hold.
    `costs` (n_samples, n_paths): what each path costs for each row, and what decisions take it to
    cost.
    """

    errors: dict[int, NDArray[np.float32]]
    right: NDArray[np.generic]
    tree: PathTree
    costs: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None] = (None, None)


class SurveyMixin(DecidingMixin):
    """Curves and first steps of a router of gates, from surveys of rows."""

    # Of rows kept in fit: survey, right, weights; what paths cost, what they seem to cost.
    _held_out: (
        tuple[dict[int, NDArray[np.float32]], NDArray[np.generic], NDArray[np.float64] | None]
        | None
    )
    _held_costs: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]
    _held_rows: NDArray[np.intp]
    _held_source: str

    def with_policy(self, policy: PolicyLike) -> Self:
        """Return this fitted router under another policy; nothing else is trained anew.

        Parameters
        ----------
        policy : str, policy or callable
            As of the constructor.

        Returns
        -------
        router

        Raises
        ------
        ValueError
            If the policy has to be fitted and no rows were kept for it (``first="free"`` keeps
            some).
        """
        other = copy.copy(self)
        other.policy = policy
        made = make_policy(policy)
        if hasattr(made, "fit"):
            if self._start_rows is None:
                raise ValueError(
                    f"policy={policy!r} has to be fitted, and fit kept no rows for it: call fit "
                    "with it, or with first='free'."
                )
            made = fit_policy(made, self.paths_, *self._start_rows)
        other.policy_, other._policy_of_fit = made, policy
        return other

    def survey(self, X: ArrayLike, y: ArrayLike | None) -> Surveyed:
        """Return what every gate predicts of some rows: all that routes and curves depend on.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Rows.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        Surveyed
            For :meth:`sweep_survey`.
        """
        table = self.read_table(X, reset=False)
        right = self.correct_paths(table, self.class_codes(table, y))
        costs = table.row_path_costs(), self._seen_costs(table)
        return Surveyed(self._survey(table), right, table.paths, costs)

    def keep_judged(
        self, surveyed: Surveyed, sample_weight: NDArray[np.float64] | None, source: str
    ) -> Self:
        """Let rows that others judged stand for held-out rows in ``cost_curve`` and budgets.

        Parameters
        ----------
        surveyed : Surveyed
            Every row of fit, in order, by a router that has not seen it.
        sample_weight : ndarray of shape (n_samples,) or None
            Their weights.
        source : str
            Which rows these are.

        Returns
        -------
        self
        """
        self._held_out = surveyed.errors, surveyed.right, sample_weight
        self._held_costs = surveyed.costs
        self._held_rows, self._held_source = np.arange(len(surveyed.right)), source
        return self

    def sweep_survey(
        self, surveyed: Surveyed, lambdas: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.generic]]:
        """Return each row's path, and whether its answer is right, at every ``lambda_``.

        Parameters
        ----------
        surveyed : Surveyed
            From :meth:`survey`.
        lambdas : ndarray of shape (n_points,)
            Trade-offs.

        Returns
        -------
        paths, right : ndarray of shape (n_points, n_samples)
        """
        right = surveyed.right
        paths = self._sweep_survey(
            surveyed.errors, lambdas, surveyed.tree, len(right), surveyed.costs[1]
        )
        return paths, np.take_along_axis(right.T, paths, axis=0)

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
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
        self.check_as_fitted()
        self.check_knobs()
        check_curve_rows(lambdas, X, y, sample_weight)
        if X is not None:
            return super().cost_curve(lambdas, X, y, sample_weight=sample_weight)
        if self._held_out is None:
            raise ValueError(
                "No rows were held out in fit (validation_fraction=0, or too few rows): give "
                "cost_curve X and y."
            )
        survey, right, weights = self._held_out
        tree = self.paths_
        knobs = self.knob_values(lambdas, tree)
        row_costs, seen = (None, None) if self.path_costs is not None else self._held_costs
        taken = self._sweep_survey(survey, knobs, tree, len(right), seen)
        return CostCurve(
            knobs,
            taken,
            np.take_along_axis(right.T, taken, axis=0),
            tree,
            knob=self.knob.name,
            sample_weight=weights,
            source=self._held_source,
            label=type(self).__name__,
            row_costs=row_costs,
        )

    def predicted_along(
        self, curve: CostCurve, table: PathProbabilities | None, rows: NDArray[np.intp]
    ) -> NDArray[np.floating] | None:
        if table is None:
            assert self._held_out is not None
            survey = {prefix: errors[rows] for prefix, errors in self._held_out[0].items()}
        else:
            survey = self._survey(table[rows])
        # The last gate that judges is the one where a row leaves; at a leaf, the one before.
        tree = curve.tree
        errors = np.full((len(rows), tree.n_paths), np.nan)
        for path in range(tree.n_paths):
            gate = path if path in survey else int(tree.parents[path])
            if gate in survey:
                aimed = np.arange(tree.n_paths) if gate < 0 else tree.descendants(gate)
                errors[:, path] = survey[gate][:, np.flatnonzero(aimed == path)[0]]
            else:  # before anything has run, samples are alike
                errors[:, path] = self.regressor_.base_errors_[path]
        return errors[np.arange(len(rows)), curve.paths[:, rows]]

    def knob_values(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = super().knob_values(values, tree)
        if not np.isfinite(knobs).all() or knobs.min() < 0:
            raise ValueError("lambdas must be finite and not negative.")
        return knobs

    def _survey(self, table: PathProbabilities) -> dict[int, NDArray[np.float32]]:
        """Return what every gate would predict on every prefix: all that routes depend on.

        The entry -1 is the gate before anything has run, where it knows samples apart.
        """
        return self._survey_seen(self._as_gates_see(table))

    def _survey_seen(self, table: PathProbabilities) -> dict[int, NDArray[np.float32]]:
        """Return :meth:`_survey` of a table as gates see it."""
        tree = table.paths
        survey: dict[int, list[NDArray[np.float32]]] = {}
        inner = np.flatnonzero(tree.is_inner).tolist()
        for _, chunk in table.chunks():
            if getattr(self.regressor_, "judges_before_running", False):
                judged = self.regressor_.judge(np.full(len(chunk), -1), [], chunk.context)
                survey.setdefault(-1, []).extend(errors for _, _, errors in judged)
            for prefix in inner:
                passed = [chunk.path(path) for path in tree.prefixes(prefix)]
                judged = self.regressor_.judge(np.full(len(chunk), prefix), passed, chunk.context)
                survey.setdefault(prefix, []).extend(errors for _, _, errors in judged)
        return {prefix: np.concatenate(parts) for prefix, parts in survey.items()}

    def sweep_table(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        seen = self._seen_costs(table)
        return self._sweep_survey(self._survey(table), knobs, table.paths, len(table), seen)

    def _sweep_survey(
        self,
        survey: dict[int, NDArray[np.float32]],
        knobs: NDArray[np.float64],
        tree: PathTree,
        n_samples: int,
        row_costs: NDArray[np.float64] | None = None,
    ) -> NDArray[np.intp]:
        policy = self.policy_in_use()

        if len(tree.roots) == 1:
            firsts = np.full((len(knobs), 1), tree.roots[0])
        elif -1 in survey:
            costs = tree.path_costs if row_costs is None else row_costs
            aim, every = plan_of(policy, survey[-1], costs, prefix=None), np.arange(n_samples)
            firsts = tree.ancestors[[aim(knob, every) for knob in knobs.tolist()], 0]
        elif self.first == "free":
            firsts = self._best_roots(knobs, tree, policy)[:, None]
        else:
            starts = [self._start(knob, tree, policy) for knob in knobs.tolist()]
            firsts = np.array([[start.root] for start in starts])
        firsts = np.broadcast_to(firsts, (len(knobs), n_samples))
        return sweep(partial(plan_of, policy), survey, knobs, tree, firsts, row_costs)

    def _seen_costs(self, table: PathProbabilities) -> NDArray[np.float64] | None:
        """Return what each path costs for each row as decisions see it: known or predicted."""
        if self.path_costs is not None or table.facts.costs_known:
            return None if self.path_costs is not None else table.row_path_costs()
        if self.cost_model_ is None:
            return None
        prices = self.cost_model_.predict(table.context, len(table))
        return np.asarray(prices @ table.paths.path_calls.T)

    def _fit_policy(
        self,
        table: PathProbabilities,
        wrong: NDArray[np.bool_],
        weights: NDArray[np.float64] | None,
    ) -> None:
        """Fit the policy and the first step, on held-out rows where there are enough.

        `table`: the rows of fit as gates see them.
        """
        policy = make_policy(self.policy)
        self.policy_, self._start_rows = policy, None
        self._policy_of_fit = self.policy
        free = self.first == "free"
        if not free and not hasattr(policy, "fit"):
            return
        if self._held_out is not None and len(self._held_out[1]) >= ENOUGH:
            survey, right, weights = self._held_out
            rows = survey, wrong_of(right), weights
        else:
            some = np.arange(len(table))
            if len(some) > START_ROWS:
                rng = np.random.default_rng(0)
                some = np.sort(rng.choice(some, size=START_ROWS, replace=False))
            weights = None if weights is None else weights[some]
            rows = self._survey_seen(table[some]), wrong[some], weights
        if hasattr(policy, "fit"):
            self.policy_ = fit_policy(policy, table.paths, *rows)
        if free:
            self._start_rows = rows
