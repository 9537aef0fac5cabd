"""Checks for people who write routers, and the data they use.

scikit-learn's own estimator checks feed 2-D input; these feed tables of probabilities.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from skquee.bank import MultiPathClassifierBank
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer

__all__ = ["TableNetwork", "check_router", "make_path_probabilities", "router_checks"]


def make_path_probabilities(
    n_samples: int = 300,
    paths: PathTree | None = None,
    n_classes: int = 4,
    random_state: int = 0,
) -> tuple[PathProbabilities, NDArray[np.intp]]:
    """Make a table whose deeper and higher paths are more often right.

    Parameters
    ----------
    n_samples : int, default=300
        Rows.
    paths : PathTree, default=None
        The tree. Default: 3 exits at 2 levels.
    n_classes : int, default=4
        Classes.
    random_state : int, default=0
        Seed.

    Returns
    -------
    PathProbabilities
        float64.
    ndarray of shape (n_samples,)
        Labels, from 0.

    Examples
    --------
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(50)
    >>> table
    PathProbabilities(50 samples, 6 paths, 4 classes, float64)
    """
    check_integer(n_samples, "n_samples", at_least=1)
    check_integer(n_classes, "n_classes", at_least=2)
    if not isinstance(paths, (PathTree, type(None))):
        raise TypeError(f"paths must be a PathTree or None, got {type(paths).__name__}.")
    tree = PathTree.from_levels(n_exits=3, levels=(4, 8)) if paths is None else paths
    rng = np.random.default_rng(random_state)
    y = np.arange(n_samples) % n_classes
    skill = np.zeros(tree.n_columns)
    skill[tree.path_columns] = 0.5 + 3 * tree.path_costs / tree.path_costs.max()
    ease = rng.gamma(2.0, 0.5, size=n_samples)
    logits = rng.normal(size=(n_samples, 1, n_classes)) + 0.7 * rng.normal(
        size=(n_samples, tree.n_columns, n_classes)
    )
    logits[np.arange(n_samples), :, y] += skill * ease[:, None]
    values = np.exp(logits - logits.max(axis=2, keepdims=True))
    return PathProbabilities(values / values.sum(axis=2, keepdims=True), tree), y


class TableNetwork:
    """A network that looks its answers up in a table, counting every block it runs.

    Its input X is row numbers, shape (n_samples, 1). For tests of lazy routing.

    Parameters
    ----------
    table : PathProbabilities
        One column a path.

    Attributes
    ----------
    paths_ : PathTree
        The table's tree.
    blocks_run : int
        Rows times blocks run so far.
    """

    def __init__(self, table: PathProbabilities) -> None:
        classes = table.paths.classes or tuple(range(table.shape[2]))
        self.table = table
        self.paths_ = table.paths.with_classes(classes)
        self.blocks_run = 0

    def __sklearn_clone__(self) -> TableNetwork:
        return self

    def start(self, X: Any) -> NDArray[np.intp]:
        """Return a state: row number and path of every sample."""
        rows = np.asarray(X).reshape(len(X), -1)[:, 0].astype(np.intp)
        return np.column_stack([rows, np.full(len(rows), -1)])

    def run_block(self, state: NDArray[np.intp], block: int, level: Any) -> NDArray[np.intp]:
        """Step every sample to the path that goes on at this level."""
        self.blocks_run += len(state)
        tree = self.paths_
        after = state.copy()
        for path in np.unique(state[:, 1]).tolist():
            child = [c for c in tree.children(path).tolist() if tree.levels[c] == level]
            after[state[:, 1] == path, 1] = child[0]
        return after

    def head(self, state: NDArray[np.intp], block: int, level: Any) -> NDArray[np.float32]:
        """Look the answers up."""
        values = np.asarray(self.table)
        found = values[state[:, 0], self.paths_.path_columns[state[:, 1]]]
        return found.astype(np.float32)

    def take(self, state: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Select rows."""
        return state[rows]

    def concat(self, states: list[NDArray[np.intp]]) -> NDArray[np.intp]:
        """Join rows."""
        return np.concatenate(states)


