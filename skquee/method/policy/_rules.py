"""Rules that compare each path ahead with the exit at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from skquee.method.policy._plans import TIE, Plan, least, plan_open_loop
from skquee.method.policy._sweep import Survey, mean_loss
from skquee.values import PathTree
from skquee.values._checks import check_number

__all__ = ["TIE", "OptionValue", "Pessimistic", "open_loop"]


def open_loop(predicted_errors: ArrayLike, costs: ArrayLike, lambda_: float) -> NDArray[np.intp]:
    """Aim at the candidate path of least ``lambda_ * cost + predicted error``.

    The receding-horizon rule of equations 9 and 18: plan a whole path from what is known
    now, take its first step, plan again at the next gate. Ties go to the cheapest path.

    Parameters
    ----------
    predicted_errors : array-like of shape (n_samples, n_candidates)
        Predicted probability of error of each path that the gate may aim at, the prefix
        itself (exit now) among them.
    costs : array-like of shape (n_candidates,) or (n_samples, n_candidates)
        Cost of each whole path, where it differs that for each sample.
    lambda_ : float
        Price of one unit of cost, in units of error probability.

    Returns
    -------
    ndarray of shape (n_samples,)
        Position of the path aimed at among the candidates.

    Examples
    --------
    >>> from skquee.policy import open_loop
    >>> open_loop([[0.3, 0.1], [0.3, 0.1]], costs=[0.5, 1.0], lambda_=0.3)
    array([1, 1])
    >>> open_loop([[0.3, 0.1]], costs=[0.5, 1.0], lambda_=0.5)
    array([0])
    """
    errors, prices = np.asarray(predicted_errors), np.asarray(costs, dtype=np.float64)
    if errors.ndim != 2 or prices.shape not in (errors.shape, errors.shape[1:]):
        raise ValueError(
            "predicted_errors must have shape (n_samples, n_candidates), and costs one number a "
            f"candidate or that shape, got {errors.shape} and {prices.shape}."
        )
    if prices.ndim == 2:
        scores = errors + lambda_ * prices
        near = scores <= least(scores, 1) + TIE
        return np.argmin(np.where(near, prices, np.inf), axis=1)
    order = np.argsort(prices, kind="stable")
    scores = errors[:, order] + lambda_ * prices[order]
    return order[np.argmax(scores <= least(scores, 1) + TIE, axis=1)]


class OptionValue(BaseEstimator):
    """Open loop that values the option to decide again.

    Who goes on may still stop elsewhere, so that a path ahead is worth more than its predicted
    error says: ``lambda_ * cost + (1 - k) * error`` for every path but exit now.

    Parameters
    ----------
    k : float, default=None
        From 0, the paper's rule, to below 1. Default: of 0 to 0.4 the one of least error plus
        priced cost, over trade-offs, on the rows of ``fit``.

    Attributes
    ----------
    k_ : float
        In use.

    Examples
    --------
    >>> from skquee.policy import OptionValue
    >>> OptionValue(k=0.5).aim([[0.3, 0.2]], [0.5, 1.0], 0.3, prefix=0)
    array([1])
    >>> OptionValue(k=0).aim([[0.3, 0.2]], [0.5, 1.0], 0.3, prefix=0)
    array([0])
    """

    grid = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)

    def __init__(self, k: float | None = None) -> None:
        self.k = k

    def fit(
        self,
        survey: Survey,
        wrong: NDArray[np.bool_],
        tree: PathTree,
        sample_weight: NDArray[np.float64] | None = None,
    ) -> OptionValue:
        """Choose `k` where it is left open.

        Parameters
        ----------
        survey : mapping of int to ndarray of shape (n_samples, n_candidates)
            What the gate after each prefix predicts, candidates as of ``tree.descendants``.
        wrong : ndarray of shape (n_samples, n_paths)
            Whether each path's answer is wrong.
        tree : PathTree
            With the costs that hold.
        sample_weight : ndarray of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        if self.k is not None:
            check_number(self.k, "k", at_least=0, below=1)
        self.k_ = self.k
        if self.k is None:
            losses = [
                mean_loss(OptionValue(k), survey, wrong, tree, sample_weight) for k in self.grid
            ]
            self.k_ = self.grid[int(np.argmin(losses))]
        return self

    def aim(
        self, errors: ArrayLike, costs: ArrayLike, lambda_: float, *, prefix: int | None
    ) -> NDArray[np.intp]:
        """Return the candidate to aim at; see :func:`open_loop`.

        Parameters
        ----------
        errors : array-like of shape (n_samples, n_candidates)
            Predicted errors; the prefix itself comes first.
        costs : array-like of shape (n_candidates,)
            Cost of each.
        lambda_ : float
            Price.
        prefix : int or None
            Path taken; None before anything has run, where no exit is among the candidates.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return open_loop(self._scaled(errors, prefix), costs, lambda_)

    def plan(self, errors: ArrayLike, costs: ArrayLike, *, prefix: int | None) -> Plan:
        """Return :meth:`aim` of some rows for any trade-off.

        Parameters
        ----------
        errors, costs, prefix
            As of :meth:`aim`.

        Returns
        -------
        callable
            ``plan(lambda_, rows)`` returns the positions aimed at.
        """
        return plan_open_loop(self._scaled(errors, prefix), costs)

    def _scaled(self, errors: ArrayLike, prefix: int | None) -> NDArray[np.float64]:
        k = getattr(self, "k_", self.k) or 0.0
        scaled = np.array(errors, dtype=np.float64)
        scaled[:, 0 if prefix is None else 1 :] *= 1 - k
        return scaled


class Pessimistic(BaseEstimator):
    """Open loop that distrusts the least of many estimates.

    The least of noisy predictions is too low (the optimiser's curse), so a path ahead has to
    beat exit now by a margin.

    Parameters
    ----------
    margin : float, default=0.01
        Added to the predicted error of every path but exit now.

    Examples
    --------
    >>> from skquee.policy import Pessimistic
    >>> Pessimistic(0.2).aim([[0.3, 0.15]], [0.5, 0.6], 0.1, prefix=0)
    array([0])
    """

    def __init__(self, margin: float = 0.01) -> None:
        self.margin = margin

    def fit(self, survey: Survey, wrong: NDArray[np.bool_], tree: PathTree) -> Pessimistic:
        """Check the margin.

        Parameters
        ----------
        survey, wrong, tree
            As of :class:`OptionValue`; not used.

        Returns
        -------
        self
        """
        check_number(self.margin, "margin", at_least=0)
        return self

    def aim(
        self, errors: ArrayLike, costs: ArrayLike, lambda_: float, *, prefix: int | None
    ) -> NDArray[np.intp]:
        """Return the candidate to aim at, as of :class:`OptionValue`.

        Parameters
        ----------
        errors, costs, lambda_, prefix
            As of :class:`OptionValue`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return open_loop(self._raised(errors, prefix), costs, lambda_)

    def plan(self, errors: ArrayLike, costs: ArrayLike, *, prefix: int | None) -> Plan:
        """Return :meth:`aim` of some rows for any trade-off, as of :meth:`OptionValue.plan`.

        Parameters
        ----------
        errors, costs, prefix
            As of :meth:`OptionValue.plan`.

        Returns
        -------
        callable
        """
        return plan_open_loop(self._raised(errors, prefix), costs)

    def _raised(self, errors: ArrayLike, prefix: int | None) -> NDArray[np.float64]:
        raised = np.array(errors, dtype=np.float64)
        raised[:, 0 if prefix is None else 1 :] += self.margin
        return raised
