"""Convolutions on int8 products: against their definition, and whole networks of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ, _compiling
from skquee.networks.engines import _int8, build_engine, input_ranges
from skquee.networks.engines._folding import norms_to_fold
from skquee.networks.engines._int8 import (
    Int8Conv2d,
    Int8Linear,
    grid,
    int8_available,
    suits_int8,
    weight_top,
)
from skquee.networks.engines._openvino import FakeInt8Conv2d, openvino_available

needs_openvino = pytest.mark.skipif(not openvino_available(), reason="OpenVINO is not installed")
needs_int8 = pytest.mark.skipif(
    not int8_available(), reason="no oneDNN int8 products, or they overflow"
)


def warmed(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Give a batch normalisation statistics and weights that are not those it starts with."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.normal_(norm.bias)
    return norm.eval()


@needs_int8
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "stride": 2, "padding": 1},
        {"groups": 8, "padding": 2, "dilation": 2},
        {"groups": 2, "padding": (0, 1)},
    ],
)
def test_an_int8_convolution_is_its_definition(options: dict[str, Any], norm: bool) -> None:
    torch.manual_seed(0)
    conv, span = nn.Conv2d(8, 16, 3, **options).eval(), (-1.5, 2.5)
    after = warmed(nn.BatchNorm2d(16)) if norm else None
    scale, zero = grid(span)
    codes = torch.randint(0, 256, (3, 8, 9, 7))
    x = ((codes - zero) * scale).float()  # on the grid: no halves to round
    weight, bias = conv.weight.double(), conv.bias.double() if conv.bias is not None else None
    if after is not None:
        factor = after.weight.double() / (after.running_var.double() + after.eps).sqrt()
        weight = weight * factor[:, None, None, None]
        shift = -after.running_mean.double() + (0 if bias is None else bias)
        bias = shift * factor + after.bias.double()
    step = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / weight_top()
    rounded = (weight / step).round() * step
    arguments = conv.stride, conv.padding, conv.dilation, conv.groups
    wanted = nn.functional.conv2d(x.double(), rounded, bias, *arguments)
    with torch.inference_mode():
        for layer in (Int8Conv2d(conv, span, after), FakeInt8Conv2d(conv, span, after)):
            torch.testing.assert_close(layer(x).double(), wanted, atol=1e-4, rtol=1e-4)


@needs_int8
def test_replaced_layers_survive_pickle_and_still_tell_their_weight() -> None:
    conv, linear = nn.Conv2d(3, 4, 1).eval(), nn.Linear(3, 4)
    x = torch.rand(2, 3, 5, 5)
    layer = Int8Conv2d(conv, (0.0, 1.0), warmed(nn.BatchNorm2d(4)))
    again = pickle.loads(pickle.dumps(layer))  # our own bytes, made a line ago
    with torch.inference_mode():
        assert torch.equal(again(x), layer(x))
    assert layer.weight is conv.weight and layer.bias is conv.bias
    assert Int8Linear(linear, (0.0, 1.0)).weight is linear.weight


def test_where_products_overflow_weights_have_a_bit_less(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflowing(nn.Module):
        def __init__(self, layer: nn.Module, span: Any, *, top: int) -> None:
            super().__init__()
            self.layer, self.top = layer, top

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) * (1.0 if self.top < limit else 0.5)

    monkeypatch.setattr(_int8, "Int8Linear", Overflowing)
    monkeypatch.setattr(_int8, "Int8Conv2d", Overflowing)
    found = {}
    for limit in (200, 100, 10):
        weight_top.cache_clear()
        found[limit] = weight_top()
    weight_top.cache_clear()
    assert found == {200: 127, 100: 63, 10: 0}


class Joined(nn.Module):
    """Convolutions whose answers are read once, twice, and by a norm that reads two."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.one, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm1, self.norm2 = warmed(BatchNormAct2d(4)), warmed(nn.BatchNorm2d(4))
        self.shared = warmed(nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.once(x))
        y = self.twice(x)
        y = self.norm2(y) + y
        return self.shared(self.one(y)) + self.shared(self.other(y))


def test_only_a_norm_that_alone_reads_a_convolution_is_folded() -> None:
    block = Joined().eval()
    assert norms_to_fold(block, torch.rand(2, 3, 4, 4)) == {"once": "norm1"}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())
    block.norm1.train()
    assert norms_to_fold(block, torch.rand(2, 3, 4, 4)) == {}


