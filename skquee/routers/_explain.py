"""``explain_route``: what each gate saw, predicted and chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.method.policy import OptionValue, Pessimistic
from skquee.routers._deciding import GateDecider, Judgement
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import is_flat
from skquee.values._optional import require
from skquee.walk import Decider, Routes, RoutingMixin, Visit, walk
from skquee.walk._decider import History

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ExplainMixin"]

COLUMNS = (
    "row",
    "gate",
    "prefix",
    "candidate",
    "cost",
    "predicted_error",
    "score",
    "aimed",
    "step",
    "label",
    "confidence",
)


class ExplainMixin(RoutingMixin):
    """Gives a router ``explain_route``.

    Examples
    --------
    >>> from skquee.router import ExplainMixin, default_router
    >>> isinstance(default_router(), ExplainMixin)
    True
    """

    def explain_route(self, X: ArrayLike) -> pd.DataFrame:
        """Tell what every gate on a sample's way saw, predicted and chose.

        The samples are routed as by ``route``, and only what their paths need is run.

        Parameters
        ----------
        X : PathProbabilities, or array-like of shape (n_columns, n_classes) or (n_samples, \
n_columns, n_classes)
            One row, or several. ``table[i : i + 1]`` of a lazy table runs only the route of row
            ``i``; ``table[i]`` is an array, for which every path has run.

        Returns
        -------
        pandas.DataFrame
            One line for every gate and path that it may aim at:

            - ``row``: place in X.
            - ``gate``: blocks run before it. Gate 0 is asked before anything has run, where the
              tree has several first steps; it knows the mean errors, or what the context says.
            - ``prefix``: the path so far, "" at gate 0.
            - ``candidate``, ``cost``: a path that starts with the prefix, and what the whole of
              it costs (unit: ``attrs["cost_unit"]``); the prefix itself is exit now.
            - ``predicted_error``: its predicted probability of error.
            - ``score``: what the policy compares, ``lambda_ * cost + error``. "option-value" and
              "pessimistic" change the error of paths ahead, and so it is changed here; of other
              policies it is the open-loop score.
            - ``aimed``: whether the gate aims at this candidate.
            - ``step``: "exit", or the next path that runs.
            - ``label``, ``confidence``: answer of an exit here, and its probability; None and NaN
              at gate 0.

            A path that runs to its end passes no gate there. Its last line has neither error nor
            score, and tells the label.

        Raises
        ------
        ValueError
            If X is no table of the paths given to fit.

        Examples
        --------
        >>> from skquee import CostAwareRouter
        >>> from skquee.testing import make_path_probabilities
        >>> table, y = make_path_probabilities(500)
        >>> router = CostAwareRouter(0.3, regressor="logistic", random_state=0).fit(table, y)
        >>> told = router.explain_route(table[1:2])
        >>> told.loc[told.aimed, ["gate", "prefix", "candidate", "step"]].values.tolist()
        [[1, '8', '8-8', '8-8'], [2, '8-8', '8-8', 'exit']]
        """
        pd = require("pandas", "explain_route")

        bare = not isinstance(X, PathProbabilities) and not hasattr(X, "toarray")
        if bare and np.ndim(X) == 2:
            X = np.asarray(X)[None]
        self.check_as_fitted()
        self.check_knobs()
        table = self.read_table(X, reset=False)
        decider = self.make_decider(table.paths)
        assert isinstance(decider, GateDecider)
        notes: list[_Note] = []
        routes = walk(Recorded(decider.tree, decider.classes, decider, notes), table)
        lines = [*_gate_lines(notes, decider, table.facts.outcomes), _end_lines(routes)]
        frame = pd.DataFrame(
            {name: np.concatenate([part[name] for part in lines]) for name in COLUMNS}
        )
        frame = frame.sort_values(["row", "gate"], kind="stable", ignore_index=True)
        frame.attrs["cost_unit"] = table.paths.cost_unit
        return frame


@dataclass(frozen=True, eq=False)
class _Note:
    """What one gate did; the answer is that of an exit here."""

    visit: Visit
    steps: NDArray[np.intp]
    answer: NDArray[np.floating] | None
    said: NDArray[np.intp] | None
    judgements: list[Judgement]


@dataclass(frozen=True, eq=False)
class Recorded(Decider):
    """Decide as another does, and note what its gates see."""

    inner: GateDecider
    notes: list[_Note]

    def step(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        """Decide; see :class:`skquee.walk.Decider`."""
        judged = list(self.inner.judge(visit))
        steps, seen = (
            self.inner.step(visit) if visit.now is None else (self.inner.settle(visit, judged))
        )
        answer = said = None
        if visit.now is not None:
            answer = self.inner.answer(visit.prefixes, visit.now, visit.history)
            said = self.inner.answering(visit.prefixes, visit.now, visit.history)
            before, flat = visit.memory.get("explained"), is_flat(answer)
            if before is not None and flat.any():  # an abstention: the exit before answers
                answer = np.where(flat[:, None], before, answer)
            visit.memory["explained"] = answer
        self.notes.append(_Note(visit, steps, answer, said, judged))
        return steps, seen

    def answer(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.floating]:
        """Answer; see :class:`skquee.walk.Decider`."""
        return self.inner.answer(paths, now, history)

    def answering(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.intp]:
        """Tell who answers; see :class:`skquee.walk.Decider`."""
        return self.inner.answering(paths, now, history)


def _gate_lines(
    notes: Sequence[_Note], decider: GateDecider, outcomes: bool
) -> Iterator[dict[str, object]]:
    tree = decider.tree
    for note in notes:
        n = len(note.visit.rows)
        if note.answer is None:
            labels, sure = np.full(n, None, dtype=object), np.full(n, np.nan)
        else:
            # Of a table of outcomes the label is the model that answers.
            at = tree.path_columns[note.said] if outcomes else note.answer.argmax(axis=1)
            labels, sure = decider.classes[at], note.answer.max(axis=1)
        for judged in note.judgements:
            prefix = -1 if judged.prefix is None else judged.prefix
            rows, candidates = judged.rows, judged.candidates
            wide = len(candidates)
            costs = np.broadcast_to(judged.costs, (len(rows), wide))
            yield _lines(
                tree,
                rows=np.repeat(note.visit.rows[rows], wide),
                gate=note.visit.depth,
                prefix=np.full(len(rows) * wide, prefix),
                candidates=np.tile(candidates, len(rows)),
                costs=costs.ravel(),
                errors=judged.errors.ravel(),
                scores=_scores(decider, judged).ravel(),
                aimed=(np.arange(wide) == judged.aimed[:, None]).ravel(),
                steps=np.repeat(note.steps[rows], wide),
                labels=np.repeat(labels[rows], wide),
                sure=np.repeat(sure[rows], wide),
            )


def _end_lines(routes: Routes) -> dict[str, object]:
    """Return a line for each sample that ran to the end of a path, where no gate is."""
    tree = routes.tree
    rows = np.flatnonzero(~tree.is_inner[routes.paths])
    paths = routes.paths[rows]
    unknown = np.full(len(rows), np.nan)
    return _lines(
        tree,
        rows=rows,
        gate=tree.depths[paths],
        prefix=paths,
        candidates=paths,
        costs=routes.costs[rows],
        errors=unknown,
        scores=unknown,
        aimed=np.full(len(rows), True),
        steps=paths,
        labels=routes.labels[rows],
        sure=routes.probabilities[rows].max(axis=1),
    )


def _lines(
    tree: PathTree,
    *,
    rows: NDArray[np.intp],
    gate: int | NDArray[np.intp],
    prefix: NDArray[np.intp],
    candidates: NDArray[np.intp],
    costs: NDArray[np.float64],
    errors: NDArray[np.floating],
    scores: NDArray[np.floating],
    aimed: NDArray[np.bool_],
    steps: NDArray[np.intp],
    labels: NDArray[np.generic],
    sure: NDArray[np.floating],
) -> dict[str, object]:
    # The last name, at -1, is that of the path before anything has run.
    names = np.array([*tree.names, ""], dtype=object)
    values = (
        rows,
        np.broadcast_to(gate, len(rows)),
        names[prefix],
        names[candidates],
        costs,
        errors.astype(np.float64),
        scores,
        aimed,
        np.where(steps == prefix, "exit", names[steps]),
        labels,
        sure.astype(np.float64),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _scores(decider: GateDecider, judged: Judgement) -> NDArray[np.float64]:
    """Return what the policy compares, where it is ``lambda_ * cost`` plus a changed error."""
    errors = np.asarray(judged.errors, dtype=np.float64)
    ahead = np.ones(len(judged.candidates))
    ahead[0] = judged.prefix is None
    policy = decider.policy
    if isinstance(policy, OptionValue):
        errors = errors * (1 - float(getattr(policy, "k_", policy.k) or 0) * ahead)
    elif isinstance(policy, Pessimistic):
        errors = errors + policy.margin * ahead
    return decider.lambda_ * judged.costs + errors
