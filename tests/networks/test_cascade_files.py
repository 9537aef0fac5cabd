from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from torch import nn

from skquee import MultiPathClassifierBank, load
from skquee.cli import main
from skquee.networks import HeadTrainer, MultiExitNetwork, NetworkCascade
from tests.networks.test_cascade import SIDE, Net, Probabilities, bank_of

CLASSES = ["cat", "dog", "frog"]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def exits(images: np.ndarray) -> MultiExitNetwork:
    stages = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU())
    trainer = HeadTrainer(max_epochs=1)
    network = MultiExitNetwork(stages, blocks=("1", "3"), img_size=SIDE, trainer=trainer)
    return network.fit(images, np.array(CLASSES)[np.arange(30) % 3])


@pytest.fixture(scope="module")
def bank(images: np.ndarray, exits: MultiExitNetwork) -> MultiPathClassifierBank:
    made = {"logits": Net(4), "ready": Probabilities(Net(8, seed=1)), "exits": exits}
    return bank_of(
        made, classes=CLASSES, path_costs="latency", calibration=images, levels=("int8",)
    )


@pytest.fixture(scope="module")
def again(exits: MultiExitNetwork) -> dict[str, nn.Module | MultiExitNetwork]:
    """Networks of the same architectures, with other weights."""
    return {"logits": Net(4, seed=5), "ready": Probabilities(Net(8, seed=6)), "exits": exits}


@pytest.fixture(scope="module")
def saved(bank: MultiPathClassifierBank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "cascade"
    bank.classifiers.save(folder)
    return folder


def test_a_cascade_comes_back_bit_for_bit(bank, saved, again, images):
    loaded = NetworkCascade.load(saved, networks=again)
    assert loaded.paths_ == bank.classifiers.paths_
    assert loaded.levels_ == bank.classifiers.levels_
    assert loaded.classes_.tolist() == CLASSES
    assert loaded.latency_.to_frame().equals(bank.classifiers.latency_.to_frame())
    made = MultiPathClassifierBank(loaded, path_costs="latency")
    assert made.paths_ == bank.paths_
    before = np.asarray(bank.materialize(images))
    np.testing.assert_array_equal(np.asarray(made.materialize(images)), before)
    loaded.save(saved.with_name("other"))
    loaded.save(saved.with_name("other"))  # over an earlier one
    third = NetworkCascade.load(saved.with_name("other"), networks=again)
    np.testing.assert_array_equal(
        np.asarray(MultiPathClassifierBank(third).materialize(images)), before
    )


def test_names_are_built_again_and_the_command_line_answers_by_them(
    images, tmp_path, monkeypatch, capsys
):
    create = timm.create_model
    with monkeypatch.context() as patch:  # as timm would fetch weights, of other classes
        patch.setattr(timm, "create_model", lambda name, **_: create(name, num_classes=3))
        bank = bank_of({"small": Net(4), "large": "test_resnet"}, img_size=32, paths="chain")
        named = bank_of(
            {"small": "test_efficientnet", "large": "test_resnet"}, img_size=32, paths="chain"
        )
    y = np.arange(30) % 3
    named.classifiers.save(tmp_path / "network")
    named.materialize(images, out=tmp_path / "val_probs.npy")
    np.save(tmp_path / "val_labels.npy", y)
    assert main(f"bank fit-router {tmp_path} --price 0.1 --cv 3".split()) == 0
    np.savez(tmp_path / "images.npz", X=images, y=y)
    command = f"bank predict {tmp_path} --data {tmp_path / 'images.npz'} --out {tmp_path / 'a.csv'}"
    assert main(command.split()) == 0
    expected = load(tmp_path / "router.skops").route(named.transform(images))
    found = pd.read_csv(tmp_path / "a.csv")
    assert found["label"].tolist() == expected.labels.tolist()
    assert found["path"].tolist() == expected.path_names.tolist()
    capsys.readouterr()
    assert main(f"bank evaluate {tmp_path} --data {tmp_path / 'images.npz'}".split()) == 0
    printed = capsys.readouterr().out
    assert "Cost is in ms." in printed and "small@fp32-large@fp32" in printed
    np.savez(tmp_path / "more.npz", X=np.tile(images, (4, 1, 1, 1)), y=np.tile(y, 4))
    command = f"bench --network {tmp_path} --data {tmp_path / 'more.npz'} --batch-sizes 4 1"
    assert main(f"{command} --repeats 1 --no-compile".split()) == 0
    printed = capsys.readouterr().out
    assert "large@fp32, alone" in printed and "routed (paper), 0 points allowed" in printed
    assert "Verdict, at most 0.5 points" in printed and "1 image, 1 thread(s): " in printed
    with pytest.raises(SystemExit):
        main(f"{command} --levels fp32".split())
    assert "--levels: a cascade was compiled to its own" in capsys.readouterr().err
    command = f"bank predict {tmp_path} --data {tmp_path / 'images.npz'} --out {tmp_path / 'a.csv'}"
    bank.classifiers.save(tmp_path / "network")
    assert main(command.split()) != 0
    assert "['small'] were made of modules" in capsys.readouterr().err
    loaded = NetworkCascade.load(tmp_path / "network", networks={"small": Net(4)})
    np.testing.assert_array_equal(
        np.asarray(MultiPathClassifierBank(loaded).materialize(images)),
        np.asarray(bank.materialize(images)),
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (None, ValueError, r"\['logits', 'ready', 'exits'\] were made of modules: .* networks="),
        ({"logits": None}, ValueError, r"\['logits'\] were made of modules"),
        ({"logits": "resnet18"}, TypeError, "'logits' must be a torch module or a fitted"),
        ({"fast": Net(4)}, ValueError, r"networks holds \['fast'\], .* are \['logits', 'ready'"),
        ({"ready": Net(8)}, ValueError, "(?s)'ready': .*does not fit Net.*missing"),
        ({"logits": Net(5)}, ValueError, "(?s)'logits': .*does not fit Net.*another shape"),
        ({"exits": MultiExitNetwork("resnet18")}, ValueError, "'exits': it is not fitted"),
    ],
)
def test_other_networks_than_those_saved_are_refused(saved, again, changes, error, message):
    given = None if changes is None else {**again, **changes}
    given = given and {name: network for name, network in given.items() if network is not None}
    with pytest.raises(error, match=message):
        NetworkCascade.load(saved, networks=given)


