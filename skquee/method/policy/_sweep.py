"""What a policy does at every trade-off, from predictions made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import has_fit_parameter

from skquee.method.policy._plans import Plan
from skquee.method.policy._protocol import Policy
from skquee.values import PathTree
from skquee.values._labels import default_lambdas

__all__ = ["Survey", "fit_policy", "mean_loss", "next_steps", "sweep"]

# What the gate after each prefix predicts.
Survey = Mapping[int, NDArray[np.floating]]


def fit_policy(
    policy: BaseEstimator,
    tree: PathTree,
    survey: Survey,
    wrong: NDArray[np.bool_],
    sample_weight: NDArray[np.float64] | None,
) -> Policy:
    """Fit a policy, with weights where it takes them.

    `tree`, `survey`, `wrong`, `sample_weight`: as of :class:`OptionValue`. Returns fitted.
    """
    weighted = sample_weight is not None and has_fit_parameter(policy, "sample_weight")
    given = {"sample_weight": sample_weight} if weighted else {}
    return policy.fit(survey, wrong, tree, **given)


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

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.policy import next_steps
    >>> tree = PathTree.chain([1, 10, 100])
    >>> next_steps(tree, np.array([0, 1, 2]), depth=1)
    array([0, 1, 1])
    """
    if depth >= tree.n_exits:
        return candidates
    steps = tree.ancestors[candidates, depth]
    return np.where(steps >= 0, steps, candidates)


def sweep(
    plan: Callable[..., Plan],
    survey: Survey,
    knobs: ArrayLike,
    tree: PathTree,
    starts: NDArray[np.intp],
    row_costs: NDArray[np.float64] | None = None,
) -> NDArray[np.intp]:
    """Return the path of every sample at every trade-off, from what gates would predict.

    `plan`: ``plan(errors, costs, prefix=...)`` returns what aims, ``(lambda_, rows)`` to positions.
    `survey` (n_samples, n_candidates): predicted errors after each prefix. `knobs` (n_knobs,).
    `tree`: with the costs that hold. `starts` (n_knobs, n_samples): first path of each sample.
    `row_costs` (n_samples, n_paths): cost of every path for each sample, where it differs. Returns
    shape (n_knobs, n_samples).
    """
    grid = np.atleast_1d(np.asarray(knobs, dtype=np.float64)).tolist()
    taken = starts.astype(np.intp)
    inner = np.flatnonzero(tree.is_inner)
    for prefix in inner[np.argsort(tree.depths[inner], kind="stable")].tolist():
        standing = [np.flatnonzero(line == prefix) for line in taken]
        if prefix not in survey or not any(len(rows) for rows in standing):
            continue
        candidates = tree.descendants(prefix)
        costs = tree.path_costs[candidates]
        if row_costs is not None:
            costs = row_costs[:, candidates]
        aim = plan(survey[prefix], costs, prefix=prefix)
        steps = next_steps(tree, candidates, int(tree.depths[prefix]))
        for line, knob, rows in zip(taken, grid, standing, strict=True):
            if len(rows):  # who aims at the prefix itself stays
                line[rows] = steps[aim(knob, rows)]
    return taken


def mean_loss(
    policy: BaseEstimator,
    survey: Survey,
    wrong: NDArray[np.bool_],
    tree: PathTree,
    sample_weight: NDArray[np.float64] | None = None,
) -> float:
    """Return error plus priced cost of a policy, the mean over trade-offs, each of equal weight.

    `survey`, `wrong`, `tree`, `sample_weight`: as of :class:`OptionValue`.
    """
    grid = default_lambdas(tree)
    grid = grid[grid > 0][::8]
    n = len(wrong)
    # Where several paths begin, from the one that is best on average.
    base = np.average(wrong, axis=0, weights=sample_weight)
    best = (base + grid[:, None] * tree.path_costs).argmin(axis=1)
    starts = np.repeat(tree.ancestors[best, :1], n, axis=1)
    taken = sweep(policy.plan, survey, grid, tree, starts)
    error = np.average(wrong[np.arange(n), taken], axis=1, weights=sample_weight)
    cost = np.average(tree.path_costs[taken], axis=1, weights=sample_weight)
    # A trade-off weighs a step of cost against one of error: divided out, all count alike.
    scale = 1 + grid * tree.path_costs.max()
    return float(((error + grid * cost) / scale).mean())
