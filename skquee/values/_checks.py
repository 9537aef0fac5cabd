"""Checks of what users give: one for each kind, raised before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._types import Seed

__all__ = [
    "check_flag",
    "check_folder",
    "check_integer",
    "check_labels_given",
    "check_n_jobs",
    "check_number",
    "check_numbers",
    "check_option",
    "check_output",
    "check_path",
    "check_probabilities",
    "check_seed",
    "check_sequence",
    "is_flat",
    "shown",
]

MOST_SEED = 2**32 - 1


def shown(value: object) -> str:
    """Return a short text of what was given."""
    if isinstance(value, np.generic):
        value = value.item()
    text = repr(value) if not isinstance(value, np.ndarray) else f"an array of shape {value.shape}"
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def check_number(
    value: object,
    name: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> float:
    """Return a finite real number as a float; truth values and texts are none.

    A ValueError names the parameter and its bounds, and ends with `hint`, what to do.

    >>> from skquee.values._checks import check_number
    >>> check_number(1, "lambda_", at_least=0)
    1.0
    >>> check_number("a", "fraction", above=0, below=1)
    Traceback (most recent call last):
        ...
    ValueError: fraction must be a finite number > 0 and < 1, got 'a'.
    """
    given = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    number = float(given) if isinstance(given, Real) and not isinstance(given, bool) else np.nan
    if not (np.isfinite(number) and _within(number, at_least, above, at_most, below)):
        bounds = _bounds(at_least, above, at_most, below)
        raise ValueError(f"{name} must be a finite number{bounds}, got {shown(value)}.{hint}")
    return number


def check_integer(
    value: object,
    name: str,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    whole_floats: bool = False,
) -> int:
    """Return a whole number as an int.

    2.5, True and "2" are none. `whole_floats` takes 2.0 for 2, as it comes out of an array.

    >>> from skquee.values._checks import check_integer
    >>> check_integer(2.5, "n_exits", at_least=1)
    Traceback (most recent call last):
        ...
    ValueError: n_exits must be an integer >= 1, got 2.5.
    """
    given = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    number: int | None = None
    if isinstance(given, Integral) and not isinstance(given, bool):
        number = int(given)
    elif whole_floats and isinstance(given, (float, np.floating)) and float(given).is_integer():
        number = int(given)
    if number is None or not _within(number, at_least, None, at_most, None):
        bounds = _bounds(at_least, None, at_most, None)
        raise ValueError(f"{name} must be an integer{bounds}, got {shown(value)}.")
    return number


def check_option(value: object, name: str, options: Iterable[str], *, besides: str = "") -> str:
    """Return one of several names.

    `besides` says for the message what else is taken: ``" or a policy"``.

    >>> from skquee.values._checks import check_option
    >>> check_option("x", "method", ["ltt", "wsr"])
    Traceback (most recent call last):
        ...
    ValueError: method must be one of ['ltt', 'wsr'], got 'x'.
    """
    names = list(options)
    if not (isinstance(value, str) and value in names):
        raise ValueError(f"{name} must be one of {names}{besides}, got {shown(value)}.")
    return str(value)


def check_flag(value: object, name: str) -> bool:
    """Return True or False.

    >>> from skquee.values._checks import check_flag
    >>> check_flag(4, "per_channel")
    Traceback (most recent call last):
        ...
    ValueError: per_channel must be True or False, got 4.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


def check_seed(value: object, name: str = "random_state") -> Seed:
    """Return what numpy and scikit-learn take as a seed.

    >>> from skquee.values._checks import check_seed
    >>> check_seed(-1)
    Traceback (most recent call last):
        ...
    ValueError: random_state must be None, an integer from 0 to 4294967295 or a RandomState, got -1.
    """
    if value is None or value is np.random:  # they mean the same
        return None
    if isinstance(value, np.random.RandomState):
        return value
    seed = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else -1
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(
            f"{name} must be None, an integer from 0 to {MOST_SEED} or a RandomState, got "
            f"{shown(value)}."
        )
    return seed


def check_n_jobs(value: object, name: str = "n_jobs") -> int | None:
    """Return a number of workers as joblib takes it.

    >>> from skquee.values._checks import check_n_jobs
    >>> check_n_jobs(0)
    Traceback (most recent call last):
        ...
    ValueError: n_jobs must be None or an integer other than 0 (-1: all cores), got 0.
    """
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool) or value == 0:
        raise ValueError(
            f"{name} must be None or an integer other than 0 (-1: all cores), got {shown(value)}."
        )
    return int(value)


