"""Richer gate inputs: what every exit so far says of a sample, whatever the classes are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.method.gates._network import gate_features, known_entropy
from skquee.values import PathProbabilities

__all__ = ["FEATURES", "ClassErrorRates", "GateInputs", "check_goals", "rich_features"]

FEATURES = ("paper", "rich")

TINY = 1e-6
N_TOP = 3
# Rows that the mean error of a path counts as, in the error rate of a class.
PRIOR_ROWS = 10.0
# Parts of the training rows: each gets the rates that the others counted.
N_PARTS = 5
# Rows that are worked out together: what stands between fits a processor's cache.
BLOCK = 4096


def rich_features(
    history: Sequence[NDArray[np.floating]],
    rates: Sequence[NDArray[np.floating]],
    context: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Return what a gate sees of samples, in numbers that do not depend on the classes' order.

    Of this exit: the largest probabilities, log-odds of the largest, margin, entropy, effective
    number of classes, and how often its predicted class is wrong. Of each exit before: log-odds
    of its largest probability, its entropy, whether it agrees, what each gives the other's
    answer, and the divergence between them. Then how many exits in a row agree.

    Parameters
    ----------
    history : sequence of ndarray of shape (m, n_classes)
        Probabilities at every exit so far, in order.
    rates : sequence of ndarray of shape (m,)
        Error rate of the class that each exit predicts, from :class:`ClassErrorRates`.
    context : ndarray of shape (m, n_context), default=None
        What is known of samples before anything runs.

    Returns
    -------
    ndarray of shape (m, n_features)

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.gates import rich_features
    >>> first, second = np.array([[0.6, 0.4]]), np.array([[0.1, 0.9]])
    >>> rates = [np.array([0.3]), np.array([0.2])]
    >>> rich_features([first], rates[:1]).shape, rich_features([first, second], rates).shape
    ((1, 7), (1, 14))
    """
    parts: list[NDArray[np.floating]] = [] if context is None else [np.asarray(context)]
    if not history:
        return np.column_stack(parts).astype(np.float64)
    m = len(history[-1])
    if m > BLOCK:
        cut = range(BLOCK, m, BLOCK)
        pieces = [np.split(p, cut) for p in (*history, rates[-1], *parts)]
        t = len(history)
        return np.concatenate(
            [rich_features(p[:t], p[t : t + 1], *p[t + 1 :]) for p in zip(*pieces, strict=True)]
        )
    # All exits together: for some rows a call of NumPy costs as much as its sums.
    exits = np.asarray(history, dtype=np.float64)
    now, before, rows = exits[-1], exits[:-1], np.arange(m)
    said, logs = exits.argmax(axis=2), np.log(np.maximum(exits, TINY))
    spread, number = known_entropy(exits), 1 / np.maximum((now**2).sum(axis=1), TINY)
    top = np.sort(now, axis=1)[:, : -N_TOP - 1 : -1]
    last = len(before)
    sure = exits.max(axis=2)
    if last:
        sure = np.concatenate([sure, now[rows, said[:-1]], before[:, rows, said[-1]]])
    odds = _log_odds(sure)
    each = odds[last], top[:, 0] - top[:, 1], spread[-1], number, rates[-1]
    parts += [top, *(column[:, None] for column in each)]
    if last:
        agrees = said[:-1] == said[-1]
        parting = (now * (logs[-1] - logs[:-1])).sum(axis=2)
        sides = odds[last + 1 : 2 * last + 1], odds[2 * last + 1 :]
        pairs = np.stack([odds[:last], spread[:-1], agrees, *sides, parting], axis=2)[::-1]
        parts.append(pairs.transpose(1, 0, 2).reshape(m, 6 * last))
        parts.append(1.0 + np.logical_and.accumulate(agrees[::-1]).sum(axis=0)[:, None])
    return np.concatenate(parts, axis=1, dtype=np.float64)


def _log_odds(p: NDArray[np.floating]) -> NDArray[np.float64]:
    bounded = np.minimum(np.maximum(p, TINY), 1 - TINY)
    return np.log(bounded / (1 - bounded))


def check_goals(targets: ArrayLike, table: PathProbabilities) -> NDArray[np.float64]:
    """Return what a gate learns, probabilities of shape (n_samples, n_paths)."""
    goals = np.asarray(targets, dtype=np.float64)
    shape = len(table), table.paths.n_paths
    if goals.shape != shape:
        raise ValueError(
            f"targets must have shape (n_samples, n_paths) = {shape}, got {goals.shape}."
        )
    if not np.isfinite(goals).all() or goals.min() < 0 or goals.max() > 1:
        raise ValueError("targets must be probabilities of error, between 0 and 1.")
    return goals


