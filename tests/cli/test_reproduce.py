"""``skquee reproduce``: the whole quick experiment, its restart, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Subset

from skquee import datasets
from skquee.cli import main
from skquee.cli._reproduce import read_cifar


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    assert main(["reproduce", "--quick", "--out", str(folder), "--epochs", "3"]) == 0
    return folder


def test_the_quick_experiment_runs_and_reports(out: Path) -> None:
    page = (out / "digits" / "report.html").read_text(encoding="utf8")
    assert "small vision transformer on scikit-learn&#x27;s digits" in page
    for figure in ("1", "3", "3c", "4", "5a", "5b_9", "5c", "6_7", "8", "7_3"):
        assert (out / "digits" / f"figure_{figure}.png").exists()


def test_a_second_run_reads_and_prints_the_same(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = out / "digits" / "cache" / "quee.npz"
    before = curve.stat().st_mtime_ns
    assert main(["reproduce", "digits", "--quick", "--out", str(out), "--epochs", "3"]) == 0
    assert curve.stat().st_mtime_ns == before
    printed = capsys.readouterr().out
    assert "JEI-DNN" in printed and "report.html" in printed
    assert "QuEE is above thresholding" in printed


def test_other_options_are_refused_and_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--quick", "--out", str(out), "--epochs", "4"]) == 1
    error = capsys.readouterr().err
    assert "other options (epochs 3 -> 4). Give another folder" in error


def test_a_run_that_failed_before_it_kept_anything_binds_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong --data, then the right one: the second gets as far as the bad weights."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.pth").write_bytes(b"no checkpoint")
    for part, n in (("train", 20), ("test", 5)):
        images = np.zeros((n, 8, 8, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{part}.npz", X=images, y=np.arange(n) % 10)
    command = ["reproduce", "cifar10", "--weights", str(tmp_path / "weights.pth")]
    command += ["--out", str(tmp_path / "r"), "--data"]
    assert main([*command, str(tmp_path / "empty")]) == 1
    assert "holds neither" in capsys.readouterr().err
    assert main([*command, str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "weights.pth" in error and "other options" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a data set"),
        (["cifar10"], "cifar10 needs --data"),
        (["cifar10", "--data", "nowhere"], "nowhere: there is no such folder"),
        (["cifar10", "--data", "."], "Give --weights FILE"),
        (["cifar10", "--data", ".", "--weights", "no.pth"], "no.pth: there is no such file"),
        (["cifar10", "--data", ".", "--network", "vit_tiny"], "give the layers"),
        (["cifar10", "--data", ".", "--exits", "4", "2"], "2 or more that increase"),
        (["digits", "--levels", "8", "8"], "--levels must be distinct"),
        (["digits", "--levels", "8"], "two or more"),
        (["digits", "--exits", "1", "2"], "end at 6"),
        (["--quick", "--data", "."], "name cifar10 or cifar100"),
        (["mnist"], "invalid choice"),
        (["cifar10", "--img-size", str(10**7)], "must be a whole number from 1 to 8192"),
        (["digits", "--seed", str(2**32)], "must be a whole number from 0 to 4294967295"),
        (["digits", "--out", __file__], "must be a folder, but"),
        (["digits", "--out", f"{__file__}/deep"], "must be a folder, but"),
    ],
)
def test_bad_options_end_with_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "--out", str(tmp_path / "r"), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists(), "nothing is written"


def encode(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        parts.append(stream.getvalue())
    offsets = np.cumsum([0, *map(len, parts)])
    return np.frombuffer(b"".join(parts), dtype=np.uint8), offsets


@pytest.mark.parametrize("encoded", [True, False])
def test_archives_of_both_kinds_give_the_same_images(tmp_path: Path, encoded: bool) -> None:
    rng = np.random.default_rng(0)
    kept = {}
    for part, n in (("train", 25), ("test", 6)):
        images = rng.integers(256, size=(n, 8, 8, 3), dtype=np.uint8)
        labels = np.arange(n) % 10
        kept[part] = images, labels
        data: dict[str, Any] = {"X": images, "y": labels}
        if encoded:
            bytes_, offsets = encode(images)
            data = {"data": bytes_, "offsets": offsets, "labels": labels.astype(np.uint16)}
        np.savez(tmp_path / f"my_{part}.npz", class_names=[f"c{k}" for k in range(10)], **data)
    splits, names = read_cifar(tmp_path, "cifar10")
    assert names is not None and names[3] == "c3"
    rows = np.random.default_rng(0).permutation(25)
    X, y = kept["train"]
    np.testing.assert_array_equal(splits["val"][0], X[rows[:5]])
    np.testing.assert_array_equal(splits["train"][1], y[rows[5:]])
    np.testing.assert_array_equal(splits["test"][0], kept["test"][0])


@pytest.mark.parametrize(
    "offsets", [[0.0, 5.0, 9.0], [0, 5], [5, 0, 9], [[0, 5, 9]], ["0", "5", "9"]]
)
def test_offsets_that_cut_out_no_images_are_refused(tmp_path: Path, offsets: list[Any]) -> None:
    np.savez(tmp_path / "a_test.npz", X=np.zeros((2, 4, 4, 3), np.uint8), y=[0, 1])
    encoded = {"data": np.zeros(9, np.uint8), "offsets": offsets, "labels": [0, 1]}
    np.savez(tmp_path / "a_train.npz", **encoded)
    with pytest.raises(ValueError, match="offsets must be 3 integers that rise"):
        read_cifar(tmp_path, "cifar10")


def test_a_folder_without_images_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither one \*train\*.npz .* nor torchvision"):
        read_cifar(tmp_path, "cifar100")
    np.savez(tmp_path / "a_train.npz", X=np.zeros((2, 4, 4, 3), np.uint8), y=[0, 1])
    with pytest.raises(ValueError, match=r"must hold one \*test\*.npz"):
        read_cifar(tmp_path, "cifar10")


def test_torchvisions_own_files_come_with_their_split_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Files:
        classes = ("plane", "car")

        def __getitem__(self, row: int) -> Any:
            return Image.new("RGB", (4, 4), (row, 0, 0)), row % 2

    parts = [Subset(Files(), rows) for rows in ([3, 1], [0], [4, 2])]  # type: ignore[arg-type]
    monkeypatch.setattr(datasets, "load_cifar10", lambda folder: datasets.Splits(*parts))
    splits, names = read_cifar(tmp_path, "cifar10")
    assert names == ["plane", "car"]
    reds = {part: X[:, 0, 0, 0].tolist() for part, (X, _) in splits.items()}
    assert reds == {"train": [3, 1], "val": [0], "test": [4, 2]}
    assert splits["train"][1].tolist() == [1, 1]


def test_the_shared_cifar_is_read(shared_data: Any) -> None:
    splits, names = read_cifar(shared_data("cifar10"), "cifar10")
    assert {part: len(y) for part, (_, y) in splits.items()} == {
        "train": 45_000,
        "val": 5_000,
        "test": 10_000,
    }
    assert names is not None and names[0] == "airplane"
    assert splits["test"][0].shape == (10_000, 32, 32, 3)
