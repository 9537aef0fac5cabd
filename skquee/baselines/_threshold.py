"""Early exit by confidence: along one path, leave at the first exit that is sure enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from skquee.method.gates import entropy
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer, check_number, check_numbers, check_option
from skquee.values._labels import check_weights, stored
from skquee.walk import Follow, Knob, RoutingMixin, Visit

__all__ = ["BudgetedThresholdRouter", "PatienceRouter", "ThresholdRouter", "confidence"]

MEASURES = ("max_probability", "margin", "entropy")


def confidence(probabilities: NDArray[np.floating], measure: str) -> NDArray[np.floating]:
    """Return how sure each answer is; larger is surer.

    `probabilities` (n_samples, n_classes): probability vectors. `measure`: largest probability, its
    lead over the second, or the entropy with its sign turned. Returns shape (n_samples,).

    >>> import numpy as np
    >>> from skquee.baselines._threshold import confidence
    >>> confidence(np.array([[0.75, 0.25]]), "margin")
    array([0.5])
    """
    if measure == "max_probability":
        return probabilities.max(axis=1)
    if measure == "entropy":
        return -entropy(probabilities)
    top = np.partition(probabilities, -2, axis=1)
    return top[:, -1] - top[:, -2]


@dataclass(frozen=True, eq=False)
class _SureEnough:
    """Leave where the measure reaches a bound: one for all exits, or one for each."""

    measure: str
    least: NDArray[np.float64]

    def __call__(self, visit: Visit) -> NDArray[np.bool_]:
        assert visit.now is not None
        least = self.least if self.least.ndim == 0 else self.least[visit.depth - 1]
        return confidence(visit.now, self.measure) >= least

    def one(self, history: list[list[float]]) -> bool:
        """Tell whether one row leaves; see :meth:`skquee.walk.Decider.one`."""
        now = history[-1]
        least = self.least if self.least.ndim == 0 else self.least[len(history) - 1]
        if self.measure == "max_probability":
            return bool(max(now) >= least)
        return bool(confidence(np.array([now]), self.measure)[0] >= least)


@dataclass(frozen=True)
class _Patient:
    """Leave where the last answers agree."""

    patience: int

    def __call__(self, visit: Visit) -> NDArray[np.bool_]:
        if visit.depth < self.patience:
            return np.zeros(len(visit.rows), dtype=bool)
        recent = visit.answers[:, visit.depth - self.patience :]
        return (recent == recent[:, -1:]).all(axis=1)


class _ChainRouter(RoutingMixin, BaseEstimator):
    """Follows one path of the tree and decides only when to leave it."""

    along: int | str | None

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Check the table and its labels.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        self.start_fit(X, y)
        self.check_knobs()
        return self

    def _line(self, tree: PathTree) -> NDArray[np.intp]:
        """Return the path followed and its prefixes, shortest first."""
        return tree.prefixes(tree.fullest if self.along is None else self.along)

    def _rule(self) -> Callable[[Visit], NDArray[np.bool_]]:
        """Return who leaves at an exit, frozen at what is set now."""
        raise TypeError(f"{type(self).__name__} must define _rule.")

    def make_decider(self, tree: PathTree) -> Follow:
        return Follow(tree, self.classes_, self._line(tree), self._rule())


class ThresholdRouter(_ChainRouter):
    """Leave at the first exit whose answer is sure enough.

    The most common rule of early exit ("Thresholding" of the paper, section 5.4; BranchyNet
    for entropy).

    Parameters
    ----------
    threshold : float or array-like of shape (n_stages - 1,), default=0.8
        Leave where the measure reaches it (entropy: falls to it). One for all exits, or one
        for each exit but the last. Read at prediction.
    measure : {"max_probability", "margin", "entropy"}, default="max_probability"
        Largest probability, its lead over the second, or entropy in nats.
    along : int or str, default=None
        Path to follow. Default: the fullest one (highest level everywhere).
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import ThresholdRouter
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]])
    >>> router = ThresholdRouter(threshold=0.8, paths=PathTree.chain([1, 1])).fit(probs, [0, 1])
    >>> router.predict_path(probs)
    array([0, 1])
    """

    knob = Knob("threshold", order="rises")

    def __init__(
        self,
        threshold: float | ArrayLike = 0.8,
        *,
        measure: str = "max_probability",
        along: int | str | None = None,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
    ) -> None:
        self.threshold = threshold
        self.measure = measure
        self.along = along
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes

    def check_knobs(self) -> None:
        check_option(self.measure, "measure", MEASURES)
        values = check_numbers(self.threshold, "threshold", finite=False)
        stages = len(self._line(self.paths_)) - 1
        if values.ndim and values.shape != (stages,):
            raise ValueError(
                f"threshold must be a number or one for each of the {stages} exits before the "
                f"last, got {self.threshold!r}."
            )

    def _rule(self) -> Callable[[Visit], NDArray[np.bool_]]:
        least = np.array(self.threshold, dtype=np.float64)
        least = -least if self.measure == "entropy" else least
        return _SureEnough(self.measure, least)

    def sweep_table(self, table: PathProbabilities, knobs: NDArray[np.float64]) -> NDArray[np.intp]:
        line = self._line(table.paths)
        if len(line) == 1:
            return np.full((len(knobs), len(table)), line[0])
        least = -knobs if self.measure == "entropy" else knobs
        stops = np.full((len(knobs), len(table)), len(line) - 1, dtype=np.intp)
        for rows, chunk in table.chunks():
            sure = [confidence(chunk.path(path), self.measure) for path in line[:-1]]
            for stage in range(len(sure) - 1, -1, -1):
                stops[:, rows][sure[stage] >= least[:, None]] = stage
        return line[stops]

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        if self.measure == "margin":
            return np.append(np.linspace(0, 1, 101), 1.1)
        if self.measure == "entropy":
            return np.append(np.linspace(np.log(self.n_classes_) + 1e-3, 0, 101), -1.0)
        return np.append(np.linspace(1 / self.n_classes_ - 1e-3, 1, 101), 1.1)

    def search_knobs(self, table: PathProbabilities) -> NDArray[np.float64]:
        # Quantiles of what is compared: confidences crowd near 1.
        line = self._line(table.paths)[:-1]
        if not len(line):
            return np.array([0.0])
        seen = np.concatenate([confidence(table.path(p), self.measure) for p in line])
        seen = -seen if self.measure == "entropy" else seen
        inner = np.unique(np.quantile(seen, np.linspace(0, 1, 201)))
        return np.concatenate([[inner[0] - 1], inner, [inner[-1] + 1]])


class BudgetedThresholdRouter(_ChainRouter):
    """Set one threshold an exit so that given shares of the samples leave there.

    MSDNet's budgeted batch classification: exit ``k`` of ``K`` gets a share proportional to
    ``ratio ** k``; its threshold is the confidence of the last of that many surest samples
    among those that have not left, on the rows given to fit.

    Parameters
    ----------
    ratio : float, default=1.0
        Below 1 most samples leave early, above 1 late. Read at prediction.
    measure : {"max_probability", "margin", "entropy"}, default="max_probability"
        Measure of confidence.
    along : int or str, default=None
        Path to follow. Default: the fullest one.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.

    Attributes
    ----------
    confidences_ : ndarray of shape (n_samples, n_stages)
        Confidence of the fitting rows at every exit of the path.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import BudgetedThresholdRouter
    >>> probs = np.random.default_rng(0).dirichlet(np.ones(2), size=(100, 2))
    >>> router = BudgetedThresholdRouter(paths=PathTree.chain([1, 1])).fit(probs, [0, 1] * 50)
    >>> np.bincount(router.predict_path(probs))
    array([50, 50])
    """

    knob = Knob("ratio", order="rises")
    _read_in_fit: ClassVar = ("measure", "along", "classes")

    def __init__(
        self,
        ratio: float = 1.0,
        *,
        measure: str = "max_probability",
        along: int | str | None = None,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
    ) -> None:
        self.ratio = ratio
        self.measure = measure
        self.along = along
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> BudgetedThresholdRouter:
        """Measure the confidence of every row at every exit.

        Parameters
        ----------
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights; a row counts as often as its weight says.

        Returns
        -------
        self
        """
        super().fit(X, y)
        table = stored(self.read_table(X, reset=False))
        self.confidences_ = np.column_stack(
            [confidence(table.path(int(p)), self.measure) for p in self._line(table.paths)]
        )
        weights = check_weights(sample_weight, len(table))
        self._weights = np.ones(len(table)) if weights is None else weights
        return self

    def check_knobs(self) -> None:
        check_option(self.measure, "measure", MEASURES)
        check_number(self.ratio, "ratio", above=0)

    @property
    def thresholds_(self) -> NDArray[np.float64]:
        """Threshold of every exit but the last, for the ratio that holds now."""
        n_stages = self.confidences_.shape[1]
        shares = self.ratio ** np.arange(n_stages, dtype=np.float64)
        shares /= shares.sum()
        left = self._weights.copy()
        thresholds = np.full(n_stages - 1, np.inf)
        for stage in range(n_stages - 1):
            sure = self.confidences_[:, stage]
            order = np.argsort(-sure, kind="stable")
            mass = np.cumsum(left[order])
            wanted = shares[stage] * self._weights.sum()
            last = np.searchsorted(mass, wanted * (1 - 1e-12))
            if wanted > 0 and mass[-1] > 0:
                thresholds[stage] = sure[order[min(last, len(order) - 1)]]
            left[sure >= thresholds[stage]] = 0
        return thresholds

    def _rule(self) -> Callable[[Visit], NDArray[np.bool_]]:
        return _SureEnough(self.measure, self.thresholds_)

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        # MSDNet's own grid, p / 20, and its mirror image for late exits.
        grid = np.arange(1, 21) / 20
        return np.concatenate([grid / 20, grid, 1 / grid[-2::-1], 20 / grid[::-1]])


class PatienceRouter(_ChainRouter):
    """Leave once several exits in a row have given the same answer (PABEE).

    Parameters
    ----------
    patience : int, default=2
        Equal consecutive answers needed; 1 leaves at the first exit. Read at prediction.
    along : int or str, default=None
        Path to follow. Default: the fullest one.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import PatienceRouter
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9], [0, 1]]])
    >>> router = PatienceRouter(paths=PathTree.chain([1, 1, 1])).fit(probs, [0, 1])
    >>> router.predict_path(probs)
    array([1, 2])
    """

    knob = Knob("patience", order="rises", kind=int)

    def __init__(
        self,
        patience: int = 2,
        *,
        along: int | str | None = None,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
    ) -> None:
        self.patience = patience
        self.along = along
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes

    def check_knobs(self) -> None:
        # Sweeps and searches hand it over as a float.
        check_integer(self.patience, "patience", at_least=1, whole_floats=True)

    def _rule(self) -> Callable[[Visit], NDArray[np.bool_]]:
        return _Patient(int(self.patience))

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.arange(1, len(self._line(tree)) + 1, dtype=np.float64)
