from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ
from skquee.networks._costs import count_flops, gate_flops


def test_flops_count_every_token_and_both_attention_products(digits, make_backbone):
    X, y = digits
    tokens, width, hidden, heads = 5, 16, 32, 2
    layer = 2 * tokens * (width * 3 * width + width * width + 2 * width * hidden)
    layer += 2 * 2 * heads * tokens * tokens * (width // heads)
    embedding = 2 * 4 * (4 * 4 * 1) * width  # four patches of 4 x 4 pixels
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=0)
    ).fit(X, y)
    assert network.flops_.tolist() == [embedding + layer, 2 * layer]


def test_flops_of_a_convolution_and_a_linear_layer():
    blocks = [nn.Conv2d(3, 4, kernel_size=2, stride=2), nn.Flatten(2), nn.Linear(9, 5)]
    flops = count_flops(blocks, torch.zeros(1, 3, 6, 6))
    assert flops.tolist() == [2 * (3 * 2 * 2) * 4 * 9, 0, 2 * 4 * 9 * 5]


def test_path_costs_follow_equation_17(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 2, 3), trainer=HeadTrainer(max_epochs=0)
    ).fit(X, y)
    network.quantize(levels=(3, 8), calibration=X[:8])
    tree, flops = network.paths_, network.flops_
    for name, cost in zip(tree.names, tree.costs, strict=True):
        bits = [int(level) for level in name.split("-")]
        literal = sum(f * b for f, b in zip(flops, bits, strict=False)) / (flops.sum() * 8)
        assert cost == pytest.approx(literal)
    assert tree.costs[tree.index("8-8-8")] == 1.0


def test_the_tree_can_be_freed_of_the_restrictions_of_the_paper(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=0)
    ).fit(X, y)
    assert network.quantize((4, 8), calibration=X[:8]).paths_.names == ("8", "8-4", "8-8")
    network.quantize((4, 8), calibration=X[:8], first="free", monotone=False)
    assert network.paths_.names == ("4", "8", "4-4", "4-8", "8-4", "8-8")


TOKENS, WIDTH, HEADS, HIDDEN = 9, 32, 4, 64
# Four layers of WIDTH by WIDTH over the tokens, and both products.
ATTENTION = 4 * 2 * TOKENS * WIDTH * WIDTH + 2 * 2 * TOKENS * TOKENS * WIDTH
PRODUCTS = 2 * 2 * TOKENS * TOKENS * WIDTH
LAYER = ATTENTION + 2 * 2 * TOKENS * WIDTH * HIDDEN


class First(nn.Module):
    """The first of what a layer returns: of attention and recurrent layers."""

    def __init__(self, layer: nn.Module, **options: Any) -> None:
        super().__init__()
        self.layer, self.options = layer, options

    def forward(self, x: Tensor) -> Tensor:
        inputs = (x,) * (3 if isinstance(self.layer, nn.MultiheadAttention) else 1)
        return self.layer(*inputs, **self.options)[0]


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def encoder_layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True)


def recurrent(gates: int) -> int:
    return 2 * TOKENS * gates * (WIDTH * HIDDEN + HIDDEN * HIDDEN)


