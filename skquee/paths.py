"""The tree of paths: which classifiers exist, what they share and what they cost."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee._checks import (
    check_integer,
    check_labels_given,
    check_number,
    check_option,
    check_sequence,
)
from skquee._public import publish
from skquee._reading import tree_fields

__all__ = ["PathTree"]

Level = Hashable
Steps = tuple[Level, ...]

#: Unit of costs that are fractions of a network's fullest path.
WHOLE_NETWORK = "of the whole network"
# A tree of more paths serves nobody: each is a target of every gate before it.
MOST_PATHS, MOST_EXITS, MOST_STEPS = 100_000, 10_000, 10_000_000


@dataclass(frozen=True)
class PathTree:
    """All paths a router can choose from, each hanging off its prefix.

    A *path* ``(b_1, ..., b_e)`` runs block ``i`` at level ``b_i`` and answers with the
    head after block ``e`` (equation 6 of the paper); in a cascade of models a step is a
    model. Build one with :meth:`from_levels`, :meth:`chain`, :meth:`cascade` or
    :meth:`from_paths`; the constructor takes the finished fields.

    Parameters
    ----------
    names : sequence of str, length n_paths
        Unique names, in the order of every per-path array of the package.
    parents : sequence of int, length n_paths
        Index of the path one step shorter, -1 for a first step. A parent stands before
        its children.
    levels : sequence of hashable, length n_paths
        Level of the *last* step of each path.
    costs : sequence of float, length n_paths
        Cost of each whole path, in any one unit. It is never rescaled.
    columns : sequence of int, length n_paths, default=None
        Column of the probability table that holds each path's answer. Paths that end in
        the same model of a cascade share one. Default: one column a path, in order.
    classes : sequence, default=None
        Labels of the class axis of the table, in order.
    cost_unit : str, default=None
        What one unit of cost is, e.g. ``"ms"`` or ``"$"``: for messages, tables and plots.

    Attributes
    ----------
    n_paths, n_columns, n_exits : int
        Number of paths, of distinct classifiers, and depth of the longest path.
    path_costs : ndarray of shape (n_paths,)
        The costs as an array.
    depths : ndarray of shape (n_paths,)
        Number of steps of each path.
    roots : ndarray
        Paths of one step.
    ancestors : ndarray of shape (n_paths, n_exits)
        ``ancestors[p, d]`` is the prefix of ``p`` with ``d + 1`` steps, -1 past its end.
    encoding : ndarray of shape (n_paths, n_exits + 1)
        Path codes of equation 14.

    Raises
    ------
    ValueError
        If names repeat, a parent does not stand before its child, or costs are missing,
        negative, not finite or all zero.

    Examples
    --------
    >>> from skquee import PathTree
    >>> tree = PathTree.from_levels(n_exits=2, levels=(4, 8))
    >>> tree.names
    ('8', '8-4', '8-8')
    >>> tree.path_costs
    array([0.5 , 0.75, 1.  ])
    >>> tree.encoding
    array([[8., 0., 1.],
           [8., 4., 2.],
           [8., 8., 2.]])
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    levels: tuple[Level, ...]
    costs: tuple[float, ...]
    columns: tuple[int, ...] | None = None
    classes: tuple[Any, ...] | None = None
    cost_unit: str | None = None

    def __post_init__(self) -> None:
        names = check_sequence(self.names, "names", "texts, one a path")
        n_paths = len(names)
        if n_paths == 0:
            raise ValueError("A PathTree needs at least one path, got none.")
        columns = range(n_paths) if self.columns is None else self.columns
        cast: dict[str, Any] = {
            "names": tuple(str(name) for name in names),
            "parents": _integers(self.parents, "parents"),
            "levels": _levels(self.levels),
            "costs": tuple(check_costs(self.costs, n_paths).tolist()),
            "columns": _integers(columns, "columns"),
            "classes": None if self.classes is None else _classes(self.classes),
        }
        for name, value in cast.items():
            object.__setattr__(self, name, value)
        if self.cost_unit is not None and not isinstance(self.cost_unit, str):
            raise TypeError(f"cost_unit must be a text such as 'ms', got {self.cost_unit!r}.")
        for name in ("parents", "levels", "columns"):
            if len(cast[name]) != n_paths:
                raise ValueError(
                    f"{name} has {len(cast[name])} entries, but there are {n_paths} paths."
                )
        if len(set(self.names)) != n_paths:
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"Path names must be unique, but {repeated} repeat.")
        for path, parent in enumerate(self.parents):
            if not -1 <= parent < path:
                raise ValueError(
                    f"Path {self.names[path]!r} (index {path}) has parent {parent}; a parent must "
                    "stand before its child, and is -1 for a path of one step."
                )
        used = set(cast["columns"])
        if min(used) != 0 or max(used) != len(used) - 1:
            raise ValueError(f"columns must use every number from 0 up, got {sorted(used)[:20]}.")
        if not any(self.costs):
            raise ValueError(
                "The costs are all zero: there is nothing to trade. Give what each path costs, in "
                "any one unit; single ones may be 0."
            )
        self._warn_where_a_longer_path_is_cheaper()

    # ------------------------------------------------------------------ builders

    @classmethod
    def from_levels(
        cls,
        n_exits: int,
        levels: Sequence[Level],
        block_costs: ArrayLike | None = None,
        *,
        monotone: bool = True,
        first: str = "highest",
        max_paths: int | None = 50,
        classes: Sequence[Any] | None = None,
        cost_unit: str | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> PathTree:
        """Build every route through a network of blocks, each run at one of several levels.

        Parameters
        ----------
        n_exits : int
            Number of blocks, each followed by an exit.
        levels : sequence
            The levels, cheapest first. Numbers (bit widths) are sorted.
        block_costs : array-like of shape (n_exits,) or (n_exits, n_levels), default=None
            Operations of each block: the step cost is then ``FLOPS * bits`` (equation 17).
            With two dimensions, the step cost of each block at each level, in the order of
            `levels` (required for levels that are not numbers). Default: equal blocks, and
            costs are then fractions of the fullest path's.
        monotone : bool, default=True
            Leave out paths that go back to a higher level (section 5.2).
        first : {"highest", "free"}, default="highest"
            Level of the first block: the highest, as in the paper, or any.
        max_paths : int or None, default=50
            Keep a uniform random sample of this many paths when there are more. The
            fullest path and every prefix (exit now) of a kept path are kept.
        classes : sequence, default=None
            Labels of the class axis.
        cost_unit : str, default=None
            What one unit of `block_costs` is, e.g. ``"ms"``.
        random_state : int, Generator or None, default=None
            Seed of that sample.

        Returns
        -------
        PathTree
            Paths ordered by number of steps, then by level.

        Examples
        --------
        >>> from skquee import PathTree
        >>> PathTree.from_levels(n_exits=3, levels=(5, 6, 7, 8)).n_paths
        15
        """
        n_exits = check_integer(n_exits, "n_exits", at_least=1, at_most=MOST_EXITS)
        check_option(first, "first", ("highest", "free"))
        if max_paths is not None:
            check_integer(max_paths, "max_paths", at_least=1, at_most=MOST_PATHS)
        if block_costs is None and cost_unit is not None:
            raise ValueError(f"cost_unit={cost_unit!r} is for block_costs, which are left out.")
        given = list(_levels(levels))
        numeric = all(isinstance(level, (int, float)) for level in given)
        ordered = sorted(given) if numeric else given  # type: ignore[type-var]
        if not ordered or len(set(ordered)) != len(ordered):
            raise ValueError(f"levels must be distinct and at least one, got {given[:20]}.")
        top = len(ordered) - 1
        most = MOST_PATHS if max_paths is None else max_paths
        counts = _count_paths(n_exits, top, most, monotone, first)
        step_costs = _block_step_costs(block_costs, n_exits, given, ordered, numeric)
        if sum(counts) <= most:
            ranks: Iterable[tuple[int, ...]] = _all_ranks(n_exits, top, monotone, first)
        elif max_paths is None:
            raise ValueError(
                f"{n_exits} exits at {len(ordered)} levels make more than {MOST_PATHS} paths. Give "
                "max_paths to draw some of them, or monotone=True."
            )
        else:
            ranks = _sample_with_prefixes(
                n_exits,
                counts,
                top,
                max_paths,
                monotone,
                first,
                np.random.default_rng(random_state),
            )
        tree_ranks = sorted(ranks, key=lambda steps: (len(steps), steps))
        costs = [sum(step_costs[i, rank] for i, rank in enumerate(steps)) for steps in tree_ranks]
        paths = [tuple(ordered[rank] for rank in steps) for steps in tree_ranks]
        tree = cls.from_paths(paths, costs, classes=classes, cost_unit=cost_unit)
        return relative_to_whole(tree) if block_costs is None else tree

    @classmethod
    def chain(
        cls,
        step_costs: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[Any] | None = None,
        cost_unit: str | None = None,
    ) -> PathTree:
        """Build a plain early-exit network or cascade: every step follows the one before.

        Parameters
        ----------
        step_costs : array-like of shape (n_exits,)
            What each exit or model adds to the cost.
        names : sequence of str, default=None
            Names of the paths. Default: ``"1", "2", ...``.
        classes : sequence, default=None
            Labels of the class axis.
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"ms"`` or ``"$"``.

        Returns
        -------
        PathTree

        Examples
        --------
        >>> from skquee import PathTree
        >>> PathTree.chain([1, 2, 5], names=["small", "medium", "large"]).path_costs
        array([1., 3., 8.])
        """
        steps = check_costs(step_costs, None, "step_costs")
        n_exits = len(steps)
        return cls(
            names=_names(names, n_exits),
            parents=tuple(range(-1, n_exits - 1)),
            levels=(1,) * n_exits,
            costs=tuple(np.cumsum(steps).tolist()),
            classes=classes,  # type: ignore[arg-type]
            cost_unit=cost_unit,
        )

    @classmethod
    def cascade(
        cls,
        step_costs: ArrayLike,
        *,
        skip: bool = True,
        first: str = "free",
        names: Sequence[str] | None = None,
        max_paths: int | None = 50,
        classes: Sequence[Any] | None = None,
        cost_unit: str | None = None,
    ) -> PathTree:
        """Build a model cascade: every increasing sequence of models.

        ``small-large`` and ``large`` are two paths that read the same column, the large
        model's; the first also pays for the small one.

        Parameters
        ----------
        step_costs : array-like of shape (n_models,)
            Cost of running each model.
        skip : bool, default=True
            Allow models to be skipped. Without, this is :meth:`chain`.
        first : {"free", "lowest"}, default="free"
            Start with any model, or always with the first one.
        names : sequence of str, default=None
            Names of the models. Default: ``"1", "2", ...``.
        max_paths : int or None, default=50
            Refuse a tree of more paths (there are ``2 ** n_models - 1``).
        classes : sequence, default=None
            Labels of the class axis.
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"ms"`` or ``"$"``.

        Returns
        -------
        PathTree

        Examples
        --------
        >>> from skquee import PathTree
        >>> tree = PathTree.cascade([1, 4], names=["small", "large"])
        >>> tree.names
        ('small', 'large', 'small-large')
        >>> tree.columns
        (0, 1, 1)
        """
        steps = check_costs(step_costs, None, "step_costs")
        n_models = len(steps)
        check_option(first, "first", ("free", "lowest"))
        if max_paths is not None:
            check_integer(max_paths, "max_paths", at_least=1)
        if not skip:
            return cls.chain(steps, names=names, classes=classes, cost_unit=cost_unit)
        n_paths = 2 ** (n_models - 1) if first == "lowest" else 2**n_models - 1
        if max_paths is not None and n_paths > max_paths:
            raise ValueError(
                f"A cascade of {n_models} models with skips has {n_paths} paths, more than "
                f"max_paths={max_paths}. Use skip=False, from_paths with the sequences you want, "
                "or raise max_paths."
            )
        labels = _names(names, n_models)
        if len(labels) != n_models:
            raise ValueError(f"names has {len(labels)} entries, but step_costs has {n_models}.")
        sequences = [
            sequence
            for length in range(1, n_models + 1)
            for sequence in itertools.combinations(range(n_models), length)
            if first == "free" or sequence[0] == 0
        ]
        index = {sequence: i for i, sequence in enumerate(sequences)}
        return cls(
            names=tuple("-".join(labels[i] for i in sequence) for sequence in sequences),
            parents=tuple(index.get(sequence[:-1], -1) for sequence in sequences),
            levels=tuple(sequence[-1] + 1 for sequence in sequences),
            costs=tuple(float(steps[list(sequence)].sum()) for sequence in sequences),
            columns=tuple(sequence[-1] for sequence in sequences),
            classes=classes,  # type: ignore[arg-type]
            cost_unit=cost_unit,
        )

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Sequence[Level]],
        path_costs: ArrayLike,
        *,
        columns: Sequence[int] | None = None,
        classes: Sequence[Any] | None = None,
        cost_unit: str | None = None,
    ) -> PathTree:
        """Build a tree from explicit paths.

        Parameters
        ----------
        paths : sequence of sequences of levels
            Each path as the levels it takes, e.g. ``[(8,), (8, 6), (8, 8)]``. Every prefix
            of a path must be there too: a gate reads its answer.
        path_costs : array-like of shape (n_paths,)
            Cost of each whole path, in any one unit.
        columns : sequence of int, default=None
            Column of the table each path reads. Default: one each, in this order.
        classes : sequence, default=None
            Labels of the class axis.
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"ms"`` or ``"$"``.

        Returns
        -------
        PathTree
            In the given order, which must put a prefix before the paths that extend it.

        Examples
        --------
        >>> from skquee import PathTree
        >>> PathTree.from_paths([(8,), (8, 6), (8, 8)], path_costs=[4, 7, 8]).names
        ('8', '8-6', '8-8')
        """
        sequences = [
            _levels(path, "Each path", "levels, one a step")
            for path in check_sequence(paths, "paths", "paths, each a sequence of levels")
        ]
        index = {sequence: i for i, sequence in enumerate(sequences)}
        if len(index) != len(sequences):
            raise ValueError("paths holds the same path twice.")
        for sequence in sequences:
            if not sequence:
                raise ValueError("A path needs at least one step, got an empty one.")
            if len(sequence) > 1 and sequence[:-1] not in index:
                raise ValueError(
                    f"Path {_name(sequence)!r} needs its prefix {_name(sequence[:-1])!r}, whose "
                    "answer the gate before the last step reads. Add that path."
                )
        return cls(
            names=tuple(_name(sequence) for sequence in sequences),
            parents=tuple(index.get(sequence[:-1], -1) for sequence in sequences),
            levels=tuple(sequence[-1] for sequence in sequences),
            costs=tuple(check_costs(path_costs, len(sequences), "path_costs").tolist()),
            columns=columns,  # type: ignore[arg-type]
            classes=classes,  # type: ignore[arg-type]
            cost_unit=cost_unit,
        )

    # ------------------------------------------------------------------ questions

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
        return _frozen(np.array(self.costs, dtype=np.float64))

    @cached_property
    def path_columns(self) -> NDArray[np.intp]:
        """Columns as an array."""
        assert self.columns is not None
        return _frozen(np.array(self.columns, dtype=np.intp))

    @cached_property
    def path_calls(self) -> NDArray[np.float64]:
        """How often each path calls each classifier, shape (n_paths, n_columns)."""
        calls = np.zeros((self.n_paths, self.n_columns))
        for path, line in enumerate(self.ancestors):
            np.add.at(calls[path], self.path_columns[line[line >= 0]], 1)
        return _frozen(calls)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Name of each classifier: that of the shortest path that ends in it."""
        order = np.argsort(self.depths, kind="stable")
        first = {int(self.path_columns[path]): self.names[path] for path in order[::-1].tolist()}
        return tuple(first[column] for column in range(self.n_columns))

    @cached_property
    def depths(self) -> NDArray[np.intp]:
        """Number of steps of each path."""
        return _frozen((self.ancestors >= 0).sum(axis=1))

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
        return _frozen(table)

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
        return _frozen(np.column_stack([codes, self.depths]))

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
        return _frozen(np.bincount(parents[parents >= 0], minlength=self.n_paths) > 0)

    @cached_property
    def level_codes(self) -> NDArray[np.intp]:
        """Number of the level of each path's last step, in the order of appearance."""
        rank = {level: i for i, level in enumerate(dict.fromkeys(self.levels))}
        return _frozen(np.array([rank[level] for level in self.levels], dtype=np.intp))

    def is_leaf(self, path: int | str) -> bool:
        """Whether no path extends this one."""
        return self.children(path).size == 0

    @cached_property
    def fullest(self) -> int:
        """Index of the dearest of the longest paths: the whole model."""
        longest = np.flatnonzero(self.depths == self.n_exits)
        return int(longest[np.argmax(self.path_costs[longest])])

    def same_structure(self, other: PathTree) -> bool:
        """Whether two trees differ at most in costs, their unit and classes.

        Parameters
        ----------
        other : PathTree
            The tree to compare with.

        Returns
        -------
        bool
        """
        return (self.names, self.parents, self.levels, self.columns) == (
            other.names,
            other.parents,
            other.levels,
            other.columns,
        )

    # ------------------------------------------------------------------ changes

    def with_costs(self, path_costs: ArrayLike, *, cost_unit: str | None = "same") -> PathTree:
        """Return this tree with other path costs: learning never depends on them.

        Parameters
        ----------
        path_costs : array-like of shape (n_paths,)
            Cost of each whole path, in any one unit.
        cost_unit : str or None, default="same"
            What one unit of them is. ``"same"`` keeps this tree's; costs "of the whole network"
            whose dearest is no longer 1 have none then.

        Returns
        -------
        PathTree

        Examples
        --------
        >>> from skquee import PathTree
        >>> tree = PathTree.chain([1, 2], cost_unit="ms")
        >>> tree.with_costs([0.5, 1.5]).cost_unit
        'ms'
        >>> tree.with_costs([0.01, 0.05], cost_unit="$").cost_unit
        '$'
        """
        found = tuple(check_costs(path_costs, self.n_paths, "path_costs").tolist())
        unit = self.cost_unit if cost_unit == "same" else cost_unit
        if cost_unit == "same" and unit == WHOLE_NETWORK and max(found) != 1:
            unit = None
        if (found, unit) == (self.costs, self.cost_unit):
            return self  # with all that was worked out
        return replace(self, costs=found, cost_unit=unit)

    def with_classes(self, classes: Iterable[Any] | None) -> PathTree:
        """Return this tree with other class labels.

        Parameters
        ----------
        classes : iterable or None
            Labels of the class axis.

        Returns
        -------
        PathTree
        """
        found = None if classes is None else _classes(classes)
        return self if found == self.classes else replace(self, classes=found)

    def fold(self, start: Any, step: Callable[[Any, int], Any]) -> None:
        """Visit every path, each prefix once, handing on what the prefix made.

        Depth first, so that at most ``n_exits`` states are alive.

        Parameters
        ----------
        start : object
            State before the first step.
        step : callable
            ``step(state, path)`` gets the state of the path's parent and returns its own.

        Examples
        --------
        >>> from skquee import PathTree
        >>> tree = PathTree.from_levels(n_exits=2, levels=(4, 8))
        >>> tree.fold("", lambda state, path: print(state + tree.names[path]) or ">")
        8
        >8-4
        >8-8
        """
        ahead: list[list[int]] = [[] for _ in range(self.n_paths + 1)]
        for path, parent in enumerate(self.parents):
            ahead[parent].append(path)  # of -1: the last list
        # A stack of our own: Python's holds a thousand calls.
        waiting = [(iter(ahead[-1]), start)]
        while waiting:
            children, state = waiting[-1]
            child = next(children, None)
            if child is None:
                waiting.pop()
                continue
            made = step(state, child)
            if ahead[child]:
                waiting.append((iter(ahead[child]), made))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain lists, fit for JSON when levels and classes are."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PathTree:
        """Return the tree that :meth:`to_dict` described.

        Parameters
        ----------
        record : mapping
            Its fields, as JSON holds them.

        Returns
        -------
        PathTree

        Raises
        ------
        ValueError
            If a field is missing, unknown, or of another type than a tree writes.

        Examples
        --------
        >>> from skquee import PathTree
        >>> tree = PathTree.chain([1, 2])
        >>> PathTree.from_dict(tree.to_dict()) == tree
        True
        """
        return cls(**tree_fields(record))

    def __getstate__(self) -> dict[str, Any]:
        # Cached arrays would make equal trees hash and pickle differently.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:6]) + (", ..." if self.n_paths > 6 else "")
        return f"PathTree({self.n_paths} paths, {self.n_exits} exits: {shown})"

    def _warn_where_a_longer_path_is_cheaper(self) -> None:
        for path, parent in enumerate(self.parents):
            if parent >= 0 and self.costs[path] < self.costs[parent]:
                warnings.warn(
                    f"Path {self.names[path]!r} costs {self.costs[path]:g}, less than its prefix "
                    f"{self.names[parent]!r} ({self.costs[parent]:g}). Costs are those of whole "
                    "paths: give the sum of the steps, not each step's own cost.",
                    UserWarning,
                    stacklevel=4,
                )
                return


