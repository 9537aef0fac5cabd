from __future__ import annotations

from collections.abc import Callable
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


@pytest.fixture(scope="session")
def make_backbone() -> Callable[..., VisionTransformer]:
    def make(**kwargs: Any) -> VisionTransformer:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = VisionTransformer(**{**TINY, **kwargs}).eval()
            for parameter in backbone.head.parameters():  # timm's start at zero
                torch.nn.init.normal_(parameter)
        return backbone

    return make


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:400].reshape(-1, 8, 8) / 16, y[:400]


@pytest.fixture(scope="session")
def network(digits, make_backbone) -> MultiExitNetwork:
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(1, 2, 3), random_state=0)
    network.fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))
    return network.quantize(levels=(4, 8, 16), calibration=X[:64])
