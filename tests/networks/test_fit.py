from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ
from skquee.networks._images import ImageFormat
from skquee.networks._training import cache_features

GREY = {
    "img_size": 8,
    "in_chans": 1,
    "backbone_kwargs": {
        "patch_size": 4,
        "depth": 2,
        "embed_dim": 12,
        "num_heads": 2,
        "weight_init": "jax",  # timm's default is too small for so narrow a network to learn from
    },
}


def last_logits(network, X):
    state = network.start(X)
    for block in range(len(network.flops_)):
        state = network.run_block(state, block, 32)
    return network.head(state, len(network.flops_) - 1, 32)


def build(n_outputs):
    import timm

    torch.manual_seed(3)
    kwargs = {key: value for key, value in GREY.items() if key != "backbone_kwargs"}
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=n_outputs, **kwargs, **GREY["backbone_kwargs"]
    ).eval()
    nn.init.normal_(model.head.weight)
    return model


def test_a_checkpoint_brings_its_own_head_which_stays(digits, tmp_path):
    X, y = digits
    model = build(10)
    file = tmp_path / "weights.safetensors"
    save_file({k: v.half() for k, v in model.state_dict().items()}, file)
    network = MultiExitNetwork(
        "vit_tiny_patch16_224",
        exits=(1, 2),
        weights=file,
        trainer=HeadTrainer(max_epochs=3),
        random_state=0,
        **GREY,
    ).fit(X, y)
    model = model.half().float()
    with torch.no_grad():
        expected = model(network.start(X[:20])).softmax(dim=1).numpy()
    np.testing.assert_allclose(last_logits(network, X[:20]), expected, atol=1e-6)
    trained = MultiExitNetwork(
        "vit_tiny_patch16_224",
        exits=(1, 2),
        weights=file,
        trainer=HeadTrainer(final_head="train"),
        **GREY,
    ).fit(X, y)
    assert trained.validation_accuracy_[1] > network.validation_accuracy_[1]


def test_a_checkpoint_of_other_classes_gives_the_backbone_only(digits, tmp_path):
    X, y = digits
    file = tmp_path / "weights.safetensors"
    save_file(build(7).state_dict(), file)
    options = {"exits": (1, 2), "weights": file, "random_state": 0, **GREY}
    network = MultiExitNetwork("vit_tiny_patch16_224", **options).fit(X, y)
    assert network.validation_accuracy_[1] > 0.3
    with pytest.raises(ValueError, match="no head of 10 outputs"):
        MultiExitNetwork(
            "vit_tiny_patch16_224", trainer=HeadTrainer(final_head="keep"), **options
        ).fit(X, y)
    network.save(tmp_path / "model")
    loaded = MultiExitNetwork.load(tmp_path / "model")
    np.testing.assert_array_equal(last_logits(loaded, X[:9]), last_logits(network, X[:9]))


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet10t", ["layer1", "layer4"]),
        ("mobilenetv3_small_050", ["blocks.1", "blocks.4"]),
        ("convnext_atto", ["stages.0", "stages.3"]),
    ],
)
def test_a_convolutional_checkpoint_of_other_classes_gives_the_backbone(name, blocks, tmp_path):
    import timm

    file = tmp_path / "weights.safetensors"
    model = timm.create_model(name, num_classes=7)
    save_file(model.state_dict(), file)
    X = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    y = np.arange(24) % 3
    network = MultiExitNetwork(
        name, blocks=blocks, weights=file, img_size=32, trainer=HeadTrainer(max_epochs=1)
    ).fit(X, y)
    first, own = (next(m.parameters()) for m in (network.float_blocks, model))
    np.testing.assert_array_equal(first.numpy(), own.detach().numpy())
    network.save(tmp_path / "model")
    loaded = MultiExitNetwork.load(tmp_path / "model")
    np.testing.assert_array_equal(last_logits(loaded, X[:5]), last_logits(network, X[:5]))


