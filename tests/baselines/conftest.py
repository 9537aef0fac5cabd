from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from timm.models.vision_transformer import VisionTransformer

from skquee import MultiPathClassifierBank
from skquee.bank import LazyPathProbabilities
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ

Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def train() -> Rows:
    X, y = load_digits(return_X_y=True)
    return X[:600].reshape(-1, 8, 8) / 16, y[:600]


@pytest.fixture(scope="session")
def test() -> Rows:
    X, y = load_digits(return_X_y=True)
    return X[600:800].reshape(-1, 8, 8) / 16, y[600:800]


@pytest.fixture(scope="session")
def network(train: Rows) -> MultiExitNetwork:
    """Three exits of a frozen random transformer, at 3, 4 and 8 bits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = VisionTransformer(
            img_size=8,
            patch_size=4,
            in_chans=1,
            embed_dim=24,
            depth=3,
            num_heads=2,
            mlp_ratio=2.0,
            num_classes=10,
            weight_init="jax",
        )
    network = MultiExitNetwork(
        backbone, exits=(1, 2, 3), trainer=HeadTrainer(final_head="train"), random_state=0
    )
    network.fit(*train)
    return network.quantize((3, 4, 8), calibration=train[0][:32], method=UniformPTQ())


@pytest.fixture(scope="session")
def bank(network: MultiExitNetwork) -> MultiPathClassifierBank:
    return MultiPathClassifierBank(network, batch_size=64)


@pytest.fixture(scope="session")
def lazy(bank: MultiPathClassifierBank, train: Rows) -> LazyPathProbabilities:
    return bank.transform(train[0])
