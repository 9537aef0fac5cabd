from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities
from skquee.cli import main
from skquee.networks import MultiExitNetwork


def test_build_writes_a_network_a_table_and_its_labels(built, images):
    X, y = images[0][220:], images[1][220:]
    assert sorted(file.name for file in built.iterdir()) == [
        "network",
        "paths.csv",
        "val_labels.npy",
        "val_probs.npy",
        "val_probs.npy.json",
    ]
    network = MultiExitNetwork.load(built / "network")
    table = PathProbabilities.load(built / "val_probs.npy")
    np.testing.assert_allclose(
        np.asarray(table), np.asarray(MultiPathClassifierBank(network).transform(X)), atol=2e-3
    )
    assert np.load(built / "val_labels.npy").tolist() == y.tolist()
    frame = pd.read_csv(built / "paths.csv", index_col="path")
    right = (network.classes_[np.asarray(table).argmax(axis=2)] == y[:, None]).mean(axis=0)
    np.testing.assert_allclose(frame["accuracy"], right, atol=0.02)
    router = CostAwareRouter(random_state=0, validation_fraction=0)
    router.fit(table, np.load(built / "val_labels.npy"))


@pytest.mark.parametrize("source", ["held.npz", "held"])
def test_evaluate_prints_every_path(source, built, files, tmp_path, capsys):
    csv, out = tmp_path / "table.csv", tmp_path / "probs.npy"
    command = ["bank", "evaluate", str(built), "--data", str(files / source)]
    assert main([*command, "--csv", str(csv), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Every path on 80" in printed
    frame = pd.read_csv(csv, index_col="path")
    expected = pd.read_csv(built / "paths.csv", index_col="path")
    pd.testing.assert_frame_equal(frame, expected, atol=1e-3)
    assert PathProbabilities.load(out).shape == (80, len(frame), 4)


def test_build_cuts_other_networks_by_name(files, tmp_path, capsys):
    arguments = (
        f"bank build --network resnet10t --img-size 32 --blocks layer1 layer4 --max-epochs 1 "
        f"--train {files}/held --levels 8 --calibration-images 8 --max-drop 1 --method uniform "
        f"--out {tmp_path}/bank"
    )
    assert main(arguments.split()) == 0
    assert "on 8 validation images" in capsys.readouterr().out
    assert main(["bank", "evaluate", f"{tmp_path}/bank", "--data", f"{files}/held"]) == 0
    assert "layer4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--train no.npz", "--train no.npz: there is no such file"),
        (f"--train {'n' * 300}.npz", "there is no such file"),
        (f"--img-size {10**7}", "must be a whole number from 1 to 8192, got 10000000"),
        ("--mean nan 0 0", "must be a finite number, got 'nan'"),
        ("--std a", "must be a finite number, got 'a'"),
        ("--max-drop nan", "--max-drop must lie between 0 and 1"),
        (f"--seed {2**32}", "must be a whole number from 0 to 4294967295"),
        ("--validation README.md", "--validation README.md: give a folder"),
        ("--checkpoint no.pth", "there is no such file"),
        ("--levels 1", "must be a whole number from 2 to 32, got 1"),
        ("--levels 4 4", "--levels must be distinct"),
        ("--exits two", "--exits must be numbers of layers, got two"),
        ("--max-drop 2", "--max-drop must lie between 0 and 1"),
    ],
)
def test_bad_options_of_build_end_before_any_work(change, message, files, tmp_path, capsys):
    arguments = f"bank build --network t2t_vit_7 --train {files}/train.npz --exits 1 7 --out"
    with pytest.raises(SystemExit) as stopped:
        main([*arguments.split(), str(tmp_path / "bank"), *change.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()


def test_errors_of_the_work_are_one_line(files, tmp_path, capsys):
    np.savez(tmp_path / "odd.npz", a=np.zeros(3))
    arguments = f"bank build --network t2t_vit_7 --exits 1 7 --out {tmp_path}/bank --train"
    for train, message in (
        (tmp_path / "odd.npz", "must hold X (or images)"),
        (files / "train.npz", "img_size"),
    ):
        size = ["--img-size", "10"] if train == files / "train.npz" else []
        assert main([*arguments.split(), str(train), *size]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


CUT = b"PK\x03\x04 an archive that ends too early"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--network no_such_net --exits 1", "must be the name of a model that the installed timm"),
        ("--exits 1", "ResNet is not one of timm's VisionTransformers: say after which"),
        ("--blocks layer1 --img-size 32 --network t2t_vit_7", "There is no submodule 'layer1'"),
        ("--exits 1 --img-size 32", "blocks=[...]. It has ['conv1'"),
        ("--device nowhere", "device='nowhere' cannot be used here"),
        ("--mean 0.5", "data_config['mean'] must have shape (3,)"),
        ("--std 0 0 0", "data_config['std'] must hold finite numbers > 0"),
        ("--exits one 2 --blocks layer1 layer2", "exits must be among blocks"),
        ("--train {tmp}/cut.npz", "cut.npz"),
        ("--validation {tmp}/cut.npz", "cut.npz"),
        ("--train {tmp}/flat.npz", "must hold images (n, H, W) or (n, H, W, C) and labels (n,)"),
        ("--train {tmp}/none.npz", "holds 0 images and 0 labels"),
    ],
)
def test_what_build_cannot_use_is_one_line_and_starts_no_training(
    change, message, files, tmp_path, capsys, monkeypatch
):
    from skquee.networks import _head_trainer

    monkeypatch.setattr(_head_trainer, "cache_features", None)
    (tmp_path / "cut.npz").write_bytes(CUT)
    np.savez(tmp_path / "flat.npz", X=np.float64(1), y=[1, 2])
    np.savez(tmp_path / "none.npz", X=np.zeros((0, 8, 8, 3), np.uint8), y=[])
    arguments = f"bank build --network resnet10t --train {files}/train.npz --out {tmp_path}/bank"
    cut = "" if {"--blocks", "--exits"} & {*change.split()} else "--blocks layer1"
    command = f"{arguments} {cut} {change.format(tmp=tmp_path)}"
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("skquee bank build: error: ")
    assert message in error and error.count("\n") == 1


def test_build_looks_for_room_for_its_results_first(files, tmp_path, capsys, monkeypatch):
    from skquee.cli import _bank

    monkeypatch.setattr(_bank, "read_images", None)
    command = f"bank build --network t2t_vit_7 --exits 1 7 --train {files}/train.npz --out"
    for name, message in (
        ("val_probs.npy", "val_probs.npy='"),
        ("paths.csv", "is a folder: give a file's name in it"),
        ("network/other", "holds something else than a saved network"),
    ):
        out = tmp_path / name.partition(".")[0]
        (out / name).mkdir(parents=True)
        assert main([*command.split(), str(out)]) == 1
        assert message in capsys.readouterr().err
    for place in (files / "train.npz", files / "train.npz" / "deep"):
        with pytest.raises(SystemExit):
            main([*command.split(), str(place)])
        assert "must be a folder, but" in capsys.readouterr().err


def test_a_cut_archive_is_one_line_to_evaluate(built, tmp_path, capsys):
    (tmp_path / "cut.npz").write_bytes(CUT)
    assert main(["bank", "evaluate", str(built), "--data", str(tmp_path / "cut.npz")]) == 1
    error = capsys.readouterr().err
    assert "cut.npz" in error and error.count("\n") == 1
    for option in (f"--out {tmp_path}/no/a.npy", f"--csv {tmp_path}/no/a.csv"):
        with pytest.raises(SystemExit):
            main(["bank", "evaluate", str(built), "--data", str(tmp_path), *option.split()])
        assert "does not exist: make it first" in capsys.readouterr().err


def test_evaluate_wants_a_bank(built, files, tmp_path, capsys):
    for command, message in (
        (f"bank evaluate {tmp_path} --data {files}/held", "holds no bank"),
        (f"bank evaluate {built} --data {files}/held --csv a.txt", "must end in .csv"),
        (f"bank evaluate {built} --data {files}/held --out no/a.npy", "does not exist"),
        (f"bank evaluate {built} --data {files}/held --out a.npz", "must end in .npy"),
        (f"bank evaluate {built} --data no.npz", "there is no such file"),
    ):
        with pytest.raises(SystemExit):
            main(command.split())
        assert message in capsys.readouterr().err


def test_labels_that_the_bank_does_not_know_are_an_error_and_not_wrong_answers(
    built, images, tmp_path, capsys
):
    np.savez(tmp_path / "odd.npz", X=images[0][:5], y=np.arange(5))
    assert main(["bank", "evaluate", str(built), "--data", str(tmp_path / "odd.npz")]) == 1
    error = capsys.readouterr().err
    assert "holds the labels" in error and "(4 classes)" in error
