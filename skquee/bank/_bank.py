"""The bank: any fixed classifiers behind one lazy table of probabilities."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import assert_all_finite, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from skquee.bank._estimators import EstimatorEngine
from skquee.bank._network import NetworkEngine, PathNetwork
from skquee.bank._walk import LazyPathProbabilities
from skquee.paths import PathTree, check_costs
from skquee.probabilities import PathProbabilities

__all__ = ["MultiPathClassifierBank"]


class MultiPathClassifierBank(  # type: ignore[call-arg]
    TransformerMixin,
    BaseEstimator,
    auto_wrap_output_keys=None,  # a 3-D table cannot become a data frame
):
    """Put fixed classifiers behind one table of probabilities, run only where needed.

    ``transform`` runs nothing: it returns a lazy table. A router that predicts from it runs
    the classifiers (or blocks of a network) that each sample's path needs, in batches.

    Parameters
    ----------
    classifiers : list of (name, estimator or callable) or network, default=None
        Cheapest first. Estimators need ``predict_proba``; Pipelines bring their own columns
        and preprocessing. Wrap fitted ones in ``FrozenEstimator``: others are cloned and
        fitted in ``fit``. A callable maps rows of X to probabilities in the order of
        `classes`. A network offers the block protocol of
        :class:`skquee.networks.MultiExitNetwork`. Default: a decision stump, a tree and
        logistic regression, fitted in ``fit``.
    costs : array-like or {"bitops", "flops", "latency"}, default=None
        Step costs: what running each classifier adds. For a network, the cost of each whole
        path, or which of its own to take (``network.path_costs``; latency once
        ``network.measure_costs`` has measured it). Default: equal steps, or the network's own.
    classes : sequence, default=None
        Labels of the class axis. Default: those of the estimators and of y.
    paths : {"chain", "cascade"} or PathTree, default="chain"
        How the classifiers of a list may follow each other: each after the one before, any
        increasing sequence, or a tree whose columns are the classifiers. For a network, a
        tree keeps some of its paths.
    batch_size : int, default=256
        Rows run at once: bounds the memory of activations.
    merge_groups : bool, default=False
        Let few rows that would run a block at one level join those at a dearer one, where the
        network's measured times say that this is faster. What a row runs then depends on the
        rows beside it. Only for a network after ``measure_costs``.

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
    n_features_in_, feature_names_in_
        Of X, where it has them.

    Raises
    ------
    ValueError
        If the list is empty, names repeat, costs do not fit, or a classifier's classes are
        not among `classes`.
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
    ...     [("stump", FrozenEstimator(stump)), ("model", FrozenEstimator(model))], costs=[1, 9]
    ... )
    >>> bank.fit(X, y).transform(X)
    LazyPathProbabilities(150 samples, 2 paths, 3 classes, float64)
    >>> bank.costs_
    array([ 1., 10.])
    """

    def __init__(
        self,
        classifiers: Any = None,
        costs: ArrayLike | str | None = None,
        classes: Sequence[Any] | None = None,
        paths: str | PathTree = "chain",
        batch_size: int = 256,
        merge_groups: bool = False,
    ) -> None:
        self.classifiers = classifiers
        self.costs = costs
        self.classes = classes
        self.paths = paths
        self.batch_size = batch_size
        self.merge_groups = merge_groups

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = not self.is_frozen
        if not self._is_network():
            models = [model for _, model in self._named()]
            known = [get_tags(m).input_tags for m in models if hasattr(m, "predict_proba")]
            tags.input_tags.allow_nan = bool(known) and all(tag.allow_nan for tag in known)
            tags.input_tags.sparse = bool(known) and all(tag.sparse for tag in known)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_") or self._settle_without_data()

    # ------------------------------------------------------------------ fit

    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
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
        if self._is_network():
            if hasattr(X, "shape"):  # a data set of images, or a folder, has none
                validate_data(self, X, skip_check_array=True)
            self._settle(self._network_classes(), [])
            return self
        X = self.check_input(X, y)
        if y is not None:
            y = column_or_1d(y)
        fitted = []
        for name, model in self._named():
            if hasattr(model, "predict_proba") and not _frozen(model):
                extra = {}
                if sample_weight is not None and has_fit_parameter(model, "sample_weight"):
                    extra["sample_weight"] = sample_weight
                try:
                    model = clone(model).fit(X, y, **extra)
                except Exception as error:
                    error.add_note(f"(while fitting classifier {name!r} of the bank)")
                    raise
            fitted.append((name, model))
        self._settle(self._find_classes(fitted, y), fitted)
        return self

    def check_input(self, X: Any, y: ArrayLike | None) -> Any:
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
        self._check_names()
        X = self._check_input(X, reset=True)
        if y is None:
            if not self.is_frozen:
                raise ValueError(
                    "This MultiPathClassifierBank estimator requires y to be passed, but the "
                    "target y is None (only frozen classifiers and callables can do without)."
                )
            return X
        check_consistent_length(X, y)
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        if not self.is_frozen and len(np.unique(labels)) < 2:
            raise ValueError(f"y holds 1 class only ({labels.tolist()[0]!r}); give at least 2.")
        return X

    def _settle_without_data(self) -> bool:
        """Settle a bank whose parts are all ready: such a bank needs no fit."""
        if not self._is_network() and (self.classifiers is None or not self.is_frozen):
            return False
        if self._is_network():
            self._settle(self._network_classes(), [])
            return True
        self._check_names()
        fitted = self._named()
        if self.classes is None and not any(hasattr(m, "predict_proba") for _, m in fitted):
            return False
        self._settle(self._find_classes(fitted, None), fitted)
        return True

    def _settle(self, classes: Any, fitted: list[tuple[str, Any]]) -> None:
        """Keep what fit found out; a tree that does not fit is refused here."""
        self._tree(np.asarray(classes), fitted)
        self.classifiers_ = fitted
        self.classes_ = np.asarray(classes)

    def _tree(self, classes: NDArray[Any], fitted: list[tuple[str, Any]]) -> PathTree:
        if self._is_network():
            own = self._network().paths_
            tree = self.paths if isinstance(self.paths, PathTree) else own
            if not set(tree.names) <= set(own.names):
                extra = sorted(set(tree.names) - set(own.names))
                raise ValueError(f"The PathTree has the paths {extra[:5]}, the network has not.")
            if isinstance(self.costs, str):
                network: Any = self._network()
                whole = network.costed_paths(self.costs)
                costs = dict(zip(own.names, whole.costs, strict=True))
                tree = tree.with_costs([costs[p] for p in tree.names], cost_unit=whole.cost_unit)
            elif self.costs is not None:
                tree = tree.with_costs(self.costs)
        elif isinstance(self.paths, PathTree):
            tree = self.paths
            if self.costs is not None:
                raise ValueError("Give costs or a PathTree, which carries costs, not both.")
            if tree.n_columns != len(fitted):
                raise ValueError(
                    f"The PathTree reads {tree.n_columns} classifiers, but {len(fitted)} are given."
                )
        else:
            if isinstance(self.costs, str):
                raise ValueError(
                    f"costs={self.costs!r} is for a network; give a list of classifiers a number "
                    "for each."
                )
            steps = np.ones(len(fitted)) if self.costs is None else self.costs
            check_costs(steps, len(fitted))
            build = PathTree.chain if self.paths == "chain" else PathTree.cascade
            tree = build(steps, names=[name for name, _ in fitted])
        return tree.with_classes(classes.tolist())

    @property
    def paths_(self) -> PathTree:
        """The tree, with the costs that hold now and the classes."""
        check_is_fitted(self)
        return self._tree(self.classes_, self.classifiers_)

    def _find_classes(self, fitted: list[tuple[str, Any]], y: Any) -> NDArray[Any]:
        known = [np.asarray(m.classes_) for _, m in fitted if hasattr(m, "predict_proba")]
        if self.classes is not None:
            classes = np.asarray(self.classes)
            for name, model in fitted:
                extra = np.setdiff1d(getattr(model, "classes_", []), classes)
                if extra.size:
                    raise ValueError(
                        f"Classifier {name!r} knows the classes {extra[:5].tolist()}, which "
                        "classes= does not list."
                    )
            return classes
        if not known and y is None:
            raise ValueError("The bank holds callables only: pass classes=, or y to fit.")
        return np.unique(np.concatenate([*known, *([] if y is None else [np.unique(y)])]))

    # ------------------------------------------------------------------ run

    def transform(self, X: Any) -> LazyPathProbabilities:
        """Return the lazy table of X. Nothing is run.

        Parameters
        ----------
        X : array-like, data frame or sequence of length n_samples
            Input of the classifiers.

        Returns
        -------
        LazyPathProbabilities of shape (n_samples, n_columns, n_classes)
        """
        check_is_fitted(self)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        engine: NetworkEngine | EstimatorEngine
        tree = self.paths_
        if self._is_network():
            if hasattr(X, "shape") and hasattr(self, "n_features_in_"):
                validate_data(self, X, reset=False, skip_check_array=True)
            network = self._network()
            X = network.rows(X) if hasattr(network, "rows") else X
            engine = NetworkEngine(network, tree, self._times() if self.merge_groups else None)
        else:
            X = self._check_input(X, reset=not hasattr(self, "n_features_in_"))
            names = [name for name, _ in self.classifiers_]
            models = [model for _, model in self.classifiers_]
            engine = EstimatorEngine(names, models, self.classes_, tree)
        return LazyPathProbabilities(engine, X, tree, self.batch_size)

    def _times(self) -> Any:
        """Return the network's measured times."""
        times = getattr(self._network(), "latency_", None)
        if times is None:
            raise ValueError(
                "merge_groups=True needs measured times: call network.measure_costs() first."
            )
        return times

    def materialize(
        self,
        X: Any,
        *,
        batch_size: int | None = None,
        out: str | os.PathLike[str] | None = None,
        dtype: Any = None,
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
            Write to this ``.npy`` file, memory-mapped. An interrupted run goes on where it
            stopped; the file appears only when it is whole.
        dtype : dtype, default=None
            Type to store, e.g. ``"float16"``. Default: float32 for a network, else float64.

        Returns
        -------
        PathProbabilities
        """
        return self.transform(X).materialize(batch_size=batch_size, out=out, dtype=dtype)

    @property
    def costs_(self) -> NDArray[np.float64]:
        """Path costs."""
        check_is_fitted(self)
        return self.paths_.path_costs

    def set_output(self, *, transform: Any = None) -> MultiPathClassifierBank:
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

    def _is_network(self) -> bool:
        return hasattr(self.classifiers, "run_block") and hasattr(self.classifiers, "head")

    def _network(self) -> PathNetwork:
        network: PathNetwork = self.classifiers
        if not hasattr(network, "paths_"):
            raise NotFittedError(
                f"The network {network!r} has no paths yet: fit it before it goes into a bank."
            )
        return network

    def _network_classes(self) -> NDArray[Any]:
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

    def _named(self) -> list[tuple[str, Any]]:
        if self.classifiers is None:
            return [
                ("stump", DecisionTreeClassifier(max_depth=1, random_state=0)),
                ("tree", DecisionTreeClassifier(max_depth=4, random_state=0)),
                ("logistic", LogisticRegression()),
            ]
        return [tuple(pair) for pair in self.classifiers]

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is left to fit: a network, frozen estimators, callables."""
        return self._is_network() or all(
            _frozen(model) or not hasattr(model, "predict_proba")
            for _, model in (self._named() if self._looks_named() else [])
        )

    def _looks_named(self) -> bool:
        return self.classifiers is None or (
            isinstance(self.classifiers, Sequence)
            and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in self.classifiers)
        )

    def _check_names(self) -> None:
        if not self._looks_named() or (self.classifiers is not None and not len(self.classifiers)):
            raise ValueError(
                "classifiers must be a list of (name, estimator or callable), cheapest first, or "
                f"a network with start, run_block and head; got {type(self.classifiers).__name__}. "
                "An ensemble is one classifier: give it a name."
            )
        names = [name for name, _ in self._named()]
        if len(set(names)) != len(names):
            raise ValueError(f"Names of classifiers must be unique, got {names}.")
        for name, model in self._named():
            estimator = model.estimator if isinstance(model, FrozenEstimator) else model
            if isinstance(model, Callable) and not hasattr(model, "fit"):  # type: ignore[arg-type]
                continue
            if not hasattr(estimator, "predict_proba"):
                advice = (
                    "Wrap it in CalibratedClassifierCV."
                    if hasattr(estimator, "fit") and is_classifier(estimator)
                    else "Give a classifier or a callable."
                )
                raise TypeError(
                    f"Classifier {name!r} ({type(estimator).__name__}) has no predict_proba. "
                    + advice
                )
        if not isinstance(self.paths, PathTree) and self.paths not in ("chain", "cascade"):
            raise ValueError(f"paths must be 'chain', 'cascade' or a PathTree, got {self.paths!r}.")

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        """Check numeric arrays and lists; leave frames, texts and the like to the classifiers."""
        numeric = issparse(X) or (isinstance(X, np.ndarray) and X.dtype.kind in "fiubc")
        plain = isinstance(X, (list, tuple)) and len(X) and isinstance(X[0], (list, tuple, float))
        unknown = isinstance(X, np.ndarray) and X.ndim != 1 and X.dtype.kind == "O"
        unknown = unknown or (hasattr(X, "__array__") and not hasattr(X, "shape"))
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


def _frozen(model: Any) -> bool:
    return isinstance(model, FrozenEstimator) or (
        hasattr(model, "__sklearn_clone__") and model.__sklearn_clone__() is model
    )
