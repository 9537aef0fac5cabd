"""Running a network a block at a time: what a bank asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skquee.networks._execution import run_in_parts
from skquee.networks._images import ImageFormat, ImageRows

__all__ = ["BlockRunner"]


class BlockRunner:
    """What a bank asks of a network, for one that has blocks at each level and heads."""

    levels_: tuple[int, ...]
    _levels: Mapping[int, nn.ModuleList]
    _pools: nn.ModuleList
    _heads: nn.ModuleList
    _format: ImageFormat
    _device: torch.device

    def rows(self, X: Any) -> ImageRows:
        """Return images as rows a bank can pick from; nothing is read or run.

        Parameters
        ----------
        X : images
            As in ``fit``.

        Returns
        -------
        ImageRows
        """
        check_is_fitted(self)
        return self._format.rows(X)

    def start(self, X: Any) -> Tensor:
        """Return images as the first block takes them.

        Parameters
        ----------
        X : images
            As in ``fit``.

        Returns
        -------
        Tensor of shape (n, C, H, W)
        """
        check_is_fitted(self)
        return self._format.rows(X).tensor().to(self._device)

    def run_block(self, state: Tensor, block: int, level: int) -> Tensor:
        """Run one block at a bit width.

        Parameters
        ----------
        state : Tensor
            Of ``start``, or of the block before.
        block : int
            Its number, from 0.
        level : int
            One of ``levels_``.

        Returns
        -------
        Tensor of shape (n, ...)
            For a transformer (n, n_tokens, embed_dim).

        Raises
        ------
        MemoryError
            If a GPU's memory does not hold one image. (Where it does not hold all, parts
            of them are run one after the other.)
        """
        check_is_fitted(self)
        if level not in self._levels:
            raise ValueError(f"There is no level {level}; quantize made {self.levels_}.")
        return _run(self._levels[level][block], state)

    def head(self, state: Tensor, block: int, level: int) -> NDArray[np.float32]:
        """Return the probabilities of the exit after a block.

        Parameters
        ----------
        state : Tensor of shape (n, ...)
            Output of the block.
        block : int
            Its number, from 0.
        level : int
            The level it ran at; heads run in float whatever it is.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        check_is_fitted(self)
        pool, head = self._pools[block], self._heads[block]
        return _run(lambda rows: head(pool(rows)).softmax(dim=1), state).cpu().numpy()

    def take(self, state: Tensor, rows: NDArray[np.intp]) -> Tensor:
        """Return some rows of a state.

        Parameters
        ----------
        state : Tensor
            Of any block.
        rows : ndarray of int
            Rows.

        Returns
        -------
        Tensor
        """
        return state[torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(state.device)]

    def concat(self, states: Sequence[Tensor]) -> Tensor:
        """Join the rows of states of one block.

        Parameters
        ----------
        states : sequence of Tensor
            The states.

        Returns
        -------
        Tensor
        """
        return torch.cat(list(states))


def _run(function: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    with torch.inference_mode():
        return run_in_parts(function, state)
