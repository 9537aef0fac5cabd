"""The error model of the gates: one module a gate, judging every path that is still open."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from tqdm import tqdm

from skquee.method.gates._learning import GateData
from skquee.method.gates._mlp import train_gate
from skquee.method.gates._network import (
    FittedGates,
    GateLayout,
    GateNetwork,
    gate_layouts,
    predict_flat,
)
from skquee.method.gates._one import OneNetwork
from skquee.method.gates._pairs import flat_inputs, gate_data
from skquee.method.gates._rich import FEATURES, GateInputs, check_goals
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import TakesTables, as_path_probabilities
from skquee.values._checks import (
    check_integer,
    check_n_jobs,
    check_number,
    check_option,
    check_seed,
)
from skquee.values._labels import check_weights, spawn_seeds
from skquee.values._shipping import TableLoop, threads
from skquee.values._types import Seed

__all__ = ["PathErrorRegressor"]


class PathErrorRegressor(FittedGates, TakesTables):
    """Predict each path's probability of error from what has already been computed.

    One module a gate (equations 13 to 16). After ``t`` blocks it sees the probabilities of
    the last two exits and the code of a candidate path, and predicts that path's error
    target. Trained on every pair of a prefix and a path that starts with it, uniformly.

    Parameters
    ----------
    estimator : scikit-learn regressor, default=None
        Used for every gate on the joined input ``(u, p)``. Default: the paper's network of
        two layers, trained by Adam with early stopping (in numpy).
    features : {"paper", "rich"}, default="paper"
        Equation 13, or :func:`rich_features` of all exits so far.
    embedding_size : int, default=8
        Width of the network's first layer ("Emb. size" of the paper).
    hidden_size : int, default=16
        Width of its second layer ("Hid." of the paper).
    learning_rate : float, default=0.01
        Adam's first step. The paper's is 1e-3.
    weight_decay : float, default=1e-4
        Adam's weight decay.
    schedule : {"plateau", "constant"}, default="plateau"
        Halve the step where the held-out loss stalls, or keep it. The paper's schedule is
        ``schedule="constant", learning_rate=1e-3, max_epochs=10``.
    batch_size : int, default=512
        Pairs of sample and prefix in one step; fewer where an epoch would have under 20.
    max_epochs : int, default=200
        Epochs at most: passes over the pairs, or, with "plateau", even parts of one of at most 64
        steps. A ConvergenceWarning says where they were too few.
    patience : int, default=12
        Stop after so many epochs without progress on the early-stopping rows.
    tol : float, default=1e-3
        Relative fall of the held-out loss that counts as progress.
    validation_fraction : float, default=0.1
        Share of the samples kept for early stopping and for the reported error.
    max_pairs : int, default=100_000
        Pairs of sample and prefix a gate is trained on; more are sub-sampled uniformly. A
        pair takes ``4 * (2 * n_classes + 4 + n_candidates)`` bytes.
    paths : PathTree, default=None
        The tree, where `probs` is a bare array.
    random_state : int, RandomState or None, default=None
        Seed of weights, batches and samples. One seed a gate: results do not depend on
        `n_jobs`.
    n_jobs : int, default=None
        Gates trained at once (joblib).

    Attributes
    ----------
    paths_ : PathTree
        The tree it was fitted with.
    gates_ : list
        Module of each gate: a network held in numpy arrays, or the fitted estimator.
    base_errors_ : ndarray of shape (n_paths,)
        Mean target of every path: what is known before anything has run.
    rmse_ : float
        Root mean squared error of the predicted targets on the early-stopping rows.
    gate_rmse_ : ndarray of shape (n_gates,)
        The same, a gate.
    reports_ : list of dict
        Losses of every epoch, for the default network.

    Raises
    ------
    ValueError
        If targets do not fit the table, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee import PathErrorRegressor, PathProbabilities, PathTree
    >>> rng = np.random.default_rng(0)
    >>> probs = PathProbabilities(rng.dirichlet(np.ones(3), size=(200, 2)), PathTree.chain([1, 1]))
    >>> targets = 1 - np.asarray(probs).max(axis=2)
    >>> gates = PathErrorRegressor(random_state=0).fit(probs, targets)
    >>> gates.predict(probs, prefix="1").shape
    (200, 2)
    """

    def __init__(
        self,
        estimator: BaseEstimator = None,
        *,
        features: str = "paper",
        embedding_size: int = 8,
        hidden_size: int = 16,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        schedule: str = "plateau",
        batch_size: int = 512,
        max_epochs: int = 200,
        patience: int = 12,
        tol: float = 1e-3,
        validation_fraction: float = 0.1,
        max_pairs: int = 100_000,
        paths: PathTree | None = None,
        random_state: Seed = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.features = features
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.tol = tol
        self.validation_fraction = validation_fraction
        self.max_pairs = max_pairs
        self.paths = paths
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, probs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> PathErrorRegressor:
        """Train every gate.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Probabilities of every path.
        targets : array-like of shape (n_samples, n_paths)
            Error targets, in path order, between 0 and 1.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        self
        """
        self._check_parameters()
        table = as_path_probabilities(probs, self.paths)
        goals = check_goals(targets, table).astype(np.float32)
        checked = check_weights(sample_weight, len(table))
        weights = None if checked is None else checked.astype(np.float32)
        # In float64: float32 sums over many rows drift.
        self.base_errors_ = np.average(goals.astype(np.float64), axis=0, weights=weights)
        self._inputs = GateInputs(self.features, table.with_context(None), goals)
        layouts = gate_layouts(table.paths)
        laid = [goals[:, np.maximum(layout.candidates, 0)] for layout in layouts]
        return self.fit_layouts(table, layouts, laid, weights)

    def fit_layouts(
        self,
        table: PathProbabilities,
        layouts: list[GateLayout],
        goals: list[NDArray[np.float32]],
        weights: NDArray[np.float32] | None,
        *,
        sigmoid: bool = True,
    ) -> PathErrorRegressor:
        """Train one module a layout, on targets laid out alike.

        For estimators that judge something else than every open path, such as
        :class:`skquee.baselines.NextStepRouter`.

        Parameters
        ----------
        table : PathProbabilities
            Probabilities of every path.
        layouts : list of GateLayout
            From :func:`skquee.gates.gate_layouts`.
        goals : list of ndarray of shape (n_samples, n_prefixes, n_candidates)
            Targets of every gate; entries without a candidate are ignored.
        weights : ndarray of shape (n_samples,) or None
            Sample weights.
        sigmoid : bool, default=True
            Squash the network's output.

        Returns
        -------
        self
        """
        rich = getattr(self, "_inputs", None) if self.features == "rich" else None
        if rich is None and self.features == "rich":
            raise ValueError(
                "features='rich' counts the errors of every path, which this estimator does not "
                "predict: use features='paper'."
            )
        rng_seed, *seeds = spawn_seeds(self.random_state, 1 + len(layouts))
        rng = np.random.default_rng(rng_seed)
        n = len(table)
        n_held = max(1, round(self.validation_fraction * n)) if n > 1 else 0
        shuffled = rng.permutation(n)
        held, train = np.sort(shuffled[:n_held]), np.sort(shuffled[n_held:])
        if n_held == 0:
            held = train
        # Also around all gates: a gate that ends would lift the limit of threads beside it.
        with threads().limit(limits=1):
            loop = TableLoop(table, self.n_jobs)
            fitted = loop.run(
                loop.task(
                    _fit_gate,
                    self,
                    table,
                    layout,
                    goal,
                    weights,
                    train,
                    held,
                    int(seed),
                    sigmoid,
                    rich,
                )
                for layout, goal, seed in tqdm(
                    list(zip(layouts, goals, seeds, strict=True)),
                    desc="training gates",
                    disable=None,
                    leave=False,
                )
            )
        self.paths_ = table.paths
        self.n_features_in_ = table.shape[1]
        self.gates_ = [module for module, _, _, _ in fitted]
        self.reports_ = [report for _, report, _, _ in fitted]
        squares = np.array([square for _, _, square, _ in fitted])
        counts = np.array([count for _, _, _, count in fitted])
        self.gate_rmse_ = np.sqrt(squares / np.maximum(counts, 1))
        self.rmse_ = float(np.sqrt(squares.sum() / max(counts.sum(), 1)))
        self._layouts = layouts
        return self

    def predict(self, probs: ArrayLike, prefix: int | str | None = None) -> NDArray[np.float32]:
        """Predict the error of every path that starts with `prefix`.

        Parameters
        ----------
        probs : PathProbabilities or array-like of shape (n_samples, n_paths, n_classes)
            Table; only the columns of the prefix and of the path before it are read.
        prefix : int or str, default=None
            Path already run, by index or name. None: nothing has run, so every sample gets
            ``base_errors_``.

        Returns
        -------
        ndarray of shape (n_samples, n_paths), float32
            NaN for paths that do not start with `prefix`.
        """
        check_is_fitted(self)
        tree = self.paths_
        table = as_path_probabilities(probs, tree)
        out = np.full((len(table), tree.n_paths), np.nan, dtype=np.float32)
        if prefix is None:
            out[:] = self.base_errors_
            return out
        index = tree.index(prefix)
        if tree.is_leaf(index):
            raise ValueError(f"No path extends {tree.names[index]!r}, so no gate follows it.")
        for rows, chunk in table.chunks():
            at = np.full(len(chunk), index)
            history = [chunk.path(path) for path in tree.prefixes(index)]
            for _, candidates, errors in self.judge(at, history, None):
                out[rows, candidates] = errors
        return out

    def one(self) -> OneNetwork | None:
        """Return what judges one row on plain numbers, None where arrays are needed."""
        networks = all(isinstance(module, GateNetwork) for module in self.gates_)
        if self.features != "paper" or not networks:
            return None
        codes = self.paths_.encoding.astype(np.float32)
        return OneNetwork(
            {
                int(prefix): (module, codes[line[line >= 0]])
                for layout, module in zip(self._layouts, self.gates_, strict=True)
                for prefix, line in zip(layout.prefixes, layout.candidates, strict=True)
            }
        )

    def _check_parameters(self) -> None:
        for name in ("embedding_size", "hidden_size", "batch_size", "max_epochs", "patience"):
            check_integer(getattr(self, name), name, at_least=1)
        check_integer(self.max_pairs, "max_pairs", at_least=2)
        check_number(self.learning_rate, "learning_rate", above=0)
        for name in ("weight_decay", "tol"):
            check_number(getattr(self, name), name, at_least=0)
        check_number(self.validation_fraction, "validation_fraction", above=0, below=1)
        check_option(self.schedule, "schedule", ("plateau", "constant"))
        check_option(self.features, "features", FEATURES)
        check_seed(self.random_state)
        check_n_jobs(self.n_jobs)


def _fit_gate(
    regressor: PathErrorRegressor,
    table: PathProbabilities,
    layout: GateLayout,
    goals: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
    train: NDArray[np.intp],
    held: NDArray[np.intp],
    seed: int,
    sigmoid: bool,
    rich: GateInputs | None,
) -> tuple[GateNetwork | BaseEstimator, dict[str, object], float, int]:
    """Train one gate; return it with its report, squared error and count on held rows."""
    rng = np.random.default_rng(seed)
    with threads().limit(limits=1):  # the same bits whatever n_jobs
        data = gate_data(table, layout, goals, weights, train, regressor.max_pairs, rng, rich)
        limit = max(2, regressor.max_pairs // 5)
        validation = gate_data(table, layout, goals, weights, held, limit, rng, rich)
        report: dict[str, object] = {}
        if regressor.estimator is None:
            module, report = _train_network(regressor, data, validation, layout, seed, sigmoid)
        else:
            module = clone(regressor.estimator)
            if "random_state" in module.get_params() and module.random_state is None:
                module.set_params(random_state=seed)
            inputs, known = flat_inputs(data)
            extra = {}
            if data.weights is not None:
                if not has_fit_parameter(module, "sample_weight"):
                    raise ValueError(
                        "sample_weight was given, but the fit of "
                        f"{type(module).__name__} does not take it."
                    )
                extra["sample_weight"] = np.repeat(data.weights, known.shape[1])[known.ravel()]
            module.fit(inputs, data.targets[known], **extra)
        predicted = np.full(validation.targets.shape, np.nan, dtype=np.float32)
        for line, codes in enumerate(validation.codes):
            rows = validation.lines == line
            features = validation.features[rows]
            predicted[rows] = (
                module.predict(module.sample_part(features), codes)
                if isinstance(module, GateNetwork)
                else predict_flat(module, features, codes)
            )
        square = (predicted - validation.targets) ** 2
    return module, report, float(np.nansum(square)), int(np.isfinite(square).sum())


def _train_network(
    regressor: PathErrorRegressor,
    data: GateData,
    validation: GateData,
    layout: GateLayout,
    seed: int,
    sigmoid: bool,
) -> tuple[GateNetwork, dict[str, object]]:
    return train_gate(
        data,
        validation,
        embedding_size=regressor.embedding_size,
        hidden_size=regressor.hidden_size,
        learning_rate=regressor.learning_rate,
        weight_decay=regressor.weight_decay,
        schedule=regressor.schedule,
        batch_size=regressor.batch_size,
        max_epochs=regressor.max_epochs,
        patience=regressor.patience,
        tol=regressor.tol,
        sigmoid=sigmoid,
        seed=seed,
        name=f"The gate after block {layout.depth}",
    )
