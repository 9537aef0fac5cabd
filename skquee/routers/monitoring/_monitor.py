"""An alarm when the samples of a router in service drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skquee.routers.monitoring._martingale import ConformalMartingale
from skquee.values._checks import check_integer, check_labels_given, check_number, check_seed
from skquee.values._labels import check_labels, spawn_seeds
from skquee.values._optional import require
from skquee.values._types import Seed
from skquee.walk import Routes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RouteMonitor"]

# Batches that are remembered one by one.
LINES = 1000


class RouteMonitor(BaseEstimator):
    """Watch a router in service and raise an alarm when its samples drift.

    Three streams are watched: the cost of the paths taken (their use), the predicted errors,
    and, where labels come, the observed error less the predicted one (the gates' calibration).
    Each is tested for exchangeability with the reference rows by a conformal test martingale:
    every score gets a p-value among all before it, and capital is bet against these. By Ville's
    inequality a martingale that starts at 1 ever reaches ``1 / a`` with probability at most
    ``a``; each of ``k`` streams gets ``a = alpha / k``, so that without drift the
    probability of *any* false alarm, however long the stream, is at most `alpha`. Part of the
    capital is held back and staked over time [2]_, so that a shift is seen also after a long calm:
    one of 4 standard deviations within 20 rows after 200,000 calm ones, one of half a deviation
    within 320, in 10 of 10 simulations each (``examples/benchmarks/monitor_power.py``). New rows
    are held against all that was seen: a shift too small to be found in as many rows as came before
    it becomes the rule.

    Parameters
    ----------
    router : router or baseline
        Fitted.
    window : int, default=1000
        Rows, the last ones, over which ``to_frame`` averages.
    alpha : float, default=0.01
        Probability of a false alarm, ever.
    random_state : int, RandomState or None, default=None
        Seed of the draws that break ties.

    Attributes
    ----------
    alarm_ : bool
        Whether drift has been found. It stays until the next ``fit``.
    cause_ : str or None
        Stream that raised it first.
    martingale_ : float
        Greatest of ``martingales_``; alarm at ``1 / alpha``.
    martingales_ : dict of str to float
        Present value of each stream's martingale, divided by the number of streams.
    reference_shares_ : ndarray of shape (n_paths,)
        Share of the reference rows on each path.
    n_batches_, n_samples_ : int
        Batches and rows taken in since ``fit``.

    Raises
    ------
    ValueError
        If `alpha` or `window` is out of range, or labels do not fit the rows or are none of the
        router's.

    Notes
    -----
    What it holds does not grow with the stream: the last 1,000 batches, the rows of the window, and
    how often each score came, of 16 binary digits, at most 1 MiB for each factor of two between the
    least and the largest.
    A router that predicts no errors is watched by its costs, and by its observed errors where
    labels come. Rows should come singly, in the order of their arrival: a stream sorted by
    class is not exchangeable, and that is an alarm.

    References
    ----------
    .. [1] V. Vovk et al., "Retrain or not retrain: conformal test martingales for change-point
       detection", COPA 2021.
    .. [2] J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential
       change detection", NEJSDS 2023.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.monitoring import RouteMonitor
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(2000)
    >>> router = ThresholdRouter(0.7).fit(table, y)
    >>> monitor = RouteMonitor(router, random_state=0).fit(table[:1000], y[:1000])
    >>> monitor.update(table[1000:], y[1000:]).alarm_
    False
    >>> hard = make_path_probabilities(1000, random_state=1)[0].path(0).max(axis=1) < 0.6
    >>> monitor.update(make_path_probabilities(1000, random_state=1)[0][hard]).alarm_
    True
    """

    def __init__(
        self,
        router: BaseEstimator,
        *,
        window: int = 1000,
        alpha: float = 0.01,
        random_state: Seed = None,
    ) -> None:
        self.router = router
        self.window = window
        self.alpha = alpha
        self.random_state = random_state

    def fit(self, X_ref: ArrayLike | Routes, y_ref: ArrayLike | None = None) -> RouteMonitor:
        """Learn how the router behaves, and forget what was seen since.

        Parameters
        ----------
        X_ref : table or Routes
            Rows that did not train the router, as they came.
        y_ref : array-like of shape (n_samples,), default=None
            Labels. Without them calibration is watched from the first labelled batch on.

        Returns
        -------
        self
        """
        check_number(self.alpha, "alpha", above=0, below=1)
        check_integer(self.window, "window", at_least=1)
        check_seed(self.random_state)
        routes = self._routes(X_ref)
        wrong = self._wrong(routes, y_ref)
        self._predicts = bool(np.isfinite(routes.predicted_error).any())
        reference = self._scores(routes, wrong)
        names = ["cost", *(["predicted error"] if self._predicts else []), "calibration"]
        seeds = spawn_seeds(self.random_state, len(names)).tolist()
        self._streams = {
            name: ConformalMartingale(reference.get(name, np.empty(0)), seed)
            for name, seed in zip(names, seeds, strict=True)
        }
        self.reference_shares_ = np.bincount(routes.paths, minlength=routes.tree.n_paths) / len(
            routes.paths
        )
        self.cause_: str | None = None
        self._recent: NDArray[np.float64] = np.empty((0, 4))
        self._log: list[dict[str, object]] = []
        self.n_batches_, self.n_samples_ = 0, 0
        return self

    def update(self, X: ArrayLike | Routes, y: ArrayLike | None = None) -> RouteMonitor:
        """Take in a batch.

        Parameters
        ----------
        X : table or Routes
            Rows to route, or what ``router.route`` returned for them.
        y : array-like of shape (n_samples,), default=None
            Labels, where they are known by now.

        Returns
        -------
        self
        """
        check_is_fitted(self, "reference_shares_")
        routes = self._routes(X)
        wrong = self._wrong(routes, y)
        for name, scores in self._scores(routes, wrong).items():
            stream = self._streams[name]
            stream.update(scores)
            if self.cause_ is None and stream.log_peak >= np.log(len(self._streams) / self.alpha):
                self.cause_ = name
        observed = np.full(len(routes.paths), np.nan) if wrong is None else wrong
        batch = np.column_stack([routes.costs, routes.predicted_error, observed, routes.paths])
        self._recent = np.concatenate([self._recent, batch])[-self.window :]
        self._log = [*self._log[1 - LINES :], self._line(len(batch))]
        self.n_batches_ += 1
        self.n_samples_ += len(batch)
        return self

    def _routes(self, X: ArrayLike | Routes) -> Routes:
        return X if isinstance(X, Routes) else self.router.route(X)

    def _wrong(self, routes: Routes, y: ArrayLike | None) -> NDArray[np.float64] | None:
        """Return 1 where an answer is wrong, or None without labels."""
        if y is None:
            return None
        advice = "Give one label a row, or None for a batch whose labels are not known."
        labels = check_labels_given(column_or_1d(y), "y")
        if len(labels) != len(routes.labels):
            raise ValueError(
                f"y holds {len(labels)} labels, but X has {len(routes.labels)} rows. {advice}"
            )
        check_labels(labels, self.router.classes_, len(labels))
        return (routes.labels != labels).astype(np.float64)

    def _scores(
        self, routes: Routes, wrong: NDArray[np.float64] | None
    ) -> dict[str, NDArray[np.float64]]:
        """Return the scores of every stream that these rows feed."""
        scores = {"cost": routes.costs}
        predicted = routes.predicted_error
        known = np.isfinite(predicted)
        if self._predicts:
            scores["predicted error"] = predicted[known]
        if wrong is not None:
            scores["calibration"] = (wrong - predicted)[known] if self._predicts else wrong
        return scores

    def _line(self, n: int) -> dict[str, object]:
        cost, predicted, observed, paths = self._recent.T
        n_paths = len(self.reference_shares_)
        shares = np.bincount(paths.astype(np.intp), minlength=n_paths) / len(paths)
        known = np.isfinite(observed) & np.isfinite(predicted)
        return {
            "n_samples": n,
            "cost": cost.mean(),
            "predicted_error": _mean(predicted),
            "observed_error": _mean(observed),
            "calibration_gap": _mean((observed - predicted)[known]),
            "usage_distance": 0.5 * np.abs(shares - self.reference_shares_).sum(),
            **{f"log10 {name}": log / np.log(10) for name, log in self._logs().items()},
            "alarm": self.alarm_,
        }

    def _logs(self) -> dict[str, float]:
        check_is_fitted(self, "reference_shares_")
        shift = np.log(len(self._streams))
        return {name: stream.log_now - shift for name, stream in self._streams.items()}

    @property
    def alarm_(self) -> bool:
        """Whether drift has been found."""
        check_is_fitted(self, "reference_shares_")
        return self.cause_ is not None

    @property
    def martingales_(self) -> dict[str, float]:
        """Present value of each stream's martingale, divided by their number."""
        return {name: float(np.exp(min(log, 700.0))) for name, log in self._logs().items()}

    @property
    def martingale_(self) -> float:
        """Greatest of ``martingales_``."""
        return max(self.martingales_.values())

    def to_frame(self) -> pd.DataFrame:
        """Return one row a batch, of the last 1,000 batches.

        Returns
        -------
        pandas.DataFrame
            By number of the batch, from 0: its ``n_samples``; over the window: mean ``cost``,
            ``predicted_error``, ``observed_error``, ``calibration_gap`` (observed less predicted),
            ``usage_distance`` (total variation between path shares and the reference's); base-10
            logarithm of every martingale; ``alarm``. NaN where nothing is known.
        """
        pd = require("pandas", "RouteMonitor.to_frame")

        check_is_fitted(self, "reference_shares_")
        first = self.n_batches_ - len(self._log)
        return pd.DataFrame(self._log, index=pd.RangeIndex(first, self.n_batches_))


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else np.nan
