"""Loaders, data sets, files and depths of images are obeyed alike wherever images are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.baselines import FixedPath
from skquee.cli._bank import read_images
from skquee.networks import HeadTrainer, MultiExitNetwork
from skquee.networks._images import ImageFormat
from skquee.networks._labels import labels_of
from skquee.networks._training import augmented

COLOUR = ImageFormat(3, (8, 8), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
PLAIN = ImageFormat(1, (4, 4), (0.0,), (1.0,))


class Pairs(Dataset):
    """Images and labels that only items tell."""

    def __init__(self, images, labels):
        self.images, self.given = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], self.given[row]


@pytest.fixture(scope="module")
def pairs():
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    return Pairs(images, [row % 3 for row in range(9)])


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for row in range(24):
        place = tmp_path / "images" / ("cat" if row % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        height, width = 10 + row % 3, 9 + row % 4
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{row:02}.png")
    return tmp_path / "images"


def convolutions():
    model = nn.Sequential()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()))
        model.add_module("body", nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()))
    model.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    return model


def small(**options):
    trainer = HeadTrainer(max_epochs=1, batch_size=8)
    given = {"blocks": ["stem", "body"], "trainer": trainer, "random_state": 0, **options}
    return MultiExitNetwork(convolutions(), **given)


# ---------------------------------------------------------------------- loaders


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"sampler": [5, 3, 8]}, [5, 3, 8]),
        ({"sampler": SubsetRandomSampler([7, 2, 4])}, [2, 4, 7]),
        ({"batch_sampler": [[1, 0], [4]]}, [1, 0, 4]),
        ({"batch_sampler": BatchSampler([6, 2, 5], 2, drop_last=True)}, [6, 2]),
        ({"batch_size": 4, "drop_last": True}, list(range(8))),
        ({"shuffle": True}, list(range(9))),
        ({"batch_size": None, "sampler": [3, 1]}, [3, 1]),
    ],
)
def test_a_loader_gives_the_rows_that_its_sampler_draws(options, rows, pairs):
    loader = DataLoader(pairs, **options)
    found = COLOUR.rows(loader)
    assert found.order.tolist() == rows
    torch.testing.assert_close(found.tensor(), COLOUR.rows(pairs)[rows].tensor())
    assert labels_of(found).tolist() == [row % 3 for row in rows]


def test_random_draws_pair_images_with_their_labels_and_leave_the_callers_state(pairs):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = COLOUR.rows(DataLoader(pairs, sampler=WeightedRandomSampler([1.0] * 9, 30)))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(found) == 30
    assert labels_of(found).tolist() == (found.order % 3).tolist()


def test_samplers_that_name_no_rows_or_never_end_are_refused(pairs):
    class Endless:
        def __iter__(self):
            while True:
                yield 0

    with pytest.raises(ValueError, match="draws row 9 of a data set of 9 rows"):
        COLOUR.rows(DataLoader(pairs, sampler=[0, 9]))
    with pytest.raises(ValueError, match="must draw numbers of rows, got 'a'"):
        COLOUR.rows(DataLoader(pairs, sampler=["a"]))
    with pytest.raises(ValueError, match="drew 900 rows of 9 and goes on"):
        COLOUR.rows(DataLoader(pairs, batch_size=None, sampler=Endless()))


def test_a_collate_function_makes_images_and_labels(pairs):
    def inverted(items):
        images = np.stack([255 - image for image, _ in items])
        return images, torch.tensor([10 + label for _, label in items])

    found = COLOUR.rows(DataLoader(pairs, collate_fn=inverted))
    expected = COLOUR.rows(255 - pairs.images).tensor()
    torch.testing.assert_close(found.tensor(), expected)
    assert labels_of(found).tolist() == [10 + label for label in pairs.given]
    picked = found[[4, 2]]
    torch.testing.assert_close(picked.tensor(), expected[[4, 2]])
    assert labels_of(picked).tolist() == [11, 12]
    short = COLOUR.rows(DataLoader(pairs, collate_fn=lambda items: inverted(items[:1])))
    with pytest.raises(ValueError, match="collate_fn must return as many images .* 9, .* got 1"):
        short.tensor()
    with pytest.raises(ValueError, match=r"collate_fn must return \(images, labels\)"):
        labels_of(short)


class Bag:
    """A batch of a size, to be gone over, and no more."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter(self.items)


