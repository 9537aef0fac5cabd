"""What is really quantised: reported, counted in costs, and kept in files."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ, _compiling
from skquee.networks._costs import count_flops
from skquee.networks._coverage import multiplications
from skquee.networks.engines import device_engines


class Attending(nn.Module):
    """Half of its products are taken by an operator."""

    def __init__(self, float_products: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 4, 4)
        self.one, self.two = Mixing(), Mixing()
        self.one.float_products = float_products

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(self.stem(x).flatten(2).mT))


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + (x @ x.mT).softmax(-1) @ x


def fitted(float_products: bool, digits: Any) -> MultiExitNetwork:
    torch.manual_seed(0)
    network = MultiExitNetwork(
        Attending(float_products),
        blocks=["one", "two"],
        img_size=8,
        trainer=HeadTrainer(max_epochs=1),
        random_state=0,
    )
    X, y = digits
    return network.fit(X, y).quantize((4, 8), calibration=X[:32], method=UniformPTQ())


@pytest.mark.parametrize("float_products", [True, False])
def test_costs_count_what_is_really_quantised(float_products: bool, digits: Any) -> None:
    network = fitted(float_products, digits)
    tokens = 4
    stem, layer, products = tokens * 16 * 8, tokens * 8 * 8, 2 * tokens * tokens * 8
    np.testing.assert_array_equal(
        network.flops_, [2 * (stem + layer + products), 2 * (layer + products)]
    )
    in_float = products if float_products else 0
    share = in_float / (stem + layer + products)
    frame = network.coverage()
    assert frame.index.names == ["level", "block"] and (frame.sum(axis=1) - 1 < 1e-12).all()
    for level in (4, 8):
        assert frame.loc[(level, "block 1"), level] == pytest.approx(1 - share)
        assert frame.loc[(level, "block 2"), level] == 1
        whole = in_float / (stem + 2 * layer + 2 * products)
        assert frame.loc[(level, "all"), level] == pytest.approx(1 - whole)
    bits = {level: share * 32 + (1 - share) * level for level in (4, 8)}
    first, second = network.flops_
    wanted = {
        "4": first * bits[4],
        "8": first * bits[8],
        "8-4": first * bits[8] + second * 4,
        "8-8": first * bits[8] + second * 8,
    }
    paths = network.paths_
    assert set(paths.names) <= set(wanted)
    operations = network.path_costs()
    for path, name in enumerate(paths.names):
        assert operations[path] == pytest.approx(wanted[name])
        assert paths.path_costs[path] == pytest.approx(wanted[name] / wanted["8-8"])
    squares = network.path_costs(product=True)[paths.index("8")]
    assert squares == pytest.approx(first * (share * 32**2 + (1 - share) * 8**2))


def test_a_network_with_products_of_its_own_survives_a_file(digits: Any, tmp_path: Any) -> None:
    network, X = fitted(False, digits), digits[0][:20]
    network.save(tmp_path / "network")
    loaded = MultiExitNetwork.load(tmp_path / "network", backbone=Attending(False))
    for level in (4, 8):
        state = network.start(X)
        assert torch.equal(loaded.run_block(state, 0, level), network.run_block(state, 0, level))
    np.testing.assert_array_equal(loaded.paths_.path_costs, network.paths_.path_costs)
    np.testing.assert_array_equal(loaded.coverage(), network.coverage())


def test_float_and_plain_transformers_are_covered_whole(network: MultiExitNetwork) -> None:
    frame = network.coverage()
    for level in network.levels_:
        assert (frame.loc[level][level] == 1).all()


@pytest.mark.skipif(
    "int8" not in device_engines(torch.device("cpu")), reason="no int8 products here"
)
def test_an_engine_covers_its_layers(
    network: MultiExitNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(runs: Any, states: Any) -> Any:
        speed = {"int8": 1.0, "bf16": 2.0, "fp32": 4.0}
        return {name: np.full(len(states), speed[name.split()[0]]) for name in runs}

    monkeypatch.setattr(_compiling, "time_blocks", times)
    compiled = copy.copy(network).compile(runtime="torch", batch_size=4)
    frame = compiled.coverage()
    assert list(frame.columns) == [8, 16, 32]
    assert (frame.loc["bf16"][16] == 1).all() and (frame.loc["fp32"][32] == 1).all()
    # Attention's two products stay in float.
    tokens, width, hidden = 5, 16, 32
    layers = tokens * (4 * width * width + 2 * width * hidden)
    share = layers / (layers + 2 * tokens * tokens * width)
    assert frame.loc[("int8", "block 2"), 8] == pytest.approx(share)


SMALL = {"img_size": 64, "embed_dim": 24, "depths": (2, 1), "num_heads": (2, 2)}
FAMILIES = {
    "Swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", window_size=4, **SMALL),
    "SwinV2": lambda: timm.create_model("swinv2_tiny_window8_256", window_size=4, **SMALL),
    "Swin of torchvision": lambda: torchvision.models.SwinTransformer(
        [4, 4], 24, [2, 1], [2, 2], [4, 4], num_classes=4
    ),
    "ViT of torchvision": lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64),
    "EdgeNeXt": lambda: timm.create_model("edgenext_xx_small"),
    "ECA-ResNet": lambda: timm.create_model("ecaresnet26t", num_classes=4),
    "XCiT": lambda: timm.create_model("xcit_nano_12_p16_224", img_size=64),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_multiplication_of_these_families_is_quantised(family: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().eval().requires_grad_(False)
    images = torch.randn(4, 3, 64, 64)
    quantized = UniformPTQ().quantize([model], images, (8,))[8]
    (counts,), total = multiplications(quantized, images[:1]), count_flops([model], images[:1])[0]
    assert dict(counts) == {8: total / 2}
    assert quantized[0](images).isfinite().all()
