"""What a fitted network is made of, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skquee.networks._coverage import mean_bits, widths_of
from skquee.networks._images import ImageFormat
from skquee.networks.engines import LatencyTable
from skquee.values import PathTree
from skquee.values._tree import relative_to_whole

__all__ = ["FLOAT", "Level", "Parts"]

FLOAT = 32  # the level that is no quantisation

#: A bit width, or the name of an engine.
Level: TypeAlias = int | str


@dataclass(frozen=True, eq=False)
class Parts:
    """A network in pieces: what ``fit`` yields; ``quantize`` and ``compile`` replace the levels.

    Nothing in it changes: a network whose levels, paths or times are others has other parts,
    which share the modules.

    Parameters
    ----------
    backbone : Module
        The whole backbone, whose weights the blocks share.
    blocks : ModuleList
        Its float blocks: images to a state, and each state to the next.
    pools : ModuleList
        State of each block to the features (n, n_features) that its head reads.
    heads : ModuleList
        Features of each exit to logits (n, n_classes).
    head_widths : tuple of int
        Features that each head reads.
    final_head_kept : bool
        Whether the last pool and head are the backbone's own.
    format : ImageFormat
        What images become.
    device : device
        Where the modules are.
    seed : int
        Of initial weights, and of a sample of paths.
    exits : tuple of int or of str
        Layers or names after which the blocks end.
    classes : ndarray of shape (n_classes,)
        Labels, in the order of the logits.
    flops, head_flops : ndarray of shape (n_exits,)
        Floating-point operations of each block, and of what answers after it, for one image.
    levels : mapping of level to ModuleList
        The blocks at each bit width or on each engine, cheapest first.
    paths : PathTree
        Paths over the levels, with their costs and the classes.
    tree_options : mapping of str to object
        How the paths were chosen, as :meth:`skquee.PathTree.from_levels` takes it.
    validation_accuracy : ndarray of shape (n_exits,), default=None
        Of each float exit.
    ranges : mapping of str to (float, float), default={}
        Least and greatest input of each linear layer; static scales come from them.
    group : int, default=None
        Rows that run together at most, once compiled.
    runtimes : mapping of str to tuple of str, default={}
        Once compiled, what runs each block at each level.
    latency : LatencyTable, default=None
        Measured milliseconds.
    level_accuracy : mapping of int to float, default=None
        Of the last exit, every block at one level.
    path_accuracy : ndarray of shape (n_paths,), default=None
        Of every path.
    """

    backbone: nn.Module
    blocks: nn.ModuleList
    pools: nn.ModuleList
    heads: nn.ModuleList
    head_widths: tuple[int, ...]
    final_head_kept: bool
    format: ImageFormat
    device: torch.device
    seed: int
    exits: tuple[Level, ...]
    classes: NDArray[Any]
    flops: NDArray[np.int64]
    head_flops: NDArray[np.int64]
    levels: Mapping[Level, nn.ModuleList]
    paths: PathTree
    tree_options: Mapping[str, Any] = field(default_factory=dict)
    validation_accuracy: NDArray[np.float64] | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    group: int | None = None
    runtimes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    latency: LatencyTable | None = None
    level_accuracy: Mapping[int, float] | None = None
    path_accuracy: NDArray[np.float64] | None = None

    def with_levels(
        self, levels: Mapping[Level, nn.ModuleList], paths: PathTree, **changes: Any
    ) -> Parts:
        """Return parts at other levels; what was measured of the earlier ones is gone.

        Parameters
        ----------
        levels : mapping of level to ModuleList
            The blocks at each.
        paths : PathTree
            Over these levels.
        **changes
            Other fields.

        Returns
        -------
        Parts
        """
        measured = dict.fromkeys(("latency", "level_accuracy", "path_accuracy"))
        return replace(self, levels=levels, paths=paths, **{**measured, "runtimes": {}, **changes})

    def tree(self, widths: Sequence[int], **options: Any) -> PathTree:
        """Return the paths over some bit widths, with the costs of equation 17.

        What a level does not quantise counts in float.

        Parameters
        ----------
        widths : sequence of int
            Bit widths, lowest first.
        **options
            Of :meth:`skquee.PathTree.from_levels`.

        Returns
        -------
        PathTree
        """
        options = {"random_state": self.seed, **options}
        classes = self.classes.tolist()
        costs: NDArray[Any] = self.flops
        if set(widths) <= set(self.levels):
            bits = np.stack([self.bits(width) for width in widths], axis=1)
            if (bits != widths).any():
                costs = self.flops[:, None] * bits
        return relative_to_whole(
            PathTree.from_levels(len(self.flops), widths, costs, classes=classes, **options)
        )

    @cached_property
    def widths(self) -> Mapping[Level, list[dict[int, float]]]:
        """Share of each block's multiplications at each number of bits, for every level."""
        generator = torch.Generator().manual_seed(0)
        # One that takes images of any size is asked at 64 pixels.
        shape = (1, self.format.channels, *(self.format.size or (64, 64)))
        image = torch.randn(shape, generator=generator).to(self.device)
        return widths_of(self.blocks, self.levels, image, self.ranges)

    def bits(self, level: int, *, power: int = 1) -> NDArray[np.float64]:
        """Return the bits of each block at a bit width, what is not quantised counted in float.

        Parameters
        ----------
        level : int
            One of the levels.
        power : int, default=1
            2 for the root of the mean square: bits of weights times those of activations.

        Returns
        -------
        ndarray of shape (n_exits,)
        """
        return mean_bits(level, self.widths[level], self.flops, power=power)

    def states(self, n_rows: int) -> list[Tensor]:
        """Return random images, and what each float block makes of them.

        Parameters
        ----------
        n_rows : int
            Number of images.

        Returns
        -------
        list of n_exits + 1 Tensor
            The input of every block, and the output of the last.
        """
        if self.format.size is None:
            raise ValueError("The network takes images of any size: give img_size= before fit.")
        generator = torch.Generator().manual_seed(0)
        shape = (n_rows, self.format.channels, *self.format.size)
        states = [torch.randn(shape, generator=generator).to(self.device)]
        with torch.inference_mode():
            for block in self.blocks:
                states.append(block(states[-1]))
        return states
