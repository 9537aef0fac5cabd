"""What fit used: a parameter set afterwards is not passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["check_as_fitted", "remember"]


def remember(estimator: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the parameters that fit uses, with those of the estimators among them.

    Parameters
    ----------
    estimator : estimator
        Being fitted.
    names : iterable of str
        Parameters that are read in fit alone.

    Returns
    -------
    dict of str to dict
        For :func:`check_as_fitted`. It holds the parameters themselves, no copies.
    """
    return {name: _trace(getattr(estimator, name)) for name in names}


def check_as_fitted(estimator: Any, remembered: dict[str, Any]) -> None:
    """Raise where a parameter is another than the one that fit used.

    It costs microseconds: identity, and equality of plain values.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    remembered : dict
        From :func:`remember`.

    Raises
    ------
    ValueError
        Naming the parameter.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> from skquee._remembered import check_as_fitted, remember
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


def _trace(value: Any) -> dict[str, Any]:
    if not hasattr(value, "get_params") or isinstance(value, type):
        return {"value": value}
    inner = {name: _trace(given) for name, given in value.get_params(deep=False).items()}
    return {"value": value, "params": inner}


def _changed(now: Any, trace: dict[str, Any], name: str) -> tuple[str, Any] | None:
    """Return the name and value of a parameter that differs, or None."""
    if "value" not in trace:  # a file was changed by hand
        raise ValueError("What fit used is not whole: fit again.")
    then, params = trace["value"], trace.get("params")
    if params is None:
        return None if _equal(now, then) else (name, now)
    # A part may be set in place (`regressor__max_epochs`), or be another with the same parameters.
    if type(now) is not type(then):
        return name, now
    for inner, given in params.items():
        found = _changed(getattr(now, inner, None), given, f"{name}__{inner}")
        if found is not None:
            return found
    return None


def _equal(now: Any, then: Any) -> bool:
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
