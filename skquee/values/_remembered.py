"""What fit used: a parameter set afterwards is not passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

__all__ = ["as_now", "check_as_fitted", "remember"]


class Trace(TypedDict, total=False):
    """A value, and those of an estimator's parameters or of a sequence's items."""

    value: object
    params: dict[str, Trace]
    items: list[Trace]


def remember(estimator: BaseEstimator, names: Iterable[str]) -> dict[str, Trace]:
    """Return the parameters that fit uses, with those of the estimators among them.

    `names`: parameters that are read in fit alone. Returns for :func:`check_as_fitted`. It holds
    the parameters themselves, no copies.
    """
    return {name: _trace(getattr(estimator, name)) for name in names}


def check_as_fitted(estimator: BaseEstimator, remembered: dict[str, Trace]) -> None:
    """Raise where a parameter is another than the one that fit used.

    It costs microseconds: identity, and equality of plain values.

    `remembered`: from :func:`remember`. ValueError naming the parameter.

    >>> from sklearn.svm import SVC
    >>> from skquee.values._remembered import check_as_fitted, remember
    >>> model = SVC(C=1.0)
    >>> remembered = remember(model, ["C"])
    >>> check_as_fitted(model.set_params(C=2.0), remembered)
    Traceback (most recent call last):
        ...
    ValueError: C=2.0 was set after fit, and has to be fitted: call fit again.
    """
    for name, trace in remembered.items():
        found = _changed(getattr(estimator, name), trace, name)
        if found is not None:
            raise ValueError(
                f"{found[0]}={found[1]!r:.200} was set after fit, and has to be fitted: call fit "
                "again."
            )


def as_now(remembered: dict[str, Trace], name: str, value: object) -> dict[str, Trace]:
    """Return what fit used with another value of a parameter, which acts without a fit.

    `remembered`: from :func:`remember`; it stays as it is. `name`: nested with double underscores.
    `value`: what is not to be noticed as a change.
    """
    key, _, rest = name.partition("__")
    if key not in remembered:
        return remembered
    if not rest:
        return {**remembered, key: _trace(value)}
    inner = as_now(remembered[key].get("params", {}), rest, value)
    return {**remembered, key: {**remembered[key], "params": inner}}


def _trace(value: object) -> Trace:
    """Return a value, with the parameters of an estimator, or those among the items of a list."""
    if isinstance(value, (list, tuple, dict)):
        parts = list(value.values() if isinstance(value, dict) else value)
        items = [_trace(part) for part in parts]
        known = any(len(item) > 1 for item in items)
        return {"value": value, "items": items} if known else {"value": value}
    # What is frozen is as it was fitted, whatever its parameters say.
    if not hasattr(value, "get_params") or isinstance(value, (type, FrozenEstimator)):
        return {"value": value}
    given = value.get_params(deep=False)
    inner = {
        name: _trace(part)
        for name, part in given.items()
        if _equal(getattr(value, name, None), part)  # some houses keep theirs elsewhere
    }
    return {"value": value, "params": inner}


def _changed(now: object, trace: Trace, name: str) -> tuple[str, object] | None:
    """Return the name and value of a parameter that differs, or None."""
    if "value" not in trace:  # a file was changed by hand
        raise ValueError("What fit used is not whole: fit again.")
    then = trace["value"]
    if "items" in trace:
        return _changed_items(now, trace, name)
    if "params" not in trace:
        if isinstance(then, FrozenEstimator) and isinstance(now, FrozenEstimator):
            now, then = now.estimator, then.estimator
        return None if _equal(now, then) else (name, now)
    # A part may be set in place (`regressor__max_epochs`), or be another with the same parameters.
    if type(now) is not type(then):
        return name, now
    for inner, given in trace["params"].items():
        part = getattr(now, inner, None)
        if len(given) == 1 and part is given.get("value", given):  # most: asked at every row
            continue
        found = _changed(part, given, f"{name}__{inner}")
        if found is not None:
            return found
    return None


def _changed_items(now: object, trace: Trace, name: str) -> tuple[str, object] | None:
    """Return the same for a list, tuple or dict with estimators in it."""
    then, items = trace["value"], trace["items"]
    if type(now) is not type(then) or not isinstance(now, (list, tuple, dict)):
        return name, now
    if len(now) != len(items):
        return name, now
    if isinstance(now, dict) and isinstance(then, dict):
        if list(now) != list(then):
            return name, now
        parts = [(f"{name}[{key!r}]", part) for key, part in now.items()]
    else:
        # An estimator with a name, (name, estimator), is called as scikit-learn does.
        outer = name.rpartition("__")[0]
        named = [isinstance(p, tuple) and len(p) > 0 and isinstance(p[0], str) for p in now]
        parts = [(f"{outer}__{p[0]}" if n else name, p) for n, p in zip(named, now, strict=True)]
    for (own, part), given in zip(parts, items, strict=True):
        found = _changed(part, given, own)
        if found is not None:
            return found
    return None


def _equal(now: object, then: object) -> bool:
    if now is then:
        return True
    plain = (list, tuple, np.ndarray)
    if isinstance(now, plain) and isinstance(then, plain):
        ours, theirs = (v.tolist() if isinstance(v, np.ndarray) else v for v in (now, then))
        if not (isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple))):
            return bool(ours == theirs)
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    try:
        return bool(now == then) or (now != now and then != then)
    except Exception:  # what cannot be compared is another
        return False
