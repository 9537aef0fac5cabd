"""``report``: an estimator's curve as one HTML file to play with."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.evaluation import CostCurve
from skquee.values import PathProbabilities
from skquee.values._atomic import write_text
from skquee.values._checks import check_output
from skquee.values._labels import stored
from skquee.values._rows import row_names
from skquee.walk._curves import CurveMixin
from skquee.walk._protocol import Router
from skquee.walk._walk import walk

__all__ = ["ReportMixin", "check_reported", "knobs_with_own", "place_of", "write_page"]

# Paths that are each drawn as a single model beside the curve.
MOST_MODELS = 60


class ReportMixin(CurveMixin):
    """Gives an estimator that routes ``report``."""

    def report(
        self,
        file: str | os.PathLike[str],
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        lambdas: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        title: str | None = None,
        max_rows: int = 10_000,
    ) -> Path:
        """Write a page to play with the trade-off: one HTML file that loads nothing.

        Sliders for the trade-off and for the budget, the curve, the share of the rows on every
        path and by class, and rows to look into: number, label, path, cost, predicted error.

        Parameters
        ----------
        file : path
            Where to, ``"report.html"``.
        X : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes), default=None
            Rows to measure on; every path of a lazy table is run once. Default: those that
            :meth:`cost_curve` has without X, where it has some.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs. Default: those of :meth:`cost_curve`, and the one in use.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        title : str, default=None
            Heading.
        max_rows : int, default=10000
            Rows to inspect at most; of more as many are drawn at random. Up to 10,000 the file
            stays under 1 MB: what was rounded or left out for that stands at its end.

        Returns
        -------
        Path
            The file. It holds labels, row labels of a data frame, paths and outcomes, never X.
        """
        check_output(file)
        self.check_as_fitted()
        check_reported(X, y)
        table = None if X is None else stored(self.read_table(X, reset=False))
        if lambdas is None:
            lambdas = self._reported_knobs(table)
        curve: CostCurve = self.cost_curve(lambdas, table, y, sample_weight=sample_weight)
        models: list[tuple[str, float, float]] = []
        if table is not None and table.paths.n_paths <= MOST_MODELS:
            tree = curve.tree
            right = self.correct_paths(table, self.class_codes(table, y))
            heights = np.average(right, axis=0, weights=curve.sample_weight)
            models = list(zip(tree.names, tree.path_costs.tolist(), heights.tolist(), strict=True))
        return write_page(
            file,
            curve,
            labels=y,
            predicted_errors=lambda rows: self.predicted_along(curve, table, rows),
            row_names=row_names(X),
            models=models,
            chosen=place_of(self, curve),
            title=title,
            max_rows=max_rows,
        )

    def _reported_knobs(self, table: PathProbabilities | None) -> NDArray[np.float64] | None:
        """Return the values of the default curve and the one in use; None: those of the curve."""
        own = getattr(self, self.knob.name, None)
        if not isinstance(own, (int, float)) or not np.isfinite(own):
            return None
        return np.unique(np.append(self.knob_values(None, self.paths_), float(own)))

    def predicted_along(
        self, curve: CostCurve, table: PathProbabilities | None, rows: NDArray[np.intp]
    ) -> NDArray[np.floating] | None:
        """Return the error predicted for some rows at every point, None where none is.

        Parameters
        ----------
        curve : CostCurve
            Of this estimator.
        table : PathProbabilities or None
            Its rows; None: those that the estimator has kept.
        rows : ndarray of shape (n_rows,)
            Which.

        Returns
        -------
        ndarray of shape (n_points, n_rows) or None
        """
        if table is None or self.knob.name not in self.get_params(deep=False):
            return None
        some = table[rows]
        found: list[NDArray[np.floating]] = []
        for knob in curve.knobs.tolist():
            errors = walk(self.at_knob(knob).make_decider(some.paths), some).predicted_error
            if not found and np.isnan(errors).all():
                return None
            found.append(errors)
        return np.stack(found)


def check_reported(X: ArrayLike | None, y: ArrayLike | None) -> None:
    """Raise where rows come without labels, or labels without rows.

    `X`, `y`: what ``report`` was given. ValueError then; rows of a table that knows losses need no
    labels.
    """
    unlabelled = X is not None and y is None and getattr(X, "losses", None) is None
    if unlabelled or (X is None and y is not None):
        raise ValueError(
            "Give rows with their labels, X and y, or neither: then those of fit are shown; got "
            f"{'X' if unlabelled else 'y'} alone."
        )


def place_of(estimator: Router, curve: CostCurve) -> int | None:
    """Return the place of an estimator's own point on a curve, None where it is not on it."""
    own = estimator.knob_in_use()
    if own is None:
        return None
    place = int(np.argmin(np.abs(curve.knobs - own)))
    return place if np.isclose(curve.knobs[place], own, rtol=1e-9, atol=0) else None


def knobs_with_own(estimator: Router, curve: CostCurve) -> NDArray[np.generic]:
    """Return the knobs of an estimator's curve, its own value among them where it is a number."""
    own = estimator.knob_in_use()
    if own is None or place_of(estimator, curve) is not None:
        return curve.knobs
    return np.unique(np.append(curve.knobs, own))


def write_page(file: str | os.PathLike[str], curve: CostCurve, **shown: object) -> Path:
    """Write the page of a curve.

    `**shown`: of ``skquee.display._interactive.report_page``.
    """
    # Pictures stand on a floor above: named, as the package names what it loads on first use.
    page = import_module("skquee.display._interactive").report_page(curve, **shown)
    write_text(file, page)
    return Path(file)