def check_costs(
    costs: ArrayLike | None, n: int | None, what: str = "costs", each: str = "path"
) -> NDArray[np.float64]:
    """Return `costs` as a checked float array.

    Parameters
    ----------
    costs : array-like
        One number a path or step.
    n : int or None
        Expected length.
    what, each : str
        Name for messages, and what each number is for.

    Returns
    -------
    ndarray of shape (n,)
    """
    try:
        values = np.asarray(costs, dtype=np.float64) if costs is not None else np.empty(0)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be numbers, one a {each}, got {costs!r:.80}.") from None
    if values.ndim != 1 or values.size == 0 or (n is not None and values.size != n):
        expected = "a non-empty list" if n is None else f"{n} numbers, one a {each}"
        got = f"an array of shape {values.shape}" if values.size else "none"
        raise ValueError(f"{what} must be {expected}, got {got}.")
    if not np.isfinite(values).all() or (values < 0).any():
        bad = int(np.flatnonzero(~np.isfinite(values) | (values < 0))[0])
        raise ValueError(
            f"{what} must be finite and not negative, but entry {bad} is {values[bad]:g}."
        )
    return values


def cost_span(costs: ArrayLike, unit: str | None) -> str:
    """Return the range of costs in words, with their unit where it is known.

    Parameters
    ----------
    costs : array-like
        At least one.
    unit : str or None
        Of a tree's ``cost_unit``.

    Returns
    -------
    str

    Examples
    --------
    >>> from skquee.paths import cost_span
    >>> cost_span([0.5, 30.0], "ms")
    '0.5 to 30 ms'
    """
    values = np.asarray(costs, dtype=np.float64)
    return f"{values.min():.6g} to {values.max():.6g}" + (f" {unit}" if unit else "")


