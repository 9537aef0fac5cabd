"""What a fitted network is made of, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skquee.networks._coverage import Shares, mean_bits, widths_of
from skquee.networks._images import ImageFormat
from skquee.networks.backbones._types import Level, Ranges
from skquee.networks.engines import LatencyTable
from skquee.values import PathTree
from skquee.values._tree import relative_to_whole
from skquee.values._types import Labels, TreeOptions

__all__ = ["FLOAT", "Parts"]

FLOAT = 32  # the level that is no quantisation


@dataclass(frozen=True, eq=False)
class Parts:
    """A network in pieces: what ``fit`` yields; ``quantize`` and ``compile`` replace the levels.

    Nothing in it changes: a network whose levels, paths or times are others has other parts,
    which share the modules.

    `backbone`: the whole backbone, whose weights the blocks share. `blocks`: its float blocks:
    images to a state, and each state to the next. `pools`: state of each block to the features (n,
    n_features) that its head reads. `heads`: features of each exit to logits (n, n_classes).
    `head_widths`: features that each head reads. `final_head_kept`: whether the last pool and head
    are the backbone's own. `format`: what images become. `device`: where the modules are. `seed`:
    of initial weights, and of a sample of paths. `exits`: layers or names after which the blocks
    end. `classes` (n_classes,): labels, in the order of the logits. `flops`, `head_flops`
    (n_exits,): floating-point operations of each block, and of what answers after it, for one
    image. `levels`: the blocks at each bit width or on each engine, cheapest first. `paths`: paths
    over the levels, with their costs and the classes. `tree_options`: how the paths were chosen,
    as :meth:`skquee.PathTree.from_levels` takes it. `validation_accuracy` (n_exits,): of each
    float exit. `ranges`: least and greatest input of each linear layer; static scales come from
    them. `group`: rows that run together at most, once compiled. `runtimes`: once compiled, what
    runs each block at each level. `latency`: measured milliseconds. `level_accuracy`: of the last
    exit, every block at one level. `path_accuracy` (n_paths,): of every path.
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
    classes: Labels
    flops: NDArray[np.int64]
    head_flops: NDArray[np.int64]
    levels: Mapping[Level, nn.ModuleList]
    paths: PathTree
    tree_options: TreeOptions = field(default_factory=TreeOptions)
    validation_accuracy: NDArray[np.float64] | None = None
    ranges: Ranges = field(default_factory=dict)
    group: int | None = None
    runtimes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    latency: LatencyTable | None = None
    level_accuracy: Mapping[int, float] | None = None
    path_accuracy: NDArray[np.float64] | None = None

    def with_levels(
        self, levels: Mapping[Level, nn.ModuleList], paths: PathTree, **changes: Any
    ) -> Parts:
        """Return parts at other levels; what was measured of the earlier ones is gone."""
        measured = dict.fromkeys(("latency", "level_accuracy", "path_accuracy"))
        return replace(self, levels=levels, paths=paths, **{**measured, "runtimes": {}, **changes})

    def tree(self, widths: Sequence[int], **options: Unpack[TreeOptions]) -> PathTree:
        """Return the paths over some bit widths, lowest first, with the costs of equation 17.

        What a level does not quantise counts in float.
        """
        options = {"random_state": self.seed, **options}
        classes = self.classes.tolist()
        costs: NDArray[np.float64 | np.int64] = self.flops
        if set(widths) <= set(self.levels):
            bits = np.stack([self.bits(width) for width in widths], axis=1)
            if (bits != widths).any():
                costs = self.flops[:, None] * bits
        return relative_to_whole(
            PathTree.from_levels(len(self.flops), widths, costs, classes=classes, **options)
        )

    @cached_property
    def widths(self) -> Mapping[Level, list[Shares]]:
        """Share of each block's multiplications at each number of bits, for every level."""
        image = self.format.noise(1, self.device)
        return widths_of(self.blocks, self.levels, image, self.ranges)

    def bits(self, level: int, *, power: int = 1) -> NDArray[np.float64]:
        """Return the bits of each block at a bit width, what is not quantised counted in float.

        `power`: 2 for the root of the mean square: bits of weights times those of activations.
        """
        return mean_bits(level, self.widths[level], self.flops, power=power)

    def states(self, n_rows: int) -> list[Tensor]:
        """Return random images, and what each float block makes of them, the last one's too."""
        if self.format.size is None:
            raise ValueError("The network takes images of any size: give img_size= before fit.")
        states = [self.format.noise(n_rows, self.device)]
        with torch.inference_mode():
            for block in self.blocks:
                states.append(block(states[-1]))
        return states