def test_a_checkpoint_of_another_architecture_is_refused(digits, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(nn.Linear(2, 2).state_dict(), file)
    network = MultiExitNetwork("vit_tiny_patch16_224", exits=(1, 2), weights=file, **GREY)
    with pytest.raises(ValueError, match="architecture"):
        network.fit(*digits)


def test_a_random_head_is_trained_and_never_kept(digits):
    X, y = digits
    network = MultiExitNetwork(
        "vit_tiny_patch16_224",
        exits=(1, 2),
        img_size=8,
        in_chans=1,
        backbone_kwargs={**GREY["backbone_kwargs"], "num_classes": 10},
        random_state=0,
    ).fit(X, y)
    assert network.validation_accuracy_[1] > 0.3


def test_a_distilled_transformer_answers_with_both_of_its_tokens(digits):
    torch.manual_seed(0)
    backbone = VisionTransformerDistilled(
        img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=2, num_heads=2, num_classes=10
    ).eval()
    for head in (backbone.head, backbone.head_dist):
        nn.init.normal_(head.weight)
        nn.init.normal_(head.bias)
    X, y = digits
    network = MultiExitNetwork(backbone, exits=(1, 2), trainer=HeadTrainer(max_epochs=1)).fit(X, y)
    with torch.no_grad():
        expected = backbone(network.start(X[:20])).softmax(dim=1).numpy()
    np.testing.assert_allclose(last_logits(network, X[:20]), expected, atol=1e-6)


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        self.out = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.out(self.layer2(self.layer1(x)).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("exits", "expected"),
    [
        (None, ("stem", "layer1", "layer2")),
        ((2, 3), ("layer1", "layer2")),
        (("stem", "layer2"), ("stem", "layer2")),
    ],
)
def test_any_module_is_cut_by_name(exits, expected, digits):
    X, y = digits
    torch.manual_seed(0)
    module = Convolutions().eval()
    network = MultiExitNetwork(
        module,
        exits,
        blocks=["stem", "layer1", "layer2"],
        trainer=HeadTrainer(learning_rate=0.03),
        random_state=3,
    ).fit(X, y)
    assert network.exits_ == expected
    with torch.no_grad():
        logits = module(network.start(X[:20])).softmax(dim=1).numpy()
    np.testing.assert_allclose(last_logits(network, X[:20]), logits, atol=1e-6)
    assert network.validation_accuracy_[0] > 0.15
    network.quantize((4, 8), calibration=X[:64])
    table = np.asarray(MultiPathClassifierBank(network).transform(X[:10]))
    assert table.shape == (10, network.paths_.n_paths, 10)
    # The same seed holds out the same rows.
    trained = MultiExitNetwork(
        module,
        exits,
        blocks=["stem", "layer1", "layer2"],
        trainer=HeadTrainer(final_head="train", learning_rate=0.03),
        random_state=3,
    ).fit(X, y)
    assert trained.validation_accuracy_[-1] > network.validation_accuracy_[-1]


def test_exits_that_are_no_blocks_are_refused(digits):
    for exits, message in (
        (("stem", "head"), "exits must be among blocks"),
        (("layer1", "stem", "layer2"), "increasing"),
        ((1, 2), "last"),
    ):
        network = MultiExitNetwork(Convolutions(), exits, blocks=["stem", "layer1", "layer2"])
        with pytest.raises(ValueError, match=message):
            network.fit(*digits)
    with pytest.raises(ValueError, match="exits is missing: give layers from 1 to 7"):
        MultiExitNetwork("t2t_vit_7", img_size=32).fit(np.zeros((4, 8, 8, 3), np.uint8), [0, 1] * 2)


def test_data_sets_bring_their_labels(digits, make_backbone):
    X, y = digits
    pixels = torch.from_numpy((X * 255).astype(np.uint8))[:, None]
    data, held = TensorDataset(pixels[:300], torch.from_numpy(y[:300])), (X[300:], y[300:])
    by_set, by_array = (
        MultiExitNetwork(
            make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=4), random_state=0
        )
        for _ in range(2)
    )
    by_set.fit(data, validation_data=TensorDataset(pixels[300:], torch.from_numpy(y[300:])))
    by_array.fit((X * 255).astype(np.uint8)[:300], y[:300], validation_data=held)
    X_new = X[:20]
    np.testing.assert_array_equal(last_logits(by_set, X_new), last_logits(by_array, X_new))
    by_set.quantize((4, 8), calibration=data, method=UniformPTQ())
    assert by_set.evaluate(data)["accuracy"].between(0, 1).all()
    bank = MultiPathClassifierBank(by_set)
    table = bank.fit(data).transform(data)
    assert table.shape == (300, 3, 10)
    np.testing.assert_array_equal(np.asarray(table[:5]), np.asarray(bank.transform(pixels[:5])))