def common_unit(units: Iterable[str | None]) -> str | None:
    """Return the one unit of several costs that are to be held against each other.

    Parameters
    ----------
    units : iterable of str or None
        Of trees' ``cost_unit``; None where it is not known.

    Returns
    -------
    str or None

    Raises
    ------
    ValueError
        If there are several.
    """
    known = sorted({unit for unit in units if unit})
    if len(known) > 1:
        raise ValueError(
            f"Costs are in several units, {known}, and cannot be held against each other: give all "
            "curves the same costs, or keep them apart."
        )
    return known[0] if known else None


def warn_where_nothing_binds(
    name: str, limit: float | None, costs: ArrayLike, unit: str | None, what: str = "path"
) -> None:
    """Warn of a limit on costs that is above all of them, often one in another unit.

    Parameters
    ----------
    name : str
        Of the limit.
    limit : float or None
        Nothing happens without one.
    costs : array-like
        What it could bind.
    unit : str or None
        Of the costs.
    what : str
        What has these costs.
    """
    if limit is not None and limit > np.max(costs) * (1 + 1e-9):
        warnings.warn(
            f"{name}={limit:g} is above every {what} and binds nothing: costs run from "
            f"{cost_span(costs, unit)}.",
            UserWarning,
            stacklevel=3,
        )


