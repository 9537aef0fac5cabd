"""Checks for people who write routers: each a function of an unfitted router.

scikit-learn's own estimator checks feed 2-D input; these feed tables of probabilities.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from skquee.bank import MultiPathClassifierBank
from skquee.testing._deciding import Watched
from skquee.testing._expect import expect, expect_methods, fitted_by
from skquee.testing._tables import TableNetwork, make_path_probabilities
from skquee.values import PathProbabilities, PathTree
from skquee.walk import Decider, Knob, Router, Routes, walk

__all__ = ["check_router", "router_checks"]


def check_router(router: Router) -> None:
    """Run every check on a router or baseline; see :func:`~skquee.testing.router_checks`.

    Parameters
    ----------
    router : estimator
        Unfitted, able to fit on a table that carries its tree.

    Raises
    ------
    AssertionError
        If a check fails.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import check_router
    >>> check_router(ThresholdRouter())
    """
    for check in router_checks():
        check(router)


def router_checks() -> list[Callable[[Router], None]]:
    """Return the checks, each a function of an unfitted router.

    Returns
    -------
    list of callables
        For ``pytest.mark.parametrize``.

    Examples
    --------
    >>> from skquee.testing import router_checks
    >>> [check.__name__ for check in router_checks()][:2]
    ['check_methods', 'check_decisions']
    """
    return [
        check_methods,
        check_decisions,
        check_conventions,
        check_outputs,
        check_labels_of_any_type,
        check_row_laws,
        check_stored_equals_lazy,
        check_costs_read_at_predict,
        check_curve_equals_predict,
        check_survives_pickle,
        check_table_types,
        check_bad_input,
    ]


def _name(router: Router) -> str:
    return type(router).__name__


def _fitted(
    router: Router, n_samples: int = 200
) -> tuple[BaseEstimator, PathProbabilities, NDArray[np.intp]]:
    table, y = make_path_probabilities(n_samples)
    fitted, name = fitted_by(router, table, y), _name(router)
    for attribute in ("classes_", "paths_", "n_features_in_"):
        found = hasattr(fitted, attribute)
        expect(found, f"{name}.fit must set {attribute}: call start_fit first.")
    return fitted, table, y


def _raises(error: type[Exception], message: str, call: Callable[[], object], what: str) -> None:
    """Expect an error of a call that `what` describes, with a message that has these words."""
    try:
        call()
    except error as raised:
        expect(
            message in str(raised),
            f"{what} must raise a {error.__name__} that says {message!r}, and said: {raised}",
        )
    else:
        raise AssertionError(
            f"{what} must raise a {error.__name__} that says {message!r}, but nothing was raised."
        )


def _same(found: ArrayLike, expected: ArrayLike, message: str, *, nearly: bool = False) -> None:
    equal = np.allclose if nearly else np.array_equal
    expect(np.shape(found) == np.shape(expected) and equal(found, expected), message)


def check_methods(router: Router) -> None:
    """Check that all of :class:`skquee.walk.Router` is there and takes what it is called with."""
    expect_methods(router, Router, "skquee.walk.Router")
    name, knob = _name(router), getattr(router, "knob", None)
    expect(
        isinstance(knob, Knob),
        f"{name}.knob must be a skquee.walk.Knob, the parameter that cost_curve sweeps, got "
        f"{knob!r}.",
    )
    needs = getattr(router, "needs_labels", None)
    expect(
        isinstance(needs, bool),
        f"{name}.needs_labels must be True or False, whether it chooses by the labels of the rows "
        f"it routes, got {needs!r}.",
    )
    makes = getattr(router, "make_decider", None)
    expect(
        callable(makes) or not hasattr(router, "make_decider"),
        f"{name}.make_decider must be a method, make_decider(tree), that returns a "
        f"skquee.walk.Decider, got {makes!r}.",
    )


def check_conventions(router: Router) -> None:
    """Check that unfitted use fails and that fit returns self and changes no parameter."""
    table, y = make_path_probabilities(200)
    fresh, name = clone(router), _name(router)
    for method in ("predict", "predict_proba", "predict_path", "predict_cost", "predict_error"):
        call = partial(getattr(fresh, method), table)
        _raises(NotFittedError, "not fitted", call, f"{name}.{method} before fit")
    fresh = fitted_by(router, table, y)
    before = set(vars(fresh))
    first = fresh.predict_path(table)
    wrote = sorted(set(vars(fresh)) - before)
    expect(not wrote, f"{name} must write nothing to itself after fit, but predict wrote {wrote}.")
    if not _random(router):
        again = fresh.fit(table, y).predict_path(table)
        expect(
            (again == first).all() or _unseeded(router),
            f"{name}.fit on the same rows again must give the same router: start anew, from "
            "random_state.",
        )
    found, n = fresh.n_features_in_, table.shape[1]
    expect(found == n, f"{name}.n_features_in_ must count the table's columns, {n}, got {found}.")


def check_decisions(router: Router) -> None:
    """Check what its decider returns at every gate, and that routes are those of the decider."""
    fitted, table, _ = _fitted(router)
    decider, name = fitted.decider(), _name(router)
    expect(
        isinstance(decider, Decider),
        f"{name}.make_decider(tree) must return a skquee.walk.Decider, got "
        f"{type(decider).__name__}.",
    )
    told = walk(Watched(decider.tree, decider.classes, decider, name), table)
    routes = fitted.route(table)
    expect(
        isinstance(routes, Routes),
        f"{name}.route(X) must return skquee.Routes, got {type(routes).__name__}.",
    )
    if not _random(router):
        _same(told.paths, fitted.predict_path(table), f"{name}.decider() decides not as route does")


def check_outputs(router: Router) -> None:
    """Check that shapes and ranges of every answer agree with each other."""
    fitted, table, y = _fitted(router)
    routes, name = fitted.route(table), _name(router)
    n, _, n_classes = table.shape
    for column in ("labels", "paths", "costs"):
        shape = getattr(routes, column).shape
        expect(shape == (n,), f"{name}.route: {column} must have shape ({n},), got {shape}.")
    shape = routes.probabilities.shape
    expect(
        shape == (n, n_classes),
        f"{name}.route: probabilities must have shape {(n, n_classes)}, got {shape}.",
    )
    total = routes.probabilities.sum(axis=1)
    expect(np.allclose(total, 1, atol=1e-5), f"{name}.route: probabilities must sum to 1.")
    best = fitted.classes_[routes.probabilities.argmax(axis=1)]
    _same(best, routes.labels, f"{name}.route: labels must be the most probable classes.")
    costs = fitted.paths_.path_costs[routes.paths]
    _same(routes.costs, costs, f"{name}.route: costs must be those of the paths.", nearly=True)
    values = np.asarray(table)[np.arange(n), table.paths.path_columns[routes.paths]]
    if fitted.get_params().get("answer", "last") == "last":
        message = f"{name}.route: the answer is not the path's."
        _same(values, routes.probabilities, message, nearly=True)
    known = routes.predicted_error[np.isfinite(routes.predicted_error)]
    expect(
        ((known >= 0) & (known <= 1)).all(),
        f"{name}.route: predicted errors must be probabilities, or NaN.",
    )
    expect(np.isfinite(fitted.score(table, y)), f"{name}.score must be a finite number.")
    expect(len(routes.to_frame()) == n, f"{name}.route: a frame must have a row a sample.")
    for method, column in (
        ("predict", routes.labels),
        ("predict_proba", routes.probabilities),
        ("predict_path", routes.paths),
        ("predict_cost", routes.costs),
    ):
        _same(getattr(fitted, method)(table), column, f"{name}.{method} differs from route.")


def check_labels_of_any_type(router: Router) -> None:
    """Check that strings work and that a class the rows lack keeps its column."""
    table, y = make_path_probabilities(200)
    names, own = np.array(["ant", "bee", "cat", "dog"]), _name(router)
    named = table.with_paths(table.paths.with_classes(names))
    fitted = clone(router).fit(named, names[y])
    found = np.isin(fitted.predict(named), names)
    expect(found.all(), f"{own}.predict must return labels as fit got them, here strings.")
    rows = np.flatnonzero(y != 3)
    fitted = clone(router).fit(named[rows], names[y[rows]])
    expect(
        list(fitted.classes_) == list(names) and fitted.predict_proba(named).shape == (200, 4),
        f"{own}: classes_ and predict_proba must keep a class that the tree names and the rows of "
        "fit lack.",
    )


def check_row_laws(router: Router) -> None:
    """Check that a row's route depends neither on the other rows nor on their order."""
    if _random(router):
        return
    fitted, table, _ = _fitted(router)
    whole, name = fitted.route(table), _name(router)
    order = np.random.default_rng(0).permutation(len(table))
    message = f"{name}.route: a row's path must not depend on the order of the rows."
    _same(fitted.route(table[order]).paths, whole.paths[order], message)
    for row in range(0, len(table), 37):
        single = fitted.route(table[[row]])
        message = f"{name}.route: row {row} must be routed alone as it is among others."
        _same(single.paths[0], whole.paths[row], message)
        _same(single.probabilities[0], whole.probabilities[row], message, nearly=True)


