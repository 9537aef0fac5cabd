"""Fitting a bank's classifiers, and settling which classes there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from skquee.bank._composition import is_estimator
from skquee.values._types import Rows

__all__ = ["fit_model", "input_tags", "known_classes", "settle_classes"]

SHOWN = 5


def fit_model(
    name: str, model: BaseEstimator, X: Rows, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[BaseEstimator, NDArray[np.generic]]:
    """Fit a clone of one classifier; return it, and the labels of its columns.

    A classifier that takes no labels but 0 to ``n_classes - 1`` (XGBoost's, say) is fitted on
    those. `name` is for messages; weights are passed on where the classifier takes them.
    """
    extra = {}
    if sample_weight is not None and has_fit_parameter(model, "sample_weight"):
        extra["sample_weight"] = sample_weight
    # What has no parameters is no estimator of scikit-learn: fitted as it is.
    fresh = clone(model) if hasattr(model, "get_params") else model
    try:
        fitted = fresh.fit(X, y, **extra)
        fitted = fresh if fitted is None else fitted
        return fitted, np.asarray(fitted.classes_)
    except Exception as error:
        encoder = LabelEncoder().fit(y)
        codes = encoder.transform(y)
        if not np.array_equal(codes, y) and hasattr(model, "get_params"):
            try:
                fitted = clone(model).fit(X, codes, **extra)
            except Exception:
                fitted = None  # the labels were not to blame
            if fitted is not None:
                return fitted, encoder.classes_[np.asarray(fitted.classes_, dtype=np.intp)]
        error.add_note(f"(while fitting classifier {name!r} of the bank)")
        raise


def known_classes(name: str, model: BaseEstimator) -> NDArray[np.generic]:
    """Return the labels of a frozen classifier, which has to be fitted."""
    if not hasattr(model, "classes_"):
        raise NotFittedError(
            f"Classifier {name!r} is frozen but not fitted: fit it before it goes into the bank, "
            "or leave FrozenEstimator off."
        )
    return np.asarray(model.classes_)


def settle_classes(
    named: list[tuple[str, BaseEstimator]],
    labels: list[NDArray[np.generic] | None],
    given: Sequence[object] | None,
    y: ArrayLike | None,
    *,
    frozen: bool,
) -> NDArray[np.generic]:
    """Return the bank's classes.

    `named`: fitted. `labels`: labels of each one's columns; None for callables. `given`: the
    parameter ``classes``. `y`: labels of fit. `frozen`: whether no classifier was fitted here.
    Returns (n_classes,). Raises ValueError if a classifier knows others than are given, y holds
    what no classifier knows, or nothing tells.
    """
    if given is not None:
        classes = np.asarray(given)
        if classes.ndim != 1 or len(set(classes.tolist())) != len(classes) or len(classes) < 2:
            raise ValueError(f"classes must be at least 2 distinct labels, got {given!r}.")
        for (name, _), own in zip(named, labels, strict=True):
            extra = [] if own is None else sorted(set(own.tolist()) - set(classes.tolist()))
            if extra:
                raise ValueError(
                    f"Classifier {name!r} knows the classes {extra[:SHOWN]}, which classes= does "
                    "not list."
                )
        return classes
    known = [own for own in labels if own is not None]
    seen = [] if y is None else [np.unique(y)]
    if not known and not seen:
        raise ValueError("The bank holds callables only: pass classes=, or y to fit.")
    if known and seen:
        answers = {label for own in known for label in own.tolist()}
        foreign = [label for label in seen[0].tolist() if label not in answers]
        # A callable may answer what no estimator knows, but not in another kind of label.
        calls = len(known) < len(named) and not _mixed([*known, *seen])
        if foreign and frozen and not calls:
            raise ValueError(
                f"y holds the labels {foreign[:SHOWN]}, which no classifier of this frozen bank "
                f"knows: they know {sorted(answers, key=str)[:SHOWN]}. Give y in those labels, or "
                "pass classes= to add some."
            )
    if _mixed([*known, *seen]):
        raise ValueError(
            "Classifiers and y must have labels of one kind, got "
            f"{sorted({str(own.dtype) for own in [*known, *seen]})}."
        )
    return np.unique(np.concatenate([*known, *seen]))


def _mixed(labels: list[NDArray[np.generic]]) -> bool:
    return len({own.dtype.kind in "USO" for own in labels}) > 1


def input_tags(models: list[object]) -> tuple[bool, bool]:
    """Return whether all estimators take NaN, and whether all take sparse input."""
    found = []
    for model in models:
        if not is_estimator(model):
            continue
        try:
            tags = get_tags(model).input_tags
        except (AttributeError, TypeError):  # no estimator of scikit-learn: it checks by itself
            found.append((True, True))
        else:
            found.append((bool(tags.allow_nan), bool(tags.sparse)))
    return bool(found) and all(nan for nan, _ in found), bool(found) and all(s for _, s in found)
