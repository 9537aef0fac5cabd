"""The search of two scales, one operand at a time, for the output nearest the float one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from skquee.networks.quantization._grids import GELUGrid, Grid, SoftmaxGrid, UniformGrid

__all__ = [
    "Candidates",
    "Errors",
    "Product",
    "coarse_to_fine",
    "cosine_errors",
    "gelu_candidates",
    "search",
    "softmax_candidates",
    "squared_errors",
    "uniform_candidates",
]

N_SPLITS = 11  # at 2**-10 of the largest value, sums of 8-bit codes stay below 2**24
CHUNK = 2**20  # numbers of an output held at once: 4 MB stay in a processor's cache


@dataclass
class Product:
    """``left @ right`` in float, and how much its elements matter.

    `left` (n_samples, n_groups, n_rows, n_inner): left factor. `right` (n_samples, n_groups,
    n_inner, n_columns): right factor. `gradient` (n_samples, n_groups, n_rows, n_columns): loss
    gradient with respect to the product; None to count all elements alike.
    """

    left: Tensor
    right: Tensor
    gradient: Tensor | None = None

    @cached_property
    def target(self) -> Tensor:
        """The product."""
        return self.left @ self.right

    @cached_property
    def transposed(self) -> Product:
        """The transposed product, in memory of its own."""
        gradient = None if self.gradient is None else self.gradient.mT.contiguous()
        product = Product(self.right.mT.contiguous(), self.left.mT, gradient)
        product.target = self.target.mT.contiguous()
        return product


@dataclass
class Candidates:
    """Grids an operand may get, ordered.

    `steps` (1, n_groups or 1, n_candidates, n_rows or 1, 1): what tells one from another; groups
    and rows that have a scale of their own each have a column. `build`: from steps, broadcastable
    to the operand, to their Grid. `start`: the candidate the other operand's first search takes.
    `exhaustive`: whether all are to be tried, as they are few.
    """

    steps: Tensor
    build: Callable[[Tensor], Grid]
    start: int
    exhaustive: bool = False

    @property
    def n(self) -> int:
        """How many there are."""
        return self.steps.shape[2]

    @property
    def shape(self) -> tuple[int, int]:
        """Groups and rows that have a scale of their own: their number, or 1."""
        return self.steps.shape[1], self.steps.shape[3]

    def grid(self, chosen: Tensor, rows: slice = slice(None)) -> Grid:
        """Make grids of chosen candidates, for rows that have scales of their own."""
        steps = self.steps if self.shape[1] == 1 else self.steps[:, :, :, rows]
        return self.build(steps.gather(2, chosen[None, ..., None]))

    def quantise(self, x: Tensor, chosen: Tensor, rows: slice = slice(None)) -> Tensor:
        """Round an operand to grids.

        `x` (n_samples, n_groups, n_rows, n_inner): the operand, or rows of it. `chosen`: numbers
        of candidates. `rows`: which rows they are. Returns (n_samples, n_groups, n_candidates,
        n_rows, n_inner).
        """
        return self.grid(chosen, rows)(x.unsqueeze(2))


def _steps(largest: Tensor, codes: float, part: tuple[float, float], n: int) -> tuple[Tensor, int]:
    """Return steps that put `codes` on parts of the largest values, and which part is 1."""
    first = largest.float() / codes
    first = torch.where(first > 0, first, 1.0).view(1, largest.shape[0], 1, -1, 1)
    factors = torch.linspace(*part, n, device=largest.device)
    return first * factors.view(1, 1, -1, 1, 1), int((factors - 1).abs().argmin())


def uniform_candidates(
    largest: Tensor, bits: int, part: tuple[float, float], n: int, signed: bool = True
) -> Candidates:
    """Uniform grids whose last code is about a part of the largest value.

    `largest` (n_groups or 1, n_rows or 1): largest absolute values of what shares a scale. `bits`:
    bit width. `part`: from which part to which. `n`: number of candidates, evenly spaced, both
    ends among them. `signed`: as in :class:`UniformGrid`.
    """
    codes = 2 ** (bits - 1 if signed else bits) - 0.5
    steps, start = _steps(largest, codes, part, n)
    return Candidates(steps, lambda step: UniformGrid(step, bits, signed), start)


def gelu_candidates(largest: Tensor, bits: int, part: tuple[float, float], n: int) -> Candidates:
    """Twin grids for GELU outputs, ordered by the step above 0; see :func:`uniform_candidates`."""
    steps, start = _steps(largest, 2 ** (bits - 1) - 0.5, part, n)
    return Candidates(steps, lambda step: GELUGrid.above(step, bits), start)


def softmax_candidates(like: Tensor, bits: int) -> Candidates:
    """Twin grids for softmax outputs, split at powers of two from 1 down.

    `like` (n_groups or 1, 1): has an element for each group with a split of its own.
    """
    splits = torch.exp2(-torch.arange(N_SPLITS, device=like.device)).view(1, 1, -1, 1, 1)
    steps = splits.expand(1, len(like), -1, 1, 1)
    return Candidates(steps, lambda split: SoftmaxGrid.split(split, bits), 0, exhaustive=True)


class Errors(Protocol):
    """Errors of candidates for the left factor, where the right one, rounded, is `fixed`."""

    def __call__(
        self, product: Product, candidates: Candidates, fixed: Tensor, numbers: Tensor
    ) -> Tensor:
        """Return the error of each candidate in `numbers`."""


def search(
    product: Product,
    left: Candidates,
    right: Candidates,
    *,
    errors: Errors,
    rounds: int,
    stride: int,
    left_first: bool,
) -> tuple[Tensor, Tensor]:
    """Choose the grid of one factor given that of the other, in turn.

    The first round is a coarse search over all candidates and a fine one about the best;
    later rounds look about the last choice. It ends early when a round changes nothing, as
    all further ones would.

    `product`: float factors and gradient. `left`, `right`: grids of the left factor, and of the
    transpose of the right one. `errors`: :func:`squared_errors` or :func:`cosine_errors`.
    `rounds`: rounds at most. `stride`: step of the coarse search; 1 tries all candidates in every
    round. `left_first`: whether the left factor is searched first in a round. Returns `left`,
    `right`: numbers of the candidates chosen.
    """
    sides = [(product, left), (product.transposed, right)]
    device = product.left.device
    chosen = [torch.full(c.shape, c.start, device=device) for _, c in sides]
    searched = [False, False]
    for _ in range(rounds):
        before = [c.clone() for c in chosen]
        for this in (0, 1) if left_first else (1, 0):
            side, candidates = sides[this]
            other_side, other = sides[1 - this]
            fixed = other.quantise(other_side.left, chosen[1 - this].unsqueeze(1)).squeeze(2).mT

            def evaluate(
                numbers: Tensor, side: Product = side, c: Candidates = candidates, f: Tensor = fixed
            ) -> Tensor:
                return errors(side, c, f, numbers)

            chosen[this] = coarse_to_fine(
                evaluate,
                candidates.n,
                chosen[this],
                stride=1 if candidates.exhaustive else stride,
                near=searched[this],
            )
            searched[this] = True
        if all(bool((a == b).all()) for a, b in zip(before, chosen, strict=True)):
            break
    return chosen[0], chosen[1]


def coarse_to_fine(
    evaluate: Callable[[Tensor], Tensor], n: int, start: Tensor, *, stride: int, near: bool
) -> Tensor:
    """Find the best of ordered candidates, for many scales at once.

    `evaluate`: from numbers of candidates (n_groups, n_candidates, n_rows) to errors of that
    shape. `n`: number of candidates. `start`: where a near search begins. `stride`: first step;
    the following are a quarter of the last, down to 1. `near`: whether to look about the start
    only, less than a stride away (never for stride 1). Returns the first best.
    """
    if near and stride > 1:
        numbers = start.unsqueeze(1)
    else:
        numbers = torch.arange((stride - 1) // 2, n, stride, device=start.device)
        numbers = numbers.view(1, -1, 1).expand(start.shape[0], -1, start.shape[1])
    best_error, best = evaluate(numbers), numbers
    while True:
        place = best_error.argmin(dim=1, keepdim=True)
        best_error, best = best_error.gather(1, place), best.gather(1, place)
        if stride == 1:
            return best.squeeze(1)
        step = max(stride // 4, 1)
        reach = (stride - 1) // step * step
        offsets = [o for o in range(-reach, reach + 1, step) if o != 0]
        around = best + torch.tensor(offsets, device=best.device).view(1, -1, 1)
        around = around.clamp_(0, n - 1)
        best_error = torch.cat((best_error, evaluate(around)), dim=1)
        best = torch.cat((best, around), dim=1)
        stride = step


def _parts(product: Product, fixed: Tensor, n_candidates: int) -> list[tuple[slice, slice, slice]]:
    """Cut samples, rows and candidates so that outputs stay in cache."""
    n_samples, n_groups, n_rows, _ = product.left.shape
    n_columns = fixed.shape[-1]
    samples = max(1, CHUNK // (n_groups * n_rows * n_columns))
    rows = max(1, min(n_rows, CHUNK // (n_groups * n_columns)))
    candidates = max(1, CHUNK // (n_groups * min(samples, n_samples) * rows * n_columns))
    return [
        (slice(i, i + samples), slice(j, j + rows), slice(k, k + candidates))
        for i in range(0, n_samples, samples)
        for j in range(0, n_rows, rows)
        for k in range(0, n_candidates, candidates)
    ]


def _outputs(
    product: Product, candidates: Candidates, fixed: Tensor, numbers: Tensor
) -> tuple[list[tuple[slice, slice, slice]], Callable[[tuple[slice, slice, slice]], Tensor]]:
    """Return parts, and the product of a part: (samples, groups, candidates, rows, columns)."""

    def output(part: tuple[slice, slice, slice]) -> Tensor:
        i, j, k = part
        chosen = numbers[:, k] if numbers.shape[2] == 1 else numbers[:, k, j]
        rounded = candidates.quantise(product.left[i, :, j], chosen, j)
        s, g, c, r, inner = rounded.shape
        out = rounded.view(s, g, c * r, inner) @ fixed[i]
        return out.view(s, g, c, r, -1)

    return _parts(product, fixed, numbers.shape[1]), output


def squared_errors(
    product: Product, candidates: Candidates, fixed: Tensor, numbers: Tensor
) -> Tensor:
    """Sum of ``(gradient * (quantised - float output))**2`` over what shares a scale."""
    parts, output = _outputs(product, candidates, fixed, numbers)
    errors = torch.zeros(numbers.shape, dtype=torch.float64, device=numbers.device)
    for part in parts:
        i, j, k = part
        out = output(part).sub_(product.target[i, :, j].unsqueeze(2))
        if product.gradient is not None:
            out.mul_(product.gradient[i, :, j].unsqueeze(2))
        sums = torch.linalg.vector_norm(out, dim=-1).square_().sum(dim=0).double()
        _add(errors, sums, j, k)
    return errors


def cosine_errors(
    product: Product, candidates: Candidates, fixed: Tensor, numbers: Tensor
) -> Tensor:
    """Mean of minus the cosine between rows of quantised and float output, where a scale is shared.

    Rows are those of the product: columns of the output where it is the weight that is rounded.
    """
    parts, output = _outputs(product, candidates, fixed, numbers)
    errors = torch.zeros(numbers.shape, dtype=torch.float64, device=numbers.device)
    for part in parts:
        i, j, k = part
        out, target = output(part), product.target[i, :, j].unsqueeze(2)
        lengths = torch.linalg.vector_norm(out, dim=-1) * torch.linalg.vector_norm(target, dim=-1)
        dots = out.mul_(target).sum(dim=-1)
        _add(errors, -(dots / lengths.clamp_(min=1e-30)).sum(dim=0).double(), j, k)
    return errors


def _add(errors: Tensor, sums: Tensor, rows: slice, numbers: slice) -> None:
    """Add a part's sums (groups, candidates, rows) where their scales are."""
    if errors.shape[0] == 1:
        sums = sums.sum(dim=0, keepdim=True)
    if errors.shape[2] == 1:
        errors[:, numbers] += sums.sum(dim=2, keepdim=True)
    else:
        errors[:, numbers, rows] += sums
