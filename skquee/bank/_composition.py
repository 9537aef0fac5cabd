"""Named classifiers as parameters: reached, replaced and checked by their names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

from sklearn.base import BaseEstimator, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from sklearn.tree import DecisionTreeClassifier

__all__ = [
    "DEFAULT_STEP_COSTS",
    "NamedClassifiers",
    "clone_sharing",
    "is_estimator",
    "is_frozen_model",
    "is_network",
]

#: Step costs of the classifiers that a bank has where none are given: about how they compare.
DEFAULT_STEP_COSTS = (1.0, 2.0, 5.0)


def is_estimator(model: object) -> bool:
    """Whether a classifier answers by ``predict_proba``; else it is called."""
    return hasattr(model, "predict_proba")


def is_network(classifiers: object) -> bool:
    """Whether these are the blocks of a network."""
    return hasattr(classifiers, "run_block") and hasattr(classifiers, "head")


def is_frozen_model(model: object) -> bool:
    """Whether cloning returns the model itself, told without a clone where it would be made."""
    if isinstance(model, FrozenEstimator):
        return True
    own = getattr(type(model), "__sklearn_clone__", None)
    return own is not None and own is not BaseEstimator.__sklearn_clone__ and own(model) is model


def clone_sharing(estimator: BaseEstimator, name: str) -> BaseEstimator:
    """Return a clone that shares one parameter: a fitted network, which holds its weights."""
    made = copy.copy(estimator)
    setattr(made, name, None)
    made = BaseEstimator.__sklearn_clone__(made)
    setattr(made, name, getattr(estimator, name))
    return made


class NamedClassifiers(BaseEstimator):
    """Gives a bank its classifiers as parameters: ``rf``, ``rf__n_estimators``."""

    classifiers: Any

    def __sklearn_clone__(self) -> BaseEstimator:
        """Clone, sharing callables (a client with a lock cannot be copied) and a network."""
        if self.classifiers is not None and is_network(self.classifiers):
            return clone_sharing(self, "classifiers")
        made = copy.copy(self)
        shared: dict[str, BaseEstimator] = {}
        if self.classifiers is not None and self._looks_named():
            named = self._named()
            shared = {name: m for name, m in named if not is_estimator(m) and callable(m)}
            made.classifiers = [(name, None if name in shared else m) for name, m in named]
        made = super(NamedClassifiers, made).__sklearn_clone__()
        if shared:
            made.classifiers = [(name, shared.get(name, m)) for name, m in made.classifiers]
        return made

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return parameters, with ``deep`` also the classifiers by name, and theirs.

        Parameters
        ----------
        deep : bool, default=True
            Whether to go into the classifiers.

        Returns
        -------
        dict
        """
        found: dict[str, object] = super().get_params(deep=False)
        if deep and self.classifiers is not None and self._looks_named():
            for name, model in self._named():
                found[name] = model
                if hasattr(model, "get_params") and not isinstance(model, type):
                    for key, value in model.get_params(deep=True).items():
                        found[f"{name}__{key}"] = value
        return found

    def set_params(self, **params: object) -> Self:
        """Set parameters; a classifier's by ``name__parameter``, or replace it by ``name``.

        Parameters
        ----------
        **params
            Parameters.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter or classifier.
        """
        if "classifiers" in params:
            self.classifiers = params.pop("classifiers")
        named = self.classifiers is not None and self._looks_named()
        names = [name for name, _ in self._named()] if named else []
        own: dict[str, object] = {}
        nested: dict[str, dict[str, object]] = {}
        for key, value in params.items():
            name, _, rest = key.partition("__")
            if name in names and rest:
                nested.setdefault(name, {})[rest] = value
            elif name in names:
                self.classifiers = [
                    (other, value if other == name else model) for other, model in self._named()
                ]
            else:
                own[key] = value
        super().set_params(**own)
        for name, values in nested.items():
            dict(self._named())[name].set_params(**values)
        return self

    def _named(self) -> list[tuple[str, BaseEstimator]]:
        if self.classifiers is None:
            return [
                ("stump", DecisionTreeClassifier(max_depth=1, random_state=0)),
                ("tree", DecisionTreeClassifier(max_depth=4, random_state=0)),
                ("logistic", LogisticRegression()),
            ]
        return [tuple(pair) for pair in self.classifiers]

    def _sk_visual_block_(self) -> object:
        """Show the members in scikit-learn's diagrams, which ask for this method.

        Its unions answer it with their members side by side, and so for ours.
        """
        if is_network(self.classifiers):
            shown = [("network", self.classifiers)]
        else:  # what is called, not fitted, is shown by the name of its class or function
            shown = [
                (name, m if is_estimator(m) else getattr(m, "__name__", type(m).__name__))
                for name, m in self._named()
            ]
        return FeatureUnion(shown)._sk_visual_block_()

    def _looks_named(self) -> bool:
        return self.classifiers is None or (
            isinstance(self.classifiers, Sequence)
            and all(
                isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)
                for pair in self.classifiers
            )
        )

    def _check_names(self) -> None:
        if not self._looks_named() or (self.classifiers is not None and not len(self.classifiers)):
            given, advice = self.classifiers, "An ensemble is one classifier: give it a name."
            if isinstance(given, dict):
                advice = "Of a dict, give list(models.items())."
            elif isinstance(given, (list, tuple)):
                advice = 'Give each a name, [("small", small), ("large", large)].'
            raise ValueError(
                "classifiers must be a list of (name, estimator or callable), cheapest first, or "
                f"a network with start, run_block and head; got {type(given).__name__}. {advice}"
            )
        names = [name for name, _ in self._named()]
        if len(set(names)) != len(names):
            raise ValueError(f"Names of classifiers must be unique, got {names}.")
        taken = sorted(set(names) & set(super().get_params(deep=False)))
        if taken:
            raise ValueError(f"Classifiers may not be named as parameters of the bank: {taken}.")
        if any("__" in name for name in names):
            raise ValueError(f"Names of classifiers may not hold two underscores, got {names}.")
        for name, model in self._named():
            estimator = model.estimator if isinstance(model, FrozenEstimator) else model
            if isinstance(model, type):
                raise TypeError(
                    f"Classifier {name!r} is the class {model.__name__}: give an instance, "
                    f"{model.__name__}()."
                )
            if callable(model) and not hasattr(model, "fit"):
                continue
            if not is_estimator(estimator):
                advice = (
                    "Wrap it in CalibratedClassifierCV."
                    if hasattr(estimator, "fit") and is_classifier(estimator)
                    else "Give a classifier or a callable."
                )
                raise TypeError(
                    f"Classifier {name!r} ({type(estimator).__name__}) has no predict_proba. "
                    + advice
                )
