from __future__ import annotations

import json

import numpy as np
import pytest
from torch import nn

from skquee import MultiPathClassifierBank
from skquee.networks import MultiExitNetwork, PTQ4ViT, UniformPTQ


def table(network, X):
    return np.asarray(MultiPathClassifierBank(network).transform(X))


@pytest.fixture(scope="module")
def named(digits):
    X, y = digits
    network = MultiExitNetwork(
        "vit_tiny_patch16_224",
        exits=(1, 2),
        img_size=8,
        in_chans=1,
        backbone_kwargs={"patch_size": 4, "depth": 2, "embed_dim": 12, "num_heads": 2},
        max_epochs=2,
        random_state=0,
    )
    network.fit(X[:200], y[:200], validation_data=(X[300:], y[300:]))
    network.quantize((4, 8, 32), calibration=X[:32], method=PTQ4ViT())
    return network.select_levels(X[300:], y[300:], max_drop=1)


def test_a_network_made_by_name_comes_back_bit_for_bit(named, digits, tmp_path):
    named.save(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "network.json",
        "weights.safetensors",
    ]
    loaded = MultiExitNetwork.load(tmp_path / "model")
    X = digits[0][:30]
    np.testing.assert_array_equal(table(loaded, X), table(named, X))
    assert loaded.paths_ == named.paths_
    assert loaded.classes_.tolist() == named.classes_.tolist()
    assert loaded.level_accuracy_ == named.level_accuracy_
    assert loaded.summary().equals(named.summary())
    again = tmp_path / "again"
    loaded.save(again)
    loaded.save(again)  # over an earlier one
    np.testing.assert_array_equal(table(MultiExitNetwork.load(again), X), table(named, X))


def test_saving_holds_one_byte_a_weight_and_level(named, tmp_path):
    named.save(tmp_path / "model")
    size = (tmp_path / "model" / "weights.safetensors").stat().st_size
    n_float = sum(v.nbytes for v in named._backbone.state_dict().values())
    n_weights = sum(p.numel() for b in named._blocks for p in b.parameters() if p.ndim > 1)
    n_quantized = sum(level != 32 for level in named.levels_)
    assert size < n_float + n_quantized * 2 * n_weights + 60_000


def test_a_network_made_from_a_module_needs_it_again(network, digits, make_backbone, tmp_path):
    network.save(tmp_path / "model")
    with pytest.raises(ValueError, match="made with a module: give it again, backbone="):
        MultiExitNetwork.load(tmp_path / "model")
    loaded = MultiExitNetwork.load(tmp_path / "model", backbone=make_backbone())
    X = digits[0][:20]
    np.testing.assert_array_equal(table(loaded, X), table(network, X))
    with pytest.raises(ValueError, match=r"wrong shape|shape"):
        MultiExitNetwork.load(tmp_path / "model", backbone=make_backbone(embed_dim=32))


def test_a_module_cut_by_name_with_heads_of_its_own_comes_back(digits, tmp_path):
    X, y = digits
    module = nn.Sequential()
    module.add_module("stem", nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()))
    module.add_module("body", nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.ReLU()))
    module.add_module("pool", nn.Flatten())
    module.add_module("out", nn.Linear(54, 10))

    def heads(width, n_classes):
        return nn.Sequential(nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, n_classes))

    network = MultiExitNetwork(
        module, blocks=["stem", "body"], heads=heads, max_epochs=1, random_state=0
    ).fit(X, y)
    network.quantize((8,), calibration=X[:32], method=UniformPTQ())
    network.save(tmp_path / "model")
    with pytest.raises(ValueError, match="made with a callable"):
        MultiExitNetwork.load(tmp_path / "model", backbone=module)
    loaded = MultiExitNetwork.load(tmp_path / "model", backbone=module, heads=heads)
    np.testing.assert_array_equal(table(loaded, X[:9]), table(network, X[:9]))


def test_damaged_and_foreign_files_are_refused(named, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"network\.json is missing"):
        MultiExitNetwork.load(tmp_path)
    folder = tmp_path / "model"
    named.save(folder)
    record = (folder / "network.json").read_text()
    for text in ("{", "[]", json.dumps({"format": 99})):
        (folder / "network.json").write_text(text)
        with pytest.raises(ValueError, match=r"damaged|no record"):
            MultiExitNetwork.load(folder)
    (folder / "network.json").write_text(record)
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match="damaged"):
        MultiExitNetwork.load(folder)


def test_a_folder_of_other_things_is_not_overwritten(named, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        named.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="is missing"):
        named.save(tmp_path / "no" / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_save_leaves_the_earlier_one(named, digits, tmp_path, monkeypatch):
    from skquee.networks import _files

    folder = tmp_path / "model"
    named.save(folder)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        named.save(folder)
    X = digits[0][:5]
    np.testing.assert_array_equal(table(MultiExitNetwork.load(folder), X), table(named, X))
