"""Bank and router as one classifier: raw X in, labels out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skquee.bank import MultiPathClassifierBank, take_rows
from skquee.evaluation import CostCurve
from skquee.paths import PathTree
from skquee.router._limits import innermost
from skquee.router._router import CostAwareRouter
from skquee.tables import check_target, check_weights, hold_out, spawn_seeds
from skquee.walk import Decider, Routes, RoutingMixin

__all__ = ["RoutedClassifier"]


class RoutedClassifier(RoutingMixin, BaseEstimator):
    """Classify raw X with a bank of classifiers and a router over it.

    In ``fit``, classifiers of the bank that are not frozen are fitted on one part of the
    rows and the router on the rest, so that it never sees answers on rows they learned. A
    bank that is frozen leaves all rows to the router.

    Parameters
    ----------
    bank : MultiPathClassifierBank, default=None
        The classifiers. Default: the bank's own default.
    router : router or baseline, default=None
        What chooses. Default: ``CostAwareRouter(random_state=0)``.
    router_fraction : float, default=0.5
        Share of the rows kept for the router where the bank has to be fitted.
    random_state : int, RandomState or None, default=0
        Seed of that split.

    Attributes
    ----------
    bank_, router_ : estimator
        Fitted.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Of raw X, where it has that many columns.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skquee import CostAwareRouter, RoutedClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RoutedClassifier(router=CostAwareRouter(lambda_=0.1, random_state=0))
    >>> with __import__("warnings").catch_warnings(action="ignore"):
    ...     labels = model.fit(X, y).predict(X)
    >>> labels.shape
    (150,)
    """

    _parts: ClassVar = {"bank": MultiPathClassifierBank, "router": CostAwareRouter}

    def __init__(
        self,
        bank: Any = None,
        router: Any = None,
        *,
        router_fraction: float = 0.5,
        random_state: Any = 0,
    ) -> None:
        self.bank = bank
        self.router = router
        self.router_fraction = router_fraction
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        bank = get_tags(self._bank())
        tags.input_tags = bank.input_tags
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "router_")

    def _bank(self) -> Any:
        return MultiPathClassifierBank() if self.bank is None else self.bank

    def fit(
        self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> RoutedClassifier:
        """Fit the bank where needed, then the router.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        if y is None:
            raise ValueError(
                "This RoutedClassifier estimator requires y to be passed, but the target y is None."
            )
        labels = check_target(y)
        if not 0 < self.router_fraction < 1:
            raise ValueError(
                f"router_fraction must lie between 0 and 1, got {self.router_fraction}."
            )
        bank = clone(self._bank())
        weights = check_weights(sample_weight, len(labels))
        if bank.is_frozen:
            bank.fit(X, labels)
            rest = np.arange(len(labels))
        else:
            if bank.classes is None:
                bank.set_params(classes=np.unique(labels).tolist())
            X = bank.check_input(X, labels)
            codes = np.unique(labels, return_inverse=True)[1]
            seed = int(spawn_seeds(self.random_state, 1)[0])
            ours, rest = hold_out(codes, self.router_fraction, seed, weights)
            if len(ours) == 0 or len(rest) == 0:
                raise ValueError(
                    f"Too few rows to fit both bank and router: n_samples = {len(labels)}."
                )
            extra = {} if weights is None else {"sample_weight": weights[ours]}
            bank.fit(take_rows(X, ours), labels[ours], **extra)
        router = CostAwareRouter(random_state=0) if self.router is None else clone(self.router)
        extra = {} if weights is None else {"sample_weight": weights[rest]}
        router.fit(bank.transform(take_rows(X, rest)), labels[rest], **extra)
        self.bank_, self.router_ = bank, router
        self.classes_ = bank.classes_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(bank, name):
                setattr(self, name, getattr(bank, name))
        return self

    @property
    def paths_(self) -> PathTree:
        """The router's tree."""
        self._check_fitted()
        return self.router_.paths_

    def _check_fitted(self) -> None:
        # Tags, which scikit-learn's check reads, ask every classifier: only where it will fail.
        if not hasattr(self, "router_"):
            check_is_fitted(self)

    def route(self, X: Any) -> Routes:
        """Route raw samples, running only what each one's path needs.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank.

        Returns
        -------
        Routes
        """
        self._check_fitted()
        return self.router_.route(self.bank_.transform(X))

    def decider(self, knob: Any = None) -> Decider:
        """Return what decides at a gate; see :meth:`skquee.CostAwareRouter.decider`."""
        self._check_fitted()
        decider: Decider = self.router_.decider(knob)
        return decider

    def _reader(self) -> Any:
        return self.bank_.transform

    def innermost(self) -> tuple[Any, Any]:
        """Return the router that decides, and the bank before it or None."""
        return innermost(self.router_)[0], self.bank_

    def score(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the router's score, ``accuracy - lambda_ * mean cost``.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
        """
        self._check_fitted()
        return self.router_.score(self.bank_.transform(X), y, sample_weight=sample_weight)

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return the router's curve, on raw rows or on those it held out in fit.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs.
        X : array-like, data frame or sequence, default=None
            Rows to measure on.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self._check_fitted()
        table = None if X is None else self.bank_.transform(X)
        return self.router_.cost_curve(lambdas, table, y, sample_weight=sample_weight)
