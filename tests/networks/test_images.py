from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from skquee.networks._images import ImageFormat
from skquee.networks._labels import encode_labels, known_codes, labels_of

COLOUR = ImageFormat(3, (8, 8), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, size=(7, 8, 8, 3), dtype=np.uint8)


class Pairs(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row], row % 3


@pytest.fixture
def folder(tmp_path, pictures):
    for row, picture in enumerate(pictures):
        place = tmp_path / "images" / f"class {row % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{row}.png")
    return tmp_path / "images"


def test_pixels_are_normalised_by_the_literal_formula(pictures):
    x = COLOUR.rows(pictures).tensor().numpy()
    literal = (pictures / 255 - np.array(COLOUR.mean)) / np.array(COLOUR.std)
    np.testing.assert_allclose(x, literal.transpose(0, 3, 1, 2), atol=1e-6)


def test_every_kind_of_images_gives_the_same_input(pictures, folder):
    expected = COLOUR.rows(pictures).tensor()
    channels_first = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    kinds = [
        pictures / 255,
        (pictures / 255).astype(np.float32),
        channels_first,
        expected,
        [Image.fromarray(picture) for picture in pictures],
        Pairs([Image.fromarray(picture) for picture in pictures]),
        Pairs(list(pictures)),
        DataLoader(Pairs(list(pictures)), batch_size=2, shuffle=True),
        TensorDataset(channels_first, torch.arange(7)),
        TensorDataset(channels_first),
        COLOUR.rows(pictures),
    ]
    for images in kinds:
        torch.testing.assert_close(COLOUR.rows(images).tensor(), expected, atol=1e-6, rtol=0)
    by_class = [row for row in range(7) if row % 2 == 0] + [row for row in range(7) if row % 2]
    for path in (folder, str(folder)):
        torch.testing.assert_close(COLOUR.rows(path).tensor(), expected[by_class])


@pytest.mark.parametrize("kind", ["array", "dataset", "tensor"])
def test_batches_and_picked_rows_are_parts_of_the_whole(kind, pictures):
    X = {
        "array": pictures,
        "dataset": Pairs(list(pictures)),
        "tensor": torch.from_numpy(pictures).permute(0, 3, 1, 2),
    }[kind]
    rows = COLOUR.rows(X)
    whole = rows.tensor()
    assert len(rows) == 7 and rows.shape == (7, 3, 8, 8)
    torch.testing.assert_close(torch.cat(list(rows.batches(3))), whole)
    picked = np.array([5, 0, 5])
    torch.testing.assert_close(rows[picked].tensor(), whole[picked])
    torch.testing.assert_close(rows[2:4][[1]].tensor(), whole[[3]])
    assert tuple(rows[:0].tensor().shape) == (0, 3, 8, 8)
    loaded = pickle.loads(pickle.dumps(rows[picked]))
    torch.testing.assert_close(loaded.tensor(), whole[picked])
    if kind == "array":
        assert len(loaded.data) == 3  # its own rows only


def test_images_of_other_sizes_are_resized_as_torchvision_and_pil_do():
    random = np.random.default_rng(0)
    smooth = np.asarray(
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((32, 32))
    )
    fmt = ImageFormat(3, (8, 8), (0.0,) * 3, (1.0,) * 3)
    small = np.asarray(Image.fromarray(smooth).resize((8, 8), Image.Resampling.BICUBIC))
    x = fmt.rows(smooth[None]).tensor()[0].permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(x, small, atol=1.5)
    large = np.asarray(Image.fromarray(small).resize((16, 16), Image.Resampling.BICUBIC))
    enlarging = ImageFormat(3, (16, 16), (0.0,) * 3, (1.0,) * 3, crop_pct=0.5)
    x = enlarging.rows(small[None]).tensor()[0].permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(x, large, atol=1.5)  # enlarged whole: nothing is cropped


def test_a_larger_image_keeps_its_middle():
    image = np.zeros((1, 32, 64, 3), dtype=np.uint8)
    image[:, 8:24, 24:40] = 255
    fmt = ImageFormat(3, (8, 8), (0.0,) * 3, (1.0,) * 3, crop_pct=0.5)
    assert (fmt.rows(image).tensor() > 0.8).all()
    whole = ImageFormat(3, (8, 8), (0.0,) * 3, (1.0,) * 3)
    assert (whole.rows(image).tensor() < 0.2).any()


