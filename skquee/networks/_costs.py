"""What running a block costs: FLOPs, and BitOPS of a path (equation 17)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_flops"]


def count_flops(blocks: Iterable[nn.Module], image: Tensor) -> NDArray[np.int64]:
    """Count the floating-point operations of each block on one image.

    Matrix products and convolutions count, over every token, both attention products
    included; a multiplication and an addition are two operations. With these as
    ``block_costs``, :meth:`PathTree.from_levels` gives the costs of equation 17: FLOPs
    times bits, summed over the blocks run, over the whole network at the most bits.

    Parameters
    ----------
    blocks : iterable of Module
        Each takes what the one before gives.
    image : Tensor of shape (1, C, H, W)
        Any image.

    Returns
    -------
    ndarray of shape (n_blocks,)
        FLOPs for one image.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks._costs import count_flops
    >>> count_flops([torch.nn.Linear(4, 3)], torch.zeros(1, 7, 4))  # 2 x 7 tokens x 4 x 3
    array([168])
    """
    flops = []
    state = image
    # Fused attention hides its products from the counter on CPU; the plain form shows them.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        for block in blocks:
            with FlopCounterMode(display=False) as counter:
                state = block(state)
            flops.append(counter.get_total_flops())
    return np.array(flops)