def check_stored_equals_lazy(router: Router) -> None:
    """Check that a live network gives its stored table's routes and runs only their blocks."""
    table, y = make_path_probabilities(200)
    network, name = TableNetwork(table), _name(router)
    bank = MultiPathClassifierBank(network, batch_size=64)
    lazy = bank.transform(np.arange(200)[:, None])
    exact = PathProbabilities(np.asarray(table).astype(np.float32), network.paths_)
    fitted = clone(router).fit(exact, y)
    network.blocks_run = 0
    live, read = fitted.route(lazy), fitted.route(exact)
    message = f"{name}.route of a lazy table must be that of the same table in memory."
    _same(live.costs, read.costs, message)
    if not _random(router):
        _same(live.paths, read.paths, message)
        _same(live.labels, read.labels, message)
    chosen = int(table.paths.depths[live.paths].sum())
    expect(
        network.blocks_run == chosen == sum(live.counts.values()),
        f"{name}.route of a lazy table ran {network.blocks_run} blocks and counts "
        f"{sum(live.counts.values())}, but the paths taken need {chosen}.",
    )


def check_costs_read_at_predict(router: Router) -> None:
    """Check that new costs need no refit."""
    fitted, table, _ = _fitted(router)
    other, name = table.paths.path_costs * 7.0, _name(router)
    if "lambda_" in fitted.get_params() and "lambdas" not in fitted.get_params():
        before = fitted.predict_path(table)
        fitted.set_params(path_costs=other, lambda_=fitted.lambda_ / 7.0)
        message = f"{name}: costs times 7 and lambda_ through 7 must take the same paths."
        _same(fitted.predict_path(table), before, message)
    elif "max_cost" not in fitted.get_params():
        fitted.set_params(path_costs=other)
    else:
        return
    routes = fitted.route(table)
    message = f"{name}: path_costs set after fit must be the costs of route."
    _same(routes.costs, other[routes.paths], message, nearly=True)
    fitted.set_params(path_costs=None)
    tree = table.paths.with_costs(other, cost_unit="ms")
    unit = fitted.route(table.with_paths(tree)).tree.cost_unit
    expect(unit == "ms", f"{name}.route must keep the cost_unit of the table's tree, got {unit!r}.")


