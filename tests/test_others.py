"""Where libraries disagree (docs/appendix/others.rst), what is right here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils import shuffle
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities
from skquee.evaluation import calibration_error
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ
from skquee.networks.engines import Int8Linear
from skquee.networks.engines._int8 import int8_available
from skquee.testing import make_path_probabilities


@pytest.mark.skipif(not int8_available(), reason="no oneDNN int8 products")
def test_a_row_beside_an_outlier_answers_as_alone():
    torch.manual_seed(0)
    layer, seen = nn.Linear(64, 32).eval(), torch.randn(8, 64)
    quantised = Int8Linear(layer, (float(seen.min()), float(seen.max())))
    beside = torch.cat([seen[:1], 100 * torch.randn(1, 64)])
    with torch.inference_mode():
        np.testing.assert_array_equal(quantised(beside)[:1], quantised(seen[:1]))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=2
    )
    images = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    trainer = HeadTrainer(max_epochs=1)
    fitted = MultiExitNetwork(vit, exits=(1, 2), trainer=trainer, random_state=0)
    return fitted.fit(images, [0, 1] * 4), images


def test_a_quantised_network_answers_an_image_beside_an_outlier_as_alone(network):
    fitted, images = network
    fitted.quantize((4, 8), calibration=images, method=UniformPTQ())
    outlier = np.zeros_like(images[:1])
    outlier[:, ::2] = 1
    bank = MultiPathClassifierBank(fitted).fit(images, [0, 1] * 4)
    alone, beside = (
        np.asarray(bank.materialize(rows))[0]
        for rows in (images[:1], np.concatenate([images[:1], outlier]))
    )
    np.testing.assert_allclose(beside, alone, atol=1e-6)


def test_a_block_of_a_vit_counts_as_by_hand(network):
    width, tokens = 24, 8 * 8 + 1
    linear = tokens * (4 * width**2 + 8 * width**2)  # q, k, v, projection; MLP
    attention = 2 * tokens**2 * width
    assert network[0].flops_[1] == 2 * (linear + attention)


def literal_error(predicted, observed, n_bins):
    """Equal mass, rows of one prediction sharing their mean outcome: the definition, in full."""
    shared = np.array([observed[predicted == p].mean() for p in predicted])
    order = np.argsort(predicted, kind="stable")
    bins = np.array_split(order, n_bins)
    gaps = [abs(predicted[rows].mean() - shared[rows].mean()) * len(rows) for rows in bins]
    return sum(gaps) / len(predicted)


def test_calibration_error_is_the_literal_one_and_no_shuffle_moves_it():
    rng = np.random.default_rng(0)
    predicted = np.round(rng.beta(1.5, 4, 1000) / 2, 2)
    observed = (rng.random(1000) < 1 - (1 - predicted) ** 1.5).astype(float)
    found = calibration_error(predicted, observed, n_bins=10)
    assert found == pytest.approx(literal_error(predicted, observed, 10), abs=1e-12)
    for seed in range(5):
        mixed = shuffle(predicted, observed, random_state=seed)
        assert calibration_error(*mixed, n_bins=10) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("regressor", [None, "logistic"])
def test_a_router_of_a_half_table_is_that_of_the_same_numbers_in_double(regressor):
    table, y = make_path_probabilities(2000)
    half = np.asarray(table).astype(np.float16)
    # Sums of these go beyond 65,504, the end of half precision.
    weight = np.full(len(y), 100.0)
    predicted = [
        CostAwareRouter(0.3, regressor=regressor, random_state=0)
        .fit(PathProbabilities(values, table.paths), y, sample_weight=weight)
        .predict_error(PathProbabilities(values[:200], table.paths))
        for values in (half, half.astype(float))
    ]
    np.testing.assert_allclose(*predicted, atol=1e-6)
