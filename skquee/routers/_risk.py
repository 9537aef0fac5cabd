"""A router whose trade-off is chosen so that a risk is kept, with a guarantee."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, check_random_state

from skquee.evaluation import CostCurve
from skquee.evaluation._certify import (
    certify,
    check_confidence,
    read_groups,
    risk_bound,
    routing_losses,
    rows_needed,
)
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_number, check_seed
from skquee.values._labels import check_labels, path_answers, stored
from skquee.values._types import Seed
from skquee.walk import Decider, Follow, RoutingMixin
from skquee.walk._fitted import remember

__all__ = ["RiskControlledRouter"]


class _Options(TypedDict):
    method: str
    confidence: float | None
    signed: bool


class RiskControlledRouter(RoutingMixin, BaseEstimator):
    """Choose the cheapest operating point whose risk is certified on calibration rows.

    The router's knob (``lambda_``) is tested on rows it has not seen, from safe to risky, up
    to the first value that fails. Of those certified the cheapest is taken. With probability
    `confidence` over the draw of the calibration rows, the risk of the choice on new rows of
    the same kind is at most the limit. Nothing is assumed of the router: a poor one costs
    more, it does not break the guarantee.

    Parameters
    ----------
    router : estimator
        Fitted, on other rows than those given to ``fit``. Wrap it in scikit-learn's
        ``FrozenEstimator`` where this estimator gets cloned.
    max_error_increase : float, default=None
        Limit of the error above that of the whole model (the fullest path); in (0, 1).
    max_error : float, default=None
        Limit of the error.
    max_disagreement : float, default=None
        Limit of the share of samples answered otherwise than by the whole model. Needs no
        labels.
    confidence : float, default=None
        Probability that the limit is kept. Default: 0.95. "crc" takes none.
    method : {"ltt", "wsr", "crc"}, default="ltt"
        "ltt", learn then test: an exact binomial test, or for `max_error_increase` one of the
        two answers paired. "wsr": a betting bound, for losses of any kind. "crc", conformal
        risk control: the risk is kept on average over the draw of the calibration rows, in a
        given draw it may not be. See the notes.
    lambdas : array-like, default=None
        Values of the knob. Default: the router's grid. Those of ``lambda_`` are tested in
        rising order; those of another knob in the order given, which must go from safe to
        risky and not come from the calibration rows.
    random_state : int, RandomState or None, default=None
        Seed of the shuffle of the rows that "wsr" needs.

    Attributes
    ----------
    best_lambda_ : float or None
        The choice. None where no value passed and every sample takes the whole model, which
        has no error increase and no disagreement.
    router_ : estimator
        The router with that value.
    risk_, bound_ : float
        Risk seen at the choice, and its upper bound; with groups, those of the worst one. Only
        the limit is guaranteed: the bound is that of one point, looked at after the choice.
    slack_ : float
        The limit less ``risk_``: the price of being sure.
    cost_ : float
        Mean cost there.
    n_calibration_ : int
        Rows.
    groups_ : ndarray of shape (n_groups,) or None
        Names of the groups.
    risk_by_group_, bound_by_group_ : ndarray of shape (n_groups,)
        Risk and bound of every group (one group where none are given).
    risk_curve_ : dict of ndarray of shape (n_points,)
        The knob's values under its name, in the order tested; ``cost``, ``risk`` (of the
        worst group), ``p_value`` (NaN under "crc") and ``certified``.

    Raises
    ------
    NotFittedError
        If the router is missing or not fitted.
    ValueError
        If not exactly one limit is given, a parameter is out of range, or the rows cannot
        certify it (the message says how many would).

    Warns
    -----
    UserWarning
        If no value passed and the whole model is taken for every sample.

    Notes
    -----
    A router's risk need not rise along the sequence: the tests do not need it to, and "crc"
    takes the running maximum of every row's losses. A refusal counts as a limit kept.

    Over 200 draws of 2,000 rows from 20,000 made ones, at confidence 0.9, a threshold router
    broke limits of 0.02 (increase), 0.23 (error) and 0.08 (disagreement) in 7, 8 and 3 % of
    the draws with "ltt", at a mean slack of 0.0052, 0.0128 and 0.0099; in 6, 6 and 2 % with
    "wsr", at 0.0066, 0.0167 and 0.0127. "crc" left 0.0050, 0.0090 and 0.0035.

    References
    ----------
    .. [1] Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test", 2021.
    .. [2] Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal Risk Control", ICLR 2024.
    .. [3] Jazbec, Timans et al., "Fast yet Safe: Early-Exiting with Risk Control", NeurIPS
       2024.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.router import RiskControlledRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(2000)
    >>> router = ThresholdRouter().fit(table[:500], y[:500])
    >>> safe = RiskControlledRouter(router, max_error_increase=0.05).fit(table[500:], y[500:])
    >>> safe.risk_ < safe.bound_ <= 0.05
    True
    >>> bool(safe.predict_cost(table).mean() < table.paths.path_costs.max())
    True
    """

    takes_fitted = True

    _read_in_fit: ClassVar = (
        "max_error_increase",
        "max_error",
        "max_disagreement",
        "confidence",
        "method",
        "lambdas",
    )

    def __init__(
        self,
        router: BaseEstimator | None = None,
        *,
        max_error_increase: float | None = None,
        max_error: float | None = None,
        max_disagreement: float | None = None,
        confidence: float | None = None,
        method: str = "ltt",
        lambdas: ArrayLike | None = None,
        random_state: Seed = None,
    ) -> None:
        self.router = router
        self.max_error_increase = max_error_increase
        self.max_error = max_error
        self.max_disagreement = max_disagreement
        self.confidence = confidence
        self.method = method
        self.lambdas = lambdas
        self.random_state = random_state

    # The router carries these.
    @property
    def paths(self) -> PathTree | None:  # type: ignore[override]
        """The router's ``paths``."""
        return getattr(self._router(), "paths", None)

    @property
    def path_costs(self) -> ArrayLike | None:  # type: ignore[override]
        """The router's ``path_costs``."""
        return getattr(self._router(), "path_costs", None)

    @property
    def classes(self) -> Sequence[object] | None:  # type: ignore[override]
        """The router's ``classes``."""
        return getattr(self._router(), "classes", None)

    @property
    def lambda_(self) -> float:
        """Price in ``score``: the router's, 0 where it has none or the whole model is taken."""
        check_is_fitted(self)
        return 0.0 if self.best_lambda_ is None else getattr(self.router_, "lambda_", 0.0)

    def _router(self) -> BaseEstimator | None:
        given = self.router
        return given.estimator if isinstance(given, FrozenEstimator) else given

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "router_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.max_disagreement is None
        return tags

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, *, groups: ArrayLike | str | None = None
    ) -> RiskControlledRouter:
        """Test the operating points on calibration rows and choose one.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Calibration rows: not those the router was fitted on. A lazy table is run once,
            whole.
        y : array-like of shape (n_samples,), default=None
            Labels. Not needed for `max_disagreement`.
        groups : array-like of shape (n_samples,) or "class", default=None
            Group of every row, or "class" for the true class: the limit must then hold in
            every group at once.

        Returns
        -------
        self
        """
        aim, limit = self._check_parameters()
        self._of_fit = remember(self, self._read_in_fit)
        router = self._check_router()
        table = stored(router.read_table(X, reset=False))
        known = table.facts.outcomes
        if known and (aim == "max_disagreement" or isinstance(groups, str)):
            what = aim if aim == "max_disagreement" else "groups='class'"
            raise ValueError(
                f"{what} needs classes, but this is a table of outcomes: use max_error or "
                "max_error_increase, with groups given by row."
            )
        if not known and y is None and (aim != "max_disagreement" or isinstance(groups, str)):
            what = aim if aim != "max_disagreement" else "groups='class'"
            raise ValueError(
                f"{what} needs labels, but y is None: give y, or use max_disagreement alone."
            )
        codes = None if known or y is None else check_labels(y, router.classes_, len(table))
        names, members = read_groups(groups, codes, router.classes_, len(table))
        if known:
            router.class_codes(table, None)  # raises where there are no losses
        knobs = self._sequence(router, table.paths)
        taken = router.sweep_table(table, knobs)
        if table.losses is None or aim == "max_disagreement":
            # The router's answers may be those of several exits; the whole model's are its own.
            answers = router.path_answers(table)
            whole = path_answers(table, check=True)[:, table.paths.fullest]
            losses: NDArray[np.generic] = routing_losses(aim, answers, taken, codes, whole)
        else:
            losses = self._known_losses(router, table, taken, aim)
        prices = table.row_path_costs()
        paid = table.paths.path_costs[taken]
        if prices is not None:
            paid = np.take_along_axis(prices.T, taken, axis=0)
        costs = paid.mean(axis=1)
        if self.method == "wsr":
            order = check_random_state(self.random_state).permutation(len(table))
            losses, members = losses[:, order], members[order]

        options: _Options = {
            "method": self.method,
            "confidence": self.confidence,
            "signed": aim == "max_error_increase",
        }
        found = certify(losses, limit, groups=members, **options)
        n_groups = len(found.risks)
        if found.n_certified:
            best = int(np.argmin(costs[: found.n_certified]))
            self.best_lambda_: float | None = float(knobs[best])
            self.cost_ = float(costs[best])
            self.risk_by_group_ = found.risks[:, best]
            parts = [losses[best, members == group] for group in range(n_groups)]
            self.bound_by_group_ = np.array([risk_bound(part, **options) for part in parts])
        else:
            self._refuse(aim, limit, losses, names, members, options)
            self.best_lambda_ = None
            fullest = table.paths.fullest
            self.cost_ = float(
                table.paths.path_costs[fullest] if prices is None else prices[:, fullest].mean()
            )
            self.risk_by_group_ = self.bound_by_group_ = np.zeros(n_groups)
        self.risk_ = float(self.risk_by_group_.max())
        self.bound_ = float(self.bound_by_group_.max())
        self.slack_ = limit - self.risk_
        self.n_calibration_ = len(table)
        self.groups_ = names
        self.risk_curve_ = {
            router.knob.name: knobs,
            "cost": costs,
            "risk": found.risks.max(axis=0),
            "p_value": found.p_values,
            "certified": np.arange(len(knobs)) < found.n_certified,
        }
        self.take_fitted(router)
        self.router_ = copy.copy(router)
        if self.best_lambda_ is not None:
            self.router_.set_params(**{router.knob.name: self.best_lambda_})
        return self

    def _known_losses(
        self, router: RoutingMixin, table: PathProbabilities, taken: NDArray[np.intp], aim: str
    ) -> NDArray[np.float64]:
        """Return the table's own losses at every point, of shape (n_points, n_samples)."""
        told = router.answered_table(table)
        assert told.losses is not None
        of_paths = told.losses[:, told.paths.path_columns]
        if self.method == "ltt" and not np.isin(of_paths, (0, 1)).all():
            raise ValueError(
                "method='ltt' tests losses of 0 or 1, but these are graded: use method='wsr'."
            )
        losses = np.take_along_axis(of_paths.T, taken, axis=0)
        if aim != "max_error_increase":
            return losses
        assert table.losses is not None
        # The router's answers may be those of several exits; the whole model's are its own.
        return losses - table.losses[:, table.paths.path_columns[table.paths.fullest]]

    def _check_parameters(self) -> tuple[str, float]:
        aims = ("max_error_increase", "max_error", "max_disagreement")
        given = {name: getattr(self, name) for name in aims if getattr(self, name) is not None}
        if len(given) != 1:
            raise ValueError(f"Give exactly one of {', '.join(aims)}, got {sorted(given)}.")
        ((aim, limit),) = given.items()
        hint = " No finite number of rows certifies a risk of 0."
        check_number(limit, aim, above=0, below=1, hint=hint)
        check_confidence(self.confidence, self.method)
        check_seed(self.random_state)
        return aim, float(limit)

    def _check_router(self) -> RoutingMixin:
        router = self._router()
        advice = (
            "Fit a router on other rows than those given here and pass it as router=; where this "
            "estimator gets cloned, pass FrozenEstimator(router)."
        )
        if router is None:
            raise NotFittedError(f"{type(self).__name__} needs a fitted router. {advice}")
        if not isinstance(router, RoutingMixin):
            raise TypeError(f"router must be a RoutingMixin, got {type(router).__name__}.")
        check_is_fitted(router, msg=f"The %(name)s given as router is not fitted. {advice}")
        if router.knob.name not in router.get_params(deep=False):
            raise ValueError(
                f"{type(router).__name__} has no parameter {router.knob.name!r}: pass its router_."
            )
        return router

    def _sequence(self, router: RoutingMixin, tree: PathTree) -> NDArray[np.float64]:
        """Return the knob's values from safe to risky."""
        knobs = router.knob_values(self.lambdas, tree)
        if router.knob.order == "falls":
            return np.sort(knobs)
        # The grids of the other routers start at the cheap end.
        return knobs if self.lambdas is not None else knobs[::-1]

    def _refuse(
        self,
        aim: str,
        limit: float,
        losses: NDArray[np.generic],
        names: NDArray[np.generic] | None,
        members: NDArray[np.intp],
        options: _Options,
    ) -> None:
        """Raise where nothing keeps the limit; warn where the whole model does."""
        sizes = np.bincount(members)
        parts = [losses[0, members == group] for group in range(len(sizes))]
        bounds = [risk_bound(part, **options) for part in parts]
        worst = int(np.argmax(bounds))
        group = "" if names is None else f" of group {names[worst]!s}"
        level, advice = "", f"Give more rows or raise {aim}"
        if self.method != "crc":
            level = f" at confidence={check_confidence(self.confidence, self.method):g}"
            advice = f"Give more rows, raise {aim} or lower confidence"
        needed = rows_needed(limit, **options)
        if sizes[worst] < needed:
            raise ValueError(
                f"{sizes[worst]} calibration rows{group} are too few for {aim}={limit:g}{level}: "
                f"even without one loss it takes at least {needed}. The least bound they give, at "
                f"the safest operating point, is {bounds[worst]:.3g}. {advice}."
            )
        message = (
            f"No operating point is certified for {aim}={limit:g}{level}: on {sizes[worst]} "
            f"calibration rows{group} the safest has a risk of {parts[worst].mean():.3g} and a "
            f"bound of {bounds[worst]:.3g}. {advice}, or fit a better router."
        )
        if aim == "max_error":
            raise ValueError(message)
        warnings.warn(f"{message} Every sample takes the whole model.", UserWarning, stacklevel=3)

    def check_knobs(self) -> None:
        self.router_.check_knobs()

    def knob_in_use(self) -> float | None:
        return self.best_lambda_

    def make_decider(self, tree: PathTree) -> Decider:
        if self.best_lambda_ is None:
            return Follow(tree, self.classes_, tree.prefixes(tree.fullest))
        decider: Decider = self.router_.make_decider(tree)
        return decider

    def read_table(self, X: ArrayLike, *, reset: bool) -> PathProbabilities:
        table: PathProbabilities = self.router_.read_table(X, reset=reset)
        return table

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return the fitted router's curve.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure on. Default: those the router held out in its fit, if any.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self.check_as_fitted()
        return self.router_.cost_curve(lambdas, X, y, sample_weight=sample_weight)

    def predicted_along(
        self, curve: CostCurve, table: PathProbabilities | None, rows: NDArray[np.intp]
    ) -> NDArray[np.floating] | None:
        return self.router_.predicted_along(curve, table, rows)