def check_sequence(value: object, name: str, what: str) -> list[Any]:
    """Return the entries of a sequence; a text or a single value is none.

    >>> from skquee.values._checks import check_sequence
    >>> check_sequence("ab", "names", "one name a path")
    Traceback (most recent call last):
        ...
    ValueError: names must be a sequence of one name a path, got 'ab'.
    """
    loose = isinstance(value, (str, bytes, dict)) or getattr(value, "ndim", 1) == 0
    if loose or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a sequence of {what}, got {shown(value)}.")
    return list(value)


def check_numbers(
    values: ArrayLike,
    name: str,
    *,
    shape: Sequence[int | None] | None = None,
    what: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    finite: bool = True,
    hint: str = "",
) -> NDArray[np.float64]:
    """Return numbers as a checked float array.

    >>> from skquee.values._checks import check_numbers
    >>> check_numbers([0.1, float("nan")], "p_values", shape=(None,), at_least=0, at_most=1)
    Traceback (most recent call last):
        ...
    ValueError: p_values must hold finite numbers >= 0 and <= 1, but entry 1 is nan.
    """
    bounds = f"{_bounds(at_least, above, at_most, below)}{', ' + what if what else ''}"
    kind = "finite numbers" if finite else "numbers"
    try:
        raw = np.asarray(values)
        if raw.dtype.kind in "USMmcV" or (
            raw.dtype == object and any(isinstance(v, (str, bytes)) for v in raw.flat)
        ):
            raise ValueError
        found = raw.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold {kind}{bounds}, got {shown(values)}.{hint}") from None
    if shape is not None:
        fits = found.ndim == len(shape) and all(
            size == wanted if wanted is not None else size > 0
            for size, wanted in zip(found.shape, shape, strict=True)
        )
        if not fits:
            axes = ", ".join("n" if wanted is None else str(wanted) for wanted in shape)
            axes = f"({axes},)" if len(shape) == 1 else f"({axes})"
            raise ValueError(
                f"{name} must have shape {axes}{', ' + what if what else ''}"
                f"{', not empty' if 0 not in shape else ''}, got {found.shape}."
            )
    with np.errstate(invalid="ignore"):
        bad = np.isnan(found) | (np.isinf(found) if finite else False)
        for limit, wrong in (
            (at_least, np.less),
            (above, np.less_equal),
            (at_most, np.greater),
            (below, np.greater_equal),
        ):
            if limit is not None:
                bad = bad | wrong(found, limit)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = "it" if not first else f"entry {first[0] if len(first) == 1 else first}"
        raise ValueError(f"{name} must hold {kind}{bounds}, but {where} is {found[first]:g}.{hint}")
    return found


def check_probabilities(
    values: NDArray[np.generic],
    rows: NDArray[np.intp] | int,
    names: Sequence[str] | NDArray[np.generic],
) -> None:
    """Raise where vectors are not probabilities, naming the row and the path.

    `values` (..., n_classes): vectors; all axes but the last are counted together. `rows`: row of
    each vector, or the first row where `values` is a (rows, paths, classes) block. `names`: path of
    each vector, or of each column of such a block.
    """
    tolerance = 5e-3  # room for float16, which keeps three digits
    if not values.size:
        return
    # Most often all are good, which a few numbers tell; comparisons with NaN are false.
    if values.min() >= -1e-6 and values.max() <= 1 + tolerance:
        totals = values.sum(axis=-1, dtype=np.float32)
        if totals.min() >= 1 - tolerance and totals.max() <= 1 + tolerance:
            return
    totals = values.sum(axis=-1, dtype=np.float32)
    smallest = values.min(axis=-1)
    with np.errstate(invalid="ignore"):
        good = (np.abs(totals - 1) <= tolerance) & (smallest >= -1e-6)
    if good.all():
        return
    first = np.argwhere(~good)[0]
    row = int(rows + first[0] if isinstance(rows, (int, np.integer)) else rows[first[0]])
    name = names[first[-1]]
    vector = values[tuple(first)]
    where = f"for row {row}, path {name!r}"
    if np.isnan(vector).any():
        raise ValueError(
            f"Input X contains NaN {where}: leave such rows out, or give each class the same "
            "probability where a path has no answer."
        )
    if np.isinf(vector).any():
        raise ValueError(f"Input X contains infinity {where}.")
    total = float(totals[tuple(first)])
    hint = "Divide each vector by its sum, if it is that of all classes."
    if (vector < 0).any() or total > 1.5:
        hint = "These look like logits: apply a softmax first."
        if abs(total - 100) <= 1 and not (vector < 0).any():
            hint = "These look like per cent: divide by 100."
    if (vector < 0).any():
        raise ValueError(f"X has the negative probability {vector.min():g} {where}. {hint}")
    raise ValueError(f"Probabilities must sum to 1, but those {where} sum to {total:g}. {hint}")


