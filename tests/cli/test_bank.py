from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, dump, load
from skquee.cli import main
from skquee.networks import MultiExitNetwork


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(n_class=4, return_X_y=True)
    pixels = np.repeat((X.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), 3, axis=3)
    return pixels[:300], np.array([f"digit {label}" for label in y[:300]])


@pytest.fixture(scope="module")
def files(images, tmp_path_factory):
    """Train and validation images as .npz and as folders, and weights of a small ResNet."""
    import timm

    X, y = images
    root = tmp_path_factory.mktemp("images")
    np.savez(root / "train.npz", X=X[:220], y=y[:220])
    np.savez(root / "held.npz", images=X[220:], labels=y[220:])
    for row in range(220, 300):
        place = root / "held" / y[row]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[row]).save(place / f"{row}.png")
    torch.manual_seed(0)
    model = timm.create_model("t2t_vit_7", img_size=16, num_classes=4)
    save_file(model.state_dict(), root / "t2t.safetensors")
    return root


@pytest.fixture(scope="module")
def built(files):
    out = files / "bank"
    arguments = (
        f"bank build --network t2t_vit_7 --checkpoint {files}/t2t.safetensors --img-size 16 "
        f"--exits 1 7 --train {files}/train.npz --validation {files}/held.npz --levels 8 4 "
        f"--calibration-images 16 --max-epochs 5 --max-drop 1 --method base --out {out}"
    )
    assert main(arguments.split()) == 0
    return out


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
        ("--exits 1", "ResNet is not one of timm's vision transformers: say after which"),
        ("--blocks layer1 --img-size 32 --network t2t_vit_7", "There is no submodule 'layer1'"),
        ("--exits 1 --img-size 32", "'img_size'"),
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


# ---------------------------------------------------------------------- routers


@pytest.fixture(scope="module")
def routed(built, files):
    """A bank with its router beside the network."""
    copied = files / "routed"
    shutil.copytree(built, copied)
    command = f"bank fit-router {copied} --cv 3 --max-error-increase 0.05"
    assert main(command.split()) == 0
    return copied


@pytest.mark.filterwarnings("ignore:max_cost=")
def test_fit_router_writes_a_router_and_ends_with_a_verdict(built, files, tmp_path, capsys):
    copied = tmp_path / "bank"
    shutil.copytree(built, copied)
    for options in ("--router paper --max-cost 0.9", "--price 0.1", ""):
        assert main(f"bank fit-router {copied} --cv 3 {options}".split()) == 0
        printed = capsys.readouterr().out
        assert "Routed, cross-validated on 80 images" in printed
        assert "Verdict: " in printed or "No single path is as accurate" in printed
    router = load(copied / "router.skops")
    network = MultiExitNetwork.load(copied / "network")
    assert router.paths_.names == network.paths_.names


@pytest.mark.parametrize("source", ["held.npz", "held"])
def test_predict_answers_as_router_and_bank_do(source, routed, files, images, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    command = f"bank predict {routed} --data {files / source} --out {out} --batch-size 32"
    assert main(command.split()) == 0
    told = capsys.readouterr().err
    assert "80 images at a mean cost of" in told and "accuracy" in told
    found = pd.read_csv(out, index_col="image", dtype={"image": str})
    X = images[0][220:]
    if source == "held":
        assert found.index[0].startswith("digit 0/") and found.index.is_unique
        rows = [int(name.split("/")[1].removesuffix(".png")) - 220 for name in found.index]
        X = X[rows]
    bank = MultiPathClassifierBank(MultiExitNetwork.load(routed / "network"))
    routes = load(routed / "router.skops").route(bank.transform(X))
    assert found["label"].tolist() == routes.labels.tolist()
    assert found["path"].astype(str).tolist() == routes.path_names.tolist()
    np.testing.assert_allclose(found["cost"], routes.costs, rtol=1e-5)


def test_predict_prints_where_no_file_is_named(routed, files, capsys):
    image = next((files / "held").glob("*/*.png"))
    assert main(["bank", "predict", str(routed), "--data", str(image)]) == 0
    printed = capsys.readouterr()
    assert image.name in printed.out and "1 images at a mean cost" in printed.err
    assert "accuracy" not in printed.err


def test_a_router_of_another_bank_is_refused(routed, files, tmp_path, capsys):
    from skquee.testing import make_path_probabilities

    other = tmp_path / "bank"
    shutil.copytree(routed, other)
    table, y = make_path_probabilities(100)
    dump(CostAwareRouter(random_state=0).fit(table, y), other / "router.skops")
    assert main(["bank", "predict", str(other), "--data", f"{files}/held.npz"]) == 1
    assert "fitted for other paths or classes" in capsys.readouterr().err
    np.save(other / "val_labels.npy", np.arange(3))
    assert main(["bank", "fit-router", str(other)]) == 1
    assert "holds labels of shape (3,), the table beside it 80" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fit-router {tmp}", "holds no network/network.json: make a bank"),
        ("fit-router {routed} --max-cost 1 --price 1", "not allowed with argument"),
        ("fit-router {routed} --cv 1", "must be a whole number"),
        ("predict {tmp} --data {files}/held.npz", "holds no bank: make one"),
        ("predict {built} --data {files}/held.npz", "holds no router: fit one with"),
        ("predict {routed} --data no", "there is no such file or folder"),
        ("predict {routed} --data {files}/held.npz --out a.txt", "must end in .csv"),
    ],
)
def test_bad_options_of_routers_end_with_one_line(
    arguments, message, built, routed, files, tmp_path, capsys
):
    filled = arguments.format(tmp=tmp_path, built=built, routed=routed, files=files)
    with pytest.raises(SystemExit) as stopped:
        main(["bank", *filled.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
