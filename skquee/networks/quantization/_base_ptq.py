"""The baseline of PTQ4ViT: uniform scales searched by the cosine of outputs."""

from __future__ import annotations

from skquee.networks.quantization._search import cosine_errors
from skquee.networks.quantization._searched import SearchedPTQ

__all__ = ["BasePTQ"]


class BasePTQ(SearchedPTQ):
    """Quantise on uniform symmetric grids whose scales keep outputs in line with the float ones.

    For each operation, scales from 0.5 to 1.2 times that of the largest value are tried for
    the weight, then for the input, and those with the largest cosine between the operation's
    quantised and float output are kept: the baseline of [1]_. The cosine is taken along a
    row's output channels for activations, along rows for the scale of a weight's channel.

    Parameters
    ----------
    per_channel : bool, default=True
        A scale for each output channel of a weight, or one for the whole weight. Inputs of a
        layer have one scale; factors of an attention product one a head.
    rounds : int, default=1
        How often the two scales are searched in turn, at most.
    n_candidates : int, default=100
        Scales to choose from.
    stride : int, default=20
        The first search tries every `stride`-th candidate, then those about the best; later
        rounds look about the last choice. 1 tries all candidates in all rounds.
    max_rows : int or None, default=2048
        Rows (tokens, positions) of an operation the search reads; None for all.
    batch_size : int, default=16
        Calibration images run at once.
    random_state : int, default=0
        Seed of the choice of rows.

    References
    ----------
    .. [1] Yuan et al. "PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin
       Uniform Quantization." ECCV 2022.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.quantization import BasePTQ
    >>> blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 3))])
    >>> quantized = BasePTQ().quantize(blocks, torch.eye(4), levels=(4, 8))
    >>> quantized[4][0][0].weight_scale.shape
    torch.Size([3])
    """

    _part = (0.5, 1.2)
    _errors = staticmethod(cosine_errors)
