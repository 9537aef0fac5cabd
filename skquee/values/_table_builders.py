"""Tables of probabilities made of what classifiers gave: arrays, outcomes, labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from skquee.values._facts import RowFacts, knowing
from skquee.values._sources import columns_of, label_values, outcome_table, tree_over
from skquee.values._tree import PathTree

__all__ = ["TableBuilders"]


class TableBuilders:
    """Ways to build a :class:`skquee.PathProbabilities`."""

    facts: RowFacts

    if TYPE_CHECKING:

        def __init__(self, values: object, paths: PathTree) -> None: ...

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, ArrayLike] | Iterable[ArrayLike] | str | os.PathLike[str],
        *,
        step_costs: ArrayLike | None = None,
        paths: str | PathTree = "chain",
        classes: Sequence[object] | None = None,
        cost_unit: str | None = None,
    ) -> Self:
        """Build the table of classifiers from one array of probabilities each.

        Parameters
        ----------
        arrays : mapping of str to array, sequence of arrays, or ``.npz`` file
            Each of shape (n_samples, n_classes), cheapest first: numpy, torch (also on a GPU, of
            bfloat16, or with gradients), dask, zarr, h5py, or frames with a column a class. They
            are read and copied into one float32 or float64 array.
        step_costs : array-like of shape (n_classifiers,), default=None
            What running each classifier adds, in any one unit; needed unless `paths` is a tree.
        paths : {"chain", "cascade", "single"} or PathTree, default="chain"
            How classifiers may follow each other: each after the one before, any increasing
            sequence, or exactly one.
        classes : sequence, default=None
            Labels of the class axis. Default: the columns of frames.
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"ms"`` or ``"$"``.

        Returns
        -------
        PathProbabilities

        Raises
        ------
        ValueError
            If shapes differ, costs are missing, or frames have the classes in another order.

        Examples
        --------
        >>> import numpy as np
        >>> from skquee import PathProbabilities
        >>> small, large = np.full((5, 2), 0.5), np.full((5, 2), [0.9, 0.1])
        >>> PathProbabilities.from_arrays({"small": small, "large": large}, step_costs=[1, 8]).paths
        PathTree(2 paths, 2 exits: small, large)
        """
        names, columns, found = columns_of(arrays)
        tree = tree_over(paths, names, step_costs, len(columns), cost_unit)
        dtype = np.result_type(np.float32, *(np.dtype(column.dtype) for column in columns))
        values = np.empty((columns[0].shape[0], len(columns), columns[0].shape[1]), dtype=dtype)
        for place, column in enumerate(columns):
            values[:, place] = column[:] if hasattr(column, "chunks") else column
        labels = found if classes is None else list(classes)
        if found is not None and labels != found and set(labels or ()) == set(found):
            raise ValueError(
                f"classes must stand in the order of the frames' columns, got {labels} and {found}."
            )
        return cls(values, tree if labels is None else tree.with_classes(labels))

    @classmethod
    def from_outcomes(
        cls,
        loss: ArrayLike | None,
        confidence: ArrayLike | None = None,
        context: ArrayLike | None = None,
        costs: ArrayLike | None = None,
        *,
        names: Sequence[str] | None = None,
        paths: str | PathTree | None = None,
        cost_unit: str | None = None,
        costs_known: bool = True,
    ) -> Self:
        """Build a table of models of which only outcomes are known, not class probabilities.

        Language models on questions, say: whether each answered right, or how badly it failed,
        what is known of a question, how sure a model said it was, and what its call cost.
        Routers are fitted on it without y; they predict the name of the model to ask, the
        expected loss and the cost. Accuracy is 1 less the mean loss.

        Parameters
        ----------
        loss : array-like of shape (n_samples, n_models) or None
            Between 0 and 1; of booleans True is wrong. None for rows to predict on.
        confidence : array-like of shape (n_samples, n_models), default=None
            Between 0 and 1, known once a model has answered.
        context : array-like of shape (n_samples, n_context), default=None
            Numbers known before any model is asked.
        costs : array-like of shape (n_models,) or (n_samples, n_models)
            Price of one call, for all rows or each.
        names : sequence of str, default=None
            Of the models. Default: the columns of frames, where they are texts.
        paths : {"single", "cascade", "chain"} or PathTree, default=None
            Ask exactly one model, any increasing sequence, or each after the one before. Default:
            "single" without `confidence`, since a second call then learns nothing from the
            first; else "cascade" (of more than five models "chain").
        cost_unit : str, default=None
            What one unit of cost is, e.g. ``"$"``.
        costs_known : bool, default=True
            Whether prices of each row are known before the call. If not, a router predicts them
            from the context.

        Returns
        -------
        PathProbabilities
            Of two classes: confidence, and what is left of it.

        Raises
        ------
        ValueError
            If a loss or confidence lies outside [0, 1], a price is negative, shapes differ, or
            frames name the models in different orders.

        Examples
        --------
        >>> import numpy as np
        >>> from skquee import CostAwareRouter, PathProbabilities
        >>> rng = np.random.default_rng(0)
        >>> hard = rng.random((400, 1))
        >>> wrong = rng.random((400, 2)) < hard * [0.9, 0.2]
        >>> table = PathProbabilities.from_outcomes(
        ...     wrong, context=hard, costs=[1, 20], names=["small", "large"], cost_unit="$"
        ... )
        >>> router = CostAwareRouter(0.02, targets="bernoulli", regressor="logistic").fit(table)
        >>> router.predict(PathProbabilities.from_outcomes(
        ...     None, context=[[0.0], [1.0]], costs=[1, 20], names=["small", "large"]
        ... )).tolist()
        ['small', 'large']
        """
        if costs is None:
            raise ValueError(
                "costs is missing: give the price of one call of each model, in any one unit."
            )
        values, tree, facts = outcome_table(
            loss,
            confidence,
            context,
            costs,
            names=names,
            paths=paths,
            cost_unit=cost_unit,
            costs_known=costs_known,
        )
        return knowing(cls(values, tree), facts)

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        confidences: ArrayLike | None,
        classes: Sequence[object],
        paths: PathTree | None = None,
        *,
        step_costs: ArrayLike | None = None,
    ) -> Self:
        """Build the table of black-box classifiers that return one label and one score.

        The rest of the probability, ``1 - confidence``, is spread evenly over the other
        classes. A confidence at or below chance, ``1 / n_classes``, is lifted just above it
        so that the label stays the answer.

        Parameters
        ----------
        labels : array-like of shape (n_samples, n_columns)
            Label each classifier returned; None or NaN where it gave no answer: that row is
            uniform, and the exit before answers.
        confidences : array-like of shape (n_samples, n_columns) or None
            Its score, between 0 and 1. None, where classifiers tell labels only: 1.
        classes : sequence
            All labels, in the order wanted for the class axis.
        paths : PathTree, default=None
            The tree. Default: a chain.
        step_costs : array-like of shape (n_columns,), default=None
            What running each classifier of that chain adds, in any one unit. Needed unless
            `paths` is given, which carries costs (and says their unit).

        Returns
        -------
        PathProbabilities
            float32.

        Raises
        ------
        ValueError
            If shapes differ, a label is not in `classes`, a score is outside [0, 1], or costs
            are left out.

        Examples
        --------
        >>> from skquee import PathProbabilities
        >>> labels, scores = [["cat"], ["dog"]], [[0.75], [0.5]]
        >>> classes = ["cat", "dog"]
        >>> table = PathProbabilities.from_labels(labels, scores, classes, step_costs=[1])
        >>> table.path(0).round(2)
        array([[0.75, 0.25],
               [0.5 , 0.5 ]], dtype=float32)
        """
        if paths is None:
            paths = tree_over("chain", None, step_costs, np.shape(labels)[-1], None)
        elif step_costs is not None:
            raise ValueError("Give paths, which carries costs, or step_costs, not both.")
        values = label_values(labels, confidences, classes)
        return cls(values, paths.with_classes(np.asarray(classes).tolist()))
