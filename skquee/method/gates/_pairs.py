"""Pairs of a sample and a prefix, laid out to train one gate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skquee.method.gates._learning import GateData
from skquee.method.gates._network import GateLayout, gate_features
from skquee.method.gates._rich import GateInputs, training_parts
from skquee.values import PathProbabilities
from skquee.values._checks import check_probabilities

__all__ = ["flat_inputs", "gate_data"]


def gate_data(
    table: PathProbabilities,
    layout: GateLayout,
    goals: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
    rows: NDArray[np.intp],
    max_pairs: int,
    rng: np.random.Generator,
    rich: GateInputs | None,
) -> GateData:
    """Gather the pairs of `rows` and prefixes, at most `max_pairs`, drawn uniformly."""
    tree = table.paths
    n_prefixes = len(layout.prefixes)
    total = len(rows) * n_prefixes
    pairs = np.arange(total)
    if total > max_pairs:
        pairs = np.sort(rng.choice(total, size=max_pairs, replace=False))
    lines, positions = np.divmod(pairs, len(rows))
    chosen = rows[positions]
    width, parts = 2 * table.shape[2] + 4, training_parts(len(table))
    if rich is not None:
        # One width for all prefixes of a gate: it depends on the depth alone.
        width = rich.rows(table[:1].with_context(None), int(layout.prefixes[0])).shape[1]
    features = np.empty((len(pairs), width), dtype=np.float32)
    for line, prefix in enumerate(layout.prefixes):
        mine = np.flatnonzero(lines == line)
        parent = tree.parents[prefix]
        for part in np.array_split(mine, max(1, len(mine) // 8192)):
            if part.size:
                chunk = table[chosen[part]]
                previous = None if parent < 0 else chunk.path(parent)
                now = chunk.path(int(prefix))
                check_probabilities(now, chosen[part], [tree.names[prefix]] * len(now))
                if rich is None:
                    features[part] = gate_features(now, previous)
                else:
                    features[part] = rich.rows(
                        chunk.with_context(None), int(prefix), parts[chosen[part]]
                    )
    targets = goals[chosen, lines]
    targets[layout.candidates[lines] < 0] = np.nan
    return GateData(
        features,
        lines,
        tree.encoding.astype(np.float32)[np.maximum(layout.candidates, 0)],
        targets,
        None if weights is None else weights[chosen],
    )


def flat_inputs(data: GateData) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return one input row per known target: sample part beside path code."""
    known = np.isfinite(data.targets)
    rows, places = np.nonzero(known)
    return np.hstack([data.features[rows], data.codes[data.lines[rows], places]]), known
