from __future__ import annotations

import io

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import skquee.networks  # noqa: F401  registers T2T-ViT with timm
from skquee.networks.backbones._matmul import MatMul
from skquee.networks.quantization import BasePTQ, PTQ4ViT, UniformPTQ
from skquee.networks.quantization._grids import GELUGrid, SoftmaxGrid, UniformGrid


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.product = MatMul()

    def forward(self, x):
        return self.product((3 * x @ x.mT).softmax(dim=-1), x)


@torch.no_grad()
def error(quantized, block, x):
    return float((quantized(x) - block(x)).square().mean())


def test_grids_follow_what_an_operand_is(make_backbone):
    backbone = make_backbone()
    block = nn.Sequential(backbone.patch_embed, *backbone.blocks, nn.ReLU(), nn.Linear(16, 4))
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    quantized = PTQ4ViT().quantize([block], images, [6])[6][0]
    assert type(quantized[1].attn.weight_value.left) is SoftmaxGrid
    assert type(quantized[1].mlp.fc2.input_grid) is GELUGrid
    relu = quantized[-1].input_grid
    assert type(relu) is UniformGrid and not relu.signed
    for grid in (
        quantized[0].proj.input_grid,
        quantized[1].attn.qkv.input_grid,
        quantized[1].attn.query_key.left,
        quantized[1].attn.weight_value.right,
    ):
        assert type(grid) is UniformGrid and grid.signed
    assert quantized[1].attn.query_key.left.scale.shape == (2, 1, 1)  # a scale a head
    plain = BasePTQ().quantize([block], images, [6])[6]
    grids = [m for m in plain.modules() if isinstance(m, (SoftmaxGrid, GELUGrid))]
    assert grids == []


@pytest.mark.parametrize("bits", [4, 6])
def test_twins_beat_uniform_grids_on_softmax_and_gelu(bits):
    mlp = nn.Sequential(nn.GELU(), nn.Linear(32, 8))
    with torch.no_grad():
        mlp[1].weight.copy_(randn(8, 32, seed=1))
    x = randn(200, 32) * torch.linspace(0.3, 3, 32)
    tokens = randn(6, 4, 30, 8)
    for block, images in ((mlp, x), (Attend(), tokens)):
        twin, base, plain = (
            error(method.quantize([block], images, [bits])[bits][0], block, images)
            for method in (PTQ4ViT(), BasePTQ(), UniformPTQ())
        )
        assert twin < 0.9 * base and twin < 0.9 * plain


def test_a_searched_layer_is_no_worse_than_any_literal_pair_of_scales():
    x, layer = randn(50, 12), nn.Linear(12, 1)
    with torch.no_grad():
        layer.weight.copy_(randn(1, 12, seed=1))
    quantized = PTQ4ViT(stride=1, max_rows=None).quantize([layer], x, [4])[4][0]
    w, target = layer.weight.detach().numpy(), (x @ layer.weight.T).detach().numpy()
    parts = np.linspace(0.01, 1.2, 100)

    def rounded(values, part):
        scale = part * np.abs(values).max() / (2**3 - 0.5)
        return np.clip(np.round(values / scale), -8, 7) * scale

    weights = np.concatenate([rounded(w, part) for part in parts])
    errors = [((rounded(x.numpy(), part) @ weights.T - target) ** 2).sum(axis=0) for part in parts]
    found = float((quantized(x) - layer(x)).detach().square().sum())
    # One scale at a time ends at a point that no change of one of the two improves.
    best = np.min(errors)
    assert best <= found * 1.0001
    assert found <= np.quantile(errors, 0.01)


def test_vanished_gradients_fall_back_to_squared_errors():
    x, block = randn(60, 8), nn.Sequential(nn.Linear(8, 5), nn.GELU(), nn.Linear(5, 4))

    class Blind(nn.Module):
        def forward(self, state):
            return 0 * state[:, :3]

    blind = PTQ4ViT().quantize([block], x, [4], head=Blind())[4]
    plain = PTQ4ViT().quantize([block], x, [4])[4]
    for (name, a), b in zip(blind.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_errors_are_spared_where_the_loss_feels_them():
    x, block = randn(200, 16), nn.Sequential(nn.Linear(16, 6))

    class Narrow(nn.Module):  # only large outputs of the first channel matter
        def forward(self, state):
            return torch.stack((0.3 * (state[:, 0] - 1).relu(), torch.zeros(len(state))), dim=1)

    with torch.no_grad():
        block[0].weight.copy_(randn(6, 16, seed=1))
    errors = []
    for head in (None, Narrow()):
        quantized = PTQ4ViT().quantize([block], x, [3], head=head)[3][0]
        felt = block(x)[:, 0] > 1
        errors.append(float((quantized(x) - block(x))[felt, 0].detach().square().mean()))
    assert errors[1] < errors[0]


def test_all_rows_are_read_where_none_are_left_out():
    block, tokens = Attend(), randn(6, 4, 30, 8)
    by_limit = [
        PTQ4ViT(max_rows=limit).quantize([block], tokens, [5])[5][0](tokens)
        for limit in (None, 6 * 30)
    ]
    assert torch.equal(*by_limit)


def test_per_tensor_weights_have_one_scale():
    quantized = PTQ4ViT(per_channel=False).quantize([nn.Linear(6, 4)], randn(9, 6), [5])[5][0]
    assert quantized.weight_scale.shape == (1,) and quantized.codes.dtype == torch.int8


def test_high_bit_widths_run():
    x, block = randn(40, 8), nn.Sequential(nn.Linear(8, 5), nn.GELU(), nn.Linear(5, 4))
    for bits, quantized in PTQ4ViT().quantize([block], x, [12, 16, 24, 31]).items():
        assert error(quantized[0], block, x) < 1e-4, bits


def test_repr_shows_the_parameters():
    assert repr(UniformPTQ()) == "UniformPTQ(per_channel=True, batch_size=128)"
    assert "rounds=2" in repr(PTQ4ViT(rounds=2)) and "random_state=0" in repr(BasePTQ())


def test_a_real_network_at_few_bits_is_no_worse_than_min_max(shared_data):
    model = timm.create_model("t2t_vit_7", img_size=64, num_classes=10)
    state = load_file(shared_data("t2t_vit_7_cifar10") / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    model.eval().requires_grad_(False)
    with np.load(shared_data("cifar10") / "cifar10_test_webp.npz") as archive:
        data, offsets = archive["data"], archive["offsets"][:333]
    encoded = [data[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in encoded])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]])
    images = (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    images = F.interpolate(images, size=(64, 64), mode="bicubic", align_corners=False)
    calibration, images = images[:32], images[32:]

    class Embed(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.cls, self.positions = (
                model.tokens_to_token,
                model.cls_token,
                model.pos_embed,
            )

        def forward(self, x):
            x = self.tokens(x)
            return torch.cat((self.cls.expand(len(x), -1, -1), x), dim=1) + self.positions

    class Head(nn.Module):
        def forward(self, tokens):
            return model.head(model.norm(tokens)[:, 0])

    block, head = nn.Sequential(Embed(), *model.blocks), Head()
    with torch.no_grad():
        logits = head(block(images))
        agreement = {}
        for method in (UniformPTQ(), PTQ4ViT(max_rows=512, rounds=1)):
            quantized = method.quantize([block], calibration, [6], head=head)[6][0]
            agrees = head(quantized(images)).argmax(dim=1) == logits.argmax(dim=1)
            agreement[type(method)] = float(agrees.float().mean())
    assert agreement[PTQ4ViT] >= max(agreement[UniformPTQ] - 0.02, 0.85)