def relative_to_whole(tree: PathTree) -> PathTree:
    """Return a network's tree with costs as fractions of its fullest path's.

    Parameters
    ----------
    tree : PathTree
        With costs in any unit.

    Returns
    -------
    PathTree
        Its ``cost_unit`` is "of the whole network".
    """
    return tree.with_costs(tree.path_costs / tree.path_costs.max(), cost_unit=WHOLE_NETWORK)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _name(steps: Sequence[Level]) -> str:
    return "-".join(str(level) for level in steps)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _integers(values: Any, name: str) -> tuple[int, ...]:
    found = check_sequence(values, name, "integers, one a path")
    return tuple(check_integer(value, f"Each of {name}") for value in found)


def _levels(
    values: Any, name: str = "levels", what: str = "levels, such as numbers or texts"
) -> tuple[Level, ...]:
    found = tuple(_plain(value) for value in check_sequence(values, name, what))
    for value in found:
        if isinstance(value, float):
            check_number(value, "A level that is a number")
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"{name} must be a sequence of {what}, but {value!r:.60} cannot be told from "
                f"others: a {type(value).__name__} is not hashable."
            ) from None
    return found


def _names(names: Sequence[str] | None, n: int) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(1, n + 1)))
    return tuple(check_sequence(names, "names", "texts, one a path"))


