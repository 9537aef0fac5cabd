"""The paper's gates: what they see, their network, and what fitted ones judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skquee.values import PathTree
from skquee.values._rows import alike

if TYPE_CHECKING:
    from skquee.method.gates._protocol import Inputs, Judged

__all__ = [
    "FittedGates",
    "GateLayout",
    "GateNetwork",
    "entropy",
    "gate_features",
    "gate_layouts",
    "known_entropy",
    "predict_flat",
]

# Rows whose hidden layers are held at once: keeps them inside a core's cache.
ROWS = 1024
SMALLEST = float(np.finfo(np.float32).tiny)  # where a logarithm begins


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
    safe = np.maximum(probabilities, np.float32(SMALLEST))  # of half precision it is 0
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

    Examples
    --------
    >>> from skquee import PathTree
    >>> from skquee.gates import gate_layouts
    >>> gate_layouts(PathTree.chain([1, 10]))
    [GateLayout(depth=1, prefixes=array([0]), candidates=array([[0, 1]]))]
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


class GateNetwork:
    """Two layers and an output over sample and path (equation 15).

    The first layer is split: the sample's part is computed once and added to the part of
    every candidate path.

    `weights`: ``sample`` (n_features, embedding_size), ``path`` (n_exits + 1, embedding_size),
    ``bias``, ``hidden`` (embedding_size, hidden_size), ``hidden_bias``, ``output`` (hidden_size,),
    ``output_bias`` (1,); float32. `sigmoid`: squash the output into (0, 1).
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]], sigmoid: bool = True) -> None:
        self.weights = weights
        self.sigmoid = sigmoid

    def sample_part(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first layer's sample part, shape (m, embedding_size)."""
        part: NDArray[np.float32] = features @ self.weights["sample"]
        part += self.weights["bias"]
        return part

    def predict(
        self, sample_part: NDArray[np.float32], codes: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return the output for every sample and candidate.

        `sample_part` (m, embedding_size): from :meth:`sample_part`. `codes` (n_candidates, n_exits
        + 1). Returns shape (m, n_candidates).
        """
        w = self.weights
        path_part = codes.astype(np.float32) @ w["path"]
        out = np.empty((len(sample_part), len(codes)), dtype=np.float32)
        for start in range(0, len(out), ROWS):
            rows = slice(start, start + ROWS)
            layer = sample_part[rows, None, :] + path_part
            np.maximum(layer, 0, out=layer)
            layer = layer.reshape(-1, layer.shape[-1]) @ w["hidden"]
            layer += w["hidden_bias"]
            np.maximum(layer, 0, out=layer)
            out[rows] = (layer @ w["output"]).reshape(-1, len(codes))
        out += w["output_bias"]
        if self.sigmoid:
            np.negative(out, out=out)
            np.minimum(out, 80, out=out)  # exp of more overflows float32
            np.exp(out, out=out)
            out += 1
            np.reciprocal(out, out=out)
        return out


def predict_flat(
    estimator: BaseEstimator, features: NDArray[np.float32], codes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what a scikit-learn regressor predicts of every row and path code, (m, n_codes)."""
    n, k = len(features), len(codes)
    if n == 0:
        return np.empty((0, k), dtype=np.float32)
    inputs = np.hstack([np.repeat(features, k, axis=0), np.tile(codes, (n, 1))])
    return np.clip(estimator.predict(inputs), 0, 1).reshape(n, k).astype(np.float32)


class FittedGates:
    """Judges with one fitted module a gate: a network, or a scikit-learn regressor."""

    features: str
    paths_: PathTree
    gates_: list[GateNetwork | BaseEstimator]
    _layouts: list[GateLayout]
    _inputs: Inputs

    def judge(
        self,
        prefixes: NDArray[np.intp],
        history: Sequence[NDArray[np.floating]],
        context: NDArray[np.floating] | None,
    ) -> list[Judged]:
        """Predict for samples before one gate, as of :class:`ErrorModel`; context is not read."""
        gate = int(self.paths_.depths[prefixes[0]]) - 1
        layout, module = self._layouts[gate], self.gates_[gate]
        network, rich = isinstance(module, GateNetwork), self.features == "rich"
        if not rich:
            seen = gate_features(history[-1], history[-2] if len(history) > 1 else None)
            seen = module.sample_part(seen) if network else seen
        found: list[Judged] = []
        for prefix, rows in alike(prefixes):
            if rich:
                passed = [p[rows] for p in history]
                mine = self._inputs.of(prefix, passed, None).astype(np.float32)
                mine = module.sample_part(mine) if network else mine
            else:
                mine = seen if len(rows) == len(seen) else seen[rows]
            line = layout.candidates[np.flatnonzero(layout.prefixes == prefix)[0]]
            candidates = line[line >= 0]
            codes = self.paths_.encoding[candidates].astype(np.float32)
            judge = module.predict if network else partial(predict_flat, module)
            found.append((rows, candidates, judge(mine, codes)))
        return found
