"""Predicted errors against what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from skquee.display._style import QUIET, legend_of, line_style, new_axes, tidy
from skquee.evaluation import calibration_bins, route, unpack
from skquee.values._types import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ErrorCalibrationDisplay"]


class ErrorCalibrationDisplay:
    """Predicted against observed errors, in bins of equally many samples.

    Above the diagonal a router is too sure of itself. Build it with :meth:`from_estimator`
    or :meth:`from_predictions`; plot several on one ``ax``.

    Parameters
    ----------
    mean_predicted, mean_observed, share : ndarrays of shape (n_bins,)
        Mean predicted error, share of wrong answers and share of the samples of each bin, as
        from :func:`~skquee.evaluation.calibration_bins`.
    name : str, default=None
        Name for the legend.

    Attributes
    ----------
    calibration_error : float
        Expected calibration error (ECE): mean distance from the diagonal.
    ax_, figure_ : matplotlib Axes and Figure
        Where it was drawn.
    line_ : Line2D
        The bins.
    legend_ : Legend
        Beside the axes.

    Examples
    --------
    >>> from skquee.display import ErrorCalibrationDisplay
    >>> display = ErrorCalibrationDisplay.from_predictions(
    ...     [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.8], n_bins=2
    ... )
    >>> round(display.calibration_error, 3)
    0.1
    """

    def __init__(
        self,
        *,
        mean_predicted: NDArray[np.float64],
        mean_observed: NDArray[np.float64],
        share: NDArray[np.float64],
        name: str | None = None,
    ) -> None:
        self.mean_predicted = mean_predicted
        self.mean_observed = mean_observed
        self.share = share
        self.name = name

    @property
    def calibration_error(self) -> float:
        gaps = np.abs(self.mean_predicted - self.mean_observed)
        return float(gaps @ self.share)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        y: ArrayLike,
        *,
        n_bins: int = 15,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> ErrorCalibrationDisplay:
        """Route samples and plot the errors predicted for the paths they take.

        Parameters
        ----------
        estimator : estimator
            Fitted router that predicts errors, Pipeline that ends in one, or RoutedClassifier.
        X : input
            As the estimator takes it.
        y : array-like of shape (n_samples,)
            True labels.
        n_bins : int, default=15
            Bins.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        name : str, default=None
            Name for the legend. Default: the class of the router.
        ax, **kwargs
            As of :meth:`plot`.

        Returns
        -------
        ErrorCalibrationDisplay
        """
        router, inputs = unpack(estimator, X)
        routes = route(router, inputs)
        return cls.from_predictions(
            routes.labels != np.asarray(y),
            routes.predicted_error,
            n_bins=n_bins,
            sample_weight=sample_weight,
            name=type(router).__name__ if name is None else name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        mistakes: ArrayLike,
        predicted_errors: ArrayLike,
        *,
        n_bins: int = 15,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> ErrorCalibrationDisplay:
        """Plot predicted errors against mistakes.

        Parameters
        ----------
        mistakes : array-like of shape (n_samples,)
            True or 1 where the answer was wrong.
        predicted_errors : array-like of shape (n_samples,)
            Predicted probability of that.
        n_bins : int, default=15
            Bins.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        name : str, default=None
            Name for the legend.
        ax, **kwargs
            As of :meth:`plot`.

        Returns
        -------
        ErrorCalibrationDisplay
        """
        mean_predicted, mean_observed, share = calibration_bins(
            predicted_errors, mistakes, n_bins=n_bins, sample_weight=sample_weight
        )
        display = cls(
            mean_predicted=mean_predicted, mean_observed=mean_observed, share=share, name=name
        )
        return display.plot(ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        legend: str = "auto",
        **kwargs: Any,
    ) -> ErrorCalibrationDisplay:
        """Plot.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        name : str, default=None
            Name for the legend. Default: that of the display.
        legend : {"auto", "beside", "inside", "none"}, default="auto"
            Where it stands. "auto": beside the axes where the figure's layout makes room for it,
            inside otherwise.
        **kwargs
            Of ``Axes.plot``.

        Returns
        -------
        self
        """
        ax = new_axes(ax, (6.4, 4.2))
        name = self.name if name is None else name
        ece = f"ECE {self.calibration_error:.3f}"
        diagonal = "calibrated"
        earlier = ax.get_legend_handles_labels()[1]
        if diagonal not in earlier:
            ax.axline((0, 0), slope=1, color=QUIET, linestyle="--", linewidth=1, label=diagonal)
        n = len([label for label in earlier if label != diagonal])
        style = {
            **line_style(n),
            "linewidth": 1.6,
            "markersize": 5,
            "label": ece if name is None else f"{name}\n({ece})",
            **kwargs,
        }
        (self.line_,) = ax.plot(self.mean_predicted, self.mean_observed, **style)
        # Errors are often all small: show the square that holds them.
        drawn = [line.get_xydata() for line in ax.lines if line.get_label() != diagonal]
        top = min(1.02, max(0.05, 1.08 * max(float(np.max(points)) for points in drawn)))
        ax.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        ax.set_xlabel("Predicted error (mean of bin)")
        ax.set_ylabel("Share of wrong answers")
        tidy(ax)
        self.legend_ = legend_of(ax, legend)
        self.ax_, self.figure_ = ax, ax.figure
        return self
