"""What a decider returns, looked at while it decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skquee.testing._expect import expect
from skquee.walk import Decider, Visit
from skquee.walk._decider import History, Step

__all__ = ["Watched"]


@dataclass(frozen=True, eq=False)
class Watched(Decider):
    """Decide as another does, and look at what it returns."""

    inner: Decider
    name: str

    def step(self, visit: Visit) -> Step:
        found = self.inner.step(visit)
        what, m = f"{self.name}: step(visit) of its decider", len(visit.rows)
        expect(
            isinstance(found, tuple) and len(found) == 2,
            f"{what} must return next paths and predicted errors, got {type(found).__name__}.",
        )
        steps, errors = np.asarray(found[0]), np.asarray(found[1])
        expect(
            steps.shape == (m,) and steps.dtype.kind in "iu",
            f"{what} must return {m} path indices first, one a sample, got {steps.dtype} of shape "
            f"{steps.shape}.",
        )
        expect(
            errors.shape == (m,) and errors.dtype.kind == "f",
            f"{what} must return {m} predicted errors second, NaN where there is none, got "
            f"{errors.dtype} of shape {errors.shape}.",
        )
        for prefix in np.unique(visit.prefixes).tolist():
            open_ = self.tree.roots if prefix < 0 else self.tree.children(prefix)
            allowed = open_ if prefix < 0 else np.append(open_, prefix)
            strange = np.setdiff1d(steps[visit.prefixes == prefix], allowed)
            expect(
                not strange.size,
                f"{what} must return a path one step longer than the sample's own, or its own to "
                f"exit: from {prefix} one of {sorted(allowed.tolist())}, got {strange.tolist()}.",
            )
        return steps, errors

    def answer(
        self, paths: NDArray[np.intp], now: NDArray[np.floating], history: History
    ) -> NDArray[np.floating]:
        found = np.asarray(self.inner.answer(paths, now, history))
        expect(
            found.shape == now.shape,
            f"{self.name}: answer of its decider must have the shape of the probabilities, "
            f"{now.shape}, got {found.shape}.",
        )
        return found
