"""The router that chooses its own kind: a search over the whole family on held-out rows."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from skquee.base import RoutingMixin, Visit
from skquee.baselines import FixedPath, ThresholdRouter
from skquee.baselines._threshold import confidence
from skquee.evaluation import CostCurve
from skquee.paths import PathTree
from skquee.policy import ClosedLoop, OptionValue, Pessimistic
from skquee.probabilities import PathProbabilities
from skquee.router import BudgetMixin, CostAwareRouter
from skquee.tables import check_labels, check_weights, default_lambdas, spawn_seeds, stored

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AutoRouter", "default_candidates"]

# Candidates that differ in nothing but one of these policies share one training.
SHARED = (OptionValue, Pessimistic, ClosedLoop)
# Rows from which boosted trees are worth trying, and sequences that thresholds follow at most.
MANY_ROWS, MAX_SEQUENCES = 5000, 12


def default_candidates(tree: PathTree, n_samples: int) -> dict[str, Any]:
    """Return the routers that :class:`AutoRouter` tries.

    Parameters
    ----------
    tree : PathTree
        Its paths of full depth, or all of several steps where there are few, are the sequences
        that thresholds follow.
    n_samples : int
        Rows at hand: with few, boosted trees are left out.

    Returns
    -------
    dict of str to estimator
        Not fitted.
    """
    policies: dict[str, Any] = {
        "open loop": "open-loop",
        "option 0.1": OptionValue(0.1),
        "option 0.2": OptionValue(0.2),
        "option 0.3": OptionValue(0.3),
        "margin 0.01": Pessimistic(0.01),
    }
    closed = {**policies, "closed loop": ClosedLoop()}
    errors = {"targets": "bernoulli", "regressor": "logistic", "features": "rich"}
    clusters = {**errors, "targets": "shrunken"}
    kinds: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("paper", {}, policies),
        ("clusters, logistic", clusters, policies),
        ("clusters, logistic, ensemble", {**clusters, "answer": "ensemble"}, policies),
        ("errors, logistic", errors, closed),
        ("errors, logistic, recall", {**errors, "answer": "recall"}, closed),
        ("errors, logistic, ensemble", {**errors, "answer": "ensemble"}, closed),
    ]
    if n_samples >= MANY_ROWS:
        kinds.append(("errors, boosting", {**errors, "regressor": "boosting"}, policies))
    found: dict[str, Any] = {"fixed paths": FixedPath()}
    sequences = np.flatnonzero(tree.depths > 1)
    if len(sequences) > MAX_SEQUENCES:
        sequences = np.flatnonzero(tree.depths == tree.n_exits)[-MAX_SEQUENCES:]
    for path in sequences.tolist():
        for measure in ("max_probability", "margin", "entropy"):
            name = tree.names[path]
            found[f"threshold on {measure} along {name}"] = ThresholdRouter(
                measure=measure, along=name
            )
    for kind, options, tried in kinds:
        for title, policy in tried.items():
            found[f"{kind}, {title}"] = CostAwareRouter(**options, policy=policy, first="free")
    return found


class AutoRouter(BudgetMixin, RoutingMixin, BaseEstimator):
    """Choose among error models, inputs, answers and policies by cross-validation; then refit.

    Every candidate is swept on rows it has not seen. The one whose accuracy-cost hull is the
    highest on average over cost is fitted on all rows. At prediction `lambda_` picks the
    operating point of least error plus ``lambda_`` times cost on those sweeps, so that it means
    the same whatever was chosen: routers with thresholds take part on equal terms, and a router
    whose predicted errors are off is set right.

    Parameters
    ----------
    lambda_ : float, default=1.0
        Price of one unit of cost, in units of error probability. Read at prediction.
    candidates : dict of str to router, default=None
        Routers to try, not fitted. Default: :func:`default_candidates`: thresholds, fixed paths,
        the paper's router, and its relatives.
    cv : int or splitter, default=3
        Folds.
    paths, costs, classes
        As of :class:`skquee.CostAwareRouter`.
    random_state : int, RandomState or None, default=None
        Seed of folds and routers. Results do not depend on `n_jobs`.
    n_jobs : int, default=None
        Candidates tried at once (joblib).

    Attributes
    ----------
    router_ : router
        The chosen one, fitted on all rows.
    best_name_ : str
        Its name.
    best_params_ : dict
        Its parameters.
    leaderboard_ : DataFrame
        A row a candidate, best first: ``area`` (mean accuracy of its hull over cost), ``se`` over
        folds, ``loss`` (error plus priced cost, the mean over prices from 0.01 to 1),
        ``fit_seconds`` of all folds, and ``failed``, the error of one that did not fit.
    cv_curve_ : CostCurve
        The sweep of the chosen one, each row by a router that has not seen it.

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
    ['area', 'se', 'loss', 'fit_seconds', 'failed']
    >>> router.predict(probs).shape
    (400,)
    """

    def __init__(
        self,
        lambda_: float = 1.0,
        *,
        candidates: Mapping[str, Any] | None = None,
        cv: Any = 3,
        paths: PathTree | None = None,
        costs: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.lambda_ = lambda_
        self.candidates = candidates
        self.cv = cv
        self.paths = paths
        self.costs = costs
        self.classes = classes
        self.random_state = random_state
        self.n_jobs = n_jobs

    # ------------------------------------------------------------------ fit

    def fit(self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> AutoRouter:
        """Try every candidate on folds, choose, and fit the choice on all rows.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path on rows that trained no classifier.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        self._check_knobs()
        table, codes = self._start_fit(X, y)
        table, labels = stored(table), self.classes_[codes]
        weights = check_weights(sample_weight, len(table))
        candidates = self.candidates
        if candidates is None:
            candidates = default_candidates(table.paths, len(table))
        if not candidates:
            raise ValueError("candidates is empty: give at least one router, by name.")
        seed, fold_seed = (int(s) for s in spawn_seeds(self.random_state, 2))
        seeded = {name: _seeded(router, seed) for name, router in candidates.items()}
        cv = check_cv(self.cv, labels, classifier=True)
        if getattr(cv, "shuffle", None) is False and isinstance(self.cv, int):
            cv = type(cv)(cv.get_n_splits(), shuffle=True, random_state=fold_seed)
        splits = list(cv.split(codes, labels))
        groups = _groups(seeded)
        jobs = [(group, train, test) for group in groups for train, test in splits]
        grids = {name: _grid(router, table) for name, router in seeded.items()}
        results = Parallel(n_jobs=self.n_jobs)(
            delayed(_try)(
                {n: (seeded[n], grids[n]) for n in group}, table, labels, weights, train, test
            )
            for group, train, test in tqdm(jobs, desc="trying routers", disable=None, leave=False)
        )
        found: dict[str, list[_Swept]] = {name: [] for name in seeded}
        for result in results:
            for name, swept in result.items():
                found[name].append(swept)
        rows = np.concatenate([test for _, test in splits])
        kept = None if weights is None else weights[rows]
        curves = self._rank(found, [len(test) for _, test in splits], kept)
        self.best_name_ = self._lines[0][0]
        self.cv_curve_ = curves[self.best_name_]
        # Asked at every gate: worked out once.
        self._accuracy, self._shares = self.cv_curve_.accuracy, self.cv_curve_.path_shares
        best = seeded[self.best_name_]
        self.best_params_ = best.get_params(deep=False)
        self.router_ = _fitted(best, table, labels, weights)
        return self

    def _rank(
        self,
        found: dict[str, list[_Swept]],
        sizes: list[int],
        weights: NDArray[np.float64] | None,
    ) -> dict[str, CostCurve]:
        """Fill the leaderboard and return the curves of candidates that did not fail."""
        tree = self._fitted_paths
        prices = np.geomspace(0.01, 1, 25) / (tree.path_costs.max() or 1.0)
        curves: dict[str, CostCurve] = {}
        lines: list[tuple[str, float, float, float, float, str]] = []
        ends = np.cumsum([0, *sizes])
        parts = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
        for name, swept in found.items():
            seconds = sum(part.seconds for part in swept)
            failed = next((part.failed for part in swept if part.failed), "")
            if failed:
                warnings.warn(
                    f"The candidate {name!r} failed and is left out: {failed}",
                    UserWarning,
                    stacklevel=3,
                )
                lines.append((str(name), np.nan, np.nan, np.nan, seconds, failed))
                continue
            curve = CostCurve(
                swept[0].knobs,
                np.concatenate([part.paths for part in swept], axis=1),
                np.concatenate([part.correct for part in swept], axis=1),
                tree,
                sample_weight=weights,
                source="rows, each judged by a router that has not seen it",
                label=type(self).__name__,
            )
            curves[name] = curve
            areas = [
                CostCurve(
                    curve.knobs,
                    curve.paths[:, part],
                    curve.correct[:, part],
                    tree,
                    sample_weight=None if weights is None else weights[part],
                ).area()
                for part in parts
            ]
            loss = (1 - curve.accuracy + prices[:, None] * curve.cost).min(axis=1).mean()
            error = np.std(areas, ddof=1) / np.sqrt(len(areas)) if len(areas) > 1 else np.nan
            lines.append((str(name), curve.area(), float(error), float(loss), seconds, ""))
        if not curves:
            raise ValueError(f"No candidate could be fitted; the last one failed: {lines[-1][-1]}")
        # Best first; what failed comes last.
        self._lines = sorted(lines, key=lambda line: (bool(line[-1]), -line[1]))
        return curves

    @property
    def leaderboard_(self) -> pd.DataFrame:
        """Every candidate, best first."""
        import pandas as pd

        check_is_fitted(self)
        columns = ["candidate", "area", "se", "loss", "fit_seconds", "failed"]
        return pd.DataFrame(self._lines, columns=columns).set_index("candidate")

    # ------------------------------------------------------------------ route

    def explain_route(self, X: Any) -> pd.DataFrame:
        """Return what each gate of the chosen router saw, predicted and chose.

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
            If the chosen router predicts no errors.
        """
        check_is_fitted(self)
        router = self._at(self.lambda_)
        if not hasattr(router, "explain_route"):
            raise TypeError(
                f"The chosen router, {self.best_name_!r}, predicts no errors: there is nothing to "
                "explain but its rule."
            )
        frame: pd.DataFrame = router.explain_route(X)
        return frame

    def _check_knobs(self) -> None:
        number = isinstance(self.lambda_, Real)
        if not (number and np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise ValueError(f"lambda_ must be a finite number >= 0, got {self.lambda_!r}.")

    def _operating_points(self, lambdas: ArrayLike) -> NDArray[np.intp]:
        """Return the place in the sweep of least error plus priced cost, for each price."""
        cost = self._shares @ self.paths_.path_costs
        loss = (1 - self._accuracy) + np.multiply.outer(np.asarray(lambdas, np.float64), cost)
        # Of equals the cheapest.
        order = np.argsort(cost, kind="stable")
        return order[np.argmin(loss[..., order], axis=-1)]

    def _at(self, lambda_: float) -> Any:
        """Return the chosen router at the operating point of a price."""
        router = copy.copy(self.router_)
        params: dict[str, Any] = {}
        if router._knob is not None:
            value = float(self.cv_curve_.knobs[self._operating_points(lambda_)])
            params[router._knob] = int(value) if router._knob == "path" else value
        if self.costs is not None or self.paths is not None:
            params["costs"] = self.paths_.costs
        return router.set_params(**params)

    def _decide(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        steps, errors = self._at(self.lambda_)._decide(visit)
        return steps, errors

    def _answer(
        self,
        paths: NDArray[np.intp],
        now: NDArray[np.floating],
        history: Callable[[], list[NDArray[np.floating]]],
    ) -> NDArray[np.floating]:
        answer: NDArray[np.floating] = self.router_._answer(paths, now, history)
        return answer

    def _path_answers(self, table: PathProbabilities) -> NDArray[np.int32]:
        answers: NDArray[np.int32] = self.router_._path_answers(table)
        return answers

    def _sweep(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        places = self._operating_points(knobs)
        used, back = np.unique(places, return_inverse=True)
        router = self._at(float(knobs[0]))
        taken: NDArray[np.intp] = router._sweep(table, self.cv_curve_.knobs[used])
        return taken[back]

    def _knobs(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = super()._knobs(values, tree)
        if not np.isfinite(knobs).all() or knobs.min() < 0:
            raise ValueError("lambdas must be finite and not negative.")
        return knobs

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return accuracy and cost at every ``lambda_``.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs. Default: 0 and a hundred that span the curve.
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
        check_is_fitted(self)
        if X is not None or y is not None:
            return super().cost_curve(lambdas, X, y, sample_weight=sample_weight)
        knobs = self._knobs(lambdas, self.paths_)
        places, curve = self._operating_points(knobs), self.cv_curve_
        return CostCurve(
            knobs,
            curve.paths[places],
            curve.correct[places],
            self.paths_,
            sample_weight=curve.sample_weight,
            source=curve.source,
            label=type(self).__name__,
        )


class _Swept:
    """What one fold says of one candidate."""

    def __init__(
        self,
        knobs: NDArray[np.float64],
        seconds: float,
        paths: Any = None,
        correct: Any = None,
        failed: str = "",
    ) -> None:
        self.knobs, self.seconds, self.failed = knobs, seconds, failed
        self.paths, self.correct = paths, correct


def _seeded(router: Any, seed: int) -> Any:
    copied = clone(router)
    if copied.get_params(deep=False).get("random_state", 0) is None:
        copied.set_params(random_state=seed)
    return copied


def _groups(candidates: Mapping[str, Any]) -> list[list[str]]:
    """Gather candidates that one training serves: they differ in the policy alone."""
    groups: dict[Any, list[str]] = {}
    for name, router in candidates.items():
        policy = getattr(router, "policy", None)
        shared = type(router) is CostAwareRouter and (
            router.first == "free" and (policy == "open-loop" or isinstance(policy, SHARED))
        )
        params = router.get_params(deep=False)
        params.pop("policy", None)
        key = repr(sorted(params.items(), key=lambda item: item[0])) if shared else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _fitted(
    router: Any,
    table: PathProbabilities,
    labels: NDArray[Any],
    weights: NDArray[np.float64] | None,
) -> Any:
    fitted = clone(router)
    if "validation_fraction" in fitted.get_params(deep=False):
        fitted.set_params(validation_fraction=0.0)  # the folds take its place
    weighted = weights is not None and has_fit_parameter(fitted, "sample_weight")
    return fitted.fit(table, labels, **({"sample_weight": weights} if weighted else {}))


def _try(
    routers: Mapping[str, tuple[Any, NDArray[np.float64]]],
    table: PathProbabilities,
    labels: NDArray[Any],
    weights: NDArray[np.float64] | None,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> dict[str, _Swept]:
    """Train once for all these candidates and sweep each on the test rows."""
    found: dict[str, _Swept] = {}
    kept = None if weights is None else weights[train]
    rest, answers = table[test], labels[test]
    shared: Any = None
    survey: Any = None
    for name, (router, knobs) in routers.items():
        began = time.perf_counter()
        try:
            with threadpool_limits(limits=1), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if shared is None:
                    shared = _fitted(router, table[train], labels[train], kept)
                if len(routers) == 1:
                    curve = shared.cost_curve(knobs, rest, answers)
                    paths, right = curve.paths, curve.correct
                else:
                    if survey is None:
                        rest = shared._table(rest, reset=False)
                        survey = shared._survey(rest)
                        codes = check_labels(answers, shared.classes_, len(rest))
                        correct = shared._correct(rest, codes).T
                    mine = copy.copy(shared)
                    mine.policy = router.policy
                    mine.policy_, mine._starts = mine._make_policy(), {}
                    if mine.policy_ is not None:
                        mine.policy_.fit(*shared._start_rows, rest.paths)
                    paths = mine._sweep_survey(survey, knobs, rest.paths, len(rest))
                    right = np.take_along_axis(correct, paths, axis=0)
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
            found[name] = _Swept(knobs, time.perf_counter() - began, failed=failed)
            continue
        found[name] = _Swept(knobs, time.perf_counter() - began, paths, right)
    return found


def _grid(router: Any, table: PathProbabilities) -> NDArray[np.float64]:
    """Return the values of a router's knob to sweep: the same in every fold."""
    tree = table.paths
    if isinstance(router, ThresholdRouter):
        # Quantiles of what it compares: confidences crowd near 1.
        line = router._line(tree)[:-1]
        if not len(line):
            return np.array([0.0])
        seen = np.concatenate([confidence(table.path(p), router.measure) for p in line])
        seen = -seen if router.measure == "entropy" else seen
        inner = np.unique(np.quantile(seen, np.linspace(0, 1, 201)))
        return np.concatenate([[inner[0] - 1], inner, [inner[-1] + 1]])
    if router._knob == "path":
        return np.arange(tree.n_paths, dtype=np.float64)
    if router._knob == "lambda_":
        return default_lambdas(tree)
    knobs: NDArray[np.float64] = router._default_knobs(tree)
    return knobs
