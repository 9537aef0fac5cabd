"""The DQNet gate's training: a controller drawn by Gumbel noise, on losses known beforehand."""

from __future__ import annotations

from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["bit_loss", "feature_map", "sample_paths", "train_controller"]

MIN_STEPS = 20  # of an epoch


def feature_map(state: Tensor, size: int) -> Tensor:
    """Return the state after a block as one vector an image, averaged to a coarse map.

    `state` (n, n_tokens, width), (n, channels, height, width) or (n, n_features): tokens stand in
    rows of a square after any tokens of their own (CLS), which are kept. `size`: rows and columns
    at most. Returns shape (n, n_features).
    """
    if state.ndim == 4:
        height, width = state.shape[2:]
        return F.adaptive_avg_pool2d(state, (min(size, height), min(size, width))).flatten(1)
    if state.ndim != 3:
        return state.flatten(1)
    n_side = isqrt(state.shape[1])
    n_extra = state.shape[1] - n_side**2
    grid = state[:, n_extra:].transpose(1, 2).unflatten(2, (n_side, n_side))
    pooled = F.adaptive_avg_pool2d(grid, min(size, n_side))
    return torch.cat([state[:, :n_extra].flatten(1), pooled.flatten(1)], dim=1)


def sample_paths(scores: Tensor, marks: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw a path for each sample by Gumbel noise, with a gradient straight through.

    Where the tree has every combination of levels this draws each block's level by itself.

    `scores`, `noise` (n, n_blocks * n_levels): of each level of each later block. `marks`
    (n_choices, n_blocks * n_levels): which of them each path takes. `temperature`: of the soft
    choice that carries the gradient. Returns shape (n, n_choices): one-hot in value.
    """
    noisy = (scores + noise) @ marks.T
    soft = (noisy / temperature).softmax(dim=1)
    hard = F.one_hot(noisy.argmax(dim=1), noisy.shape[1]).to(soft.dtype)
    return hard - soft.detach() + soft


def bit_loss(choice: Tensor, bits: Tensor, target_bits: float) -> Tensor:
    """Return how far the mean bits of later blocks lie above the target, 0 below.

    `choice` (n, n_choices): of :func:`sample_paths`. `bits` (n_choices,): mean bits of the later
    blocks of each path. Returns a number.
    """
    return (choice @ bits).mean().sub(target_bits).clamp(min=0)


def train_controller(
    features: Tensor,
    losses: Tensor,
    marks: Tensor,
    bits: Tensor,
    *,
    target_bits: float,
    alpha: float,
    hidden_size: int,
    dropout: float,
    temperature: float,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train one controller and fold it to an affine map.

    `features` (n, n_features): what it reads; brought to mean 0 and variance 1. `losses` (n,
    n_choices): cross-entropy of each path. `marks`, `bits` (n_choices, n_blocks * n_levels),
    (n_choices,): levels and mean bits of each path. `max_epochs`, `batch_size`: epochs, rows a
    step. `seed`: of weights, dropout, noise and the order of the rows. Returns `weight` (n_blocks *
    n_levels, n_features); `bias` (n_blocks * n_levels,).
    """
    mean, scale = _moments(features)
    batch_size = min(batch_size, max(1, len(features) // MIN_STEPS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = nn.Linear(features.shape[1], hidden_size)
        second = nn.Linear(hidden_size, marks.shape[1])
        controller = nn.Sequential(first, nn.Dropout(dropout), second)
        optimizer = torch.optim.Adam(
            controller.parameters(), lr=learning_rate, weight_decay=weight_decay
        )
        for _ in range(max_epochs):
            for rows in torch.randperm(len(features)).split(batch_size):
                scores = controller((features[rows].float() - mean) / scale)
                noise = -torch.empty_like(scores).exponential_().log()
                choice = sample_paths(scores, marks, noise, temperature)
                loss = (choice * losses[rows]).sum(dim=1).mean()
                loss = loss + alpha * bit_loss(choice, bits, target_bits)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        weight = second.weight @ first.weight / scale
        bias = second.weight @ first.bias + second.bias - weight @ mean
    return weight.numpy(), bias.numpy()


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature, 1 where it is constant."""
    total = torch.zeros(features.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in features.split(4096):
        total += part.double().sum(dim=0)
        squares += part.double().square().sum(dim=0)
    mean = total / len(features)
    deviation = (squares / len(features) - mean**2).clamp(min=0).sqrt()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()
