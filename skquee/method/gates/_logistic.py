"""Logistic regressions over the same features, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["MOST_FEATURES", "fit_logistic"]

#: Beyond so many features a step of Newton's method costs more than it saves.
MOST_FEATURES = 150
STEPS, HALVINGS = 50, 12


def fit_logistic(
    features: NDArray[np.float64],
    goals: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    *,
    penalty: float = 1.0,
    tolerance: float = 1e-7,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit one logistic regression for each column of targets.

    What ``LogisticRegression(C=1 / penalty)`` minimises, to a tighter tolerance: the log-loss
    summed over rows plus half the penalty times the squared weights, the intercept left free. A
    target between 0 and 1 counts as an error with that weight and as none with the rest.

    `features` (n_samples, n_features): of about unit scale. `goals` (n_samples, n_targets): between
    0 and 1; each column must vary. `weights` (n_samples,): weights of the rows. `penalty`: of the
    squared weights. `tolerance`: largest entry of the gradient, a row. Returns `coefficients`
    (n_features, n_targets); `intercepts` (n_targets,).

    >>> import numpy as np
    >>> from skquee.method.gates._logistic import fit_logistic
    >>> coefficients, intercepts = fit_logistic(np.array([[-1.0], [1.0]]), np.array([[0.0], [1.0]]))
    >>> coefficients.round(3), abs(intercepts).round(3)
    (array([[0.675]]), array([0.]))
    """
    n, d = features.shape
    share = np.ones(n) if weights is None else weights
    design = np.column_stack([features, np.ones(n)])
    ridge = np.full(d + 1, penalty)
    ridge[-1] = 0.0
    bound = tolerance * share.sum()
    found = np.zeros((d + 1, goals.shape[1]))
    for theta, goal in zip(found.T, goals.T, strict=True):  # a view: written in place
        mean = min(max(float(goal @ share / share.sum()), 1e-9), 1 - 1e-9)
        theta[-1] = np.log(mean / (1 - mean))
        scores = design @ theta
        loss = _loss(scores, goal, share, theta, ridge)
        for _ in range(STEPS):
            p = expit(scores)
            gradient = design.T @ ((p - goal) * share) + ridge * theta
            if np.abs(gradient).max() <= bound:
                break
            curvature = np.maximum(p * (1 - p), 1e-12) * share
            hessian = design.T @ (design * curvature[:, None])
            hessian[np.diag_indices(d + 1)] += ridge + 1e-10 * n
            step = np.linalg.solve(hessian, gradient)
            length = 1.0
            for _ in range(HALVINGS):
                new = theta - length * step
                scores = design @ new
                lower = _loss(scores, goal, share, new, ridge)
                if lower <= loss:
                    break
                length /= 2
            else:  # rounding alone is left
                break
            theta[:], loss = new, lower
    return found[:-1], found[-1]


def _loss(
    scores: NDArray[np.float64],
    goal: NDArray[np.float64],
    share: NDArray[np.float64],
    theta: NDArray[np.float64],
    ridge: NDArray[np.float64],
) -> float:
    entropies = np.logaddexp(0, scores) - goal * scores
    return float(entropies @ share + (ridge * theta) @ theta / 2)
