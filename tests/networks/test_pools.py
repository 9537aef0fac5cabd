"""What heads read of networks cut by name, from fit to files; and what cannot be cut."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork

SIDE = 32


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)
    return X, np.arange(24) % 4


def network_of(module: nn.Module, blocks: Any, pool: Any = "auto", **options: Any) -> Any:
    trainer = HeadTrainer(pool=pool, max_epochs=1)
    return MultiExitNetwork(
        module, blocks=blocks, img_size=SIDE, trainer=trainer, random_state=0, **options
    )


def channels_last() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=SIDE,
        window_size=4,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(2, 2),
        num_classes=4,
    )


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def largest(state: Tensor) -> Tensor:
    return state.flatten(1, -2).amax(1)


def test_heads_of_channels_last_read_every_channel(images):
    module = channels_last()
    network = network_of(module, ("layers.0", "layers.1")).fit(*images)
    assert network.parts_.head_widths == (12, 24)
    state = network.run_block(network.start(images[0]), 0, 32)
    assert state.shape[1:] == (8, 8, 12)
    torch.testing.assert_close(network.exit_pools[0](state), state.mean((1, 2)))


@pytest.mark.parametrize("pool", ["auto", "channels_last", ["auto", "channels_last"]])
def test_what_heads_read_is_saved(images, tmp_path, pool):
    network = network_of(channels_last(), ("layers.0", "layers.1"), pool).fit(*images)
    network.save(tmp_path / "model")
    again = MultiExitNetwork.load(tmp_path / "model", backbone=channels_last())
    assert again.trainer.pool == pool
    for path in range(2):
        np.testing.assert_array_equal(
            MultiPathClassifierBank(again).transform(images[0]).path(path),
            MultiPathClassifierBank(network).transform(images[0]).path(path),
        )


def test_a_function_that_pools_is_given_again(images, tmp_path):
    network = network_of(channels_last(), ("layers.0", "layers.1"), largest).fit(*images)
    network.save(tmp_path / "model")
    with pytest.raises(ValueError, match="with a function as pool: give it again, pool="):
        MultiExitNetwork.load(tmp_path / "model", backbone=channels_last())
    again = MultiExitNetwork.load(tmp_path / "model", backbone=channels_last(), pool=largest)
    np.testing.assert_array_equal(
        MultiPathClassifierBank(again).transform(images[0]).path(0),
        MultiPathClassifierBank(network).transform(images[0]).path(0),
    )
    with pytest.raises(ValueError, match="pool must list 2"):
        MultiExitNetwork.load(tmp_path / "model", backbone=channels_last(), pool=[largest])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "mean"}, "'pool': pool must be one of"),
        ({"pool": [3]}, "'pool': pool must be one of"),
        ({"pools": [1]}, "'pools' must be an axis of"),
        ({"pools": [1, 9]}, "'pools' must be an axis of"),
        ({"pools": [1, "os"]}, "'pools' must be an axis of"),
    ],
)
def test_forged_pools_are_refused(images, tmp_path, changes, message):
    network_of(convolutions(), ("1", "3")).fit(*images).save(tmp_path / "model")
    file = tmp_path / "model" / "network.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        MultiExitNetwork.load(tmp_path / "model", backbone=convolutions())


def test_a_transformer_keeps_its_own_pooling_unless_another_is_given(images):
    def fitted(pool: Any, **options: Any) -> MultiExitNetwork:
        vit = timm.create_model(
            "vit_tiny_patch16_224", img_size=SIDE, depth=1, embed_dim=12, num_heads=2, **options
        )
        return MultiExitNetwork(
            vit, exits=(1,), trainer=HeadTrainer(pool=pool, max_epochs=1), random_state=0
        ).fit(*images)

    own, given = fitted("auto", num_classes=0), fitted(largest, num_classes=0)
    state = own.run_block(own.start(images[0][:2]), 0, 32)
    norm = own.parts_.backbone.norm
    torch.testing.assert_close(own.exit_pools[0](state), norm(state)[:, 0])
    torch.testing.assert_close(given.exit_pools[0](state), state.amax(1))
    bare = fitted("auto", num_classes=0, global_pool="")
    torch.testing.assert_close(bare.exit_pools[0](state), bare.parts_.backbone.norm(state)[:, 0])


def test_heads_train_where_gradients_are_switched_off(images):
    def weights(max_epochs: int) -> Tensor:
        network = network_of(convolutions(), ("1", "3"))
        network.set_params(trainer__max_epochs=max_epochs, trainer__learning_rate=0.1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network.set_params(backbone=convolutions())
        return network.fit(*images, validation_data=images).exit_heads[0].weight

    trained = weights(20)
    with torch.no_grad():
        torch.testing.assert_close(weights(20), trained)
        assert not torch.is_grad_enabled()
    assert not torch.allclose(weights(0), trained)


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"num_classes": 0, "global_pool": ""}])
def test_a_network_without_a_head_gets_exits(images, options):
    module = timm.create_model("resnet10t", **options)
    network = network_of(module, ("layer1", "layer4")).fit(*images)
    assert network.parts_.head_widths == (64, 512)
    assert not network.parts_.final_head_kept


def test_a_cut_after_a_tuple_is_refused_by_name(images):
    module = timm.create_model("pit_ti_224", img_size=SIDE, num_classes=4)
    with pytest.raises(ValueError, match=r"'transformers.0' returns a tuple of 2"):
        network_of(module, ("transformers.0", "transformers.2")).fit(*images)


def test_a_backbone_that_cannot_be_copied_is_refused_with_a_way_out(images):
    module = convolutions()
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(module[0])
    with pytest.raises(ValueError, match="cannot be copied .*parametrizations.weight_norm"):
        network_of(module, ("1", "3")).fit(*images)
    torch.nn.utils.remove_weight_norm(module[0])
    torch.nn.utils.parametrizations.weight_norm(module[0])
    assert network_of(module, ("1", "3")).fit(*images).parts_.head_widths == (4, 6)


def test_a_pool_of_another_kind_is_refused_before_anything_runs(images):
    with pytest.raises(ValueError, match="pool must be one of .*got 'max'"):
        network_of(convolutions(), ("1", "3"), "max").fit(*images)
    with pytest.raises(TypeError, match="pool"):
        MultiExitNetwork(convolutions(), blocks=("1", "3"), pool="channels_last")
