from __future__ import annotations

import hashlib
import inspect
import pickle
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import skquee
from skquee.datasets import Splits, load_cifar10, load_cifar100, load_imagenet, load_svhn

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

N_TRAIN, N_TEST, N_CLASSES = 30, 8, 5


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def pixels(start: int, n: int) -> np.ndarray:
    """Give images (n, 3, 32, 32) that are told apart by their first pixel, (start + i, 7, 9)."""
    images = np.random.default_rng(start).integers(256, size=(n, 3, 32, 32), dtype=np.uint8)
    images[:, :, 0, 0] = np.c_[start + np.arange(n), np.full(n, 7), np.full(n, 9)]
    return images


def labels(n: int) -> list[int]:
    return [i % N_CLASSES for i in range(n)]


def make_cifar(root: Path, monkeypatch, kind, key: str) -> None:
    folder = root / kind.base_folder
    folder.mkdir()

    def write(name: str, content: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return md5(folder / name)

    sums = {}
    batches = np.array_split(np.arange(N_TRAIN), len(kind.train_list))
    for (name, _), rows in zip(kind.train_list, batches, strict=True):
        data = pixels(0, N_TRAIN)[rows].reshape(len(rows), -1)
        sums[name] = write(name, {"data": data, key: [labels(N_TRAIN)[row] for row in rows]})
    (test, _), meta = kind.test_list[0], kind.meta
    sums[test] = write(test, {"data": pixels(100, N_TEST).reshape(N_TEST, -1), key: labels(N_TEST)})
    sums[meta["filename"]] = write(meta["filename"], {meta["key"]: list("abcde")})
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[test, sums[test]]])
    monkeypatch.setattr(kind, "meta", {**meta, "md5": sums[meta["filename"]]})


def make_cifar10(root: Path, monkeypatch) -> None:
    make_cifar(root, monkeypatch, torchvision.datasets.CIFAR10, "labels")


def make_cifar100(root: Path, monkeypatch) -> None:
    make_cifar(root, monkeypatch, torchvision.datasets.CIFAR100, "fine_labels")


def make_svhn(root: Path, monkeypatch) -> None:
    kind = torchvision.datasets.SVHN
    official = dict(kind.split_list)
    for part, start, n in (("train", 0, N_TRAIN), ("test", 100, N_TEST)):
        url, name, _ = official[part]
        digits = [label or 10 for label in labels(n)]  # the files call the digit 0 10
        content = {"X": pixels(start, n).transpose(2, 3, 1, 0), "y": np.array(digits)[:, None]}
        scipy.io.savemat(root / name, content)
        official[part] = [url, name, md5(root / name)]
    monkeypatch.setattr(kind, "split_list", official)


def make_imagenet(root: Path, monkeypatch=None) -> None:
    wnids = [f"n0000000{label}" for label in range(N_CLASSES)]
    for part, start, n in (("train", 0, N_TRAIN), ("val", 100, N_TEST)):
        for wnid in wnids:
            (root / part / wnid).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(pixels(start, n), labels(n), strict=True)):
            # PNG content keeps the pixels; the loader goes by content, not by name.
            file = root / part / wnids[label] / f"{part}_{i}.JPEG"
            Image.fromarray(image.transpose(1, 2, 0)).save(file, format="PNG")
    meta = {wnid: (wnid,) for wnid in wnids}, [wnids[label] for label in labels(N_TEST)]
    torch.save(meta, root / "meta.bin")


def small_imagenet(root, *, n_validation=50_000, **kwargs) -> Splits:
    return load_imagenet(root, n_train=N_TRAIN - n_validation, n_validation=n_validation, **kwargs)


CASES = {
    "cifar10": (make_cifar10, load_cifar10),
    "cifar100": (make_cifar100, load_cifar100),
    "svhn": (make_svhn, load_svhn),
    "imagenet": (make_imagenet, small_imagenet),
}


@pytest.fixture(params=CASES)
def case(request, tmp_path, monkeypatch):
    make, load = CASES[request.param]
    make(tmp_path, monkeypatch)
    return tmp_path, load


def numbers(dataset) -> list[int]:
    """Return which images of ``pixels`` a data set holds."""
    return [dataset[i][0].getpixel((0, 0))[0] for i in range(len(dataset))]


# ---------------------------------------------------------------------- what is loaded


def test_the_splits_partition_the_training_images_and_keep_the_test_images(case):
    root, load = case
    splits = load(root, n_validation=6)
    assert splits._fields == ("train", "validation", "test")
    assert [len(part) for part in splits] == [N_TRAIN - 6, 6, N_TEST]
    assert sorted(numbers(splits.train) + numbers(splits.validation)) == list(range(N_TRAIN))
    assert sorted(numbers(splits.test)) == list(range(100, 100 + N_TEST))


def test_items_are_pil_images_with_their_label(case):
    root, load = case
    for part, start in zip(load(str(root), n_validation=6), (0, 0, 100), strict=True):
        for i in range(len(part)):
            image, label = part[i]
            assert isinstance(image, Image.Image) and image.mode == "RGB"
            red, green, blue = image.getpixel((0, 0))
            assert image.size == (32, 32) and (green, blue) == (7, 9)
            assert type(label) is int and label == (red - start) % N_CLASSES


def test_the_choice_of_validation_images_is_seeded(case):
    root, load = case
    first, again, other = (load(root, n_validation=6, random_state=s) for s in (0, 0, 1))
    assert numbers(first.validation) == numbers(again.validation)
    assert numbers(first.train) == numbers(again.train)
    assert sorted(numbers(first.validation)) != sorted(numbers(other.validation))


