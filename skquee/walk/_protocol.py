"""What every router offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.evaluation import CostCurve
from skquee.values import PathTree
from skquee.walk._decider import Decider
from skquee.walk._knob import Knob
from skquee.walk._visit import Routes

__all__ = ["Router"]


class Router(Protocol):
    """What every router and baseline offers, and :func:`skquee.testing.check_router` holds to.

    The easy way to one of your own is :class:`RoutingMixin`, which gives all of this for ``fit``
    and ``make_decider``; see its example.

    Attributes
    ----------
    knob : Knob
        Parameter that ``cost_curve`` sweeps.
    classes_ : ndarray of shape (n_classes,)
        Labels of the class axis.
    paths_ : PathTree
        The tree, with the costs that hold now.
    n_features_in_ : int
        Columns of the table.
    needs_labels : bool
        Whether it chooses by the labels of the very rows it routes, as an oracle does. Such a one
        belongs beside a curve: :class:`skquee.RoutedClassifier` refuses it.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import check_router
    >>> from skquee.walk import Router
    >>> router: Router = ThresholdRouter()
    >>> check_router(router)
    """

    knob: Knob
    needs_labels: bool
    classes_: NDArray[np.generic]
    n_features_in_: int

    @property
    def paths_(self) -> PathTree:
        """The tree, with the costs that hold now."""
        ...

    def fit(self, X: ArrayLike, y: ArrayLike | None) -> Router:
        """Learn from a table (n_samples, n_paths, n_classes) and labels; return self."""
        ...

    def route(self, X: ArrayLike) -> Routes:
        """Route samples, running only what each one's path needs."""
        ...

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return ``route(X).labels``, of shape (n_samples,)."""
        ...

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return ``route(X).probabilities``, of shape (n_samples, n_classes)."""
        ...

    def predict_path(self, X: ArrayLike) -> NDArray[np.intp]:
        """Return ``route(X).paths``, of shape (n_samples,)."""
        ...

    def predict_cost(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``route(X).costs``, of shape (n_samples,)."""
        ...

    def predict_error(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the predicted probability of error, NaN where no gate predicts."""
        ...

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return accuracy, less the price paid where there is one."""
        ...

    def decider(self) -> Decider:
        """Return what decides at a gate, frozen at the operating point that is set."""
        ...

    def knob_in_use(self) -> float | None:
        """Return where this stands among the knobs of its curve; None where that is no number."""
        ...

    def cost_curve(
        self, lambdas: ArrayLike | None, X: ArrayLike | None, y: ArrayLike | None
    ) -> CostCurve:
        """Return accuracy and cost at every value of the knob; None: at those of its own grid."""
        ...
