"""What calls of a bank's classifiers take, by how many rows they get."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._checks import check_integer
from skquee.values._types import Json, Rows

__all__ = ["CallTimes", "measure_calls", "median_ms"]

# Sizes of the groups that are timed, as far as there are rows.
GROUPS = (1, 2, 8, 64, 512, 3000)
# A size is timed until it has taken so long, or so often.
SECONDS, REPEATS = 0.15, 7

# Times the rows of the largest group timed, up to which nothing is said of a time.
FURTHER = 1.25


@dataclass(frozen=True, eq=False)
class CallTimes:
    """Measured milliseconds of one call of each classifier, for several numbers of rows.

    Parameters
    ----------
    names : sequence of str, length n_classifiers
        Classifiers.
    rows : array-like of shape (n_sizes,)
        Numbers of rows, rising.
    calls : array-like of shape (n_classifiers, n_sizes)
        Milliseconds of a call with so many rows.
    deciding : array-like of shape (n_sizes,), default=None
        Milliseconds that a routed call with so many rows takes besides its classifiers. Default:
        not measured.

    Raises
    ------
    ValueError
        If shapes do not fit, names repeat, rows do not rise, or times are negative or not finite.

    Examples
    --------
    >>> from skquee.bank import CallTimes
    >>> times = CallTimes(("small", "large"), [1, 101], [[1.0, 2.0], [4.0, 24.0]])
    >>> times.milliseconds("large", 51)
    14.0
    >>> times.total({"small": 101, "large": 1})
    6.0

    :meth:`skquee.RoutedClassifier.measure` adds what deciding takes.

    >>> times = CallTimes(("small", "large"), [1, 101], [[1.0, 2.0], [4.0, 24.0]], [0.5, 1.5])
    >>> times.total({"small": 101, "large": 1}, 101)
    7.5
    """

    names: tuple[str, ...]
    rows: NDArray[np.float64]
    calls: NDArray[np.float64]
    deciding: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows, dtype=np.float64)
        calls = np.asarray(self.calls, dtype=np.float64)
        for name, value in (("names", tuple(self.names)), ("rows", rows), ("calls", calls)):
            object.__setattr__(self, name, value)
        if self.deciding is not None:
            deciding = np.asarray(self.deciding, dtype=np.float64)
            object.__setattr__(self, "deciding", deciding)
            if deciding.shape != rows.shape or not (np.isfinite(deciding) & (deciding >= 0)).all():
                raise ValueError(
                    f"deciding must be a finite time from 0 up for each of {rows.size} numbers of "
                    f"rows, got {deciding.tolist()}."
                )
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names must be different, got {list(self.names)}.")
        if rows.ndim != 1 or not rows.size or rows[0] < 1 or not (np.diff(rows) > 0).all():
            raise ValueError(f"rows must be numbers from 1 up, rising, got {rows.tolist()}.")
        if calls.shape != (len(self.names), len(rows)):
            raise ValueError(
                f"calls must have shape (n_classifiers, n_sizes) = {(len(self.names), len(rows))}, "
                f"got {calls.shape}."
            )
        if not (np.isfinite(calls).all() and (calls >= 0).all()):
            raise ValueError("calls must be finite and not negative.")

    def milliseconds(self, classifier: str | int, n_rows: float) -> float:
        """Return what one call with so many rows takes.

        Between measured sizes the time is interpolated linearly; beyond the largest it goes on
        as fast as between the last two. More than a quarter beyond it warns, once.

        Parameters
        ----------
        classifier : str or int
            Name or position.
        n_rows : float
            Rows; 0 takes no time.

        Returns
        -------
        float
        """
        if isinstance(classifier, str):
            if classifier not in self.names:
                raise ValueError(f"There is no classifier {classifier!r} among {self.names}.")
            classifier = self.names.index(classifier)
        if n_rows < 0:
            raise ValueError(f"n_rows must not be negative, got {n_rows}.")
        return self._at(self.calls[classifier], n_rows)

    def _at(self, times: NDArray[np.float64], n_rows: float) -> float:
        """Return times of the measured sizes at another number of rows."""
        rows = self.rows
        if n_rows == 0:
            return 0.0
        if n_rows <= rows[-1]:
            return float(np.interp(n_rows, rows, times))
        self._warn_beyond(n_rows)
        if len(rows) == 1:
            return float(times[0] * n_rows / rows[0])
        slope = max(times[-1] - times[-2], 0.0) / (rows[-1] - rows[-2])
        return float(times[-1] + slope * (n_rows - rows[-1]))

    def _warn_beyond(self, n_rows: float) -> None:
        """Warn, once for these times, that larger groups than any timed are a guess."""
        if "_warned" in vars(self) or n_rows <= FURTHER * self.rows[-1]:
            return
        object.__setattr__(self, "_warned", True)
        most = f"{self.rows[-1]:g}"
        warnings.warn(
            f"Calls were timed with up to {most} rows, what more rows take is extrapolated. Time "
            "groups as large as will run together (bank.measure(X), with so many rows in X), or "
            f"ask for no more (latency_rows={most} of a bank).",
            UserWarning,
            stacklevel=3,
        )

    def per_row(self, n_rows: float) -> NDArray[np.float64]:
        """Return milliseconds a row of every classifier, in calls with so many rows.

        Parameters
        ----------
        n_rows : float
            Rows a call.

        Returns
        -------
        ndarray of shape (n_classifiers,)
        """
        return np.array([self.milliseconds(c, n_rows) / n_rows for c in range(len(self.names))])

    def total(self, counts: Mapping[str, int], n_rows: int | None = None) -> float:
        """Return what a routed call takes, one call of each classifier that ran.

        Parameters
        ----------
        counts : mapping of str to int
            Rows that each classifier ran on, as ``Routes.counts``.
        n_rows : int, default=None
            Rows of the routed call, ``len(routes)``: what deciding takes is added. Default: the
            classifiers alone.

        Returns
        -------
        float
            Milliseconds.

        Raises
        ------
        ValueError
            If `n_rows` is given and deciding was not measured.
        """
        alone = sum(self.milliseconds(name, n_run) for name, n_run in counts.items())
        if n_rows is None:
            return alone
        if self.deciding is None:
            raise ValueError(
                "These times know classifiers only, not what deciding takes: leave n_rows out, or "
                "measure routed calls (RoutedClassifier.measure)."
            )
        return alone + self._at(self.deciding, n_rows)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain lists."""
        return {
            "names": list(self.names),
            "rows": self.rows.tolist(),
            "calls": self.calls.tolist(),
            "deciding": None if self.deciding is None else self.deciding.tolist(),
        }

    @classmethod
    def from_dict(cls, fields: Json) -> CallTimes:
        """Return what :meth:`to_dict` gave.

        Parameters
        ----------
        fields : mapping
            With ``names``, ``rows`` and ``calls``.

        Returns
        -------
        CallTimes
        """
        missing = {"names", "rows", "calls"} - set(fields)
        if missing:
            raise ValueError(f"These times lack {sorted(missing)}.")
        names = tuple(map(str, fields["names"]))
        return cls(names, fields["rows"], fields["calls"], fields.get("deciding"))


