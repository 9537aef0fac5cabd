"""Uniform symmetric min-max quantisation after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.quantization._operations import (
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedMatMul,
    UniformGrid,
    explicit_copy,
    operations,
)

__all__ = ["UniformPTQ"]


class UniformPTQ:
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

    Examples
    --------
    >>> import torch
    >>> from skquee.networks import UniformPTQ
    >>> blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 3))])
    >>> quantized = UniformPTQ().quantize(blocks, torch.ones(2, 4), levels=(4, 8))
    >>> quantized[8][0][0].codes.dtype
    torch.int8
    """

    def __init__(self, per_channel: bool = True, batch_size: int = 128) -> None:
        self.per_channel = per_channel
        self.batch_size = batch_size

    def __repr__(self) -> str:
        return f"UniformPTQ(per_channel={self.per_channel})"

    def quantize(
        self, blocks: Sequence[nn.Module] | nn.ModuleList, images: Tensor, levels: Sequence[int]
    ) -> dict[int, nn.ModuleList]:
        """Return the blocks at each bit width; float blocks and calibration run once.

        Parameters
        ----------
        blocks : sequence of Module
            Float blocks, each taking what the one before gives.
        images : Tensor of shape (n, C, H, W)
            Calibration images.
        levels : sequence of int
            Bit widths, from 2 to 31.

        Returns
        -------
        dict of int to ModuleList
            New modules; what is not quantised (norms, biases) is shared with `blocks`.

        Raises
        ------
        ValueError
            If an activation is NaN or infinite; the layer is named.
        """
        explicit = nn.ModuleList(explicit_copy(block) for block in blocks)
        ranges = self._observe(explicit, images)
        quantized: dict[int, nn.ModuleList] = {}
        for bits in levels:
            copies = copy_sharing_weights(explicit)
            for block, found in zip(copies, ranges, strict=True):
                for name, operation in list(operations(block)):
                    if name in found:
                        block.set_submodule(name, self._replace(operation, found[name], bits))
            quantized[bits] = copies
        return quantized

    def _observe(self, blocks: nn.ModuleList, images: Tensor) -> list[dict[str, list[Tensor]]]:
        """Largest absolute value of every operand of every operation, by block and name."""
        ranges: list[dict[str, list[Tensor]]] = [{} for _ in blocks]

        def watch(found: dict[str, list[Tensor]], name: str) -> Any:
            def hook(module: nn.Module, operands: tuple[Tensor, ...]) -> None:
                largest = [operand.abs().amax() for operand in operands]
                if not all(torch.isfinite(value) for value in largest):
                    raise ValueError(
                        f"The input of layer {name!r} holds NaN or infinity during calibration. "
                        "Check the weights of the backbone and the calibration images."
                    )
                before = found.get(name, largest)
                found[name] = [torch.maximum(a, b) for a, b in zip(before, largest, strict=True)]

            return hook

        hooks = [
            operation.register_forward_pre_hook(watch(found, name))
            for block, found in zip(blocks, ranges, strict=True)
            for name, operation in operations(block)
        ]
        try:
            with torch.inference_mode():
                batches = images.split(self.batch_size)
                for state in tqdm(batches, desc="calibrate", disable=None, leave=False):
                    for block in blocks:
                        state = block(state)
        finally:
            for handle in hooks:
                handle.remove()
        return ranges

    def _replace(self, operation: nn.Module, largest: list[Tensor], bits: int) -> nn.Module:
        grids = [UniformGrid.over(value.clone(), bits) for value in largest]
        if isinstance(operation, MatMul):
            return QuantizedMatMul(*grids)
        assert isinstance(operation, (nn.Linear, nn.Conv2d))
        magnitude = operation.weight.detach().abs()
        if self.per_channel:
            top = magnitude.flatten(1).amax(dim=1).view(-1, *[1] * (magnitude.ndim - 1))
        else:
            top = magnitude.amax()
        weight = UniformGrid.over(top, bits)
        if isinstance(operation, nn.Conv2d):
            return QuantizedConv2d(operation, weight, grids[0])
        return QuantizedLinear(operation, weight, grids[0])
