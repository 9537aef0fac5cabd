"""PTQ4ViT: twin uniform grids, scales searched by the loss gradient."""

from __future__ import annotations

from torch import nn

from skquee.networks.quantization._base_ptq import BasePTQ
from skquee.networks.quantization._calibration import Observation
from skquee.networks.quantization._search import (
    Candidates,
    gelu_candidates,
    softmax_candidates,
    squared_errors,
    uniform_candidates,
)

__all__ = ["PTQ4ViT"]


class PTQ4ViT(BasePTQ):
    """Quantise on grids made for what transformers compute, with scales that spare the loss.

    For each operation the two scales are searched in turn so as to minimise
    ``sum((dL/dO)**2 * (quantised O - O)**2)`` over its output `O`, all else in float [1]_.
    The loss `L` is the cross-entropy of the float network at labels drawn from its own
    probabilities, so that the weights are the diagonal of the Fisher information; without a
    `head` in :meth:`quantize`, and where all gradients vanish, errors count alike.

    What an operand is is read from the calibration images:

    - the left factor of an attention product that is never negative, rows summing to 1 at most
      and some to 1, is what a softmax gives, and gets a twin grid of small values and large;
    - an input of a layer with a minimum from -0.17125 to 0 and a maximum above 0.17 is what
      GELU gives, and gets a twin grid of negative values and positive;
    - any other activation that is never negative gets a uniform grid from 0 up (not in the
      paper, whose networks have none);
    - all else, weights too, gets a uniform symmetric grid.

    Parameters
    ----------
    per_channel : bool, default=True
        A scale for each output channel of a weight, or one for the whole weight. Inputs of a
        layer have one scale; factors of an attention product one a head.
    rounds : int, default=3
        How often the two scales are searched in turn, at most.
    n_candidates : int, default=100
        Scales to choose from, from 0.01 to 1.2 times that of the largest value.
    stride : int, default=20
        The first search tries every `stride`-th candidate, then those about the best; later
        rounds look about the last choice. 1 tries all candidates in all rounds.
    max_rows : int or None, default=2048
        Rows (tokens, positions) of an operation the search reads, drawn by their gradient and
        weighed so that sums are unbiased; None for all.
    batch_size : int, default=16
        Calibration images run at once.
    random_state : int, default=0
        Seed of the labels and of the choice of rows.

    References
    ----------
    .. [1] Yuan et al. "PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin
       Uniform Quantization." ECCV 2022.

    Examples
    --------
    >>> import torch
    >>> from skquee.networks.quantization import PTQ4ViT
    >>> layers = torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)
    >>> images = torch.linspace(-2, 2, 40).reshape(10, 4)
    >>> quantized = PTQ4ViT().quantize([torch.nn.Sequential(*layers)], images, levels=(6,))
    >>> quantized[6][0](images).shape
    torch.Size([10, 3])
    """

    _part = (0.01, 1.2)
    _errors = staticmethod(squared_errors)
    _needs_head = True

    def __init__(
        self,
        per_channel: bool = True,
        rounds: int = 3,
        n_candidates: int = 100,
        stride: int = 20,
        max_rows: int | None = 2048,
        batch_size: int = 16,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            per_channel, rounds, n_candidates, stride, max_rows, batch_size, random_state
        )

    def _left(self, observed: Observation, bits: int) -> Candidates:
        low, high = observed.low[0], observed.high[0]
        if observed.is_softmax:
            return softmax_candidates(low.view(-1, 1), bits)
        layer = isinstance(observed.operation, (nn.Linear, nn.Conv2d))
        if layer and -0.17125 <= float(low) < 0 and float(high) > 0.17:
            return gelu_candidates(high.view(1, 1), bits, self._part, self.n_candidates)
        return self._factor(observed, 0, bits)

    def _factor(self, observed: Observation, side: int, bits: int) -> Candidates:
        if bool((observed.low[side] >= 0).all()):
            largest = observed.high[side].view(-1, 1)
            return uniform_candidates(largest, bits, self._part, self.n_candidates, signed=False)
        return super()._factor(observed, side, bits)
