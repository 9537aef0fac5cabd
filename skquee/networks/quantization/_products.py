"""Every quantisable operation as one product of matrices, for the search of scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skquee.networks.backbones._matmul import MatMul

__all__ = ["Factors", "importance", "output_as", "take"]


@dataclass
class Factors:
    """Operands of ``left @ right`` with batch axes for samples and groups.

    `left` (n_samples, n_groups, n_rows, n_inner): inputs of a linear layer or patches of a
    convolution (one sample; groups of the convolution), or the left factor of a product of
    activations (samples; heads). `right` (n_samples, n_groups, n_inner, n_columns): the right
    factor of a product of activations; a weight is the same for all rows.
    """

    left: Tensor
    right: Tensor | None

    @classmethod
    def of(cls, operation: nn.Module, operands: Sequence[Tensor]) -> Factors:
        """Arrange the operands of an operation: its input, or left and right factor."""
        if isinstance(operation, MatMul):
            left, right = operands
            batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
            left, right = (x.expand(*batch, *x.shape[-2:]) for x in (left, right))
            return cls(_with_groups(left), _with_groups(right))
        if isinstance(operation, nn.Conv2d):
            return cls(_patches(operation, operands[0]), None)
        return cls(operands[0].reshape(1, 1, -1, operands[0].shape[-1]), None)

    @staticmethod
    def weight(operation: nn.Linear | nn.Conv2d) -> Tensor:
        """Return a weight as the right factor (1, n_groups, n_inner, n_columns)."""
        n_groups = operation.groups if isinstance(operation, nn.Conv2d) else 1
        return operation.weight.detach().flatten(1).unflatten(0, (n_groups, -1)).mT.unsqueeze(0)


def output_as(operation: nn.Module, out: Tensor) -> Tensor:
    """Arrange an output, or its gradient, as the product of factors.

    Returns (n_samples, n_groups, n_rows, n_columns).
    """
    if isinstance(operation, MatMul):
        return _with_groups(out)
    if isinstance(operation, nn.Conv2d):
        grouped = out.flatten(2).unflatten(1, (operation.groups, -1))
        return grouped.permute(1, 0, 3, 2).flatten(1, 2).unsqueeze(0)
    return out.reshape(1, 1, -1, out.shape[-1])


def _with_groups(x: Tensor) -> Tensor:
    """Axis 1 of four counts heads; of any other number of axes all leading ones are samples."""
    return x if x.ndim == 4 else x.reshape(-1, 1, *x.shape[-2:])


def _patches(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    padding = convolution.padding
    if padding == "same":
        sides: list[int] = []
        pairs = zip(convolution.dilation, convolution.kernel_size, strict=True)
        for step, size in reversed(list(pairs)):
            total = step * (size - 1)
            sides += [total // 2, total - total // 2]
        x = F.pad(x, sides)
    patches = F.unfold(
        x,
        convolution.kernel_size,
        dilation=convolution.dilation,
        padding=0 if isinstance(padding, str) else padding,
        stride=convolution.stride,
    )
    grouped = patches.unflatten(1, (convolution.groups, -1))  # (n, groups, inner, positions)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2).unsqueeze(0)


def importance(
    factors: Factors, gradient: Tensor | None, budget: float, generator: torch.Generator
) -> tuple[Tensor | None, Tensor | None]:
    """Choose rows so that sums over them estimate sums over all, and cost less.

    A row of a weighted layer, a sample of a product of activations, is drawn by systematic
    sampling with a chance that is half the same for all and half in proportion to its squared
    gradient, and counts by the inverse of it: sums of squared gradients times squared errors
    are then unbiased, also where a few rows (class tokens) hold most of the gradient.

    `factors`: the operands. `gradient`: as :func:`output_as` gives it. None: every row has the
    same chance. `budget`: rows wanted; all of them are kept where there are no more. `generator`:
    source of chance, on the CPU. Returns `rows`: numbers of rows, or samples; None for all.
    Returns `weight`: what each counts, shaped to multiply the taken gradient.
    """
    products = factors.right is not None
    n_rows = len(factors.left) if products else factors.left.shape[2]
    share = budget / factors.left.shape[2] if products else budget  # a sample has many rows
    wanted = max(1, round(min(share, n_rows)))
    if wanted >= n_rows:
        return None, None
    chance = torch.ones(n_rows, dtype=torch.float64, device=factors.left.device)
    if gradient is not None:
        axes = (1, 2, 3) if products else (0, 1, 3)
        squares = torch.linalg.vector_norm(gradient, dim=axes, dtype=torch.float64).square()
        if squares.sum() > 0:
            chance += squares / squares.mean()
    chance /= chance.sum()
    # Equal strides through a random order: neighbours are alike.
    order = torch.randperm(n_rows, generator=generator).to(chance.device)
    marks = (torch.arange(wanted, dtype=torch.float64, device=chance.device) + 0.5) / wanted
    places = torch.searchsorted(chance[order].cumsum(0), marks).clamp_(max=n_rows - 1)
    rows = order[places].sort().values
    weight = (1 / (wanted * chance[rows])).to(factors.left.dtype)
    return rows, weight.view(-1, 1, 1, 1) if products else weight.view(-1, 1)


def take(
    factors: Factors, gradient: Tensor | None, rows: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Take rows of a weighted layer, or samples of a product, that :func:`importance` chose.

    Of the gradient, too, as :func:`output_as` gives it; what is None stays so.
    """
    axis = 2 if factors.right is None else 0
    parts = (factors.left, factors.right, gradient)
    left, right, gradient = (
        part if part is None or rows is None else part.index_select(axis, rows) for part in parts
    )
    assert left is not None
    return left, right, gradient