class ClassErrorRates:
    """How often each path is wrong when it predicts a class, shrunken towards its mean.

    ``(wrong_c + a * mean) / (n_c + a)`` with ``a = 10``. For the rows they were counted on, those
    of the other parts of :func:`training_parts`: a rate without the row alone would tell the
    row's own error, by how far it lies from that of its class.

    `wrong` (n_samples, n_paths): errors of each path's answer, or targets of them.
    """

    def __init__(self, table: PathProbabilities, wrong: NDArray[np.floating]) -> None:
        tree, n_classes = table.paths, table.shape[2]
        shape = N_PARTS, n_classes
        parts, size = training_parts(len(table)), N_PARTS * n_classes
        self.counts = np.zeros((tree.n_paths, *shape))
        self.sums = np.zeros((tree.n_paths, *shape))
        for path in range(tree.n_paths):
            cells = parts * n_classes + table.path(path).argmax(axis=1)
            self.counts[path] = np.bincount(cells, minlength=size).reshape(shape)
            self.sums[path] = np.bincount(cells, wrong[:, path], minlength=size).reshape(shape)
        self.means = wrong.mean(axis=0)
        self._fold()

    def _fold(self) -> None:
        """Work out the rates (n_paths, n_classes) of rows that were not counted, for every gate."""
        counts, sums = self.counts.sum(axis=1), self.sums.sum(axis=1)
        self.rates = self._shrunken(counts, sums, self.means[:, None])

    def __setstate__(self, state: dict[str, NDArray[np.float64]]) -> None:
        self.__dict__.update(state)
        self._fold()  # files of earlier builds hold none

    def of(
        self,
        path: int,
        answers: NDArray[np.intp],
        parts: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Return the error rate of the class that each row is given.

        `answers` (m,): class it predicts for each row. `parts` (m,): part of each row, where they
        were counted: it is left out. Returns shape (m,).
        """
        if parts is None:
            return self.rates[path, answers]
        counts, sums = (
            a[path].sum(axis=0)[answers] - a[path, parts, answers] for a in (self.counts, self.sums)
        )
        return self._shrunken(counts, sums, self.means[path])

    @staticmethod
    def _shrunken(
        counts: NDArray[np.float64], sums: NDArray[np.float64], mean: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return rates, of counts alike in shape."""
        return (sums + PRIOR_ROWS * mean) / (counts + PRIOR_ROWS)


def training_parts(n_samples: int) -> NDArray[np.intp]:
    """Return the part of each training row, in random order.

    Returns shape (n_samples,).
    """
    return np.random.default_rng(0).permutation(n_samples) % N_PARTS


class GateInputs:
    """What gates see of samples, of one kind, for every prefix.

    `kind`: :func:`gate_features` of the last two exits (equation 13), or :func:`rich_features`.
    `table`: rows that gates are trained on. `targets` (n_samples, n_paths): their errors, or
    probabilities of error.
    """

    def __init__(self, kind: str, table: PathProbabilities, targets: NDArray[np.floating]) -> None:
        if kind not in FEATURES:
            raise ValueError(f"features must be one of {FEATURES}, got {kind!r}.")
        self.kind = kind
        self.tree = table.paths
        self.n_context = 0 if table.context is None else table.context.shape[1]
        self.rates = ClassErrorRates(table, targets) if kind == "rich" else None

    def of(
        self,
        prefix: int,
        history: Sequence[NDArray[np.floating]],
        context: NDArray[np.floating] | None,
        parts: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Return the features of samples on one prefix.

        `prefix`: by index; -1 before anything has run. `history` (m, n_classes): probabilities at
        its exits, in order. `context` (m, n_context): what is known of samples beforehand. `parts`
        (m,): of :func:`training_parts`, where these are the training rows. Returns shape (m,
        n_features).
        """
        found = 0 if context is None else context.shape[1]
        if found != self.n_context:
            advice = "..." if self.n_context else "None"
            raise ValueError(
                f"X has {found} context features, but the gates were trained with "
                f"{self.n_context}: give table.with_context({advice}) as in fit."
            )
        if self.rates is None:
            known = [] if context is None else [context]
            if history:
                known.append(gate_features(history[-1], history[-2] if len(history) > 1 else None))
            return np.column_stack(known).astype(np.float64)
        rates = []
        if history:  # that of the last exit alone is among the features
            rates.append(self.rates.of(prefix, history[-1].argmax(axis=1), parts))
        return rich_features(history, rates, context)

    def rows(
        self,
        table: PathProbabilities,
        prefix: int,
        parts: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Return the features of a table's rows on one prefix.

        `prefix`: by index; -1 before anything has run. `parts` (n_samples,): of
        :func:`training_parts`, where these are training rows. Returns shape (n_samples,
        n_features).
        """
        line = [] if prefix < 0 else self.tree.prefixes(prefix).tolist()
        made = [
            self.of(
                prefix,
                [chunk.path(path) for path in line],
                chunk.context,
                None if parts is None else parts[rows],
            )
            for rows, chunk in table.chunks()
        ]
        return np.concatenate(made)
