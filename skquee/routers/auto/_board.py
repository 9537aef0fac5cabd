"""The ranking of candidates on the folds they were tried on, and who is tried on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skquee.routers.auto._judging import FoldCurves, fold_curves, held_out, paired, row_losses
from skquee.routers.auto._search import Swept
from skquee.values import PathTree

__all__ = ["Line", "near", "prefer", "rank", "survivors", "team", "warn_of_failures"]


@dataclass(frozen=True)
class Line:
    """What is known of one candidate.

    `name`: its name. `area`, `se`: mean height of its hull over cost, and the standard error over
    folds. `loss`: error plus priced cost, the mean over prices. `behind`, `behind_se`: loss beyond
    that of the best candidate, and its standard error, paired by row, on the folds that both were
    tried on. `folds`: on how many it was tried. `seconds`: of fits and sweeps. `failed`: the error
    of one that did not fit.
    """

    name: str
    area: float = np.nan
    se: float = np.nan
    loss: float = np.nan
    behind: float = np.nan
    behind_se: float = np.nan
    folds: int = 0
    seconds: float = 0.0
    failed: str = ""

    @property
    def score(self) -> float:
        """Loss less area: the least is best."""
        return self.loss - self.area


def rank(
    found: Mapping[str, Sequence[Swept]],
    tree: PathTree,
    weights: Sequence[NDArray[np.float64]] | None,
) -> list[Line]:
    """Return candidates, best first: those tried on most folds, then by area and loss.

    `found`: each candidate on the folds that it was tried on, from the first. `tree`: with costs.
    `weights`: weights of the rows of every fold. Returns what failed comes last.
    """
    costs, prices, span = _scale(tree)
    lines, losses = [], {}
    for name, swept in found.items():
        seconds = sum(part.seconds for part in swept)
        failed = next((part.failed for part in swept if part.failed), "")
        if failed:
            lines.append(Line(name, folds=len(swept), seconds=seconds, failed=failed))
            continue
        known = None if weights is None else weights[: len(swept)]
        curves = fold_curves(swept, costs, known)
        areas, lost = held_out(curves, prices, *span)
        error = np.std(areas, ddof=1) / np.sqrt(len(areas)) if len(areas) > 1 else np.nan
        losses[name] = row_losses(swept, curves, prices, costs)
        lines.append(
            Line(
                name,
                float(areas.mean()),
                float(error),
                float(lost.mean()),
                folds=len(swept),
                seconds=seconds,
            )
        )
    lines.sort(key=lambda line: (bool(line.failed), -line.folds, line.score))
    return [_behind(line, lines[0], losses, weights) for line in lines]


def team(
    found: Mapping[str, Sequence[Swept]],
    names: Sequence[str],
    tree: PathTree,
    weights: Sequence[NDArray[np.float64]] | None,
    most: int,
) -> list[str]:
    """Return whose operating points together are best on the folds: the first, and who adds most.

    `found`, `tree`, `weights`: as of :func:`rank`. `names`: who may take part, the best one first,
    all tried on as many folds. `most`: how many at most. One that adds nothing is left out.
    """
    costs, prices, span = _scale(tree)
    curves = {name: fold_curves(found[name], costs, weights) for name in names}

    def score(points: FoldCurves) -> float:
        areas, losses = held_out(points, prices, *span)
        return float(losses.mean() - areas.mean())

    chosen = [names[0]]
    points = curves[names[0]]
    least = score(points)
    while len(chosen) < min(most, len(names)):
        tried = {n: score(points.joined(curves[n])) for n in names if n not in chosen}
        best = min(tried, key=tried.__getitem__)
        if tried[best] >= least:
            break
        chosen.append(best)
        points, least = points.joined(curves[best]), tried[best]
    return chosen


def _scale(
    tree: PathTree,
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Return costs of the paths, prices that losses are averaged over, and the range of cost."""
    costs = tree.path_costs
    prices = np.geomspace(0.01, 1, 25) / (costs.max() or 1.0)
    return costs, prices, (float(costs.min()), float(costs.max()))


def _behind(
    line: Line,
    best: Line,
    losses: Mapping[str, NDArray[np.float64]],
    weights: Sequence[NDArray[np.float64]] | None,
) -> Line:
    """Return a line that knows how far it is behind the best."""
    if line.failed:
        return line
    mine = losses[line.name]
    n = min(len(mine), len(losses[best.name]))
    known = None if weights is None else np.concatenate(list(weights))[:n]
    mean, error = paired(mine[:n], losses[best.name][:n], known)
    return Line(**{**line.__dict__, "behind": mean, "behind_se": error})


def near(lines: Sequence[Line], standard_errors: float) -> list[str]:
    """Return who cannot be told from the best, in the order of the lines.

    `lines`: best first. `standard_errors`: of the paired difference of losses, taken twice as the
    score is a loss less an area that moves with it, that a score may be behind the best. Returns
    the best and those that were tried on as many folds.
    """
    best = lines[0]
    return [
        line.name
        for line in lines
        if not line.failed
        and line.folds == best.folds
        and line.score - best.score <= 2 * standard_errors * line.behind_se
    ]


def warn_of_failures(lines: Sequence[Line]) -> None:
    """Name those that failed to the user whose call of ``fit`` this is."""
    for line in lines:
        if line.failed:
            warnings.warn(
                f"The candidate {line.name!r} failed and is left out: {line.failed}",
                UserWarning,
                stacklevel=3,
            )


def prefer(lines: Sequence[Line], kind: str) -> list[Line]:
    """Return lines, first the best one of a kind where it cannot be told from the best of all.

    `lines`: best first. `kind`: how the names of those begin that are better on most tables: what
    is known of others outweighs a difference that is within the noise of this one.
    """
    like = [name for name in near(lines, 1.0) if name.startswith(kind)]
    return sorted(lines, key=lambda line: line.name not in like[:1])


def survivors(
    lines: Sequence[Line], groups: Sequence[Sequence[str]], discard: float | None
) -> list[str]:
    """Return who is tried on the next fold: with one that is not far behind, all its group.

    Their training is the same, and dear; their policies are cheap, and near one another.

    `lines`: candidates that are still tried. `groups`: candidates that one training serves.
    `discard`: standard errors, as of :func:`near`; None keeps all.
    """
    fine = {line.name: line for line in lines if not line.failed}
    close = set(fine if discard is None else near(lines, discard))
    kept = {name for group in groups if close.intersection(group) for name in group}
    return [name for name in fine if name in kept]
