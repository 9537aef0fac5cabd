"""Does routing pay? Every model alone beside routed operating points, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skquee.evaluation import CostCurve, wilson_interval
from skquee.values import PathTree
from skquee.values._optional import require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Clock", "Models", "Verdict", "judge", "models_of", "summary_frame", "summary_lines"]

N_POINTS = 4


@dataclass(frozen=True, eq=False)
class Models:
    """The models that can be used alone.

    `names`: classifiers of a bank; whole paths of a network. `paths` (n_models,): A path that ends
    with each. `costs` (n_models,): what each costs alone. `ran` (n_models, n_paths): whether a
    sample on a path ran the model; None for a network.
    """

    names: tuple[str, ...]
    paths: NDArray[np.intp]
    costs: NDArray[np.float64]
    ran: NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Clock:
    """Milliseconds a row, measured while fit ran every model on its rows.

    `models` (n_models,): of each model, in calls with all those rows. `deciding`: of deciding, the
    gates included, besides the models.
    """

    models: NDArray[np.float64]
    deciding: float
    n_rows: int

    def routed(self, shares: NDArray[np.float64]) -> float:
        """Return milliseconds a row where each model runs on a share of the rows."""
        return float(self.models @ shares) + self.deciding


@dataclass(frozen=True, eq=False)
class Verdict:
    """Whether routing pays.

    `text`: "route", or which model to use alone.
    """

    text: str
    reason: str


def models_of(tree: PathTree, names: Sequence[str] | None) -> Models:
    """Return the models of a tree.

    `tree`: with the costs that hold. `names`: of the classifiers, by column; None where a network
    answers: every path is a model.
    """
    costs = tree.path_costs
    if names is None:
        every = np.arange(tree.n_paths)
        return Models(tuple(tree.names), every, costs, None)
    before = np.array([costs[p] if p >= 0 else 0.0 for p in tree.parents])
    kept, paths, steps, ran = [], [], [], []
    on_way = np.zeros((len(names), tree.n_paths), dtype=bool)
    for path in range(tree.n_paths):
        on_way[tree.path_columns[tree.prefixes(path)], path] = True
    for column, name in enumerate(names):
        readers = np.flatnonzero(tree.path_columns == column)
        if len(readers):
            kept.append(str(name))
            paths.append(int(readers[0]))
            steps.append(float((costs - before)[readers].min()))
            ran.append(on_way[column])
    return Models(tuple(kept), np.array(paths), np.array(steps), np.array(ran))


def judge(
    accuracy: float,
    cost: float,
    milliseconds: float | None,
    models: Models,
    alone: NDArray[np.float64],
    clock: Clock | None,
    max_error_increase: float,
    unit: str | None,
    half_widths: NDArray[np.float64] | None = None,
) -> Verdict:
    """Tell whether an operating point pays against the cheapest model that keeps the rule.

    `milliseconds`: A row, deciding included. `alone` (n_models,): their accuracies on the same
    rows. `max_error_increase`: how far below the best model an accuracy may be. `half_widths`
    (n_models,): of the 95 % interval of the difference in accuracy to each model, on the same rows.
    """
    best = float(alone.max())
    enough = np.flatnonzero(alone >= best - max_error_increase - 1e-12)
    rival = int(enough[np.lexsort((-alone[enough], models.costs[enough]))[0]])
    name, price = models.names[rival], float(models.costs[rival])
    ours, theirs = _amount(cost, unit), _amount(price, unit)
    instead = f"use {name} alone"
    heights = f"accuracy {accuracy:.4g} instead of {alone[rival]:.4g}"
    if half_widths is not None:
        gain, half = 100 * (accuracy - alone[rival]), 100 * half_widths[rival]
        heights += f" ({gain:+.1f} points, 95 % {gain - half:+.1f} to {gain + half:+.1f})"
    if accuracy < best - max_error_increase - 1e-12:
        reason = (
            f"routed accuracy {accuracy:.4g} is more than {max_error_increase:g} below the best "
            f"model's {best:.4g}; {name} keeps within that for {theirs} a row, routing costs "
            f"{ours}, {heights}"
        )
        return Verdict(instead, reason)
    if not cost < price:
        reason = (
            f"routing costs {ours} a row for an accuracy of {accuracy:.4g}, {name} alone {theirs} "
            f"for {alone[rival]:.4g}"
        )
        return Verdict(instead, reason)
    reason = f"{ours} a row instead of {theirs} for {name} alone, {heights}"
    if clock is None or milliseconds is None:
        return Verdict("route", f"{reason}; the clock was not read")
    slow, fast = milliseconds, float(clock.models[rival])
    clocked = (
        f"{slow:.3g} ms a row on the clock, {name} alone {fast:.3g} ms (calls with {clock.n_rows} "
        "rows)"
    )
    if slow > fast:
        return Verdict(instead, f"routing is cheaper, {reason}, but slower: {clocked}")
    return Verdict("route", f"{reason}; {clocked}")


def summary_frame(lines: list[dict[str, object]], verdict: Verdict, source: str) -> pd.DataFrame:
    """Return what :func:`summary_lines` gave as a frame; ``attrs`` holds the verdict and source."""
    pd = require("pandas", "summary")

    frame = pd.DataFrame(lines).set_index("").rename_axis(None)
    frame["verdict"] = ["" if title != "routed" else verdict.text for title in frame.index]
    frame.attrs |= {"verdict": verdict.text, "reason": verdict.reason, "source": source}
    return frame


def summary_lines(
    curve: CostCurve,
    chosen: int | None,
    models: Models,
    alone: NDArray[np.bool_],
    clock: Clock | None,
    max_error_increase: float,
) -> tuple[list[dict[str, object]], Verdict]:
    """Return a line for every model alone, the chosen point, and others along the curve.

    `chosen`: place of the point in use; None: not on the curve. `alone` (n_samples, n_models):
    whether each answers right. Returns `lines`: title under ``""``, knob, accuracy with its
    interval, cost, milliseconds, shares; `verdict`: on the chosen point; empty where there is none.
    """
    unit = curve.tree.cost_unit
    weights = curve.sample_weight
    heights = np.average(alone, axis=0, weights=weights)
    n_rows = float(weights.sum() ** 2 / (weights**2).sum())
    lines: list[dict[str, object]] = []
    ran = None if models.ran is None else curve.path_shares @ models.ran.T

    def line(
        title: str,
        knob: float,
        accuracy: float,
        cost: float,
        shares: NDArray[np.float64] | None,
        ms: float | None,
    ) -> None:
        low, high = (float(end) for end in wilson_interval(accuracy, n_rows))
        found = {"": title, curve.knob: knob, "accuracy": accuracy}
        found |= {"accuracy_low": low, "accuracy_high": high, _cost_name(unit): cost, "ms": ms}
        if shares is not None:
            found |= {
                f"ran {name}": share for name, share in zip(models.names, shares, strict=True)
            }
        lines.append(found)

    for place, name in enumerate(models.names):
        shares = None if ran is None else np.eye(len(models.names))[place]
        ms = np.nan if clock is None else clock.models[place]
        line(f"{name} alone", np.nan, float(heights[place]), float(models.costs[place]), shares, ms)
    verdict = Verdict("", "")
    for place in _points(curve, chosen):
        shares = None if ran is None else ran[place]
        ms = None if clock is None or shares is None else clock.routed(shares)
        accuracy, cost = float(curve.accuracy[place]), float(curve.cost[place])
        title = "routed" if place == chosen else f"routed, {curve.knob}={curve.knobs[place]:.3g}"
        line(title, float(curve.knobs[place]), accuracy, cost, shares, np.nan if ms is None else ms)
        if place == chosen:
            apart = alone - curve.correct[place][:, None].astype(np.float64)
            share = weights / weights.sum()
            halves = 1.96 * np.sqrt(share**2 @ (apart - share @ apart) ** 2)
            verdict = judge(
                accuracy, cost, ms, models, heights, clock, max_error_increase, unit, halves
            )
    return lines, verdict


def _points(curve: CostCurve, chosen: int | None) -> list[int]:
    """Return the chosen point, then some corners of the hull at about even steps of cost."""
    cost, accuracy = curve.cost, curve.accuracy
    x, y = curve.hull()
    places = [
        int(np.flatnonzero((cost == c) & (accuracy == a))[0]) for c, a in zip(x, y, strict=True)
    ]
    wanted = np.linspace(x[0], x[-1], N_POINTS)
    near = dict.fromkeys(places[int(np.argmin(np.abs(x - c)))] for c in wanted)
    mine = None if chosen is None else (cost[chosen], accuracy[chosen])
    rest = [p for p in near if (cost[p], accuracy[p]) != mine]
    return rest if chosen is None else [chosen, *rest]


def _cost_name(unit: str | None) -> str:
    return "cost" if unit is None else f"cost ({unit})"


def _amount(cost: float, unit: str | None) -> str:
    return f"{cost:.4g}" if unit is None else f"{cost:.4g} {unit}"