def check_router(router: Any) -> None:
    """Run every check on a router or baseline; see :func:`router_checks`.

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


def router_checks() -> list[Callable[[Any], None]]:
    """Return the checks, each a function of an unfitted router.

    Returns
    -------
    list of callables
        For ``pytest.mark.parametrize``.
    """
    return [
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


def _fitted(router: Any, n_samples: int = 200) -> tuple[Any, PathProbabilities, NDArray[np.intp]]:
    table, y = make_path_probabilities(n_samples)
    return clone(router).fit(table, y), table, y


def _raises(error: Any, message: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except error as raised:
        assert message in str(raised), f"expected {message!r} in the message, got: {raised}"
    else:
        raise AssertionError(f"expected {error} with {message!r}, nothing was raised")


def check_conventions(router: Any) -> None:
    """Check that unfitted use fails and that fit returns self and changes no parameter."""
    table, y = make_path_probabilities(200)
    fresh = clone(router)
    for method in ("predict", "predict_proba", "predict_path", "predict_cost", "predict_error"):
        _raises(NotFittedError, "not fitted", partial(getattr(fresh, method), table))
    before = {key: repr(value) for key, value in fresh.get_params().items()}
    assert fresh.fit(table, y) is fresh, "fit must return self"
    after = {key: repr(value) for key, value in fresh.get_params().items()}
    assert before == after, "fit must not change parameters"
    first = fresh.predict_path(table)
    if not _random(router):
        assert (fresh.fit(table, y).predict_path(table) == first).all() or _unseeded(router)
    assert fresh.n_features_in_ == table.shape[1]


def check_outputs(router: Any) -> None:
    """Check that shapes and ranges of every answer agree with each other."""
    fitted, table, y = _fitted(router)
    routes = fitted.route(table)
    n, _, n_classes = table.shape
    assert routes.labels.shape == routes.paths.shape == routes.costs.shape == (n,)
    assert routes.probabilities.shape == (n, n_classes)
    assert np.allclose(routes.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (fitted.classes_[routes.probabilities.argmax(axis=1)] == routes.labels).all()
    assert np.allclose(routes.costs, fitted.paths_.path_costs[routes.paths])
    values = np.asarray(table)[np.arange(n), table.paths.path_columns[routes.paths]]
    if fitted.get_params().get("answer", "last") == "last":
        assert np.allclose(values, routes.probabilities), "the answer is not the path's"
    known = routes.predicted_error[np.isfinite(routes.predicted_error)]
    assert ((known >= 0) & (known <= 1)).all()
    assert np.isfinite(fitted.score(table, y))
    assert len(routes.to_frame()) == n
    for name, column in (
        ("predict", routes.labels),
        ("predict_proba", routes.probabilities),
        ("predict_path", routes.paths),
        ("predict_cost", routes.costs),
    ):
        assert np.array_equal(getattr(fitted, name)(table), column), name


def check_labels_of_any_type(router: Any) -> None:
    """Check that strings work and that a class the rows lack keeps its column."""
    table, y = make_path_probabilities(200)
    names = np.array(["ant", "bee", "cat", "dog"])
    named = table.with_paths(table.paths.with_classes(names))
    fitted = clone(router).fit(named, names[y])
    assert np.isin(fitted.predict(named), names).all()
    rows = np.flatnonzero(y != 3)
    fitted = clone(router).fit(named[rows], names[y[rows]])
    assert list(fitted.classes_) == list(names)
    assert fitted.predict_proba(named).shape == (200, 4)


def check_row_laws(router: Any) -> None:
    """Check that a row's route depends neither on the other rows nor on their order."""
    if _random(router):
        return
    fitted, table, _ = _fitted(router)
    whole = fitted.route(table)
    order = np.random.default_rng(0).permutation(len(table))
    assert np.array_equal(fitted.route(table[order]).paths, whole.paths[order])
    for row in range(0, len(table), 37):
        single = fitted.route(table[[row]])
        assert single.paths[0] == whole.paths[row]
        assert np.allclose(single.probabilities[0], whole.probabilities[row])


def check_stored_equals_lazy(router: Any) -> None:
    """Check that a live network gives its stored table's routes and runs only their blocks."""
    table, y = make_path_probabilities(200)
    network = TableNetwork(table)
    bank = MultiPathClassifierBank(network, batch_size=64)
    lazy = bank.transform(np.arange(200)[:, None])
    exact = PathProbabilities(np.asarray(table).astype(np.float32), network.paths_)
    fitted = clone(router).fit(exact, y)
    network.blocks_run = 0
    live, read = fitted.route(lazy), fitted.route(exact)
    assert np.array_equal(live.costs, read.costs)
    if not _random(router):
        assert np.array_equal(live.paths, read.paths)
        assert np.array_equal(live.labels, read.labels)
    chosen = int(table.paths.depths[live.paths].sum())
    assert network.blocks_run == chosen, f"ran {network.blocks_run} blocks, paths need {chosen}"
    assert sum(live.counts.values()) == chosen


