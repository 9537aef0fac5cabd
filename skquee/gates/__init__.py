"""Gates: what they see and the error models they carry."""

from skquee.gates._classifier import PathErrorClassifier
from skquee.gates._features import entropy, gate_features, gate_layouts
from skquee.gates._regressor import PathErrorRegressor
from skquee.gates._rich import rich_features

__all__ = [
    "PathErrorClassifier",
    "PathErrorRegressor",
    "entropy",
    "gate_features",
    "gate_layouts",
    "rich_features",
]
