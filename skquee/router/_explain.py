"""``explain_route``: what each gate saw, predicted and chose."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skquee.base import Routes, Visit
from skquee.paths import PathTree
from skquee.policy import OptionValue, Pessimistic
from skquee.probabilities import PathProbabilities

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


class ExplainMixin:
    """Gives a router ``explain_route``."""

    def explain_route(self, X: Any) -> pd.DataFrame:
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
            - ``candidate``, ``cost``: a path that starts with the prefix; the prefix itself is
              exit now.
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
        >>> told = router.explain_route(table[0:1])
        >>> told.loc[told.aimed, ["gate", "prefix", "candidate", "step"]].values.tolist()
        [[1, '8', '8-8', '8-8'], [2, '8-8', '8-8', 'exit']]
        """
        import pandas as pd

        bare = not isinstance(X, PathProbabilities) and not hasattr(X, "toarray")
        if bare and np.ndim(X) == 2:
            X = np.asarray(X)[None]
        notes, routes = _noted_route(self, X)
        lines = [*_gate_lines(notes, self, routes), _end_lines(self, routes)]
        frame = pd.DataFrame(
            {name: np.concatenate([part[name] for part in lines]) for name in COLUMNS}
        )
        return frame.sort_values(["row", "gate"], kind="stable", ignore_index=True)


@dataclass(frozen=True)
class _Judgement:
    """What a gate predicted for samples on one prefix, and the candidates it aims at."""

    rows: NDArray[np.intp]
    prefix: int | None
    errors: NDArray[np.floating]
    lambda_: float
    aimed: NDArray[np.intp]


@dataclass(frozen=True)
class _Note:
    """One call of ``_decide``; the answer is that of an exit at this gate."""

    visit: Visit
    steps: NDArray[np.intp]
    seen: NDArray[np.floating]
    answer: NDArray[np.floating] | None
    judgements: list[_Judgement]


def _noted_route(router: Any, X: Any) -> tuple[list[_Note], Routes]:
    """Route by a shallow copy of the router that notes what its gates do."""
    other = copy.copy(router)
    decide, judge, aim = other._decide, other._judge, other._aim
    notes: list[_Note] = []
    judged: list[_Judgement] = []
    standing = np.empty(0, dtype=np.intp)

    def noting_judge(*args: Any) -> Iterator[Any]:
        nonlocal standing
        for rows, candidates, errors in judge(*args):
            standing = rows
            yield rows, candidates, errors

    def noting_aim(
        errors: NDArray[np.floating],
        costs: NDArray[np.float64],
        lambda_: float,
        prefix: int | None,
    ) -> NDArray[np.intp]:
        aimed: NDArray[np.intp] = aim(errors, costs, lambda_, prefix)
        judged.append(_Judgement(standing, prefix, errors, lambda_, aimed))
        return aimed

    def noting_decide(visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        nonlocal standing
        judged.clear()
        standing = np.arange(len(visit.rows))
        steps, seen = decide(visit)
        if visit.now is None:
            # Where the first step is free, others are tried after this one.
            noted, answer = [_first(judged[0], visit, steps, seen)], None
        else:
            noted = list(judged)
            answer = other._answer(visit.prefixes, visit.now, visit.history)
        notes.append(_Note(visit, steps, seen, answer, noted))
        return steps, seen

    vars(other).update(_decide=noting_decide, _judge=noting_judge, _aim=noting_aim)
    return notes, other.route(X)


def _first(
    judgement: _Judgement, visit: Visit, steps: NDArray[np.intp], seen: NDArray[np.floating]
) -> _Judgement:
    """Return what is aimed at before anything has run, where ``first`` may overrule the policy."""
    tree, n = visit.tree, len(visit.rows)
    errors = np.broadcast_to(judgement.errors, (n, tree.n_paths))
    aimed = np.broadcast_to(judgement.aimed, n).copy()
    roots = tree.ancestors[:, 0]
    for row in np.flatnonzero(roots[aimed] != steps).tolist():
        same = np.flatnonzero((roots == steps[row]) & (errors[row] == seen[row]))
        aimed[row] = same[np.argmin(tree.path_costs[same])]
    return _Judgement(judgement.rows, None, errors, judgement.lambda_, aimed)


def _gate_lines(notes: Sequence[_Note], router: Any, routes: Routes) -> Iterator[dict[str, Any]]:
    tree = routes.tree
    for note in notes:
        n = len(note.visit.rows)
        if note.answer is None:
            labels, sure = np.full(n, None, dtype=object), np.full(n, np.nan)
        else:
            labels, sure = router.classes_[note.answer.argmax(axis=1)], note.answer.max(axis=1)
        for judged in note.judgements:
            if judged.prefix is None:
                prefix, candidates = -1, np.arange(tree.n_paths)
            else:
                prefix, candidates = judged.prefix, tree.descendants(judged.prefix)
            rows, wide = judged.rows, len(candidates)
            yield _lines(
                tree,
                rows=np.repeat(note.visit.rows[rows], wide),
                gate=note.visit.depth,
                prefix=np.full(len(rows) * wide, prefix),
                candidates=np.tile(candidates, len(rows)),
                errors=judged.errors.ravel(),
                scores=_scores(router, judged, tree.path_costs[candidates]).ravel(),
                aimed=(np.arange(wide) == judged.aimed[:, None]).ravel(),
                steps=np.repeat(note.steps[rows], wide),
                labels=np.repeat(labels[rows], wide),
                sure=np.repeat(sure[rows], wide),
            )


def _end_lines(router: Any, routes: Routes) -> dict[str, Any]:
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
    errors: NDArray[np.floating],
    scores: NDArray[np.floating],
    aimed: NDArray[np.bool_],
    steps: NDArray[np.intp],
    labels: NDArray[Any],
    sure: NDArray[np.floating],
) -> dict[str, Any]:
    # The last name, at -1, is that of the path before anything has run.
    names = np.array([*tree.names, ""], dtype=object)
    values = (
        rows,
        np.broadcast_to(gate, len(rows)),
        names[prefix],
        names[candidates],
        tree.path_costs[candidates],
        errors.astype(np.float64),
        scores,
        aimed,
        np.where(steps == prefix, "exit", names[steps]),
        labels,
        sure.astype(np.float64),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _scores(router: Any, judged: _Judgement, costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the policy compares, where it is ``lambda_ * cost`` plus a changed error."""
    errors = np.asarray(judged.errors, dtype=np.float64)
    ahead = np.ones(len(costs))
    ahead[0] = judged.prefix is None
    named = isinstance(router.policy, str) and router.policy != "open-loop"
    policy = router.policy_ if named or hasattr(router.policy, "fit") else None
    if isinstance(policy, OptionValue):
        errors = errors * (1 - float(policy.k_ or 0) * ahead)
    elif isinstance(policy, Pessimistic):
        errors = errors + policy.margin * ahead
    return judged.lambda_ * costs + errors
