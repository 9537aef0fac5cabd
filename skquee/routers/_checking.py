"""Parameters of a router: checked before its fit begins, and parts made of them."""

from __future__ import annotations

import inspect
import warnings
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import BaseCrossValidator

from skquee.method._answers import ANSWERS, AnswerRule
from skquee.method._targets import ClusteredErrorTargets
from skquee.method.gates import ErrorModel, PathErrorClassifier, PathErrorRegressor
from skquee.method.policy import POLICIES
from skquee.method.policy._protocol import PolicyLike
from skquee.values import PathProbabilities
from skquee.values._checks import (
    check_integer,
    check_n_jobs,
    check_number,
    check_option,
    check_seed,
)
from skquee.values._types import Seed

__all__ = [
    "answer_rule",
    "check_fit_parameters",
    "check_folds",
    "check_policy",
    "error_model",
    "is_policy",
    "make_policy",
    "warn_where_context_is_unread",
]

TARGETS = ("shrunken", "bernoulli", "mixed")
FEATURES = ("paper", "rich")


class FitParameters(Protocol):
    """Parameters that a router's fit reads."""

    targets: ClusteredErrorTargets | str | None
    regressor: ErrorModel | BaseEstimator | str | None
    features: str | None
    cross_fit: int
    validation_fraction: float
    random_state: Seed
    n_jobs: int | None


def check_fit_parameters(router: FitParameters) -> None:
    """Raise where a parameter that fit reads is not usable."""
    if isinstance(router.targets, str):
        check_option(router.targets, "targets", TARGETS, besides=" or a ClusteredErrorTargets")
    elif router.targets is not None and not hasattr(router.targets, "transform"):
        raise ValueError(
            f"targets must be None, one of {list(TARGETS)} or a ClusteredErrorTargets, got "
            f"{router.targets!r:.80}."
        )
    check_integer(router.cross_fit, "cross_fit", at_least=1)
    check_number(router.validation_fraction, "validation_fraction", at_least=0, below=1)
    check_seed(router.random_state)
    check_n_jobs(router.n_jobs)
    error_model(router.regressor, router.features)


def error_model(
    regressor: ErrorModel | BaseEstimator | str | None, features: str | None
) -> ErrorModel:
    """Return the error model that a router's parameters ask for, not fitted.

    `regressor`: as of :class:`CostAwareRouter`. `features`: as of :class:`CostAwareRouter`.
    ValueError if `features` is unknown, or the model given has others of its own.
    """
    if features is not None:
        check_option(features, "features", FEATURES)
    if regressor is None:
        return PathErrorRegressor(features=features or "paper")
    if inspect.isclass(regressor):
        raise ValueError(
            f"regressor must be an instance, got the class {regressor.__name__}: write "
            f"{regressor.__name__}()."
        )
    if isinstance(regressor, str) or not hasattr(regressor, "judge"):
        return PathErrorClassifier(regressor, features=features or "rich")
    own = getattr(regressor, "features", None)
    if features is not None and features != own:
        raise ValueError(
            f"features={features!r} builds a regressor that is given by name, but regressor is a "
            f"{type(regressor).__name__} with features={own!r} of its own: leave features out, or "
            "set them there."
        )
    return clone(regressor)


def warn_where_context_is_unread(table: PathProbabilities, model: ErrorModel) -> None:
    """Warn where a table's context reaches no gate."""
    if table.context is not None and isinstance(model, PathErrorRegressor):
        warnings.warn(
            f"X has {table.context.shape[1]} context features, which {type(model).__name__}, the "
            "paper's error model, does not read: they change nothing. Use "
            "regressor='logistic', 'boosting' or a PathErrorClassifier, which read them, or "
            "X.with_context(None).",
            UserWarning,
            stacklevel=3,
        )


def check_folds(
    cv: int | BaseCrossValidator, codes: NDArray[np.intp], *, by_class: bool = True
) -> None:
    """Raise where there are too few rows for a number of folds.

    `cv`: as of scikit-learn; a splitter checks itself. `codes` (n_samples,). `by_class`: whether
    every fold gets its share of each class. ValueError if it is no number of folds, or there are
    fewer rows, or fewer of every class.
    """
    if cv is None or hasattr(cv, "split") or hasattr(cv, "__iter__"):
        return
    folds = check_integer(cv, "cv", at_least=2)
    most = int(np.bincount(codes).max()) if by_class and len(codes) else len(codes)
    if most < folds:
        rows = "rows of any class" if by_class else "rows"
        raise ValueError(
            f"cv={folds} folds need at least as many {rows}, got {most} of {len(codes)}: give more "
            "rows or lower cv."
        )


def answer_rule(answer: AnswerRule | str) -> AnswerRule | None:
    """Return an answer rule, not fitted; None: the last exit.

    `answer`: as of :class:`skquee.CostAwareRouter`.
    """
    if answer == "last":
        return None
    if isinstance(answer, str) and answer in ANSWERS:
        return ANSWERS[answer]()
    if isinstance(answer, type) or not hasattr(answer, "combine"):
        raise ValueError(f"answer must be one of {['last', *ANSWERS]} or a rule, got {answer!r}.")
    return clone(answer)


def is_policy(policy: object) -> bool:
    """Whether this is a policy, not its name or class."""
    return hasattr(policy, "aim") and not isinstance(policy, type)


def check_policy(policy: object) -> None:
    """Raise where this is neither a policy, nor the name of one, nor a callable."""
    if inspect.isclass(policy):
        raise ValueError(
            f"policy must be an instance, got the class {policy.__name__}: write "
            f"{policy.__name__}()."
        )
    named = isinstance(policy, str) and policy in POLICIES
    if not (named or callable(policy) or is_policy(policy)):
        raise ValueError(
            f"policy must be one of {sorted(POLICIES)}, a policy or a callable, got {policy!r}."
        )


def make_policy(policy: PolicyLike) -> BaseEstimator | None:
    """Return a policy to fit, or one that needs none; None for a callable or the open loop."""
    if isinstance(policy, str):
        make = POLICIES[policy]
        return None if make is None else make()
    if not is_policy(policy):
        return None
    return clone(policy) if hasattr(policy, "fit") else policy
