"""Bank and router as one classifier: raw X in, labels out."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags, get_tags

from skquee.bank import CallTimes, MultiPathClassifierBank, take_rows
from skquee.bank._times import median_ms
from skquee.routers._at_budget import BudgetMixin
from skquee.routers._default import choose_point, default_router, fit_judged
from skquee.routers._limits import innermost
from skquee.routers._report import RoutedReportMixin
from skquee.routers._summary import models_of
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer, check_number
from skquee.values._labels import (
    check_labels,
    check_target,
    check_weights,
    correctness,
    hold_out,
    spawn_seeds,
)
from skquee.values._rows import n_rows_of
from skquee.values._types import Seed
from skquee.walk import Decider, Routes, RoutingMixin, Snapshot, StreamError
from skquee.walk._fitted import remember

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RoutedClassifier"]

# Rows at most that deciding is timed on, and calls of each number of rows.
TIMED_ROWS, TIMED_CALLS = 2000, 5
# Paths of a tree that counts as small.
SMALL_TREE = 8


class RoutedClassifier(BudgetMixin, RoutedReportMixin, BaseEstimator):
    """Classify raw X with a bank of classifiers and a router over it.

    In ``fit``, classifiers of the bank that are not frozen are fitted on one part of the
    rows and the router on the rest, so that it never sees answers on rows they learned. A
    bank that is frozen leaves all rows to the router. Where the price ``lambda_`` is left open
    it is chosen: the least cost whose accuracy is close to that of the best model, on rows each
    judged by a router that has not seen it. :meth:`summary` tells whether routing pays at all.

    Parameters
    ----------
    bank : MultiPathClassifierBank, default=None
        The classifiers. Default: the bank's own default.
    router : router or baseline, default=None
        What chooses. Default: :func:`skquee.router.default_router`, whose ``lambda_`` is chosen.
        A router with a number as ``lambda_`` keeps it. One that takes a fitted router
        (:class:`skquee.BudgetRouter`, :class:`skquee.RiskControlledRouter`) has it fitted here,
        with three tenths of the router's rows kept apart to measure on. The knob, costs and
        policy may be set after ``fit`` (``clf.set_params(router__lambda_=0.2)``).
    router_fraction : float, default=0.5
        Share of the rows kept for the router where the bank has to be fitted.
    max_error_increase : float, default=0.005
        How far the accuracy of the chosen point may be below that of the best single model.
    cv : int, default=3
        Folds that judge the router where ``lambda_`` is to be chosen.
    random_state : int, RandomState or None, default=0
        Seed of the split and the folds.

    Attributes
    ----------
    bank_, router_ : estimator
        Fitted.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    best_lambda_ : float or None
        The choice; None where ``lambda_`` was given.
    cv_curve_ : CostCurve
        Operating points on the rows that judge the router.
    verdict_, reason_ : str
        "route", or which model to use alone; and why.
    n_features_in_ : int
        Of raw X, where it has that many columns.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skquee import RoutedClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RoutedClassifier().fit(X, y)
    >>> model.predict(X).shape
    (150,)
    >>> model.set_params(router__lambda_=100.0).route(X).counts
    {'stump': 150}
    """

    _parts: ClassVar = {"bank": MultiPathClassifierBank, "router": default_router}
    _read_in_fit: ClassVar = (
        "bank",
        "router",
        "router_fraction",
        "max_error_increase",
        "cv",
        "random_state",
    )

    def __init__(
        self,
        bank: MultiPathClassifierBank | None = None,
        router: BaseEstimator | None = None,
        *,
        router_fraction: float = 0.5,
        max_error_increase: float = 0.005,
        cv: int = 3,
        random_state: Seed = 0,
    ) -> None:
        self.bank = bank
        self.router = router
        self.router_fraction = router_fraction
        self.max_error_increase = max_error_increase
        self.cv = cv
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        bank = get_tags(self._bank())
        tags.input_tags = bank.input_tags
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "router_")

    def _bank(self) -> MultiPathClassifierBank:
        return MultiPathClassifierBank() if self.bank is None else self.bank

    # ------------------------------------------------------------------ fit

    def fit(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
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
        check_number(self.router_fraction, "router_fraction")
        if not 0 < self.router_fraction < 1:
            raise ValueError(
                f"router_fraction must lie between 0 and 1, got {self.router_fraction}."
            )
        check_number(self.max_error_increase, "max_error_increase", at_least=0, below=1)
        check_integer(self.cv, "cv", at_least=2)
        self._check_parts()
        bank = clone(self._bank())
        weights = check_weights(sample_weight, len(labels))
        split_seed, fold_seed = (int(seed) for seed in spawn_seeds(self.random_state, 2))
        if bank.is_frozen:
            bank.fit(X, labels)
            rest, rows = np.arange(len(labels)), X
        else:
            if bank.classes is None:
                bank.set_params(classes=np.unique(labels).tolist())
            X = bank.check_input(X, labels)
            codes = np.unique(labels, return_inverse=True)[1]
            ours, rest = hold_out(codes, self.router_fraction, split_seed, weights)
            if len(ours) == 0 or len(rest) == 0:
                raise ValueError(
                    f"Too few rows to fit both bank and router: n_samples = {len(labels)}."
                )
            for part, mine in (("bank", ours), ("router", rest)):
                if len(np.unique(codes[mine])) < 2:
                    raise ValueError(
                        f"Too few rows to fit both bank and router: the {len(mine)} of "
                        f"{len(labels)} that the {part} gets are all of class "
                        f"{labels[mine].tolist()[0]!r}. Give more rows, or another random_state or "
                        "router_fraction."
                    )
            extra = {} if weights is None else {"sample_weight": weights[ours]}
            bank.fit(take_rows(X, ours), labels[ours], **extra)
            rows = take_rows(X, rest)
        table, milliseconds = bank.transform(rows).timed()
        kept = None if weights is None else weights[rest]
        self.bank_, self.classes_ = bank, bank.classes_
        self._of_fit = remember(self, self._read_in_fit)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(bank, name):
                setattr(self, name, getattr(bank, name))
        self._fit_router(table, labels[rest], kept, milliseconds, fold_seed)
        return self

    def _check_parts(self) -> None:
        """Raise where bank or router is something else."""
        bank, router = self._bank(), self.router
        if isinstance(bank, type) or not hasattr(bank, "is_frozen"):
            raise TypeError(
                f"bank must be a MultiPathClassifierBank, got {_kind(bank)}: put models into one, "
                "MultiPathClassifierBank([(name, model), ...], step_costs=[...])."
            )
        if router is not None and (isinstance(router, type) or not hasattr(router, "route")):
            raise TypeError(
                "router must be a router or baseline such as CostAwareRouter(), or None for the "
                f"default, got {_kind(router)}."
            )
        if getattr(router, "needs_labels", False):
            raise TypeError(
                f"{type(router).__name__} chooses by the labels of the rows it routes, which no "
                "call knows: draw it beside a curve, "
                f"{type(router).__name__}().fit(table, y).cost_curve(X=table, y=y)."
            )

    def _fit_router(
        self,
        table: PathProbabilities,
        labels: NDArray[np.generic],
        weights: NDArray[np.float64] | None,
        milliseconds: dict[str, float],
        seed: int,
    ) -> None:
        """Fit the router, choose its price where that is open, and keep what judges it."""
        router = default_router() if self.router is None else self.router
        judged = fit_judged(router, table, labels, weights, cv=self.cv, seed=seed)
        rows = judged.rows
        self._names = tuple(milliseconds) or None
        self._weights = None if weights is None else weights[rows]
        models = models_of(table.paths, self._names)
        codes = check_labels(labels[rows], self.classes_, len(rows))
        self._judged_codes = codes.astype(np.int32)
        self._alone = correctness(table[rows], codes, check=False)[:, models.paths]
        self._curve, self.router_, self.best_lambda_ = judged.curve, judged.router, None
        if judged.is_open:
            best = float(np.average(self._alone, axis=0, weights=self._weights).max())
            curve = self.cv_curve_
            place, _ = choose_point(curve, best, self.max_error_increase)
            self.best_lambda_ = float(curve.knobs[place])
            self.router_.set_params(lambda_=self.best_lambda_)
        self._clock: tuple[NDArray[np.float64], float, int] | None = None
        if milliseconds:
            some = table[: min(len(table), TIMED_ROWS)]
            began = time.perf_counter()
            self.router_.route(some)
            deciding = 1000 * (time.perf_counter() - began) / len(some)
            taken = np.array([milliseconds[name] for name in models.names])
            self._clock = taken, deciding, len(table)

    @property
    def paths_(self) -> PathTree:
        """The router's tree."""
        self.check_fitted()
        return self.router_.paths_

    def route(self, X: ArrayLike) -> Routes:
        """Route raw samples, running only what each one's path needs.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank.

        Returns
        -------
        Routes
            With the row labels of a data frame.
        """
        self.check_as_fitted()
        return self.router_.route(self.table_reader()(X)).of_rows(X)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Predict labels.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        self.check_as_fitted()
        table = self.table_reader()(X)
        # One row on plain numbers: arrays cost more than what is in them. On a large tree it would
        # cost more to lay out all gates than to ask the few on the way.
        if len(table) == 1 and table.paths.n_paths <= SMALL_TREE:
            return Snapshot(self.router_.decider(), _as_it_is).predict(table)
        return self.router_.route(table).labels

    def knob_in_use(self) -> float | None:
        self.check_fitted()
        return self.router_.knob_in_use()

    def stream(  # type: ignore[override]
        self, batches: Iterable[object], *, group_size: int = 64, max_waiting: int = 1024
    ) -> Iterator[Routes | StreamError]:
        """Route batches of raw rows one after the other; see :func:`skquee.walk.stream`.

        Parameters
        ----------
        batches : iterable
            Of rows as :meth:`predict` takes them, or of (rows, labels).
        group_size : int, default=64
            Rows run together in deeper blocks, of several batches.
        max_waiting : int, default=1024
            Rows that may wait: bounds memory.

        Yields
        ------
        Routes or StreamError
            One a batch, in order.

        Raises
        ------
        TypeError
            If the bank is no network's: there is nothing to pool.
        """
        self.check_as_fitted()
        return self.router_.stream(
            self.bank_, batches, group_size=group_size, max_waiting=max_waiting
        )

    def decider(self, knob: float | None = None) -> Decider:
        """Return what decides at a gate; see :meth:`skquee.CostAwareRouter.decider`."""
        self.check_as_fitted()
        return self.router_.decider(knob)

    def explain_route(self, X: ArrayLike) -> pd.DataFrame:
        """Tell what every gate on a sample's way saw, predicted and chose.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank; few rows.

        Returns
        -------
        DataFrame
            As of :meth:`skquee.CostAwareRouter.explain_route`.
        """
        self.check_as_fitted()
        router = innermost(self.router_)[0]
        router = router if hasattr(router, "explain_route") else self.router_
        if not hasattr(router, "explain_route"):
            raise TypeError(f"{type(router).__name__} has no gates to explain.")
        told: pd.DataFrame = router.explain_route(self.table_reader()(X))
        return told

    def innermost(self) -> tuple[RoutingMixin, MultiPathClassifierBank | None]:
        """Return the router that decides, and the bank before it or None."""
        if hasattr(self, "router_"):
            self.check_as_fitted()
            return innermost(self.router_)[0], self.bank_
        router = default_router() if self.router is None else self.router
        return innermost(router)[0], None

    def score(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return accuracy; with a ``lambda_`` that was given, less ``lambda_ * mean cost``.

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
        given = getattr(self.router, "lambda_", None)
        if y is not None and given in (None, getattr(self, "best_lambda_", None)):
            return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))
        self.check_as_fitted()
        return float(self.router_.score(self.table_reader()(X), y, sample_weight=sample_weight))

    def measure(self, X: ArrayLike, *, groups: Sequence[int] | None = None) -> CallTimes:
        """Measure what routed calls take at this operating point, by the number of rows.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the bank, some thousand rows where there are.
        groups : sequence of int, default=None
            Numbers of rows to time. Default: 1, 2, 8, 64, 512 and 3,000, as far as X goes.

        Returns
        -------
        CallTimes
            ``times.total(routes.counts, len(routes))`` are the milliseconds that a call of
            ``predict`` takes. Nothing of this classifier changes.

        Raises
        ------
        TypeError
            If the bank is a network's (see ``network.measure_costs``) or holds callables, which
            may cost money: these are never called only to be timed.
        """
        self.check_as_fitted()
        # The copy's costs are not asked for: none that would be extrapolated from these times.
        bank = copy.copy(self.bank_).set_params(latency_rows=1)
        times = bank.measure(X, groups=groups)
        deciding = np.array([self._deciding(X, int(n), times) for n in times.rows])
        return replace(times, deciding=deciding)

    def _deciding(self, X: ArrayLike, n_rows: int, times: CallTimes) -> float:
        """Return the milliseconds that calls with so many rows take besides their classifiers."""
        begins = range(0, n_rows_of(X) - n_rows + 1, n_rows)[:TIMED_CALLS]
        found = []
        for begin in begins:
            some = take_rows(X, np.arange(begin, begin + n_rows))
            alone = times.total(self.route(some).counts)
            found.append(median_ms(partial(self.predict, some)) - alone)
        return max(float(np.median(found)), 0.0)


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _as_it_is(X: ArrayLike) -> PathProbabilities:
    """Return a table that has been made of rows already."""
    assert isinstance(X, PathProbabilities)
    return X
