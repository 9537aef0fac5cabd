"""Measured milliseconds of blocks with their exits, and of gates, by level and number of rows."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from skquee.values._checks import (
    check_integer,
    check_number,
    check_numbers,
    check_option,
    check_sequence,
)
from skquee.values._reading import field
from skquee.values._types import Json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LatencyTable", "this_machine"]


@dataclass(frozen=True)
class LatencyTable:
    """How long each block takes at each level for some numbers of rows, on one machine.

    Between measured numbers of rows time is a straight line, beyond the largest it grows as
    between the last two.

    Attributes
    ----------
    levels : tuple of str
        Cheapest first.
    batch_sizes : tuple of int
        Rising.
    blocks : ndarray of shape (n_blocks, n_levels, n_sizes)
        Milliseconds of one run of a block and the exit after it.
    gates : ndarray of shape (n_sizes,)
        Milliseconds of a gate.
    threads : int
        Threads of torch while it was measured.
    machine : str
        Where.
    start : float, default=0.0
        Milliseconds that a batch takes besides; see :meth:`calibrated`.

    Raises
    ------
    ValueError
        If shapes do not fit, or a time is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.networks.engines import LatencyTable
    >>> table = LatencyTable(
    ...     ("int8", "fp32"), (1, 10), np.array([[[1.0, 5.5], [2.0, 20.0]]]), np.zeros(2), 1, "mine"
    ... )
    >>> table.milliseconds(block=0, level="fp32", n_rows=[1, 4, 20])
    array([ 2.,  8., 40.])
    >>> table.step_costs(batch_size=10)
    array([[0.55, 2.  ]])
    """

    levels: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    blocks: NDArray[np.float64]
    gates: NDArray[np.float64]
    threads: int
    machine: str
    start: float = 0.0

    def __post_init__(self) -> None:
        texts = all(isinstance(level, str) for level in self.levels)
        if not self.levels or not texts or len(set(self.levels)) != len(self.levels):
            raise ValueError(f"levels must be distinct names, at least one, got {self.levels!r}.")
        sizes = [check_integer(size, "batch_sizes", at_least=1) for size in self.batch_sizes]
        if not sizes or sizes != sorted(set(sizes)):
            raise ValueError(f"batch_sizes must rise, at least one, got {self.batch_sizes!r}.")
        shape = (None, len(self.levels), len(sizes))
        check_numbers(self.blocks, "blocks", shape=shape, what="milliseconds", at_least=0)
        check_numbers(self.gates, "gates", shape=(len(sizes),), what="milliseconds", at_least=0)
        check_integer(self.threads, "threads", at_least=1)
        check_number(self.start, "start", at_least=0)
        if not isinstance(self.machine, str):
            raise ValueError(f"machine must be a text, got {self.machine!r}.")

    def milliseconds(self, block: int, level: str, n_rows: ArrayLike) -> NDArray[np.float64]:
        """Return how long a block, its exit and a gate, but at the end, take.

        Parameters
        ----------
        block : int
            From 0.
        level : str
            Of ``levels``.
        n_rows : array-like of int
            Rows run together; 0 takes no time.

        Returns
        -------
        ndarray
        """
        check_option(level, "level", self.levels)
        check_integer(block, "block", at_least=0, at_most=len(self.blocks) - 1)
        if not isinstance(n_rows, int) or n_rows < 0:  # the walk asks for one number, often
            check_numbers(n_rows, "n_rows", at_least=0)
        rows = np.asarray(n_rows, dtype=np.float64)
        return self._interpolate(self._steps[block, self.levels.index(level)], rows)

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """Milliseconds of a block, its exit and a gate but at the end, as `blocks`."""
        steps = self.blocks.copy()
        steps[:-1] += self.gates
        return steps

    def _interpolate(
        self, times: NDArray[np.float64], n_rows: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return times (..., n_sizes) at numbers of rows, shape (..., *n_rows.shape)."""
        sizes = np.array(self.batch_sizes, dtype=np.float64)
        if len(sizes) > 1:
            slope = np.maximum(times[..., -1] - times[..., -2], 0.0) / (sizes[-1] - sizes[-2])
        else:
            slope = times[..., -1] / sizes[-1]
        inside = np.clip(n_rows, sizes[0], sizes[-1])
        after = np.clip(np.searchsorted(sizes, inside), min(1, len(sizes) - 1), None)
        before = np.maximum(after - 1, 0)
        width = np.maximum(sizes[after] - sizes[before], 1.0)
        share = (inside - sizes[before]) / width
        found = times[..., before] * (1 - share) + times[..., after] * share
        found = found + np.multiply.outer(slope, np.maximum(n_rows - sizes[-1], 0))
        return np.where(n_rows > 0, found, 0.0)

    def step_costs(self, batch_size: int) -> NDArray[np.float64]:
        """Return the milliseconds a row costs at each block and level, in groups of a size.

        Parameters
        ----------
        batch_size : int
            Rows run together.

        Returns
        -------
        ndarray of shape (n_blocks, n_levels)
        """
        check_integer(batch_size, "batch_size", at_least=1)
        if batch_size not in self._costs:  # a bank asks at every batch
            steps = self._interpolate(self._steps, np.array(float(batch_size)))
            self._costs[batch_size] = steps / batch_size
        return self._costs[batch_size]

    @cached_property
    def _costs(self) -> dict[int, NDArray[np.float64]]:
        return {}

    def predict(self, counts: Mapping[str, int]) -> float:
        """Return the milliseconds that a routed batch takes, from what it ran.

        Parameters
        ----------
        counts : mapping of str to int
            ``routes.counts`` of one chunk: rows by ``"block 2 at int8"``.

        Returns
        -------
        float
        """
        return self.start + sum(
            float(self.milliseconds(block, level, n_rows)) for block, level, n_rows in _runs(counts)
        )

    def calibrated(
        self, counts: Sequence[Mapping[str, int]], milliseconds: ArrayLike
    ) -> LatencyTable:
        """Return a table that knows what deciding takes beside blocks, from routed batches.

        The time that blocks leave unexplained is that of a batch, ``start``, and, added to
        ``gates``, that of each gate and of each row it judges: by least squares of relative
        errors, none negative.

        Parameters
        ----------
        counts : sequence of mapping of str to int
            ``routes.counts`` of batches, of several sizes and numbers of gates.
        milliseconds : array-like of shape (n_batches,)
            What each took.

        Returns
        -------
        LatencyTable
        """
        counts = check_sequence(counts, "counts", "routes.counts, one a batch")
        if not counts:
            raise ValueError("counts must be routes.counts of some batches, got none.")
        what = f"one for each of {len(counts)} counts"
        took = check_numbers(milliseconds, "milliseconds", shape=(len(counts),), what=what, above=0)
        bare = replace(self, start=0.0)
        rest = took - [bare.predict(batch) for batch in counts]
        last = len(self.blocks) - 1
        judged = [[n for block, _, n in _runs(batch) if block < last] for batch in counts]
        parts = np.array([[1, len(rows), sum(rows)] for rows in judged]) / took[:, None]
        (start, gate, row), _ = nnls(parts, rest / took)
        gates = self.gates + gate + row * np.array(self.batch_sizes)
        return replace(self, start=float(start), gates=gates)

    def to_frame(self) -> pd.DataFrame:
        """Return the milliseconds as a table: rows are blocks and the gate."""
        import pandas as pd

        rows: dict[tuple[str, str], NDArray[np.float64]] = {}
        for block in range(len(self.blocks)):
            for number, level in enumerate(self.levels):
                rows[f"block {block + 1}", level] = self.blocks[block, number]
        rows["gate", ""] = self.gates
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(self.batch_sizes))
        frame.index = pd.MultiIndex.from_tuples(frame.index, names=["part", "level"])
        frame.columns.name = "rows"
        frame.attrs = {"threads": self.threads, "machine": self.machine, "unit": "ms"}
        return frame

    def to_dict(self) -> Json:
        """Return the fields, fit for JSON."""
        return {
            "levels": list(self.levels),
            "batch_sizes": list(self.batch_sizes),
            "blocks": self.blocks.tolist(),
            "gates": self.gates.tolist(),
            "threads": self.threads,
            "machine": self.machine,
            "start": self.start,
        }

    @classmethod
    def from_dict(cls, record: Json) -> LatencyTable:
        """Return the table that :meth:`to_dict` described.

        Parameters
        ----------
        record : mapping
            Its fields.

        Returns
        -------
        LatencyTable

        Raises
        ------
        ValueError
            If a field is missing, or times are not finite and from 0 up, one for each block,
            level and number of rows.
        """
        where = "The latency table"
        if not isinstance(record, Mapping):
            raise ValueError(f"{where} must be a mapping of its fields, got {record!r:.60}.")
        arrays = {
            key: check_numbers(field(record, key, list, where), key) for key in ("blocks", "gates")
        }
        return cls(
            levels=tuple(field(record, "levels", list, where)),
            batch_sizes=tuple(field(record, "batch_sizes", list, where)),
            threads=field(record, "threads", int, where),
            machine=field(record, "machine", str, where),
            start=field(record, "start", (int, float), where, 0.0),
            **arrays,
        )


def _runs(counts: Mapping[str, int]) -> Iterator[tuple[int, str, int]]:
    """Yield block (from 0), level and rows of what a batch ran."""
    if not isinstance(counts, Mapping):
        raise TypeError(
            f"counts must be a mapping, routes.counts of a batch, got a {type(counts).__name__}."
        )
    for step, n_rows in counts.items():
        match = re.fullmatch(r"block (\d+) at (.+)", str(step))
        if match is None:
            raise ValueError(f"counts must be keyed like 'block 2 at int8', got {step!r}.")
        yield int(match[1]) - 1, match[2], n_rows


def this_machine(device: torch.device) -> str:
    """Return what identifies a machine for timings: processor or GPU, and torch."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, torch {torch.__version__}"


def check_sizes(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return numbers of rows in rising order, or raise where one is not whole and positive."""
    given = check_sequence(batch_sizes, "batch_sizes", "numbers of rows, (1, 64)")
    sizes = {check_integer(size, "Each of batch_sizes", at_least=1) for size in given}
    if not sizes:
        raise ValueError("batch_sizes must be numbers of rows, at least one, got none.")
    return tuple(sorted(sizes))
