"""Gates: what they see and the error models they carry."""

from skquee.method.gates._classifier import PathErrorClassifier, _Linear, _Several
from skquee.method.gates._network import (
    GateLayout,
    GateNetwork,
    entropy,
    gate_features,
    gate_layouts,
)
from skquee.method.gates._protocol import ErrorModel
from skquee.method.gates._regressor import PathErrorRegressor
from skquee.method.gates._rich import ClassErrorRates, GateInputs, rich_features
from skquee.values._public import publish

__all__ = [
    "ErrorModel",
    "PathErrorClassifier",
    "PathErrorRegressor",
    "entropy",
    "gate_features",
    "gate_layouts",
    "rich_features",
]

publish("skquee.gates", *(globals()[name] for name in __all__))
# Not offered, but stored in files under these names.
publish("skquee.gates", ClassErrorRates, GateInputs, GateLayout, GateNetwork, _Linear, _Several)
