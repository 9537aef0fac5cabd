"""The bank: any fixed classifiers behind one lazy table of probabilities."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import (
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from skquee.bank._calls import Calls
from skquee.bank._composition import (
    is_estimator,
    is_frozen_model,
)
from skquee.bank._costs import CostedPaths
from skquee.bank._estimators import EstimatorEngine, Member
from skquee.bank._fitting import fit_model, input_tags, known_classes, settle_classes
from skquee.bank._input import CheckedInput
from skquee.bank._network import NetworkEngine
from skquee.bank._of_networks import OfNetworks
from skquee.bank._times import CallTimes
from skquee.bank._walk import LazyPathProbabilities
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import check_integer
from skquee.values._types import Rows

if TYPE_CHECKING:
    from skquee.networks.engines import LatencyTable

__all__ = ["MultiPathClassifierBank"]


NETWORK_ROWS = 256


class MultiPathClassifierBank(  # type: ignore[call-arg]
    CheckedInput,
    CostedPaths,
    OfNetworks,
    TransformerMixin,
    BaseEstimator,
    auto_wrap_output_keys=None,  # a 3-D table cannot become a data frame
):
    """Put fixed classifiers behind one table of probabilities, run only where needed.

    ``transform`` runs nothing: it returns a lazy table. A router that predicts from it runs
    the classifiers (or blocks of a network) that each sample's path needs, on whole groups.

    Parameters
    ----------
    classifiers : list of (name, estimator or callable) or network, default=None
        Cheapest first. Estimators need ``predict_proba``; Pipelines bring their own columns
        and preprocessing. Wrap fitted ones in ``FrozenEstimator``: others are cloned and
        fitted in ``fit``. A callable takes rows of X and returns probabilities in the order of
        `classes`, or labels, or labels and scores, or a list with one of these a row; None is no
        answer, and leaves that of the path before. A network offers the block protocol of
        :class:`skquee.networks.MultiExitNetwork`. Default: a decision stump, a tree and
        logistic regression, fitted in ``fit``, with step costs 1, 2 and 5.
    step_costs : array-like of shape (n_classifiers,) or "latency", default=None
        For a list: what running each classifier adds, in any one unit (milliseconds, dollars,
        joules). "latency": milliseconds a row, measured in ``fit``. It or `path_costs` has to be
        given.
    path_costs : array-like of shape (n_paths,) or {"bitops", "flops", "latency"}, default=None
        Cost of each whole path, in place of sums of steps. For a network also which of its own
        to take (``network.path_costs``; latency once ``network.measure_costs`` has measured it);
        default there: the network's own.
    cost_unit : str, default=None
        What one unit of cost is, such as "ms" or "$": for messages, tables and plots.
    classes : sequence, default=None
        Labels of the class axis. Default: those of the estimators and of y.
    paths : {"chain", "cascade"} or PathTree, default="chain"
        How the classifiers of a list may follow each other: each after the one before, any
        increasing sequence, or a tree whose columns are the classifiers. For a network, a
        tree keeps some of its paths.
    batch_size : int, default=None
        Rows run at once. Default: 256 for a network, whose activations it bounds; for a list as
        many as keep their answers within 64 MiB, so that each classifier gets whole groups.
    merge_groups : bool, default=False
        Let few rows that would run a block at one level join those at a dearer one, where the
        network's measured times say that this is faster. What a row runs then depends on the
        rows beside it. Only for a network after ``measure_costs``.
    latency_rows : int, default=None
        Rows a call that ``step_costs="latency"`` counts with: a forest takes much longer for one
        row than a thousandth of what it takes for a thousand. 1 for a server of single rows.
        Default: 1,000, or as many as there were to time.
    retries : int, default=0
        Further tries of a callable that raised, after waits that double from half a second.
    max_workers : int, default=None
        Send rows to callables one by one, so many at a time. Default: a group in one call.
    cache : path, default=None
        Folder for answers of callables, so that none is paid for twice, not after a crash
        either: one SQLite file for each, by the digest of the row. It holds digests and answers,
        not the rows. A callable that changes its answers needs another name or folder.
    fallback : {"previous"}, default=None
        Where a callable fails for good on a row, the path before answers. Default: an error
        (:class:`skquee.bank.CallError`) that carries the answers of the other rows.

    Attributes
    ----------
    paths_ : PathTree
        The tree, with costs and classes.
    costs_ : ndarray of shape (n_paths,)
        Path costs.
    classes_ : ndarray of shape (n_classes,)
        Labels of the class axis.
    classifiers_ : list of (name, classifier)
        What is run.
    times_ : CallTimes or None
        What calls take, once :meth:`measure` has been called (``step_costs="latency"`` does).
    n_features_in_, feature_names_in_
        Of X, where it has them.

    Raises
    ------
    ValueError
        If the list is empty, names repeat, costs are missing or do not fit, y holds labels that
        no classifier of a frozen bank knows, or a classifier's are not among `classes`.
    TypeError
        If a classifier has no ``predict_proba``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skquee import MultiPathClassifierBank
    >>> X, y = load_iris(return_X_y=True)
    >>> stump = DecisionTreeClassifier(max_depth=1).fit(X, y)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> bank = MultiPathClassifierBank(
    ...     [("stump", FrozenEstimator(stump)), ("model", FrozenEstimator(model))],
    ...     step_costs=[1, 9],
    ... )
    >>> bank.fit(X, y).transform(X)
    LazyPathProbabilities(150 samples, 2 paths, 3 classes, float64)
    >>> bank.costs_
    array([ 1., 10.])
    """

    def __init__(
        self,
        classifiers: Any = None,
        *,
        step_costs: ArrayLike | str | None = None,
        path_costs: ArrayLike | str | None = None,
        cost_unit: str | None = None,
        classes: Sequence[object] | None = None,
        paths: str | PathTree = "chain",
        batch_size: int | None = None,
        merge_groups: bool = False,
        latency_rows: int | None = None,
        retries: int = 0,
        max_workers: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        fallback: str | None = None,
    ) -> None:
        self.classifiers = classifiers
        self.step_costs = step_costs
        self.path_costs = path_costs
        self.cost_unit = cost_unit
        self.classes = classes
        self.paths = paths
        self.batch_size = batch_size
        self.merge_groups = merge_groups
        self.latency_rows = latency_rows
        self.retries = retries
        self.max_workers = max_workers
        self.cache = cache
        self.fallback = fallback

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = not self.is_frozen
        if not self._is_network() and self._looks_named():
            known = getattr(self, "_input_tags", None)
            if known is None:
                known = input_tags([model for _, model in self._named()])
            tags.input_tags.allow_nan, tags.input_tags.sparse = known
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_") or self._settle_without_data()

    # ------------------------------------------------------------------ fit

    def fit(
        self, X: Rows, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> MultiPathClassifierBank:
        """Fit the classifiers that are not frozen and settle classes, paths and costs.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the classifiers.
        y : array-like of shape (n_samples,), default=None
            Labels; needed where a classifier has to be fitted.
        sample_weight : array-like of shape (n_samples,), default=None
            Passed to the classifiers fitted here that take it.

        Returns
        -------
        self
        """
        self._check_options()
        self._warn_where_nothing_is_called()
        self.__dict__.pop("_input_tags", None)
        self.times_: CallTimes | None = None
        if self._is_network():
            if hasattr(X, "shape"):  # a data set of images, or a folder, has none
                validate_data(self, X, skip_check_array=True)
            self._settle([], [], None)
            return self
        X = self.check_input(X, y)
        labels = None if y is None else column_or_1d(y)
        fitted: list[tuple[str, BaseEstimator]] = []
        columns: list[NDArray[np.generic] | None] = []
        for name, model in self._named():
            own = None
            if is_estimator(model):
                if is_frozen_model(model):
                    own = known_classes(name, model)
                else:
                    assert labels is not None  # checked with X
                    model, own = fit_model(name, model, X, labels, sample_weight)
            fitted.append((name, model))
            columns.append(own)
        self._settle(fitted, columns, labels)
        self._remember(X)
        if isinstance(self.step_costs, str):
            self.measure(X)
        return self

    def _settle_without_data(self) -> bool:
        """Settle a bank whose parts are all ready: such a bank needs no fit."""
        if not self._is_network() and (self.classifiers is None or not self.is_frozen):
            return False
        self._check_options()
        self.times_ = None
        if self._is_network():
            self._settle([], [], None)
            return True
        named = self._named()
        if self.classes is None and not any(is_estimator(model) for _, model in named):
            return False
        own = [known_classes(name, m) if is_estimator(m) else None for name, m in named]
        self._settle(named, own, None)
        return True

    def _settle(
        self,
        fitted: list[tuple[str, BaseEstimator]],
        columns: list[NDArray[np.generic] | None],
        y: ArrayLike | None,
    ) -> None:
        """Keep what fit found out."""
        if self._is_network():
            self.classes_ = self._network_classes()
            self.classifiers_ = []
            self._keep_tree()
            return
        classes = settle_classes(fitted, columns, self.classes, y, frozen=self.is_frozen)
        calls = Calls(self.retries, self.max_workers, self.cache, self.fallback)
        self._members = [
            Member(name, model, classes, own, calls)
            for (name, model), own in zip(fitted, columns, strict=True)
        ]
        self._input_tags = input_tags([model for _, model in fitted])
        self.classifiers_ = fitted
        self.classes_ = classes
        if not (isinstance(self.step_costs, str) and self.times_ is None):
            self._keep_tree()

    # ------------------------------------------------------------------ run

    def transform(self, X: Rows) -> LazyPathProbabilities:
        """Return the lazy table of X. Nothing is run.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the classifiers.

        Returns
        -------
        LazyPathProbabilities of shape (n_samples, n_columns, n_classes)
        """
        if not hasattr(self, "classes_"):
            check_is_fitted(self)
        engine: NetworkEngine | EstimatorEngine
        tree = self._tree_now()
        if self._is_network():
            if hasattr(X, "shape") and hasattr(self, "n_features_in_"):
                validate_data(self, X, reset=False, skip_check_array=True)
            network = self._network()
            X = network.rows(X) if hasattr(network, "rows") else X
            engine = NetworkEngine(network, tree, self._times() if self.merge_groups else None)
        else:
            if not self._fits_as_it_is(X):
                X = self._check_input(X, reset=not hasattr(self, "n_features_in_"))
            engine = EstimatorEngine(self._members, tree)
        table = LazyPathProbabilities(engine, X, tree, self._rows_at_once())
        table.trained_on = self._learned_from(X)
        return table

    def _rows_at_once(self) -> int | None:
        if self.batch_size is None:
            return NETWORK_ROWS if self._is_network() else None
        return check_integer(self.batch_size, "batch_size", at_least=1)

    def _times(self) -> LatencyTable:
        """Return the network's measured times."""
        times = getattr(self._network(), "latency_", None)
        if times is None:
            raise ValueError(
                "merge_groups=True needs measured times: call network.measure_costs() first."
            )
        return times

    def materialize(
        self,
        X: Rows,
        *,
        batch_size: int | None = None,
        out: str | os.PathLike[str] | None = None,
        dtype: DTypeLike | None = None,
        shards: int | None = None,
        n_jobs: int | None = None,
    ) -> PathProbabilities:
        """Run every path of X once and return a stored table.

        A network's blocks are run once per prefix and level. Precompute before a search:
        ``GridSearchCV`` over a router then never runs a classifier.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the classifiers.
        batch_size : int, default=None
            Rows run at once. Default: the bank's.
        out : path, default=None
            Write to this ``.npy`` file, or into this folder (``"folder/"``, a name without
            suffix): shards, each written whole or not at all by one task. Either is
            memory-mapped. An interrupted run goes on where it stopped, and one process at a
            time writes. A folder is read again by :meth:`skquee.PathProbabilities.open`.
        dtype : dtype, default=None
            Type to store, e.g. ``"float16"``. Default: float32 for a network, else float64.
        shards : int, default=None
            With a folder: how many. A task holds one in memory. Default: each near 64 MiB.
        n_jobs : int, default=None
            With a folder: tasks at once, by whatever backend of joblib is in use. Values do not
            depend on it.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If the folder holds anything else, another table, or shards of other classifiers.
            Nothing in it is changed.
        BlockingIOError
            If another process writes there.
        """
        return self.transform(X).materialize(
            batch_size=batch_size, out=out, dtype=dtype, shards=shards, n_jobs=n_jobs
        )

    def set_output(self, *, transform: object = None) -> MultiPathClassifierBank:
        """Do nothing: a 3-D table has no data frame form.

        Parameters
        ----------
        transform : ignored
            For scikit-learn's convention.

        Returns
        -------
        self
        """
        return self

    # ------------------------------------------------------------------ checks

    def _network_classes(self) -> NDArray[np.generic]:
        known = self._network().paths_.classes
        if self.classes is not None:
            if known is not None and len(self.classes) != len(known):
                raise ValueError(
                    f"classes has {len(self.classes)} labels, the network {len(known)}."
                )
            return np.asarray(self.classes)
        if known is None:
            raise ValueError("The network's tree has no classes: pass classes=.")
        return np.asarray(known)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is left to fit: a network, frozen estimators, callables."""
        return self._is_network() or all(
            is_frozen_model(model) or not is_estimator(model)
            for _, model in (self._named() if self._looks_named() else [])
        )

    def _check_options(self) -> None:
        if not self._is_network():
            self._check_names()
        if not isinstance(self.paths, PathTree) and self.paths not in ("chain", "cascade"):
            raise ValueError(f"paths must be 'chain', 'cascade' or a PathTree, got {self.paths!r}.")
        self._rows_at_once()
        for name, least in (("latency_rows", 1), ("retries", 0), ("max_workers", 1)):
            if name == "retries" or getattr(self, name) is not None:
                check_integer(getattr(self, name), name, at_least=least)
        if self.merge_groups and not self._is_network():
            raise ValueError(
                "merge_groups=True is for a network: classifiers of a list share no blocks."
            )
        if self.fallback not in (None, "previous"):
            raise ValueError(f"fallback must be 'previous' or None, got {self.fallback!r}.")
        self._check_costs()

    def _warn_where_nothing_is_called(self) -> None:
        """Warn of parameters that are for callables, where none is a classifier."""
        unused = {"retries": 0, "max_workers": None, "cache": None, "fallback": None}
        given = [name for name, default in unused.items() if getattr(self, name) != default]
        if given and (self._is_network() or all(is_estimator(model) for _, model in self._named())):
            warnings.warn(
                f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for classifiers that are "
                "callables, of which this bank has none: without effect.",
                UserWarning,
                stacklevel=3,
            )