def test_parts_are_shuffled(case):
    root, load = case
    train = numbers(load(root, n_validation=6).train)
    assert train != sorted(train)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_validation=st.integers(1, N_TRAIN - 1), seed=st.integers(0, 2**32 - 1))
def test_splits_are_disjoint_and_cover_the_training_images(
    n_validation, seed, tmp_path, monkeypatch
):
    if not (tmp_path / "train_32x32.mat").exists():
        make_svhn(tmp_path, monkeypatch)
    splits = load_svhn(tmp_path, n_validation=n_validation, random_state=seed)
    assert len(splits.validation) == n_validation
    counts = Counter([*splits.train.indices, *splits.validation.indices])
    assert counts == Counter(range(N_TRAIN))


def test_imagenet_leaves_out_what_is_not_asked_for(tmp_path):
    make_imagenet(tmp_path)
    small = load_imagenet(tmp_path, n_train=10, n_validation=6)
    large = load_imagenet(tmp_path, n_train=20, n_validation=6)
    assert [len(part) for part in small] == [10, 6, N_TEST]
    assert numbers(small.validation) == numbers(large.validation)
    assert numbers(small.train) == numbers(large.train)[:10]
    assert len({*numbers(small.train), *numbers(small.validation)}) == 16


def test_default_sizes_are_those_of_the_paper():
    sizes = {
        load.__name__: [
            p.default for name, p in inspect.signature(load).parameters.items() if name[:2] == "n_"
        ]
        for load in (load_cifar10, load_cifar100, load_svhn, load_imagenet)
    }
    assert sizes == {
        "load_cifar10": [5_000],
        "load_cifar100": [5_000],
        "load_svhn": [5_000],
        "load_imagenet": [1_100_000, 50_000],
    }


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("n_validation", [N_TRAIN, N_TRAIN + 1, 5_000])
def test_more_validation_images_than_there_are_is_refused(tmp_path, monkeypatch, n_validation):
    make_cifar10(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=f"less than the 30 training images, got {n_validation}"):
        load_cifar10(tmp_path, n_validation=n_validation)


def test_more_images_of_imagenet_than_there_are_is_refused(tmp_path):
    make_imagenet(tmp_path)
    with pytest.raises(ValueError, match=r"at most the 30 training images, got 1100000 \+ 50000"):
        load_imagenet(tmp_path)


@pytest.mark.parametrize("count", [0, -1, 0.1, True, "6"])
def test_a_count_that_is_no_count_is_refused_before_files_are_looked_for(tmp_path, count):
    for load in (load_cifar10, load_cifar100, load_svhn, load_imagenet):
        with pytest.raises(ValueError, match="n_validation must be a whole number of images"):
            load(tmp_path, n_validation=count)
    with pytest.raises(ValueError, match="n_train must be a whole number of images from 1"):
        load_imagenet(tmp_path, n_train=count)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (load_cifar10, "CIFAR10 is not in .*cifar-10-batches-py.data_batch_1, .*batches.meta"),
        (load_cifar100, "CIFAR100 is not in .*cifar-100-python.train, "),
        (load_svhn, "SVHN is not in .*there is no train_32x32.mat, test_32x32.mat"),
    ],
)
def test_absent_data_is_an_error_that_offers_to_download(tmp_path, load, message):
    with pytest.raises(FileNotFoundError, match=f"{message}.*Pass download=True"):
        load(tmp_path / "nowhere")


def test_absent_archives_of_imagenet_are_named(tmp_path):
    make_imagenet(tmp_path)
    (tmp_path / "meta.bin").unlink()
    (tmp_path / "val").rename(tmp_path / "other")
    with pytest.raises(FileNotFoundError) as error:
        load_imagenet(tmp_path)
    message = str(error.value)
    assert "ILSVRC2012_devkit_t12.tar.gz (nor meta.bin), ILSVRC2012_img_val.tar (nor" in message
    assert "ILSVRC2012_img_train.tar" not in message
    assert "https://image-net.org" in message


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_damaged_files_are_refused(tmp_path, monkeypatch, name):
    make, load = CASES[name]
    make(tmp_path, monkeypatch)
    file = sorted(f for f in tmp_path.rglob("*") if f.is_file())[-1]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"damaged, .*Delete it and get it again: .*{file.name}"):
        load(tmp_path, n_validation=6)


def test_a_damaged_archive_of_imagenet_is_refused(tmp_path):
    make_imagenet(tmp_path)
    (tmp_path / "meta.bin").unlink()
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged, .*ILSVRC2012_devkit_t12.tar.gz"):
        load_imagenet(tmp_path, n_train=10, n_validation=6)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_download_is_torchvisions_and_happens_only_when_asked(tmp_path, monkeypatch, name):
    make, load = CASES[name]
    make(tmp_path, monkeypatch)
    kind = {
        "cifar10": torchvision.datasets.CIFAR10,
        "cifar100": torchvision.datasets.CIFAR100,
        "svhn": torchvision.datasets.SVHN,
    }[name]
    file = next(f for f in tmp_path.rglob("*") if f.is_file())
    content, asked = file.read_bytes(), []

    def restore(self) -> None:
        asked.append(self.root)
        file.write_bytes(content)

    monkeypatch.setattr(kind, "download", restore)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=file.name):
        load(tmp_path, n_validation=6)
    assert asked == []
    assert len(load(tmp_path, n_validation=6, download=True).test) == N_TEST
    assert set(asked) == {tmp_path}


def test_import_loads_no_torch():
    code = "import skquee.datasets, sys; print(*{'torch', 'torchvision', 'PIL'} & set(sys.modules))"
    root = str(Path(skquee.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
