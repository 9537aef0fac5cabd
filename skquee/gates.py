"""Gates: what they see and the error models they carry."""

from skquee.method.gates import (
    ClassErrorRates,
    ErrorModel,
    GateInputs,
    GateLayout,
    GateNetwork,
    PathErrorClassifier,
    PathErrorRegressor,
    _Linear,
    _Several,
    entropy,
    gate_features,
    gate_layouts,
    rich_features,
)

__all__ = [
    "ErrorModel",
    "PathErrorClassifier",
    "PathErrorRegressor",
    "entropy",
    "gate_features",
    "gate_layouts",
    "rich_features",
]

# Stored in files under these names.
_KEPT = (ClassErrorRates, GateInputs, GateLayout, GateNetwork, _Linear, _Several)
