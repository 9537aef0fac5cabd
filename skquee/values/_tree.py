"""The tree of paths: which classifiers exist, what they share and what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from numpy.typing import ArrayLike

from skquee.values._builders import TreeBuilders
from skquee.values._checks import check_sequence
from skquee.values._costs import WHOLE_NETWORK, check_costs
from skquee.values._fields import (
    Level,
    check_classes,
    check_levels,
    integers,
)
from skquee.values._html import block, table
from skquee.values._public import publish
from skquee.values._reading import tree_fields
from skquee.values._tree_shape import TreeShape

State = TypeVar("State")

__all__ = ["PathTree", "relative_to_whole"]


@dataclass(frozen=True)
class PathTree(TreeShape, TreeBuilders):
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
    classes: tuple[object, ...] | None = None
    cost_unit: str | None = None

    def __post_init__(self) -> None:
        names = check_sequence(self.names, "names", "texts, one a path")
        n_paths = len(names)
        if n_paths == 0:
            raise ValueError("A PathTree needs at least one path, got none.")
        given = range(n_paths) if self.columns is None else self.columns
        columns = integers(given, "columns")
        cast: dict[str, tuple[object, ...] | None] = {
            "names": tuple(str(name) for name in names),
            "parents": integers(self.parents, "parents"),
            "levels": check_levels(self.levels),
            "costs": tuple(check_costs(self.costs, n_paths).tolist()),
            "columns": columns,
            "classes": None if self.classes is None else check_classes(self.classes),
        }
        for name, value in cast.items():
            object.__setattr__(self, name, value)
        if self.cost_unit is not None and not isinstance(self.cost_unit, str):
            raise TypeError(f"cost_unit must be a text such as 'ms', got {self.cost_unit!r}.")
        for name in ("parents", "levels", "columns"):
            n_given = len(getattr(self, name))
            if n_given != n_paths:
                raise ValueError(f"{name} has {n_given} entries, but there are {n_paths} paths.")
        if len(set(self.names)) != n_paths:
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"Path names must be unique, but {repeated} repeat.")
        for path, parent in enumerate(self.parents):
            if not -1 <= parent < path:
                raise ValueError(
                    f"Path {self.names[path]!r} (index {path}) has parent {parent}; a parent must "
                    "stand before its child, and is -1 for a path of one step."
                )
        used = set(columns)
        if min(used) != 0 or max(used) != len(used) - 1:
            raise ValueError(f"columns must use every number from 0 up, got {sorted(used)[:20]}.")
        if not any(self.costs):
            raise ValueError(
                "The costs are all zero: there is nothing to trade. Give what each path costs, in "
                "any one unit; single ones may be 0."
            )
        self._warn_where_a_longer_path_is_cheaper()

    # ------------------------------------------------------------------ questions

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

    def with_classes(self, classes: Iterable[object] | None) -> PathTree:
        """Return this tree with other class labels.

        Parameters
        ----------
        classes : iterable or None
            Labels of the class axis.

        Returns
        -------
        PathTree
        """
        found = None if classes is None else check_classes(classes)
        return self if found == self.classes else replace(self, classes=found)

    def fold(self, start: State, step: Callable[[State, int], State]) -> None:
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

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain lists, fit for JSON when levels and classes are."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, object]) -> PathTree:
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

    def __getstate__(self) -> dict[str, object]:
        # Cached arrays would make equal trees hash and pickle differently.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:6]) + (", ..." if self.n_paths > 6 else "")
        return f"PathTree({self.n_paths} paths, {self.n_exits} exits: {shown})"

    def _repr_html_(self) -> str:
        title = f"PathTree of {self.n_paths:,} paths, {self.n_exits:,} exits"
        return block(title, tree_table(self))

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


def relative_to_whole(tree: PathTree) -> PathTree:
    """Return a network's tree with costs as fractions of its fullest path's.

    `tree`: with costs in any unit. Returns its ``cost_unit`` is "of the whole network".
    """
    return tree.with_costs(tree.path_costs / tree.path_costs.max(), cost_unit=WHOLE_NETWORK)


def tree_table(tree: PathTree) -> str:
    """Return the paths of a tree as a table of HTML."""
    unit = f" ({tree.cost_unit})" if tree.cost_unit else ""
    columns = tree.names, tree.depths.tolist(), map(str, tree.levels), tree.path_costs.tolist()
    header = ["path", "exit", "level", f"cost{unit}"]
    return table(header, zip(*columns, strict=True), caption="Paths, with their whole cost")


publish("skquee.values", PathTree)
