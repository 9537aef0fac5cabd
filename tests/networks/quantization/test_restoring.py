from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from skquee.networks.quantization import (
    BasePTQ,
    PTQ4ViT,
    UniformPTQ,
    describe,
    float_copies,
    restore,
)
from skquee.networks.quantization._grids import UniformGrid
from skquee.networks.quantization._operations import quantized

METHODS = [UniformPTQ(), UniformPTQ(per_channel=False), BasePTQ(), PTQ4ViT()]


@pytest.fixture
def blocks(make_backbone):
    backbone = make_backbone()
    return nn.ModuleList([nn.Sequential(backbone.patch_embed, *backbone.blocks)])


@pytest.fixture
def images():
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [3, 8, 12])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_restored_blocks_give_the_same_bits(method, bits, blocks, images):
    quantized = method.quantize(blocks, images, [bits])[bits]
    description = json.loads(json.dumps(describe(quantized)))
    restored = restore(blocks, description)
    saved = {name: buffer.clone() for name, buffer in quantized.named_buffers()}
    missing, unexpected = restored.load_state_dict(saved, strict=False)
    assert unexpected == [] and set(missing) <= dict(quantized.named_parameters()).keys()
    assert torch.equal(restored[0](images), quantized[0](images))
    shared = {id(parameter) for parameter in blocks.parameters()}
    assert {id(parameter) for parameter in restored.parameters()} <= shared


def test_float_copies_change_no_bit_and_are_not_saved(blocks, images):
    quantized = UniformPTQ().quantize(blocks, images, [8])[8]
    before, names = quantized[0](images), list(quantized.state_dict())
    float_copies(quantized, True)
    copies = [b for n, b in quantized.named_buffers() if n.endswith("float_codes")]
    assert len(copies) == 1 + 4 * 3 and all(copy.dtype == torch.float32 for copy in copies)
    assert torch.equal(quantized[0](images), before)
    assert list(quantized.state_dict()) == names
    float_copies(quantized, False)
    assert not any(n.endswith("float_codes") for n, _ in quantized.named_buffers())


def test_a_description_of_other_blocks_is_refused(blocks, images):
    description = describe(UniformPTQ().quantize(blocks, images, [8])[8])
    with pytest.raises(ValueError, match=r"no operation '0\.0\.proj'"):
        restore([nn.Sequential(nn.Linear(2, 2))], description)
    with pytest.raises(ValueError, match="described as QuantizedConv2d"):
        restore([nn.Sequential(nn.Linear(2, 2))], [{**description[0], "name": "0.0"}])


@pytest.mark.parametrize("method", [UniformPTQ(), PTQ4ViT(random_state=0)], ids=["uniform", "twin"])
def test_blocks_are_restored_on_the_device_they_are_on(method, blocks, images):
    description = describe(method.quantize(blocks, images, levels=[6])[6])
    # A device without memory stands for a GPU: it takes no tensor of the CPU either.
    elsewhere = copy.deepcopy(blocks).to("meta")
    restored = restore(elsewhere, description)
    where = {t.device.type for t in (*restored.parameters(), *restored.buffers())}
    assert where == {"meta"}


def test_pickles_of_convolutions_name_nothing_that_moves():
    layer = nn.Conv2d(2, 4, 3, stride=2, padding=1)
    grids = UniformGrid(torch.tensor(0.1), 8), UniformGrid(torch.tensor(0.1), 8)
    kept = pickle.dumps(quantized(layer, *grids))
    assert b"Geometry" not in kept
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pickle.loads(kept)(x), quantized(layer, *grids)(x))
