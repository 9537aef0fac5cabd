from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from timm.models.vision_transformer import VisionTransformer

from skquee.networks import MultiExitNetwork

TINY = {
    "img_size": 8,
    "patch_size": 4,
    "in_chans": 1,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "num_classes": 10,
    "weight_init": "jax",
}


def make_backbone(seed: int = 0, **kwargs: Any) -> VisionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VisionTransformer(**{**TINY, **kwargs}).eval()


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:400].reshape(-1, 8, 8) / 16, y[:400]


@pytest.fixture(scope="session")
def network(digits) -> MultiExitNetwork:
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(1, 2, 3), random_state=0)
    network.fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))
    return network.quantize(levels=(4, 8, 16), calibration=X[:64])