class Photo:
    """What converts itself as a PIL image does, and is none."""

    mode = "RGB"

    def __init__(self, pixels):
        self.height, self.width = pixels.shape[:2]
        self.picture = Image.fromarray(pixels)

    def convert(self, mode):
        return self.picture.convert(mode)


def test_batches_and_pictures_of_other_kinds_are_taken_by_what_they_can(pairs):
    expected = COLOUR.rows(pairs.images).tensor()
    bags = DataLoader(pairs, collate_fn=lambda items: Bag([image for image, _ in items]))
    torch.testing.assert_close(COLOUR.rows(bags).tensor(), expected)
    photos = [Photo(image) for image in pairs.images]
    torch.testing.assert_close(COLOUR.rows(photos).tensor(), expected)
    asked = ImageFormat(3, None, (0.5,) * 3, (0.5,) * 3)
    assert asked.settled(asked.rows(photos), None) == asked


def test_fit_evaluate_and_transform_read_the_same_rows_of_a_loader(pairs):
    train, held = [0, 1, 2, 3, 4, 5], [8, 7, 6]
    by_loader = small(img_size=8).fit(
        DataLoader(pairs, sampler=train), validation_data=DataLoader(pairs, sampler=held)
    )
    labels = np.array(pairs.given)
    by_array = small(img_size=8).fit(
        pairs.images[train], labels[train], validation_data=(pairs.images[held], labels[held])
    )
    loader = DataLoader(pairs, sampler=held)
    np.testing.assert_array_equal(
        by_loader.evaluate(loader)["accuracy"],
        by_array.evaluate(pairs.images[held], labels[held])["accuracy"],
    )
    np.testing.assert_array_equal(
        np.asarray(MultiPathClassifierBank(by_loader).transform(loader)),
        np.asarray(MultiPathClassifierBank(by_array).transform(pairs.images[held])),
    )


# ---------------------------------------------------------------------- labels


def test_target_transforms_are_applied(folder):
    changed = ImageFolder(folder, target_transform=lambda label: 7 - label)
    assert set(labels_of(changed)) == {6, 7}
    assert labels_of(Subset(changed, [0, 23])).tolist() == [7, 6]
    joint = FakeData(4, (3, 8, 8), 5, transform=None, target_transform=lambda label: label + 50)
    assert labels_of(joint).min() >= 50


def test_names_of_classes_are_the_labels_of_folders_and_data_sets_alike(folder):
    names = ["cat"] * 12 + ["dog"] * 12
    data = ImageFolder(folder)
    for X in (folder, str(folder), data, DataLoader(data), ConcatDataset([data])):
        assert labels_of(X).tolist() == names
    assert labels_of(Subset(data, [20, 1])).tolist() == ["dog", "cat"]
    assert labels_of(DataLoader(data, sampler=[13, 2])).tolist() == ["dog", "cat"]
    network = small(img_size=8).fit(folder, validation_data=data)
    assert network.classes_.tolist() == ["cat", "dog"]
    found = network.evaluate(Subset(data, range(0, 24, 2)))["accuracy"]
    assert found.between(0, 1).all()


# ---------------------------------------------------------------------- files and sizes


