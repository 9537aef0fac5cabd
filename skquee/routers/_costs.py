"""Several costs in one: milliseconds, joules and dollars at a price each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._costs import check_costs

__all__ = ["combine_costs"]


def combine_costs(
    costs: Mapping[str, ArrayLike], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the weighted sum of several costs, for ``path_costs`` of any router.

    Routers read ``path_costs`` at prediction, so prices may change at any time without a fit.

    Parameters
    ----------
    costs : mapping of str to array-like of shape (n_paths,)
        Each cost of every whole path, in its own unit.
    weights : mapping of str to float
        Price of one unit of each cost; 0 leaves it out.

    Returns
    -------
    ndarray of shape (n_paths,)
        ``sum_k weights[k] * costs[k]``.

    Raises
    ------
    ValueError
        If a cost has no weight or a weight no cost, lengths differ, or a number is negative
        or not finite.

    Examples
    --------
    >>> from skquee.router import combine_costs
    >>> costs = {"ms": [2.0, 5.0], "dollars": [0.01, 0.04]}
    >>> combine_costs(costs, {"ms": 1.0, "dollars": 100.0})
    array([3., 9.])
    """
    if not costs:
        raise ValueError("costs is empty; give at least one array, e.g. {'ms': [2.0, 5.0]}.")
    missing, unknown = sorted(set(costs) - set(weights)), sorted(set(weights) - set(costs))
    if missing or unknown:
        raise ValueError(
            f"costs has {sorted(costs)}, but weights lacks {missing} and adds {unknown}. Give one "
            "weight for each cost (0 to leave it out)."
        )
    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"weights[{name!r}] must be a finite number >= 0, got {weight!r}. It is the price "
                "of one unit of that cost."
            )
    arrays = {name: check_costs(values, None, f"costs[{name!r}]") for name, values in costs.items()}
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"All costs must have one number a path, got lengths {lengths}.")
    total = np.stack([weights[name] * values for name, values in arrays.items()]).sum(axis=0)
    return np.asarray(total, dtype=np.float64)
