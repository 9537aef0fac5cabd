"""Quantised blocks from a description and their buffers, without quantising again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from skquee.networks.quantization._grids import Grid
from skquee.networks.quantization._operations import (
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedMatMul,
    explicit_copies,
    explicit_copy,
    quantized,
)
from skquee.values._types import Json

__all__ = ["describe", "float_copies", "needs_images", "restore"]


def describe(blocks: nn.ModuleList) -> list[Json]:
    """Say which operations of quantised blocks are on which grids.

    `blocks`: one level of a quantiser's ``quantize``. Returns an entry an operation, as JSON holds
    it: its dotted name from the list of blocks, and its kind and grids.

    >>> import torch
    >>> from skquee.networks.quantization import UniformPTQ, describe
    >>> blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 3))])
    >>> quantized = UniformPTQ().quantize(blocks, torch.eye(4), levels=[8])[8]
    >>> describe(quantized)[0]["name"], describe(quantized)[0]["kind"]
    ('0.0', 'QuantizedLinear')
    """
    described = []
    for name, module in blocks.named_modules():
        if isinstance(module, QuantizedMatMul):
            grids = [module.left.describe(), module.right.describe()]
        elif isinstance(module, (QuantizedLinear, QuantizedConv2d)):
            n_scales, n_axes = module.weight_scale.numel(), module.codes.ndim
            shape = [n_scales, *[1] * (n_axes - 1)] if n_scales > 1 else []
            weight = {"kind": "UniformGrid", "bits": module.bits, "signed": True}
            grids = [module.input_grid.describe(), {**weight, "shapes": {"scale": shape}}]
        else:
            continue
        described.append({"name": name, "kind": type(module).__name__, "grids": grids})
    return described


def needs_images(description: Iterable[Json]) -> bool:
    """Tell whether products of a module's own code were quantised, as :func:`describe` says."""
    return any(".own_products." in entry["name"] for entry in description)


def restore(
    blocks: Iterable[nn.Module], description: Sequence[Json], images: Tensor | None = None
) -> nn.ModuleList:
    """Build quantised blocks over float ones, for ``load_state_dict`` to fill.

    `blocks`: the float blocks the quantised ones were made of. `description`: of :func:`describe`.
    `images` (n, C, H, W): some images of the size that calibration had, needed where products of a
    module's own code were quantised (``"0.attn.own_products.1"``): they run once, to find them.
    Returns what stays float is shared with `blocks`; codes and scales hold nothing yet. Raises
    ValueError if an operation described is not in the blocks, or of another kind.

    >>> import torch
    >>> from skquee.networks.quantization import UniformPTQ, describe, restore
    >>> blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 3))])
    >>> quantized = UniformPTQ().quantize(blocks, torch.eye(4), levels=[8])[8]
    >>> restored = restore(blocks, describe(quantized))
    >>> restored.load_state_dict(quantized.state_dict())
    <All keys matched successfully>
    >>> torch.equal(restored[0](torch.eye(4)), quantized[0](torch.eye(4)))
    True
    """
    blocks = list(blocks)
    if needs_images(description):
        if images is None:
            raise ValueError(
                "The description names products of a module's own code: give images=, some of "
                "the size that calibration had, to find them."
            )
        restored = explicit_copies(blocks, images)
    else:
        restored = nn.ModuleList(explicit_copy(block) for block in blocks)
    device = next((p.device for block in blocks for p in block.parameters()), torch.device("cpu"))
    for entry in description:
        name = entry["name"]
        try:
            operation = restored.get_submodule(name)
        except AttributeError:
            raise ValueError(f"The blocks have no operation {name!r}.") from None
        with torch.device(device):
            left, right = (Grid.placeholder(grid) for grid in entry["grids"])
        placed = quantized(operation, left, right)
        if type(placed).__name__ != entry["kind"]:
            raise ValueError(
                f"Operation {name!r} is a {type(operation).__name__}, described as "
                f"{entry['kind']}. Restore over the blocks that were quantised."
            )
        restored.set_submodule(name, placed)
    return restored


def float_copies(blocks: nn.Module, keep: bool) -> None:
    """Keep float copies of weight codes in quantised blocks, or drop them.

    With them a call casts no codes, for four bytes more a weight; they are never saved.
    """
    for module in blocks.modules():
        if isinstance(module, (QuantizedLinear, QuantizedConv2d)):
            module.keep_float(keep)
