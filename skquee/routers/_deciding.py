"""What a fitted gate router decides by: error model, policy and first step at one price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skquee.method._answers import AnsweredGates, AnswerRule, OneAnswer, answered, gates_see
from skquee.method.gates import ErrorModel
from skquee.method.gates._one import OneJudge
from skquee.method.policy import Policy, next_steps, open_loop
from skquee.method.policy._aim import aim_at, plan_of
from skquee.method.policy._plans import TIE
from skquee.method.policy._protocol import PolicyFunction, PolicyLike
from skquee.method.policy._sweep import Survey, sweep
from skquee.routers._checking import check_policy, is_policy, make_policy
from skquee.routers._prices import CallCostModel
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_number, check_option
from skquee.values._rows import alike
from skquee.walk import Decider, RoutingMixin, Visit
from skquee.walk._decider import History, OneDecider

__all__ = ["DecidingMixin", "GateDecider", "Judgement", "Start"]

FIRST = ("planned", "free", "highest")
FEW_ROWS = 8  # decided one by one on plain numbers: arrays cost the same for one as for many


@dataclass(frozen=True, eq=False)
class Start:
    """First step where nothing is known of a sample.

    `root`: the path of one step that every sample takes. `errors` (n_paths,): mean error of every
    path.
    """

    root: int
    aimed: int
    errors: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a gate predicted for samples on one prefix, and where each aims.

    `rows` (k,): positions among the samples of the visit. `prefix`: their path; None before
    anything has run. `candidates` (n_candidates,): paths that start with it, itself first. `errors`
    (k, n_candidates). `costs` (n_candidates,) or (k, n_candidates). `aimed` (k,): position of the
    candidate aimed at.
    """

    rows: NDArray[np.intp]
    prefix: int | None
    candidates: NDArray[np.intp]
    errors: NDArray[np.floating]
    costs: NDArray[np.float64]
    aimed: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class GateDecider(Decider):
    """Step toward the path of least ``lambda_ * cost + predicted error``.

    `lambda_`: price of a unit of cost. `gates`: fitted: ``judge(prefixes, history, context)``.
    `policy`: as of :func:`aim_at`. `start`: first step; None where there is one root, or the gates
    judge before anything has run. `rule`: who answers; None: the last exit. `prices`: predicts what
    calls cost; None: costs of the visit, or of the tree.
    """

    lambda_: float
    gates: ErrorModel | AnsweredGates
    policy: Policy | PolicyFunction | None
    start: Start | None
    rule: AnswerRule | None
    prices: CallCostModel | None = None

    def judge(self, visit: Visit) -> Iterator[Judgement]:
        """Predict the errors of every path that is open to samples before a gate, and aim.

        Yields one for each prefix.
        """
        n = len(visit.rows)
        row_costs = visit.costs
        if row_costs is None and self.prices is not None:
            row_costs = self.prices.predict(visit.context, n) @ self.tree.path_calls.T
        if visit.now is None and self.start is not None:
            costs = self.tree.path_costs
            base = np.broadcast_to(self.start.errors, (n, len(costs)))
            aimed = np.full(n, self.start.aimed)
            yield Judgement(np.arange(n), None, np.arange(len(costs)), base, costs, aimed)
            return
        for rows, candidates, errors in self.gates.judge(
            visit.prefixes, visit.history(), visit.context
        ):
            prefix = None if visit.now is None else int(visit.prefixes[rows[0]])
            costs = self.tree.path_costs[candidates]
            if row_costs is not None:
                costs = row_costs[rows[:, None], candidates]
            aimed = self._aim(errors, costs, prefix)
            yield Judgement(rows, prefix, candidates, errors, costs, aimed)

    def _aim(
        self, errors: NDArray[np.floating], costs: NDArray[np.float64], prefix: int | None
    ) -> NDArray[np.intp]:
        """Return the candidate that the policy aims at, shape (k,)."""
        if self.policy is not None:
            return aim_at(self.policy, errors, costs, self.lambda_, prefix)
        scores = errors + self.lambda_ * costs
        aimed = scores.argmin(axis=1)
        best = scores.min(axis=1, keepdims=True)
        if np.isnan(best.sum()):
            return open_loop(errors, costs, self.lambda_)  # says which
        near = scores <= best + TIE
        if np.count_nonzero(near) > len(scores):  # equals: seldom, and in few rows
            rows = np.flatnonzero(near.sum(axis=1) > 1)
            prices = costs if costs.ndim == 1 else costs[rows]
            aimed[rows] = open_loop(errors[rows], prices, self.lambda_)
        return aimed

    def step(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        """Decide; see :class:`skquee.walk.Decider`."""
        n = len(visit.rows)
        if visit.now is None and self.start is not None:
            error = self.start.errors[self.start.aimed]
            return np.full(n, self.start.root), np.full(n, error)
        known = visit.now is not None and visit.costs is None and visit.context is None
        if n <= FEW_ROWS and known and self._by_row is not None:
            exits = [answers.tolist() for answers in visit.history()]
            found = [
                self._by_row.step(prefix, [answers[row] for answers in exits])
                for row, prefix in enumerate(visit.prefixes.tolist())
            ]
            goals, errors = zip(*found, strict=True)
            return np.array(goals, dtype=np.intp), np.array(errors, dtype=np.float32)
        return self.settle(visit, self.judge(visit))

    @cached_property
    def _by_row(self) -> OneDecider | None:
        return self.one()

    def settle(
        self, visit: Visit, judged: Iterable[Judgement]
    ) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        """Return next steps and predicted errors of what was judged."""
        n = len(visit.rows)
        steps, seen = np.empty(n, dtype=np.intp), np.empty(n)
        for found in judged:
            nexts = next_steps(self.tree, found.candidates, visit.depth)
            steps[found.rows] = nexts[found.aimed]
            seen[found.rows] = found.errors[np.arange(len(found.rows)), found.aimed]
        return steps, seen

    def answer(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.floating]:
        """Answer; see :class:`skquee.walk.Decider`."""
        if self.rule is None:
            return now
        passed = history()
        out = np.empty((len(now), now.shape[1]))
        for path, rows in alike(paths):
            if len(rows) == len(paths):
                return self.rule.combine(path, passed).astype(np.float64)
            out[rows] = self.rule.combine(path, [p[rows] for p in passed])
        return out

    def answering(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.intp]:
        """Tell who answers; see :class:`skquee.walk.Decider`."""
        chosen = getattr(self.rule, "chosen", None)
        if chosen is None:
            return paths
        passed, out = history(), np.empty_like(paths)
        for path, rows in alike(paths):
            out[rows] = self.tree.prefixes(path)[chosen(path, [p[rows] for p in passed])]
        return out

    def one(self) -> OneDecider | None:
        """Return what decides for one row on plain numbers; see :class:`skquee.walk.Decider`."""
        if self.prices is not None or (self.start is None and len(self.tree.roots) > 1):
            return None
        gates, rule = (getattr(part, "one", _nothing)() for part in (self.gates, self.rule))
        if gates is None or (self.rule is not None and rule is None):
            return None
        return _OneRow(self, gates, rule)


def _nothing() -> None:
    return None


# Place, price and next step of each candidate; then the costs and steps of all.
_Plan = tuple[list[tuple[int, float, int]], NDArray[np.float64], list[int]]


class _OneRow:
    """A gate decider for one row on plain numbers: the same decisions, without arrays."""

    def __init__(self, decider: GateDecider, gates: OneJudge, rule: OneAnswer | None) -> None:
        tree, self.lambda_ = decider.tree, decider.lambda_
        self.judge, self.policy = gates.judge, decider.policy
        self.combine = None if rule is None else rule.combine
        roots = tree.roots.tolist()
        self.first = (roots[0], np.nan)
        if decider.start is not None and len(roots) > 1:
            self.first = decider.start.root, float(decider.start.errors[decider.start.aimed])
        self.plans: dict[int, _Plan] = {}
        for prefix in np.flatnonzero(tree.is_inner).tolist():
            candidates = tree.descendants(prefix)
            costs = tree.path_costs[candidates]
            steps = next_steps(tree, candidates, int(tree.depths[prefix])).tolist()
            order = np.argsort(costs, kind="stable").tolist()
            # Cheapest first, as ties go to the cheapest.
            lines = [(place, self.lambda_ * float(costs[place]), steps[place]) for place in order]
            self.plans[prefix] = lines, costs, steps

    def start(self) -> tuple[int, float]:
        """Return the first path and the error aimed at."""
        return self.first

    def step(self, prefix: int, history: list[list[float]]) -> tuple[int, float]:
        """Return the next path, the prefix itself to exit, and the error aimed at."""
        plan = self.plans.get(prefix)
        if plan is None:
            return prefix, np.nan
        lines, costs, steps = plan
        errors = self.judge(prefix, history)
        if self.policy is not None:
            at = int(aim_at(self.policy, np.array([errors]), costs, self.lambda_, prefix)[0])
            return steps[at], errors[at]
        scores = [errors[place] + price for place, price, _ in lines]
        bound = min(scores) + TIE
        for score, (place, _, step) in zip(scores, lines, strict=True):
            if score <= bound:
                return step, errors[place]
        return prefix, np.nan

    def answer(self, path: int, history: list[list[float]]) -> list[float]:
        """Return the probabilities answered at the end of a path."""
        if self.combine is None:
            return history[-1]
        found: list[float] = self.combine(path, history)
        return found


class DecidingMixin(RoutingMixin):
    """Gives a router of fitted gates its decider, at the price and policy that are set."""

    lambda_: float | None
    first: str
    policy: PolicyLike
    policy_: BaseEstimator
    regressor_: ErrorModel
    answer_: AnswerRule | None
    cost_model_: CallCostModel | None
    _policy_of_fit: PolicyLike
    # Of rows that choose the first step: survey, wrong, weights.
    _start_rows: tuple[Survey, NDArray[np.bool_], NDArray[np.float64] | None] | None

    def check_knobs(self) -> None:
        if self.lambda_ is not None:
            check_number(self.lambda_, "lambda_", at_least=0)
        check_option(self.first, "first", FIRST)
        fitted = hasattr(self, "policy_")
        # A name that fit took is good.
        if not (fitted and isinstance(self.policy, str) and self.policy == self._policy_of_fit):
            check_policy(self.policy)
            if fitted:
                self._check_policy_is_fitted()
        if self.first == "free" and fitted and self._start_rows is None:
            raise ValueError(
                "first='free' was set after fit, and has to be fitted: call fit again."
            )

    def _check_policy_is_fitted(self) -> None:
        """Raise where the policy in use has to be fitted, and another one was."""
        wanted, fitted = make_policy(self.policy), self.policy_
        if wanted is None or not hasattr(wanted, "fit"):
            return
        same = type(fitted) is type(wanted)
        if not (same and repr(wanted.get_params()) == repr(fitted.get_params())):
            raise ValueError(
                f"policy={self.policy!r} was set after fit, and has to be fitted: call fit again."
            )

    def policy_in_use(self) -> Policy | PolicyFunction | None:
        """Return the policy that holds: fitted, a callable, or None for the open loop."""
        if self.policy == "open-loop":
            return None
        if isinstance(self.policy, str) or (is_policy(self.policy) and hasattr(self.policy, "fit")):
            return self.policy_
        return self.policy

    def _as_gates_see(self, table: PathProbabilities) -> PathProbabilities:
        return answered(self.answer_, table) if gates_see(self.answer_) else table

    def answered_table(self, table: PathProbabilities) -> PathProbabilities:
        return answered(self.answer_, table)

    def make_decider(self, tree: PathTree) -> GateDecider:
        if self.lambda_ is None:
            raise ValueError(
                "lambda_=None is still open, so there is no point to route at: set a number >= 0, "
                "or let RoutedClassifier or TunedCostAwareRouterCV choose one."
            )
        lambda_, policy, start = float(self.lambda_), self.policy_in_use(), None
        judged = getattr(self.regressor_, "judges_before_running", False)
        if not judged and len(tree.roots) > 1:
            start = self._start(lambda_, tree, policy)
        gates: ErrorModel | AnsweredGates = self.regressor_
        if self.answer_ is not None and gates_see(self.answer_):
            gates = AnsweredGates(self.regressor_, self.answer_, tree)
        return GateDecider(
            tree,
            self.classes_,
            lambda_,
            gates,
            policy,
            start,
            self.answer_,
            self.cost_model_ if self.path_costs is None else None,
        )

    def _start(
        self, lambda_: float, tree: PathTree, policy: Policy | PolicyFunction | None
    ) -> Start:
        """Return the first step where samples are all alike."""
        errors = self.regressor_.base_errors_
        aimed = int(aim_at(policy, errors[None], tree.path_costs, lambda_, None)[0])
        if self.first == "highest":
            root = int(tree.roots[np.argmax(tree.path_costs[tree.roots])])
        elif self.first == "free":
            root = int(self._best_roots(np.array([lambda_]), tree, policy)[0])
        else:
            root = int(tree.ancestors[aimed, 0])
        if tree.ancestors[aimed, 0] != root:
            ours = np.flatnonzero(tree.ancestors[:, 0] == root)
            aimed = int(ours[np.argmin(errors[ours] + lambda_ * tree.path_costs[ours])])
        return Start(root, aimed, errors)

    def _best_roots(
        self, knobs: NDArray[np.float64], tree: PathTree, policy: Policy | PolicyFunction | None
    ) -> NDArray[np.intp]:
        """Return the first step from which this router loses least on rows of fit."""
        assert self._start_rows is not None
        survey, wrong, weights = self._start_rows
        rows = np.arange(len(wrong))
        losses = []
        for root in tree.roots.tolist():
            starts = np.full((len(knobs), len(rows)), root)
            taken = sweep(partial(plan_of, policy), survey, knobs, tree, starts)
            loss = wrong[rows, taken] + knobs[:, None] * tree.path_costs[taken]
            losses.append(np.average(loss, axis=1, weights=weights))
        return tree.roots[np.argmin(losses, axis=0)]