def check_curve_equals_predict(router: Router) -> None:
    """Check that every point of the curve is what predict does with that knob."""
    fitted, table, y = _fitted(router)
    knob, name = fitted.knob.name, _name(router)
    given = sorted(fitted.get_params())
    expect(knob in given, f"{name}.knob names {knob!r}, which is no parameter: expected {given}.")
    if hasattr(fitted, "default_knobs"):
        swept = np.atleast_1d(np.asarray(fitted.default_knobs(fitted.paths_)))
        expect(
            swept.ndim == 1 and swept.size and swept.dtype.kind in "fiu" and (swept == swept).all(),
            f"{name}.default_knobs(tree) must return values of {knob}, one or more numbers, got "
            f"{swept.dtype} of shape {swept.shape}: {swept.tolist()!r:.60}.",
        )
    curve = fitted.cost_curve(None, table, y)
    expect(curve.knob == knob, f"{name}.cost_curve sweeps {curve.knob!r}, but knob names {knob!r}.")
    spent = (curve.path_shares * fitted.paths_.path_costs).sum(axis=1)
    _same(curve.cost, spent, f"{name}.cost_curve: costs are not those of its paths.", nearly=True)
    for point in range(0, len(curve), max(1, len(curve) // 5)):
        fitted.set_params(**{curve.knob: curve.knobs[point].item()})
        routes = fitted.route(table)
        message = f"{name}.cost_curve at {curve.knob}={curve.knobs[point]} is not what route does."
        _same(routes.paths, curve.paths[point], message)
        _same(curve.accuracy[point], np.mean(routes.labels == y), message, nearly=True)
        told = fitted.knob_in_use()
        expect(
            told == curve.knobs[point],
            f"{name}.knob_in_use() must tell the {knob} that is set, {curve.knobs[point]}, got "
            f"{told!r}.",
        )


def check_survives_pickle(router: Router) -> None:
    """Check that a fitted router predicts the same after pickling."""
    kind = type(router)
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return  # defined within a function: pickle has no name for it
    fitted, table, _ = _fitted(router)
    again = pickle.loads(pickle.dumps(fitted))  # our own bytes, made a line ago
    message = f"{_name(router)} must route after pickling as before."
    _same(again.predict_path(table), fitted.predict_path(table), message)


def check_table_types(router: Router) -> None:
    """Check arrays, float16 and memory maps."""
    fitted, table, _ = _fitted(router)
    values, name = np.asarray(table), _name(router)
    paths = fitted.predict_path(table)
    message = f"{name}.predict_path of a bare array must be that of its table."
    _same(fitted.predict_path(values), paths, message)
    half = fitted.predict_path(PathProbabilities(values.astype(np.float16), table.paths))
    expect(
        np.mean(half != paths) < 0.1,
        f"{name}.predict_path of a float16 table differs on {np.mean(half != paths):.0%} of rows.",
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.npz"
        table.save(file)
        mapped = PathProbabilities.load(file)
        message = f"{name}.predict_path of a table in a file must be that of the table."
        _same(fitted.predict_path(mapped), paths, message)
        del mapped


def check_bad_input(router: Router) -> None:
    """Check that bad tables, labels and trees fail with a message that says what and where."""
    table, y = make_path_probabilities(200)
    values, tree = np.asarray(table), table.paths

    def fit(X: ArrayLike, labels: ArrayLike = y) -> BaseEstimator:
        return clone(router).fit(X, labels)

    def broken(value: float) -> PathProbabilities:
        copy = values.copy()
        copy[7, 0, 1] = value
        return PathProbabilities(copy, tree)

    def refused(message: str, call: Callable[[], object], what: str) -> None:
        _raises(ValueError, message, call, f"{_name(router)}.{what}")

    fitted = fit(table)
    for call, name in ((fit, "fit"), (fitted.predict, "predict")):
        if name == "fit" and _learns_nothing(router):
            continue
        for value, message in ((np.nan, "row 7"), (np.inf, "row 7"), (-0.5, "negative")):
            refused(message, partial(call, broken(value)), f"{name} where row 7 has {value}")
        refused("softmax", partial(call, broken(9.0)), f"{name} where row 7 sums to more than 1")
    refused("shape", lambda: fit(values[:, 0]), "fit on an array of two axes")
    refused("paths", lambda: fitted.predict(values[:, :3]), "predict where paths are missing")
    refused(
        "classes", lambda: fitted.predict(values[:, :, :2]), "predict where classes are missing"
    )
    other = PathProbabilities(values, PathTree.chain(np.ones(tree.n_paths)))
    refused("bank", lambda: fitted.predict(other), "predict on a table of another tree")
    refused("inconsistent", lambda: fit(table, y[:-1]), "fit where a label is missing")
    refused("1 class", lambda: fit(table, np.zeros(200, dtype=int)), "fit on labels of one class")
    named = table.with_paths(tree.with_classes(range(4)))
    refused("labels", lambda: fit(named, np.where(y == 0, 77, y)), "fit on a label not in classes")
    refused(
        "path_costs",
        lambda: fitted.set_params(path_costs=[1.0]).predict(table),
        "predict with one cost for many paths",
    )


def _random(router: Router) -> bool:
    return bool(get_tags(router).non_deterministic)


def _unseeded(router: Router) -> bool:
    return clone(router).get_params().get("random_state", 0) is None


def _learns_nothing(router: Router) -> bool:
    """Whether fit reads no probabilities: then they are checked when they are read."""
    table, y = make_path_probabilities(20)
    values = np.asarray(table).copy()
    values[3, 0, 0] = np.nan
    try:
        clone(router).fit(PathProbabilities(values, table.paths), y)
    except ValueError:
        return False
    return True
