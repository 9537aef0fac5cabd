"""A router whose trade-off is chosen by cross-validation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.validation import check_is_fitted

from skquee.bank import MultiPathClassifierBank
from skquee.evaluation import CostCurve
from skquee.routers._checking import check_folds
from skquee.routers._limits import innermost
from skquee.routers._router import CostAwareRouter
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_n_jobs, check_number, check_numbers
from skquee.values._costs import cost_span, warn_where_nothing_binds
from skquee.values._labels import check_weights, correctness, default_lambdas, stored
from skquee.values._shipping import TableLoop
from skquee.walk import Decider, RoutingMixin

__all__ = ["TunedCostAwareRouterCV"]


class TunedCostAwareRouterCV(RoutingMixin, BaseEstimator):
    """Choose ``lambda_`` for a budget, a price or a loss of accuracy.

    One fit a fold and one sweep of ``lambda_`` on its test rows; the operating point is
    chosen on all rows together, each judged by a router that has not seen it. The router is
    then fitted on everything.

    Parameters
    ----------
    router : CostAwareRouter, default=None
        What to tune. Default: ``CostAwareRouter()``.
    max_cost : float, default=None
        Most accurate point whose mean cost is at most this, in the unit of the tree's costs.
    price : float, default=None
        Point of greatest ``accuracy - price * mean cost``: accuracy that one unit of cost is
        worth.
    max_error_increase : float, default=None
        Cheapest point whose error is at most this much above that of the whole model (the
        fullest path).
    confidence : float, default=None
        Hold `max_cost` or `max_error_increase` by a one-sided bound at this level (normal
        approximation) instead of on average.
    lambdas : array-like, default=None
        Grid. Default: 0 and a hundred that span the curve.
    cv : int, splitter or "prefit", default=5
        Folds. "prefit" uses the fitted `router` and chooses on the rows given to fit.
    n_jobs : int, default=None
        Folds at once (joblib).

    Attributes
    ----------
    best_lambda_ : float
        The choice.
    best_accuracy_, best_cost_ : float
        Cross-validated accuracy and mean cost there.
    cv_curve_ : CostCurve
        The cross-validated sweep.
    cv_results_ : dict of ndarray
        ``lambda_``, ``mean_accuracy``, ``mean_cost``, ``std_accuracy``, ``std_cost`` (over
        folds).
    router_ : CostAwareRouter
        Fitted on all rows, with that ``lambda_``.

    Raises
    ------
    ValueError
        If not exactly one aim is given, or no point of the grid meets it (the message gives
        the reachable range).

    Warns
    -----
    UserWarning
        If `max_cost` is above every point, as one in another unit may be.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import CostAwareRouter, PathTree, TunedCostAwareRouterCV
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=300)
    >>> logits = rng.normal(size=(300, 2, 3)) + np.array([1, 4])[:, None] * np.eye(3)[y][:, None]
    >>> probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    >>> router = CostAwareRouter(paths=PathTree.chain([1, 3]), random_state=0)
    >>> tuned = TunedCostAwareRouterCV(router, max_cost=2.5, cv=2).fit(probs, y)
    >>> tuned.best_cost_ <= 2.5
    True
    """

    _parts: ClassVar = {"router": CostAwareRouter}
    _read_in_fit: ClassVar = (
        "router",
        "max_cost",
        "price",
        "max_error_increase",
        "confidence",
        "lambdas",
        "cv",
    )

    def __init__(
        self,
        router: BaseEstimator | None = None,
        *,
        max_cost: float | None = None,
        price: float | None = None,
        max_error_increase: float | None = None,
        confidence: float | None = None,
        lambdas: ArrayLike | None = None,
        cv: int | str | BaseCrossValidator = 5,
        n_jobs: int | None = None,
    ) -> None:
        self.router = router
        self.max_cost = max_cost
        self.price = price
        self.max_error_increase = max_error_increase
        self.confidence = confidence
        self.lambdas = lambdas
        self.cv = cv
        self.n_jobs = n_jobs

    # The router carries these.
    @property
    def paths(self) -> PathTree | None:  # type: ignore[override]
        """The router's ``paths``."""
        return self._router().paths

    @property
    def path_costs(self) -> ArrayLike | None:  # type: ignore[override]
        """The router's ``path_costs``."""
        return self._router().path_costs

    @property
    def classes(self) -> Sequence[object] | None:  # type: ignore[override]
        """The router's ``classes``."""
        return self._router().classes

    def _router(self) -> RoutingMixin:
        return CostAwareRouter() if self.router is None else self.router

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, *, sample_weight: ArrayLike | None = None
    ) -> TunedCostAwareRouterCV:
        """Sweep ``lambda_`` over folds, choose it, and fit on everything.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        self._check_aim()
        router = self._router()
        if self.cv == "prefit":
            check_is_fitted(router)
        table, codes = self.start_fit(X, y)
        if self.cv == "prefit":  # its owner may go on setting it
            self._of_fit.pop("router")
        # Outcomes are known by the table, and need no labels.
        labels = None if table.facts.outcomes else self.classes_[codes]
        weights = check_weights(sample_weight, len(table))
        knobs = np.atleast_1d(
            default_lambdas(table.paths)
            if self.lambdas is None
            else check_numbers(np.atleast_1d(self.lambdas), "lambdas", shape=(None,), at_least=0)
        )
        table = stored(table)
        right = correctness(table, codes)
        if self.cv == "prefit":
            folds = [np.arange(len(table))]
            swept = [_taken(router.cost_curve(knobs, table, labels))]
        else:
            check_folds(self.cv, codes, by_class=labels is not None)
            splits = list(
                check_cv(self.cv, codes, classifier=labels is not None).split(codes, codes)
            )
            folds = [test for _, test in splits]
            loop = TableLoop(table, self.n_jobs)
            swept = loop.run(
                loop.task(_sweep_fold, router, table, labels, weights, knobs, train, test)
                for train, test in splits
            )
        rows, row_costs = np.concatenate(folds), table.row_path_costs()
        paths, answers = (np.concatenate(parts, axis=1) for parts in zip(*swept, strict=True))
        kept = None if weights is None else weights[rows]
        self.cv_curve_ = CostCurve(
            knobs,
            paths,
            answers,
            self._fitted_paths,
            sample_weight=kept,
            source="rows, each judged by a router that has not seen it",
            label=type(self).__name__,
            row_costs=None if row_costs is None else row_costs[rows],
        )
        self.cv_results_ = _fold_results(self.cv_curve_, [len(fold) for fold in folds])
        best = self._choose(self.cv_curve_, right[rows][:, self._fitted_paths.fullest])
        self.best_lambda_ = float(knobs[best])
        self.best_accuracy_ = float(self.cv_curve_.accuracy[best])
        self.best_cost_ = float(self.cv_curve_.cost[best])
        self.router_ = clone(router) if self.cv != "prefit" else copy.copy(router)
        self.router_.set_params(lambda_=self.best_lambda_)
        if self.cv != "prefit":
            self.router_.fit(table, labels, **_weighted(weights))
        return self

    def _check_aim(self) -> None:
        aims = {
            "max_cost": self.max_cost,
            "price": self.price,
            "max_error_increase": self.max_error_increase,
        }
        given = {name: value for name, value in aims.items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                f"Give exactly one of max_cost, price and max_error_increase, got {sorted(given)}."
            )
        for name, value in given.items():
            check_number(value, name, at_least=0)
        if self.confidence is not None:
            check_number(self.confidence, "confidence", above=0, below=1)
        check_n_jobs(self.n_jobs)

    def _choose(self, curve: CostCurve, whole_right: NDArray[np.bool_]) -> int:
        accuracy, cost = curve.accuracy, curve.cost
        if self.price is not None:
            return int(np.argmax(accuracy - self.price * cost))
        if self.max_cost is not None:
            bound = self._upper(curve.sample_costs, curve.sample_weight)
            allowed = bound <= self.max_cost * (1 + 1e-12)
            if not allowed.any():
                raise ValueError(
                    f"No lambda_ of the grid keeps the mean cost at or below max_cost="
                    f"{self.max_cost:g}: points cost from {cost_span(bound, curve.tree.cost_unit)}."
                    " Raise max_cost or extend lambdas."
                )
            warn_where_nothing_binds(
                "max_cost", self.max_cost, bound, curve.tree.cost_unit, "point"
            )
            return int(np.flatnonzero(allowed)[np.argmax(accuracy[allowed])])
        assert self.max_error_increase is not None
        increase = whole_right.astype(np.float64) - curve.correct
        bound = self._upper(increase, curve.sample_weight)
        allowed = bound <= self.max_error_increase + 1e-12
        if not allowed.any():
            raise ValueError(
                f"No lambda_ of the grid keeps the error within {self.max_error_increase:g} of the "
                f"whole model's: the least increase is {bound.min():.4g}. "
                "Raise max_error_increase, give more rows, or lower confidence."
            )
        return int(np.flatnonzero(allowed)[np.argmin(cost[allowed])])

    def _upper(
        self, values: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the mean of every line, or its one-sided upper bound."""
        share = weights / weights.sum()
        mean = values @ share
        if self.confidence is None:
            return mean
        variance = (values - mean[:, None]) ** 2 @ share
        return mean + stats.norm.ppf(self.confidence) * np.sqrt(variance * (share**2).sum())

    def make_decider(self, tree: PathTree) -> Decider:
        decider: Decider = self.router_.make_decider(tree)
        return decider

    def read_table(self, X: ArrayLike, *, reset: bool) -> PathProbabilities:
        if reset:
            return super().read_table(X, reset=True)
        table: PathProbabilities = self.router_.read_table(X, reset=False)
        return table

    def check_knobs(self) -> None:
        if hasattr(self, "router_"):
            self.router_.check_knobs()

    def innermost(self) -> tuple[RoutingMixin, MultiPathClassifierBank | None]:
        """Return the router that decides, and the bank before it or None."""
        return innermost(self.router_)

    def score(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the router's score, ``accuracy - lambda_ * mean cost``.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Stored or lazy table.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
        """
        self.check_as_fitted()
        return self.router_.score(X, y, sample_weight=sample_weight)

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return the fitted router's curve.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure on. Default: those held out in the final fit.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self.check_as_fitted()
        return self.router_.cost_curve(lambdas, X, y, sample_weight=sample_weight)

    def predicted_along(
        self, curve: CostCurve, table: PathProbabilities | None, rows: NDArray[np.intp]
    ) -> NDArray[np.floating] | None:
        return self.router_.predicted_along(curve, table, rows)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "router_")


def _sweep_fold(
    router: RoutingMixin,
    table: PathProbabilities,
    labels: NDArray[np.generic] | None,
    weights: NDArray[np.float64] | None,
    knobs: NDArray[np.float64],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    fitted = clone(router)
    if "validation_fraction" in fitted.get_params(deep=False):
        fitted.set_params(validation_fraction=0.0)  # the fold's test rows take its place
    kept = None if weights is None else weights[train]
    known, new = (None, None) if labels is None else (labels[train], labels[test])
    fitted.fit(table[train], known, **_weighted(kept))
    return _taken(fitted.cost_curve(knobs, table[test], new))


def _taken(curve: CostCurve) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    return curve.paths, curve.correct


def _weighted(weights: NDArray[np.float64] | None) -> dict[str, object]:
    return {} if weights is None else {"sample_weight": weights}


def _fold_results(curve: CostCurve, sizes: list[int]) -> dict[str, NDArray[np.float64]]:
    cuts = np.cumsum(sizes)[:-1]
    weights = np.split(curve.sample_weight, cuts)

    def means(values: NDArray[np.generic]) -> list[NDArray[np.float64]]:
        parts = np.split(values, cuts, axis=1)
        return [p @ w / max(w.sum(), 1e-12) for p, w in zip(parts, weights, strict=True)]

    accuracy, cost = means(curve.correct), means(curve.sample_costs)
    return {
        "lambda_": curve.knobs,
        "mean_accuracy": curve.accuracy,
        "mean_cost": curve.cost,
        "std_accuracy": np.std(accuracy, axis=0),
        "std_cost": np.std(cost, axis=0),
    }
