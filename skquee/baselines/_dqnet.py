"""The DQNet gate: after the first block, a controller picks the bits of all later ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Tensor
from tqdm import tqdm

from skquee.bank import LazyPathProbabilities
from skquee.bank._composition import clone_sharing
from skquee.bank._network import PathNetwork
from skquee.baselines._dqnet_training import feature_map, train_controller
from skquee.baselines._inputs import network_table
from skquee.evaluation import CostCurve
from skquee.values import PathProbabilities, PathTree
from skquee.values._as_table import as_path_probabilities
from skquee.values._checks import check_integer, check_number, check_seed
from skquee.values._labels import check_labels, correctness, spawn_seeds, stored
from skquee.values._public import publish
from skquee.values._types import Seed
from skquee.walk import Decider, Knob, RoutingMixin, Visit

__all__ = ["DQNetGate"]


class DQNetGate(RoutingMixin, BaseEstimator):
    """Choose the bit width of every later block after the first exit; nothing exits early.

    The bit controller of DQNet as the paper adapts it: blocks are frozen and quantised, the
    first runs at the highest level, and a small network reads its feature map and gives a score
    to each level of each later block. In training a level is drawn by Gumbel noise and the
    gradient passes straight through; the loss is ``CE + alpha * max(0, mean bits -
    target_bits)``. At prediction the best score decides. Both settings are inside the training:
    each pair is trained by itself.

    As the blocks are frozen, the cross-entropy of every choice is computed once, from the
    probabilities of the paths of full depth; the choice is among the paths the tree has.

    With images (``DQNetGate(network).fit(images, y)``) or a bank's lazy table of them the
    controller reads the feature map of the first block. A stored table of probabilities has none:
    there it reads the probabilities of the first head.

    Parameters
    ----------
    network : MultiExitNetwork, default=None
        Fitted and quantised; it is not changed. Default: that of the lazy table given to fit,
        or none, for a stored table.
    target_bits : float, default=6
        Mean bits of later blocks that cost nothing. Read at prediction, among the trained.
    alpha : float, default=0.1
        Price of a bit above that. Read at prediction, among the trained.
    settings : sequence of (target_bits, alpha), default=None
        Further pairs trained in fit, for ``cost_curve`` and ``set_params``.
    hidden_size : int, default=64
        Of the controller: two linear layers, dropout between, no activation.
    dropout : float, default=0.2
        Share dropped in training.
    map_size : int, default=8
        A feature map is averaged to at most so many rows and columns.
    temperature : float, default=1.0
        Of the Gumbel noise.
    max_epochs : int, default=10
        Epochs.
    batch_size : int, default=512
        Rows a step; fewer where an epoch would have under 20.
    learning_rate, weight_decay : float, default=1e-3, 1e-4
        Of Adam.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`.
    random_state : int, RandomState or None, default=None
        Seed.

    Attributes
    ----------
    settings_ : list of (float, float)
        Trained pairs, in the order of the points of ``cost_curve``.
    controllers_ : list of (weight, bias)
        Controller of each setting, as one affine map of the features to scores.

    Raises
    ------
    NotFittedError
        If the network has no fitted heads.
    ValueError
        If there is nothing to choose: one level only, or one path of full depth.

    Examples
    --------
    >>> from skquee.baselines import DQNetGate
    >>> from skquee.testing import make_path_probabilities
    >>> probs, y = make_path_probabilities(300)
    >>> gate = DQNetGate(target_bits=4, alpha=10.0, random_state=0).fit(probs, y)
    >>> float(gate.predict_cost(probs).mean().round(1))  # "8-4-4" for nearly all
    0.7
    """

    knob = Knob("setting", kind=int)
    mixes = False
    _read_in_fit: ClassVar = (
        "settings",
        "hidden_size",
        "dropout",
        "map_size",
        "temperature",
        "max_epochs",
        "learning_rate",
        "weight_decay",
        "classes",
    )

    def __init__(
        self,
        network: object = None,
        target_bits: float = 6,
        alpha: float = 0.1,
        *,
        settings: Sequence[tuple[float, float]] | None = None,
        hidden_size: int = 64,
        dropout: float = 0.2,
        map_size: int = 8,
        temperature: float = 1.0,
        max_epochs: int = 10,
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
        random_state: Seed = None,
    ) -> None:
        self.network = network
        self.target_bits = target_bits
        self.alpha = alpha
        self.settings = settings
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.map_size = map_size
        self.temperature = temperature
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:
        return clone_sharing(self, "network")

    # ------------------------------------------------------------------ fit

    def fit(self, X: ArrayLike, y: ArrayLike, probabilities: ArrayLike | None = None) -> DQNetGate:
        """Train a controller for every setting.

        Parameters
        ----------
        X : images, lazy table or table of probabilities
            Images as the network takes them, ``bank.transform(images)``, or
            PathProbabilities or an array of shape (n_samples, n_paths, n_classes).
        y : array-like of shape (n_samples,)
            Labels.
        probabilities : PathProbabilities, default=None
            The table of these images, where it has been computed already
            (``bank.materialize(images)``). Default: every path is run.

        Returns
        -------
        self
        """
        settings = self._check_settings()
        self._network: PathNetwork | None = None
        table, codes = self.start_fit(X, y)
        if isinstance(table, LazyPathProbabilities) and self._reads_images(table):
            self._network = table.network
        tree = table.paths
        line = tree.prefixes(tree.fullest)
        chosen = _full_paths(tree, int(line[0]))
        marks, bits = _choices(tree, chosen)
        full = stored(self._computed(table, probabilities))
        correctness(full, codes)  # checks every probability
        losses = np.column_stack([_cross_entropy(full.path(int(path)), codes) for path in chosen])
        features = self._features(table, full)
        (seed,) = spawn_seeds(self.random_state, 1).tolist()
        self._chosen, self._marks = chosen, marks
        self.controllers_: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        trained: dict[
            tuple[float, float] | None, tuple[NDArray[np.float32], NDArray[np.float32]]
        ] = {}
        for setting in tqdm(settings, desc="controllers", disable=None, leave=False):
            target_bits, alpha = setting
            # Where bits cost nothing all settings are one.
            key = setting if alpha > 0 and target_bits < bits.max() else None
            if key not in trained:
                trained[key] = train_controller(
                    features,
                    torch.from_numpy(losses),
                    torch.from_numpy(marks),
                    torch.from_numpy(bits),
                    target_bits=target_bits,
                    alpha=alpha,
                    hidden_size=self.hidden_size,
                    dropout=self.dropout,
                    temperature=self.temperature,
                    max_epochs=self.max_epochs,
                    batch_size=self.batch_size,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    seed=seed,
                )
            self.controllers_.append(trained[key])
        self.settings_ = settings
        return self

    def _check_settings(self) -> list[tuple[float, float]]:
        """Return the distinct settings in the order given, checked."""
        given = [*(() if self.settings is None else self.settings)]
        given.append((self.target_bits, self.alpha))
        for pair in given:
            found = np.asarray(pair, dtype=object)
            valid = found.shape == (2,) and all(isinstance(v, Real) for v in found)
            if (
                not valid
                or not np.isfinite(found.astype(float)).all()
                or not (pair[0] > 0 and pair[1] >= 0)
            ):
                raise ValueError(
                    "Each setting must be (target_bits > 0, alpha >= 0), finite numbers, got "
                    f"{pair!r}."
                )
        for name in ("hidden_size", "map_size", "max_epochs", "batch_size"):
            check_integer(getattr(self, name), name, at_least=1)
        for name in ("temperature", "learning_rate"):
            check_number(getattr(self, name), name, above=0)
        check_number(self.weight_decay, "weight_decay", at_least=0)
        check_number(self.dropout, "dropout", at_least=0, below=1)
        check_seed(self.random_state)
        return list(dict.fromkeys((float(target), float(alpha)) for target, alpha in given))

    # ------------------------------------------------------------------ tables

    def read_table(self, X: ArrayLike, *, reset: bool) -> PathProbabilities:
        network = self.network if reset else self._network or self.network
        lazy = network_table(type(self).__name__, network, X)
        return super().read_table(X if lazy is None else lazy, reset=reset)

    def _reads_images(self, table: PathProbabilities) -> bool:
        return network_table(type(self).__name__, None, table) is not None

    def _computed(
        self, table: PathProbabilities, probabilities: ArrayLike | None
    ) -> PathProbabilities:
        """Return the probabilities of the rows of X: those given, or what has to be run."""
        if probabilities is None:
            return table
        found = as_path_probabilities(probabilities, table.paths)
        if found.shape != table.shape:
            raise ValueError(
                f"probabilities has shape {found.shape}, but X has {table.shape}: give the table "
                "of the same images, over the same paths."
            )
        return found

    def _features(self, table: PathProbabilities, full: PathProbabilities | None) -> Tensor:
        """Return what the controller reads of rows: (n, n_features) of float16 with a network."""
        root = int(table.paths.prefixes(table.paths.fullest)[0])
        if self._network is None:
            source = table if full is None else full
            return torch.from_numpy(np.asarray(source.path(root), dtype=np.float32))
        assert isinstance(table, LazyPathProbabilities)
        maps = []
        with tqdm(total=len(table), desc="feature maps", disable=None, leave=False) as bar:
            for batch in table.inputs.batches(table.chunk_size):
                state = self._network.start(batch)
                state = self._network.run_block(state, 0, table.paths.levels[root])
                maps.append(feature_map(state, self.map_size).half().cpu())
                bar.update(len(batch))
        return torch.cat(maps)

    def table_reader(self) -> Callable[[ArrayLike], PathProbabilities]:
        return partial(copy.copy(self).read_table, reset=False)

    # ------------------------------------------------------------------ decide

    def check_knobs(self) -> None:
        if (float(self.target_bits), float(self.alpha)) not in self.settings_:
            raise ValueError(
                f"target_bits={self.target_bits!r} with alpha={self.alpha!r} was not trained; this "
                f"method trains each pair by itself. Trained: {self.settings_}. Add it to settings "
                "and fit again."
            )

    def _controller(self, setting: int) -> _Controller:
        return _Controller(*self.controllers_[setting], self._marks, self._chosen)

    def make_decider(self, tree: PathTree) -> _AimAtOnce:
        setting = self.settings_.index((float(self.target_bits), float(self.alpha)))
        map_size = None if self._network is None else self.map_size
        return _AimAtOnce(tree, self.classes_, self._controller(setting), map_size)

    # ------------------------------------------------------------------ curves

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        probabilities: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return accuracy and cost at every trained setting.

        Parameters
        ----------
        lambdas : array-like of int, shape (n_points,), default=None
            Positions in ``settings_``. Default: all of them.
        X : images, lazy table or table of probabilities
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Labels.
        probabilities : PathProbabilities, default=None
            As in ``fit``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
            Its knob is the position in ``settings_``.
        """
        self.check_as_fitted()
        if X is None or y is None:
            return super().cost_curve(lambdas, X, y)
        table = self.read_table(X, reset=False)
        codes = check_labels(y, self.classes_, len(table))
        knobs = self.knob_values(lambdas, table.paths)
        full = stored(self._computed(table, probabilities))
        right = correctness(full, codes)
        features = self._features(table, full)
        taken = np.stack([self._controller(int(knob)).aims(features) for knob in knobs])
        return CostCurve(
            knobs,
            taken,
            np.take_along_axis(right.T, taken, axis=0),
            table.paths,
            knob=self.knob.name,
            sample_weight=sample_weight,
            label=type(self).__name__,
        )

    def knob_values(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = super().knob_values(values, tree)
        if not np.isin(knobs, np.arange(len(self.settings_))).all():
            raise ValueError(
                f"DQNetGate sweeps positions in settings_, 0 to {len(self.settings_) - 1}, got "
                f"{knobs.tolist()}. Each pair is trained by itself: give settings= before fit."
            )
        return knobs

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.arange(len(self.settings_), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Controller:
    """Scores levels of later blocks from what is read of a sample."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    marks: NDArray[np.float32]
    chosen: NDArray[np.intp]

    def aims(self, features: Tensor) -> NDArray[np.intp]:
        """Return the path of full depth that each sample is to take."""
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        scores = features.float() @ weight.T + bias
        best = (scores.numpy() @ self.marks.T).argmax(axis=1)
        return self.chosen[best]


@dataclass(frozen=True, eq=False)
class _AimAtOnce(Decider):
    """Choose a whole path after the first block, and keep to it."""

    controller: _Controller
    map_size: int | None

    def step(self, visit: Visit) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        tree, unknown = self.tree, np.full(len(visit.rows), np.nan)
        if visit.now is None:
            return np.full(len(visit.rows), tree.prefixes(tree.fullest)[0]), unknown
        if visit.depth == 1:
            if self.map_size is None:
                features = torch.from_numpy(np.asarray(visit.now, dtype=np.float32))
            else:
                assert visit.activations is not None
                features = feature_map(visit.activations(), self.map_size).half().cpu()
            visit.memory["aims"] = self.controller.aims(features)
        return tree.ancestors[visit.memory["aims"], visit.depth], unknown


def _full_paths(tree: PathTree, root: int) -> NDArray[np.intp]:
    """Return the paths of full depth that start with the highest level."""
    paths = tree.descendants(root)
    paths = paths[tree.depths[paths] == tree.n_exits]
    if len(paths) < 2:
        n_levels = len(set(tree.levels))
        raise ValueError(
            f"DQNet has nothing to choose: the tree has {n_levels} level(s) and {len(paths)} "
            f"path(s) of full depth from {tree.names[root]!r}. Quantise at two or more widths, or "
            "use ThresholdRouter for exits alone."
        )
    return paths


def _choices(
    tree: PathTree, paths: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return which level each path takes at each later block, and their mean."""
    steps = [tree.steps(int(path))[1:] for path in paths]
    if not all(isinstance(level, Real) for path in steps for level in path):
        raise ValueError(
            f"DQNet counts bits, but the levels of this tree are {sorted(map(str, tree.levels))}."
        )
    bits = np.array(steps, dtype=np.float64)
    levels = np.unique(bits)
    marks = (bits[:, :, None] == levels).reshape(len(paths), -1)
    return marks.astype(np.float32), bits.mean(axis=1).astype(np.float32)


def _cross_entropy(
    probabilities: NDArray[np.floating], codes: NDArray[np.intp]
) -> NDArray[np.float32]:
    right = np.asarray(probabilities[np.arange(len(codes)), codes], dtype=np.float32)
    # A float16 table holds nothing between 0 and 6e-8.
    return -np.log(np.maximum(right, 1e-8))


publish("skquee.baselines", DQNetGate)
