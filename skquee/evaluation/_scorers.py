"""Scorers for searches, and doors through a Pipeline to its router."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest

from skquee.evaluation._curve import CostCurve
from skquee.values._checks import check_number, check_numbers
from skquee.values._types import Rows

__all__ = [
    "area_scorer",
    "budget_scorer",
    "cost_curve",
    "price_scorer",
    "route",
    "router_of",
    "unpack",
]


# More than the folds of any search: one fold over budget outweighs all others being right.
OVER_BUDGET = 100.0


def unpack(estimator: BaseEstimator, X: Rows) -> tuple[BaseEstimator, Rows]:
    """Return the router at the end of a Pipeline and X as it reaches it.

    Parameters
    ----------
    estimator : estimator
        A Pipeline that ends in a router, a RoutedClassifier, a fitted search over any of
        these (its best estimator counts), or a router.
    X : input
        As the estimator takes it. Transforming it by a bank runs nothing.

    Returns
    -------
    router : estimator
    X : input of the router

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skquee.evaluation import unpack
    >>> unpack(make_pipeline(FunctionTransformer(abs), DummyClassifier()), -3)
    (DummyClassifier(), 3)
    """
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return unpack(estimator[-1], X)
    if hasattr(estimator, "best_estimator_"):
        return unpack(estimator.best_estimator_, X)
    if hasattr(estimator, "bank_") and hasattr(estimator, "router_"):
        return unpack(estimator.router_, estimator.bank_.transform(X))
    return estimator, X


def route(estimator: BaseEstimator, X: Rows) -> Any:
    """Route through a router or a Pipeline that ends in one.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : input
        As the estimator takes it.

    Returns
    -------
    Routes

    Raises
    ------
    TypeError
        If the estimator does not end in a router.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.evaluation import route
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> route(make_pipeline(ThresholdRouter()).fit(table, y), table[:3]).path_names
    array(['8', '8-8-8', '8'], dtype=object)
    """
    router, inputs = router_of(estimator, X)
    return router.route(inputs)


def cost_curve(
    estimator: BaseEstimator,
    lambdas: ArrayLike | None,
    X: Rows,
    y: ArrayLike | None,
    **options: object,
) -> CostCurve:
    """Return the cost curve of a router or of a Pipeline that ends in one.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    lambdas : array-like or None
        Trade-offs; None for the estimator's own grid.
    X : input
        As the estimator takes it.
    y : array-like of shape (n_samples,)
        Labels.
    **options
        Passed on, e.g. ``sample_weight``.

    Returns
    -------
    CostCurve

    Raises
    ------
    TypeError
        If the estimator does not end in a router.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.evaluation import cost_curve
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> pipeline = make_pipeline(ThresholdRouter()).fit(table, y)
    >>> cost_curve(pipeline, [0.5, 0.9], table, y).cost.round(2)
    array([0.47, 0.87])
    """
    router, inputs = router_of(estimator, X)
    return router.cost_curve(lambdas, inputs, y, **options)


class _Scorer:
    """Picklable scorer: called with (estimator, X, y), higher is better."""

    def __init__(self, kind: str, value: Any) -> None:
        self.kind = kind
        self.value = value
        self._request = MetadataRequest(owner=type(self).__name__)
        self._request.score.add_request(param="sample_weight", alias=None)

    def __call__(
        self,
        estimator: BaseEstimator,
        X: Rows,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        if self.kind == "area":
            curve = cost_curve(estimator, self.value, X, y, sample_weight=sample_weight)
            return curve.area()
        routes = route(estimator, X)
        accuracy = accuracy_score(y, routes.labels, sample_weight=sample_weight)
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        cost = np.average(routes.costs, weights=weights)
        if self.kind == "price":
            return float(accuracy - self.value * cost)
        # A mean of equal costs can come out a rounding error above them.
        if cost <= self.value * (1 + 1e-9):
            return float(accuracy)
        return float(self.value - cost) - OVER_BUDGET

    def set_score_request(self, *, sample_weight: bool | str | None = None) -> _Scorer:
        """Say whether sample weights are wanted (metadata routing)."""
        self._request.score.add_request(param="sample_weight", alias=sample_weight)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what this scorer requests."""
        return self._request

    def _accept_sample_weight(self) -> bool:
        # A search with several scorers asks each of them this before it hands on weights.
        return True

    def __repr__(self) -> str:
        return f"{self.kind}_scorer({self.value!r})"


def price_scorer(price: float) -> _Scorer:
    """Return a scorer of ``accuracy - price * mean cost``, with a price of its own.

    Unlike ``router.score`` it does not move with ``lambda_``; by theory it picks a
    ``lambda_`` near `price` where predicted errors are calibrated.

    Parameters
    ----------
    price : float
        Error one unit of cost is worth.

    Returns
    -------
    callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skquee.evaluation import price_scorer
    >>> price_scorer(0.5)
    price_scorer(0.5)
    """
    return _Scorer("price", check_number(price, "price", at_least=0))


def budget_scorer(max_cost: float) -> _Scorer:
    """Return a scorer of accuracy within a mean cost.

    Parameters
    ----------
    max_cost : float
        Budget. A point beyond it scores ``max_cost - mean cost - 100``: below any feasible
        one, also in the mean over folds, where one fold over budget is one too many.

    Returns
    -------
    callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skquee.evaluation import budget_scorer
    >>> budget_scorer(0.4)
    budget_scorer(0.4)
    """
    return _Scorer("budget", check_number(max_cost, "max_cost", at_least=0))


def area_scorer(lambdas: ArrayLike | None = None) -> _Scorer:
    """Return a scorer of the area under the accuracy-cost hull, over the whole trade-off.

    Parameters
    ----------
    lambdas : array-like, default=None
        Trade-offs swept; None for the estimator's own grid.

    Returns
    -------
    callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skquee.evaluation import area_scorer
    >>> area_scorer()
    area_scorer(None)
    """
    if lambdas is not None:
        check_numbers(np.atleast_1d(lambdas), "lambdas", shape=(None,), finite=False)
    return _Scorer("area", lambdas)


def router_of(estimator: BaseEstimator, X: Rows) -> tuple[BaseEstimator, Rows]:
    """Return what :func:`unpack` does, and raise where it is no router."""
    router, inputs = unpack(estimator, X)
    if not (hasattr(router, "route") and hasattr(router, "cost_curve")):
        raise TypeError(
            f"{type(router).__name__} has no route and cost_curve: give a fitted router, such as "
            "CostAwareRouter, or a Pipeline that ends in one."
        )
    return router, inputs
