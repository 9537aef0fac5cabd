from __future__ import annotations

import pytest
import torch
from torch import nn

from skquee.networks import MultiExitNetwork
from skquee.networks._costs import count_flops


def test_flops_count_every_token_and_both_attention_products(digits, make_backbone):
    X, y = digits
    tokens, width, hidden, heads = 5, 16, 32, 2
    layer = 2 * tokens * (width * 3 * width + width * width + 2 * width * hidden)
    layer += 2 * 2 * heads * tokens * tokens * (width // heads)
    embedding = 2 * 4 * (4 * 4 * 1) * width  # four patches of 4 x 4 pixels
    network = MultiExitNetwork(make_backbone(), exits=(1, 3), max_epochs=0).fit(X, y)
    assert network.flops_.tolist() == [embedding + layer, 2 * layer]


def test_flops_of_a_convolution_and_a_linear_layer():
    blocks = [nn.Conv2d(3, 4, kernel_size=2, stride=2), nn.Flatten(2), nn.Linear(9, 5)]
    flops = count_flops(blocks, torch.zeros(1, 3, 6, 6))
    assert flops.tolist() == [2 * (3 * 2 * 2) * 4 * 9, 0, 2 * 4 * 9 * 5]


def test_path_costs_follow_equation_17(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(1, 2, 3), max_epochs=0).fit(X, y)
    network.quantize(levels=(3, 8), calibration=X[:8])
    tree, flops = network.paths_, network.flops_
    for name, cost in zip(tree.names, tree.costs, strict=True):
        bits = [int(level) for level in name.split("-")]
        literal = sum(f * b for f, b in zip(flops, bits, strict=False)) / (flops.sum() * 8)
        assert cost == pytest.approx(literal)
    assert tree.costs[tree.index("8-8-8")] == 1.0


def test_the_tree_can_be_freed_of_the_restrictions_of_the_paper(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(1, 3), max_epochs=0).fit(X, y)
    assert network.quantize((4, 8), calibration=X[:8]).paths_.names == ("8", "8-4", "8-8")
    network.quantize((4, 8), calibration=X[:8], first="free", monotone=False)
    assert network.paths_.names == ("4", "8", "4-4", "4-8", "8-4", "8-8")
