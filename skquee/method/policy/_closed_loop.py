"""Backward induction: what follows a step, under the policy fitted for the gates after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skquee.method.policy._plans import TIE, Plan
from skquee.method.policy._rules import open_loop
from skquee.method.policy._sweep import Survey
from skquee.values import PathTree
from skquee.values._checks import check_integer, check_number
from skquee.values._labels import default_lambdas

__all__ = ["ClosedLoop"]


class ClosedLoop(BaseEstimator):
    """Optimal stopping by backward induction, for all trade-offs from one training.

    From the deepest gates back, the error and the cost that follow each next step, under the
    policy already fitted for the gates after it, are regressed on what the gate predicts
    (Longstaff and Schwartz): ``V(b | x) = E[error | x, b] + lambda_ * E[cost | x, b]``. This
    is done at a grid of ``lambda_``; between its values both are interpolated.

    Parameters
    ----------
    n_lambdas : int, default=10
        Size of the grid.
    alpha : float, default=10.0
        Of the ridge regressions, on squares and products of predicted errors.

    Attributes
    ----------
    lambdas_ : ndarray of shape (n_lambdas,)
        The grid.

    Examples
    --------
    >>> from skquee import CostAwareRouter
    >>> from skquee.policy import ClosedLoop
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> router = CostAwareRouter(regressor="logistic", policy=ClosedLoop(), random_state=0)
    >>> router.fit(table, y).predict(table).shape
    (200,)
    """

    def __init__(self, n_lambdas: int = 10, alpha: float = 10.0) -> None:
        self.n_lambdas = n_lambdas
        self.alpha = alpha

    def fit(
        self,
        survey: Survey,
        wrong: NDArray[np.bool_],
        tree: PathTree,
        sample_weight: NDArray[np.float64] | None = None,
    ) -> ClosedLoop:
        """Fit the value of every next step.

        Parameters
        ----------
        survey, wrong, tree, sample_weight
            As of :class:`OptionValue`.

        Returns
        -------
        self
        """
        check_integer(self.n_lambdas, "n_lambdas", at_least=1)
        check_number(self.alpha, "alpha", at_least=0)
        grid = default_lambdas(tree)
        grid = grid[grid > 0]
        self.lambdas_ = np.geomspace(grid.min(), grid.max(), self.n_lambdas)
        self._tree, self._models = tree, {}
        n = len(wrong)
        ahead: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
            p: (
                np.tile(wrong[:, p].astype(np.float64), (self.n_lambdas, 1)),
                np.full((self.n_lambdas, n), tree.path_costs[p]),
            )
            for p in range(tree.n_paths)
            if not tree.is_inner[p]
        }
        inner = np.flatnonzero(tree.is_inner)
        for prefix in inner[np.argsort(-tree.depths[inner], kind="stable")].tolist():
            children = tree.children(prefix)
            goals = [np.concatenate(ahead[child]).T for child in children.tolist()]
            scale = max(1, 60 // survey[prefix].shape[1])
            expand = PolynomialFeatures(2 if scale > 1 else 1, include_bias=False)
            model = make_pipeline(StandardScaler(), expand, Ridge(self.alpha))
            weighted = ("standardscaler", "ridge") if sample_weight is not None else ()
            given = {f"{part}__sample_weight": sample_weight for part in weighted}
            model.fit(survey[prefix], np.hstack(goals), **given)
            self._models[prefix] = model, len(children)
            error = np.empty((self.n_lambdas, n))
            cost = np.empty((self.n_lambdas, n))
            every, values = np.arange(n), self._values(prefix, survey[prefix])
            for place, price in enumerate(self.lambdas_.tolist()):
                steps = self._steps(prefix, survey[prefix], values, price, every)
                for number, step in enumerate([prefix, *children.tolist()]):
                    rows = steps == number
                    if number == 0:
                        error[place, rows] = wrong[rows, prefix]
                        cost[place, rows] = tree.path_costs[prefix]
                    else:
                        error[place, rows] = ahead[step][0][place, rows]
                        cost[place, rows] = ahead[step][1][place, rows]
            ahead[prefix] = error, cost
        return self

    def _values(self, prefix: int, errors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return error and cost that follow, shape (n_lambdas, 2, n_children, n_samples)."""
        model, n_children = self._models[prefix]
        values = model.predict(errors).reshape(len(errors), n_children, 2, self.n_lambdas)
        return np.ascontiguousarray(values.transpose(3, 2, 1, 0))

    def _steps(
        self,
        prefix: int,
        errors: NDArray[np.floating],
        values: NDArray[np.float64],
        lambda_: float,
        rows: NDArray[np.intp],
    ) -> NDArray[np.intp]:
        """Return 0 for exit now, else the number of the child, from 1."""
        places = np.log(np.clip(lambda_, self.lambdas_[0], self.lambdas_[-1]))
        at = float(np.interp(places, np.log(self.lambdas_), np.arange(self.n_lambdas)))
        low = max(min(int(at), self.n_lambdas - 2), 0)
        share, high = at - low, min(low + 1, self.n_lambdas - 1)
        mine = values if len(rows) == values.shape[-1] else values[[low, high]][..., rows]
        low, high = (low, high) if mine is values else (0, 1)
        error, cost = (1 - share) * mine[low] + share * mine[high]
        now = errors[rows, 0] + lambda_ * self._tree.path_costs[prefix]
        scores = np.vstack([now, error + lambda_ * cost])
        return np.argmax(scores <= scores.min(axis=0) + TIE, axis=0)

    def aim(
        self, errors: ArrayLike, costs: ArrayLike, lambda_: float, *, prefix: int | None
    ) -> NDArray[np.intp]:
        """Return the candidate to aim at, as of :class:`OptionValue`: exit now, or a next step.

        Parameters
        ----------
        errors, costs, lambda_, prefix
            As of :class:`OptionValue`. Costs are those of ``fit``, up to a common factor.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.plan(errors, costs, prefix=prefix)(lambda_, np.arange(len(np.asarray(errors))))

    def plan(self, errors: ArrayLike, costs: ArrayLike, *, prefix: int | None) -> Plan:
        """Return :meth:`aim` of some rows for any trade-off, as of :meth:`OptionValue.plan`.

        Parameters
        ----------
        errors, costs, prefix
            As of :meth:`aim`; costs may differ from row to row.

        Returns
        -------
        callable
        """
        known, prices = np.asarray(errors), np.asarray(costs)
        if prefix is None:
            return lambda lambda_, rows: open_loop(known[rows], prices, lambda_)
        candidates = self._tree.descendants(prefix)
        usual = self._tree.path_costs[candidates]
        factor = prices.sum() / usual.sum() if usual.any() else 1.0
        if not np.allclose(prices, factor * usual, atol=1e-8 * prices.max()):
            raise ValueError(
                "policy 'closed-loop' learned what follows at the costs of fit, and these have "
                "other proportions: call fit again."
            )
        children = self._tree.children(prefix)
        places = np.array([0, *(int(np.flatnonzero(candidates == c)[0]) for c in children)])
        values = self._values(prefix, known)

        def plan(lambda_: float, rows: NDArray[np.intp]) -> NDArray[np.intp]:
            return places[self._steps(prefix, known, values, lambda_ * factor, rows)]

        return plan
