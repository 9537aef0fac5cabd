"""Running a network a block at a time: what a bank asks of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skquee.networks._execution import run_in_parts
from skquee.networks._images import ImageRows
from skquee.networks._parts import Parts
from skquee.networks._training import cache_features, check_head
from skquee.networks.backbones._types import Level
from skquee.networks.engines import LatencyTable
from skquee.networks.engines._with_exit import WithExit
from skquee.values import PathTree
from skquee.values._checks import check_integer, check_sequence
from skquee.values._types import Labels, Rows

__all__ = ["BlockRunner", "run_with_exit"]

T = TypeVar("T")


class BlockRunner:
    """What a bank asks of a network, for one that has blocks at each level and heads."""

    parts_: Parts

    @property
    def paths_(self) -> PathTree:
        """Every path, with its cost and the classes."""
        return self.parts_.paths

    @property
    def levels_(self) -> tuple[Level, ...]:
        """Bit widths, lowest first; after ``compile`` engines, cheapest first."""
        return tuple(self.parts_.levels)

    @property
    def classes_(self) -> Labels:
        """Labels, in the order of the probabilities."""
        return self.parts_.classes

    @property
    def exits_(self) -> tuple[Level, ...]:
        """Layers or names after which the blocks end."""
        return self.parts_.exits

    @property
    def flops_(self) -> NDArray[np.int64]:
        """Floating-point operations of each block for one image."""
        return self.parts_.flops

    @property
    def head_flops_(self) -> NDArray[np.int64]:
        """Floating-point operations of what answers after each block."""
        return self.parts_.head_flops

    @property
    def validation_accuracy_(self) -> NDArray[np.float64]:
        """Accuracy of each float exit on the validation rows of ``fit``."""
        return _measured(self.parts_.validation_accuracy, "validation_accuracy_", "fit")

    @property
    def level_accuracy_(self) -> Mapping[int, float]:
        """Accuracy of the last exit with every block at one level."""
        return _measured(self.parts_.level_accuracy, "level_accuracy_", "select_levels")

    @property
    def path_accuracy_(self) -> NDArray[np.float64]:
        """Accuracy of every path."""
        return _measured(self.parts_.path_accuracy, "path_accuracy_", "evaluate")

    @property
    def latency_(self) -> LatencyTable:
        """Milliseconds of blocks and gates."""
        return _measured(self.parts_.latency, "latency_", "measure_costs")

    @property
    def runtimes_(self) -> Mapping[str, tuple[str, ...]]:
        """What runs each block at each level, once compiled."""
        return _measured(self.parts_.runtimes or None, "runtimes_", "compile")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "parts_")

    def _with(self, parts: Parts) -> Self:
        """Return a copy of this network with other parts."""
        other = copy.copy(self)
        other.parts_ = parts
        return other

    def with_paths(self, paths: PathTree, *, heads: nn.ModuleList | None = None) -> Self:
        """Return this network with other paths, and other heads where given.

        Blocks are shared, not copied.

        Parameters
        ----------
        paths : PathTree
            Paths over the levels of this network.
        heads : ModuleList, default=None
            A head for each exit, of features to logits. Default: its own.

        Returns
        -------
        network
            A bank of it offers these paths.

        Raises
        ------
        ValueError
            If a path takes a level or a block that the network does not have.

        Examples
        --------
        The whole network at 4 and at 8 bits, which no path of its own tree need be:
        ``network.with_paths(PathTree.from_paths([(4,), (4, 4), (8,), (8, 8)], costs))``.
        """
        check_is_fitted(self)
        if not isinstance(paths, PathTree):
            raise TypeError(f"paths must be a PathTree, got a {type(paths).__name__}.")
        missing = sorted(set(paths.levels) - set(self.levels_), key=str)
        if missing:
            raise ValueError(f"paths take the levels {missing}; quantize made {self.levels_}.")
        if paths.n_exits > len(self.parts_.pools):
            raise ValueError(
                f"paths run up to {paths.n_exits} blocks, the network has {len(self.parts_.pools)}."
            )
        if heads is not None:
            self._check_heads(heads)
        parts = self.parts_ if heads is None else replace(self.parts_, heads=heads)
        own = paths.with_classes(self.classes_.tolist())
        return self._with(replace(parts, paths=own, path_accuracy=None, validation_accuracy=None))

    def with_latency(self, latency: LatencyTable) -> Self:
        """Return this network with other times, which ``path_costs(kind="latency")`` goes by.

        Parameters
        ----------
        latency : LatencyTable
            Of its levels, e.g. one that was calibrated.

        Returns
        -------
        network
            Blocks are shared, not copied.

        Raises
        ------
        ValueError
            If the table holds other levels or another number of blocks.
        """
        check_is_fitted(self)
        levels = tuple(map(str, self.levels_))
        if tuple(latency.levels) != levels or len(latency.blocks) != len(self.flops_):
            raise ValueError(
                f"latency holds {len(latency.blocks)} blocks at {latency.levels}; this network "
                f"has {len(self.flops_)} at {levels}: measure_costs makes its table."
            )
        return self._with(replace(self.parts_, latency=latency))

    def _check_heads(self, heads: Sequence[nn.Module] | nn.ModuleList) -> None:
        if not isinstance(heads, (nn.ModuleList, list, tuple)):
            raise TypeError(f"heads must be a ModuleList, got a {type(heads).__name__}.")
        if len(heads) != len(self.parts_.pools):
            raise ValueError(
                f"heads must be {len(self.parts_.pools)}, one an exit, got {len(heads)}."
            )
        for head, width in zip(heads, self.parts_.head_widths, strict=True):
            check_head(head, width, len(self.classes_))

    def rows(self, X: Rows) -> ImageRows:
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
        return self.parts_.format.rows(X)

    def start(self, X: Rows) -> Tensor:
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
        return self.parts_.format.rows(X).tensor().to(self.parts_.device)

    def run_block(self, state: Tensor, block: int, level: Hashable) -> Tensor:
        """Run one block at a level.

        Parameters
        ----------
        state : Tensor
            Of ``start``, or of the block before.
        block : int
            Its number, from 0.
        level : int or str
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
        run = self._at(block, level)
        with _explained(state, block, level):
            if self.parts_.group is None or len(state) <= self.parts_.group:
                return _run(run, state)
            return torch.cat([_run(run, part) for part in state.split(self.parts_.group)])

    def run_exit(
        self, state: Tensor, block: int, level: Hashable
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Run one block at a level, and the exit after it.

        Parameters
        ----------
        state : Tensor
            Of ``start``, or of the block before.
        block : int
            Its number, from 0.
        level : int or str
            One of ``levels_``.

        Returns
        -------
        state : Tensor of shape (n, ...)
            As of :meth:`run_block`.
        probabilities : ndarray of shape (n, n_classes), float32
            As of :meth:`head`.
        """
        run = self._at(block, level)
        # Some engines compile the exit with the block; other heads may have come since.
        if isinstance(run, WithExit) and run.exit_head is self.parts_.heads[block]:
            # Where a GPU's memory does not do for both at once, they run one after the other.
            with suppress(torch.OutOfMemoryError):
                return run_with_exit(run, state, self.parts_.group)
        state = self.run_block(state, block, level)
        return state, self.head(state, block, level)

    def _at(self, block: int, level: Hashable) -> nn.Module:
        if not hasattr(self, "parts_"):  # the check is dear beside a small block
            check_is_fitted(self)
        if not isinstance(level, (int, str)) or level not in self.parts_.levels:
            raise ValueError(f"There is no level {level!r}; quantize made {self.levels_}.")
        blocks = self.parts_.levels[level]
        if type(block) is not int or not 0 <= block < len(blocks):
            block = check_integer(block, "block", at_least=0, at_most=len(blocks) - 1)
        return blocks[block]

    def head(self, state: Tensor, block: int, level: Hashable) -> NDArray[np.float32]:
        """Return the probabilities of the exit after a block.

        Parameters
        ----------
        state : Tensor of shape (n, ...)
            Output of the block.
        block : int
            Its number, from 0.
        level : int or str
            The level it ran at; heads run in float whatever it is.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        check_is_fitted(self)
        block = check_integer(block, "block", at_least=0, at_most=len(self.parts_.pools) - 1)
        pool, head = self.parts_.pools[block], self.parts_.heads[block]
        with _explained(state, block, level, after=True):
            answers = _run(lambda rows: head(pool(rows.float())).softmax(dim=1), state)
        return answers.cpu().numpy()

    @property
    def exit_heads(self) -> nn.ModuleList:
        """Head of each exit, of features to logits; :meth:`features` makes their input."""
        check_is_fitted(self)
        return self.parts_.heads

    @property
    def exit_pools(self) -> nn.ModuleList:
        """What makes the features of each exit's head from the state after its block."""
        check_is_fitted(self)
        return self.parts_.pools

    def features(
        self, X: Rows, levels: Sequence[Hashable], *, batch_size: int = 128
    ) -> list[Tensor]:
        """Run images along one path and return what the head of each exit reads.

        Parameters
        ----------
        X : images
            As in ``fit``.
        levels : sequence of int
            Level of each block, e.g. ``(8, 8, 6)``.
        batch_size : int, default=128
            Images run at once.

        Returns
        -------
        list of Tensor of shape (n, n_features)
            One an exit, on the network's device; 4 bytes a feature.
        """
        check_is_fitted(self)
        path = check_sequence(levels, "levels", "levels, one a block, (8, 8)")
        if not 1 <= len(path) <= len(self.parts_.pools):
            raise ValueError(
                f"levels must be 1 to {len(self.parts_.pools)}, one for each block that is run, "
                f"got {len(path)}."
            )
        check_integer(batch_size, "batch_size", at_least=1)
        blocks = nn.ModuleList(self._at(block, level) for block, level in enumerate(path))
        return cache_features(
            blocks,
            nn.ModuleList(self.parts_.pools[: len(blocks)]),
            self.parts_.format.rows(X),
            batch_size=batch_size,
            device=self.parts_.device,
        )

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
        picked = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        return state.index_select(0, picked.to(state.device))

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


@contextmanager
def _explained(
    state: object, block: int, level: Hashable, *, after: bool = False
) -> Iterator[None]:
    """Say which block or exit was given a state that it does not take."""
    if not isinstance(state, Tensor):
        raise TypeError(f"{_taken(block, after)}, a tensor, got a {type(state).__name__}.")
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{_taken(block, after)}; at level {level!r} it does not run on {tuple(state.shape)} "
            f"of {state.dtype}: {error}"
        ) from error


def _taken(block: int, after: bool) -> str:
    made = block if after else block - 1
    what = "start" if made < 0 else f"run_block(state, {made}, level)"
    return f"{'The exit after block' if after else 'Block'} {block} takes what {what} returned"


def _measured(found: T | None, name: str, method: str) -> T:
    if found is None:
        raise AttributeError(f"{name} is there once {method} was called.")
    return found


def run_with_exit(
    block: WithExit, state: Tensor, group: int | None
) -> tuple[Tensor, NDArray[np.float32]]:
    """Run a block that has the exit after it compiled in, on so many rows together at most.

    Returns its state (n, ...) and probabilities (n, n_classes).
    """
    with torch.inference_mode():
        if group is None or len(state) <= group:
            made = block.run(state)
        else:
            parts = [block.run(part) for part in state.split(group)]
            made = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        return made[0], made[1].cpu().numpy()


def _run(function: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    with torch.inference_mode():
        return run_in_parts(function, state)