@pytest.mark.parametrize(
    ("make", "by_hand"),
    [
        (lambda: Attention(WIDTH, num_heads=HEADS), ATTENTION),
        (lambda: First(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)), ATTENTION),
        (
            lambda: First(
                nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), need_weights=False
            ),
            ATTENTION,
        ),
        (encoder_layer, LAYER),
        (
            lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False),
            2 * LAYER,
        ),
        (lambda: Of(lambda x: (x @ x.mT).softmax(-1) @ x), PRODUCTS),
        (lambda: Of(lambda x: F.scaled_dot_product_attention(*[x.unsqueeze(1)] * 3)), PRODUCTS),
        (lambda: Of(lambda x: torch.einsum("nic,njc->nij", x, x)), PRODUCTS // 2),
        (lambda: Of(lambda x: F.linear(x, torch.ones(5, WIDTH))), 2 * TOKENS * WIDTH * 5),
        (lambda: Of(lambda x: x @ torch.ones(WIDTH)), 2 * TOKENS * WIDTH),
        (lambda: First(nn.LSTM(WIDTH, HIDDEN, batch_first=True)), recurrent(4)),
        (lambda: First(nn.GRU(WIDTH, HIDDEN, batch_first=True)), recurrent(3)),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_flops_of_products_are_the_hand_count_however_torch_fuses_them(make, by_hand, training):
    flops = count_flops([make().train(training)], torch.zeros(1, TOKENS, WIDTH))
    assert flops.tolist() == [by_hand]
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("convolution", "by_hand"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), 2 * 25 * 8 * 9),
        (nn.Conv2d(8, 12, 3, padding=1, groups=4), 2 * 25 * 12 * 2 * 9),
        (nn.Conv2d(8, 6, 3, stride=2, dilation=2, padding=2), 2 * 9 * 6 * 8 * 9),
        (nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4), 2 * 25 * 8 * 3 * 4),
    ],
)
def test_flops_of_convolutions_are_the_hand_count(convolution, by_hand):
    assert count_flops([convolution], torch.zeros(1, 8, 5, 5)).tolist() == [by_hand]


def test_flops_of_torchvision_s_vision_transformer_are_the_hand_count():
    vit = VisionTransformer(32, 8, 2, HEADS, WIDTH, HIDDEN, num_classes=4)
    tokens = 17
    layer = 2 * tokens * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + 4 * tokens * tokens * WIDTH
    patches = 2 * 16 * (8 * 8 * 3) * WIDTH
    flops = count_flops([vit.eval()], torch.zeros(1, 3, 32, 32))
    assert flops.tolist() == [patches + 2 * layer + 2 * WIDTH * 4]


def test_other_counts_of_bit_operations_follow_their_formulas(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 2, 3), trainer=HeadTrainer(max_epochs=0)
    ).fit(X, y)
    network.quantize(levels=(3, 8), calibration=X[:8], method=UniformPTQ())
    tree, flops, heads = network.paths_, network.flops_, network.head_flops_
    assert heads.tolist() == [2 * 16 * 10] * 3  # a linear layer on 16 features; norms are free
    gate = gate_flops(10, 3, tree.n_paths)
    for path, name in enumerate(tree.names):
        bits = [int(level) for level in name.split("-")]
        run = list(zip(flops, bits, strict=False))
        assert network.path_costs()[path] == sum(f * b for f, b in run)
        assert network.path_costs(product=True)[path] == sum(f * b * b for f, b in run)
        passed = sum(heads[: len(bits)]) * 32
        with_heads = network.path_costs(heads=True)[path]
        assert with_heads == network.path_costs()[path] + passed
        gates = min(len(bits), 2) * gate * 32
        assert network.path_costs(heads=True, gates=True)[path] == with_heads + gates
    costs = network.path_costs(product=True, heads=True, gates=True)
    bank = MultiPathClassifierBank(network, path_costs=costs)
    np.testing.assert_allclose(bank.paths_.path_costs, costs)
    assert bank.paths_.cost_unit is None
    whole = network.costed_paths(product=True, heads=True, gates=True)
    np.testing.assert_allclose(whole.path_costs, costs / costs.max())
    assert whole.cost_unit == tree.cost_unit == "of the whole network"
    assert MultiPathClassifierBank(network, path_costs="flops").paths_ == network.costed_paths(
        "flops"
    )


def test_a_gate_counts_what_its_layers_multiply():
    n_classes, n_exits, n_paths, width, hidden = 10, 3, 15, 8, 16
    layers = nn.Sequential(
        nn.Linear(n_exits + 1, width), nn.Linear(width, hidden), nn.Linear(hidden, 1)
    )
    of_paths = count_flops([layers], torch.zeros(n_paths, n_exits + 1))[0]
    of_sample = count_flops([nn.Linear(2 * n_classes + 4, width)], torch.zeros(1, 24))[0]
    assert gate_flops(n_classes, n_exits, n_paths) == of_paths + of_sample
