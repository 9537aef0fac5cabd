"""What a gate sees: equations 13 and 14 laid out for many samples at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skquee.values import PathTree

__all__ = ["GateLayout", "entropy", "gate_features", "gate_layouts"]


def entropy(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the entropy of each probability vector, in nats.

    Parameters
    ----------
    probabilities : ndarray of shape (..., n_classes)
        Probability vectors; ``0 log 0`` counts as 0.

    Returns
    -------
    ndarray of shape (...)

    Raises
    ------
    ValueError
        If one is negative or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.gates import entropy
    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4)
    array([0.6931, 0.    ])
    """
    given = np.asarray(probabilities)
    if given.size and not given.min() >= 0:
        raise ValueError(f"probabilities must not be negative or NaN, got {given.min():g}.")
    return known_entropy(given)


def known_entropy(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return :func:`entropy` of what has been checked before."""
    safe = np.maximum(probabilities, np.finfo(np.float32).tiny)
    return np.maximum(-np.einsum("...c,...c->...", probabilities, np.log(safe)), 0)


def gate_features(
    now: NDArray[np.floating], previous: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Return the sample part of a gate's input (equation 13).

    ``u = p_t || p_{t-1} || H(p_t) || H(p_{t-1}) || max p_{t-1} || max p_t``. At the first
    exit there is no earlier vector: its entries, entropy and maximum are 0.

    Parameters
    ----------
    now : ndarray of shape (n_samples, n_classes)
        Probabilities at this exit.
    previous : ndarray of shape (n_samples, n_classes) or None, default=None
        Probabilities at the exit before.

    Returns
    -------
    ndarray of shape (n_samples, 2 * n_classes + 4), float32

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.gates import gate_features
    >>> gate_features(np.array([[0.5, 0.5]])).round(2)
    array([[0.5 , 0.5 , 0.  , 0.  , 0.69, 0.  , 0.  , 0.5 ]], dtype=float32)
    """
    n_samples, n_classes = now.shape
    features = np.zeros((n_samples, 2 * n_classes + 4), dtype=np.float32)
    features[:, :n_classes] = now
    features[:, -4] = known_entropy(features[:, :n_classes])
    features[:, -1] = now.max(axis=1)
    if previous is not None:
        features[:, n_classes:-4] = previous
        features[:, -3] = known_entropy(features[:, n_classes:-4])
        features[:, -2] = previous.max(axis=1)
    return features


@dataclass(frozen=True)
class GateLayout:
    """The prefixes that meet at one gate and the paths it judges for each.

    `depth`: blocks run before this gate. `prefixes` (n_prefixes,): paths of that depth that can be
    extended. `candidates` (n_prefixes, n_candidates): paths judged for each prefix, the prefix
    itself first; padded with -1.
    """

    depth: int
    prefixes: NDArray[np.intp]
    candidates: NDArray[np.intp]


def gate_layouts(tree: PathTree, *, steps_only: bool = False) -> list[GateLayout]:
    """Lay out the gates of a tree, one after each block but the last.

    Parameters
    ----------
    tree : PathTree
        The tree.
    steps_only : bool, default=False
        Judge only exit and the next steps, instead of every path that starts with the prefix.

    Returns
    -------
    list of GateLayout
        In the order of depth; every depth from 1 to ``n_exits - 1`` has one.
    """
    layouts = []
    for depth in range(1, tree.n_exits):
        prefixes = [p for p in np.flatnonzero(tree.depths == depth) if not tree.is_leaf(int(p))]
        judged = [
            np.append(p, tree.children(int(p))) if steps_only else tree.descendants(int(p))
            for p in prefixes
        ]
        candidates = np.full((len(prefixes), max(map(len, judged))), -1, dtype=np.intp)
        for line, paths in zip(candidates, judged, strict=True):
            line[: len(paths)] = paths
        layouts.append(GateLayout(depth, np.array(prefixes, dtype=np.intp), candidates))
    return layouts