def test_augmented_views_follow_the_plain_one(make_backbone, digits):
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=1)
    ).fit(*digits)
    rows = ImageFormat(1, (8, 8), (0.5,), (0.5,)).rows(digits[0][:10])
    options = {"batch_size": 4, "device": torch.device("cpu")}
    blocks, pools = network.parts_.blocks, network.parts_.pools
    plain = cache_features(blocks, pools, rows, **options)
    both = cache_features(
        blocks, pools, rows, augmentation=v2.RandomHorizontalFlip(p=1), n_views=2, **options
    )
    turned = rows.format.rows(digits[0][:10, :, ::-1])
    mirrored = cache_features(blocks, pools, turned, **options)
    for exit in range(2):
        torch.testing.assert_close(both[exit][:10], plain[exit])
        torch.testing.assert_close(both[exit][10:], mirrored[exit])

    def fit():
        trainer = HeadTrainer(augmentation=v2.RandomHorizontalFlip(), n_views=3)
        network = MultiExitNetwork(make_backbone(), (1, 3), trainer=trainer, random_state=0)
        return network.fit(*digits)

    several = fit()
    assert several.validation_accuracy_[0] > 0.3  # chance is 0.1; mirrored digits are hard
    X = digits[0][:5]
    np.testing.assert_array_equal(last_logits(several, X), last_logits(fit(), X))


def test_mixed_precision_trains_as_well(make_backbone, digits):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(amp_dtype="bfloat16"), random_state=0
    ).fit(X, y)
    assert network.validation_accuracy_[0] > 0.5
    assert network.exit_heads[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer__heads": "deep"}, "heads must be 'linear' or a callable"),
        ({"trainer__final_head": "drop"}, "final_head must be"),
        ({"trainer__amp_dtype": "int8"}, "amp_dtype must be"),
        ({"trainer__batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"trainer__n_views": 2}, "n_views is for augmentation="),
        ({"data_config": {"colour": 1}}, r"data_config holds \['colour'\]"),
    ],
)
def test_bad_options_are_refused_before_work(options, message, make_backbone, digits, monkeypatch):
    from skquee.networks import _head_trainer

    monkeypatch.setattr(_head_trainer, "cache_features", None)
    with pytest.raises(ValueError, match=message):
        MultiExitNetwork(make_backbone(), exits=(1, 3)).set_params(**options).fit(*digits)


def test_a_failed_fit_leaves_the_network_as_it_was(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=1)
    ).fit(X, y)
    before = last_logits(network, X[:5])
    with pytest.raises(ValueError, match="holds no image"):
        network.fit(X, y, validation_data=(X[:0], y[:0]))
    with pytest.raises(ValueError, match=r"must be \(X, y\)"):
        network.fit(X, y, validation_data=(X, y, y))
    np.testing.assert_array_equal(last_logits(network, X[:5]), before)


def test_one_exit_with_the_head_of_the_backbone_has_nothing_to_train(digits):
    X, y = digits
    whole = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    network = MultiExitNetwork(whole, blocks=["1"], random_state=0).fit(X[:60], y[:60])
    with torch.inference_mode():
        expected = whole(network.start(X[:9])).softmax(1)
    found = np.asarray(MultiPathClassifierBank(network).materialize(X[:9]))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
