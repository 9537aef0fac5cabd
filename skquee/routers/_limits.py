"""What a router can be held to: caps on its walk, and which routers allow them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from skquee.bank import MultiPathClassifierBank
from skquee.method.policy import ClosedLoop, Policy
from skquee.method.policy._aim import aim_at
from skquee.method.policy._protocol import PolicyFunction
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_number
from skquee.walk import RoutingMixin
from skquee.walk._decider import allowed_paths, cannot_start

# Knobs to paths, and whether each answer was right where labels are known.
Sweep = Callable[[NDArray[np.float64]], tuple[NDArray[np.intp], NDArray[np.bool_] | None]]

__all__ = [
    "CappedPolicy",
    "Sweep",
    "check_aims",
    "check_walks",
    "clip_paths",
    "held_out_sweep",
    "innermost",
    "table_sweep",
    "takes_knobs",
]


def clip_paths(
    paths: NDArray[np.intp], tree: PathTree, cap: float | None, owner: RoutingMixin
) -> NDArray[np.intp]:
    """Return where samples leave if they stop before the first step beyond a cap.

    `paths`: paths taken without the cap. `cap`: most a sample may cost. `owner`: named in the
    message. Returns paths, of the same shape. ValueError if a first step is beyond the cap already.
    """
    if cap is None:
        return paths
    allowed = allowed_paths(tree, cap)
    depth = (allowed[tree.ancestors] & (tree.ancestors >= 0)).sum(axis=1)
    ends = np.where(depth > 0, tree.ancestors[np.arange(tree.n_paths), depth - 1], -1)
    clipped = ends[paths]
    if (clipped < 0).any():
        raise cannot_start(tree, cap, type(owner).__name__, np.asarray(paths)[clipped < 0])
    return clipped


def check_aims(exceed_probability: float | None, **aims: float | None) -> None:
    """Raise unless there is something to hold, and it makes sense.

    `exceed_probability`: goes with ``exceed_cost``. `**aims`: ``budget``, ``max_cost_per_sample``
    and ``exceed_cost``. ValueError if nothing is given, or something is out of range.
    """
    if all(value is None for value in (*aims.values(), exceed_probability)):
        raise ValueError(
            "There is nothing to hold: give budget, max_cost_per_sample, or exceed_cost with "
            "exceed_probability."
        )
    if (aims["exceed_cost"] is None) != (exceed_probability is None):
        raise ValueError(
            f"Give exceed_cost and exceed_probability together, got {aims['exceed_cost']!r} and "
            f"{exceed_probability!r}."
        )
    for name, value in aims.items():
        if value is not None:
            check_number(value, name, at_least=0)
    if exceed_probability is not None:
        check_number(exceed_probability, "exceed_probability", above=0, below=1)


class CappedPolicy:
    """A policy that never aims beyond a cap.

    `policy`: aims at the best path that is left; as of :func:`aim_at`. `cap`: most a sample may
    cost.
    """

    def __init__(self, policy: Policy | PolicyFunction | None, cap: float) -> None:
        self.policy = policy
        self.cap = cap

    def aim(
        self, errors: ArrayLike, costs: ArrayLike, lambda_: float, *, prefix: int | None
    ) -> NDArray[np.intp]:
        """Return the candidate to aim at, as of :class:`skquee.policy.OptionValue`.

        Returns shape (n_samples,).
        """
        seen = np.asarray(errors)
        prices = np.broadcast_to(np.asarray(costs, dtype=np.float64), seen.shape)
        rows = np.arange(len(seen))
        aimed = np.array(aim_at(self.policy, seen, np.asarray(costs), lambda_, prefix))
        over = np.flatnonzero(prices[rows, aimed] > self.cap)
        if over.size:
            # An error of 2 loses against any probability at a smaller cost, whatever lambda_ is.
            masked = np.where(prices[over] > self.cap, 2.0, seen[over])
            # Closed loop would read the 2 as what a gate predicts, and infer what follows.
            policy = None if isinstance(self.policy, ClosedLoop) else self.policy
            given = np.asarray(costs)
            given = given if given.ndim == 1 else given[over]
            aimed[over] = aim_at(policy, masked, given, lambda_, prefix)
        # The prefix comes first; before anything has run there is none.
        stay = prices.argmin(axis=1) if prefix is None else np.zeros(len(seen), dtype=np.intp)
        return np.where(prices[rows, aimed] > self.cap, stay, aimed)


def innermost(router: BaseEstimator) -> tuple[RoutingMixin, MultiPathClassifierBank | None]:
    """Return the router that decides, and the bank before it or None.

    `router`: A router, or one that wraps it: tuned, routed over a bank, or frozen. Returns
    `router`, `bank`: the bank is None where X is a table.
    """
    if isinstance(router, FrozenEstimator):
        return innermost(router.estimator)
    if not isinstance(router, RoutingMixin):
        return router, None
    return router.innermost()


def check_walks(router: RoutingMixin) -> None:
    """Raise unless two operating points of a router can share one walk.

    `router`: from :func:`innermost`. TypeError if it does not decide gate by gate on any table.
    """
    if not getattr(router, "mixes", False):
        raise TypeError(
            f"{type(router).__name__} cannot be held to a budget: two of its operating points do "
            "not share one walk over a table. Give a router that decides gate by gate, such as "
            "CostAwareRouter or ThresholdRouter."
        )


def table_sweep(
    router: RoutingMixin,
    cap: float | None,
    table: PathProbabilities,
    codes: NDArray[np.intp] | None,
) -> Sweep:
    """Return what measures values of a router's knob on a stored table.

    `cap`: most a sample may cost. `codes` (n_samples,): class indices, where known. Returns values
    to paths and whether each answer is right (None without labels), each of shape (n_points,
    n_samples).
    """
    right = None if codes is None else router.correct_paths(table, codes).T

    def sweep(knobs: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_] | None]:
        taken = clip_paths(router.sweep_table(table, knobs), table.paths, cap, router)
        return taken, None if right is None else np.take_along_axis(right, taken, axis=0)

    return sweep


def held_out_sweep(
    router: RoutingMixin, cap: float | None
) -> tuple[Sweep, NDArray[np.float64], PathTree, NDArray[np.float64] | None]:
    """Return what measures values on the rows a router held out, and what is known of them.

    `cap`: most a sample may cost. Returns `sweep`: as of :func:`table_sweep`; `weights`
    (n_samples,): of the rows; `tree`: with the costs that hold now; `row_costs` (n_samples,
    n_paths): what each path costs for each row, where that differs. ValueError if the router held
    none out.
    """
    tree = router.paths_
    try:
        first = router.cost_curve(router.knob_values(None, tree)[:1])
    except ValueError as error:
        raise ValueError(
            f"{type(router).__name__} has no held-out rows to measure costs on. Give X; labels are "
            "not needed."
        ) from error

    def sweep(knobs: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_] | None]:
        curve = router.cost_curve(knobs)
        taken = clip_paths(curve.paths, tree, cap, router)
        # Of a path cut short only its end is known, not whether that answers right.
        return taken, curve.correct if np.array_equal(taken, curve.paths) else None

    return sweep, first.sample_weight, tree, first.row_costs


def takes_knobs(values: NDArray[np.float64], make: Callable[[float], RoutingMixin]) -> bool:
    """Whether a router accepts values of its knob beyond its own grid.

    `make`: returns a copy of the router at a value.
    """
    # Methods that train each trade-off by itself know only those.
    try:
        for value in values.tolist():
            make(value).check_knobs()
    except ValueError:
        return False
    return True
