"""``report`` of a classifier of bank and router."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from skquee.routers._judged import JudgedMixin
from skquee.values._checks import check_output
from skquee.values._labels import correctness, stored
from skquee.values._rows import row_names
from skquee.walk._report import check_reported, knobs_with_own, place_of, write_page

__all__ = ["RoutedReportMixin"]


class RoutedReportMixin(JudgedMixin):
    """Gives :class:`skquee.RoutedClassifier` its ``report``."""

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

        Sliders for the trade-off and for the budget, the curve beside every model alone, the
        share of the rows on every path and by class, and rows to look into: number, label,
        path, cost, predicted error.

        Parameters
        ----------
        file : path
            Where to, ``"report.html"``.
        X : array-like, data frame or sequence, default=None
            Rows to measure on; every model runs on all of them. Default: those of fit that judged
            the router, with the verdict of :meth:`summary`.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs. Default: those of ``cv_curve_``, the one in use among them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows X.
        title : str, default=None
            Heading.
        max_rows : int, default=10000
            Rows to inspect at most; of more as many are drawn at random. Up to 10,000 the file
            stays under 1 MB: what was rounded or left out for that stands at its end.

        Returns
        -------
        Path
            The file. It holds labels, row labels of a data frame, paths and outcomes, never X.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_iris
        >>> from skquee import RoutedClassifier
        >>> model = RoutedClassifier().fit(*load_iris(return_X_y=True))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = model.report(os.path.join(folder, "report.html"))
        ...     page.name, page.stat().st_size < 100_000
        ('report.html', True)
        """
        self.check_as_fitted()
        check_output(file)
        check_reported(X, y)
        models, right, table = self._models(), self._alone, None
        labels, verdict = y, None
        if X is not None:
            table = stored(self.table_reader()(X))
            codes = self.router_.class_codes(table, y)
            right = correctness(table, codes)[:, models.paths]
        if lambdas is not None or X is not None or sample_weight is not None:
            knobs = (
                knobs_with_own(self.router_, self._judging_curve()) if lambdas is None else lambdas
            )
            curve = self.router_.cost_curve(knobs, table, y, sample_weight=sample_weight)
        else:
            curve = self.cv_curve_
        if X is None:
            judged = getattr(self, "_judged_codes", None)  # not in files of earlier versions
            labels = None if judged is None else self.classes_[judged]
            _, told, _ = self._summed()
            verdict = f"Verdict: {told.text}: {told.reason}." if told.text else None
        # A curve that was kept came with no table to ask the gates about.
        asked = self.router_.predicted_along
        known = X is not None or self._curve is None
        heights = np.average(right, axis=0, weights=curve.sample_weight).tolist()
        return write_page(
            file,
            curve,
            labels=labels,
            predicted_errors=partial(asked, curve, table) if known else None,
            row_names=row_names(X),
            models=list(zip(models.names, models.costs.tolist(), heights, strict=True)),
            chosen=place_of(self.router_, curve),
            title=title,
            verdict=verdict,
            max_rows=max_rows,
        )
