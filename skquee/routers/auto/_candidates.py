"""What AutoRouter tries where the user names no candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from skquee.baselines import FixedPath, ThresholdRouter
from skquee.method._answers import EnsembleAnswer
from skquee.method.gates import PathErrorClassifier
from skquee.method.policy import ClosedLoop, OptionValue, Pessimistic, Policy
from skquee.routers import CostAwareRouter
from skquee.values import PathTree

__all__ = ["default_candidates"]

# Rows from which boosted trees are worth trying, and sequences that thresholds follow at most.
MANY_ROWS, MAX_SEQUENCES = 5000, 12
# Best on most tables: taken where they are near the best one.
PREFERRED = "errors, logistic, classes"
# Of logistic error models, and of the weights of classes.
PENALTY = 30.0


def default_candidates(tree: PathTree, n_samples: int) -> dict[str, BaseEstimator]:
    """Return the routers that :class:`AutoRouter` tries.

    Parameters
    ----------
    tree : PathTree
        Its paths of full depth, or all of several steps where there are few, are the sequences
        that thresholds follow.
    n_samples : int
        Rows at hand: with few, boosted trees are left out.

    Returns
    -------
    dict of str to estimator
        Not fitted; simple ones first.

    Examples
    --------
    >>> from skquee import PathTree
    >>> from skquee.auto import default_candidates
    >>> list(default_candidates(PathTree.chain([1, 10]), n_samples=500))[:2]
    ['fixed paths', 'threshold on max_probability along 2']
    """
    policies: dict[str, Policy | str] = {
        "open loop": "open-loop",
        "option 0.1": OptionValue(0.1),
        "option 0.2": OptionValue(0.2),
        "option 0.3": OptionValue(0.3),
        "margin 0.01": Pessimistic(0.01),
    }
    closed = {**policies, "closed loop": ClosedLoop()}
    logistic = PathErrorClassifier(penalty=PENALTY)
    errors: dict[str, Any] = {"targets": "bernoulli", "regressor": logistic}
    clusters = {**errors, "targets": "shrunken"}
    by_class = EnsembleAnswer(class_penalty=PENALTY)
    kinds: list[tuple[str, dict[str, Any], dict[str, Policy | str]]] = [
        ("errors, logistic", errors, closed),
        ("errors, logistic, recall", {**errors, "answer": "recall"}, closed),
        ("errors, logistic, ensemble", {**errors, "answer": "ensemble"}, closed),
        (PREFERRED, {**errors, "answer": by_class}, closed),
        ("clusters, logistic", clusters, policies),
        ("paper", {}, policies),
    ]
    if n_samples >= MANY_ROWS:
        kinds.append(("errors, boosting", {**errors, "regressor": "boosting"}, policies))
    found: dict[str, BaseEstimator] = {"fixed paths": FixedPath()}
    sequences = np.flatnonzero(tree.depths > 1)
    if len(sequences) > MAX_SEQUENCES:
        sequences = np.flatnonzero(tree.depths == tree.n_exits)[-MAX_SEQUENCES:]
    for path in sequences.tolist():
        for measure in ("max_probability", "margin", "entropy"):
            name = tree.names[path]
            found[f"threshold on {measure} along {name}"] = ThresholdRouter(
                measure=measure, along=name
            )
    for kind, options, tried in kinds:
        for title, policy in tried.items():
            found[f"{kind}, {title}"] = CostAwareRouter(**options, policy=policy, first="free")
    return found
