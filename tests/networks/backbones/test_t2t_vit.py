from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from scipy.special import erf, softmax
from torch.nn import functional as F

from skquee.networks.backbones._checkpoint import read_checkpoint
from skquee.networks.backbones._t2t_vit import T2TViT, TokenPerformer, TokenTransformer

MILLIONS = {
    "t2t_vit_7": 4.3,
    "t2t_vit_10": 5.9,
    "t2t_vit_12": 6.9,
    "t2t_vit_14": 21.5,
    "t2t_vit_19": 39.2,
    "t2t_vit_24": 64.1,
    "t2t_vit_t_14": 21.5,
    "t2t_vit_t_19": 39.2,
    "t2t_vit_t_24": 64.1,
}


def make_model(**kwargs) -> T2TViT:
    kwargs = {"img_size": 32, "num_classes": 10, **kwargs}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("t2t_vit_7", **kwargs).eval()


def images(n: int = 2, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def run(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(x)


# ---------------------------------------------------------------------- variants


def test_all_variants_are_registered_with_timm():
    assert set(timm.list_models("t2t_vit*")) == set(MILLIONS)
    assert set(timm.list_pretrained("t2t_vit*")) == {f"{name}.authors_in1k" for name in MILLIONS}


@pytest.mark.parametrize("name", MILLIONS)
def test_variants_have_as_many_parameters_as_published(name, monkeypatch):
    # Numbers are counted, not used: skipping their drawing saves most of the time.
    monkeypatch.setattr("skquee.networks.backbones._t2t_vit.trunc_normal_", lambda *a, **k: None)
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: None)
    model = timm.create_model(name)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 1) == MILLIONS[name]


def test_weights_are_named_and_shaped_as_in_the_checkpoints_of_the_authors(shared_data):
    state = read_checkpoint(shared_data("t2t_vit_7_cifar10") / "model.safetensors")
    expected = make_model(img_size=64).state_dict()
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in expected.items()
    }


def test_logits_are_those_of_the_original_network(shared_data):
    folder = shared_data("t2t_vit_7_cifar10")
    model = timm.create_model(
        "t2t_vit_7",
        pretrained=True,
        img_size=64,
        num_classes=10,
        pretrained_cfg_overlay={"file": str(folder / "model.safetensors"), "num_classes": 10},
    ).eval()
    with np.load(folder / "reference.npz") as reference:
        logits = run(model, torch.from_numpy(reference["inputs"]))
        np.testing.assert_allclose(logits.numpy(), reference["logits"], atol=1e-4)
        assert np.mean(logits.argmax(dim=1).numpy() == reference["labels"]) > 0.6


# ---------------------------------------------------------------------- timm's habits


