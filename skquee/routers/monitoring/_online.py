"""A budget held on a stream whose samples shift."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skquee.values._checks import check_number
from skquee.values._costs import cost_span
from skquee.walk import Routes, RoutingMixin

__all__ = ["OnlineLambdaRouter"]


class OnlineLambdaRouter(BaseEstimator):
    r"""Hold a mean cost on a stream, whatever its samples, by moving ``lambda_``.

    After every batch

    .. math:: \lambda \leftarrow \lambda \exp(\eta (\bar c - B) / B),

    with the batch's mean cost :math:`\bar c` and the budget :math:`B`: the multiplicative form of
    :math:`\lambda \leftarrow [\lambda + \eta_t (\bar c - B)]_+` with
    :math:`\eta_t = \eta \lambda / B`, which needs no scale. Summing it over ``T`` batches,

    .. math:: \frac{1}{T} \sum_t \bar c_t = B \, (1 + \log(\lambda_T / \lambda_0) / (\eta T)),

    so the realised mean goes to the budget as ``1 / T`` for any stream, shifting or not, as
    long as ``lambda_`` stays within its bounds. It uses no labels.

    Parameters
    ----------
    router : CostAwareRouter
        Fitted, with the knob ``lambda_``. It is left as it is.
    budget : float
        Mean cost, in the unit of the router's tree (``paths_.cost_unit``).
    step_size : float, default=1.0
        Of the update. Larger follows a shift in fewer batches, but moves more with the noise of
        small ones.
    start : float, default=None
        First ``lambda_``. Default: the router's own.

    Attributes
    ----------
    lambda_ : float
        For the next batch.
    lambda_history_, cost_history_ : ndarray of shape (n_batches,)
        What each batch was routed with, and its mean cost.

    Raises
    ------
    ValueError
        If the budget is not between the cheapest and the dearest path, or a parameter is out of
        range.
    TypeError
        If the router has no ``lambda_`` that it reads at prediction.

    References
    ----------
    .. [1] I. Gibbs, E. Candes, "Adaptive Conformal Inference Under Distribution Shift", 2021, for
       the additive form, held on errors.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import CostAwareRouter, PathErrorRegressor
    >>> from skquee.monitoring import OnlineLambdaRouter
    >>> from skquee.testing import make_path_probabilities
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> gates = PathErrorRegressor(DecisionTreeRegressor(min_samples_leaf=20))
    >>> table, y = make_path_probabilities(4000)
    >>> router = CostAwareRouter(0.5, regressor=gates, random_state=0).fit(table[:800], y[:800])
    >>> online = OnlineLambdaRouter(router, budget=0.6)
    >>> batches = (table[start : start + 100] for start in range(800, 4000, 100))
    >>> costs = np.concatenate([routes.costs for routes in online.stream(batches)])
    >>> bool(abs(costs[500:].mean() / 0.6 - 1) < 0.02)
    True
    """

    def __init__(
        self,
        router: RoutingMixin,
        budget: float,
        *,
        step_size: float = 1.0,
        start: float | None = None,
    ) -> None:
        self.router = router
        self.budget = budget
        self.step_size = step_size
        self.start = start

    def fit(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> OnlineLambdaRouter:
        """Check the parameters and start over; ``route`` does so on its first call.

        Parameters
        ----------
        X, y : ignored
            For the convention.

        Returns
        -------
        self
        """
        check_is_fitted(self.router)
        if "lambda_" not in self.router.get_params(deep=False):
            raise TypeError(
                f"{type(self.router).__name__} has no parameter lambda_ to move. Give a "
                "CostAwareRouter."
            )
        for name, value in (("budget", self.budget), ("step_size", self.step_size)):
            check_number(value, name, above=0)
        tree = self.router.paths_
        costs = tree.path_costs
        if not costs.min() <= self.budget <= costs.max():
            raise ValueError(
                f"budget={self.budget!r} is out of reach: paths cost from "
                f"{cost_span(costs, tree.cost_unit)}."
            )
        first = self.router.lambda_ if self.start is None else self.start
        check_number(first, "start", at_least=0)
        # Past these bounds nothing changes; without them a budget out of reach would wind up.
        self._bounds = 1e-5 / costs.max(), 1e5 / costs.max()
        self.lambda_ = float(np.clip(first, *self._bounds))
        try:
            self._at(self.lambda_ * math.e).check_knobs()
        except ValueError as error:
            raise TypeError(
                f"{type(self.router).__name__} knows only the lambda_ that it was trained for. "
                "Give a CostAwareRouter, which takes any."
            ) from error
        self._lambdas: list[float] = []
        self._costs: list[float] = []
        return self

    def route(self, X: ArrayLike) -> Routes:
        """Route a batch with the present ``lambda_``, then move it.

        Parameters
        ----------
        X : table
            As the router takes it.

        Returns
        -------
        Routes
        """
        if not hasattr(self, "_lambdas"):
            self.fit()
        routes: Routes = self._at(self.lambda_).route(X)
        cost = float(routes.costs.mean())
        self._lambdas.append(self.lambda_)
        self._costs.append(cost)
        moved = self.lambda_ * np.exp(self.step_size * (cost - self.budget) / self.budget)
        self.lambda_ = float(np.clip(moved, *self._bounds))
        return routes

    def _at(self, knob: float) -> RoutingMixin:
        return copy.copy(self.router).set_params(lambda_=float(knob))

    def stream(self, batches: Iterable[ArrayLike]) -> Iterator[Routes]:
        """Route batches one after the other.

        Parameters
        ----------
        batches : iterable of tables
            Best of similar size: each moves ``lambda_`` by its mean.

        Yields
        ------
        Routes
            One a batch.
        """
        for batch in batches:
            yield self.route(batch)

    @property
    def lambda_history_(self) -> NDArray[np.float64]:
        """Value each batch was routed with."""
        return np.array(getattr(self, "_lambdas", []), dtype=np.float64)

    @property
    def cost_history_(self) -> NDArray[np.float64]:
        """Mean cost of each batch."""
        return np.array(getattr(self, "_costs", []), dtype=np.float64)
