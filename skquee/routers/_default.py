"""The router of ``RoutedClassifier`` where none is given, and how its price is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils.validation import has_fit_parameter

from skquee.evaluation import CostCurve
from skquee.method._answers import RecallAnswer
from skquee.method.gates import PathErrorClassifier
from skquee.routers._limits import innermost
from skquee.routers._router import CostAwareRouter
from skquee.routers._survey import Surveyed
from skquee.values import PathProbabilities
from skquee.values._labels import hold_out
from skquee.walk import RoutingMixin
from skquee.walk._report import knobs_with_own

__all__ = ["choose_point", "default_router", "fit_judged"]

# Penalty of the logistic models, settled on the tuning tables of examples/benchmarks/defaults.py.
PENALTY = 10.0
# Rows that a fold has to leave for training before rows are judged on folds.
ENOUGH = 30
# Share of the rows that a budget or a risk is measured on.
CALIBRATION = 0.3


def default_router(lambda_: float | None = None, **params: Any) -> CostAwareRouter:
    """Return the router that :class:`skquee.RoutedClassifier` uses where none is given.

    A fast member of the family of :class:`skquee.CostAwareRouter`, settled on the tuning tables
    of ``examples/benchmarks/defaults.py``, which compares it with confidence thresholds: a
    logistic model for each gate and path, trained on the errors themselves, and the visited exit
    of least predicted error answers.

    Parameters
    ----------
    lambda_ : float, default=None
        Price of a unit of cost; None leaves it to be chosen.
    **params
        Parameters of :class:`skquee.CostAwareRouter` that are to be others.

    Returns
    -------
    CostAwareRouter
        Not fitted.

    Examples
    --------
    >>> from skquee.router import default_router
    >>> default_router(0.1).regressor
    PathErrorClassifier(penalty=10.0)
    """
    ours: dict[str, Any] = {
        "targets": "bernoulli",
        "regressor": PathErrorClassifier(penalty=PENALTY),
        "answer": RecallAnswer(penalty=PENALTY),
        "first": "free",
        "random_state": 0,
    }
    return CostAwareRouter(lambda_, **{**ours, **params})


@dataclass(frozen=True, eq=False)
class Judged:
    """A fitted router, and the rows that judge it.

    `rows` (n_judged,): places of the judging rows among those given. `curve`: on those rows; None
    where ``router.cost_curve()`` is. `is_open`: whether its price is still to be chosen.
    """

    router: RoutingMixin
    rows: NDArray[np.intp]
    curve: CostCurve | None
    is_open: bool


def fit_judged(
    router: RoutingMixin,
    table: PathProbabilities,
    labels: NDArray[np.generic],
    sample_weight: NDArray[np.float64] | None,
    *,
    cv: int,
    seed: int,
) -> Judged:
    """Fit a router; where its price is open, every row is judged by a router fitted on others.

    `router`: not fitted; ``lambda_`` may be None. One that takes a fitted router gets it fitted on
    some rows and is itself fitted on the others. `labels` (n_samples,). `sample_weight`
    (n_samples,).
    """
    every = np.arange(len(labels))
    if getattr(router, "takes_fitted", False):
        inner = default_router() if router.router is None else router.router
        rows = every
        if not isinstance(inner, FrozenEstimator):
            codes = np.unique(labels, return_inverse=True)[1]
            ours, rows = hold_out(codes, CALIBRATION, seed, sample_weight)
            weights = None if sample_weight is None else sample_weight[ours]
            found = fit_judged(inner, table[ours], labels[ours], weights, cv=cv, seed=seed)
            if found.is_open:  # what stands around it chooses
                found.router.set_params(lambda_=1.0)
            inner = FrozenEstimator(found.router)
        weights = None if sample_weight is None else sample_weight[rows]
        outer = clone(router).set_params(router=inner)
        outer.fit(table[rows], labels[rows], **_weighted(outer, weights))
        curve = _curve(outer, table[rows], labels[rows], weights)
        return Judged(outer, rows, curve, False)
    is_open = router.get_params(deep=False).get("lambda_", 0) is None
    if is_open and hasattr(router, "keep_judged"):
        return Judged(
            _cross_fitted(router, table, labels, sample_weight, cv, seed), every, None, True
        )
    fitted = clone(router)
    if is_open:
        fitted.set_params(lambda_=1.0)
    fitted.fit(table, labels, **_weighted(fitted, sample_weight))
    held = getattr(innermost(fitted)[0], "_held_rows", every[:0])
    if len(held):
        return Judged(fitted, held, None, is_open)
    own = _keeps_curve(fitted)
    return Judged(
        fitted, every, None if own else _curve(fitted, table, labels, sample_weight), is_open
    )


def _keeps_curve(router: RoutingMixin) -> bool:
    """Whether a fitted router has a curve of rows that it did not learn from."""
    try:
        router.cost_curve()
    except ValueError:
        return False
    return True


def _curve(
    router: RoutingMixin,
    table: PathProbabilities,
    labels: NDArray[np.generic],
    sample_weight: NDArray[np.float64] | None,
) -> CostCurve:
    """Return a router's curve on rows of fit, its own point on it."""
    curve: CostCurve = router.cost_curve(None, table, labels, sample_weight=sample_weight)
    knobs = knobs_with_own(router, curve)
    if knobs is not curve.knobs:
        curve = router.cost_curve(knobs, table, labels, sample_weight=sample_weight)
    curve.source = "rows of fit"
    return curve


