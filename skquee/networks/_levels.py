"""Which levels a network keeps, and how accurate each path is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from skquee.networks._execution import run_in_parts
from skquee.networks._images import ImageRows
from skquee.networks._parts import FLOAT
from skquee.networks._running import BlockRunner
from skquee.networks.backbones._types import Level
from skquee.values import PathTree

__all__ = ["Quantizer", "accuracy_of_levels", "accuracy_of_paths", "keep_levels"]


class Quantizer(Protocol):
    """What :meth:`MultiExitNetwork.quantize` needs of a method."""

    def quantize(
        self,
        blocks: nn.ModuleList,
        images: Tensor,
        levels: Sequence[int],
        *,
        head: nn.Module | None,
        cache: str | os.PathLike[str] | None,
    ) -> dict[int, nn.ModuleList]:
        """Return the blocks at each bit width, sharing what stays float."""


def accuracy_of_paths(
    network: BlockRunner,
    tree: PathTree,
    rows: ImageRows,
    codes: NDArray[np.int64],
    levels: Mapping[Level, nn.ModuleList],
    batch_size: int,
) -> NDArray[np.float64]:
    """Return the share of right answers of each path: each (prefix, level) runs once an image.

    `codes` (n,): index of the right class of each row. `levels`: blocks at each.
    """
    right = np.zeros(tree.n_paths)
    done = 0
    with tqdm(total=len(rows), desc="accuracy", unit="image", disable=None, leave=False) as bar:
        for batch in rows.batches(batch_size):
            expected = codes[done : done + len(batch)]

            def step(state: Tensor, path: int, expected: NDArray[np.int64] = expected) -> Tensor:
                block, level = int(tree.depths[path]) - 1, tree.levels[path]
                assert isinstance(level, (int, str))
                with torch.inference_mode():
                    after = run_in_parts(levels[level][block], state)
                answers = network.head(after, block, level).argmax(axis=1)
                right[path] += (answers == expected).sum()
                return after

            tree.fold(network.start(batch), step)
            done += len(batch)
            bar.update(len(batch))
    return right / len(codes)


def accuracy_of_levels(
    network: BlockRunner, rows: ImageRows, codes: NDArray[np.int64], batch_size: int
) -> dict[int, float]:
    """Return the accuracy of the last exit with every block at one bit width, float among them."""
    parts = network.parts_
    n_blocks = len(parts.blocks)
    runs = {**parts.levels, FLOAT: parts.blocks}
    widths = sorted(level for level in runs if isinstance(level, int))
    uniform = {level: (level,) * n_blocks for level in widths}
    tree = PathTree.from_paths(
        [path[: d + 1] for path in uniform.values() for d in range(n_blocks)],
        np.ones(len(uniform) * n_blocks),
    )
    accuracy = accuracy_of_paths(network, tree, rows, codes, runs, batch_size)
    return {
        level: float(accuracy[tree.index("-".join(map(str, path)))])
        for level, path in uniform.items()
    }


def keep_levels(
    accuracy: Mapping[int, float], levels: Sequence[int], max_drop: float, max_top_drop: float
) -> list[int]:
    """Apply the paper's rule for which bit widths to keep (section 5.1).

    `accuracy`: of the last exit, all blocks at one level; 32 is float. `levels`: those there are.
    `max_drop`, `max_top_drop`: largest loss of the lowest and of the highest level kept. Returns
    lowest first. Raises ValueError if none is left.

    >>> from skquee.networks._levels import keep_levels
    >>> found = {4: 0.60, 5: 0.86, 6: 0.89, 7: 0.90, 8: 0.90, 32: 0.90}
    >>> keep_levels(found, (4, 5, 6, 7, 8), max_drop=0.05, max_top_drop=0.005)
    [5, 6, 7]
    """
    # Counts of images differ by whole numbers: forgive the rounding of their shares.
    drop = {level: accuracy[FLOAT] - accuracy[level] - 1e-9 for level in levels}
    if drop[max(levels)] > max_drop:
        shown = ", ".join(f"{level}: {accuracy[level]:.2%}" for level in sorted(accuracy))
        raise ValueError(
            f"Every level loses more than max_drop={max_drop:g} of the float network's accuracy "
            f"({shown}). Quantise at more bits, with another method, or raise max_drop."
        )
    top = min((level for level in levels if drop[level] <= max_top_drop), default=max(levels))
    return sorted(level for level in levels if level <= top and drop[level] <= max_drop)