def test_a_data_set_of_many_sizes_is_resized_item_by_item(pictures):
    items = [Image.fromarray(picture).resize((8 + row, 9)) for row, picture in enumerate(pictures)]
    assert tuple(COLOUR.rows(Pairs(items)).tensor().shape) == (7, 3, 8, 8)


def test_grey_pictures_fit_a_network_of_one_channel(pictures):
    grey = ImageFormat(1, (8, 8), (0.5,), (0.5,))
    x = grey.rows([Image.fromarray(picture) for picture in pictures]).tensor()
    assert tuple(x.shape) == (7, 1, 8, 8)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 8, 8, 4), np.uint8), ValueError, r"takes \(n, 8, 8, 3\)"),
        (np.zeros((2, 8, 8), np.uint8), ValueError, "channels last"),
        (torch.zeros(2, 3, 9, 9), ValueError, r"\(2, 3, 9, 9\).*takes \(n, 3, 8, 8\)"),
        (np.zeros((2, 8, 8, 3), np.int64), ValueError, "scale of the values is not known"),
        (np.full((2, 8, 8, 3), "a"), ValueError, "must be numbers"),
        (np.full((2, 8, 8, 3), np.nan), ValueError, "Image 0 holds NaN"),
        ("no/such/folder", FileNotFoundError, "no folder no/such/folder"),
    ],
)
def test_images_that_cannot_be_used_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        COLOUR.rows(images)


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield np.zeros((8, 8, 3), np.uint8)

    with pytest.raises(TypeError, match="map-style"):
        COLOUR.rows(Stream())


def test_the_format_is_read_from_a_data_configuration():
    config = {"mean": (0.1, 0.2, 0.3), "std": (1, 2, 3), "crop_pct": 0.9}
    fmt = ImageFormat.of(3, (4, 4), config)
    assert (fmt.mean, fmt.std, fmt.crop_pct) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 0.9)
    assert ImageFormat.of(1, None, config).mean == (0.5,)
    with pytest.raises(ValueError, match="interpolation must be one of"):
        ImageFormat.of(3, None, {"interpolation": "magic"})
    with pytest.raises(ValueError, match="crop_pct must lie"):
        ImageFormat.of(3, None, {"crop_pct": 1.5})


def test_labels_are_found_where_data_sets_keep_them(pictures, folder):
    pairs = Pairs(list(pictures))
    expected = [0, 1, 2, 0, 1, 2, 0]
    assert labels_of(pairs).tolist() == expected
    assert labels_of(DataLoader(pairs)).tolist() == expected
    assert labels_of(Subset(pairs, [2, 1])).tolist() == [2, 1]
    assert labels_of(TensorDataset(torch.zeros(2), torch.tensor([4, 5]))).tolist() == [4, 5]
    pairs.targets = [9] * 7
    assert labels_of(pairs).tolist() == [9] * 7
    assert labels_of(folder).tolist() == ["class 0"] * 4 + ["class 1"] * 3
    with pytest.raises(ValueError, match="brings no labels"):
        labels_of(pictures)


def test_labels_become_codes_of_sorted_classes():
    classes, codes = encode_labels(["b", "a", "b"], None, 3)
    assert classes.tolist() == ["a", "b"] and codes.tolist() == [1, 0, 1]
    assert known_codes(["b"], classes, 1).tolist() == [1]
    classes, codes = encode_labels([3, 1], 5, 2)
    assert classes.tolist() == list(range(5)) and codes.tolist() == [3, 1]


def test_rows_of_a_tensor_in_succession_are_copied(pictures):
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = COLOUR.rows(images.clone().requires_grad_())
    for part, expected in (
        (rows, images),
        (rows[1:4], images[1:4]),
        (rows[[3, 1]], images[[3, 1]]),
    ):
        found = part.tensor()
        torch.testing.assert_close(found, expected)
        found.zero_()  # what a network does in place
    torch.testing.assert_close(rows.tensor(), images)
    images[2, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="Image 2 holds NaN"):
        COLOUR.rows(images)
