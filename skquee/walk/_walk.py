"""The one walk: rows through a tree, gate by gate, running what each one's path needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_probabilities, is_flat
from skquee.values._table import Walk
from skquee.walk._decider import Decider
from skquee.walk._visit import Routes, Visit

__all__ = ["ends", "labels_of", "walk"]

# Rows that passed each exit, in rising order, and what it answered them.
Passed = list[tuple[NDArray[np.intp], NDArray[np.floating]]]


def walk(decider: Decider, table: PathProbabilities) -> Routes:
    """Route rows by what a decider says.

    A flat vector (every class alike) is an abstention: the exit before answers.

    Parameters
    ----------
    decider : Decider
        Over the table's tree.
    table : PathProbabilities
        Stored or lazy, at least one row.

    Returns
    -------
    Routes

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.walk import walk
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> walk(ThresholdRouter(0.9).fit(table, y).decider(), table[:3]).paths
    array([2, 5, 0])
    """
    n = table.shape[0]
    if n <= table.chunk_size:
        return _walk_chunk(decider, table, 0, n)
    return Routes.joined(
        [_walk_chunk(decider, chunk, rows.start, len(chunk)) for rows, chunk in table.chunks()]
    )


def _walk_chunk(decider: Decider, table: PathProbabilities, start: int, n: int) -> Routes:
    tree, known = decider.tree, table.facts
    inner, n_exits = tree.is_inner, tree.n_exits
    run = table.walk()
    merge = getattr(run, "merge", None)
    visited = np.full((n, n_exits), -1, dtype=np.intp)
    errors = np.full((n, n_exits), np.nan)
    # What was answered at each exit, and by which rows: read only where it is asked for.
    passed: Passed = []
    memory: dict[str, NDArray[np.generic]] = {}
    row_costs = None if known.call_costs is None else table.row_path_costs()
    # What a decision may look at; what was paid is told afterwards.
    known_costs = row_costs if known.costs_known else None

    rows = np.arange(n)
    at = np.full(n, -1, dtype=np.intp)
    now = previous = None
    for depth in range(n_exits):
        if depth == 0 and len(tree.roots) == 1:
            goal = np.full(n, tree.roots[0])
        else:
            visit = Visit(
                depth,
                at,
                now,
                previous,
                rows + start,
                tree,
                history=partial(_history, tuple(passed), rows),
                activations=_activations(run, rows) if depth else None,
                memory=memory,
                context=None if known.context is None else known.context[rows],
                costs=None if known_costs is None else known_costs[rows],
            )
            goal, errors[rows, depth] = decider.step(visit)
            going = goal != at
            if not going.all():
                rows, goal = rows[going], goal[going]
                now = None if now is None else now[going]
                memory = {name: values[going] for name, values in memory.items()}
                if rows.size == 0:
                    break
        previous, at = now, goal if merge is None else merge(goal)
        now = run.advance(rows, at)
        check_probabilities(now, rows + start, _Names(tree, at))
        passed.append((rows, now))
        visited[rows, depth] = at
        stays = inner[at]
        if not stays.all():
            rows, at, now = rows[stays], at[stays], now[stays]
            previous = None if previous is None else previous[stays]
            memory = {name: values[stays] for name, values in memory.items()}
            if rows.size == 0:
                break
    paths = ends(visited)
    probabilities = _answers(decider, visited, passed)
    said = _answering(decider, visited, passed) if known.outcomes else paths
    return Routes(
        labels=labels_of(decider, table, said, probabilities),
        paths=paths,
        costs=tree.path_costs[paths] if row_costs is None else row_costs[np.arange(n), paths],
        probabilities=probabilities,
        predicted_errors=errors,
        visited=visited,
        counts=run.counts,
        tree=tree,
    )


def _answers(decider: Decider, visited: NDArray[np.intp], passed: Passed) -> NDArray[np.floating]:
    """Return what every row answers at the end of its path, shape (n_samples, n_classes)."""
    # Every row passes the first exit: who leaves there has answered, most of them often.
    first, now = passed[0]
    final = decider.answer(visited[:, 0], now, partial(_history, passed[:1], first)).copy()
    asked = (visited >= 0).sum(axis=1)
    for depth in range(len(passed), 1, -1):
        rows = np.flatnonzero(asked == depth)
        if rows.size == 0:
            continue
        there, now = passed[depth - 1]
        now = now if len(there) == len(rows) else now[np.searchsorted(there, rows)]
        history = partial(_history, passed[:depth], rows)
        answer = decider.answer(visited[rows, depth - 1], now, history)
        flat = is_flat(answer)  # an abstention: the exit before answers
        if flat.any():
            asked[rows[flat]] = depth - 1
            rows, answer = rows[~flat], answer[~flat]
        final[rows] = answer
    return final


def _answering(decider: Decider, visited: NDArray[np.intp], passed: Passed) -> NDArray[np.intp]:
    """Return the path at whose end the exit stands that answers, of a table of outcomes."""
    said, last = np.empty(len(visited), dtype=np.intp), (visited >= 0).sum(axis=1)
    for depth in range(1, len(passed) + 1):
        rows = np.flatnonzero(last == depth)
        if rows.size:
            history = partial(_history, passed[:depth], rows)
            said[rows] = decider.answering(visited[rows, depth - 1], history()[-1], history)
    return said


def labels_of(
    decider: Decider,
    table: PathProbabilities,
    paths: NDArray[np.intp],
    probabilities: NDArray[np.floating],
) -> NDArray[np.generic]:
    """Return the labels answered; of a table of outcomes, the models that answer."""
    if table.facts.outcomes:
        return decider.classes[decider.tree.path_columns[paths]]
    return decider.classes[probabilities.argmax(axis=1)]


def ends(visited: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the last path of each row of ``Routes.visited``."""
    return visited[np.arange(len(visited)), (visited >= 0).sum(axis=1) - 1]


class _Names(Sequence[str]):
    """Names of paths, looked up only where a message needs one."""

    def __init__(self, tree: PathTree, paths: NDArray[np.intp]) -> None:
        self.tree, self.paths = tree, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> str:  # type: ignore[override]
        return self.tree.names[int(self.paths[place])]


def _history(
    passed: Sequence[tuple[NDArray[np.intp], NDArray[np.floating]]], rows: NDArray[np.intp]
) -> list[NDArray[np.floating]]:
    """Return what rows answered at each exit; the rows of every exit stand in rising order."""
    return [
        answers if len(there) == len(rows) else answers[np.searchsorted(there, rows)]
        for there, answers in passed
    ]


def _activations(run: Walk, rows: NDArray[np.intp]) -> Callable[[], object] | None:
    read = getattr(run, "activations", None)
    return None if read is None else partial(read, rows)
