"""A model card: what a router was measured on, what it costs, what it promises, how to load it."""

from __future__ import annotations

import os
import platform
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skquee._version import __version__
from skquee.evaluation import CostCurve, wilson_interval
from skquee.evaluation._curve import points_of
from skquee.routers._budget import BudgetRouter
from skquee.routers._judged import JudgedMixin, judged_alone
from skquee.routers._risk import RiskControlledRouter
from skquee.routers._summary import Models, models_of
from skquee.routers._tuned import TunedCostAwareRouterCV
from skquee.values._atomic import whole_file, write_text
from skquee.values._checks import check_output
from skquee.values._labels import correctness, stored
from skquee.values._optional import require
from skquee.walk import RoutingMixin
from skquee.walk._report import check_reported, knobs_with_own, place_of

if TYPE_CHECKING:
    from skops.card import Card

__all__ = ["model_card"]

PACKAGES = ("numpy", "scikit-learn", "skops", "torch")
MOST_PATHS, MOST_POINTS = 60, 12
OPEN = "[More Information Needed]"  # as skops writes it
RESULTS = "Model description/Evaluation Results"


def model_card(
    model: BaseEstimator,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    file: str | os.PathLike[str] | None = None,
    model_file: str | os.PathLike[str] | None = None,
) -> Card:
    """Describe a fitted router or classifier in a model card of skops.

    The card holds the rows it was measured on, every path with its cost, the operating point in
    use beside others along the accuracy-cost curve, what is guaranteed and under which conditions,
    versions, and how to load it. What only its author knows (intended uses, contact) is left open
    in skops' own words: ``card.add(...)`` fills it.

    Parameters
    ----------
    model : RoutedClassifier, router or baseline
        Fitted.
    X : array-like, data frame, sequence or PathProbabilities, default=None
        Rows to measure on, as ``model.report`` takes them; every classifier runs on all of them,
        once. Default: those of fit that judged the model, where it has kept some.
    y : array-like of shape (n_samples,), default=None
        Their labels.
    file : path, default=None
        Where to write the card, ``"README.md"``, whole or not at all, and beside it a picture of
        the curve, ``"README_curve.svg"`` (needs matplotlib). Default: nothing is written.
    model_file : path, default=None
        What :func:`skquee.dump` wrote: its name goes into the instructions, and its SHA-256, by
        which a reader knows that a file is the one described. Default: ``"model.skops"``, and no
        digest.

    Returns
    -------
    skops.card.Card
        To add to, ``render`` or ``save``. It holds counts and digests, never X nor labels.

    Raises
    ------
    TypeError
        If `model` is no router.
    NotFittedError
        If it is not fitted.
    ValueError
        If rows come without labels, or labels without rows, or the model kept no rows and none
        are given.
    FileNotFoundError
        If there is no `model_file`, or no folder for `file`.
    ModuleNotFoundError
        If skops is not installed.

    See Also
    --------
    skquee.dump : The file that goes with it.
    skquee.RoutedClassifier.report : A page to play with.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skquee import RoutedClassifier
    >>> from skquee.router import model_card
    >>> model = RoutedClassifier().fit(*load_iris(return_X_y=True))
    >>> card = model_card(model)
    >>> card = card.add(**{"Model description/Intended uses & limitations": "Irises only."})
    >>> print(card.select("Model description/Guarantee").content)
    None was asked for: the figures above are what was measured.
    """
    if isinstance(model, type) or not isinstance(model, RoutingMixin):
        given = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(
            f"model_card describes a fitted router or RoutedClassifier, got {given}: "
            "skops.card.Card describes other estimators."
        )
    check_is_fitted(model)
    check_reported(X, y)
    if model_file is not None and not Path(model_file).is_file():
        raise FileNotFoundError(
            f"There is no file {model_file}: write it first, skquee.dump(model, file)."
        )
    picture = None
    if file is not None:
        picture = check_output(file)
        picture = check_output(picture.with_name(f"{picture.stem}_curve.svg"))
    require("skops", "model_card")
    cards = import_module("skops.card")
    curve, alone = _measured(model, X, y)
    card: Card = cards.Card(
        model,
        model_diagram=False,
        template={
            "Model description": _opening(model, curve),
            "Model description/Intended uses & limitations": OPEN,
            "Model description/Training Procedure": _data(curve),
            "Model description/Training Procedure/Parameters": f"```python\n{model!r}\n```",
            RESULTS: "",
        },
    )
    _add_results(card, model, curve, alone, X is None)
    if picture is not None:
        _draw(curve, picture)
        cost = curve.tree.cost_unit or "no unit"
        card.add_plot(
            alt_text=f"Accuracy against mean cost ({cost}) on {curve.source}",
            **{f"{RESULTS}/Curve": picture.name},
        )
    card.add(
        **{
            "Model description/Guarantee": " ".join(_promises(model))
            or "None was asked for: the figures above are what was measured.",
            "How to Get Started with the Model": _start(model, model_file),
            "Model Card Contact": OPEN,
        }
    )
    card.add_table(Versions=_versions())
    if file is not None:
        write_text(file, card.render())
    return card


