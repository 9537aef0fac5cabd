"""What a policy aims at, whoever wrote it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.method.policy._plans import Plan, plan_open_loop
from skquee.method.policy._protocol import Policy, PolicyFunction
from skquee.method.policy._rules import open_loop

__all__ = ["aim_at", "plan_of"]


def aim_at(
    policy: Policy | PolicyFunction | None,
    errors: NDArray[np.floating],
    costs: NDArray[np.float64],
    lambda_: float,
    prefix: int | None,
) -> NDArray[np.intp]:
    """Return the candidate that a policy aims at.

    `policy`: with ``aim``; or ``policy(errors, costs, lambda_)``; None: :func:`open_loop`. `errors`
    (m, n_candidates). `costs` (n_candidates,) or (m, n_candidates). Returns shape (m,).
    """
    if policy is None:
        return open_loop(errors, costs, lambda_)
    aim = getattr(policy, "aim", None)
    if aim is not None:
        return _positions(aim(errors, costs, lambda_, prefix=prefix), errors, policy)
    assert callable(policy)
    return _positions(policy(errors, costs, lambda_), errors, policy)


def plan_of(
    policy: Policy | PolicyFunction | None,
    errors: NDArray[np.floating],
    costs: NDArray[np.float64],
    *,
    prefix: int | None,
) -> Plan:
    """Return :func:`aim_at` of some rows for any trade-off.

    `policy`, `errors`, `costs`, `prefix`: as of :func:`aim_at`. What does not depend on the
    trade-off is done once by a policy that has ``plan(errors, costs, prefix=...)``, as those of
    :mod:`skquee.policy` have. Returns : ``plan(lambda_, rows)`` returns the positions aimed at.
    """
    if costs.ndim == 1 and policy is None:
        return plan_open_loop(errors, costs)
    make = getattr(policy, "plan", None)
    if costs.ndim == 1 and make is not None:
        made: Plan = make(errors, costs, prefix=prefix)
        return made

    def plan(lambda_: float, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        prices = costs if costs.ndim == 1 else costs[rows]
        mine = errors if len(rows) == len(errors) else errors[rows]
        return aim_at(policy, mine, prices, lambda_, prefix)

    return plan


def _positions(
    aimed: ArrayLike, errors: NDArray[np.floating], policy: Policy | PolicyFunction
) -> NDArray[np.intp]:
    """Return what a policy aims at, checked: a policy may be the user's own."""
    found, (n, k) = np.asarray(aimed), errors.shape
    whole = found.shape == (n,) and found.dtype.kind in "iu"
    if not whole or (n and (found.min() < 0 or found.max() >= k)):
        name = getattr(policy, "__name__", type(policy).__name__)
        got = f"{found.dtype} of shape {found.shape}"
        if whole:
            got = f"positions from {found.min()} to {found.max()}"
        raise ValueError(
            f"policy {name} must return the position of a candidate for each of {n} samples: "
            f"integers from 0 to {k - 1}, got {got}."
        )
    return found.astype(np.intp, copy=False)
