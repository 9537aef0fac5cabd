"""Which of the visited exits answers, or how they answer together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold
from sklearn.utils.validation import has_fit_parameter

from skquee.method._ensemble import EnsembleAnswer
from skquee.method.gates import ErrorModel, PathErrorClassifier
from skquee.method.gates._one import OneLinear
from skquee.method.gates._protocol import Judged
from skquee.values import PathProbabilities, PathTree
from skquee.values._facts import RowFacts
from skquee.values._labels import correctness, wrong_of
from skquee.values._public import publish
from skquee.values._rows import alike

__all__ = ["ANSWERS", "AnswerRule", "EnsembleAnswer", "RecallAnswer", "cross_fitted_answers"]


class AnswerRule(Protocol):
    """What ``CostAwareRouter(answer=)`` takes: an estimator that answers for a path.

    It is cloned, and so has ``get_params`` (:class:`sklearn.base.BaseEstimator`). Held to by
    :func:`skquee.testing.check_answer_rule`. A rule that takes the answer of one exit as it is has
    ``chosen(path, history)``, too, which tells whose: losses and outcomes are then known. With
    ``gates_see_answers = True`` gates judge by what every exit so far would have answered, in place
    of what it says.

    Examples
    --------
    The surest exit answers:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skquee.testing import check_answer_rule
    >>> class Surest(BaseEstimator):
    ...     def fit(self, table, codes, sample_weight=None):
    ...         return self
    ...
    ...     def chosen(self, path, history):
    ...         return np.stack(history).max(axis=2).argmax(axis=0)
    ...
    ...     def combine(self, path, history):
    ...         return np.stack(history)[self.chosen(path, history), np.arange(len(history[0]))]
    >>> check_answer_rule(Surest())
    """

    def fit(
        self,
        table: PathProbabilities,
        codes: NDArray[np.intp],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> AnswerRule:
        """Learn from rows (n_samples, n_paths, n_classes) and their class indices; return self."""
        ...

    def combine(self, path: int, history: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
        """Return the answer of a path.

        Parameters
        ----------
        path : int
            Its index.
        history : sequence of ndarray of shape (m, n_classes)
            Probabilities at each of its exits.

        Returns
        -------
        ndarray of shape (m, n_classes)
        """
        ...


class OneAnswer(Protocol):
    """An answer rule for one row on plain numbers."""

    def combine(self, path: int, history: list[list[float]]) -> list[float]:
        """Return the answer of a path."""
        ...


class RecallAnswer(BaseEstimator):
    """Answer with the visited exit of least predicted error.

    At the end of a path the error of each exit on it is predicted from what all of them say::

        answer(x) = f_s(x),  s = argmin_{s <= t} pe_s(x)

    Where the table knows losses, they stand for errors, and the loss of an answer is that of the
    exit it is taken from.

    Parameters
    ----------
    estimator : str or estimator, default="logistic"
        As of :class:`skquee.gates.PathErrorClassifier`.
    penalty : float, default=1.0
        As there.

    Attributes
    ----------
    errors_ : PathErrorClassifier
        Judges the exits of each path.

    References
    ----------
    .. [1] Dekoninck et al., "A Unified Approach to Routing and Cascading for LLMs", ICML 2025.

    Examples
    --------
    >>> from skquee.answers import RecallAnswer
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> RecallAnswer().fit(table, y).chosen(1, [table.path(p) for p in (0, 1)])[:3]
    array([1, 1, 1])
    """

    def __init__(
        self, estimator: BaseEstimator | str = "logistic", *, penalty: float = 1.0
    ) -> None:
        self.estimator = estimator
        self.penalty = penalty

    def fit(
        self,
        table: PathProbabilities,
        codes: NDArray[np.intp],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> RecallAnswer:
        """Learn how often each exit of a path is wrong.

        Parameters
        ----------
        table : PathProbabilities
            Probabilities of every path.
        codes : ndarray of shape (n_samples,)
            Class index of each row.
        sample_weight : ndarray of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        tree = table.paths
        wrong = wrong_of(correctness(table, codes, check=False)).astype(np.float64)
        judged = {p: tree.prefixes(p) for p in range(tree.n_paths) if tree.depths[p] > 1}
        errors = PathErrorClassifier(self.estimator, penalty=self.penalty, random_state=0)
        self.errors_ = errors.fit_judged(table.with_context(None), wrong, judged, sample_weight)
        return self

    def combine(self, path: int, history: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
        """Return the answer of a path; see :class:`AnswerRule`."""
        if len(history) == 1:
            return history[0]
        best = self.chosen(path, history)
        return np.stack(history)[best, np.arange(len(best))]

    def chosen(self, path: int, history: Sequence[NDArray[np.floating]]) -> NDArray[np.intp]:
        """Return which exit of a path answers.

        Parameters
        ----------
        path : int
            Its index.
        history : sequence of ndarray of shape (m, n_classes)
            Probabilities at each of its exits.

        Returns
        -------
        ndarray of shape (m,)
            Places in `history`.
        """
        if len(history) == 1:
            return np.zeros(len(history[0]), dtype=np.intp)
        at = np.full(len(history[0]), path)
        ((_, _, errors),) = self.errors_.judge(at, history, None)
        # Ties go to the last exit.
        return np.asarray(errors.shape[1] - 1 - errors[:, ::-1].argmin(axis=1))

    def one(self) -> _OneRecall | None:
        """Return what answers for one row on plain numbers, None where arrays are needed."""
        errors = self.errors_.one()
        return None if errors is None else _OneRecall(errors)


class _OneRecall:
    """:class:`RecallAnswer` for one row on plain numbers."""

    def __init__(self, errors: OneLinear) -> None:
        self.errors = errors

    def combine(self, path: int, history: list[list[float]]) -> list[float]:
        """Return the answer of a path."""
        if len(history) == 1:
            return history[0]
        errors = self.errors.judge(path, history)
        # Ties go to the last exit.
        return history[len(errors) - 1 - errors[::-1].index(min(errors))]


ANSWERS: dict[str, Callable[[], AnswerRule]] = {"recall": RecallAnswer, "ensemble": EnsembleAnswer}


def gates_see(rule: AnswerRule | None) -> bool:
    """Tell whether gates see answers of a rule in place of what exits say."""
    return bool(getattr(rule, "gates_see_answers", False))


@dataclass(frozen=True, eq=False)
class AnsweredGates:
    """Gates that see answers in place of what exits say.

    `gates`: fitted on answers. `rule`: fitted. `tree`: of both.
    """

    gates: ErrorModel
    rule: AnswerRule
    tree: PathTree

    def judge(
        self,
        prefixes: NDArray[np.intp],
        history: Sequence[NDArray[np.floating]],
        context: NDArray[np.floating] | None,
    ) -> Iterable[Judged]:
        """Predict for samples before one gate, as of :class:`ErrorModel`."""
        seen = [np.empty(p.shape) for p in history]
        for prefix, rows in alike(prefixes):
            passed = [p[rows] for p in history]
            for depth in range(len(history)):
                path = int(self.tree.ancestors[prefix, depth])
                seen[depth][rows] = self.rule.combine(path, passed[: depth + 1])
        return self.gates.judge(prefixes, seen, context)


def answered(rule: AnswerRule | None, table: PathProbabilities) -> PathProbabilities:
    """Return the table of what every path answers under a rule.

    `rule`: fitted; None answers with the last exit. Returns shape (n_samples, n_paths, n_classes):
    with the losses of the exits that answers are taken from, where the table knows losses.
    """
    if rule is None:
        return table
    tree = table.paths
    parts, losses = [], []
    for _, chunk in table.chunks():
        passed = [chunk.path(p) for p in range(tree.n_paths)]
        histories = [[passed[s] for s in tree.prefixes(p)] for p in range(tree.n_paths)]
        answers = [rule.combine(p, history) for p, history in enumerate(histories)]
        parts.append(np.stack(answers, axis=1))
        if chunk.losses is not None:
            chosen: Callable[..., NDArray[np.intp]] = getattr(rule, "chosen")  # noqa: B009
            at = [tree.prefixes(p)[chosen(p, each)] for p, each in enumerate(histories)]
            columns = tree.path_columns[np.stack(at, axis=1)]
            losses.append(np.take_along_axis(chunk.losses, columns, axis=1))
    known = np.concatenate(losses) if losses else None
    return _told(np.concatenate(parts), table, known)


def cross_fitted_answers(
    rule: AnswerRule,
    table: PathProbabilities,
    codes: NDArray[np.intp],
    *,
    parts: int = 3,
    seed: int = 0,
    sample_weight: NDArray[np.float64] | None = None,
) -> tuple[AnswerRule, PathProbabilities]:
    """Fit a rule on all rows, and answer each row by one that has not seen it.

    Parameters
    ----------
    rule : RecallAnswer or EnsembleAnswer
        Not fitted.
    table : PathProbabilities
        Stored.
    codes : ndarray of shape (n_samples,)
        Class index of each row.
    parts : int, default=3
        Parts; with too few rows the rule fitted on all of them answers.
    seed : int, default=0
        Of the parts.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weights; for a rule whose ``fit`` takes them.

    Returns
    -------
    rule
        Fitted.
    PathProbabilities
        What every path answers.

    Examples
    --------
    >>> from skquee.answers import RecallAnswer, cross_fitted_answers
    >>> from skquee.testing import make_path_probabilities
    >>> cross_fitted_answers(RecallAnswer(), *make_path_probabilities(200))
    (RecallAnswer(), PathProbabilities(200 samples, 6 paths, 4 classes, float64))
    """
    weights = sample_weight if has_fit_parameter(rule, "sample_weight") else None

    def fit_on(rows: slice | NDArray[np.intp]) -> AnswerRule:
        given = {} if weights is None else {"sample_weight": weights[rows]}
        return clone(rule).fit(table[rows], codes[rows], **given)

    fitted = fit_on(slice(None))
    if len(table) < 4 * parts:
        return fitted, answered(fitted, table)
    made: NDArray[np.floating] | None = None
    losses = None if table.losses is None else np.empty((len(table), table.paths.n_paths))
    for rest, part in KFold(parts, shuffle=True, random_state=seed).split(codes):
        told = answered(fit_on(rest), table[part])
        answers = np.asarray(told)
        if made is None:  # of the type that the rule answers in
            made = np.empty((len(table), *answers.shape[1:]), dtype=answers.dtype)
        made[part] = answers
        if losses is not None:
            losses[part] = told.losses
    assert made is not None
    return fitted, _told(made, table, losses)


def _told(
    values: NDArray[np.floating], table: PathProbabilities, losses: NDArray[np.float64] | None
) -> PathProbabilities:
    """Return answers (n_samples, n_paths, n_classes) with what is known of the rows."""
    whole = PathProbabilities(values, _own_columns(table.paths))
    whole.facts = RowFacts(table.context, losses, outcomes=table.facts.outcomes)
    return whole


def _own_columns(tree: PathTree) -> PathTree:
    """Return a tree whose paths read a column each: answers differ where classifiers do not."""
    return replace(tree, columns=tuple(range(tree.n_paths)))


publish("skquee.answers", AnswerRule, EnsembleAnswer, RecallAnswer, cross_fitted_answers)
