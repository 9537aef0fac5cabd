"""The rows that a cascade of networks runs on, and what it made of them so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skquee.networks._images import ImageFormat, ImageRows

__all__ = ["CascadeState"]


@dataclass(frozen=True, eq=False)
class CascadeState:
    """Some images, as the formats asked for so far take them, and what networks answered.

    `rows`: the images, not read yet, part after part: a stream joins rows of several batches.
    `images`: by the number of the format. All states of the same rows share both, so that nothing
    is resized and no network runs twice on them.
    """

    rows: tuple[ImageRows, ...]
    images: dict[int, Tensor]
    answers: dict[str, NDArray[np.float32]]

    def of_format(self, number: int, wanted: ImageFormat, device: torch.device) -> Tensor:
        """Return the images in one format; rows that left before are never resized."""
        if number not in self.images:
            parts = [wanted.rows(part).tensor() for part in self.rows]
            # One part is taken as it is: a copy of images takes as long as a gate.
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            self.images[number] = whole.to(device)
        return self.images[number]

    def take(self, rows: NDArray[np.intp]) -> CascadeState:
        """Return some rows."""
        picked = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        images = {
            f: ready.index_select(0, picked.to(ready.device)) for f, ready in self.images.items()
        }
        answers = {level: answer[rows] for level, answer in self.answers.items()}
        return CascadeState(_picked(self.rows, np.asarray(rows, dtype=np.intp)), images, answers)

    @staticmethod
    def joined(states: Sequence[CascadeState]) -> CascadeState:
        """Return the rows of states, one after the other."""
        known = set.intersection(*(set(state.answers) for state in states))
        answers = {level: np.concatenate([s.answers[level] for s in states]) for level in known}
        ready = set.intersection(*(set(state.images) for state in states))
        images = {f: torch.cat([state.images[f] for state in states]) for f in ready}
        return CascadeState(_joined([part for s in states for part in s.rows]), images, answers)


def _picked(parts: Sequence[ImageRows], rows: NDArray[np.intp]) -> tuple[ImageRows, ...]:
    """Return rows of parts that follow each other, in the order asked for."""
    if len(parts) == 1:
        return (parts[0][rows],)
    starts = np.cumsum([0, *map(len, parts)])
    which = np.searchsorted(starts, rows, side="right") - 1
    runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(which)) + 1)
    picked = [parts[which[run[0]]][rows[run] - starts[which[run[0]]]] for run in runs if len(run)]
    return _joined(picked or [parts[0][rows]])


def _joined(parts: Sequence[ImageRows]) -> tuple[ImageRows, ...]:
    """Return parts, neighbours of the same images as one."""
    found: list[ImageRows] = []
    for part in [part for part in parts if len(part)] or parts[:1]:
        last = found[-1] if found else None
        if last is not None and last.data is part.data and last.collate is part.collate:
            found[-1] = replace(last, order=np.concatenate([last.order, part.order]))
        else:
            found.append(part)
    return tuple(found)