@pytest.mark.parametrize(
    "layout",
    [
        lambda state: {"state_dict_ema": state},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 1},
        lambda state: {"net": {f"module.{k}": v for k, v in state.items()}},
        lambda state: state,
    ],
)
def test_pretrained_weights_are_loaded_from_the_checkpoint_of_the_authors(tmp_path, layout):
    original = make_model(num_classes=1000)
    with torch.no_grad():
        for parameter in original.parameters():  # such as no fresh model has
            parameter.add_(0.01)
    file = tmp_path / "71.7_T2T_ViT_7.pth.tar"
    torch.save(layout(original.state_dict()), file)
    loaded = timm.create_model(
        "t2t_vit_7", pretrained=True, img_size=32, pretrained_cfg_overlay={"file": str(file)}
    ).eval()
    assert torch.equal(run(loaded, images()), run(original, images()))

    # Another number of classes leaves out the head, as with timm's own networks.
    other = make_model(pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    with torch.inference_mode():
        tokens = [model.forward_features(images()) for model in (other, original)]
    assert torch.equal(*tokens)
    assert run(other, images()).shape == (2, 10)


@pytest.mark.parametrize("img_size", [40, (32, 40), (32, 32, 32)])
def test_a_size_that_is_no_multiple_of_16_is_refused(img_size):
    with pytest.raises(ValueError, match="img_size must be a multiple of 16, got"):
        make_model(img_size=img_size)


def test_an_unknown_tokens_type_is_refused():
    with pytest.raises(ValueError, match=r"one of \['performer', 'transformer'\], got 'plain'"):
        make_model(tokens_type="plain")


@pytest.mark.parametrize("tokens_type", ["performer", "transformer"])
def test_images_may_be_oblong(tokens_type):
    model = make_model(img_size=(32, 64), tokens_type=tokens_type)
    x = images(height=32, width=64)
    with torch.inference_mode():
        assert model.forward_features(x).shape == (2, 1 + 2 * 4, 256)
        assert model(x).shape == (2, 10)
        turned = make_model(img_size=(64, 32), tokens_type=tokens_type)
        assert turned(x.transpose(2, 3)).shape == (2, 10)


def test_the_classifier_can_be_replaced_and_removed():
    model = make_model()
    with torch.inference_mode():
        tokens = model.forward_features(images())
    model.reset_classifier(5)
    assert model.get_classifier() is model.head
    assert (model.num_classes, run(model, images()).shape) == (5, (2, 5))
    model.reset_classifier(0)
    assert torch.equal(run(model, images()), tokens[:, 0])
    assert torch.equal(model.forward_head(tokens, pre_logits=True), tokens[:, 0])


def test_dropout_and_stochastic_depth_act_in_training_only():
    model = make_model(proj_drop_rate=0.5, drop_path_rate=0.5)
    assert torch.equal(run(model, images()), run(make_model(), images()))
    model.train()
    assert not torch.equal(run(model, images()), run(model, images()))


# ---------------------------------------------------------------------- against the equations


def test_positions_are_the_sinusoids_of_the_paper():
    positions = make_model(img_size=(32, 48)).pos_embed[0]
    width = 256
    expected = np.empty((1 + 2 * 3, width))
    for position in range(len(expected)):
        for column in range(width):
            angle = position / 10000 ** (2 * (column // 2) / width)
            expected[position, column] = math.cos(angle) if column % 2 else math.sin(angle)
    np.testing.assert_allclose(positions.numpy(), expected, atol=1e-6)
    assert not positions.requires_grad


def parameters(layer: torch.nn.Module) -> dict[str, np.ndarray]:
    """Give a layer weights that all matter, and return them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return {name: value.double().numpy() for name, value in layer.state_dict().items()}


def linear(p: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0.0)


def layer_norm(p: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    standard = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return standard * p[f"{name}.weight"] + p[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def token_inputs() -> torch.Tensor:
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


def test_a_performer_layer_follows_the_equations():
    n_features, width = 4, 8
    layer = TokenPerformer(6, width, 0.0).eval()
    p, x = parameters(layer), token_inputs()

    def feature(vector: np.ndarray, m: int) -> float:
        return np.exp(p["w"][m] @ vector - vector @ vector / 2) / np.sqrt(n_features)

    expected = np.empty((2, 5, width))
    for sample, tokens in enumerate(x.double().numpy()):
        rows = [linear(p, "kqv", layer_norm(p, "norm1", token)) for token in tokens]
        keys, queries, values = np.split(np.array(rows), 3, axis=1)
        for i, query in enumerate(queries):
            # Attention whose weight of token j is the product of random features.
            weights = np.array(
                [
                    sum(feature(query, m) * feature(key, m) for m in range(n_features))
                    for key in keys
                ]
            )
            mixed = weights @ values / (weights.sum() + 1e-8)
            y = values[i] + linear(p, "proj", mixed)
            hidden = gelu(linear(p, "mlp.0", layer_norm(p, "norm2", y)))
            expected[sample, i] = y + linear(p, "mlp.2", hidden)
    np.testing.assert_allclose(run(layer, x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_token_transformer_layer_follows_the_equations():
    width = 8
    layer = TokenTransformer(6, width, 0.0).eval()
    p, x = parameters(layer), token_inputs()
    expected = np.empty((2, 5, width))
    for sample, tokens in enumerate(x.double().numpy()):
        rows = [linear(p, "attn.qkv", layer_norm(p, "norm1", token)) for token in tokens]
        queries, keys, values = np.split(np.array(rows), 3, axis=1)
        for i, query in enumerate(queries):
            weights = softmax([query @ key / np.sqrt(6) for key in keys])  # the width that comes
            y = values[i] + linear(p, "attn.proj", weights @ values)
            hidden = gelu(linear(p, "mlp.fc1", layer_norm(p, "norm2", y)))
            expected[sample, i] = y + linear(p, "mlp.fc2", hidden)
    np.testing.assert_allclose(run(layer, x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens_type", ["performer", "transformer"])
def test_tokens_are_split_softly_between_the_layers(tokens_type):
    module = make_model(img_size=(32, 48), tokens_type=tokens_type).tokens_to_token
    x = images(1, 32, 48)
    with torch.inference_mode():
        # A soft split unfolds overlapping patches of a padded picture, row by row.
        picture, layers = x, iter((module.attention1, module.attention2, module.project))
        for size, stride, pad in ((7, 4, 2), (3, 2, 1), (3, 2, 1)):
            padded = F.pad(picture, (pad, pad, pad, pad))
            height, width = (n // stride for n in picture.shape[2:])
            patches = [
                padded[0, :, r * stride : r * stride + size, c * stride : c * stride + size]
                for r in range(height)
                for c in range(width)
            ]
            tokens = next(layers)(torch.stack([patch.flatten() for patch in patches])[None])
            picture = tokens.reshape(1, height, width, -1).permute(0, 3, 1, 2)
        assert tokens.shape == (1, module.n_tokens, 256)
        torch.testing.assert_close(module(x), tokens)


def test_the_class_token_comes_first_and_positions_are_added():
    model = make_model()
    with torch.inference_mode():
        tokens = model.tokens_to_token(images())
        first = model.cls_token.repeat(2, 1, 1)
        expected = model.norm(model.blocks(torch.cat([first, tokens], dim=1) + model.pos_embed))
        torch.testing.assert_close(model.forward_features(images()), expected)
        torch.testing.assert_close(model(images()), model.head(expected[:, 0]))
