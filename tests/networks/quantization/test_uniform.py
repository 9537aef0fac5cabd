from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from timm.layers import DiffAttention, StdConv2dSame
from torch import nn

from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ
from skquee.networks.backbones._matmul import MatMul
from skquee.networks.engines._engines import build_engine
from skquee.networks.engines._int8 import int8_available
from skquee.networks.quantization import _grids
from skquee.networks.quantization._grids import UniformGrid
from skquee.networks.quantization._operations import QuantizedMatMul


def literal_codes(values, bits, largest):
    scale = largest / (2 ** (bits - 1) - 1)
    return np.clip(np.round(values / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1), scale


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_a_linear_layer_is_quantised_by_the_literal_formula(bits, per_channel):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 6, generator=generator))
        layer.bias.copy_(torch.randn(4, generator=generator))
    x = torch.randn(9, 6, generator=generator)
    quantizer = UniformPTQ(per_channel=per_channel)
    quantized = quantizer.quantize([nn.Sequential(layer)], x, levels=[bits])[bits][0][0]

    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().numpy()
    largest = np.abs(weight).max(axis=1, keepdims=True) if per_channel else np.abs(weight).max()
    codes, scale = literal_codes(weight, bits, largest)
    inputs = x.double().numpy()
    input_codes, input_scale = literal_codes(inputs, bits, np.abs(inputs).max())
    np.testing.assert_array_equal(quantized.codes.numpy(), codes)
    assert quantized.codes.dtype == torch.int8
    expected = (input_codes * input_scale) @ (codes * scale).T + bias
    np.testing.assert_allclose(quantized(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_convolution_is_the_linear_layer_of_its_patches():
    conv = nn.Conv2d(2, 3, kernel_size=2, stride=2)
    linear = nn.Linear(8, 3)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
        linear.bias.copy_(conv.bias)
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    patches = nn.functional.unfold(x, 2, stride=2).transpose(1, 2)
    by_conv = UniformPTQ().quantize([nn.Sequential(conv)], x, [4])[4][0](x)
    by_linear = UniformPTQ().quantize([nn.Sequential(linear)], patches, [4])[4][0](patches)
    torch.testing.assert_close(by_conv.flatten(2).transpose(1, 2), by_linear)


def test_a_product_of_activations_is_the_product_of_its_codes():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(5, 3, generator=generator), torch.randn(3, 4, generator=generator)
    grids = [UniformGrid.over(factor.abs().amax(), 4) for factor in (left, right)]
    product = QuantizedMatMul(*grids)(left, right)
    factors = [literal_codes(f.double().numpy(), 4, f.abs().max().item()) for f in (left, right)]
    expected = (factors[0][0] @ factors[1][0]) * factors[0][1] * factors[1][1]
    np.testing.assert_allclose(product.numpy(), expected, rtol=1e-5)


def test_weights_of_zero_and_silent_inputs_stay_zero():
    layer = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(layer.weight)
    x = torch.zeros(1, 3)
    quantized = UniformPTQ().quantize([nn.Sequential(layer)], x, [4])[4][0]
    assert torch.equal(quantized(x), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("bits", "dtype"), [(2, torch.int8), (8, torch.int8), (9, torch.int16), (31, torch.int32)]
)
def test_codes_use_the_smallest_integer_type(bits, dtype):
    codes = UniformGrid.over(torch.tensor(1.0), bits).stored_codes(torch.tensor([-1.0, 0.5, 1.0]))
    assert codes.dtype == dtype
    top = 2 ** (bits - 1)
    assert codes[0] == pytest.approx(1 - top) and codes[-1] == pytest.approx(top - 1)


def test_a_level_switch_quantises_no_weight_again(network, digits, monkeypatch):
    def refuse(*args):
        raise AssertionError("weights were quantised again")

    monkeypatch.setattr(_grids.UniformGrid, "stored_codes", refuse)
    state = network.start(digits[0][:4])
    for level in (8, 4, 16, 8):
        network.run_block(state, 0, level)


def test_every_linear_layer_convolution_and_attention_product_is_replaced(digits, make_backbone):
    backbone = make_backbone()
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    block = nn.Sequential(backbone.patch_embed, *backbone.blocks)
    quantized = UniformPTQ().quantize([block], images, [8])[8]
    left = [m for m in quantized.modules() if isinstance(m, (nn.Linear, nn.Conv2d, MatMul))]
    assert left == []
    n_weights = sum(p.numel() for p in block.parameters() if p.ndim > 1)
    codes = {n: b for n, b in quantized.named_buffers() if n.endswith("codes")}
    assert sum(b.nbytes for b in codes.values()) == n_weights
    assert sum(isinstance(m, QuantizedMatMul) for m in quantized.modules()) == 2 * 3
    biases = {id(p) for p in block.parameters() if p.ndim == 1}
    assert {id(p) for p in quantized.parameters()} == biases  # shared, not copied


def test_ranges_do_not_depend_on_calibration_batches(digits):
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    block = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 2))
    whole = UniformPTQ().quantize([block], x, [8])[8][0]
    parts = UniformPTQ(batch_size=3).quantize([block], x, [8])[8][0]
    torch.testing.assert_close(whole[2].input_grid.scale, parts[2].input_grid.scale)


