"""What the quantisers share: one calibration for all levels, a unit at a time."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from tqdm import tqdm

from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.quantization._cache import Found, GridCache
from skquee.networks.quantization._calibration import Observation, check_images, cut_units, walk
from skquee.networks.quantization._grids import Grid
from skquee.networks.quantization._operations import explicit_copies, quantized
from skquee.values._checks import check_flag, check_integer, check_sequence

__all__ = ["PostTrainingQuantizer"]


class PostTrainingQuantizer(ABC):
    """Find two grids for each operation from what calibration shows of it.

    A method stores its parameters and gives :meth:`grids`.

    Parameters
    ----------
    per_channel : bool, default=True
        A scale for each output channel of a weight, or one for the whole weight.
    batch_size : int, default=128
        Calibration images run at once.
    """

    random_state: int = 0
    max_rows: int | None = None
    _needs_rows = False
    _needs_head = False

    def __init__(self, per_channel: bool = True, batch_size: int = 128) -> None:
        self.per_channel = per_channel
        self.batch_size = batch_size

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"

    def _check(self) -> None:
        """Raise for the first parameter that cannot be used."""
        check_flag(self.per_channel, "per_channel")
        check_integer(self.batch_size, "batch_size", at_least=1)

    @abstractmethod
    def grids(self, observed: Observation, bits: int) -> tuple[Grid, Grid]:
        """Choose the grids of an operation.

        Parameters
        ----------
        observed : Observation
            What calibration has shown of it.
        bits : int
            Bit width.

        Returns
        -------
        left, right : Grid
            Of the input and the weight, or of the two factors.
        """

    def quantize(
        self,
        blocks: Sequence[nn.Module] | nn.ModuleList,
        images: Tensor,
        levels: Sequence[int],
        *,
        head: nn.Module | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> dict[int, nn.ModuleList]:
        """Return the blocks at each bit width; the float blocks run for all of them at once.

        Calibration goes through *units*: children of a block that is a Sequential, else whole
        blocks. Held at a time are the states of the images (where gradients are needed those
        before every unit), the operations of one unit for one batch of images, and rows of
        one unit for the search.

        Parameters
        ----------
        blocks : sequence of Module
            Float blocks, each taking what the one before gives.
        images : Tensor of shape (n, C, H, W)
            Calibration images, on the device of the blocks.
        levels : sequence of int
            Bit widths, from 2 to 31.
        head : Module, default=None
            Maps the last state to logits, for methods that weigh errors by the loss gradient.
        cache : path, default=None
            Folder in which the scales of each unit and level are kept as they are found, so
            that an interrupted call resumes and a repeated one searches nothing. A file's name
            is a digest of the method, level, unit, weights and images.

        Returns
        -------
        dict of int to ModuleList
            New modules; what is not quantised (norms, biases) is shared with `blocks`.

        Raises
        ------
        TypeError
            If a product cannot be quantised; the layer is named.
        ValueError
            If a level is no such bit width, all of several images are the same, or an
            activation or gradient is NaN or infinite; the layer is named.
        """
        self._check()
        levels = list(dict.fromkeys(check_sequence(levels, "levels", "bit widths, (4, 8)")))
        if not all(isinstance(bits, Integral) and 2 <= bits <= 31 for bits in levels):
            raise ValueError(f"levels must be whole numbers of bits from 2 to 31, got {levels}.")
        check_images(images)
        explicit = explicit_copies(blocks, images[:2])
        found = self._found(explicit, images, levels, head if self._needs_head else None, cache)
        by_level: dict[int, nn.ModuleList] = {}
        for bits in levels:
            copies = copy_sharing_weights(explicit)
            for name, grids in found[bits].items():
                copies.set_submodule(name, quantized(copies.get_submodule(name), *grids))
            by_level[bits] = copies
        return by_level

    def _found(
        self,
        explicit: nn.ModuleList,
        images: Tensor,
        levels: Sequence[int],
        head: nn.Module | None,
        cache: str | os.PathLike[str] | None,
    ) -> dict[int, Found]:
        units = cut_units(explicit)
        network = nn.ModuleList([explicit, *([] if head is None else [head])])
        kept = GridCache(cache, repr(self), network, images)
        found: dict[int, Found] = {bits: {} for bits in levels}
        missing: dict[int, list[int]] = {}
        for number, unit in enumerate(units):
            for bits in levels:
                grids = kept.read(unit.name, bits)
                if grids is None:
                    missing.setdefault(number, []).append(bits)
                else:
                    found[bits].update(grids)
        budget = None if not self._needs_rows else self.max_rows or float("inf")
        observed = walk(
            units,
            images,
            missing,
            head=head,
            random_state=self.random_state,
            batch_size=self.batch_size,
            max_rows=budget,
        )
        total = sum(map(len, missing.values()))
        with tqdm(total=total, desc="quantise", disable=None, leave=False) as progress:
            for number, operations in observed:
                for bits in missing[number]:
                    with torch.no_grad():
                        grids = {n: self.grids(o, bits) for n, o in operations.items()}
                    kept.write(units[number].name, bits, grids)
                    found[bits].update(grids)
                    progress.update()
        return found