def _classes(values: Any) -> tuple[Any, ...]:
    found = tuple(_plain(v) for v in check_sequence(values, "classes", "labels, in order"))
    check_labels_given(_column(found), "classes", "label")
    if len(set(found)) != len(found):
        raise ValueError("classes must be distinct labels.")
    if len(found) < 2:
        raise ValueError(f"classes must be at least 2 labels, got {list(found)}.")
    return found


def _column(values: tuple[Any, ...]) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _count_paths(n_exits: int, top: int, most: int, monotone: bool, first: str) -> list[int]:
    """Return the number of paths of each depth, or of the first depths that are too many."""
    counts: list[int] = []
    for exits in range(1, n_exits + 1):
        free = exits - (first == "highest")
        counts.append(math.comb(free + top, top) if monotone else (top + 1) ** free)
        if n_exits > most and sum(counts) > most:
            break  # not even the fullest path fits
    return counts


def _all_ranks(n_exits: int, top: int, monotone: bool, first: str) -> Iterable[tuple[int, ...]]:
    """Return every path as ranks of levels, each made once."""
    head = (top,) if first == "highest" else ()
    falling = range(top, -1, -1)
    for exits in range(1, n_exits + 1):
        free = exits - len(head)
        made = (
            itertools.combinations_with_replacement(falling, free)
            if monotone
            else itertools.product(falling, repeat=free)
        )
        for steps in made:
            yield head + steps


