"""Gates: what they see and the error models they carry."""

from skquee.gates._features import entropy, gate_features, gate_layouts
from skquee.gates._regressor import PathErrorRegressor

__all__ = ["PathErrorRegressor", "entropy", "gate_features", "gate_layouts"]
