"""What running a block costs: FLOPs, and BitOPS of a path (equation 17)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["bit_operations", "count_flops", "gate_flops"]

FLOAT_BITS = 32


def count_flops(blocks: Iterable[nn.Module], image: Tensor) -> NDArray[np.int64]:
    """Count the floating-point operations of each block on one image.

    Matrix products and convolutions count, over every token, both attention products
    included; a multiplication and an addition are two operations. What torch fuses on this
    machine does not matter: fused attention, transformer layers and recurrent layers count by
    the products that they stand for. With these as ``block_costs``,
    :meth:`PathTree.from_levels` gives the costs of equation 17: FLOPs times bits, summed over
    the blocks run, over the whole network at the most bits.

    `blocks`: each takes what the one before gives. `image` (1, C, H, W): any image. Returns
    (n_blocks,): FLOPs for one image.

    >>> import torch
    >>> from skquee.networks._costs import count_flops
    >>> count_flops([torch.nn.Linear(4, 3)], torch.zeros(1, 7, 4))  # 2 x 7 tokens x 4 x 3
    array([168])
    """
    flops = []
    state = image
    with torch.inference_mode(), _plain_products():
        for block in blocks:
            with FlopCounterMode(display=False, custom_mapping=_VECTORS) as counter:
                state = block(state)
            flops.append(counter.get_total_flops())
    return np.array(flops)


def _matrix_by_vector(matrix: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(matrix)


def _add_matrix_by_vector(_: object, matrix: Sequence[int], *__: object, **___: object) -> int:
    return 2 * math.prod(matrix)


# Products with vectors, which torch's counter leaves out.
_VECTORS = {
    torch.ops.aten.mv: _matrix_by_vector,
    torch.ops.aten.dot: _matrix_by_vector,
    torch.ops.aten.addmv: _add_matrix_by_vector,
}


@contextmanager
def _plain_products() -> Iterator[None]:
    """Have torch write out what it fuses: a fused operation hides its products from a counter.

    Attention on a CPU, transformer layers and multi-head attention without gradients, and
    recurrent layers of oneDNN and cuDNN.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.mkldnn.flags(enabled=False, allow_tf32=None),
        torch.backends.cudnn.flags(enabled=False),
    ):
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


def bit_operations(
    paths: Sequence[Sequence[float]],
    flops: ArrayLike,
    *,
    product: bool = False,
    head_flops: ArrayLike | None = None,
    gate: float = 0.0,
) -> NDArray[np.float64]:
    """Return the bit operations of paths: the numerator of equation 17, and its variants.

    `paths`: bit width of each block run, e.g. ``(8, 8, 6)``. `flops` (n_exits,): of each block.
    `product`: count weight bits times activation bits, the usual BitOPS, in place of bits once, as
    the paper does. `head_flops` (n_exits,): of each head; every exit a path passes counts, in
    float. Default: none, "negligible". `gate`: operations of one gate; each exit passed but the
    network's last has one, in float. Returns (n_paths,).

    >>> from skquee.networks._costs import bit_operations
    >>> bit_operations([(8,), (8, 4)], flops=[100, 50])
    array([ 800., 1000.])
    >>> bit_operations([(8,), (8, 4)], flops=[100, 50], product=True)
    array([6400., 7200.])
    """
    blocks = np.asarray(flops, dtype=np.float64)
    heads = np.zeros(len(blocks)) if head_flops is None else np.asarray(head_flops, dtype=float)
    extra = heads + gate * (np.arange(len(blocks)) < len(blocks) - 1)
    power = 2 if product else 1
    return np.array(
        [
            blocks[: len(path)] @ np.asarray(path, dtype=np.float64) ** power
            + extra[: len(path)].sum() * FLOAT_BITS**power
            for path in paths
        ]
    )


def gate_flops(
    n_classes: int, n_exits: int, n_paths: int, *, embedding_size: int = 8, hidden_size: int = 16
) -> int:
    """Count the operations of one gate (equation 15) on one sample.

    The first layer's part that reads the sample is computed once for all candidate paths.

    `n_classes`, `n_exits`: sizes of what it reads: ``2 * n_classes + 4`` numbers of the sample and
    ``n_exits + 1`` of a path. `n_paths`: candidate paths. `embedding_size`, `hidden_size`: of the
    gate. Returns FLOPs.

    >>> from skquee.networks._costs import gate_flops
    >>> gate_flops(n_classes=10, n_exits=3, n_paths=15)
    5664
    """
    sample = (2 * n_classes + 4) * embedding_size
    path = (n_exits + 1) * embedding_size + embedding_size * hidden_size + hidden_size
    return 2 * (sample + n_paths * path)
