"""What a tree of paths can be asked: depths, prefixes, children, codes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skquee.values._checks import check_integer
from skquee.values._fields import Level, Steps, frozen

__all__ = ["TreeShape"]


class TreeShape:
    """Answers questions about the fields of a :class:`skquee.PathTree`, each worked out once."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    levels: tuple[Level, ...]
    costs: tuple[float, ...]
    columns: tuple[int, ...] | None

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return len(self.names)

    @cached_property
    def n_columns(self) -> int:
        """Number of distinct classifiers."""
        return int(self.path_columns.max()) + 1

    @cached_property
    def n_exits(self) -> int:
        """Depth of the longest path."""
        return int(self.depths.max())

    @cached_property
    def path_costs(self) -> NDArray[np.float64]:
        """Costs as an array."""
        return frozen(np.array(self.costs, dtype=np.float64))

    @cached_property
    def path_columns(self) -> NDArray[np.intp]:
        """Columns as an array."""
        assert self.columns is not None
        return frozen(np.array(self.columns, dtype=np.intp))

    @cached_property
    def path_calls(self) -> NDArray[np.float64]:
        """How often each path calls each classifier, shape (n_paths, n_columns)."""
        calls = np.zeros((self.n_paths, self.n_columns))
        for path, line in enumerate(self.ancestors):
            np.add.at(calls[path], self.path_columns[line[line >= 0]], 1)
        return frozen(calls)

    @cached_property
    def first_of_column(self) -> NDArray[np.intp]:
        """First path that reads each column, shape (n_columns,)."""
        return frozen(np.unique(self.path_columns, return_index=True)[1])

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Name of each classifier: that of the shortest path that ends in it."""
        order = np.argsort(self.depths, kind="stable")
        first = {int(self.path_columns[path]): self.names[path] for path in order[::-1].tolist()}
        return tuple(first[column] for column in range(self.n_columns))

    @cached_property
    def depths(self) -> NDArray[np.intp]:
        """Number of steps of each path."""
        return frozen((self.ancestors >= 0).sum(axis=1))

    @cached_property
    def roots(self) -> NDArray[np.intp]:
        """Paths of one step."""
        return self.children(-1)

    @cached_property
    def ancestors(self) -> NDArray[np.intp]:
        """Prefixes of each path by number of steps, -1 past its end."""
        lines: list[list[int]] = []
        for path, parent in enumerate(self.parents):
            lines.append([*(lines[parent] if parent >= 0 else []), path])
        table = np.full((len(lines), max(map(len, lines))), -1, dtype=np.intp)
        for path, line in enumerate(lines):
            table[path, : len(line)] = line
        return frozen(table)

    @cached_property
    def encoding(self) -> NDArray[np.float64]:
        """Path codes ``[b_1, ..., b_e, 0, ..., 0, e]`` (equation 14).

        Levels that are not numbers count 1, 2, ... in the order in which they first appear.
        """
        if all(isinstance(level, (int, float)) for level in self.levels):
            values = np.array(self.levels, dtype=np.float64)
        else:
            rank = {level: i for i, level in enumerate(dict.fromkeys(self.levels), start=1)}
            values = np.array([rank[level] for level in self.levels], dtype=np.float64)
        codes = np.where(self.ancestors >= 0, values[self.ancestors], 0.0)
        return frozen(np.column_stack([codes, self.depths]))

    def index(self, path: int | str) -> int:
        """Return the index of a path given by index or name.

        Parameters
        ----------
        path : int or str
            Index or name.

        Returns
        -------
        int
        """
        if isinstance(path, str):
            if path not in self.names:
                known = f"{list(self.names[:20])}{'...' if self.n_paths > 20 else ''}"
                raise ValueError(f"There is no path {path!r}. The paths are {known}.")
            return self.names.index(path)
        index = check_integer(path, "A path that is not given by name")
        if not 0 <= index < self.n_paths:
            raise ValueError(f"There is no path {path}; indices run from 0 to {self.n_paths - 1}.")
        return index

    def steps(self, path: int | str) -> Steps:
        """Return the levels a path takes, first block first.

        Parameters
        ----------
        path : int or str
            Index or name.

        Returns
        -------
        tuple
        """
        return tuple(self.levels[p] for p in self.prefixes(path))

    def prefixes(self, path: int | str) -> NDArray[np.intp]:
        """Return the prefixes of a path, shortest first, itself last.

        Parameters
        ----------
        path : int or str
            Index or name.

        Returns
        -------
        ndarray of int
        """
        line = self.ancestors[self.index(path)]
        return line[line >= 0]

    def children(self, path: int | str) -> NDArray[np.intp]:
        """Return the paths one step longer than `path`; -1 asks for the first steps.

        Parameters
        ----------
        path : int or str
            Index or name, or -1.

        Returns
        -------
        ndarray of int
        """
        parent = path if path == -1 else self.index(path)
        return np.flatnonzero(np.array(self.parents) == parent)

    def descendants(self, path: int | str) -> NDArray[np.intp]:
        """Return every path that starts with `path`, itself first; -1 asks for all paths.

        Parameters
        ----------
        path : int or str
            Index or name, or -1.

        Returns
        -------
        ndarray of int
        """
        if path == -1:
            return np.arange(self.n_paths)
        index = self.index(path)
        return np.flatnonzero(self.ancestors[:, self.depths[index] - 1] == index)

    @cached_property
    def is_inner(self) -> NDArray[np.bool_]:
        """Whether some path extends each path, shape (n_paths,)."""
        parents = np.array(self.parents)
        return frozen(np.bincount(parents[parents >= 0], minlength=self.n_paths) > 0)

    @cached_property
    def level_codes(self) -> NDArray[np.intp]:
        """Number of the level of each path's last step, in the order of appearance."""
        rank = {level: i for i, level in enumerate(dict.fromkeys(self.levels))}
        return frozen(np.array([rank[level] for level in self.levels], dtype=np.intp))

    def is_leaf(self, path: int | str) -> bool:
        """Whether no path extends this one."""
        return self.children(path).size == 0

    @cached_property
    def fullest(self) -> int:
        """Index of the dearest of the longest paths: the whole model."""
        longest = np.flatnonzero(self.depths == self.n_exits)
        return int(longest[np.argmax(self.path_costs[longest])])
