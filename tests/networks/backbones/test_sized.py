from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork
from skquee.networks.backbones._modules import cut_modules
from skquee.networks.backbones._pools import run_once
from skquee.networks.backbones._sized import channels_of

TINY = {"embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 4}


class Positions(nn.Module):
    """Tokens whose positions, grid and numbers every layer asks for."""

    def __init__(self, *, written: bool = False) -> None:
        super().__init__()
        self.written = written
        self.embed = nn.Conv2d(3, 6, 2, 2)
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, width, height, wide = x.shape
        x = x.flatten(2).transpose(1, 2)
        table = torch.arange(height * wide, device=x.device, dtype=x.dtype)[:, None] / x.ndim
        if self.written:
            table += x.mean()
        for layer in self.layers:
            x = layer(x + table.sin()).reshape(n, height * wide, width)
        return self.head(x.reshape(n, height, wide, width).mean(dim=(1, 2)))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def in_a_row(pieces, x):
    blocks, tail = pieces
    with torch.inference_mode():
        for block in blocks:
            x = block(x)
        return tail(x)


NAMES = ["layers.0", "layers.1", "layers.2"]


@settings(deadline=None, max_examples=20)
@given(
    names=st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(sorted),
    n=st.integers(1, 5),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
)
def test_what_images_size_decides_crosses_no_cut(names, n, height, width):
    module = seeded(Positions)
    x = torch.randn(n, 3, 2 * height, 2 * width)
    pieces = cut_modules(module, names, tuple(x.shape[1:]))
    with torch.inference_mode():
        assert torch.equal(in_a_row(pieces, x), module(x))


def test_constants_follow_a_piece_to_another_type_and_into_its_state():
    module = seeded(Positions)
    pieces = cut_modules(module, NAMES, (3, 4, 4))
    x = torch.randn(2, 3, 4, 4).double()
    doubled = nn.Sequential(*pieces[0], pieces[1]).double()
    with torch.inference_mode():
        assert torch.allclose(doubled(x), module.double()(x))
    assert any(name.startswith("of_size_") for name in pieces[0][1].state_dict())


class Grid(nn.Module):
    """Returns tokens with the grid that they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.embed(x)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


class Told(nn.Module):
    """Layers that are told the grid."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = Grid()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x, (height, width) = self.patches(x)
        for layer in self.layers:
            x = layer(x).unflatten(1, (height, width)).flip(1).flatten(1, 2)
        return x.mean(dim=1)


def test_numbers_that_a_module_returns_cross_no_cut():
    module, x = seeded(Told), torch.randn(3, 3, 4, 8)
    with torch.inference_mode():
        pieces = cut_modules(module, ["layers.0", "layers.1"], (3, 4, 8))
        assert torch.equal(in_a_row(pieces, x), module(x))
    with pytest.raises(ValueError, match="3 values cross the cut"):
        cut_modules(module, ["layers.0", "layers.1"])


def test_without_the_size_the_error_asks_for_it():
    with pytest.raises(ValueError, match=r"values cross the cut after 'layers.0'.*give img_size="):
        cut_modules(seeded(Positions), NAMES)


def test_a_table_that_images_are_written_into_is_refused():
    with pytest.raises(ValueError, match="does not stay fixed|values cross the cut"):
        cut_modules(seeded(lambda: Positions(written=True)), NAMES, (3, 4, 4))


def test_images_that_the_network_does_not_run_on_are_refused():
    with pytest.raises(ValueError, match=r"does not run on an image of shape \(3, 1, 1\)"):
        cut_modules(seeded(Positions), NAMES, (3, 1, 1))


def test_an_image_that_does_not_fit_is_told_once(capsys):
    blocks, _ = cut_modules(seeded(Positions), NAMES, (3, 4, 4))
    with pytest.raises(ValueError, match=r"does not run on an image of shape \(3, 8, 8\)"):
        run_once(blocks, torch.zeros(1, 3, 8, 8), NAMES)
    assert capsys.readouterr().err == ""


def test_a_transformer_with_rotary_positions_is_cut_quantised_saved_and_compiled(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    network = MultiExitNetwork(
        "vit_small_patch16_dinov3",
        blocks=["blocks.0", "blocks.2"],
        img_size=32,
        backbone_kwargs=TINY,
        trainer=HeadTrainer(max_epochs=0, final_head="keep"),
        random_state=0,
    ).fit(X, np.arange(12) % 4)
    images = network.start(X)
    with torch.inference_mode():
        plain = network.parts_.backbone(images).softmax(1).numpy()
    answers = MultiPathClassifierBank(network).transform(X)
    assert np.array_equal(answers.path(1), plain)
    network.save(tmp_path / "network")
    again = MultiPathClassifierBank(MultiExitNetwork.load(tmp_path / "network")).transform(X)
    assert np.array_equal(again.path(1), plain)
    assert network.quantize((8,), calibration=X).coverage().loc[(8, "all"), 8] == 1
    network.compile(("int8",), calibration=X, batch_size=2, runtime="torch")
    assert network.levels_ == ("int8",)


@pytest.mark.parametrize(
    ("name", "blocks", "options"),
    [
        ("vit_tiny_patch16_224", ["blocks.0", "blocks.2"], TINY),
        ("resnet10t", ["layer1", "layer4"], {"num_classes": 4}),
    ],
)
def test_a_timm_name_that_is_cut_by_names_is_built_for_the_size(name, blocks, options):
    X = np.zeros((8, 32, 32, 3), dtype=np.uint8)
    trainer = HeadTrainer(max_epochs=0)
    network = MultiExitNetwork(
        name, blocks=blocks, img_size=32, backbone_kwargs=options, trainer=trainer, random_state=0
    ).fit(X, np.arange(8) % 4)
    assert network.parts_.format.size == (32, 32)


@pytest.mark.parametrize(
    ("module", "channels"),
    [
        (nn.Conv2d(1, 4, 3), 1),
        (nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 4, 3)), 3),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3)), 4),  # no count runs: as written
        (nn.Flatten(), 3),
    ],
)
def test_channels_are_those_that_a_network_runs_on(module, channels):
    assert channels_of(module) == channels


def test_numbers_of_layers_of_another_transformer_are_given_back_as_names():
    backbone = timm.create_model("vit_small_patch16_dinov3", **TINY)
    with pytest.raises(ValueError, match=r"blocks=\['blocks.0', 'blocks.2'\]"):
        MultiExitNetwork(backbone, exits=[1, 3]).fit(np.zeros((4, 32, 32, 3), np.uint8), [0, 1] * 2)