def test_files_are_images(folder):
    files = sorted(folder.glob("*/*.png"))
    expected = COLOUR.rows(folder).tensor()
    for given in (files, [str(file) for file in files], np.array(list(map(str, files)))):
        torch.testing.assert_close(COLOUR.rows(given).tensor(), expected)
    with pytest.raises(FileNotFoundError, match=r"Entry 1 .* no\.png, is no file"):
        COLOUR.rows([files[0], "no.png"])
    with pytest.raises(TypeError, match="entry 1 is a int"):
        COLOUR.rows([files[0], 3])
    with pytest.raises(ValueError, match="brings no labels"):
        labels_of(files)
    y = [file.parent.name for file in files]
    assert small(img_size=8).fit(files, y).classes_.tolist() == ["cat", "dog"]


def test_folders_of_several_sizes_take_the_size_of_the_backbone_or_ask_for_one(folder, tmp_path):
    with pytest.raises(ValueError, match=r"several sizes \(10 x .*img_size="):
        small().fit(folder)
    trainer = HeadTrainer(max_epochs=1)
    named = MultiExitNetwork("resnet10t", blocks=["layer1", "layer2"], trainer=trainer)
    named.fit(Subset(ImageFolder(folder), [0, 1, 12, 13]), validation_data=folder)
    assert named.parts_.format.size == (176, 176)
    named.save(tmp_path / "model")
    loaded = MultiExitNetwork.load(tmp_path / "model")
    assert loaded.parts_.format.size == (176, 176)
    X = sorted(folder.glob("*/*.png"))[:3]
    np.testing.assert_array_equal(
        np.asarray(MultiPathClassifierBank(loaded).transform(X)),
        np.asarray(MultiPathClassifierBank(named).transform(X)),
    )


def test_a_routed_classifier_takes_a_folder(folder):
    network = small(img_size=8).fit(folder)
    labels = labels_of(folder)
    for router in (FixedPath(), None):
        clf = RoutedClassifier(MultiPathClassifierBank(network), router).fit(folder, labels)
        assert clf.predict(folder).shape == labels.shape
        assert 0 <= clf.score(folder, labels) <= 1


# ---------------------------------------------------------------------- depths


def test_sixteen_bits_are_scaled_by_their_range():
    deep = np.random.default_rng(0).integers(0, 65536, (3, 4, 4), dtype=np.uint16)
    expected = torch.from_numpy(deep.astype(np.float32) / 65535)[:, None]
    pictures = [Image.fromarray(image) for image in deep]
    assert pictures[0].mode.startswith("I;16")
    wide = [Image.fromarray(image.astype(np.int32)) for image in deep]
    assert wide[0].mode == "I"
    floats = [Image.fromarray(image.astype(np.float32) / 65535) for image in deep]
    for X in (deep, torch.from_numpy(deep)[:, None], pictures, wide, floats):
        torch.testing.assert_close(PLAIN.rows(X).tensor(), expected)
        torch.testing.assert_close(PLAIN.rows(X)[[2, 0]].tensor(), expected[[2, 0]])
    three = ImageFormat(3, (4, 4), (0.0,) * 3, (1.0,) * 3).rows(pictures).tensor()
    torch.testing.assert_close(three, expected.repeat(1, 3, 1, 1))


def test_folders_keep_the_depth_of_their_images(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (3, 4, 4), dtype=np.uint16)
    (tmp_path / "one").mkdir()
    for number, image in enumerate(deep):
        Image.fromarray(image).save(tmp_path / "one" / f"{number}.png")
    expected = torch.from_numpy(deep.astype(np.float32) / 65535)[:, None]
    torch.testing.assert_close(PLAIN.rows(tmp_path).tensor(), expected)
    torch.testing.assert_close(PLAIN.rows(read_images(tmp_path)[0]).tensor(), expected)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_that_cannot_be_read_is_named(share, folder, tmp_path):
    whole = sorted(folder.glob("*/*.png"))[0].read_bytes()
    (tmp_path / "a").mkdir()
    broken = tmp_path / "a" / "broken.png"
    broken.write_bytes(whole[: int(share * len(whole))])
    for X in (tmp_path, [broken]):
        with pytest.raises(OSError, match=r"a.broken\.png cannot be read"):
            COLOUR.rows(X).tensor()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 4), 70_000, np.int32), "mode 'I' must hold 16 bits.*70000"),
        (np.full((4, 4), -1, np.int32), "mode 'I' must hold 16 bits.*-1"),
        (np.full((4, 4), 200, np.float32), "floats must lie from 0 to 1"),
    ],
)
def test_pictures_of_an_unknown_scale_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        PLAIN.rows([Image.fromarray(image)]).tensor()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.int8])
def test_tensors_of_an_unknown_scale_are_refused(dtype):
    with pytest.raises(ValueError, match="the scale of the values is not known"):
        PLAIN.rows(torch.zeros(2, 1, 4, 4, dtype=dtype))


