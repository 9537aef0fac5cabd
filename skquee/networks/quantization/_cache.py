"""Grids found for a unit at a level, in a folder, so that an interrupted search resumes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from skquee.networks.quantization._grids import Grid
from skquee.values._atomic import whole_file
from skquee.values._checks import check_folder

__all__ = ["Found", "GridCache", "fingerprint"]

FORMAT = 1  # counted up when what a search finds changes

Found = dict[str, tuple[Grid, Grid]]
"""Grids of the two operands of each operation, by its name."""


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return a digest of named tensors: SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


class GridCache:
    """Found grids by what they depend on.

    `folder`: where the files are; made if it is not there. None keeps nothing. `method`: ``repr``
    of the quantiser. `modules`: the float network, head included: a unit's states and gradients
    depend on all of it. `images`: calibration images.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        method: str,
        modules: nn.ModuleList,
        images: Tensor,
    ) -> None:
        self.folder = None if folder is None else check_folder(folder, "cache")
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._device = images.device
        tensors = [*modules.state_dict().items(), ("images", images)]
        self._common = f"{FORMAT} {method} {fingerprint(tensors)}"

    def _file(self, unit: str, level: int) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(f"{self._common} {unit} {level}".encode()).hexdigest()
        return self.folder / f"{name}.safetensors"

    def read(self, unit: str, level: int) -> Found | None:
        """Return what was found before; None also where the file is damaged."""
        if self.folder is None:
            return None
        try:
            with safe_open(self._file(unit, level), "pt") as file:
                described = json.loads(file.metadata()["grids"])
                found: Found = {}
                for name, grids in described.items():
                    left, right = (Grid.placeholder(grid) for grid in grids)
                    for side, grid in enumerate((left, right)):
                        for key, buffer in grid.named_buffers():
                            buffer.copy_(file.get_tensor(f"{name}:{side}:{key}"))
                        grid.to(self._device)
                    found[name] = (left, right)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            return None
        return found

    def write(self, unit: str, level: int, found: Found) -> None:
        """Keep what was found; the file appears whole or not at all."""
        if self.folder is None:
            return
        described = {name: [grid.describe() for grid in grids] for name, grids in found.items()}
        tensors = {
            f"{name}:{side}:{key}": buffer.cpu().contiguous()
            for name, grids in found.items()
            for side, grid in enumerate(grids)
            for key, buffer in grid.named_buffers()
        }
        content = save(tensors, metadata={"grids": json.dumps(described)})
        with whole_file(self._file(unit, level)) as stream:
            stream.write(content)
