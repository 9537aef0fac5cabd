"""A router beside a bank's network: fitted, judged and asked by the command."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS

from skquee import CostAwareRouter, MultiPathClassifierBank, dump, load
from skquee.cli import main
from skquee.cli._routed import IMAGES
from skquee.networks import MultiExitNetwork


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


def test_folders_named_by_numbers_are_no_labels_of_other_classes(routed, files, tmp_path, capsys):
    for number, image in enumerate(sorted((files / "held").glob("*/*.png"))[:3]):
        (tmp_path / "new" / str(number)).mkdir(parents=True)
        shutil.copy(image, tmp_path / "new" / str(number))
    assert main(["bank", "predict", str(routed), "--data", str(tmp_path / "new")]) == 0
    assert "accuracy" not in capsys.readouterr().err
    assert main(["bank", "predict", str(routed), "--data", str(tmp_path / "new" / "0")]) == 0
    (tmp_path / "empty").mkdir()
    assert main(["bank", "predict", str(routed), "--data", str(tmp_path / "empty")]) == 1
    assert "empty holds no image (.bmp" in capsys.readouterr().err


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
        ("fit-router {tmp}", "holds no bank: make one"),
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


def test_predict_finds_the_images_that_a_folder_was_built_on():
    assert set(IMG_EXTENSIONS) <= set(IMAGES)
