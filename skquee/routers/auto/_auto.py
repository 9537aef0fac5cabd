"""The router that chooses its own kind: a search over the whole family on held-out rows."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from skquee.evaluation import CostCurve
from skquee.routers import BudgetMixin
from skquee.routers.auto._board import Line, near, prefer, rank, survivors, team, warn_of_failures
from skquee.routers.auto._candidates import PREFERRED, default_candidates
from skquee.routers.auto._judging import Rungs, ladder, places_at, prices_of
from skquee.routers.auto._search import (
    Swept,
    answer_alike,
    fit_team,
    make_splits,
    seeded,
    share_clusters,
    share_trainings,
    try_out,
)
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer, check_n_jobs, check_number, check_seed
from skquee.values._labels import check_weights, correctness, spawn_seeds, stored
from skquee.values._optional import require
from skquee.values._shipping import TableLoop
from skquee.values._types import Seed
from skquee.walk import Decider, RoutingMixin
from skquee.walk._curves import check_curve_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AutoRouter"]

# How far below the hull an operating point may be, in standard errors of accuracy.
SLACK = 0.5


class AutoRouter(BudgetMixin, RoutingMixin, BaseEstimator):
    """Choose among error models, inputs, answers and policies by cross-validation; then refit.

    Every candidate is swept on rows it has not seen, and judged on each fold at the operating
    points that are best on the others: by the mean height of its hull over cost, less error plus
    priced cost, the mean over prices. The best one is fitted on all rows, with those whose
    operating points add most to its own: one is better where answers are cheap, another where
    they are dear. At prediction `lambda_` picks the operating point of least error plus
    ``lambda_`` times cost on those sweeps, or one as good between two such points, so that it
    means the same whatever was chosen: routers with thresholds take part on equal terms, and a
    router whose predicted errors are off is set right.

    Parameters
    ----------
    lambda_ : float, default=1.0
        Price of one unit of cost, in units of error probability. Read at prediction.
    candidates : dict of str to router, default=None
        Routers to try, not fitted. Default: :func:`default_candidates`: thresholds, fixed paths,
        the paper's router, and its relatives.
    cv : int or splitter, default=3
        Folds.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.
    discard : float or None, default=2.0
        After each fold, trainings all of whose candidates are more than so many standard errors
        behind the best one (paired by row) are tried on no further fold. None tries all on all.
    max_routers : int, default=3
        How many may share the range of cost, all with the best one's rule of who answers. 1: the
        best one alone.
    random_state : int, RandomState or None, default=None
        Seed of folds and routers. Results do not depend on `n_jobs`.
    n_jobs : int, default=None
        Candidates tried at once (joblib).

    Attributes
    ----------
    router_ : router
        The best one, fitted on all rows.
    best_name_ : str
        Its name.
    best_params_ : dict
        Its parameters.
    routers_ : dict of str to router
        All that `lambda_` picks operating points of, fitted, by name: the best one first.
    leaderboard_ : DataFrame
        A row a candidate, the chosen one, then best first: ``area`` (mean height of its hull over
        cost), ``se`` over folds, ``loss`` (error plus priced cost, the mean over prices from 0.01
        to 1 for the dearest path), ``behind`` (loss beyond the best one's on the same rows) and
        ``behind_se``, its standard error, ``folds`` it was tried on, ``fit_seconds`` of these,
        and ``failed``, the error of one that did not fit.
    near_ : list of str
        Candidates at most one standard error (paired by row) behind the best one, the chosen one
        first: how sure the choice is. Of the default ones those that answer by class are chosen
        where they are among these.
    cv_curve_ : CostCurve
        What `lambda_` can pick, each row by a router that has not seen it.

    Raises
    ------
    ValueError
        If X is not a table, y does not fit it, or no candidate fits.

    Warns
    -----
    UserWarning
        If a candidate fails; it is left out.

    Examples
    --------
    >>> from skquee import AutoRouter
    >>> from skquee.testing import make_path_probabilities
    >>> probs, y = make_path_probabilities(400)
    >>> from skquee.baselines import FixedPath, ThresholdRouter
    >>> candidates = {"threshold": ThresholdRouter(), "fixed": FixedPath()}
    >>> router = AutoRouter(0.2, candidates=candidates, random_state=0).fit(probs, y)
    >>> list(router.leaderboard_.columns)
    ['area', 'se', 'loss', 'behind', 'behind_se', 'folds', 'fit_seconds', 'failed']
    >>> router.predict(probs).shape
    (400,)
    """

    _read_in_fit: ClassVar = ("candidates", "cv", "classes", "discard", "max_routers")
    _points: CostCurve

    def __init__(
        self,
        lambda_: float = 1.0,
        *,
        candidates: Mapping[str, BaseEstimator] | None = None,
        cv: int | BaseCrossValidator | Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]] = 3,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
        discard: float | None = 2.0,
        max_routers: int = 3,
        random_state: Seed = None,
        n_jobs: int | None = None,
    ) -> None:
        self.lambda_ = lambda_
        self.candidates = candidates
        self.cv = cv
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes
        self.discard = discard
        self.max_routers = max_routers
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __setstate__(self, state: dict[str, object]) -> None:
        # Saved when one router had the whole range of cost to itself.
        alone = "router_" in state and "routers_" not in state
        if alone:
            state = {"max_routers": 1, **state, "_points": state["cv_curve_"]}
            state["routers_"] = {str(state["best_name_"]): state["router_"]}
            del state["cv_curve_"]
        super().__setstate__(state)
        if alone:
            self._owners = np.zeros(len(self._points.knobs), dtype=np.intp)
            self._rungs_of_fit = self._ladder(self._fitted_paths)

    # ------------------------------------------------------------------ fit

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, *, sample_weight: ArrayLike | None = None
    ) -> AutoRouter:
        """Try every candidate on folds, choose, and fit the choice on all rows.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path on rows that trained no classifier.
        y : array-like of shape (n_samples,), default=None
            Labels. None for a table of outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        self.check_knobs()
        check_seed(self.random_state)
        check_n_jobs(self.n_jobs)
        if self.discard is not None:
            check_number(self.discard, "discard", at_least=0)
        check_integer(self.max_routers, "max_routers", at_least=1)
        table, codes = self.start_fit(X, y)
        table = stored(table)
        correctness(table, codes)  # checks every probability: folds number rows in their own way
        labels = None if table.facts.outcomes else self.classes_[codes]
        weights = check_weights(sample_weight, len(table))
        candidates = self.candidates
        if candidates is None:
            candidates = default_candidates(table.paths, len(table))
        seed, fold_seed = (int(s) for s in spawn_seeds(self.random_state, 2))
        routers = seeded(candidates, seed)
        splits = make_splits(self.cv, codes, labels, fold_seed)
        parts = None if weights is None else [weights[test] for _, test in splits]
        clusters = share_clusters(routers.values(), table, labels, weights, seed, self.n_jobs)

        found = self._race(routers, (table, labels, weights), splits, parts, clusters)
        lines = self._ranked(found, parts)
        close = near(lines, 1.0)
        lines = prefer(lines, PREFERRED) if self.candidates is None else lines
        tried = lines[0].folds  # of all, but where those failed that were tried on more
        rows = np.concatenate([test for _, test in splits[:tried]])
        parts = None if parts is None else parts[:tried]
        warn_of_failures(lines)
        self._lines = [tuple(vars(line).values()) for line in lines]
        self.best_name_ = lines[0].name
        self.near_ = sorted(close, key=lambda name: name != self.best_name_)
        whole = {line.name for line in lines if line.folds == tried and not line.failed}
        alike = [name for name in answer_alike(routers, self.best_name_) if name in whole]
        names = team(found, alike, self._fitted_paths, parts, self.max_routers)
        self.best_params_ = routers[self.best_name_].get_params(deep=False)
        self.routers_ = fit_team({name: routers[name] for name in names}, table, labels, weights)
        self.router_ = self.routers_[self.best_name_]
        self._keep_points([found[name] for name in self.routers_], table, rows, weights)
        return self

    def _keep_points(
        self,
        sweeps: Sequence[Sequence[Swept]],
        table: PathProbabilities,
        rows: NDArray[np.intp],
        weights: NDArray[np.float64] | None,
    ) -> None:
        """Keep every operating point of the chosen routers on rows that they have not seen.

        `sweeps`: of each, on every fold. `rows`: rows of the folds, one after the other.
        """
        prices = table.row_path_costs()
        self._owners = np.repeat(np.arange(len(sweeps)), [len(swept[0].knobs) for swept in sweeps])
        self._points = CostCurve(
            np.concatenate([swept[0].knobs for swept in sweeps]),
            np.concatenate([np.hstack([part.paths for part in swept]) for swept in sweeps]),
            np.concatenate([np.hstack([part.correct for part in swept]) for swept in sweeps]),
            table.paths,
            row_costs=None if prices is None else prices[rows],
            sample_weight=None if weights is None else weights[rows],
            source="rows, each judged by a router that has not seen it",
            label=type(self).__name__,
        )
        # Asked at every gate: worked out once.
        curve = self._points
        self._accuracy, self._shares, self._paid = curve.accuracy, curve.path_shares, curve.cost
        self._rungs_of_fit = self._ladder(self._fitted_paths)

    def _race(
        self,
        routers: Mapping[str, BaseEstimator],
        rows: tuple[PathProbabilities, NDArray[np.generic] | None, NDArray[np.float64] | None],
        splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
        parts: Sequence[NDArray[np.float64]] | None,
        clusters: list[BaseEstimator] | None,
    ) -> dict[str, list[Swept]]:
        """Try the candidates fold after fold, those far behind no further."""
        found: dict[str, list[Swept]] = {name: [] for name in routers}
        alive = list(routers)
        for fold, (train, test) in enumerate(splits):
            groups = share_trainings({name: routers[name] for name in alive})
            loop = TableLoop(rows[0], self.n_jobs)
            results = loop.run(
                loop.task(try_out, {n: routers[n] for n in group}, *rows, train, test, clusters)
                for group in tqdm(
                    groups,
                    desc=f"trying routers, fold {fold + 1} of {len(splits)}",
                    disable=None,
                    leave=False,
                )
            )
            for result in results:
                for name, swept in result.items():
                    found[name].append(swept)
            if fold + 1 < len(splits):
                tried = {name: found[name] for name in alive}
                alive = survivors(self._ranked(tried, parts), groups, self.discard)
        return found

    def _ranked(
        self, found: Mapping[str, list[Swept]], parts: Sequence[NDArray[np.float64]] | None
    ) -> list[Line]:
        lines = rank(found, self._fitted_paths, parts)
        if lines[0].failed:
            last = lines[-1].failed
            raise ValueError(f"No candidate could be fitted; the last one failed: {last}")
        return lines

    @property
    def leaderboard_(self) -> pd.DataFrame:
        """Every candidate, best first."""
        check_is_fitted(self)
        try:
            pd = require("pandas", "AutoRouter.leaderboard_")
        except ModuleNotFoundError as error:  # dir() asks for every property
            raise AttributeError(str(error)) from error
        columns = [field.name for field in fields(Line)]
        frame = pd.DataFrame(self._lines, columns=columns).set_index("name")
        return frame.rename(columns={"seconds": "fit_seconds"}).rename_axis("candidate")

    @property
    def cv_curve_(self) -> CostCurve:
        """What ``lambda_`` can pick, on rows of fit."""
        check_is_fitted(self)
        return self._curve(None)

    # ------------------------------------------------------------------ route

    def explain_route(self, X: ArrayLike) -> pd.DataFrame:
        """Return what each gate of the router at this ``lambda_`` saw, predicted and chose.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Rows, few of them.

        Returns
        -------
        DataFrame
            As of :meth:`skquee.CostAwareRouter.explain_route`.

        Raises
        ------
        TypeError
            If that router predicts no errors.
        """
        self.check_as_fitted()
        router = self._at(self.lambda_)
        if not hasattr(router, "explain_route"):
            raise TypeError(
                f"At lambda_={self.lambda_:g} a {type(router).__name__} decides, which predicts no "
                "errors: there is nothing to explain but its rule."
            )
        frame: pd.DataFrame = router.explain_route(X)
        return frame

    def check_knobs(self) -> None:
        check_number(self.lambda_, "lambda_", at_least=0)

    @property
    def _rungs(self) -> Rungs:
        as_fitted = self.path_costs is None and self.paths_.costs == self._points.tree.costs
        return self._rungs_of_fit if as_fitted else self._ladder(self.paths_)

    def _ladder(self, tree: PathTree) -> Rungs:
        # Where a knob has no order, what is near the hull is another thing, not one between.
        ordered = [router.knob.order is not None for router in self.routers_.values()]
        share = self._points.sample_weight / self._points.sample_weight.sum()
        top = self._accuracy.max()
        slack = SLACK * np.sqrt(top * (1 - top) * (share @ share))
        return ladder(self._accuracy, self._spent(tree), np.array(ordered)[self._owners], slack)

    def _spent(self, tree: PathTree) -> NDArray[np.float64]:
        """Return the mean cost of every point: what its rows paid at their own prices, if any."""
        if self._points.row_costs is not None and self.path_costs is None:
            return self._paid
        return np.asarray(self._shares @ tree.path_costs)

    def _router_of(self, point: int) -> BaseEstimator:
        """Return the router of an operating point, at it."""
        router = copy.copy(list(self.routers_.values())[self._owners[point]])
        knob = router.knob
        params: dict[str, object] = {knob.name: knob.of(float(self._points.knobs[point]))}
        if self.path_costs is not None or self.paths is not None:
            params["path_costs"] = self.paths_.costs
        return router.set_params(**params)

    def _at(self, lambda_: float) -> BaseEstimator:
        """Return the router of a price, at the operating point of that price."""
        return self._router_of(int(places_at(self._rungs, lambda_)))

    def make_decider(self, tree: PathTree) -> Decider:
        router = self._at(self.lambda_)
        router.check_knobs()
        decider: Decider = router.make_decider(tree)
        return decider

    def sweep_table(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        points = places_at(self._rungs, knobs)
        used, back = np.unique(points, return_inverse=True)
        taken = np.empty((len(used), len(table)), dtype=np.intp)
        for owner in np.unique(self._owners[used]).tolist():
            mine = np.flatnonzero(self._owners[used] == owner)
            router = self._router_of(int(used[mine[0]]))
            taken[mine] = router.sweep_table(table, self._points.knobs[used[mine]])
        return taken[back]

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.append(0.0, prices_of(self._rungs))

    def knob_values(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = super().knob_values(values, tree)
        if not np.isfinite(knobs).all() or knobs.min() < 0:
            raise ValueError("lambdas must be finite and not negative.")
        return knobs

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return accuracy and cost at every ``lambda_``.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs. Default: 0 and one for every operating point that any can pick.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure on. Default: those of fit, each by a router that has not seen it.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self.check_as_fitted()
        check_curve_rows(lambdas, X, y, sample_weight)
        if X is not None or y is not None:
            return super().cost_curve(lambdas, X, y, sample_weight=sample_weight)
        return self._curve(lambdas)

    def _curve(self, lambdas: ArrayLike | None) -> CostCurve:
        knobs = self.knob_values(lambdas, self.paths_)
        points, curve = places_at(self._rungs, knobs), self._points
        return CostCurve(
            knobs,
            curve.paths[points],
            curve.correct[points],
            self.paths_,
            row_costs=curve.row_costs if self.path_costs is None else None,
            sample_weight=curve.sample_weight,
            source=curve.source,
            label=type(self).__name__,
        )