def _measured(
    model: RoutingMixin, X: ArrayLike | None, y: ArrayLike | None
) -> tuple[CostCurve, dict[str, list[object]]]:
    """Return a curve with the point in use, and a table of every model, or path, alone."""
    judged = model if isinstance(model, JudgedMixin) else None
    router: RoutingMixin = model if judged is None else judged.router_
    right: NDArray[np.floating | np.bool_]
    if X is None:
        if judged is not None:
            models, right = judged_alone(judged)
            return judged.cv_curve_, _alone(judged.cv_curve_, models, right)
        curve: CostCurve = router.cost_curve()
        knobs = knobs_with_own(router, curve)
        return curve if knobs is curve.knobs else router.cost_curve(knobs), {}
    table = stored(
        router.read_table(X, reset=False) if judged is None else judged.table_reader()(X)
    )
    curve = router.cost_curve(None, table, y)
    knobs = knobs_with_own(router, curve)
    curve = curve if knobs is curve.knobs else router.cost_curve(knobs, table, y)
    codes = router.class_codes(table, y)
    if judged is None:  # a path answers as the router does there
        models, right = models_of(curve.tree, None), router.correct_paths(table, codes)
    else:
        models, right = judged_alone(judged)[0], correctness(table, codes)
    return curve, _alone(curve, models, right[:, models.paths])


def _alone(
    curve: CostCurve, models: Models, right: NDArray[np.floating | np.bool_]
) -> dict[str, list[object]]:
    if len(models.names) > MOST_PATHS:
        return {}
    heights = np.average(right, axis=0, weights=curve.sample_weight)
    return {
        "all rows to": [_plain(name) for name in models.names],
        _cost_name(curve): [f"{cost:.4g}" for cost in models.costs],
        "accuracy": [f"{height:.4f}" for height in heights],
    }


def _opening(model: RoutingMixin, curve: CostCurve) -> str:
    tree = curve.tree
    unit = f" {tree.cost_unit}" if tree.cost_unit else ""
    kinds = " of ".join(f"`{type(part).__name__}`" for part in _chain(model))
    return (
        f"{kinds}: for each row it decides how much computation to spend, by taking one of "
        f"{tree.n_paths} paths, from {tree.path_costs.min():.4g} to "
        f"{tree.path_costs.max():.4g}{_plain(unit)}."
    )


def _data(curve: CostCurve) -> str:
    digest = sha256(np.ascontiguousarray(curve.paths).astype("<i4").tobytes())
    digest.update(np.ascontiguousarray(curve.correct, dtype="<f8").tobytes())
    classes = curve.tree.classes
    known = ""
    if classes is not None:
        shown = ", ".join(_plain(str(name)) for name in classes[:10])
        known = f"{len(classes)} classes ({shown}{', ...' if len(classes) > 10 else ''}). "
    n_rows = curve.paths.shape[1]
    rows = curve.source if curve.source[:1].isdigit() else f"{n_rows} {curve.source}"
    return (
        f"{known}Measured on {rows}; fingerprint of their paths and outcomes at "
        f"{len(curve)} operating points: `{digest.hexdigest()[:32]}`."
    )


def _promises(model: RoutingMixin) -> list[str]:
    """Return what each part of a router guarantees, outermost first."""
    told = []
    for part in _chain(model):
        if isinstance(part, RiskControlledRouter):
            told.append(_of_risk(part))
        elif isinstance(part, BudgetRouter):
            told += _of_budget(part)
        elif isinstance(part, TunedCostAwareRouterCV) and part.confidence is not None:
            aims = {name: getattr(part, name) for name in ("max_cost", "max_error_increase")}
            told += [
                f"`{name}={aim:g}` was held in cross-validation by a one-sided bound at "
                f"confidence {part.confidence:g} (normal approximation)."
                for name, aim in aims.items()
                if aim is not None
            ]
    return told


def _of_risk(part: RiskControlledRouter) -> str:
    ((aim, limit),) = (
        (name, getattr(part, name))
        for name in ("max_error_increase", "max_error", "max_disagreement")
        if getattr(part, name) is not None
    )
    groups = "" if part.groups_ is None else f", in each of {len(part.groups_)} groups"
    rows = f"{part.n_calibration_} calibration rows"
    if part.best_lambda_ is None:
        return f"No operating point was certified for `{aim}={limit:g}` on {rows}: {WHOLE}."
    seen = f"Seen there: {part.risk_:.4g}, upper bound {part.bound_:.4g}."
    if part.method == "crc":
        return (
            f"`{aim}` is at most {limit:g}{groups} on average over the draw of {rows} "
            f"(conformal risk control), for new rows of the same kind. {seen}"
        )
    confidence = 0.95 if part.confidence is None else part.confidence
    return (
        f"`{aim}` is at most {limit:g}{groups} with probability {confidence:g} over the draw of "
        f'{rows} (`method="{part.method}"`), for new rows of the same kind. {seen}'
    )


WHOLE = "every row takes the whole model"


