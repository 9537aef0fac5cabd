"""Trees of networks and cascades, built from what a user knows of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values._checks import check_integer, check_option, check_sequence
from skquee.values._costs import WHOLE_NETWORK, check_costs
from skquee.values._fields import Level, check_levels, check_names, path_name

__all__ = ["TreeBuilders"]

# A tree of more paths serves nobody: each is a target of every gate before it.
MOST_PATHS, MOST_EXITS, MOST_STEPS = 100_000, 10_000, 10_000_000


class TreeBuilders:
    """Ways to build a :class:`skquee.PathTree`, whose fields they give."""

    if TYPE_CHECKING:

        def __init__(self, **fields: object) -> None: ...

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
        classes: Sequence[object] | None = None,
        cost_unit: str | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> Self:
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
        given = list(check_levels(levels))
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
        costs: ArrayLike = [
            sum(step_costs[i, rank] for i, rank in enumerate(steps)) for steps in tree_ranks
        ]
        if block_costs is None:
            costs, cost_unit = np.array(costs) / np.max(costs), WHOLE_NETWORK
        paths = [tuple(ordered[rank] for rank in steps) for steps in tree_ranks]
        return cls.from_paths(paths, costs, classes=classes, cost_unit=cost_unit)

    @classmethod
    def chain(
        cls,
        step_costs: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[object] | None = None,
        cost_unit: str | None = None,
    ) -> Self:
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
            names=check_names(names, n_exits),
            parents=tuple(range(-1, n_exits - 1)),
            levels=(1,) * n_exits,
            costs=tuple(np.cumsum(steps).tolist()),
            classes=classes,
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
        classes: Sequence[object] | None = None,
        cost_unit: str | None = None,
    ) -> Self:
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
        labels = check_names(names, n_models)
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
            classes=classes,
            cost_unit=cost_unit,
        )

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Sequence[Level]],
        path_costs: ArrayLike,
        *,
        columns: Sequence[int] | None = None,
        classes: Sequence[object] | None = None,
        cost_unit: str | None = None,
    ) -> Self:
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
            check_levels(path, "Each path", "levels, one a step")
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
                    f"Path {path_name(sequence)!r} needs its prefix "
                    f"{path_name(sequence[:-1])!r}, whose answer the gate before the last step "
                    "reads. Add that path."
                )
        return cls(
            names=tuple(path_name(sequence) for sequence in sequences),
            parents=tuple(index.get(sequence[:-1], -1) for sequence in sequences),
            levels=tuple(sequence[-1] for sequence in sequences),
            costs=tuple(check_costs(path_costs, len(sequences), "path_costs").tolist()),
            columns=columns,
            classes=classes,
            cost_unit=cost_unit,
        )


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
