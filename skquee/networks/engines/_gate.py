"""A stand-in for a gate: networks may not import what decides, but have to tell its time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["gate_like"]

WIDTHS = (8, 16)


def gate_like(n_rows: int, n_classes: int, n_paths: int) -> Callable[[], NDArray[np.intp]]:
    """Return a function that does what a gate of usual size and the walk around it do.

    `n_rows`, `n_classes`, `n_paths`: size of the batch, of the answers and of the tree. Returns
    takes as long as one gate, roughly; what it returns means nothing.
    """
    embedding, hidden = WIDTHS
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(n_classes), size=n_rows).astype(np.float32)
    first = random.normal(size=(2 * n_classes + 4, embedding)).astype(np.float32)
    codes = random.normal(size=(n_paths, embedding)).astype(np.float32)
    second = random.normal(size=(embedding, hidden)).astype(np.float32)
    third = random.normal(size=hidden).astype(np.float32)
    costs, rows, paths = random.random(n_paths), np.arange(n_rows), np.zeros(n_rows, dtype=np.intp)

    def run() -> NDArray[np.intp]:
        # What comes out of a block is checked and noted.
        good = (np.abs(p.sum(axis=1) - 1) < 1).all() and (p.min(axis=1) >= 0).all()
        answers, final = p.argmax(axis=1), p.copy()
        # The gate's input, for this exit and the one before.
        u = np.zeros((n_rows, 2 * n_classes + 4), dtype=np.float32)
        u[:, :n_classes] = u[:, n_classes:-4] = p
        for place in (-4, -3):
            u[:, place] = -np.einsum("nc,nc->n", p, np.log(np.maximum(p, 1e-30)))
            u[:, place + 2] = p.max(axis=1)
        # Errors of every path, and the best one.
        for prefix in np.unique(paths[rows]):
            mine = np.flatnonzero(paths == prefix)
            inner = np.maximum((u[mine] @ first)[:, None] + codes, 0)
            errors = 1 / (1 + np.exp(-(np.maximum(inner @ second, 0) @ third)))
            order = np.argsort(costs, kind="stable")
            scores = errors[:, order] + costs[order]
            best = order[np.argmax(scores <= scores.min(axis=1, keepdims=True), axis=1)]
        # Rows that go on, and where they stand.
        going = np.flatnonzero((best >= 0) & good)
        place_of = np.full(n_rows, -1)
        place_of[rows[going]] = np.arange(len(going))
        final[going] = p[going]
        return np.where(best[going] >= 0, paths[going], answers[going])

    return run
