"""Policies: how predicted errors and costs become the path to aim at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skquee.paths import PathTree
from skquee.tables import default_lambdas

__all__ = ["POLICIES", "ClosedLoop", "OptionValue", "Pessimistic", "next_steps", "open_loop"]

# Scores this close count as equal: float32 gates differ by less between batch sizes.
TIE = 1e-6

Survey = Mapping[int, NDArray[np.floating]]


def open_loop(predicted_errors: ArrayLike, costs: ArrayLike, lambda_: float) -> NDArray[np.intp]:
    """Aim at the candidate path of least ``lambda_ * cost + predicted error``.

    The receding-horizon rule of equations 9 and 18: plan a whole path from what is known
    now, take its first step, plan again at the next gate. Ties go to the cheapest path.

    Parameters
    ----------
    predicted_errors : array-like of shape (n_samples, n_candidates)
        Predicted probability of error of each path that the gate may aim at, the prefix
        itself (exit now) among them.
    costs : array-like of shape (n_candidates,)
        Cost of each whole path.
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
    prices = np.asarray(costs, dtype=np.float64)
    order = np.argsort(prices, kind="stable")
    scores = np.asarray(predicted_errors)[:, order] + lambda_ * prices[order]
    return order[np.argmax(scores <= scores.min(axis=1, keepdims=True) + TIE, axis=1)]


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

    def fit(self, survey: Survey, wrong: NDArray[np.bool_], tree: PathTree) -> OptionValue:
        """Choose `k` where it is left open.

        Parameters
        ----------
        survey : mapping of int to ndarray of shape (n_samples, n_candidates)
            What the gate after each prefix predicts, candidates as of ``tree.descendants``.
        wrong : ndarray of shape (n_samples, n_paths)
            Whether each path's answer is wrong.
        tree : PathTree
            With the costs that hold.

        Returns
        -------
        self
        """
        if self.k is not None and not 0 <= self.k < 1:
            raise ValueError(f"k must lie in [0, 1), got {self.k}.")
        self.k_ = self.k
        if self.k is None:
            losses = [mean_loss(OptionValue(k), survey, wrong, tree) for k in self.grid]
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
        k = getattr(self, "k_", self.k) or 0.0
        scaled = np.array(errors, dtype=np.float64)
        scaled[:, 0 if prefix is None else 1 :] *= 1 - k
        return open_loop(scaled, costs, lambda_)


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
        if not self.margin >= 0:
            raise ValueError(f"margin must not be negative, got {self.margin}.")
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
        raised = np.array(errors, dtype=np.float64)
        raised[:, 0 if prefix is None else 1 :] += self.margin
        return open_loop(raised, costs, lambda_)


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
    """

    def __init__(self, n_lambdas: int = 10, alpha: float = 10.0) -> None:
        self.n_lambdas = n_lambdas
        self.alpha = alpha

    def fit(self, survey: Survey, wrong: NDArray[np.bool_], tree: PathTree) -> ClosedLoop:
        """Fit the value of every next step.

        Parameters
        ----------
        survey, wrong, tree
            As of :class:`OptionValue`.

        Returns
        -------
        self
        """
        if self.n_lambdas < 1:
            raise ValueError(f"n_lambdas must be at least 1, got {self.n_lambdas}.")
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
            self._models[prefix] = model.fit(survey[prefix], np.hstack(goals)), len(children)
            error = np.empty((self.n_lambdas, n))
            cost = np.empty((self.n_lambdas, n))
            for place, price in enumerate(self.lambdas_.tolist()):
                steps = self._steps(prefix, survey[prefix], price)
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

    def _steps(self, prefix: int, errors: NDArray[np.floating], lambda_: float) -> NDArray[np.intp]:
        """Return 0 for exit now, else the number of the child, from 1."""
        model, n_children = self._models[prefix]
        places = np.log(np.clip(lambda_, self.lambdas_[0], self.lambdas_[-1]))
        at = float(np.interp(places, np.log(self.lambdas_), np.arange(self.n_lambdas)))
        low = max(min(int(at), self.n_lambdas - 2), 0)
        share = at - low
        # Children, error or cost, trade-offs.
        values = model.predict(errors).reshape(len(errors), n_children, 2, self.n_lambdas)
        high = min(low + 1, self.n_lambdas - 1)
        values = (1 - share) * values[..., low] + share * values[..., high]
        onward = values[:, :, 0] + lambda_ * values[:, :, 1]
        now = errors[:, :1] + lambda_ * self._tree.path_costs[prefix]
        scores = np.hstack([now, onward])
        return np.argmax(scores <= scores.min(axis=1, keepdims=True) + TIE, axis=1)

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
        if prefix is None:
            return open_loop(errors, costs, lambda_)
        candidates = self._tree.descendants(prefix)
        prices, known = np.asarray(costs), self._tree.path_costs[candidates]
        factor = prices.sum() / known.sum() if known.any() else 1.0
        if not np.allclose(prices, factor * known):
            raise ValueError(
                "policy 'closed-loop' learned what follows at the costs of fit, and these have "
                "other proportions: call fit again."
            )
        children = self._tree.children(prefix)
        places = np.array([0, *(int(np.flatnonzero(candidates == c)[0]) for c in children)])
        return places[self._steps(prefix, np.asarray(errors), lambda_ * factor)]


POLICIES: dict[str, Callable[[], Any] | None] = {
    "open-loop": None,
    "option-value": OptionValue,
    "pessimistic": Pessimistic,
    "closed-loop": ClosedLoop,
}


def next_steps(tree: PathTree, candidates: NDArray[np.intp], depth: int) -> NDArray[np.intp]:
    """Return the path one step on toward each candidate; the prefix itself means exit.

    Parameters
    ----------
    tree : PathTree
        The tree.
    candidates : ndarray of int
        Paths that start with one prefix.
    depth : int
        Its depth.

    Returns
    -------
    ndarray of int
    """
    if depth >= tree.n_exits:
        return candidates
    steps = tree.ancestors[candidates, depth]
    return np.where(steps >= 0, steps, candidates)


def sweep(
    aim: Callable[..., NDArray[np.intp]],
    survey: Survey,
    knobs: ArrayLike,
    tree: PathTree,
    n_samples: int,
    first: Callable[[float], NDArray[np.intp]],
) -> NDArray[np.intp]:
    """Return the path of every sample at every trade-off, from what gates would predict.

    Parameters
    ----------
    aim : callable
        ``aim(errors, costs, lambda_, prefix=...)``.
    survey : mapping of int to ndarray of shape (n_samples, n_candidates)
        Predicted errors after each prefix.
    knobs : array-like of shape (n_knobs,)
        Trade-offs.
    tree : PathTree
        With the costs that hold.
    n_samples : int
        Rows.
    first : callable
        Trade-off to the first path of each sample.

    Returns
    -------
    ndarray of shape (n_knobs, n_samples)
    """
    grid = np.atleast_1d(np.asarray(knobs, dtype=np.float64))
    taken = np.empty((len(grid), n_samples), dtype=np.intp)
    for line, knob in zip(taken, grid.tolist(), strict=True):
        start = first(knob)
        standing = {int(p): np.flatnonzero(start == p) for p in np.unique(start)}
        while standing:
            prefix, rows = standing.popitem()
            if prefix not in survey:
                line[rows] = prefix
                continue
            candidates = tree.descendants(prefix)
            judged = survey[prefix]
            judged = judged if len(rows) == n_samples else judged[rows]
            best = aim(judged, tree.path_costs[candidates], knob, prefix=prefix)
            steps = next_steps(tree, candidates, int(tree.depths[prefix]))[best]
            for step in np.unique(steps).tolist():
                members = rows[steps == step]
                if step == prefix:
                    line[members] = prefix
                else:
                    standing[step] = members
    return taken


def mean_loss(policy: Any, survey: Survey, wrong: NDArray[np.bool_], tree: PathTree) -> float:
    """Return error plus priced cost of a policy, the mean over trade-offs, each of equal weight.

    Parameters
    ----------
    policy : policy
        With ``aim``.
    survey, wrong, tree
        As of :class:`OptionValue`.

    Returns
    -------
    float
    """
    grid = default_lambdas(tree)
    grid = grid[grid > 0][::8]
    n = len(wrong)
    # Where several paths begin, from the one that is best on average.
    base = wrong.mean(axis=0)

    def first(knob: float) -> NDArray[np.intp]:
        best = int(np.argmin(base + knob * tree.path_costs))
        return np.full(n, tree.ancestors[best, 0])

    taken = sweep(policy.aim, survey, grid, tree, n, first)
    error = wrong[np.arange(n), taken].mean(axis=1)
    cost = tree.path_costs[taken].mean(axis=1)
    # A trade-off weighs a step of cost against one of error: divided out, all count alike.
    scale = 1 + grid * tree.path_costs.max()
    return float(((error + grid * cost) / scale).mean())