def _cross_fitted(
    router: RoutingMixin,
    table: PathProbabilities,
    labels: NDArray[np.generic],
    sample_weight: NDArray[np.float64] | None,
    cv: int,
    seed: int,
) -> RoutingMixin:
    """Fit a gate router on all rows, and let its relatives of every fold judge them."""
    n_rows = len(labels)
    parts: list[tuple[NDArray[np.intp], Surveyed]] = []
    for train, test in _folds(labels, cv, seed):
        weights = None if sample_weight is None else sample_weight[train]
        if weights is not None and not weights.any():
            parts = []
            break
        other = clone(router).set_params(validation_fraction=0.0)
        other.fit(table[train], labels[train], **_weighted(other, weights))
        parts.append((test, other.survey(table[test], labels[test])))
    fitted = clone(router).set_params(validation_fraction=0.0)
    fitted.fit(table, labels, **_weighted(fitted, sample_weight))
    fitted.set_params(validation_fraction=router.validation_fraction)
    if not parts:
        source = f"{n_rows} rows of fit, too few to judge on others"
        return fitted.keep_judged(fitted.survey(table, labels), sample_weight, source)
    source = f"{n_rows} rows, each judged by a router that has not seen it"
    return fitted.keep_judged(_joined(parts, n_rows), sample_weight, source)


def _folds(
    labels: NDArray[np.generic], cv: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return folds, by class where there are enough of each; none where rows are too few."""
    if cv > len(labels):
        raise ValueError(f"cv={cv} is more than the {len(labels)} rows that judge the router.")
    sizes = np.unique(labels, return_counts=True)[1]
    if len(labels) * (cv - 1) < ENOUGH * cv:
        return []
    kind = StratifiedKFold if sizes.min() >= cv else KFold
    splits = list(kind(cv, shuffle=True, random_state=seed).split(labels, labels))
    # Routing needs two classes to learn from.
    return splits if all(len(np.unique(labels[train])) > 1 for train, _ in splits) else []


def _joined(parts: list[tuple[NDArray[np.intp], Surveyed]], n_rows: int) -> Surveyed:
    """Return what several routers predict of their rows as one survey, in the rows' order."""
    first = parts[0][1]
    errors = {
        prefix: np.empty((n_rows, values.shape[1]), dtype=values.dtype)
        for prefix, values in first.errors.items()
    }
    right = np.empty((n_rows, first.right.shape[1]), dtype=first.right.dtype)
    costs = [None if part is None else np.empty((n_rows, part.shape[1])) for part in first.costs]
    for rows, survey in parts:
        right[rows] = survey.right
        for prefix, values in survey.errors.items():
            errors[prefix][rows] = values
        for whole, part in zip(costs, survey.costs, strict=True):
            if whole is not None:
                whole[rows] = part
    return Surveyed(errors, right, first.tree, (costs[0], costs[1]))


def choose_point(
    curve: CostCurve, best_accuracy: float, max_error_increase: float
) -> tuple[int, bool]:
    """Return the cheapest point within the rule, else the most accurate one.

    `curve`: on rows that the router has not seen. `best_accuracy`: of the best single model on the
    same rows. `max_error_increase`: how far below it a point may be. Returns `within`: whether it
    keeps the rule.
    """
    accuracy, cost = curve.accuracy, curve.cost
    within = accuracy >= best_accuracy - max_error_increase - 1e-12
    if not within.any():
        return int(np.lexsort((cost, -accuracy))[0]), False
    allowed = np.flatnonzero(within)
    return int(allowed[np.lexsort((-accuracy[allowed], cost[allowed]))[0]]), True


def _weighted(router: RoutingMixin, weights: NDArray[np.float64] | None) -> dict[str, object]:
    takes = weights is not None and has_fit_parameter(router, "sample_weight")
    return {"sample_weight": weights} if takes else {}
