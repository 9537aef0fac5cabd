from __future__ import annotations

import argparse
import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

import skquee.networks  # noqa: F401  registers T2T-ViT
from skquee.networks.backbones._checkpoint import load_checkpoint, read_checkpoint, unwrap


def make_module(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
        nn.init.normal_(module[1].weight)
    return module


def assert_equal(left, right):
    assert list(left) == list(right)
    assert all(torch.equal(left[key], right[key]) for key in left)


# ---------------------------------------------------------------------- unwrap


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": torch.ones(1)}},
        lambda state: {"state_dict_ema": state, "state_dict": {"other": torch.ones(1)}},
        lambda state: {"state_dict_ema": None, "state_dict": state},
        lambda state: {"model_ema": state, "model": {"other": torch.ones(1)}},
        lambda state: {"model": state, "args": argparse.Namespace()},
        lambda state: {"net": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {"model": state}},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {**state, "epoch": 3},
    ],
)
def test_weights_come_out_of_the_usual_containers(wrapped):
    state = dict(make_module().state_dict())
    assert_equal(unwrap(wrapped(state)), state)


def test_a_prefix_that_not_all_keys_share_belongs_to_the_module():
    state = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert_equal(unwrap(state), state)


def test_a_weight_named_as_a_container_is_a_weight():
    state = {"net": torch.ones(1), "model.weight": torch.ones(2)}
    assert_equal(unwrap(state), state)


@pytest.mark.parametrize(
    ("state", "held"),
    [
        ({}, "nothing"),
        ({"weights": {"a": torch.ones(1)}, "epoch": 3}, r"weights \(dict\), epoch \(int\)"),
        ({"state_dict": {"epoch": 3}}, r"epoch \(int\)"),
    ],
)
def test_a_container_without_tensors_is_refused_with_what_it_holds(state, held):
    with pytest.raises(ValueError, match=f"no tensors, .*It holds: {held}"):
        unwrap(state)


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.th", "a.bin", "71.7_A.pth.tar", "A.PTH"])
def test_a_torch_file_is_read(tmp_path, name):
    state = make_module().state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / name)
    assert_equal(read_checkpoint(tmp_path / name), state)
    assert_equal(read_checkpoint(str(tmp_path / name)), state)


def test_a_safetensors_file_is_read(tmp_path):
    state = {f"module.{key}": value for key, value in make_module().state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert {f"module.{key}" for key in read} == set(state)
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in read.items())


