"""JEI-DNN's training: heads and gates by turns, on features of a frozen backbone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

__all__ = ["ExitModel", "exit_shares", "gate_inputs", "gate_loss", "head_loss", "train_exits"]

MAX_POSITIVE_WEIGHT = 5.0


@dataclass
class ExitModel:
    """Heads and gates trained for one trade-off.

    `heads`: of features to logits, one an exit. `gates`: row ``l`` of its weight (G, 4) and bias
    (G,) is the gate of exit ``l``; the last exit has none.
    """

    heads: nn.ModuleList
    gates: nn.Linear

    def logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return what every head answers.

        `features` (n, n_features). Returns shape (n, n_classes).
        """
        return [head(x) for head, x in zip(self.heads, features, strict=True)]

    def gate_logits(self, probabilities: Sequence[Tensor]) -> Tensor:
        """Return the gates' outputs before the sigmoid, for the exits given.

        `probabilities` (n, n_classes): at the first exits, in order. Returns shape (n,
        len(probabilities).
        """
        seen = torch.stack([gate_inputs(p) for p in probabilities], dim=1)
        n = len(probabilities)
        return (seen * self.gates.weight[:n]).sum(dim=2) + self.gates.bias[:n]

    def exits(self, probabilities: Sequence[Tensor]) -> Tensor:
        """Return where each sample leaves.

        `probabilities` (n, n_classes): at every exit but the last. Returns shape (n,): exit, from
        0.
        """
        leaves = leaving(torch.sigmoid(self.gate_logits(probabilities))) >= 0.5
        last = torch.ones_like(leaves[:, :1])
        return torch.cat([leaves, last], dim=1).int().argmax(dim=1)


def gate_inputs(probabilities: Tensor) -> Tensor:
    """Return what a gate sees: largest probability, entropy, margin, entropy of ``p^2 / sum p^2``.

    `probabilities` (n, n_classes). Returns shape (n, 4).
    """
    top = probabilities.topk(2, dim=1).values
    squares = probabilities**2
    squares = squares / squares.sum(dim=1, keepdim=True)
    return torch.stack(
        [
            top[:, 0],
            torch.special.entr(probabilities).sum(dim=1),
            top[:, 0] - top[:, 1],
            torch.special.entr(squares).sum(dim=1),
        ],
        dim=1,
    )


def exit_shares(gates: Tensor) -> Tensor:
    """Return the probability of leaving at each exit, ``P_l = max(0, min(g_l, 1 - sum g_m))``.

    `gates` (n, G): ``g_l``; the last exit takes what is left. Returns shape (n, G + 1).
    """
    left = 1 - torch.cumsum(gates, dim=1)
    before = left + gates
    shares = torch.minimum(gates, before).clamp(min=0)
    return torch.cat([shares, left[:, -1:].clamp(min=0)], dim=1)


def leaving(gates: Tensor) -> Tensor:
    """Return the probability of leaving at an exit for a sample that has come as far.

    ``q_l = P_l / prod_{m < l} (1 - q_m)``, cut to 0 .. 1.

    `gates` (n, G). Returns shape (n, G).
    """
    shares, rest, parts = exit_shares(gates)[:, :-1], torch.ones_like(gates[:, 0]), []
    for share in shares.unbind(dim=1):
        # Where nothing is left, an earlier exit took everything.
        part = torch.where(rest > 0, share / rest.clamp(min=1e-12), 1.0).clamp(0, 1)
        parts.append(part)
        rest = rest * (1 - part)
    return torch.stack(parts, dim=1)


def head_loss(losses: Tensor, shares: Tensor, *, detach_ratio: bool) -> Tensor:
    """Return the heads' loss: each exit's cross-entropy weighted by its share of the sample.

    `losses`, `shares` (n, n_exits): cross-entropies, and :func:`exit_shares` without gradient.
    `detach_ratio`: the loss is brought back to the size of the plain one by ``sum CE / sum P CE``.
    As the paper means it that is a constant. With a gradient the whole is the plain loss again.
    Returns a number.
    """
    weighted = (shares * losses).sum()
    ratio = losses.sum() / weighted.clamp(min=1e-12)
    return (ratio.detach() if detach_ratio else ratio) * weighted / losses.numel()


def gate_loss(logits: Tensor, oracle: Tensor, positive_weight: Tensor) -> Tensor:
    """Return the gates' loss: gate ``m`` should leave where the best exit is ``m`` or earlier.

    `logits` (n, G). `oracle` (n,): exit of least ``CE + lambda * cost``. `positive_weight` (G,).
    Returns a number.
    """
    numbers = torch.arange(logits.shape[1], device=logits.device)
    goal = (numbers >= oracle[:, None]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, goal, pos_weight=positive_weight)


