"""Looking on while torch runs: at calls of its functions, and at modules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

__all__ = ["Args", "Calls", "Function", "Kwargs", "hooked"]

#: A function of torch, and what it is called with: each takes what it takes.
Function: TypeAlias = Callable[..., Any]
Args: TypeAlias = Sequence[Any]
Kwargs: TypeAlias = Mapping[str, Any]


class Calls(TorchFunctionMode):
    """Has each call of a function of torch pass through :meth:`called` while it is entered."""

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        return self.called(func, args, kwargs or {})

    @abstractmethod
    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        """Return what the call is to return, ``func(*args, **kwargs)`` if nothing is changed."""


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Take hooks off modules afterwards, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