def measure_calls(
    names: Sequence[str],
    call: Callable[[int, Rows], object],
    take: Callable[[NDArray[np.intp]], Rows],
    n_samples: int,
    *,
    groups: ArrayLike = GROUPS,
    clock: Callable[[], float] = time.perf_counter,
) -> CallTimes:
    """Time every classifier on groups of several sizes, medians of several calls.

    `call`: ``call(column, X)`` runs one of them. `take`: returns rows of the input. Groups larger
    than `n_samples` are left out. `clock`: seconds.
    """
    if n_samples < 1:
        raise ValueError("There are no rows to time calls on: give at least 1.")
    given = np.atleast_1d(groups).tolist()
    asked = [check_integer(n, "groups", at_least=1, whole_floats=True) for n in given]
    if not asked:
        raise ValueError("groups must hold at least one number of rows to time.")
    sizes = sorted({min(size, n_samples) for size in asked})
    found = np.empty((len(names), len(sizes)))
    for place, size in enumerate(sizes):
        X = take(np.arange(size))
        for column in range(len(names)):
            found[column, place] = median_ms(partial(call, column, X), clock)
    return CallTimes(tuple(names), np.array(sizes, dtype=np.float64), found)


def median_ms(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median milliseconds of several calls.

    `call`: called once more before, as the first call with a size may set things up. `clock`:
    seconds.
    """
    call()
    taken: list[float] = []
    while len(taken) < REPEATS and (sum(taken) < SECONDS or not taken):
        began = clock()
        call()
        taken.append(clock() - began)
    return 1000 * float(np.median(taken))
