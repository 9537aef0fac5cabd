"""Trying candidates on folds: each training once, however many candidates it serves."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.validation import has_fit_parameter

from skquee.method._targets import ClusteredErrorTargets
from skquee.method.policy import ClosedLoop, OptionValue, Pessimistic
from skquee.routers import CostAwareRouter
from skquee.routers._checking import check_folds
from skquee.routers._deciding import DecidingMixin
from skquee.routers._router import SHRINKAGE
from skquee.routers._survey import Surveyed
from skquee.values import PathProbabilities
from skquee.values._shipping import threads
from skquee.walk import RoutingMixin

__all__ = [
    "Swept",
    "answer_alike",
    "fit_team",
    "make_splits",
    "seeded",
    "share_clusters",
    "share_trainings",
    "try_out",
]

# Training and test rows.
Fold: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]

# Candidates that differ in nothing but one of these policies share one training.
SHARED = (OptionValue, Pessimistic, ClosedLoop)

# Of a candidate that failed.
NO_PATHS, NOTHING = np.empty((0, 0), dtype=np.intp), np.empty((0, 0))


class Swept:
    """What one fold says of one candidate."""

    def __init__(
        self,
        knobs: NDArray[np.float64],
        seconds: float,
        paths: NDArray[np.intp] = NO_PATHS,
        correct: NDArray[np.floating] = NOTHING,
        failed: str = "",
        costs: NDArray[np.float64] | None = None,
    ) -> None:
        self.knobs, self.seconds, self.failed = knobs, seconds, failed
        self.paths, self.correct = paths, correct
        self.costs = costs  # of each row at each point, where rows have prices


def seeded(routers: object, seed: int) -> dict[str, BaseEstimator]:
    """Return copies of routers by name, with a seed where they leave theirs open."""
    if not (isinstance(routers, Mapping) and len(routers)):
        raise ValueError(
            f"candidates must map names to routers, at least one, got {type(routers).__name__}."
        )
    copies = {name: clone(router) for name, router in routers.items()}
    for copied in copies.values():
        if copied.get_params(deep=False).get("random_state", 0) is None:
            copied.set_params(random_state=seed)
    return copies


def make_splits(
    cv: int | BaseCrossValidator | Iterable[Fold],
    codes: NDArray[np.intp],
    labels: NDArray[np.generic] | None,
    seed: int,
) -> list[Fold]:
    """Return training and test rows of every fold: with equal shares of each label, if any."""
    check_folds(cv, codes, by_class=labels is not None)
    folds = check_cv(cv, labels, classifier=labels is not None)
    if getattr(folds, "shuffle", None) is False and isinstance(cv, int):
        folds = type(folds)(folds.get_n_splits(), shuffle=True, random_state=seed)
    return list(folds.split(codes, labels))


def share_trainings(candidates: Mapping[str, BaseEstimator]) -> list[list[str]]:
    """Gather candidates that one training serves: they differ in the policy alone."""
    groups: dict[str, list[str]] = {}
    for name, router in candidates.items():
        policy = getattr(router, "policy", None)
        shared = type(router) is CostAwareRouter and (
            router.first == "free" and (policy == "open-loop" or isinstance(policy, SHARED))
        )
        params = router.get_params(deep=False)
        params.pop("policy", None)
        key = repr(sorted(params.items(), key=lambda item: item[0])) if shared else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def answer_alike(routers: Mapping[str, BaseEstimator], best: str) -> list[str]:
    """Return who answers as the best one does, itself first: a table has one answer a path.

    The last exit answers for both, or one training gave both their answer.
    """
    trained = next(group for group in share_trainings(routers) if best in group)
    plain = _last_exit_answers(routers[best])
    return [
        best,
        *(
            name
            for name, router in routers.items()
            if name != best and (name in trained or (plain and _last_exit_answers(router)))
        ),
    ]


def _last_exit_answers(router: BaseEstimator) -> bool:
    params = router.get_params(deep=False)
    answer = params.get("answer", "last")
    inner = "router" in params or "candidates" in params  # they answer as what is in them
    told = getattr(type(router), "answered_table", None)
    own = told not in (RoutingMixin.answered_table, DecidingMixin.answered_table)
    return not (inner or own) and isinstance(answer, str) and answer == "last"


def share_clusters(
    routers: Iterable[BaseEstimator],
    table: PathProbabilities,
    labels: NDArray[np.generic] | None,
    weights: NDArray[np.float64] | None,
    seed: int,
    n_jobs: int | None,
) -> list[BaseEstimator] | None:
    """Return clusterers of every column for all folds: they need no labels. None: not needed."""
    if not any(_takes_clusters(router) for router in routers):
        return None
    targets = ClusteredErrorTargets(random_state=seed, n_jobs=n_jobs)
    extra = {} if weights is None else {"sample_weight": weights}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            targets.fit(table, labels, **extra)
    except ValueError:  # those that need clusters say what is wrong
        return None
    return [FrozenEstimator(clusterer) for clusterer in targets.clusterers_]


def _takes_clusters(router: BaseEstimator) -> bool:
    """Whether a router's clusters are the default ones, of the table's own columns."""
    if type(router) is not CostAwareRouter or router.answer != "last":
        return False
    return (
        router.targets is None or isinstance(router.targets, str) and router.targets == "shrunken"
    )


def fit_on(
    router: BaseEstimator,
    table: PathProbabilities,
    labels: NDArray[np.generic] | None,
    weights: NDArray[np.float64] | None,
    clusters: list[BaseEstimator] | None = None,
) -> BaseEstimator:
    fitted = clone(router)
    if clusters is not None and _takes_clusters(router):
        shrinkage = 0.0 if router.targets is None else SHRINKAGE
        fitted.set_params(targets=ClusteredErrorTargets(clusterer=clusters, shrinkage=shrinkage))
    if "validation_fraction" in fitted.get_params(deep=False):
        fitted.set_params(validation_fraction=0.0)  # the folds take its place
    weighted = weights is not None and has_fit_parameter(fitted, "sample_weight")
    return fitted.fit(table, labels, **({"sample_weight": weights} if weighted else {}))


def fit_team(
    routers: Mapping[str, BaseEstimator],
    table: PathProbabilities,
    labels: NDArray[np.generic] | None,
    weights: NDArray[np.float64] | None,
) -> dict[str, BaseEstimator]:
    """Fit routers on all rows, those that share a training once.

    The first one is needed; another that fails is left out with a warning.
    """
    fitted: dict[str, BaseEstimator] = {}
    for first, *others in share_trainings(routers):
        try:
            fitted[first] = fit_on(routers[first], table, labels, weights)
        except Exception as error:
            if not fitted:
                raise
            warnings.warn(
                f"{[first, *others]} cannot be fitted on all rows and are left out: "
                f"{type(error).__name__}: {error}",
                UserWarning,
                stacklevel=3,
            )
            continue
        for name in others:
            fitted[name] = fitted[first].with_policy(routers[name].policy)
    return {name: fitted[name] for name in routers if name in fitted}


def try_out(
    routers: Mapping[str, BaseEstimator],
    table: PathProbabilities,
    labels: NDArray[np.generic] | None,
    weights: NDArray[np.float64] | None,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    clusters: list[BaseEstimator] | None = None,
) -> dict[str, Swept]:
    """Train once for all these candidates and sweep each on the test rows."""
    found: dict[str, Swept] = {}
    kept = None if weights is None else weights[train]
    rest, answers = table[test], None if labels is None else labels[test]
    shared: BaseEstimator | None = None
    survey: Surveyed | None = None
    for name, router in routers.items():
        began, knobs = time.perf_counter(), np.empty(0)
        try:
            with threads().limit(limits=1), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if shared is None:
                    shared = fit_on(
                        router,
                        table[train],
                        None if labels is None else labels[train],
                        kept,
                        clusters,
                    )
                knobs = shared.search_knobs(table)  # of all rows: the same in every fold
                if len(routers) == 1:
                    curve = shared.cost_curve(knobs, rest, answers)
                    paths, right = curve.paths, curve.correct
                else:
                    if survey is None:
                        survey = shared.survey(rest, answers)
                    mine = shared.with_policy(router.policy)
                    paths, right = mine.sweep_survey(survey, knobs)
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
            found[name] = Swept(knobs, time.perf_counter() - began, failed=failed)
            continue
        prices = rest.row_path_costs()
        costs = None if prices is None else np.take_along_axis(prices.T, paths, axis=0)
        found[name] = Swept(knobs, time.perf_counter() - began, paths, right, costs=costs)
    return found
