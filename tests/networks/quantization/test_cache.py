from __future__ import annotations

import pytest
import torch
from torch import nn

from skquee.networks.quantization import BasePTQ, PTQ4ViT, UniformPTQ

LEVELS = (3, 8)


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(6, 6), nn.GELU()) for _ in range(3)]
        images = torch.randn(20, 6)
        return [nn.Sequential(*layers)], images, nn.Linear(6, 3)


def buffers(quantized):
    return {
        f"{level} {name}": buffer
        for level, blocks in quantized.items()
        for name, buffer in blocks.named_buffers()
    }


def assert_same(first, second):
    first, second = buffers(first), buffers(second)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", [UniformPTQ(), BasePTQ(max_rows=7), PTQ4ViT(max_rows=7)])
def test_an_interrupted_call_resumes_and_finds_the_same(method, network, tmp_path, monkeypatch):
    blocks, images, head = network
    whole = method.quantize(blocks, images, LEVELS, head=head)
    find, calls = type(method).grids, []

    def interrupted(self, observed, bits):
        calls.append(bits)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return find(self, observed, bits)

    folder = tmp_path / "new" / "folder"
    monkeypatch.setattr(type(method), "grids", interrupted)
    with pytest.raises(KeyboardInterrupt):
        method.quantize(blocks, images, LEVELS, head=head, cache=folder)
    assert len(list(folder.iterdir())) == 3
    resumed = method.quantize(blocks, images, LEVELS, head=head, cache=folder)
    assert len(calls) == 4 + 3
    assert_same(resumed, whole)
    assert all(file.suffix == ".safetensors" for file in folder.iterdir())


@pytest.mark.parametrize("method", [UniformPTQ(), PTQ4ViT()])
def test_only_two_images_run_where_all_is_kept(method, network, tmp_path, monkeypatch):
    blocks, images, head = network
    first = method.quantize(blocks, images, LEVELS, head=head, cache=tmp_path)

    def refuse(module, inputs):  # two show what products there are
        assert len(inputs[0]) == 2 < len(images), "a float block ran on calibration images"

    for module in blocks[0].modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(refuse)
    assert_same(method.quantize(blocks, images, LEVELS, head=head, cache=tmp_path), first)


@pytest.mark.parametrize("damage", ["half", "empty", "other"])
def test_a_damaged_file_is_not_used(damage, network, tmp_path):
    blocks, images, head = network
    method = PTQ4ViT()
    first = method.quantize(blocks, images, LEVELS, head=head, cache=tmp_path)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        kept = {"half": content[: len(content) // 2], "empty": b"", "other": b"x" * 100}
        file.write_bytes(kept[damage])
    assert_same(method.quantize(blocks, images, LEVELS, head=head, cache=tmp_path), first)
    assert_same(method.quantize(blocks, images, LEVELS, head=head, cache=tmp_path), first)


def test_another_method_network_or_calibration_has_files_of_its_own(network, tmp_path):
    blocks, images, head = network
    counts = [0]

    def run(method, images):
        method.quantize(blocks, images, [4], head=head, cache=tmp_path)
        counts.append(len(list(tmp_path.iterdir())))

    run(PTQ4ViT(), images)
    run(PTQ4ViT(rounds=1), images)
    run(BasePTQ(), images)
    run(BasePTQ(), images + 1)
    with torch.no_grad():
        blocks[0][0][0].weight += 0.1
    run(BasePTQ(), images)
    assert counts == [0, 3, 6, 9, 12, 15]
