"""Holding a budget: on average, for every sample, or with a probability."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skquee.routers._limits import (
    CappedPolicy,
    Sweep,
    check_aims,
    check_walks,
    held_out_sweep,
    innermost,
    table_sweep,
    takes_knobs,
)
from skquee.routers._mixing import OperatingPoints, bracket, points_within_bound
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_seed
from skquee.values._costs import cost_span, warn_where_nothing_binds
from skquee.values._labels import check_weights, spawn_seeds, stored
from skquee.values._types import Seed
from skquee.walk import Clipped, Decider, Mixed, RoutingMixin
from skquee.walk._decider import allowed_paths
from skquee.walk._fitted import remember
from skquee.walk._knob import Knob

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BudgetRouter"]


class BudgetRouter(RoutingMixin, BaseEstimator):
    r"""Hold a mean cost, a cap for every sample, or a bound on costly samples.

    Over a fitted router. ``fit`` needs no labels: it measures the cost of every value of the
    router's knob (``lambda_``) on the rows given. For a mean cost two operating points on
    either side of it are mixed: a row takes the dearer one with probability

    .. math:: \gamma = (B - C_{low}) / (C_{high} - C_{low}),

    so that the expected cost is the budget exactly [1]_. Which rows do is a systematic sample:
    row ``i`` takes the dearer point where ``floor((i + 1) * share + u) > floor(i * share + u)``,
    with one ``u`` uniform in [0, 1). Each row is drawn with probability ``share``, and of any
    ``n`` rows in succession ``n * share`` are drawn, give or take one. Rows must not come in an
    order that repeats with the period of the draw; shuffle them if they may.

    Parameters
    ----------
    router : router or baseline
        Fitted; a :class:`skquee.RoutedClassifier` or a tuned router stands for the router in it.
        It is left as it is. In ``FrozenEstimator(router)`` it stays fitted when this is cloned.
    budget : float, default=None
        Mean cost, in the unit of the tree's (``paths_.cost_unit``). Read at prediction. None keeps
        the router's own knob, or with `exceed_cost` the dearest point allowed.
    max_cost_per_sample : float, default=None
        Paths dearer than this are never taken, nor a block run beyond it. A router with a
        ``policy`` aims at the best path that is left; any other leaves where its next step would
        be too dear.
    exceed_cost, exceed_probability : float, default=None
        Hold ``Pr(cost > exceed_cost) <= exceed_probability``; see Notes.
    lambdas : array-like of shape (n_points,), default=None
        Values of the knob to measure. Default: the router's own grid. Without `exceed_cost`
        values between them are added where costs are far apart and next to the budget.
    random_state : int, RandomState or None, default=None
        Seed of the draw. With a seed, every call draws the same row numbers; None draws anew in
        every call, which is right for many small batches.

    Attributes
    ----------
    low_, high_ : float
        Values of the knob that are mixed, for the budget that holds now.
    share_ : float
        Share of the rows that take ``high_``.
    expected_cost_ : float
        Mean cost to expect.
    reachable_ : (float, float)
        Least and greatest mean cost on the rows given to fit.
    router_ : router
        The router itself.

    Raises
    ------
    ValueError
        If a budget or cap is out of reach (the message gives the range), no point of the grid
        meets the bound, or there are too few rows for it.
    TypeError
        If the router does not decide gate by gate.

    Notes
    -----
    The bound is held by conformal risk control [2]_. The grid is walked from cheap to dear, and
    a row that costs more than `exceed_cost` anywhere on the way counts as too dear from there on.
    That makes each row's loss monotone, so the dearest point with
    ``(too_dear + 1) / (n + 1) <= exceed_probability`` has
    ``Pr(cost > exceed_cost) <= exceed_probability`` for a new row, over the draw of the
    ``n`` rows given to fit and of the new one, which must be exchangeable; it needs no union bound
    over the grid. (Cheap to dear is the order of falling ``lambda_``; for another knob, the
    direction in which the mean cost rises.) It is the split-conformal rule "the
    ``ceil((n + 1)(1 - a))``-th smallest cost is at most `exceed_cost`" of C3PO [3]_, made safe for
    a choice on the same rows. It is not a bound given those rows. A budget is then mixed from
    points that meet the bound.

    References
    ----------
    .. [1] J. Dekoninck, M. Baader, M. Vechev, "A Unified Approach to Routing and Cascading for
       LLMs", 2024, theorem 1.
    .. [2] A. Angelopoulos et al., "Conformal Risk Control", 2022, equation 4.
    .. [3] "C3PO: Optimized Large Language Model Cascades with Probabilistic Cost Constraints for
       Reasoning", 2025.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee import BudgetRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(2000)
    >>> router = ThresholdRouter().fit(table, y)
    >>> held = BudgetRouter(router, 0.6, random_state=0).fit(table)
    >>> bool(abs(held.predict_cost(table).mean() - 0.6) < 0.005)
    True
    >>> capped = BudgetRouter(router, max_cost_per_sample=0.7).fit(table)
    >>> bool(capped.predict_cost(table).max() <= 0.7)
    True
    """

    knob = Knob("budget", order="rises")
    _read_in_fit: ClassVar = ("max_cost_per_sample", "exceed_cost", "exceed_probability", "lambdas")
    takes_fitted = True

    def __init__(
        self,
        router: BaseEstimator,
        budget: float | None = None,
        *,
        max_cost_per_sample: float | None = None,
        exceed_cost: float | None = None,
        exceed_probability: float | None = None,
        lambdas: ArrayLike | None = None,
        random_state: Seed = None,
    ) -> None:
        self.router = router
        self.budget = budget
        self.max_cost_per_sample = max_cost_per_sample
        self.exceed_cost = exceed_cost
        self.exceed_probability = exceed_probability
        self.lambdas = lambdas
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        tags.target_tags.required = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_points")

    # The router carries these.
    @property
    def paths(self) -> PathTree | None:  # type: ignore[override]
        """The router's ``paths``."""
        return innermost(self.router)[0].paths

    @property
    def path_costs(self) -> ArrayLike | None:  # type: ignore[override]
        """The router's ``path_costs``."""
        return innermost(self.router)[0].path_costs

    @property
    def classes(self) -> Sequence[object] | None:  # type: ignore[override]
        """The router's ``classes``."""
        return innermost(self.router)[0].classes

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> BudgetRouter:
        """Measure the cost of every operating point.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows that did not train the router; a lazy table is run once, whole. On other rows
            the mean cost is off by chance, about ``std(cost) / sqrt(n_samples)``; as labels are
            not needed, X may be the very rows to route, which are then held far closer. Default:
            the rows that the router held out in its own fit.
        y : array-like of shape (n_samples,), default=None
            Labels. With them the two points that bracket the budget with greatest accuracy are
            mixed (the curve's concave hull), else two neighbours.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights in the mean cost; the bound on costly samples counts rows.

        Returns
        -------
        self
        """
        self._check_aims()
        check_seed(self.random_state)
        self._of_fit = remember(self, self._read_in_fit)
        check_is_fitted(self.router)
        router, self._bank = innermost(self.router)
        check_walks(router)
        self.router_ = router
        self.take_fitted(router)
        self._seed = int(spawn_seeds(self.random_state, 1)[0])
        self._start = float(np.random.default_rng(self._seed).random())
        self.__dict__.pop("_costs", None)
        sweep, weights, tree, row_costs = self._measured(X, y, sample_weight)
        self._check_cap(tree)
        for name in ("max_cost_per_sample", "exceed_cost"):
            warn_where_nothing_binds(name, getattr(self, name), tree.costs, tree.cost_unit)
        self._costs, self._unit = tree.costs, tree.cost_unit
        share = weights / weights.sum()

        knobs = np.unique(router.knob_values(self.lambdas, tree))
        paths, right = sweep(knobs)

        def spent(taken: NDArray[np.intp]) -> NDArray[np.float64]:
            if row_costs is None:
                return tree.path_costs[taken]
            return row_costs[np.arange(taken.shape[1]), taken]

        if self.exceed_cost is None:
            self._points = OperatingPoints.of(knobs, spent, share, paths, right).refined(
                lambda values: OperatingPoints.of(values, spent, share, *sweep(values)),
                lambda values: takes_knobs(values, self._at),
                self.budget,
            )
        else:
            assert self.exceed_probability is not None
            costs = spent(paths)
            falls = router.knob.order == "falls" or costs[0].mean() > costs[-1].mean()
            order = np.arange(len(knobs))[:: -1 if falls else 1]
            n_held = points_within_bound(costs[order], self.exceed_cost, self.exceed_probability)
            kept = np.sort(order[:n_held])
            right = None if right is None else right[kept]
            self._points = OperatingPoints.of(knobs[kept], spent, share, paths[kept], right)
        self._own_cost = np.nan
        if self.budget is None and self.exceed_cost is None:
            own = getattr(router, router.knob.name)
            if isinstance(own, (int, float)):
                self._own_cost = float(spent(sweep(np.array([own]))[0])[0] @ share)
        self.check_knobs()
        return self

    def _check_aims(self) -> None:
        check_aims(
            self.exceed_probability,
            budget=self.budget,
            max_cost_per_sample=self.max_cost_per_sample,
            exceed_cost=self.exceed_cost,
        )

    def _measured(
        self, X: ArrayLike | None, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[Sweep, NDArray[np.float64], PathTree, NDArray[np.float64] | None]:
        """Return what measures a knob, weights of its rows, the tree, and costs of each row."""
        router, cap = self._at(None), self.max_cost_per_sample
        if X is None:
            if y is not None or sample_weight is not None:
                raise ValueError("y and sample_weight belong to rows X, but X is None. Give X.")
            return held_out_sweep(router, cap)
        table = stored(self.read_table(X, reset=False))
        known = y is not None or (table.facts.outcomes and table.losses is not None)
        codes = router.class_codes(table, y) if known else None
        weights = check_weights(sample_weight, len(table))
        weights = np.ones(len(table)) if weights is None else weights
        sweep = table_sweep(router, cap, table, codes)
        return sweep, weights, table.paths, table.row_path_costs()

    # ------------------------------------------------------------------ what holds now

    @property
    def reachable_(self) -> tuple[float, float]:
        """Least and greatest mean cost on the rows given to fit."""
        check_is_fitted(self)
        costs = self._points.costs
        return float(costs.min()), float(costs.max())

    @property
    def low_(self) -> float:
        """Knob of the cheaper point."""
        return self._mixture()[0]

    @property
    def high_(self) -> float:
        """Knob of the dearer point."""
        return self._mixture()[1]

    @property
    def share_(self) -> float:
        """Share of the rows that take the dearer point."""
        return self._mixture()[2]

    @property
    def expected_cost_(self) -> float:
        """Mean cost to expect."""
        return self._mixture()[3]

    def _mixture(self) -> tuple[float, float, float, float]:
        check_is_fitted(self)
        points = self._points
        knobs, costs = points.knobs, points.costs
        if self.budget is None:
            if self.exceed_cost is None:
                own = getattr(self.router_, self.router_.knob.name)
                return own, own, 0.0, self._own_cost
            dearest = int(np.argmax(costs))
            return float(knobs[dearest]), float(knobs[dearest]), 0.0, float(costs[dearest])
        least, most = self.reachable_
        slack = 1e-9 * most
        if not least - slack <= self.budget <= most + slack:
            raise ValueError(
                f"budget={self.budget!r} is out of reach: on the rows given to fit, mean costs "
                f"run from {cost_span([least, most], self._unit)}. Choose a budget in that range, "
                "or extend lambdas."
            )
        low, high, share = bracket(costs, self.budget, points.accuracy)
        expected = float((1 - share) * costs[low] + share * costs[high])
        return float(knobs[low]), float(knobs[high]), share, expected

    def check_knobs(self) -> None:
        self._check_aims()
        self._mixture()

    def _check_cap(self, tree: PathTree) -> None:
        cap = self.max_cost_per_sample
        if cap is not None and not allowed_paths(tree, cap).any():
            raise ValueError(
                f"max_cost_per_sample={cap!r} is below every path: they cost from "
                f"{cost_span(tree.costs, tree.cost_unit)}."
            )

    # ------------------------------------------------------------------ predict

    def read_table(self, X: ArrayLike, *, reset: bool) -> PathProbabilities:
        if self._bank is not None and not isinstance(X, PathProbabilities):
            X = self._bank.transform(X)
        table = super().read_table(X, reset=reset)
        held = self.budget is not None or self.exceed_cost is not None
        if held and hasattr(self, "_costs") and table.paths.costs != self._costs:
            raise ValueError(
                "The costs of the paths have changed since the budget was measured: call fit, or "
                "at_budget, again."
            )
        self._check_cap(table.paths)
        return table

    def _at(self, knob: float | None) -> RoutingMixin:
        """Return the router at a value of its knob (None: its own), kept within the cap."""
        router = copy.copy(self.router_)
        params: dict[str, object] = {}
        if knob is not None:
            params[router.knob.name] = knob
        if self.max_cost_per_sample is not None and hasattr(router, "policy_in_use"):
            params["policy"] = CappedPolicy(router.policy_in_use(), self.max_cost_per_sample)
        return router.set_params(**params)

    def make_decider(self, tree: PathTree) -> Decider:
        low, high, share, _ = self._mixture()
        points = [self._at(knob) for knob in (low, high)]
        for router in points:
            router.check_knobs()
        cheap, dear = (router.make_decider(tree) for router in points)
        start = None if self.random_state is None else self._start
        mixed: Decider = Mixed(tree, self.classes_, cheap, dear, share, start)
        if self.max_cost_per_sample is None:
            return mixed
        owner = type(self.router_).__name__
        return Clipped(tree, self.classes_, mixed, self.max_cost_per_sample, owner)

    def summary(self, X: ArrayLike, y: ArrayLike) -> pd.DataFrame:
        """Compare every model alone with the point in use and others along the budget.

        Parameters
        ----------
        X : array-like, data frame or sequence
            Rows to measure on, as the bank takes them.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        DataFrame
            As of :meth:`skquee.RoutedClassifier.summary`.

        Raises
        ------
        TypeError
            If what is held to the budget is no :class:`skquee.RoutedClassifier`.
        """
        self.check_as_fitted()
        given = self.router.estimator if isinstance(self.router, FrozenEstimator) else self.router
        if not hasattr(given, "summary_of"):
            raise TypeError(
                f"summary compares the models of a RoutedClassifier, and this holds a "
                f"{type(given).__name__}: use cost_curve(None, X, y)."
            )
        told: pd.DataFrame = given.summary_of(self, X, y)
        return told

    def table_reader(self) -> Callable[[ArrayLike], PathProbabilities] | None:
        return None if self._bank is None else self._bank.transform

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.linspace(*self.reachable_, 21)