@pytest.mark.parametrize("name", ["a.npz", "a.pkl", "a", "a.safetensors.gz"])
def test_another_suffix_is_refused_before_the_file_is_touched(tmp_path, name):
    with pytest.raises(ValueError, match="must end in .safetensors or one of .bin, .pt, .pth"):
        read_checkpoint(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        with pytest.raises(FileNotFoundError, match="no checkpoint file '.*a"):
            read_checkpoint(path)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(FileNotFoundError, match="folder.pth"):
        read_checkpoint(tmp_path / "folder.pth")


class Malicious:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("plain", [True, False])
def test_a_file_with_code_is_refused_and_its_code_not_run(tmp_path, plain):
    path, target = tmp_path / "evil.pth", tmp_path / "made"
    state = {"state_dict": {"weight": torch.ones(1)}, "payload": Malicious(str(target))}
    if plain:
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path)
    with pytest.raises(ValueError, match="is refused: .* run code .*weights_only=False"):
        read_checkpoint(path)
    assert not target.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(make_module(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is refused"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pth", "a.tar", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint at all, but long enough for a header"])
def test_a_damaged_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*damaged"):
        read_checkpoint(tmp_path / name)


def test_a_file_with_one_tensor_is_refused(tmp_path):
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="must hold a state dict, .* got a Tensor"):
        read_checkpoint(tmp_path / "a.pt")


# ---------------------------------------------------------------------- loading


def test_weights_are_loaded_and_cast_to_the_types_of_the_module():
    module, state = make_module(), make_module(seed=1).state_dict()
    half = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    load_checkpoint(module, half)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    for key, value in module.state_dict().items():
        assert torch.equal(value, half[key].to(value.dtype))


def test_counters_of_batch_normalisation_may_be_missing():
    module, state = make_module(), dict(make_module(seed=1).state_dict())
    del state["1.num_batches_tracked"]
    load_checkpoint(module, state)
    assert torch.equal(module[1].weight, state["1.weight"])


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"2.bias": None, "0.bias": None}, ["missing (2): 0.bias, 2.bias"]),
        ({"extra.bias": torch.ones(1)}, ["left over (1): extra.bias"]),
        (
            {"2.weight": torch.ones(3, 4)},
            ["of another shape or type (1): 2.weight ((3, 4) float32, expected (2, 4) float32)"],
        ),
        (
            {"2.weight": torch.ones(2, 4, dtype=torch.int8)},
            ["of another shape or type (1): 2.weight ((2, 4) int8, expected (2, 4) float32)"],
        ),
        (
            {"2.bias": None, "bias": torch.ones(2), "0.weight": torch.ones(4, 1, 3, 3)},
            [
                "missing (1): 2.bias",
                "left over (1): bias",
                "of another shape or type (1): "
                "0.weight ((4, 1, 3, 3) float32, expected (4, 3, 3, 3) float32)",
            ],
        ),
    ],
)
def test_all_that_does_not_fit_is_listed_at_once_and_nothing_is_loaded(change, lines):
    module, state = make_module(), {**make_module(seed=1).state_dict(), **change}
    state = {key: value for key, value in state.items() if value is not None}
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_checkpoint(module, state, source="weights.pth")
    assert str(error.value).splitlines() == ["weights.pth does not fit Sequential.", *lines]
    assert_equal(module.state_dict(), before)


def test_a_checkpoint_of_another_architecture_is_called_so():
    state = nn.Sequential(*(nn.Linear(2, 2) for _ in range(9))).state_dict()
    with pytest.raises(ValueError) as error:
        load_checkpoint(make_module(), state)
    message = str(error.value)
    assert "left over (12): 3.weight, 3.bias, 4.weight, 4.bias, 5.weight, ...\n" in message
    assert "Only 1 of 9 weights fit: it is likely of another architecture." in message


def test_nan_is_refused_with_the_name_of_the_weight():
    module, state = make_module(), make_module(seed=1).state_dict()
    before = module[0].weight.clone()
    state["2.bias"][1] = float("nan")
    with pytest.raises(ValueError, match=r"holds NaN in 1 of 9 weights: 2\.bias\."):
        load_checkpoint(module, state)
    assert torch.equal(module[0].weight, before)


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("depth", "n_numbers"), [(20, 271_098), (32, 466_426), (44, 661_754), (56, 857_082)]
)
def test_the_resnet_checkpoints_are_read(shared_data, depth, n_numbers):
    (file,) = shared_data("weights_cifar10_resnet").glob(f"resnet{depth}-*.th")
    state = read_checkpoint(file)
    assert sum(value.numel() for value in state.values()) == n_numbers
    assert state["conv1.weight"].shape == (16, 3, 3, 3)
    with pytest.raises(ValueError, match=f"{file.name} does not fit Sequential"):
        load_checkpoint(make_module(), state, source=file.name)


def test_the_t2t_checkpoint_is_read_and_loaded(shared_data):
    folder = shared_data("t2t_vit_7_cifar10")
    model = timm.create_model("t2t_vit_7", img_size=64, num_classes=10).eval()
    load_checkpoint(model, read_checkpoint(folder / "model.safetensors"))
    with np.load(folder / "reference.npz") as reference, torch.inference_mode():
        logits = model(torch.from_numpy(reference["inputs"][:4])).numpy()
        np.testing.assert_allclose(logits, reference["logits"][:4], atol=1e-4)
