"""What the clusters behind error targets hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.base import BaseEstimator

from skquee.display._style import tidy
from skquee.evaluation import unpack
from skquee.values._as_table import as_path_probabilities
from skquee.values._labels import check_labels
from skquee.values._optional import require
from skquee.values._types import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch
    from matplotlib.typing import ColorType

__all__ = ["ClusterDisplay"]


class ClusterDisplay:
    """Entropy and probability of the true class in each cluster of one path (figures 5 to 8).

    Clusters that part easy from hard samples make good error targets. They stand in the
    order of their share of wrong answers, which also colours them. Build it with
    :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    clusters : ndarray of int, shape (n_samples,)
        Cluster of each sample.
    entropy : ndarray of shape (n_samples,)
        Entropy of its probability vector, in nats.
    true_probability : ndarray of shape (n_samples,)
        Probability of its true class.
    mistakes : ndarray of bool, shape (n_samples,)
        Whether the path answers wrong.
    path : str, default=None
        Name of the path, for the title.

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes
        Entropy, and probability of the true class.
    figure_ : matplotlib Figure
        Where it was drawn.
    order_ : ndarray
        Clusters, left to right.
    boxes_ : list of two lists
        Boxes or violins, left to right, of each axes.
    colorbar_ : Colorbar
        Share of wrong answers.

    Examples
    --------
    >>> from skquee.display import ClusterDisplay
    >>> display = ClusterDisplay.from_predictions(
    ...     [0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 1, 0], classes=[0, 1]
    ... )
    >>> display.order_
    array([0, 1])
    """

    def __init__(
        self,
        *,
        clusters: NDArray[np.intp],
        entropy: NDArray[np.float64],
        true_probability: NDArray[np.float64],
        mistakes: NDArray[np.bool_],
        path: str | None = None,
    ) -> None:
        self.clusters = clusters
        self.entropy = entropy
        self.true_probability = true_probability
        self.mistakes = mistakes
        self.path = path

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        y: ArrayLike,
        *,
        path: int | str | None = None,
        kind: str = "box",
        ax: Sequence[Axes] | None = None,
    ) -> ClusterDisplay:
        """Assign samples to the clusters of a path and plot.

        Parameters
        ----------
        estimator : estimator
            Fitted ClusteredErrorTargets, a router that holds one (``targets_``), or a
            Pipeline that ends in either.
        X : input
            As the estimator takes it.
        y : array-like of shape (n_samples,)
            True labels.
        path : int or str, default=None
            Index or name. Default: the fullest path.
        kind : {"box", "violin"}, default="box"
            Shape.
        ax : two matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.

        Returns
        -------
        ClusterDisplay
        """
        owner, inputs = unpack(estimator, X)
        owner = getattr(owner, "router_", owner)
        targets = getattr(owner, "targets_", owner)
        if not hasattr(targets, "predict_clusters"):
            raise TypeError(
                f"{type(owner).__name__} has no clusters: give ClusteredErrorTargets, or a router "
                "fitted with it."
            )
        tree = targets.paths_
        index = tree.fullest if path is None else tree.index(path)
        table = as_path_probabilities(inputs, tree)
        return cls.from_predictions(
            y,
            table.path(index),
            targets.predict_clusters(table)[:, index],
            classes=targets.classes_,
            path=tree.names[index],
            kind=kind,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        clusters: ArrayLike,
        *,
        classes: ArrayLike,
        path: str | None = None,
        kind: str = "box",
        ax: Sequence[Axes] | None = None,
    ) -> ClusterDisplay:
        """Plot the clusters of one path.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        probabilities : array-like of shape (n_samples, n_classes)
            The path's answers.
        clusters : array-like of int, shape (n_samples,)
            Cluster of each sample.
        classes : array-like of shape (n_classes,)
            Labels of the class axis.
        path : str, default=None
            Name of the path, for the title.
        kind : {"box", "violin"}, default="box"
            Shape.
        ax : two matplotlib Axes, default=None
            Axes to plot on. Default: of a new figure.

        Returns
        -------
        ClusterDisplay
        """
        vectors = np.asarray(probabilities, dtype=np.float64)
        labels, assigned = np.asarray(classes), np.asarray(clusters)
        if vectors.ndim != 2 or vectors.shape[1] != len(labels):
            raise ValueError(
                f"probabilities must have shape (n_samples, {len(labels)} classes), got "
                f"{vectors.shape}."
            )
        if assigned.shape != vectors.shape[:1]:
            raise ValueError(
                f"clusters must have {len(vectors)} entries, one a sample, got shape "
                f"{assigned.shape}."
            )
        codes = check_labels(y_true, labels, len(vectors))
        display = cls(
            clusters=assigned,
            entropy=entr(vectors).sum(axis=1),
            true_probability=vectors[np.arange(len(vectors)), codes],
            mistakes=vectors.argmax(axis=1) != codes,
            path=path,
        )
        return display.plot(ax, kind=kind)

    def plot(self, ax: Sequence[Axes] | None = None, *, kind: str = "box") -> ClusterDisplay:
        """Plot.

        Parameters
        ----------
        ax : two matplotlib Axes, default=None
            Axes to plot on: for the entropy and for the probability of the true class.
            Default: of a new figure.
        kind : {"box", "violin"}, default="box"
            Shape.

        Returns
        -------
        self
        """
        if kind not in ("box", "violin"):
            raise ValueError(f"kind must be 'box' or 'violin', got {kind!r}.")
        if ax is not None and np.size(np.asarray(ax, dtype=object)) != 2:
            raise ValueError(
                "ax must be two Axes, for the entropy and for the probability of the true class."
            )
        require("matplotlib", "A plot")
        from matplotlib import pyplot as plt
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        found, codes = np.unique(self.clusters, return_inverse=True)
        sizes = np.bincount(codes)
        errors = np.bincount(codes, weights=self.mistakes) / sizes
        ranked = np.argsort(errors, kind="stable")
        self.order_ = found[ranked]
        if ax is None:
            width = float(np.clip(2.5 + 0.25 * len(found), 7.0, 16.0))
            _, ax = plt.subplots(2, 1, figsize=(width, 6.0), sharex=True, layout="constrained")
        self.ax_ = np.asarray(ax, dtype=object).ravel()
        self.figure_ = self.ax_[0].figure
        scale = Normalize(0.0, max(float(errors.max()), 1e-9))
        colors = plt.colormaps["cividis"](scale(errors[ranked]))
        panels = ((self.entropy, "Entropy (nats)"), (self.true_probability, "P(true class)"))
        places = np.arange(len(found))
        self.boxes_ = []
        for axes, (values, label) in zip(self.ax_, panels, strict=True):
            grouped = np.split(values[np.argsort(codes, kind="stable")], np.cumsum(sizes)[:-1])
            groups = [grouped[i] for i in ranked]
            self.boxes_.append(_draw(axes, groups, places, colors, kind))
            axes.set_ylabel(label)
            tidy(axes, grid="y")
        self.ax_[1].set_ylim(-0.03, 1.03)
        self.ax_[1].set_xlabel("Cluster, in the order of its share of wrong answers")
        step = max(1, int(np.ceil(len(found) / 40)))
        self.ax_[1].set_xticks(places[::step], [str(c) for c in self.order_[::step]])
        if self.path is not None:
            self.ax_[0].set_title(f"Path {self.path}", loc="left")
        self.colorbar_ = self.figure_.colorbar(
            ScalarMappable(scale, "cividis"), ax=list(self.ax_), label="Share of wrong answers"
        )
        return self


def _draw(
    ax: Axes,
    groups: list[NDArray[np.float64]],
    places: NDArray[np.intp],
    colors: Iterable[ColorType],
    kind: str,
) -> list[Patch | PolyCollection]:
    from matplotlib.patheffects import withStroke

    if kind == "box":
        drawn = ax.boxplot(
            groups,
            positions=places,
            widths=0.7,
            patch_artist=True,
            manage_ticks=False,
            flierprops={"marker": ".", "markersize": 2.5, "alpha": 0.4, "markeredgecolor": "0.3"},
        )
        medians, boxes = drawn["medians"], list(drawn["boxes"])
    else:
        # A density needs two values that differ.
        wide = [g if np.ptp(g) > 0 else np.array([g[0] - 1e-6, g[0] + 1e-6]) for g in groups]
        parts = ax.violinplot(wide, positions=places, widths=0.85, showmedians=True)
        medians = [parts["cmedians"]]
        for name in ("cbars", "cmins", "cmaxes"):
            parts[name].set(color="0.5", linewidth=0.6)
        boxes = list(parts["bodies"])  # type: ignore[call-overload]
    for median in medians:
        # White edged with black stands out from boxes of any colour.
        median.set(color="white", linewidth=1.2, zorder=4)
        median.set_path_effects([withStroke(linewidth=2.8, foreground="black")])
    for box, color in zip(boxes, colors, strict=True):
        box.set(facecolor=color, edgecolor="0.2", linewidth=0.7, alpha=1.0)
    return boxes
