"""What a gate sees, and what a walk brings back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee.values import PathTree
from skquee.values._html import block, facts, folded, table
from skquee.values._optional import require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Routes", "Visit"]


@dataclass(frozen=True)
class Routes:
    """Everything known about how some samples were routed.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,)
        Answers.
    paths : ndarray of shape (n_samples,)
        Index of the path each sample took.
    costs : ndarray of shape (n_samples,)
        What that path cost, in the unit of ``tree.cost_unit``.
    probabilities : ndarray of shape (n_samples, n_classes)
        Class probabilities of the answer.
    predicted_errors : ndarray of shape (n_samples, n_exits)
        Column ``t``: predicted error of the path aimed at by the gate after ``t`` blocks, NaN
        where that gate was not asked. Column 0 is the gate before anything has run.
    visited : ndarray of shape (n_samples, n_exits)
        Path reached after each block, -1 once the sample has left.
    counts : dict of str to int
        What a lazy table ran: samples per block and level, or per classifier. Empty for a
        stored table.
    tree : PathTree
        Names and costs of the paths.
    index : Index or None
        Row labels of the data frame that was routed.

    Examples
    --------
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> routes = ThresholdRouter(0.9).fit(table, y).route(table[:3])
    >>> routes.labels, routes.path_names, routes.costs.round(2)
    (array([0, 1, 2]), array(['8-8', '8-8-8', '8'], dtype=object), array([0.67, 1.  , 0.33]))
    """

    labels: NDArray[np.generic]
    paths: NDArray[np.intp]
    costs: NDArray[np.float64]
    probabilities: NDArray[np.floating]
    predicted_errors: NDArray[np.float64]
    visited: NDArray[np.intp]
    counts: dict[str, int]
    tree: PathTree
    index: object = None

    def __len__(self) -> int:
        return len(self.paths)

    def _repr_html_(self) -> str:
        tree, errors = self.tree, self.predicted_error
        counts = np.bincount(self.paths, minlength=tree.n_paths)
        rows = []
        for path in np.flatnonzero(counts).tolist():
            taken = self.paths == path
            known = errors[taken][np.isfinite(errors[taken])]
            rows.append(
                (
                    tree.names[path],
                    int(counts[path]),
                    counts[path] / len(self),
                    float(self.costs[taken].mean()),
                    float(known.mean()) if len(known) else np.nan,
                )
            )
        unit = f" ({tree.cost_unit})" if tree.cost_unit else ""
        header = ["path", "rows", "share", f"mean cost{unit}", "mean predicted error"]
        mean = {f"mean cost{unit}": float(self.costs.mean()) if len(self) else np.nan}
        ran = {f"ran {name}": count for name, count in self.counts.items()}
        return block(
            f"Routes of {len(self):,} rows",
            facts(mean),
            table(header, rows, caption="Paths taken", bar=2),
            folded("What ran", facts(ran)) if ran else "",
        )

    def of_rows(self, X: ArrayLike) -> Routes:
        """Return these routes with the row labels of X, where it is a data frame.

        Parameters
        ----------
        X : rows
            What was routed.

        Returns
        -------
        Routes
        """
        index = getattr(X, "index", None) if hasattr(X, "iloc") else None
        return self if index is None else replace(self, index=index)

    @property
    def path_names(self) -> NDArray[np.object_]:
        """Name of the path each sample took."""
        return np.array(self.tree.names, dtype=object)[self.paths]

    @property
    def gates_visited(self) -> NDArray[np.intp]:
        """Number of gates that judged each sample."""
        return np.isfinite(self.predicted_errors).sum(axis=1)

    @property
    def predicted_error(self) -> NDArray[np.float64]:
        """Predicted error of the path taken, by the last gate that judged the sample."""
        seen = np.isfinite(self.predicted_errors)
        last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        return np.take_along_axis(self.predicted_errors, last[:, None], axis=1)[:, 0]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a sample: label, path, cost, predicted error, gates visited.

        Returns
        -------
        DataFrame
            ``attrs["cost_unit"]`` is the unit of cost, or None.
        """
        pd = require("pandas", "Routes.to_frame")

        frame = pd.DataFrame(
            {
                "label": self.labels,
                "path": self.path_names,
                "cost": self.costs,
                "predicted_error": self.predicted_error,
                "gates_visited": self.gates_visited,
            },
            index=self.index,
        )
        frame.attrs["cost_unit"] = self.tree.cost_unit
        return frame

    @classmethod
    def joined(cls, parts: Sequence[Routes]) -> Routes:
        """Return the routes of consecutive rows as one.

        Parameters
        ----------
        parts : sequence of Routes
            At least one, over the same tree.

        Returns
        -------
        Routes
            Counts are summed.
        """
        if len(parts) == 1:
            return parts[0]
        counts: dict[str, int] = {}
        for part in parts:
            for step, n_run in part.counts.items():
                counts[step] = counts.get(step, 0) + n_run
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name not in ("counts", "tree", "index")
        }
        return cls(**arrays, counts=counts, tree=parts[0].tree)


@dataclass(frozen=True)
class Visit:
    """What a gate sees of the samples that stand before it.

    Attributes
    ----------
    depth : int
        Blocks run so far; 0 before anything has run.
    prefixes : ndarray of shape (m,)
        Path each sample has taken, -1 at depth 0.
    now, previous : ndarray of shape (m, n_classes) or None
        Probabilities at this exit and at the one before; None where there is none.
    rows : ndarray of shape (m,)
        Row of each sample in the table, or in its batch of a stream.
    tree : PathTree
        The tree, with the costs that hold.
    history : callable
        Returns the probabilities at every exit so far, a list of `depth` ndarrays of shape
        (m, n_classes).
    activations : callable or None
        Returns the state of these samples after the last block, as the network holds it. None
        where no network runs.
    memory : dict of str to ndarray
        What a gate keeps for later ones of the same walk: arrays with an entry for each sample,
        which go on with the samples.
    context : ndarray of shape (m, n_context) or None
        What the table knows of the samples beforehand.
    costs : ndarray of shape (m, n_paths) or None
        Cost of every path for each sample, where the table knows it; None: those of the tree.

    Examples
    --------
    >>> import numpy as np
    >>> from skquee.walk import Follow, walk
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> deciders = Follow(
    ...     table.paths,
    ...     np.arange(4),
    ...     np.array([0, 2, 5]),
    ...     leaves=lambda visit: visit.now.max(axis=1) > 0.9,
    ... )
    >>> walk(deciders, table[:3]).path_names
    array(['8-8', '8-8-8', '8'], dtype=object)
    """

    depth: int
    prefixes: NDArray[np.intp]
    now: NDArray[np.floating] | None
    previous: NDArray[np.floating] | None
    rows: NDArray[np.intp]
    tree: PathTree
    history: Callable[[], list[NDArray[np.floating]]]
    activations: Callable[[], Any] | None
    memory: dict[str, NDArray[np.generic]]
    context: NDArray[np.float64] | None = None
    costs: NDArray[np.float64] | None = None

    @property
    def answers(self) -> NDArray[np.intp]:
        """Class index answered at each exit so far, shape (m, depth)."""
        if not self.depth:
            return np.empty((len(self.rows), 0), dtype=np.intp)
        return np.column_stack([p.argmax(axis=1) for p in self.history()])