def check_costs_read_at_predict(router: Any) -> None:
    """Check that new costs need no refit."""
    fitted, table, _ = _fitted(router)
    other = table.paths.path_costs * 7.0
    if "lambda_" in fitted.get_params() and "lambdas" not in fitted.get_params():
        before = fitted.predict_path(table)
        fitted.set_params(path_costs=other, lambda_=fitted.lambda_ / 7.0)
        assert np.array_equal(fitted.predict_path(table), before), "k costs, lambda_ / k"
    elif "max_cost" not in fitted.get_params():
        fitted.set_params(path_costs=other)
    else:
        return
    routes = fitted.route(table)
    assert np.allclose(routes.costs, other[routes.paths])
    fitted.set_params(path_costs=None)
    tree = table.paths.with_costs(other, cost_unit="ms")
    assert fitted.route(table.with_paths(tree)).tree.cost_unit == "ms", "the table's unit is lost"


def check_curve_equals_predict(router: Any) -> None:
    """Check that every point of the curve is what predict does with that knob."""
    fitted, table, y = _fitted(router)
    curve = fitted.cost_curve(None, table, y)
    assert np.allclose(curve.cost, (curve.path_shares * fitted.paths_.path_costs).sum(axis=1))
    for point in range(0, len(curve), max(1, len(curve) // 5)):
        fitted.set_params(**{curve.knob: curve.knobs[point].item()})
        routes = fitted.route(table)
        assert np.array_equal(routes.paths, curve.paths[point])
        assert np.isclose(curve.accuracy[point], np.mean(routes.labels == y))


def check_survives_pickle(router: Any) -> None:
    """Check that a fitted router predicts the same after pickling."""
    kind = type(router)
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return  # defined within a function: pickle has no name for it
    fitted, table, _ = _fitted(router)
    again = pickle.loads(pickle.dumps(fitted))  # our own bytes, made a line ago
    assert np.array_equal(again.predict_path(table), fitted.predict_path(table))


def check_table_types(router: Any) -> None:
    """Check arrays, float16 and memory maps."""
    fitted, table, _ = _fitted(router)
    values = np.asarray(table)
    paths = fitted.predict_path(table)
    assert np.array_equal(fitted.predict_path(values), paths)
    half = fitted.predict_path(PathProbabilities(values.astype(np.float16), table.paths))
    assert np.mean(half != paths) < 0.1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.npz"
        table.save(file)
        mapped = PathProbabilities.load(file)
        assert np.array_equal(fitted.predict_path(mapped), paths)
        del mapped


def check_bad_input(router: Any) -> None:
    """Check that bad tables, labels and trees fail with a message that says what and where."""
    table, y = make_path_probabilities(200)
    values, tree = np.asarray(table), table.paths

    def fit(X: Any, labels: ArrayLike = y) -> Any:
        return clone(router).fit(X, labels)

    def broken(value: float) -> PathProbabilities:
        copy = values.copy()
        copy[7, 0, 1] = value
        return PathProbabilities(copy, tree)

    fitted = fit(table)
    for call in (fit, fitted.predict):
        if call == fit and _learns_nothing(router):
            continue
        _raises(ValueError, "row 7", partial(call, broken(np.nan)))
        _raises(ValueError, "row 7", partial(call, broken(np.inf)))
        _raises(ValueError, "negative", partial(call, broken(-0.5)))
        _raises(ValueError, "softmax", partial(call, broken(9.0)))
    _raises(ValueError, "shape", lambda: fit(values[:, 0]))
    _raises(ValueError, "paths", lambda: fitted.predict(values[:, :3]))
    _raises(ValueError, "classes", lambda: fitted.predict(values[:, :, :2]))
    other = PathProbabilities(values, PathTree.chain(np.ones(tree.n_paths)))
    _raises(ValueError, "bank", lambda: fitted.predict(other))
    _raises(ValueError, "inconsistent", lambda: fit(table, y[:-1]))
    _raises(ValueError, "1 class", lambda: fit(table, np.zeros(200, dtype=int)))
    named = table.with_paths(tree.with_classes(range(4)))
    _raises(ValueError, "labels", lambda: fit(named, np.where(y == 0, 77, y)))
    _raises(ValueError, "path_costs", lambda: fitted.set_params(path_costs=[1.0]).predict(table))


def _random(router: Any) -> bool:
    return bool(get_tags(router).non_deterministic)


def _unseeded(router: Any) -> bool:
    return router.get_params().get("random_state", 0) is None


def _learns_nothing(router: Any) -> bool:
    """Whether fit reads no probabilities: then they are checked when they are read."""
    table, y = make_path_probabilities(20)
    values = np.asarray(table).copy()
    values[3, 0, 0] = np.nan
    try:
        clone(router).fit(PathProbabilities(values, table.paths), y)
    except ValueError:
        return False
    return True
