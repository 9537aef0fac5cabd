"""Input of a bank, checked as far as the bank can tell what its classifiers take."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from skquee.bank._composition import NamedClassifiers
from skquee.values import PathProbabilities
from skquee.values._checks import check_labels_given
from skquee.values._optional import require
from skquee.values._rows import fingerprint, n_rows_of
from skquee.values._types import Rows

__all__ = ["CheckedInput"]


class CheckedInput(NamedClassifiers):
    """Gives a bank the checks of its rows."""

    @property
    @abstractmethod
    def is_frozen(self) -> bool:
        """Whether nothing is left to fit."""

    @abstractmethod
    def transform(self, X: Rows) -> PathProbabilities:
        """Return the table of X."""

    def check_input(self, X: Rows, y: ArrayLike | None) -> Rows:
        """Check X and y as ``fit`` does, and return X as the classifiers get it.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the classifiers.
        y : array-like of shape (n_samples,) or None
            Labels.

        Returns
        -------
        X : same, numeric input as an array
        """
        X = self._check_input(X, reset=True)
        n_samples = n_rows_of(X)
        if y is None:
            if not self.is_frozen:
                raise ValueError(
                    "This MultiPathClassifierBank estimator requires y to be passed, but the "
                    "target y is None (only frozen classifiers and callables can do without)."
                )
            return X
        check_consistent_length(range(n_samples), y)
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        labels = check_labels_given(labels, "y")
        check_classification_targets(labels)
        if not self.is_frozen and len(np.unique(labels)) < 2:
            raise ValueError(f"y holds 1 class only ({labels.tolist()[0]!r}); give at least 2.")
        return X

    def map_batches(self, batch: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
        """Run every path on a batch of columns, as Ray Data gives it: ``data.map_batches(this)``.

        Parameters
        ----------
        batch : mapping of str to ndarray
            The columns that the bank was fitted on, where it knows their names; else one column
            of rows, or one that is named ``"data"``.

        Returns
        -------
        dict of str to ndarray
            The batch, and ``"probabilities"`` of shape (n_samples, n_columns, n_classes).

        Raises
        ------
        ValueError
            If columns are missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from skquee import MultiPathClassifierBank
        >>> X, y = np.arange(10.0)[:, None], [0] * 5 + [1] * 5
        >>> bank = MultiPathClassifierBank([("nb", GaussianNB())], step_costs=[1]).fit(X, y)
        >>> bank.map_batches({"data": X})["probabilities"].shape
        (10, 1, 2)
        """
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            missing = [str(name) for name in names if name not in batch]
            if missing:
                raise ValueError(
                    f"The batch lacks the columns {missing[:5]}; it has {list(batch)}."
                )
            pd = require("pandas", "A bank that was fitted on a data frame")
            X = pd.DataFrame({name: batch[name] for name in names})
        elif len(batch) == 1 or "data" in batch:
            X = batch["data"] if "data" in batch else next(iter(batch.values()))
        else:
            raise ValueError(
                f"The batch has the columns {list(batch)}, and this bank knows no names of "
                "columns: put the rows into one, 'data'."
            )
        return {**batch, "probabilities": np.asarray(self.transform(X))}

    def _check_input(self, X: Rows, *, reset: bool) -> Rows:
        """Check numeric arrays and lists; leave frames, texts and the like to the classifiers."""
        if isinstance(X, (str, bytes)):
            raise ValueError(f"X is one text, {X[:40]!r}: give a list of texts, [text].")
        names = getattr(self, "feature_names_in_", None)
        if names is not None and hasattr(X, "iloc") and getattr(X, "ndim", 2) == 1:
            if list(getattr(X, "index", ())) == names.tolist():
                raise ValueError(
                    "X is one row of a data frame as a Series: give a frame of one row, "
                    "df.iloc[[0]] in place of df.iloc[0]."
                )
        # What only turns into an array is counted when it has; a scalar is told by its shape.
        later = hasattr(X, "__array__") and not hasattr(X, "shape")
        if not later and getattr(X, "shape", None) != () and not n_rows_of(X):
            raise ValueError(
                f"Found 0 sample(s) in X ({type(X).__name__}) while a minimum of 1 is required."
            )
        if isinstance(X, dict) and not issparse(X):
            return X
        numeric = issparse(X) or (isinstance(X, np.ndarray) and X.dtype.kind in "fiubc")
        plain = isinstance(X, (list, tuple)) and len(X) and isinstance(X[0], (list, tuple, float))
        unknown = isinstance(X, np.ndarray) and X.ndim != 1 and X.dtype.kind == "O"
        unknown = unknown or later
        if not (numeric or plain or unknown):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        tags = get_tags(self).input_tags
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr" if tags.sparse else False,
            dtype="numeric",
            ensure_all_finite="allow-nan" if tags.allow_nan else True,
            allow_nd=True,
        )

    def _fits_as_it_is(self, X: Rows) -> bool:
        """Whether X is plainly what fit was given, told without a full check."""
        if type(X) is np.ndarray:
            if X.ndim != 2 or X.shape[1] != getattr(self, "n_features_in_", -1) or not len(X):
                return False
            # A sum is finite where all numbers are, and otherwise rarely; numpy warns of neither.
            return X.dtype.kind in "iub" or (X.dtype.kind == "f" and bool(np.isfinite(X.sum())))
        names = getattr(self, "feature_names_in_", None)
        columns = getattr(X, "columns", None)
        if names is None or columns is None or not hasattr(X, "iloc") or not n_rows_of(X):
            return False
        return len(columns) == len(names) and columns.tolist() == names.tolist()

    def _remember(self, X: Rows) -> None:
        """Keep what tells the rows that classifiers were fitted on."""
        self._trained_on = None if self.is_frozen else fingerprint(X, n_rows_of(X))

    def _learned_from(self, X: Rows) -> bool:
        """Whether these are the rows that classifiers were fitted on, told by a few of them."""
        seen = getattr(self, "_trained_on", None)
        n_rows = 0 if seen is None else n_rows_of(X)
        return seen is not None and seen.startswith(f"{n_rows} ") and seen == fingerprint(X, n_rows)