def is_flat(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which vectors give every class the same probability: no answer, an abstention.

    `values` (..., n_classes). Returns shape (...).
    """
    flat = np.asarray(values[..., 0] == values[..., -1])
    if flat.any():  # seldom: only these are read whole
        some = values[flat]
        flat[flat] = (some == some[:, :1]).all(axis=1)
    return flat


def check_labels_given(values: ArrayLike, name: str, what: str = "label") -> NDArray[np.generic]:
    """Return labels that are all there and of one kind, so that they can be sorted.

    >>> from skquee.values._checks import check_labels_given
    >>> check_labels_given(["a", None], "y")
    Traceback (most recent call last):
        ...
    ValueError: y must hold a label for each row, but row 1 has None: leave such rows out.
    """
    given = np.asarray(values)
    if given.dtype == object:
        gone = np.array([_is_missing(value) for value in given.ravel().tolist()], dtype=bool)
    else:
        gone = ~np.isfinite(given) if given.dtype.kind in "fc" else np.zeros(given.size, dtype=bool)
    if gone.any():
        row = int(np.flatnonzero(gone)[0])
        raise ValueError(
            f"{name} must hold a {what} for each row, but row {row} has "
            f"{shown(given.ravel()[row])}: leave such rows out."
        )
    if given.dtype == object:
        texts = {isinstance(value, (str, bytes)) for value in given.ravel().tolist()}
        if len(texts) > 1:
            kinds = sorted({type(value).__name__ for value in given.ravel().tolist()})
            raise ValueError(
                f"{name} must be all texts or all numbers, got {' and '.join(kinds)}: write them "
                "alike."
            )
    return given


# ---------------------------------------------------------------------- files


def check_path(value: str | os.PathLike[str], name: str = "file") -> Path:
    """Return a path.

    >>> from skquee.values._checks import check_path
    >>> check_path(3, "cache")
    Traceback (most recent call last):
        ...
    TypeError: cache must be a path, a text or a pathlib.Path, got 3.
    """
    text = value if isinstance(value, str) else getattr(value, "__fspath__", lambda: None)()
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, a text or a pathlib.Path, got {shown(value)}.")
    try:
        if not text:
            raise ValueError("it is empty")
        if "://" in text:  # a folder "s3:" would be made
            raise ValueError("it is an address; take a place on this machine, and copy from there")
        os.lstat(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # what that means is for the caller to say
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{name} must be a path, got {shown(text)}: {why}.") from None
    return Path(text)


def check_output(file: str | os.PathLike[str], name: str = "file") -> Path:
    """Return where a file is to be written, while nothing has been worked out yet."""
    target = check_path(file, name)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of {name}, {target.parent}, does not exist: make it first."
        )
    if target.is_dir():
        raise IsADirectoryError(f"{name}={str(target)!r} is a folder: give a file's name in it.")
    _check_writable(target.parent, target, name)
    return target


def check_folder(folder: str | os.PathLike[str], name: str = "folder") -> Path:
    """Return a folder to write in, which may be made."""
    target = check_path(folder, name)
    for part in (target, *target.absolute().parents):
        if part.exists():
            if not part.is_dir():
                raise NotADirectoryError(
                    f"{name}={str(target)!r} must be a folder, but {str(part)!r} is a file."
                )
            _check_writable(part, target, name)
            break
    return target


def _check_writable(folder: Path, target: Path, name: str) -> None:
    # A file is written under another name and moved, so that its folder's permissions count.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{name}={str(target)!r} cannot be written: no file can be made in {folder}. Choose "
            "another folder, or change its permissions."
        )


# ---------------------------------------------------------------------- parts


def _within(
    value: float,
    at_least: float | None,
    above: float | None,
    at_most: float | None,
    below: float | None,
) -> bool:
    return bool(
        (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )


def _bounds(
    at_least: float | None, above: float | None, at_most: float | None, below: float | None
) -> str:
    signs = ((">=", at_least), (">", above), ("<=", at_most), ("<", below))
    parts = [
        f"{sign} {limit}" if isinstance(limit, int) else f"{sign} {limit:g}"
        for sign, limit in signs
        if limit is not None and np.isfinite(limit)
    ]
    return f" {' and '.join(parts)}" if parts else ""


def _is_missing(value: object) -> bool:
    # By name: pandas' own missing values, without importing it.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and not np.isfinite(value)
