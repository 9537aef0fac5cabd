"""Checks for people who write parts of a router: policies, error models and answer rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import has_fit_parameter

from skquee.method._answers import AnswerRule
from skquee.method.gates import ErrorModel
from skquee.method.policy import Policy
from skquee.method.policy._aim import aim_at, plan_of
from skquee.method.policy._protocol import PolicyFunction
from skquee.testing._expect import expect, expect_methods, fitted_by
from skquee.testing._tables import make_path_probabilities
from skquee.values import PathProbabilities, PathTree

__all__ = ["check_answer_rule", "check_error_model", "check_policy"]

N_ROWS = 60


def check_policy(policy: Policy | PolicyFunction) -> None:
    """Check that a policy aims at candidates, sample by sample; see :class:`skquee.policy.Policy`.

    Parameters
    ----------
    policy : policy or callable
        With ``aim``, and where it learns with ``fit``; or ``policy(errors, costs, lambda_)``.

    Raises
    ------
    AssertionError
        If a check fails: which method, what was expected and what came.

    Examples
    --------
    >>> from skquee.policy import OptionValue
    >>> from skquee.testing import check_policy
    >>> check_policy(OptionValue())
    """
    name = getattr(policy, "__name__", type(policy).__name__)
    expect(
        callable(policy) or hasattr(policy, "aim"),
        f"a policy has a method aim, or is called with errors, costs and lambda_, got {policy!r}.",
    )
    table, y = make_path_probabilities(N_ROWS)
    tree, rng = table.paths, np.random.default_rng(0)
    wrong = _wrong(table, y)
    noisy = 0.5 * wrong + rng.uniform(0, 0.5, wrong.shape)
    inner = np.flatnonzero(tree.is_inner).tolist()
    survey = {prefix: noisy[:, tree.descendants(prefix)] for prefix in inner}
    method = f"{name}.aim" if hasattr(policy, "aim") else name
    if hasattr(policy, "aim"):
        expect_methods(policy, Policy, "skquee.policy.Policy")
    if hasattr(policy, "fit"):
        policy = fitted_by(policy, survey, wrong, tree)
    for prefix in (None, *inner):
        errors = noisy if prefix is None else survey[prefix]
        costs = tree.path_costs if prefix is None else tree.path_costs[tree.descendants(prefix)]
        where = "before anything has run" if prefix is None else f"after {tree.names[prefix]!r}"
        given = errors.copy(), costs.copy()
        try:
            aimed = aim_at(policy, *given, 0.3, prefix)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{method}, {where}: {error}") from error
        expect(
            np.array_equal(given[0], errors) and np.array_equal(given[1], costs),
            f"{method}, {where}, must not change the errors and costs it is given: copy them.",
        )
        planned = plan_of(policy, errors, costs, prefix=prefix)(0.3, np.arange(N_ROWS))
        expect(
            np.array_equal(planned, aimed),
            f"{name}.plan, {where}, must aim where aim does.",
        )
        turned = aim_at(policy, errors[::-1].copy(), costs, 0.3, prefix)[::-1]
        expect(
            np.array_equal(turned, aimed),
            f"{method}, {where}, must aim for each sample by its own errors: with the rows in "
            "another order it aims elsewhere.",
        )


def check_error_model(model: ErrorModel) -> None:
    """Check that an error model judges every open path; see :class:`skquee.gates.ErrorModel`.

    Parameters
    ----------
    model : error model
        Not fitted.

    Raises
    ------
    AssertionError
        If a check fails: which method, what was expected and what came.

    Examples
    --------
    >>> from skquee import PathErrorClassifier
    >>> from skquee.testing import check_error_model
    >>> check_error_model(PathErrorClassifier("logistic"))
    """
    name = type(model).__name__
    expect_methods(model, ErrorModel, "skquee.gates.ErrorModel")
    table, y = make_path_probabilities(2 * N_ROWS)
    tree = table.paths
    fitted = fitted_by(model, table, _wrong(table, y).astype(np.float64))
    base = np.asarray(getattr(fitted, "base_errors_", np.nan))
    expect(
        base.shape == (tree.n_paths,) and ((base >= 0) & (base <= 1)).all(),
        f"{name}.fit must set base_errors_, the mean target of each of {tree.n_paths} paths, got "
        f"{base!r:.80}.",
    )
    for depth in range(1, tree.n_exits):
        standing = np.flatnonzero((tree.depths == depth) & tree.is_inner)
        prefixes = np.resize(standing, len(table))
        passed = [
            np.stack([table.path(int(tree.ancestors[p, k]))[row] for row, p in enumerate(prefixes)])
            for k in range(depth)
        ]
        judged = _judged(fitted, prefixes, passed, tree)
        turned = _judged(fitted, prefixes[::-1], [p[::-1] for p in passed], tree)[::-1]
        expect(
            np.allclose(turned, judged, atol=1e-6, equal_nan=True),
            f"{name}.judge must judge each sample by what is known of it alone: with the rows in "
            "another order it predicts other errors.",
        )


def _judged(
    model: ErrorModel,
    prefixes: NDArray[np.intp],
    passed: list[NDArray[np.floating]],
    tree: PathTree,
) -> NDArray[np.float64]:
    """Return errors of shape (m, n_paths), NaN where not judged; raise where they are amiss."""
    what, m = f"{type(model).__name__}.judge", len(prefixes)
    out, times = np.full((m, tree.n_paths), np.nan), np.zeros(m, dtype=int)
    given = [vectors.copy() for vectors in passed]
    judged = model.judge(prefixes.copy(), given, None)
    expect(
        isinstance(judged, Iterable),
        f"{what} must yield positions, paths judged and errors, but returned "
        f"{type(judged).__name__}.",
    )
    for found in judged:
        expect(
            isinstance(found, tuple) and len(found) == 3,
            f"{what} must yield positions, paths judged and errors, got {type(found).__name__}.",
        )
        positions, paths, errors = map(_array, found)
        expect(
            positions.ndim == 1
            and positions.dtype.kind in "iu"
            and positions.min(initial=0) >= 0
            and positions.max(initial=0) < m
            and len(set(prefixes[positions])) == 1,
            f"{what} must yield integer positions of samples on one prefix first, from 0 to "
            f"{m - 1}, got {_told(positions)}.",
        )
        times[positions] += 1
        expected = tree.descendants(int(prefixes[positions[0]]))
        expect(
            np.array_equal(paths, expected),
            f"{what} must judge the paths tree.descendants(prefix), here {expected.tolist()}, got "
            f"{paths.tolist()}.",
        )
        shape = len(positions), len(expected)
        expect(
            errors.shape == shape
            and errors.dtype.kind in "biuf"
            and errors.min(initial=0) >= 0
            and errors.max(initial=0) <= 1,
            f"{what} must yield errors of shape {shape}, between 0 and 1, got {_told(errors)}.",
        )
        out[positions[:, None], paths] = errors
    _expect_unchanged(what, given, passed)
    expect(
        (times == 1).all(),
        f"{what} must yield every sample once, got {np.unique(times).tolist()} times.",
    )
    return out


def check_answer_rule(rule: AnswerRule) -> None:
    """Check that a rule answers for every path; see :class:`skquee.answers.AnswerRule`.

    Parameters
    ----------
    rule : answer rule
        Not fitted.

    Raises
    ------
    AssertionError
        If a check fails: which method, what was expected and what came.

    Examples
    --------
    >>> from skquee.answers import EnsembleAnswer
    >>> from skquee.testing import check_answer_rule
    >>> check_answer_rule(EnsembleAnswer())
    """
    name = type(rule).__name__
    expect_methods(rule, AnswerRule, "skquee.answers.AnswerRule")
    table, y = make_path_probabilities(2 * N_ROWS)
    weights = (np.ones(len(y)),) if has_fit_parameter(rule, "sample_weight") else ()
    fitted = fitted_by(rule, table, y, *weights)
    for path in range(table.paths.n_paths):
        passed = [table.path(p) for p in table.paths.prefixes(path).tolist()]
        given = [vectors.copy() for vectors in passed]
        answer = _array(fitted.combine(path, given))
        expect(
            answer.shape == passed[0].shape
            and answer.dtype.kind in "biuf"
            and answer.min() >= 0
            and np.allclose(answer.sum(axis=1), 1, atol=1e-5),
            f"{name}.combine must return probabilities of shape {passed[0].shape} that sum to 1, "
            f"got {_told(answer)}.",
        )
        _expect_unchanged(f"{name}.combine", given, passed)
        turned = fitted.combine(path, [p[::-1] for p in passed])[::-1]
        expect(
            np.allclose(turned, answer, atol=1e-6),
            f"{name}.combine must answer each sample by its own probabilities: with the rows in "
            "another order it answers otherwise.",
        )
        chosen: Callable[..., NDArray[np.intp]] | None = getattr(fitted, "chosen", None)
        if chosen is not None:
            places = np.asarray(chosen(path, passed))
            expect(
                places.shape == (len(y),)
                and places.dtype.kind in "iu"
                and places.min() >= 0
                and places.max() < len(passed),
                f"{name}.chosen must return a place in history for each sample, 0 to "
                f"{len(passed) - 1}, got {places.dtype} of shape {places.shape}.",
            )
            expect(
                np.allclose(np.stack(passed)[places, np.arange(len(y))], answer),
                f"{name}.chosen must tell the exit whose answer combine returns.",
            )


def _array(part: object) -> NDArray[np.generic]:
    """Return a part as an array; rows of several lengths as one of objects."""
    try:
        return np.asarray(part)
    except ValueError:
        return np.asarray(None)


def _told(found: NDArray[np.generic]) -> str:
    """Return what came, in words."""
    text = f"{found.dtype} of shape {found.shape}"
    if found.dtype.kind not in "biuf" or not found.size:
        return text
    return f"{text} with {float(found.min()):.3g} to {float(found.max()):.3g}"


def _expect_unchanged(
    what: str, given: list[NDArray[np.floating]], passed: list[NDArray[np.floating]]
) -> None:
    """Raise where the probabilities that a method was given are others than before."""
    expect(
        all(map(np.array_equal, given, passed)),
        f"{what} must not change the probabilities it is given, which samples are answered with: "
        "copy them.",
    )


def _wrong(table: PathProbabilities, y: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return whether each path errs, shape (n_samples, n_paths)."""
    said = np.asarray(table).argmax(axis=2)[:, table.paths.path_columns]
    return np.asarray(said != y[:, None])