def _block_step_costs(
    block_costs: ArrayLike | None,
    n_exits: int,
    given: list[Level],
    ordered: list[Level],
    numeric: bool,
) -> NDArray[np.float64]:
    """Step cost of every block at every level, columns in the order of `ordered`."""
    try:
        costs = np.ones(n_exits) if block_costs is None else np.asarray(block_costs, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"block_costs must hold numbers, got {block_costs!r:.80}.") from None
    if costs.shape == (n_exits, len(ordered)) and costs.ndim == 2:
        place = {level: i for i, level in enumerate(given)}
        table = costs[:, [place[level] for level in ordered]]
    elif costs.shape == (n_exits,) and numeric:
        table = np.outer(costs, np.array(ordered, dtype=np.float64))
    elif costs.shape == (n_exits,):
        raise ValueError(
            f"Levels {given} are not numbers, so block_costs must give the cost of every block at "
            f"every level: shape ({n_exits}, {len(ordered)}), got {costs.shape}."
        )
    else:
        raise ValueError(
            f"block_costs must have shape ({n_exits},) or ({n_exits}, {len(ordered)}), "
            f"got {costs.shape}."
        )
    check_costs(table.ravel(), None, "block_costs")
    return table


def _sample_with_prefixes(
    n_exits: int,
    counts: list[int],
    top: int,
    max_paths: int,
    monotone: bool,
    first: str,
    rng: np.random.Generator,
) -> set[tuple[int, ...]]:
    """Draw paths uniformly, each with its prefixes, until `max_paths` are kept."""
    if max_paths < n_exits:
        raise ValueError(
            f"max_paths={max_paths} cannot hold the fullest path and its prefixes: it needs at "
            f"least n_exits={n_exits}."
        )
    if max_paths * n_exits > MOST_STEPS:
        raise ValueError(
            f"max_paths={max_paths} through n_exits={n_exits} are more than {MOST_STEPS} steps: "
            "lower max_paths."
        )
    kept = {(top,) * exits for exits in range(1, n_exits + 1)}
    total = sum(counts)
    share = np.array([count / total for count in counts])
    fixed = (top,) if first == "highest" else ()
    misses = 0
    # Near the end a long path may not fit with its prefixes; give up after many misses.
    while len(kept) < max_paths and misses < 1000:
        free = int(rng.choice(n_exits, p=share)) + 1 - len(fixed)
        if monotone:  # stars and bars: a uniform non-increasing sequence
            bars = np.sort(rng.choice(free + top, size=free, replace=False)) - np.arange(free)
            drawn = tuple(int(rank) for rank in bars[::-1])
        else:
            drawn = tuple(int(rank) for rank in rng.integers(0, top + 1, size=free))
        steps = fixed + drawn
        new = {steps[:end] for end in range(1, len(steps) + 1)} - kept
        if new and len(kept) + len(new) <= max_paths:
            kept |= new
            misses = 0
        else:
            misses += 1
    return kept


publish(__name__, PathTree)
