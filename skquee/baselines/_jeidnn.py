"""JEI-DNN: early exit with heads and gates trained jointly, one training a trade-off."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skquee.bank import LazyPathProbabilities
from skquee.bank._composition import clone_sharing
from skquee.baselines._inputs import network_table
from skquee.baselines._jeidnn_training import ExitModel, leaving, train_exits
from skquee.evaluation import CostCurve
from skquee.networks import MultiExitNetwork
from skquee.networks._training import train_heads
from skquee.values import PathProbabilities, PathTree
from skquee.values._checks import (
    check_integer,
    check_number,
    check_numbers,
    check_option,
    check_seed,
)
from skquee.values._labels import check_labels, correctness, hold_out, spawn_seeds, stored
from skquee.values._public import publish
from skquee.values._types import Seed
from skquee.walk import Follow, RoutingMixin, Visit

__all__ = ["JEIDNN"]

RATIOS = ("detached", "reference")


class JEIDNN(RoutingMixin, BaseEstimator):
    """Train exit heads and gates together on a frozen backbone (JEI-DNN).

    Gate ``l`` sees four numbers of its exit's answer (largest probability, entropy, margin,
    entropy of ``p^2 / sum p^2``) and gives ``g_l``; a sample leaves at exit ``l`` with
    probability ``P_l = max(0, min(g_l, 1 - sum_{m<l} g_m))``. By turns, heads learn from
    ``sum_l P_l CE_l``, so that each specialises on what leaves there, and gates learn to leave
    from the exit of least ``CE_l + lambda_ * cost_l`` on. The trade-off is inside the
    training: each ``lambda_`` is trained by itself.

    With images (``JEIDNN(network).fit(images, y)``) or a bank's lazy table of them the backbone
    runs once, at the levels of one path, and heads learn on its features. A stored table of
    probabilities has no features: there the heads stay as they are and only gates are trained.

    Parameters
    ----------
    network : MultiExitNetwork, default=None
        Fitted, quantised or not; it is not changed. Default: that of the lazy table given to
        fit, or none, for a stored table.
    lambda_ : float, default=0.5
        Price of one unit of cost, among the trained ones.
    lambdas : array-like, default=None
        Further trade-offs trained in fit, for ``cost_curve`` and ``set_params(lambda_=...)``.
    along : int or str, default=None
        Path whose levels the blocks run at. Default: the fullest (highest level everywhere).
    warm_start : bool, default=True
        Start each trade-off from the one before, in rising order; else each from the heads
        of the network.
    ratio : {"detached", "reference"}, default="detached"
        The heads' loss is scaled by ``sum CE / sum P CE``. In the public code that ratio has a
        gradient, which undoes the weighting by ``P``; ``"reference"`` does as that code does.
    warm_up_epochs : int, default=1
        Epochs of the heads alone, before everything else.
    max_epochs : int, default=15
        Epochs a trade-off. The best on held-out rows is kept.
    bilevel_batches : int, default=200
        Batches before the turn changes between gates and heads; half an epoch where an
        epoch has fewer.
    batch_size : int, default=512
        Rows a step.
    learning_rate, weight_decay : float, default=1e-3, 1e-4
        Of Adam.
    gate_learning_rate : float, default=0.1
        Of Adam, for the gates: a gate has five numbers, which hardly move in an epoch at
        the step of the heads.
    balance : bool, default=False
        Weigh "leave" in the gates' loss by how rarely an exit is the best one, as the public
        code does. It makes samples leave early at any trade-off.
    validation_fraction : float, default=0.1
        Share of the rows that choose the epoch and weigh the gates' classes.
    paths, path_costs, classes
        As of :class:`skquee.CostAwareRouter`, of the chain of exits where a network runs. Costs
        are read in fit here.
    random_state : int, RandomState or None, default=None
        Seed.

    Attributes
    ----------
    gates_ : dict of float to ndarray of shape (n_exits - 1, 5)
        Weights of the four numbers and bias of each gate, one array a trade-off.
    heads_ : dict of float to ModuleList
        Heads, one list a trade-off; empty for a stored table.
    paths_ : PathTree
        With a network: the chain of its exits at the levels of `along`.

    Raises
    ------
    NotFittedError
        If the network has no fitted heads.
    ValueError
        If no trade-off is usable, or a stored table is given where a network needs images.

    Examples
    --------
    >>> from skquee.baselines import JEIDNN
    >>> from skquee.testing import make_path_probabilities
    >>> probs, y = make_path_probabilities(300)
    >>> jei = JEIDNN(lambda_=0.1, lambdas=[1.0], random_state=0).fit(probs, y)
    >>> dear = jei.predict_cost(probs).mean()
    >>> bool(jei.set_params(lambda_=1.0).predict_cost(probs).mean() < dear)
    True
    """

    mixes = False
    _read_in_fit: ClassVar = (
        "lambdas",
        "along",
        "warm_start",
        "ratio",
        "warm_up_epochs",
        "max_epochs",
        "bilevel_batches",
        "learning_rate",
        "weight_decay",
        "gate_learning_rate",
        "balance",
        "validation_fraction",
        "classes",
    )

    def __init__(
        self,
        network: object = None,
        lambda_: float = 0.5,
        *,
        lambdas: ArrayLike | None = None,
        along: int | str | None = None,
        warm_start: bool = True,
        ratio: str = "detached",
        warm_up_epochs: int = 1,
        max_epochs: int = 15,
        bilevel_batches: int = 200,
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        gate_learning_rate: float = 0.1,
        balance: bool = False,
        validation_fraction: float = 0.1,
        paths: PathTree | None = None,
        path_costs: ArrayLike | None = None,
        classes: Sequence[object] | None = None,
        random_state: Seed = None,
    ) -> None:
        self.network = network
        self.lambda_ = lambda_
        self.lambdas = lambdas
        self.along = along
        self.warm_start = warm_start
        self.ratio = ratio
        self.warm_up_epochs = warm_up_epochs
        self.max_epochs = max_epochs
        self.bilevel_batches = bilevel_batches
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.gate_learning_rate = gate_learning_rate
        self.balance = balance
        self.validation_fraction = validation_fraction
        self.paths = paths
        self.path_costs = path_costs
        self.classes = classes
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:
        return clone_sharing(self, "network")

    # ------------------------------------------------------------------ fit

    def fit(self, X: ArrayLike, y: ArrayLike) -> JEIDNN:
        """Run the backbone once, and train heads and gates for every trade-off.

        Parameters
        ----------
        X : images, lazy table or table of probabilities
            Images as the network takes them, ``bank.transform(images)``, or
            PathProbabilities or an array of shape (n_samples, n_paths, n_classes).
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self
        """
        given = [*np.atleast_1d([] if self.lambdas is None else self.lambdas), self.lambda_]
        knobs = np.unique(check_numbers(given, "lambda_ and lambdas", at_least=0))
        self._check_options()
        self._network: MultiExitNetwork | None = None
        table, codes = self.start_fit(X, y)
        tree, line = table.paths, self._line(table.paths)
        if len(line) < 2:
            raise ValueError(
                f"JEI-DNN needs two exits or more, but the path {tree.names[line[-1]]!r} has one."
            )
        split_seed, order_seed = spawn_seeds(self.random_state, 2).tolist()
        train, held = hold_out(codes, self.validation_fraction, split_seed)
        if not len(held):
            held = train
        features, start = self._start(table, codes, line)
        labels = torch.from_numpy(codes.astype(np.int64)).to(features[0].device)
        parts = [
            [x[torch.from_numpy(rows).to(x.device)] for x in (*features, labels)]
            for rows in (train, held)
        ]
        generator = torch.Generator().manual_seed(order_seed)
        if self._network is not None:
            train_heads(
                start.heads.requires_grad_(True),
                parts[0][:-1],
                parts[0][-1],
                parts[1][:-1],
                parts[1][-1],
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                batch_size=self.batch_size,
                max_epochs=self.warm_up_epochs,
                patience=max(1, self.warm_up_epochs),
                generator=generator,
            )
        self.gates_: dict[float, NDArray[np.float32]] = {}
        self.heads_: dict[float, nn.ModuleList] = {}
        model = start
        for knob in knobs.tolist():
            model = train_exits(
                model if self.warm_start else start,
                parts[0][:-1],
                parts[0][-1],
                parts[1][:-1],
                parts[1][-1],
                knob * tree.path_costs[line],
                train_heads=self._network is not None,
                detach_ratio=self.ratio == "detached",
                bilevel_batches=self.bilevel_batches,
                batch_size=self.batch_size,
                max_epochs=self.max_epochs,
                learning_rate=self.learning_rate,
                gate_learning_rate=self.gate_learning_rate,
                weight_decay=self.weight_decay,
                balance=self.balance,
                generator=generator,
            )
            weights = (model.gates.weight, model.gates.bias[:, None])
            self.gates_[knob] = torch.cat(weights, dim=1).cpu().numpy()
            if self._network is not None:
                self.heads_[knob] = model.heads
        return self

    def _check_options(self) -> None:
        check_option(self.ratio, "ratio", RATIOS)
        for name, least in (
            ("warm_up_epochs", 0),
            ("max_epochs", 1),
            ("bilevel_batches", 1),
            ("batch_size", 1),
        ):
            check_integer(getattr(self, name), name, at_least=least)
        for name in ("learning_rate", "gate_learning_rate"):
            check_number(getattr(self, name), name, above=0)
        check_number(self.weight_decay, "weight_decay", at_least=0)
        check_number(self.validation_fraction, "validation_fraction", at_least=0, below=1)
        check_seed(self.random_state)

    def _start(
        self, table: PathProbabilities, codes: NDArray[np.intp], line: NDArray[np.intp]
    ) -> tuple[list[Tensor], ExitModel]:
        """Return what heads read and a first model."""
        gates = nn.Linear(4, len(line) - 1)
        nn.init.zeros_(gates.weight)
        nn.init.zeros_(gates.bias)
        if self._network is None:
            table = stored(table)
            correctness(table, codes)  # checks every probability
            heads = nn.ModuleList(nn.Identity() for _ in line)
            return [_logarithms(table.path(int(path))) for path in line], ExitModel(heads, gates)
        features = self._features(table)
        heads = copy.deepcopy(self._network.exit_heads)
        return features, ExitModel(heads, gates.to(features[0].device))

    def _features(self, table: PathProbabilities) -> list[Tensor]:
        assert self._network is not None and isinstance(table, LazyPathProbabilities)
        levels = table.paths.steps(table.paths.fullest)
        return self._network.features(table.inputs, levels, batch_size=table.chunk_size)

    # ------------------------------------------------------------------ tables

    def read_table(self, X: ArrayLike, *, reset: bool) -> PathProbabilities:
        """Return X as a table: with a network, its chain of exits with the heads of `lambda_`."""
        if not reset and self._network is None and self.network is None:
            return super().read_table(X, reset=reset)
        network = self.network if reset else self._network
        lazy = network_table(type(self).__name__, network, X)
        if lazy is None:
            if not reset:
                raise ValueError("This JEIDNN was fitted on a table of probabilities, not images.")
            return super().read_table(X, reset=reset)
        full = lazy.paths
        line = self._line(full)
        chain = PathTree.from_paths(
            [full.steps(int(path)) for path in line],
            full.path_costs[line],
            classes=full.classes,
            cost_unit=full.cost_unit,
        )
        heads = None
        if reset:
            self._network = lazy.network
        else:
            heads = self.heads_[float(self.lambda_)]
        assert self._network is not None
        view = lazy.with_network(self._network.with_paths(chain, heads=heads))
        return super().read_table(view, reset=reset)

    def _line(self, tree: PathTree) -> NDArray[np.intp]:
        return tree.prefixes(tree.fullest if self.along is None else self.along)

    def table_reader(self) -> Callable[[ArrayLike], PathProbabilities]:
        return partial(copy.copy(self).read_table, reset=False)

    # ------------------------------------------------------------------ decide

    def check_knobs(self) -> None:
        if float(self.lambda_) not in self.gates_:
            raise ValueError(
                f"lambda_={self.lambda_!r} was not trained; this method trains each trade-off by "
                f"itself. Trained: {list(self.gates_)}. Add it to lambdas and fit again."
            )

    def make_decider(self, tree: PathTree) -> Follow:
        gates = _ExitGates(self._model(float(self.lambda_)))
        return Follow(tree, self.classes_, self._line(tree), gates)

    def _model(self, knob: float) -> ExitModel:
        """Return heads and gates of a trade-off; the gates are on the CPU."""
        found = torch.from_numpy(self.gates_[knob])
        gates = nn.utils.skip_init(nn.Linear, 4, len(found))
        gates.weight.data, gates.bias.data = found[:, :4], found[:, 4]
        return ExitModel(self.heads_.get(knob, nn.ModuleList()), gates)

    # ------------------------------------------------------------------ curves

    def cost_curve(
        self,
        lambdas: ArrayLike | None = None,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> CostCurve:
        """Return accuracy and cost at every trained ``lambda_``; the backbone runs once.

        Parameters
        ----------
        lambdas : array-like of shape (n_points,), default=None
            Trade-offs, among the trained ones. Default: all of them.
        X : images, lazy table or table of probabilities
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        CostCurve
        """
        self.check_as_fitted()
        if self._network is None or X is None or y is None:
            return super().cost_curve(lambdas, X, y, sample_weight=sample_weight)
        self.check_knobs()
        table = self.read_table(X, reset=False)
        knobs = self.knob_values(lambdas, table.paths)
        codes = check_labels(y, self.classes_, len(table))
        features = self._features(table)
        taken, right = [], []
        for knob in knobs.tolist():
            model = self._model(knob)
            with torch.no_grad():
                logits = [x.cpu() for x in model.logits(features)]
                exits = model.exits([x.softmax(dim=1) for x in logits[:-1]]).numpy()
                answers = torch.stack([x.argmax(dim=1) for x in logits]).numpy()
            taken.append(exits)
            right.append(answers[exits, np.arange(len(exits))] == codes)
        return CostCurve(
            knobs,
            np.stack(taken),
            np.stack(right),
            table.paths,
            sample_weight=sample_weight,
            label=type(self).__name__,
        )

    def knob_values(self, values: ArrayLike | None, tree: PathTree) -> NDArray[np.float64]:
        knobs = super().knob_values(values, tree)
        untrained = sorted(set(knobs.tolist()) - set(self.gates_))
        if untrained:
            raise ValueError(
                f"lambdas {untrained} were not trained. Trained: {list(self.gates_)}. Add them to "
                "lambdas= and fit again."
            )
        return knobs

    def default_knobs(self, tree: PathTree) -> NDArray[np.float64]:
        return np.array(list(self.gates_))


@dataclass(frozen=True, eq=False)
class _ExitGates:
    """Leave where the gates of one trade-off say so."""

    model: ExitModel

    def __call__(self, visit: Visit) -> NDArray[np.bool_]:
        seen = [torch.from_numpy(np.asarray(p, dtype=np.float32)) for p in visit.history()]
        with torch.no_grad():
            leaves = leaving(torch.sigmoid(self.model.gate_logits(seen)))[:, -1] >= 0.5
        return np.asarray(leaves.numpy())


def _logarithms(probabilities: NDArray[np.floating]) -> Tensor:
    """Return log-probabilities, whose softmax is the probabilities."""
    values = np.asarray(probabilities, dtype=np.float32)
    return torch.from_numpy(np.log(np.maximum(values, np.finfo(np.float32).tiny)))


publish("skquee.baselines", JEIDNN)
