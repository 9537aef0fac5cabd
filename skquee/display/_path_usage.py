"""Which exits and levels each class uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from skquee.display._style import (
    COLORS,
    QUIET,
    colors_of,
    cost_label,
    legend_of,
    new_axes,
    shades,
    tidy,
)
from skquee.evaluation import route
from skquee.values import PathTree
from skquee.values._checks import check_labels_given
from skquee.values._labels import check_weights
from skquee.values._types import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PathUsageDisplay"]

# As matplotlib takes it.
Color: TypeAlias = str | tuple[float, ...]


class PathUsageDisplay:
    """Which paths, exits or levels the samples of each class use (figure 1 of the paper).

    One bar a class, cheapest class on top, parted by the share of its samples on each path;
    beside it the class's mean cost, in the tree's unit.
    Build it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    shares : ndarray of shape (n_classes, n_paths)
        Share of each class's samples on each path; rows add up to 1.
    classes : sequence of length n_classes
        Labels.
    tree : PathTree
        The paths.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where it was drawn.
    bars_ : list of BarContainer
        The parts, one container a path, exit or level shown.
    legend_ : Legend
        Beside the axes.

    Examples
    --------
    >>> from skquee import PathTree
    >>> from skquee.display import PathUsageDisplay
    >>> display = PathUsageDisplay.from_predictions(
    ...     ["cat", "cat", "dog", "dog"], [0, 1, 1, 1], tree=PathTree.chain([1, 1])
    ... )
    >>> display.shares
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    def __init__(
        self, *, shares: NDArray[np.float64], classes: Sequence[object], tree: PathTree
    ) -> None:
        self.shares = shares
        self.classes = classes
        self.tree = tree

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        by: str = "path",
        max_classes: int = 30,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> PathUsageDisplay:
        """Route samples and plot the paths they take.

        Parameters
        ----------
        estimator : estimator
            Fitted router, Pipeline that ends in one, or RoutedClassifier.
        X : input
            As the estimator takes it.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        by, max_classes, ax, **kwargs
            As of :meth:`plot`.

        Returns
        -------
        PathUsageDisplay
        """
        routes = route(estimator, X)
        return cls.from_predictions(
            y,
            routes.paths,
            tree=routes.tree,
            sample_weight=sample_weight,
            by=by,
            max_classes=max_classes,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        paths: ArrayLike,
        *,
        tree: PathTree,
        sample_weight: ArrayLike | None = None,
        by: str = "path",
        max_classes: int = 30,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> PathUsageDisplay:
        """Plot the paths samples took.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        paths : array-like of int, shape (n_samples,)
            Path of each sample, as of ``predict_path``.
        tree : PathTree
            The paths, ``paths_`` of the router.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        by, max_classes, ax, **kwargs
            As of :meth:`plot`.

        Returns
        -------
        PathUsageDisplay
        """
        if not isinstance(tree, PathTree):
            raise TypeError(f"tree must be a PathTree, router.paths_, got {type(tree).__name__}.")
        taken = np.asarray(paths)
        if taken.size and taken.dtype.kind not in "iu":
            raise ValueError(f"paths must be indices, as of predict_path, got {taken.dtype}.")
        labels = check_labels_given(y_true, "y_true")
        classes, codes = np.unique(labels, return_inverse=True)
        if taken.shape != codes.shape or taken.size == 0:
            raise ValueError(
                "y_true and paths must be lists of one length, not empty, got shapes "
                f"{codes.shape} and {taken.shape}."
            )
        if taken.min() < 0 or taken.max() >= tree.n_paths:
            raise ValueError(f"paths must be indices from 0 to {tree.n_paths - 1}.")
        weights = check_weights(sample_weight, len(taken))
        n_cells = len(classes) * tree.n_paths
        counts = np.bincount(codes * tree.n_paths + taken, weights=weights, minlength=n_cells)
        table = counts.reshape(len(classes), tree.n_paths)
        totals = table.sum(axis=1)
        shares = table[totals > 0] / totals[totals > 0, None]
        display = cls(shares=shares, classes=classes[totals > 0].tolist(), tree=tree)
        return display.plot(ax, by=by, max_classes=max_classes, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        by: str = "path",
        max_classes: int = 30,
        legend: str = "beside",
        **kwargs: Any,
    ) -> PathUsageDisplay:
        """Plot.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.
        by : {"path", "exit", "level"}, default="path"
            What a part of a bar is: the path taken, the exit it answers at, or the level of
            its last step. Of paths, the twelve most used are shown and the others together.
        max_classes : int, default=30
            With more classes, only the cheapest and the dearest ones are shown.
        legend : {"beside", "none"}, default="beside"
            Whether to draw it.
        **kwargs
            Of ``Axes.barh``.

        Returns
        -------
        self
        """
        names, parts, colors, title = self._parts(by)
        costs = self.shares @ self.tree.path_costs
        order = np.argsort(costs, kind="stable")
        hidden = max(0, len(order) - max_classes)
        if hidden:
            order = np.concatenate([order[: max_classes // 2], order[max_classes // 2 + hidden :]])
        ax = new_axes(ax, (8.0, max(1.4 + 0.3 * len(order), 1.0 + 0.25 * len(names))))
        rows = np.arange(len(order))
        style = {"height": 0.8, "edgecolor": "white", "linewidth": 0.6, **kwargs}
        self.bars_ = []
        left = np.zeros(len(order))
        for name, share, color in zip(names, parts.T, colors, strict=True):
            width = share[order]
            bars = ax.barh(rows, width, left=left, **{"color": color, "label": name, **style})
            self.bars_.append(bars)
            left = left + width
        ax.set_yticks(rows, [str(self.classes[i]) for i in order])
        if hidden:
            middle = max_classes // 2 - 0.5
            ax.axhline(middle, color=QUIET, linestyle=":", linewidth=1.2)
        ax.set_ylim(len(order) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.set_xlabel("Share of the class")
        ax.set_ylabel(
            f"Class, cheapest on top ({hidden} in the middle left out)"
            if hidden
            else "Class, cheapest on top"
        )
        tidy(ax, grid="x")
        ax.tick_params(axis="y", length=0)
        # What a class costs on average closes its bar.
        for row, i in zip(rows, order, strict=True):
            ax.annotate(
                f"{costs[i]:#.3g}",
                (1.0, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                color="0.3",
                annotation_clip=False,
            )
        ax.annotate(
            "m" + cost_label([self.tree.cost_unit])[1:],
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(4, 2),
            textcoords="offset points",
            fontsize="small",
            color="0.3",
            annotation_clip=False,
        )
        # Bars fill the axes: there is no room inside.
        self.legend_ = legend_of(
            ax,
            "none" if legend == "none" else "beside",
            bbox_to_anchor=(1.12, 1.0),
            title=title,
            alignment="left",
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _parts(self, by: str) -> tuple[list[str], NDArray[np.float64], Sequence[Color], str]:
        """Names, shares and colours of the parts of a bar, and the title of its legend."""
        tree = self.tree
        if by == "path":
            used = np.flatnonzero(self.shares.sum(axis=0))
            top = used[np.argsort(-self.shares[:, used].sum(axis=0), kind="stable")[:12]]
            top = top[np.lexsort((tree.path_costs[top], tree.depths[top]))]
            names, parts = [tree.names[p] for p in top], self.shares[:, top]
            # An exit is a hue; the dearer a path among those that end there, the deeper.
            colors: list[Color] = []
            for depth in np.unique(tree.depths[top]).tolist():
                n_shades = int((tree.depths[top] == depth).sum())
                colors += shades(COLORS[(depth - 1) % len(COLORS)], n_shades)
            if len(used) > len(top):
                rest = 1.0 - parts.sum(axis=1, keepdims=True)
                names, parts, colors = [*names, "other"], np.hstack([parts, rest]), [*colors, "0.8"]
            return names, parts, colors, "Path"
        if by == "exit":
            exits = range(1, tree.n_exits + 1)
            member = tree.depths[:, None] == np.array(exits)
            colors = [COLORS[i % len(COLORS)] for i in range(tree.n_exits)]
            return [str(e) for e in exits], self.shares @ member, colors, "Exit"
        if by == "level":
            levels = list(dict.fromkeys(tree.levels))
            if all(isinstance(level, (int, float)) for level in levels):
                levels = sorted(levels)  # type: ignore[type-var]
            member = np.array([[own == level for level in levels] for own in tree.levels])
            names = [str(level) for level in levels]
            return names, self.shares @ member, colors_of(len(levels)), "Level of the\nlast block"
        raise ValueError(f"by must be 'path', 'exit' or 'level', got {by!r}.")
