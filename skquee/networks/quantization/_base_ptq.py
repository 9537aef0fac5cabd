"""The baseline of PTQ4ViT: uniform scales searched by the cosine of outputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.quantization._base import PostTrainingQuantizer
from skquee.networks.quantization._calibration import Observation
from skquee.networks.quantization._grids import Grid
from skquee.networks.quantization._products import Factors
from skquee.networks.quantization._search import (
    Candidates,
    Errors,
    Product,
    cosine_errors,
    search,
    uniform_candidates,
)
from skquee.values._checks import MOST_SEED, check_integer

__all__ = ["BasePTQ"]


class BasePTQ(PostTrainingQuantizer):
    """Quantise on uniform symmetric grids whose scales keep outputs in line with the float ones.

    For each operation, scales from 0.5 to 1.2 times that of the largest value are tried for
    the weight, then for the input, and those with the largest cosine between the operation's
    quantised and float output are kept: the baseline of [1]_. The cosine is taken along a
    row's output channels for activations, along rows for the scale of a weight's channel.

    Parameters
    ----------
    per_channel : bool, default=True
        A scale for each output channel of a weight, or one for the whole weight. Inputs of a
        layer have one scale; factors of an attention product one a head.
    rounds : int, default=1
        How often the two scales are searched in turn, at most.
    n_candidates : int, default=100
        Scales to choose from.
    stride : int, default=20
        The first search tries every `stride`-th candidate, then those about the best; later
        rounds look about the last choice. 1 tries all candidates in all rounds.
    max_rows : int or None, default=2048
        Rows (tokens, positions) of an operation the search reads; None for all.
    batch_size : int, default=16
        Calibration images run at once.
    random_state : int, default=0
        Seed of the choice of rows.

    References
    ----------
    .. [1] Yuan et al. "PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin
       Uniform Quantization." ECCV 2022.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.quantization import BasePTQ
    >>> blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 3))])
    >>> quantized = BasePTQ().quantize(blocks, torch.eye(4), levels=(4, 8))
    >>> quantized[4][0][0].weight_scale.shape
    torch.Size([3])
    """

    _part: ClassVar[tuple[float, float]] = (0.5, 1.2)
    _errors: ClassVar[Errors] = staticmethod(cosine_errors)
    _needs_rows = True

    def __init__(
        self,
        per_channel: bool = True,
        rounds: int = 1,
        n_candidates: int = 100,
        stride: int = 20,
        max_rows: int | None = 2048,
        batch_size: int = 16,
        random_state: int = 0,
    ) -> None:
        super().__init__(per_channel, batch_size)
        self.rounds = rounds
        self.n_candidates = n_candidates
        self.stride = stride
        self.max_rows = max_rows
        self.random_state = random_state

    def _check(self) -> None:
        super()._check()
        for name in ("rounds", "n_candidates", "stride"):
            check_integer(getattr(self, name), name, at_least=1)
        if self.max_rows is not None:
            check_integer(self.max_rows, "max_rows", at_least=1)
        check_integer(self.random_state, "random_state", at_least=0, at_most=MOST_SEED)

    def grids(self, observed: Observation, bits: int) -> tuple[Grid, Grid]:
        product = as_product(observed)
        left = self._left(observed, bits)
        operation = observed.operation
        if isinstance(operation, MatMul):
            right = self._factor(observed, 1, bits)
        else:
            assert isinstance(operation, (nn.Linear, nn.Conv2d))
            magnitude = product.transposed.left[0].abs().amax(dim=2)
            largest = magnitude if self.per_channel else magnitude.amax().view(1, 1)
            right = uniform_candidates(largest, bits, self._part, self.n_candidates)
        chosen = search(
            product,
            left,
            right,
            errors=self._errors,
            rounds=self.rounds,
            stride=self.stride,
            left_first=isinstance(operation, MatMul),
        )
        n_axes = 3 if isinstance(operation, MatMul) else operation.weight.ndim
        return _final(left, chosen[0], 3), _final(right, chosen[1], n_axes)

    def _left(self, observed: Observation, bits: int) -> Candidates:
        """Grids for the input or left factor."""
        return self._factor(observed, 0, bits)

    def _factor(self, observed: Observation, side: int, bits: int) -> Candidates:
        """Uniform grids for an activation."""
        largest = torch.maximum(-observed.low[side], observed.high[side]).view(-1, 1)
        return uniform_candidates(largest, bits, self._part, self.n_candidates)


def as_product(observed: Observation) -> Product:
    """Join what was kept of an operation.

    An output whose gradient is zero throughout counts by its plain squared error, faintly: its
    scale would else be left to chance. Where all are zero only squared errors count.
    """
    operation = observed.operation
    if isinstance(operation, MatMul):
        left, right = torch.cat(observed.left), torch.cat(observed.right)
    else:
        assert isinstance(operation, (nn.Linear, nn.Conv2d))
        left, right = torch.cat(observed.left, dim=2), Factors.weight(operation)
    if not observed.gradient:
        return Product(left, right)
    gradient = torch.cat(observed.gradient, dim=0 if isinstance(operation, MatMul) else 2)
    largest = gradient.abs().amax()
    if largest > 0:
        gradient = gradient / largest  # squares of small gradients would vanish
    silent = (gradient == 0).all(dim=2, keepdim=True).all(dim=0, keepdim=True)
    faint = 1e-3 * torch.linalg.vector_norm(gradient) / gradient.numel() ** 0.5
    return Product(left, right, torch.where(silent, torch.where(faint > 0, faint, 1.0), gradient))


def _final(candidates: Candidates, chosen: Tensor, n_axes: int) -> Grid:
    """Return the chosen grid, shaped to meet the first of so many axes, or a scalar."""
    grid = candidates.grid(chosen.unsqueeze(1))
    for name, buffer in list(grid.named_buffers()):
        shape = (-1, *[1] * (n_axes - 1)) if buffer.numel() > 1 else ()
        setattr(grid, name, buffer.reshape(shape).clone())
    return grid