def _swap(folder: Path) -> None:
    (folder / "0").rename(folder / "x")
    (folder / "1").rename(folder / "0")
    (folder / "x").rename(folder / "1")


def _change(**fields: object):
    def change(folder: Path) -> None:
        record = json.loads((folder / "cascade.json").read_text())
        (folder / "cascade.json").write_text(json.dumps({**record, **fields}))

    return change


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "cascade.json").unlink(), FileNotFoundError, "holds no saved cascade"),
        (lambda f: shutil.rmtree(f / "2"), FileNotFoundError, "network.json is missing"),
        (
            lambda f: (f / "1" / "weights.safetensors").write_bytes(b"x"),
            ValueError,
            "'ready': .*whole",
        ),
        (lambda f: (f / "cascade.json").write_text("{"), ValueError, "not a whole description"),
        (_swap, ValueError, "'logits': .*"),
        (_change(format=2), ValueError, "is of format 2, this release reads format 1"),
        (_change(paths="tree"), ValueError, "'paths' must be one of"),
        (_change(members=[]), ValueError, "'members' must be 1 to 255"),
        (_change(members=[{"name": "a"}]), ValueError, "'members', 0: 'named' is missing"),
        (_change(members=[3]), ValueError, "'members', 0 must be an object"),
        (_change(latency={}), ValueError, "'latency': .*'blocks' is missing"),
    ],
)
def test_damaged_folders_are_refused(saved, again, tmp_path, damage, error, message):
    folder = tmp_path / "cascade"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(error, match=message):
        NetworkCascade.load(folder, networks=again)


def test_another_network_of_the_same_name_is_refused(saved, again, tmp_path):
    folder = tmp_path / "cascade"
    shutil.copytree(saved, folder)
    bank_of({"logits": Net(4, seed=9)}, classes=CLASSES).classifiers.save(tmp_path / "other")
    shutil.rmtree(folder / "0")
    shutil.copytree(tmp_path / "other" / "0", folder / "0")
    with pytest.raises(
        ValueError, match="'logits': .* another network than the one that was saved"
    ):
        NetworkCascade.load(folder, networks=again)


def test_an_interrupted_save_leaves_the_earlier_one(bank, saved, again, monkeypatch):
    write = MultiExitNetwork.save

    def stop(self: MultiExitNetwork, folder: Path) -> None:
        if folder.name == "1":
            raise KeyboardInterrupt
        write(self, folder)

    monkeypatch.setattr(MultiExitNetwork, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        bank.classifiers.save(saved)
    assert [file.name for file in saved.parent.iterdir() if "partial" in file.name] == []
    assert NetworkCascade.load(saved, networks=again).paths_ == bank.classifiers.paths_


def test_a_folder_of_other_things_is_not_overwritten(bank, exits, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        bank.classifiers.save(tmp_path)
    exits.save(tmp_path / "network")
    with pytest.raises(ValueError, match="something else"):
        bank.classifiers.save(tmp_path / "network")
    assert (tmp_path / "0" / "notes.txt").read_text() == "mine"
