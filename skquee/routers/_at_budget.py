"""``at_budget``: a fitted router held to a budget in one call."""

from __future__ import annotations

from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator

from skquee.routers._budget import BudgetRouter
from skquee.values._types import Seed

__all__ = ["BudgetMixin"]


class BudgetMixin:
    """Gives a router ``at_budget``.

    Examples
    --------
    >>> from skquee.router import BudgetMixin, default_router
    >>> isinstance(default_router(), BudgetMixin)
    True
    """

    def at_budget(
        self,
        budget: float | None = None,
        X: ArrayLike | None = None,
        *,
        max_cost_per_sample: float | None = None,
        exceed_cost: float | None = None,
        exceed_probability: float | None = None,
        random_state: Seed = None,
    ) -> BudgetRouter:
        """Return this fitted router held to a budget.

        Parameters
        ----------
        budget : float, default=None
            Mean cost.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure costs on, without labels. Default: those held out in fit. On other
            rows the mean cost is off by chance, about ``std(cost) / sqrt(n_samples)``.
        max_cost_per_sample : float, default=None
            Paths dearer than this are never taken.
        exceed_cost, exceed_probability : float, default=None
            Hold ``Pr(cost > exceed_cost) <= exceed_probability``.
        random_state : int, RandomState or None, default=None
            Seed of the draw that mixes two operating points.

        Returns
        -------
        BudgetRouter
            Fitted.

        Raises
        ------
        ValueError
            If the budget is out of reach, or X is None and no rows were held out.

        Examples
        --------
        >>> from skquee import CostAwareRouter
        >>> from skquee.testing import make_path_probabilities
        >>> table, y = make_path_probabilities(3000, random_state=1)
        >>> router = CostAwareRouter(regressor="logistic", random_state=0)
        >>> router = router.fit(table[:500], y[:500])
        >>> held = router.at_budget(0.6, table[500:1500], random_state=0)
        >>> bool(abs(held.predict_cost(table[1500:]).mean() - 0.6) < 0.03)
        True
        """
        return BudgetRouter(
            FrozenEstimator(self),  # a clone keeps it fitted
            budget,
            max_cost_per_sample=max_cost_per_sample,
            exceed_cost=exceed_cost,
            exceed_probability=exceed_probability,
            random_state=random_state,
        ).fit(X)
