"""What blocks have in common that are compiled with the exit after them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["WithExit"]


class WithExit(nn.Module, ABC):
    """A block that can answer, too.

    What is compiled can be neither copied nor pickled: it is made anew where it is needed.
    """

    _compiled: ClassVar[tuple[str, ...]]  # attributes that hold it

    @abstractmethod
    def _reset(self) -> None:
        """Hold nothing compiled."""

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key not in self._compiled}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    @abstractmethod
    def exit_head(self) -> nn.Module | None:
        """The head that is compiled with the block; None where there is none."""

    @abstractmethod
    def run(self, state: Tensor) -> list[Tensor]:
        """Return state (n, ...), and probabilities (n, n_classes) where an ``exit_head`` is."""

    def forward(self, state: Tensor) -> Tensor:
        """Return what the block makes of a state (n, ...)."""
        return self.run(state)[0]