def train_exits(
    start: ExitModel,
    features: Sequence[Tensor],
    labels: Tensor,
    held_features: Sequence[Tensor],
    held_labels: Tensor,
    prices: NDArray[np.float64],
    *,
    train_heads: bool,
    detach_ratio: bool,
    bilevel_batches: int,
    batch_size: int,
    max_epochs: int,
    learning_rate: float,
    gate_learning_rate: float,
    weight_decay: float,
    balance: bool,
    generator: torch.Generator,
) -> ExitModel:
    """Train heads and gates for one trade-off.

    The turn changes after `bilevel_batches` batches, or half an epoch where that is shorter; the
    gates begin. The epoch of best ``accuracy - lambda * cost`` on held-out rows is kept.

    `start`: where to start; it stays as it is. `features`, `labels`: input of each head, and class
    indices. `prices` (n_exits,): ``lambda * cost`` of each exit. `train_heads`: false leaves the
    heads as they are: every turn is the gates'. `detach_ratio`: see :func:`head_loss`.
    `bilevel_batches`, `batch_size`, `max_epochs`: batches a turn, rows a batch, epochs.
    `learning_rate`, `gate_learning_rate`, `weight_decay`: of Adam, for heads and for gates.
    `balance`: weigh "leave" by how rarely an exit is the best one of a held-out row.
    """
    model = copy.deepcopy(start)
    for module in (model.heads, model.gates):
        module.requires_grad_(True)
    price = torch.as_tensor(prices, dtype=torch.float32, device=labels.device)
    optimizer = torch.optim.Adam(
        [
            {"params": list(model.heads.parameters()), "lr": learning_rate},
            {"params": list(model.gates.parameters()), "lr": gate_learning_rate},
        ],
        weight_decay=weight_decay,
    )
    n_batches = -(-len(labels) // batch_size)
    turn = bilevel_batches if n_batches >= bilevel_batches else max(1, n_batches // 2)
    best, kept = -np.inf, model
    weight = torch.ones(len(features) - 1, device=labels.device)
    for _ in tqdm(range(max_epochs), desc="heads and gates", disable=None, leave=False):
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        for number, rows in enumerate(order.split(batch_size)):
            gates_turn = not train_heads or number // turn % 2 == 0
            if balance and gates_turn and number % turn == 0:
                weight = _positive_weight(model, held_features, held_labels, price)
            batch = [x[rows] for x in features]
            with torch.set_grad_enabled(not gates_turn):
                logits = model.logits(batch)
            losses = _losses(logits, labels[rows])
            probabilities = [x.detach().softmax(dim=1) for x in logits[:-1]]
            optimizer.zero_grad()
            if gates_turn:
                oracle = (losses + price).argmin(dim=1)
                loss = gate_loss(model.gate_logits(probabilities), oracle, weight)
            else:
                with torch.no_grad():
                    shares = exit_shares(torch.sigmoid(model.gate_logits(probabilities)))
                loss = head_loss(losses, shares, detach_ratio=detach_ratio)
            loss.backward()
            optimizer.step()
        score = _score(model, held_features, held_labels, price)
        if score > best:
            best, kept = score, copy.deepcopy(model)
    for module in (kept.heads, kept.gates):
        module.requires_grad_(False)
    return kept


def _losses(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    columns = [F.cross_entropy(x, labels, reduction="none") for x in logits]
    return torch.stack(columns, dim=1)


@torch.no_grad()
def _positive_weight(
    model: ExitModel, features: Sequence[Tensor], labels: Tensor, price: Tensor
) -> Tensor:
    """Return ``min((N - n_l) / n_l, 5)``, `n_l` held-out rows being best off at exit `l`."""
    oracle = (_losses(model.logits(features), labels) + price).argmin(dim=1)
    counts = torch.bincount(oracle, minlength=len(features))[:-1].float()
    return ((len(labels) - counts) / counts.clamp(min=0.1)).clamp(max=MAX_POSITIVE_WEIGHT)


@torch.no_grad()
def _score(model: ExitModel, features: Sequence[Tensor], labels: Tensor, price: Tensor) -> float:
    logits = model.logits(features)
    exits = model.exits([x.softmax(dim=1) for x in logits[:-1]])
    right = torch.stack([x.argmax(dim=1) == labels for x in logits], dim=1)
    taken = torch.take_along_dim(right, exits[:, None], dim=1)[:, 0]
    return float(taken.double().mean() - price[exits].double().mean())