def _of_budget(part: BudgetRouter) -> list[str]:
    unit = f" {part.paths_.cost_unit}" if part.paths_.cost_unit else ""
    told = []
    if part.budget is not None:
        told.append(
            f"The mean cost is {part.budget:g}{unit} a row in expectation, for rows like those "
            "it was measured on."
        )
    if part.max_cost_per_sample is not None:
        told.append(f"No row costs more than {part.max_cost_per_sample:g}{unit}.")
    if part.exceed_cost is not None:
        told.append(
            f"A new row of the same kind costs more than {part.exceed_cost:g}{unit} with "
            f"probability at most {part.exceed_probability:g} (conformal risk control)."
        )
    return told


def _add_results(
    card: Card,
    model: RoutingMixin,
    curve: CostCurve,
    alone: dict[str, list[object]],
    of_fit: bool,
) -> None:
    """Add the point in use, every model alone, and points along the curve."""
    weights = curve.sample_weight
    n_rows = float(weights.sum() ** 2 / (weights**2).sum())
    judged = model if isinstance(model, JudgedMixin) else None
    place = place_of(model if judged is None else judged.router_, curve)
    if place is None:
        card.add(**{RESULTS: "The operating point in use is not on the measured curve."})
    else:
        accuracy = float(curve.accuracy[place])
        low, high = (float(end) for end in wilson_interval(accuracy, n_rows))
        told = "The operating point in use."
        if of_fit and judged is not None and judged.verdict_:
            told += f" Verdict: {_plain(judged.verdict_)}: {_plain(judged.reason_)}."
        figures = {
            curve.knob: f"{curve.knobs[place]:.4g}",
            "accuracy": f"{accuracy:.4f} (95 %: {low:.4f} to {high:.4f})",
            _cost_name(curve): f"{curve.cost[place]:.4g}",
        }
        card.add_metrics(RESULTS, description=told, **figures)
    if alone:
        _add_table(card, "Each alone", "", alone)
    x, heights = curve.hull()
    corners = points_of((x, heights), curve.cost, curve.accuracy)
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    shares = curve.path_shares[corners[some]]
    along: dict[str, list[object]] = {
        curve.knob: [f"{knob:.4g}" for knob in curve.knobs[corners[some]]],
        _cost_name(curve): [f"{cost:.4g}" for cost in x[some]],
        "accuracy": [f"{height:.4f}" for height in heights[some]],
        "most taken path": [
            f"{_plain(curve.tree.names[row.argmax()])} ({row.max():.0%})" for row in shares
        ],
    }
    told = "Operating points that no mix of others beats."
    _add_table(card, "Accuracy and cost", told, along)


def _add_table(card: Card, title: str, told: str, table: dict[str, list[object]]) -> None:
    name = f"{RESULTS}/{title}"
    card.add_table(description=told, **{name: table})
    card.select(name).title = title  # skops 0.16 takes the whole name


def _start(model: RoutingMixin, model_file: str | os.PathLike[str] | None) -> str:
    """Return how to load the model, and by which digest its file is known."""
    name = "model.skops" if model_file is None else Path(model_file).name
    given = "probs)  # (n_samples, n_paths, n_classes), or a table"
    if isinstance(model, JudgedMixin):
        given = "X)  # rows as in fit"
        if _bank_stays_in_code(model):
            given = "bank.transform(X))  # of its bank, made again: the file is that of clf.router_"
    told = (
        f"```python\nimport skquee\n\nmodel = skquee.load({name!r})\n"
        f"routes = model.route({given}\n"
        "routes.labels, routes.path_names, routes.costs\n```"
    )
    if model_file is None:
        return told
    digest = sha256(Path(model_file).read_bytes()).hexdigest()
    return f"{told}\n\nThe SHA-256 of `{name}` is `{digest}`."


def _bank_stays_in_code(model: JudgedMixin) -> bool:
    """Tell whether a bank is a network's or holds functions, which no file of ours does."""
    if judged_alone(model)[0].ran is None:
        return True
    named = model.bank_.classifiers or ()
    return any(callable(m) and not hasattr(m, "predict_proba") for _, m in named)


def _versions() -> dict[str, list[object]]:
    found = {"python": platform.python_version(), "skquee": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"package": list(found), "version": list(found.values())}


def _draw(curve: CostCurve, file: Path) -> None:
    """Write a picture of a curve, whole or not at all."""
    require("matplotlib", "The picture of a model card")
    figure = import_module("matplotlib.figure").Figure(figsize=(7, 4.5), layout="constrained")
    curve.plot(ax=figure.subplots())
    with whole_file(file) as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None})


def _chain(model: RoutingMixin) -> list[RoutingMixin]:
    """Return a router and the routers in it, outermost first."""
    found: list[RoutingMixin] = []
    part: object = model
    while isinstance(part, RoutingMixin):
        found.append(part)
        part = getattr(part, "router_", None)
    return found


def _cost_name(curve: CostCurve) -> str:
    unit = curve.tree.cost_unit
    return f"mean cost ({_plain(unit)})" if unit else "mean cost"


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is, in a table too."""
    marks = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#$"} | {"\n": " "})
    return text.translate(marks)
