"""What a network cannot use is refused before any work: received, expected, what to do."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skquee import PathTree
from skquee.networks import (
    BasePTQ,
    HeadTrainer,
    MultiExitNetwork,
    PTQ4ViT,
    UniformPTQ,
    _head_trainer,
    train_backbone,
)
from skquee.networks.engines import LatencyTable

NAMED = {
    "img_size": 8,
    "in_chans": 1,
    "backbone_kwargs": {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2},
}


@pytest.fixture
def idle(monkeypatch):
    """No features are cached, so that nothing is trained."""
    monkeypatch.setattr(_head_trainer, "cache_features", None)


@pytest.fixture
def own(network):
    return copy.copy(network)


def raises(call, message, error=ValueError):
    with pytest.raises(error, match=message):
        call()


def refused(calls):
    names = [f"{place}-{message[:30]}" for place, (_, message) in enumerate(calls)]
    return pytest.mark.parametrize(("call", "message"), calls, ids=names)


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exits": (1.5, 3)}, "exits must hold numbers of layers, from 1, got 1.5"),
        ({"exits": (True, 3)}, "exits must hold numbers of layers, from 1, got True"),
        ({"exits": ("a", 3)}, "exits must hold numbers of layers, from 1, got 'a'"),
        ({"exits": "13"}, r"exits must be a sequence of layers, \(2, 4\), got '13'"),
        ({"exits": 3}, "exits must be a sequence of layers"),
        ({"blocks": "norm"}, "blocks must be a sequence of names"),
        ({"blocks": (3,)}, "blocks must hold names of submodules, got 3"),
        ({"exits": (None,), "blocks": ("norm",)}, "or names, got None"),
        ({"trainer__heads": 3}, "heads must be 'linear' or a callable, got 3"),
        ({"trainer__final_head": ["keep"]}, r"final_head must be one of .*, got \['keep'\]"),
        (
            {"trainer__amp_dtype": [1]},
            r"amp_dtype must be one of .* or None for float32, got \[1\]",
        ),
        ({"n_classes": "a"}, "n_classes must be an integer >= 2 and <= 1000000, got 'a'"),
        ({"n_classes": 10**9}, "n_classes must be an integer >= 2"),
        ({"n_classes": 10.0}, "n_classes must be an integer >= 2"),
        ({"img_size": 0}, "img_size, in pixels, must be an integer >= 1 and <= 8192, got 0"),
        ({"img_size": 10**7}, "img_size, in pixels, must be an integer >= 1 and <= 8192"),
        ({"img_size": "a"}, "img_size, in pixels, must be an integer"),
        ({"img_size": (8,)}, r"img_size must be pixels, or \(height, width\), got \(8,\)"),
        ({"img_size": 16}, r"img_size=16, but this VisionTransformer was built for .*\(8, 8\)"),
        ({"in_chans": 0}, "in_chans must be an integer >= 1, got 0"),
        ({"weights": 3}, "weights must be a path"),
        ({"weights": "pretrained"}, "weights='pretrained' is for a backbone that timm builds by"),
        ({"trainer": 3}, "trainer must be a HeadTrainer, .* got 3"),
        ({"backbone_kwargs": {"depth": 3}}, "backbone_kwargs is for a backbone that timm builds"),
        ({"backbone_kwargs": [1]}, r"backbone_kwargs must be a dict of timm's arguments"),
        ({"trainer__batch_size": "a"}, "batch_size must be an integer >= 1, got 'a'"),
        ({"trainer__batch_size": 2.5}, "batch_size must be an integer >= 1, got 2.5"),
        ({"trainer__max_epochs": 1.5}, "max_epochs must be an integer >= 0, got 1.5"),
        ({"trainer__patience": None}, "patience must be an integer >= 1, got None"),
        ({"trainer__n_views": 1.5}, "n_views must be an integer >= 1, got 1.5"),
        ({"trainer__learning_rate": np.nan}, "learning_rate must be a finite number > 0, got nan"),
        ({"trainer__learning_rate": -1}, "learning_rate must be a finite number > 0, got -1"),
        ({"trainer__learning_rate": "a"}, "learning_rate must be a finite number > 0, got 'a'"),
        ({"trainer__weight_decay": -1}, "weight_decay must be a finite number >= 0, got -1"),
        ({"random_state": "a"}, "random_state must be None, an integer"),
        ({"random_state": -1}, "random_state must be None, an integer"),
        ({"device": 3.5}, "device=3.5 cannot be used here, give 'cpu'"),
        ({"device": "x"}, "device='x' cannot be used here, give 'cpu'"),
        (
            {"trainer__augmentation": 3, "trainer__n_views": 2},
            "augmentation must be a callable, .* got 3",
        ),
        ({"data_config": [1]}, "data_config must be a dict with any of"),
        ({"data_config": {"mean": (0.1, 0.2, 0.3)}}, r"\['mean'\] must have shape \(1,\), one a"),
        ({"data_config": {"mean": ("a",)}}, r"data_config\['mean'\] must hold finite numbers"),
        ({"data_config": {"mean": (np.nan,)}}, r"\['mean'\] must hold .* but entry 0 is nan"),
        ({"data_config": {"std": (0,)}}, r"\['std'\] must hold finite numbers > 0"),
        ({"data_config": {"std": 0.5}}, r"\['std'\] must have shape \(1,\)"),
        ({"data_config": {"crop_pct": 0}}, r"\['crop_pct'\] must be a finite number > 0 and <= 1"),
        ({"data_config": {"interpolation": 3}}, r"\['interpolation'\] must be one of \['nearest'"),
    ],
)
def test_parameters_are_checked_when_fit_starts(options, message, idle, digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(1, 3)).set_params(**options)
    kinds = (ValueError, TypeError)
    raises(lambda: network.fit(X[:40], y[:40]), message, kinds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "nope"}, "must be the name of a model that the installed timm .* got 'nope'"),
        ({"backbone": "vit_tiny"}, r"list_models\(\) names them \(such as vit_tiny"),
        ({"backbone": ""}, "or a torch module, got ''"),
        ({"backbone": "some-hub:a/b"}, "asks the network .* say weights='pretrained'"),
        (
            {"backbone_kwargs": {"evil": 1}},
            "timm cannot build 'vit_tiny_.*evil=1.* Change img_size",
        ),
        (
            {"backbone_kwargs": {**NAMED["backbone_kwargs"], "num_heads": 3}},
            "timm cannot build .*divisible",
        ),
        (
            {"backbone_kwargs": {"pretrained": True}},
            "give the parameters backbone= and weights=",
        ),
        ({"img_size": 3}, r"does not run on an image of shape \(1, 3, 3\), .* Give img_size="),
    ],
)
def test_a_backbone_that_timm_cannot_build_is_explained(options, message, idle):
    network = MultiExitNetwork("vit_tiny_patch16_224", exits=(1, 2), **NAMED)
    pixels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    raises(lambda: network.set_params(**options).fit(pixels, [0, 1, 0, 1]), message)


def test_a_backbone_that_is_no_transformer_and_takes_no_size_is_one_message(idle):
    network = MultiExitNetwork("resnet10t", exits=(1,), img_size=32)
    raises(lambda: network.fit(np.zeros((4, 8, 8, 3)), [0, 1, 0, 1]), "say after which .*blocks=")


def test_a_mean_alone_is_taken(digits, make_backbone):
    X, y = digits
    config = {"mean": (0.25,), "std": None}
    network = MultiExitNetwork(
        make_backbone(), exits=(3,), data_config=config, trainer=HeadTrainer(max_epochs=0)
    )
    found = network.fit(X[:20], y[:20]).start(X[:2])
    np.testing.assert_allclose(found[:, 0].numpy(), (X[:2] - 0.25) / 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("batch_size", 1.5, ValueError),
        ("learning_rate", "a", ValueError),
        ("weight_decay", np.nan, ValueError),
        ("random_state", "a", ValueError),
        ("backbone", nn.Linear(2, 2), TypeError),
    ],
)
def test_training_a_backbone_checks_its_options(option, value, error, digits, make_backbone):
    X, y = digits
    given = {"backbone": make_backbone(), "X": X[:20], "y": y[:20], option: value}
    raises(lambda: train_backbone(**given), f"{option} must be", error)


# ---------------------------------------------------------------------- heads and views


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            lambda n, k: nn.Linear(n, 3),
            r"\(n, 16\) to logits \(n, 10\), but two rows gave \(2, 3\)",
        ),
        (lambda n, k: nn.Linear(n, 20), r"two rows gave \(2, 20\)"),
        (lambda n, k: nn.Linear(n + 1, k), r"Linear\(in_features=17.* does not run on them"),
        (lambda n, k: None, r"heads\(16, 10\) must return a torch module, .* got None"),
        (lambda n: nn.Linear(n, 3), r"callable of \(n_features, n_classes\)"),
        (lambda n, k: nn.AdaptiveAvgPool1d(k), "Head 1 has no weights to train"),
        (
            lambda n, k: nn.Linear(n, k).requires_grad_(False),
            "no weights to train.* or max_epochs=0",
        ),
    ],
)
def test_heads_that_do_not_fit_are_named(heads, message, idle, digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(1, 3), trainer=HeadTrainer(heads=heads))
    raises(lambda: network.fit(X[:40], y[:40]), message)


def test_heads_are_looked_at_and_validated_without_being_changed(digits, make_backbone):
    X, y = digits

    def heads(n, k):
        return nn.Sequential(nn.BatchNorm1d(n), nn.Dropout(), nn.Linear(n, k))

    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(heads=heads, max_epochs=0)
    )
    assert network.fit(X[:40], y[:40]).exit_heads[0][0].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (lambda image: image[:, :1], r"\(1, 8, 8\) of .*got \(1, 1, 8\)"),
        (lambda image: image[None], r"got \(1, 1, 8, 8\)"),
        (lambda image: image.int(), "of torch.int32"),
        (lambda image: image * np.nan, "with NaN"),
        (lambda image: None, "got NoneType"),
    ],
)
def test_an_augmentation_is_tried_before_images_are_run(
    augmentation, message, idle, digits, make_backbone
):
    X, y = digits
    options = {"augmentation": augmentation, "n_views": 2}
    network = MultiExitNetwork(make_backbone(), exits=(1, 3), trainer=HeadTrainer(**options))
    raises(lambda: network.fit(X[:40], y[:40]), f"augmentation must return an image.*{message}")


def test_an_augmentation_that_goes_astray_later_is_found(digits, make_backbone):
    X, y = digits
    calls = []

    def augmentation(image):
        calls.append(tuple(image.shape))
        return image if len(calls) < 30 else image[:, :1]

    options = {"augmentation": augmentation, "n_views": 2, "batch_size": 10, "max_epochs": 0}
    network = MultiExitNetwork(make_backbone(), exits=(3,), trainer=HeadTrainer(**options))
    raises(lambda: network.fit(X[:40], y[:40]), "augmentation must return an image")
    assert calls == [(1, 8, 8)] * 30


def test_an_augmentation_without_views_is_warned_of(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), (3,), trainer=HeadTrainer(augmentation=torch.flip, max_epochs=0)
    )
    with pytest.warns(UserWarning, match="nothing is augmented. Give n_views=2") as heard:
        network.fit(X[:20], y[:20])
    assert heard[0].filename == __file__


# ---------------------------------------------------------------------- images and labels


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda X: X * 255, "from 0 to 1, but image 0 has pixels from 0 to .* Divide 0 to 255"),
        (lambda X: X * 2 - 1, "normalised already go in as a tensor"),
        (lambda X: X - np.array([0, 0, 0.9])[:, None, None], "image 2 has pixels from -0.9"),
        (lambda X: [[1], [1, 2]], "of one size to be an array, got a list"),
        (lambda X: None, r"must be numbers, got an array of dtype object and shape \(\)"),
    ],
)
def test_images_on_another_scale_are_refused(images, message, network, digits):
    given = images(digits[0][:3])
    for use in (network.rows, network.start):
        raises(lambda use=use: use(given), message)


def test_filters_may_overshoot_and_tensors_are_taken_as_they_are(network, digits):
    X = digits[0][:3]
    assert len(network.rows(X * 1.3 - 0.1)) == 3
    assert torch.equal(network.start(torch.full((2, 1, 8, 8), 9.0)), torch.full((2, 1, 8, 8), 9.0))
    assert len(network.rows(X[:0])) == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: np.where(y == 3, np.nan, y), "y must hold a label for each row, but row 3"),
        (lambda y: [None] * len(y), "y must hold a label for each row, but row 0 has None"),
        (lambda y: y + 0.5, "continuous"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message, idle, digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(3,))
    raises(lambda: network.fit(X, labels(y)), message)


def test_validation_data_that_is_none_is_named(idle, digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(3,))
    raises(
        lambda: network.fit(X, y, validation_data=3),
        r"validation_data, which is no tuple \(X, y\), \(int\) brings no labels",
    )
    labels = [np.nan, *y[1:]]
    message = "y of validation_data must hold a label for each row, but row 0 has nan"
    raises(lambda: network.fit(X, y, validation_data=(X, labels)), message)


# ---------------------------------------------------------------------- levels, paths, blocks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "48"}, r"levels must be a sequence of bit widths, \(4, 8\), got '48'"),
        ({"levels": 8}, "levels must be a sequence of bit widths"),
        ({"levels": ("a",)}, "bit width of levels must be an integer >= 2 and <= 32, got 'a'"),
        ({"method": "uniform"}, r"method must be a quantiser, PTQ4ViT\(\), .* got 'uniform'"),
        ({"method": UniformPTQ}, "method must be a quantiser"),
        ({"method": UniformPTQ(1)}, "per_channel must be True or False, got 1"),
        ({"method": UniformPTQ(batch_size=0)}, "batch_size must be an integer >= 1, got 0"),
        ({"method": PTQ4ViT(rounds=0)}, "rounds must be an integer >= 1, got 0"),
        ({"method": PTQ4ViT(rounds="a")}, "rounds must be an integer >= 1, got 'a'"),
        ({"method": PTQ4ViT(n_candidates=0)}, "n_candidates must be an integer >= 1"),
        ({"method": BasePTQ(stride=0)}, "stride must be an integer >= 1"),
        ({"method": BasePTQ(max_rows=0)}, "max_rows must be an integer >= 1"),
        ({"method": PTQ4ViT(random_state="a")}, "random_state must be an integer >= 0"),
        ({"cache_weights": "a"}, "cache_weights must be True or False, got 'a'"),
        ({"monotony": True}, r"must be one of \['monotone', 'first', .* got 'monotony'"),
        ({"calibration": None}, "must be numbers, got an array of dtype object"),
    ],
)
def test_quantising_checks_its_options_and_keeps_the_levels(options, message, own, digits):
    given = {"levels": (4, 8), "calibration": digits[0][:8], **options}
    raises(lambda: own.quantize(**given), message)
    assert own.levels_ == (4, 8, 16)


def test_a_cache_that_cannot_be_a_folder_is_refused_before_the_search(own, digits, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        raises(
            lambda place=place: own.quantize(calibration=digits[0][:8], cache=place),
            "cache=.* must be a folder, but .* is a file",
            NotADirectoryError,
        )
    raises(
        lambda: own.quantize(calibration=digits[0][:8], cache=3.5),
        "cache must be a path, a text or a pathlib.Path, got 3.5",
        TypeError,
    )


def state(network, X):
    return network.run_block(network.start(X), 0, 8)


@refused(
    [
        (lambda n, X, y: n.select_levels(X, y, max_drop="a"), "max_drop must be a finite number"),
        (lambda n, X, y: n.select_levels(X, y, max_drop=np.nan), "max_drop must be a finite"),
        (lambda n, X, y: n.select_levels(X, y, max_top_drop=-1), "max_top_drop must be a finite"),
        (lambda n, X, y: n.select_levels(X[:0], y[:0]), "X holds no image to measure"),
        (lambda n, X, y: n.evaluate(X[:0], y[:0]), "X holds no image to measure accuracy on"),
        (lambda n, X, y: n.run_block(n.start(X), 9, 8), "block must be an integer >= 0 and <= 2"),
        (lambda n, X, y: n.run_block(n.start(X), -1, 8), "block must be an integer >= 0"),
        (lambda n, X, y: n.run_block(n.start(X), 0, [8]), r"There is no level \[8\]; quantize"),
        (
            lambda n, X, y: n.run_block(n.start(X), 1, 8),
            r"Block 1 takes what run_block\(state, 0, level\) returned; at level 8 it does not run",
        ),
        (lambda n, X, y: n.head(state(n, X), 9, 8), "block must be an integer >= 0 and <= 2"),
        (
            lambda n, X, y: n.head(n.start(X), 0, 8),
            r"exit after block 0 takes what run_block\(state, 0, level\) returned; .*\(4, 1, 8",
        ),
        (lambda n, X, y: n.features(X, (8,) * 4), "levels must be 1 to 3, one for each block"),
        (lambda n, X, y: n.features(X, ()), "levels must be 1 to 3"),
        (lambda n, X, y: n.features(X, "88"), "levels must be a sequence of levels, one a block"),
        (lambda n, X, y: n.features(X, (5,)), "There is no level 5"),
        (lambda n, X, y: n.features(X, (8,), batch_size=0), "batch_size must be an integer >= 1"),
        (lambda n, X, y: n.path_costs(3), "kind must be one of .*, got 3"),
        (lambda n, X, y: n.path_costs(hidden_size="a"), "hidden_size must be an integer >= 1"),
        (
            lambda n, X, y: n.with_paths(n.paths_, heads=nn.ModuleList([nn.Linear(3, 3)] * 3)),
            r"A head must map features \(n, 16\) to logits \(n, 10\)",
        ),
        (lambda n, X, y: n.compile(batch_size=0), "batch_size must be an integer >= 1"),
        (lambda n, X, y: n.compile(3), "levels must be a sequence of engines"),
        (lambda n, X, y: n.compile(([1],)), "levels must be distinct, of"),
        (lambda n, X, y: n.compile(("fp32",), monotony=1), "option must be one of .* 'monotony'"),
        (lambda n, X, y: n.compile(("fp32",), runtime=["x"]), r"runtime must be one of .* \['x'\]"),
        (lambda n, X, y: n.measure_costs(("a",)), "Each of batch_sizes must be an integer >= 1"),
        (lambda n, X, y: n.measure_costs(3), "batch_sizes must be a sequence of numbers of rows"),
        (lambda n, X, y: n.measure_costs((1,), threads="a"), "threads must be an integer >= 1"),
    ]
)
def test_what_is_asked_of_a_fitted_network(call, message, own, digits):
    raises(lambda: call(own, digits[0][:4], digits[1][:4]), message)


@refused(
    [
        (lambda n, X: n.run_block(X, 0, 8), "Block 0 takes what start returned, a tensor"),
        (lambda n, X: n.head(X, 0, 8), "The exit after block 0 takes what run_block"),
        (lambda n, X: n.with_paths(3), "paths must be a PathTree, got a int"),
        (lambda n, X: n.with_paths(n.paths_, heads=3), "heads must be a ModuleList, got a int"),
        (lambda n, X: n.save(3.5), "folder must be a path"),
        (lambda n, X: MultiExitNetwork.load(3.5), "folder must be a path"),
        (lambda n, X: MultiExitNetwork.load(".", heads=3), "heads must be the callable that made"),
        (lambda n, X: MultiExitNetwork.load(".", backbone=3), "backbone must be a torch module"),
    ]
)
def test_what_is_of_another_kind(call, message, own, digits):
    raises(lambda: call(own, digits[0][:4]), message, TypeError)


def test_a_network_is_not_written_where_something_else_is(own, tmp_path):
    (tmp_path / "file").touch()
    raises(lambda: own.save(tmp_path / "file"), "must be a folder", NotADirectoryError)
    raises(lambda: own.save(tmp_path), "something else than a saved network")


def test_a_device_that_is_not_there_is_said_before_files_are_read(tmp_path):
    message = "device='nowhere' cannot be used here"
    raises(lambda: MultiExitNetwork.load(tmp_path, device="nowhere"), message)


def test_times_of_simulated_bit_widths_are_warned_of(own, digits):
    own = own.with_paths(PathTree.from_paths([(8,)], [1]))
    own.parts_ = replace(own.parts_, levels={8: own.parts_.levels[8]})
    with pytest.warns(UserWarning, match=r"bit widths \[8\] are simulated in float.*compile\(\)"):
        own.measure_costs((1,))


# ---------------------------------------------------------------------- times


def table():
    return LatencyTable(
        ("int8", "fp32"), (1, 10), np.ones((2, 2, 2)), np.zeros(2), threads=1, machine="m"
    )


@refused(
    [
        (lambda t: t.milliseconds(9, "int8", 1), "block must be an integer >= 0 and <= 1, got 9"),
        (lambda t: t.milliseconds(-1, "int8", 1), "block must be an integer >= 0"),
        (lambda t: t.milliseconds(0, ["int8"], 1), "level must be one of"),
        (lambda t: t.milliseconds(0, "int8", -5), "n_rows must hold finite numbers >= 0, but it"),
        (lambda t: t.milliseconds(0, "int8", [1, -5]), "n_rows must hold .* but entry 1 is -5"),
        (lambda t: t.milliseconds(0, "int8", np.nan), "n_rows must hold finite numbers >= 0"),
        (lambda t: t.milliseconds(0, "int8", "a"), "n_rows must hold finite numbers >= 0"),
        (lambda t: t.step_costs("a"), "batch_size must be an integer >= 1, got 'a'"),
        (lambda t: t.predict({"block 9 at int8": 3}), "block must be an integer >= 0"),
        (lambda t: t.predict({"block 1 at int8": -3}), "n_rows must hold finite numbers >= 0"),
        (lambda t: t.predict({3: 3}), "counts must be keyed like"),
        (lambda t: t.calibrated([], []), "counts must be routes.counts of some batches, got none"),
        (lambda t: t.calibrated([{}], "a"), "milliseconds must hold finite numbers > 0"),
        (lambda t: t.calibrated([{}], [np.nan]), "milliseconds must hold .* entry 0 is nan"),
    ]
)
def test_a_latency_table_is_asked_for_what_it_has(call, message):
    raises(lambda: call(table()), message)


def test_counts_are_a_mapping():
    raises(lambda: table().predict(3), "counts must be a mapping, routes.counts", TypeError)


def test_the_largest_picture_is_the_commands_too():
    from skquee.cli import _arguments
    from skquee.networks import _parameters

    assert _arguments.MOST_PIXELS == _parameters.MOST_PIXELS