def test_tensors_that_are_scaled_but_not_normalised_are_warned_of(pairs):
    scaled = torch.from_numpy(pairs.images).permute(0, 3, 1, 2) / 255
    for X in (scaled, Pairs(list(scaled), pairs.given)):
        with pytest.warns(UserWarning, match="seem to be scaled only. Normalise them by") as heard:
            small(img_size=8).fit(X, pairs.given)
        assert heard[0].filename == __file__
    small(img_size=8).fit(2 * scaled - 1, pairs.given)


# ---------------------------------------------------------------------- training


def test_an_augmentation_sees_images_one_by_one_before_they_are_normalised(pairs):
    seen = []

    def note(image):
        seen.append(image)
        return image

    normalised = COLOUR.rows(pairs).tensor()
    torch.testing.assert_close(augmented(note, normalised, COLOUR), normalised)
    assert len(seen) == 9
    pixels = torch.from_numpy(pairs.images).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(torch.stack(seen), pixels)


def test_no_two_images_of_a_batch_are_changed_alike(pairs):
    torch.manual_seed(0)
    normalised = COLOUR.rows(np.repeat(pairs.images[:1], 8, axis=0)).tensor()
    changed = augmented(v2.ColorJitter(brightness=0.5), normalised, COLOUR)
    assert len({round(float(image.sum()), 2) for image in changed}) == 8
    assert COLOUR.pixels(changed).min() >= -1e-5


def test_batch_normalisation_in_heads_survives_a_last_batch_of_one_row(digits, make_backbone):
    X, y = digits

    def heads(width, n_classes):
        return nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, n_classes))

    trainer = HeadTrainer(heads=heads, final_head="train", batch_size=20, max_epochs=2)
    network = MultiExitNetwork(make_backbone(), exits=(1, 3), trainer=trainer)
    network.fit(X[:41], y[:41], validation_data=(X[41:60], y[41:60]))
    assert not network.exit_heads[0].training


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_heads_train_where_gradients_are_off(off, digits, make_backbone):
    X, y = digits
    trainer = HeadTrainer(final_head="train", max_epochs=5, learning_rate=0.1)
    before = torch.is_grad_enabled()
    network = MultiExitNetwork(make_backbone(), (1, 3), trainer=trainer, random_state=0)
    with off():
        found = network.fit(X[:100], y[:100]).validation_accuracy_
    assert torch.is_grad_enabled() == before
    network = MultiExitNetwork(make_backbone(), (1, 3), trainer=trainer, random_state=0)
    np.testing.assert_array_equal(network.fit(X[:100], y[:100]).validation_accuracy_, found)


def test_a_backbone_that_ends_in_probabilities_is_noticed(digits):
    X, y = digits
    model = nn.Sequential()
    model.add_module("stem", nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
    model.add_module("body", nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.ReLU()))
    model.add_module("out", nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.Softmax(dim=1)))
    network = MultiExitNetwork(model, blocks=["stem", "body"])
    with pytest.raises(ValueError, match="answers probabilities .* final_head='train'"):
        network.fit(X[:100], y[:100])
    network.set_params(trainer__final_head="train", trainer__max_epochs=1).fit(X[:100], y[:100])