@needs_int8
def test_a_folded_norm_keeps_its_activation() -> None:
    torch.manual_seed(0)
    blocks, x = nn.ModuleList([Joined().eval()]), torch.rand(4, 3, 4, 4)
    ranges = input_ranges(blocks, [x])
    with torch.inference_mode():
        wanted = blocks[0](x)
        for states in (None, [x]):
            block = build_engine("int8", blocks, ranges, states)[0]
            found = block(x)
            assert (found - wanted).square().mean().sqrt() < 0.03 * wanted.std()
    assert isinstance(block.block.once, Int8Conv2d)
    assert isinstance(block.block.norm1, nn.Sequential) and block.block.twice is not None
    assert isinstance(blocks[0].norm1, BatchNormAct2d), "the float block stays as it was"


def test_layers_that_compute_in_their_own_way_stay_float() -> None:
    class Own(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).abs()

    assert suits_int8(nn.Linear(2, 2)) and suits_int8(nn.Conv2d(2, 2, 3, groups=2))
    assert not suits_int8(Own(2, 2)) and not suits_int8(nn.Conv1d(2, 2, 3))
    assert not suits_int8(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"))
    assert not suits_int8(nn.Conv2d(2, 2, 3, padding="same"))


# ---------------------------------------------------------------------- networks

FAMILIES = {
    "resnet18": ("layer1", "layer4"),
    "efficientnet_lite0": ("blocks.2", "blocks.6"),
    "mobilenetv3_small_050": ("blocks.1", "blocks.5"),
    "convnext_atto": ("stages.1", "stages.3"),
}


def all_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every engine, whatever pays on the machine of the test."""
    speed = {"int8": 1.0, "bf16": 2.0, "fp32": 4.0}
    monkeypatch.setattr(
        _compiling,
        "time_blocks",
        lambda runs, states: {name: np.full(len(states), speed[name.split()[0]]) for name in runs},
    )


def fitted(backbone: nn.Module, blocks: Sequence[str], size: int = 32) -> MultiExitNetwork:
    X = np.random.default_rng(0).integers(0, 256, (40, size, size, 3), dtype=np.uint8)
    network = MultiExitNetwork(
        backbone.eval(),
        blocks=blocks,
        img_size=size,
        trainer=HeadTrainer(max_epochs=1),
        random_state=0,
    )
    return network.fit(X, np.arange(40) % 4)


@needs_int8
@pytest.mark.parametrize("runtime", ["torch", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_networks_of_convolutions_compile_near_their_simulation(
    name: str, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=4)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            warmed(module)
    network = fitted(backbone, FAMILIES[name])
    X = np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    simulated = copy.copy(network).quantize((8,), calibration=X, method=UniformPTQ())
    all_engines(monkeypatch)
    compiled = copy.copy(simulated).compile(("int8", "fp32"), runtime=runtime, batch_size=16)
    assert compiled.levels_ == ("int8", "fp32")
    state = network.start(X)
    for block in range(2):
        exact, rounded, found = (
            net.run_block(state, block, level)
            for net, level in ((network, 32), (simulated, 8), (compiled, "int8"))
        )
        plain = compiled.run_block(state, block, "fp32")
        torch.testing.assert_close(plain, exact, atol=1e-3, rtol=1e-3)
        # The same scales for inputs; weights may have one bit less, which alone doubles errors.
        error = (found - rounded).square().mean().sqrt() / exact.std()
        assert 0 < error < 0.2
        state = exact


@needs_int8
def test_torchs_own_encoder_layer_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 8, 8)
            self.one = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.two = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(self.stem(x).flatten(2).transpose(1, 2)))

    network = fitted(Backbone(), ["one", "two"])
    all_engines(monkeypatch)
    compiled = copy.copy(network).compile(("int8", "fp32"), runtime="torch", batch_size=8)
    state = network.start(np.zeros((5, 32, 32, 3), dtype=np.uint8))
    exact, found = network.run_block(state, 0, 32), compiled.run_block(state, 0, "int8")
    assert 0 < (found - exact).abs().max() < 0.1 * exact.std()


@needs_int8
def test_a_network_without_a_layer_for_int8_leaves_it_out_with_a_message() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).abs()

    network = fitted(nn.Sequential(Own(3, 4, 3), nn.ReLU()), ["0", "1"])
    with pytest.warns(UserWarning, match="No linear layer or convolution here suits int8"):
        network.compile(("int8", "fp32"), runtime="torch", calibration=np.zeros((2, 32, 32, 3)))
    assert network.levels_ == ("fp32",)
