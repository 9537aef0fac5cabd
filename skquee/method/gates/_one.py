"""Gate inputs of one row on plain numbers: for ten numbers an array costs more than the sums."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skquee.method.gates._network import SMALLEST, GateNetwork
from skquee.method.gates._rich import N_TOP, TINY

__all__ = ["OneLinear", "OneNetwork", "Passed", "paper_row", "rich_row"]

Vector = list[float]


def paper_row(now: Vector, previous: Vector | None) -> Vector:
    """Return :func:`gate_features` of one row.

    `now`: probabilities at this exit. `previous`: those at the exit before.
    """
    if previous is None:
        return [*now, *[0.0] * len(now), _entropy(now), 0.0, 0.0, max(now)]
    return [*now, *previous, _entropy(now), _entropy(previous), max(previous), max(now)]


class Passed(list[Vector]):
    """Vectors of the exits passed by one row, with what gates have worked out of each."""

    __slots__ = ("facts", "row")

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[tuple[Any, ...]] = []
        self.row: Vector | None = None


def rich_row(history: Sequence[Vector], rate: float) -> Vector:
    """Return :func:`rich_features` of one row without context.

    `history`: probabilities at every exit so far, in order; of a :class:`Passed`, what earlier
    gates worked out is used again. `rate`: error rate of the class that the last exit predicts.
    """
    kept = history if isinstance(history, Passed) else Passed()
    facts = kept.facts
    if len(facts) == len(history) and facts[-1][0] is history[-1] and kept.row is not None:
        # An answer rule asks after the gate has: only the rate is another.
        found = kept.row.copy()
        found[len(facts[-1][2]) + 4] = rate
        return found
    del facts[len(history) :]
    for vector in history[len(facts) :]:
        facts.append(_facts(vector))
    now, answer, top, odds, spread, number, logs = facts[-1]
    found = [*top, odds, top[0] - top[1], spread, number, rate]
    if len(facts) > 1:
        run, unbroken = 1.0, True
        for earlier, said, _, sure, apart, _, before in facts[-2::-1]:
            agrees = said == answer
            unbroken = unbroken and agrees
            run += unbroken
            parting = 0.0
            for p, a, q in zip(now, logs, before, strict=True):
                parting += p * (a - q)
            own, theirs = _log_odds(now[said]), _log_odds(earlier[answer])
            found += (sure, apart, float(agrees), own, theirs, parting)
        found.append(run)
    kept.row = found.copy()
    return found


def _facts(vector: Vector) -> tuple[Any, ...]:
    """Return a vector, its answer, largest, log-odds, entropy, effective number and logarithms."""
    top = sorted(vector, reverse=True)[:N_TOP]
    square, spread = 0.0, 0.0
    logs = []
    for p in vector:
        square += p * p
        a = log(p if p > TINY else TINY)
        logs.append(a)
        if p > TINY:
            spread -= p * a
        elif p > SMALLEST:
            spread -= p * log(p)
    number = 1 / (square if square > TINY else TINY)
    return vector, vector.index(top[0]), top, _log_odds(top[0]), max(spread, 0.0), number, logs


def _log_odds(p: float) -> float:
    bounded = TINY if p < TINY else (1 - TINY if p > 1 - TINY else p)
    return log(bounded / (1 - bounded))


def _entropy(vector: Vector) -> float:
    total = 0.0
    for p in vector:
        if p > SMALLEST:
            total -= p * log(p)
    return total if total > 0 else 0.0


class OneJudge(Protocol):
    """An error model for one row on plain numbers."""

    def judge(self, prefix: int, history: Sequence[Vector]) -> Vector:
        """Return the predicted error of every path that is judged at `prefix`."""
        ...


class OneLinear:
    """Logistic error models over rich features or the paper's, for one row.

    `models` (n_features, n_judged): weights and bias of each prefix. `rates`: error rate of each
    class that a prefix may predict; None for the paper's features.
    """

    def __init__(
        self,
        models: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]],
        rates: dict[int, Vector] | None,
    ) -> None:
        self.models, self.rates = models, rates

    def judge(self, prefix: int, history: Sequence[Vector]) -> Vector:
        """Return the predicted error of every path that is judged at `prefix`."""
        now = history[-1]
        if self.rates is None:
            row = paper_row(now, history[-2] if len(history) > 1 else None)
            features = np.array(row, dtype=np.float32).astype(np.float64)
        else:
            features = np.array(rich_row(history, self.rates[prefix][now.index(max(now))]))
        weights, bias = self.models[prefix]
        scores = (features @ weights + bias).tolist()
        return [1 / (1 + exp(-score if score > -60 else 60.0)) for score in scores]


class OneNetwork:
    """The paper's network over the last two exits, for one row.

    `gates` (n_candidates, n_exits + 1): network and codes of the candidates of each prefix.
    """

    def __init__(self, gates: dict[int, tuple[GateNetwork, NDArray[np.float32]]]) -> None:
        self.gates = {
            prefix: (module.weights, codes @ module.weights["path"], module.sigmoid)
            for prefix, (module, codes) in gates.items()
        }

    def judge(self, prefix: int, history: Sequence[Vector]) -> Vector:
        """Return the predicted error of every path that starts with `prefix`."""
        w, paths, sigmoid = self.gates[prefix]
        row = paper_row(history[-1], history[-2] if len(history) > 1 else None)
        part = np.array(row, dtype=np.float32) @ w["sample"] + w["bias"]
        layer = np.maximum(part + paths, 0) @ w["hidden"] + w["hidden_bias"]
        scores = (np.maximum(layer, 0) @ w["output"] + w["output_bias"]).tolist()
        if not sigmoid:
            return list(scores)
        return [1 / (1 + exp(min(-score, 80.0))) for score in scores]