def test_an_activation_that_is_not_finite_names_its_layer(digits, make_backbone):
    X, y = digits
    backbone = make_backbone()
    network = MultiExitNetwork(backbone, exits=(1, 3), trainer=HeadTrainer(max_epochs=0))
    with torch.no_grad():
        backbone.blocks[1].mlp.fc1.bias[0] = float("nan")
    network.fit(X, y)
    with pytest.raises(ValueError, match=r"input of layer 'layer2\.mlp\.fc2' holds NaN"):
        network.quantize(levels=(8,), calibration=X[:8])


def test_attention_and_convolutions_of_their_own_kind_are_quantised(digits, make_backbone):
    backbone = make_backbone(attn_layer=DiffAttention)
    network = MultiExitNetwork(backbone, exits=(3,), trainer=HeadTrainer(max_epochs=0))
    network.fit(*digits)
    exact = network.start(digits[0][:8])
    found = network.quantize(levels=(8,), calibration=digits[0][:8], method=UniformPTQ())
    assert 0 < (found.run_block(exact, 0, 8) - network.float_blocks[0](exact)).std() < 0.1
    block, x = nn.Sequential(StdConv2dSame(1, 2, 3)), torch.rand(4, 1, 6, 6)
    rounded = UniformPTQ().quantize([block], x, [8])[8][0](x)
    assert 0 < (rounded - block(x)).abs().max() < 0.05 * block(x).std()


class Asking(nn.Module):
    """Reads the sizes of its layers, as timm's DaViT and EdgeNeXt do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = self.conv.kernel_size
        x = nn.functional.pad(x, (0, width - self.conv.stride[1], 0, height - self.conv.stride[0]))
        x = self.conv(x).flatten(2).mT
        return self.linear(x.reshape(len(x), -1, self.linear.in_features))


def test_layers_on_grids_and_on_int8_tell_their_sizes():
    module, x = Asking().eval(), torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    quantized = UniformPTQ().quantize([module], x, levels=[8])[8][0]
    ranges = {"0.conv": (-4.0, 4.0), "0.linear": (-4.0, 4.0)}
    blocks = [quantized]
    if int8_available():
        blocks.append(build_engine("int8", nn.ModuleList([module]), ranges)[0])
    with torch.inference_mode():
        expected = module(x)
        for block in blocks:
            assert (block(x) - expected).abs().max() < 0.1 * expected.abs().max()


class Named(nn.Sequential):
    """A Sequential with arguments of its own, which cannot be sliced: as timm's DenseNet has."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Identity())


@pytest.mark.skipif(not int8_available(), reason="no int8 products here")
def test_a_sequential_of_its_own_kind_compiles():
    module, x = Named(4).eval(), torch.rand(3, 4)
    ranges = {"0.inner.0": (0.0, 1.0), "0.inner.2": (0.0, 2.0)}
    outer = nn.Sequential(OrderedDict(inner=module))
    (block,) = build_engine("int8", nn.ModuleList([outer]), ranges)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), outer(x), atol=0.05, rtol=0.05)
