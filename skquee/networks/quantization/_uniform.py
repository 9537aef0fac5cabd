"""Uniform symmetric min-max quantisation after training."""

from __future__ import annotations

import torch
from torch import nn

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.quantization._base import PostTrainingQuantizer
from skquee.networks.quantization._calibration import Observation
from skquee.networks.quantization._grids import Grid, UniformGrid

__all__ = ["UniformPTQ"]


class UniformPTQ(PostTrainingQuantizer):
    """Quantise weights and activations on uniform symmetric grids from their largest values.

    Every linear layer, convolution and both attention products are quantised (in
    simulation: codes are whole numbers held in floats); layer norm, softmax, residual sums
    and biases stay float. Weights are kept as integer codes, one byte each up to 8 bits.

    Parameters
    ----------
    per_channel : bool, default=True
        A scale for each output channel of a weight, or one for the whole weight.
        Activations have one scale a layer.
    batch_size : int, default=128
        Calibration images run at once.

    See Also
    --------
    PTQ4ViT : Searches scales and has grids for softmax and GELU; better at few bits.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.quantization import UniformPTQ
    >>> blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 3))])
    >>> quantized = UniformPTQ().quantize(blocks, torch.eye(4), levels=(4, 8))
    >>> quantized[8][0][0].codes.dtype
    torch.int8
    """

    def grids(self, observed: Observation, bits: int) -> tuple[Grid, Grid]:
        ends = zip(observed.low, observed.high, strict=True)
        largest = [torch.maximum(-low.amin(), high.amax()) for low, high in ends]
        operation = observed.operation
        if not isinstance(operation, MatMul):
            assert isinstance(operation, (nn.Linear, nn.Conv2d))
            magnitude = operation.weight.detach().abs()
            axes = tuple(range(1, magnitude.ndim))
            largest.append(
                magnitude.amax(axes, keepdim=True) if self.per_channel else magnitude.amax()
            )
        left, right = (UniformGrid.over(value, bits) for value in largest)
        return left, right
