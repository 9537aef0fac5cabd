"""Gates: what they see and the error models they carry."""

from skquee._public import publish
from skquee.gates._classifier import PathErrorClassifier, _Linear, _Several
from skquee.gates._features import GateLayout, entropy, gate_features, gate_layouts
from skquee.gates._mlp import GateNetwork
from skquee.gates._regressor import PathErrorRegressor
from skquee.gates._rich import ClassErrorRates, GateInputs, rich_features

__all__ = [
    "PathErrorClassifier",
    "PathErrorRegressor",
    "entropy",
    "gate_features",
    "gate_layouts",
    "rich_features",
]

publish(__name__, *(globals()[name] for name in __all__))
# Not offered, but stored in files under these names.
publish(__name__, ClassErrorRates, GateInputs, GateLayout, GateNetwork, _Linear, _Several)
