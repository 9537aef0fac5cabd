"""Names of before: they go on working for one release, and say what to write instead."""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

__all__ = ["old_keywords", "renamed_function", "warn_of_old"]

P = ParamSpec("P")
R = TypeVar("R")

HERE = str(Path(__file__).parents[1]) + os.sep


def warn_of_old(old: str, new: str, version: str) -> None:
    """Warn that a name is one of before, at the first line outside this package.

    `old`: what was used, with the place where it was: "`epochs` of MultiExitNetwork". `new`: what
    to write instead: "trainer=HeadTrainer(epochs=...)". `version`: the first version without the
    old name.

    >>> import warnings
    >>> from skquee.values._deprecated import warn_of_old
    >>> with warnings.catch_warnings(record=True, action="always") as heard:
    ...     warn_of_old("`costs` of path_tree()", "path_costs", "0.3")
    >>> print(heard[0].message)
    `costs` of path_tree(): use path_costs; removed in version 0.3.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{old}: use {new}; removed in version {version}.", FutureWarning, stacklevel=level
    )


def old_keywords(
    names: Mapping[str, str],
    *,
    version: str,
    convert: Callable[[dict[str, object]], Mapping[str, object]] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function or a constructor take its keywords of before, with a warning each.

    Its signature shows only the new ones, which is what scikit-learn's ``get_params`` reads.

    `names`: each old keyword and what to write instead. Without `convert` this is the keyword that
    took its place; with it, any text. `version`: the first version without the old keywords.
    `convert`: takes the old keywords given, and returns the new keywords that say the same, where
    it is more than another name. TypeError by the function, if a keyword is given by both names.

    >>> import warnings
    >>> from skquee.values._deprecated import old_keywords
    >>> @old_keywords({"costs": "path_costs"}, version="0.3")
    ... def dearest(*, path_costs):
    ...     return max(path_costs)
    >>> with warnings.catch_warnings(record=True, action="always") as heard:
    ...     dearest(costs=[1, 4])
    4
    >>> print(heard[0].message)
    `costs` of dearest(): use path_costs; removed in version 0.3.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        where = _place(function)

        @functools.wraps(function)
        def takes_old(*args: P.args, **kwargs: P.kwargs) -> R:
            given = {name: kwargs.pop(name) for name in names if name in kwargs}
            if given:
                for name in given:
                    warn_of_old(f"`{name}` of {where}", names[name], version)
                new = convert(given) if convert else {names[k]: v for k, v in given.items()}
                both = sorted(set(new) & set(kwargs))
                if both:
                    raise TypeError(
                        f"{where} got {both} and {sorted(given)}, its name of before: give one."
                    )
                kwargs.update(new)
            return function(*args, **kwargs)

        return takes_old

    return decorate


def renamed_function(
    function: Callable[P, R], old: str, *, version: str, new: str | None = None
) -> Callable[P, R]:
    """Return a function under its name of before, which warns and does the same.

    `function`: the one that took its place. `version`: the first version without it. `new`: what to
    write instead. Default: the function's name.

    >>> import warnings
    >>> from skquee.values._deprecated import renamed_function
    >>> largest = renamed_function(max, "largest", version="0.3")
    >>> with warnings.catch_warnings(record=True, action="always") as heard:
    ...     largest([1, 4])
    4
    >>> print(heard[0].message)
    largest(): use max(); removed in version 0.3.
    """
    instead = new or _place(function)

    @functools.wraps(function)
    def of_before(*args: P.args, **kwargs: P.kwargs) -> R:
        warn_of_old(f"{old}()", instead, version)
        return function(*args, **kwargs)

    of_before.__name__ = old
    of_before.__qualname__ = old
    of_before.__doc__ = f"Do as :func:`{instead.removesuffix('()')}`; removed in {version}."
    return of_before


def _place(function: Callable[..., object]) -> str:
    """Return what a reader calls a function: the class, where it is a constructor."""
    name = function.__qualname__.rpartition("<locals>.")[2]
    owner, _, last = name.rpartition(".")
    return owner if last == "__init__" else f"{name}()"
