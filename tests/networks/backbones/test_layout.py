from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, resnet18

from skquee.networks.backbones._layout import channel_axes
from skquee.networks.backbones._modules import cut_modules
from skquee.networks.backbones._pools import GlobalPool, check_pool, make_pools, run_once


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


class Permuted(nn.Module):
    """A layer that keeps its maps in an order of axes of its own, for one size of images or any."""

    def __init__(self, layer: nn.Module, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        self.layer, self.after = layer, list(after)
        self.before = [list(before).index(axis) for axis in range(len(before))]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.permute(self.before)).permute(self.after)


class Placed(nn.Module):
    """Adds a position to each place: takes images of one size only."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


class Mixing(nn.Module):
    """A layer without norms that mixes tokens first, then channels: as ResMLP."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.channels = nn.Linear(tokens, tokens), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.1 * self.tokens(x.mT).mT
        return x + self.channels(x)


class Tokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mT


class Scrambled(nn.Module):
    """Places and channels mixed all with all: nothing tells them apart."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape
        n = torch.Size(shape).numel()
        self.register_buffer("matrix", torch.randn(n, n) / n**0.5)
        self.matrix: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix).unflatten(1, self.shape)


class Pooled(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self.axes)


def axes_of(module: nn.Module, names: Sequence[str], image: Tensor) -> tuple[int, ...]:
    blocks, tail = cut_modules(module, names)
    return channel_axes(blocks, tail, image, names)


def convolutions(order: Sequence[int], *, fixed: bool) -> nn.Sequential:
    """Three stages whose states are in an order of axes."""
    plain = (0, 1, 2, 3)
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), Placed(8, 8, 8) if fixed else nn.Identity(), nn.ReLU()
        ),
        Permuted(nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()), plain, order),
        Permuted(nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12)), order, order),
        Permuted(nn.AdaptiveAvgPool2d(1), order, plain),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("order", [(0, *rest) for rest in permutations((1, 2, 3))])
def test_channels_are_found_in_any_order_of_axes(order, fixed):
    module = seeded(lambda: convolutions(order, fixed=fixed))
    channels = order.index(1)
    # 8 channels on 8 by 8 places: sizes alone tell nothing.
    assert axes_of(module, ["1", "2"], torch.zeros(1, 3, 16, 16)) == (channels, channels)


def test_the_mixing_of_tokens_by_linear_layers_is_not_taken_for_channels():
    def make() -> nn.Module:
        embed = nn.Sequential(nn.Conv2d(3, 16, 4, 4), Tokens(), Placed(16, 16))
        layers = [Mixing(16, 16) for _ in range(3)]
        return nn.Sequential(embed, *layers, Pooled(1), nn.Linear(16, 4))

    names = ["0", "1", "3"]
    assert axes_of(seeded(make), names, torch.zeros(1, 3, 16, 16)) == (2, 2, 2)


def test_layers_of_a_transformer_give_tokens():
    def make() -> nn.Module:
        layers = [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2)]
        embed = nn.Sequential(nn.Conv2d(3, 16, 4, 4), Tokens(), Placed(16, 16))
        return nn.Sequential(embed, *layers, Pooled(1), nn.Linear(16, 4))

    assert axes_of(seeded(make), ["0", "1", "2"], torch.zeros(1, 3, 16, 16)) == (2, 2, 2)


def test_states_of_one_place_and_of_features_alone_need_no_evidence():
    module = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 8, 8), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)
        )
    )
    assert axes_of(module, ["0", "2"], torch.zeros(1, 3, 8, 8)) == (1, 1)


@pytest.mark.parametrize(
    ("name", "options", "cuts", "widths"),
    [
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 4, "embed_dim": 24, "num_heads": (2, 2, 2, 2)},
            ["layers.0", "layers.1"],
            [24, 48],
        ),
        (
            "mambaout_femto",
            {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40)},
            ["stages.1", "stages.3"],
            [24, 40],
        ),
        ("resmlp_12_224", {"img_size": 64}, ["blocks.0", "blocks.11"], [384, 384]),
        ("convnext_atto", {"dims": (8, 16, 24, 32)}, ["stages.1", "stages.3"], [16, 32]),
        ("levit_128s", {"img_size": 64}, ["stages.1", "stages.2"], [256, 384]),
    ],
)
def test_heads_of_timm_networks_read_the_channels(name, options, cuts, widths):
    module = seeded(lambda: timm.create_model(name, num_classes=4, **options))
    blocks, tail = cut_modules(module, cuts)
    states = run_once(blocks, torch.randn(1, 3, 64, 64), cuts)
    pools = make_pools("auto", blocks, tail, states, cuts)
    with torch.inference_mode():
        assert [p(s).shape[1] for p, s in zip(pools, states[1:], strict=True)] == widths


def test_heads_of_torchvision_networks_read_the_channels():
    swin = seeded(lambda: SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=4))
    image = torch.zeros(1, 3, 64, 64)
    assert axes_of(swin, ["features.1", "features.3"], image) == (3, 3)
    network = seeded(lambda: resnet18(weights=None, num_classes=4))
    assert axes_of(network, ["layer1", "layer4"], image) == (1, 1)


def test_looking_leaves_the_network_as_it_was():
    module = seeded(lambda: convolutions((0, 2, 3, 1), fixed=True))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    axes_of(module, ["1", "2"], torch.zeros(1, 3, 16, 16))
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())


# ---------------------------------------------------------------------- what stays unclear


def scrambled() -> nn.Module:
    return nn.Sequential(*(Scrambled(3, 4, 4) for _ in range(3)), nn.Flatten(), nn.Linear(48, 4))


def test_a_state_that_nothing_tells_about_asks_for_pool():
    blocks, tail = cut_modules(seeded(scrambled), ["1", "2"])
    message = r"after '1', \(n, 3, 4, 4\), holds channels .*trainer=HeadTrainer\(pool="
    with pytest.raises(ValueError, match=message):
        channel_axes(blocks, tail, torch.zeros(1, 3, 4, 4), ["1", "2"])


def test_norms_over_tokens_against_the_data_ask_for_pool():
    def make() -> nn.Module:
        embed = nn.Sequential(nn.Conv2d(3, 16, 4, 4), Tokens(), Placed(16, 16))
        layers = [nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 16)) for _ in range(2)]
        return nn.Sequential(embed, *layers, Pooled(1), nn.Linear(16, 4))

    with pytest.raises(ValueError, match="layers before and after take"):
        axes_of(seeded(make), ["0", "1"], torch.zeros(1, 3, 16, 16))


def test_pool_says_what_heads_read():
    blocks, tail = cut_modules(seeded(scrambled), ["1", "2"])
    names = ["1", "2"]
    states = run_once(blocks, torch.randn(2, 3, 4, 4), names)

    def pooled(pool):
        pools = make_pools(pool, blocks, tail, states, names)
        return [p(s) for p, s in zip(pools, states[1:], strict=True)]

    first, last = pooled("channels_first"), pooled("channels_last")
    torch.testing.assert_close(first[0], states[1].mean((2, 3)))
    torch.testing.assert_close(last[0], states[1].mean((1, 2)))
    mixed = pooled(["channels_last", lambda state: state.amax((2, 3))])
    torch.testing.assert_close(mixed[0], last[0])
    torch.testing.assert_close(mixed[1], states[2].amax((2, 3)))
    torch.testing.assert_close(pooled(nn.Flatten())[1], states[2].flatten(1))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 2, 2)])
def test_positions_are_averaged_whatever_their_number(shape):
    state = torch.randn(shape)
    for axis in range(1, len(shape)):
        by_hand = state.movedim(axis, 1).flatten(2).mean(2)
        torch.testing.assert_close(GlobalPool(axis)(state), by_hand)
    assert torch.equal(GlobalPool(1)(state[:, :, 0].flatten(1)), state[:, :, 0].flatten(1))


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("mean", "pool must be one of .*'channels_last'.*got 'mean'"),
        (3, "pool must be one of .*got 3"),
        ([], r"pool must be one of .*got \[\]"),
        (["auto", 3], "pool must be one of"),
        (nn.Flatten, "pool must be one of .*Flatten"),
    ],
)
def test_a_pool_that_is_none_is_refused(pool, message):
    with pytest.raises(ValueError, match=message):
        check_pool(pool)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (["auto"], r"pool must list 2, one for each of \['1', '2'\]"),
        (
            lambda state: state,
            r"the state after '1', \(1, 3, 4, 4\), to features \(1, n_features\)",
        ),
        (lambda state: state.sum(), r"to features \(1, n_features\), got \(\)"),
        (lambda state: 3, "to features .*got int"),
        (lambda state: state @ torch.zeros(7), "pool does not run on the state after '1'"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused(pool, message):
    names = ["1", "2"]
    blocks, tail = cut_modules(seeded(scrambled), names)
    states = run_once(blocks, torch.randn(1, 3, 4, 4), names)
    with pytest.raises(ValueError, match=message):
        make_pools(pool, blocks, tail, states, names)


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Joined(nn.Module):
    def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
        return both[0] + both[1]


def test_a_cut_after_a_module_that_returns_several_tensors_is_refused_by_name():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), Two(), Joined(), nn.Flatten(), nn.Linear(144, 4))
    blocks, _ = cut_modules(module, ["1"])
    with pytest.raises(ValueError, match="'1' returns a tuple of 2, .* cut after a module that"):
        run_once(blocks, torch.zeros(1, 3, 8, 8), ["1"])


def test_a_state_without_an_axis_of_images_is_refused_by_name():
    module = nn.Sequential(nn.Flatten(0), nn.Linear(48, 4))
    blocks, _ = cut_modules(module, ["0"])
    with pytest.raises(ValueError, match=r"'0' returns a tensor \(48,\) for 1 image"):
        run_once(blocks, torch.zeros(1, 3, 4, 4), ["0"])
