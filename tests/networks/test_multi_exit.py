from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork


def run_path(network, X, levels):
    state = network.start(X)
    for block, level in enumerate(levels):
        state = network.run_block(state, block, level)
    return network.head(state, len(levels) - 1, levels[-1])


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"global_pool": "avg"},
        {"global_pool": "map"},
        {"reg_tokens": 2, "no_embed_class": True},
        {"pre_norm": True, "init_values": 0.1, "qk_norm": True},
        {"dynamic_img_size": True, "final_norm": False},
    ],
    ids=lambda kwargs: "-".join(kwargs) or "plain",
)
def test_the_float_network_and_its_sixteen_bit_form_answer_as_the_backbone(
    kwargs, digits, make_backbone
):
    X, y = digits
    backbone = make_backbone(**kwargs)
    network = MultiExitNetwork(
        backbone, exits=(1, 3), trainer=HeadTrainer(max_epochs=0), random_state=0
    ).fit(X, y)
    with torch.no_grad():
        expected = backbone(network.start(X[:50])).softmax(dim=1).numpy()
    np.testing.assert_allclose(run_path(network, X[:50], (32, 32)), expected, atol=1e-6)
    network.quantize(levels=(2, 16), calibration=X[:50])
    np.testing.assert_allclose(run_path(network, X[:50], (16, 16)), expected, atol=1e-3)
    assert np.abs(run_path(network, X[:50], (2, 2)) - expected).max() > 1e-3


def test_paths_that_share_a_prefix_share_its_state(network, digits):
    X = digits[0][:40]
    shared = network.run_block(network.start(X), 0, 8)
    for second in (4, 8):
        state = network.run_block(shared, 1, second)
        np.testing.assert_array_equal(
            network.head(state, 1, second), run_path(network, X, (8, second))
        )
    np.testing.assert_array_equal(network.head(shared, 0, 8), run_path(network, X, (8,)))


def test_a_bank_gives_the_probabilities_of_every_path(network, digits):
    X, y = digits[0][:30], digits[1][:30]
    table = MultiPathClassifierBank(network, batch_size=7).fit(X, y).materialize(X)
    tree = network.paths_
    assert table.shape == (30, tree.n_paths, 10)
    for path in range(tree.n_paths):
        expected = run_path(network, X, tree.steps(path))
        np.testing.assert_allclose(table.path(path), expected, atol=1e-5)


def test_an_answer_at_eight_bits_does_not_depend_on_the_batch(network, digits):
    X = digits[0][:32]
    together = run_path(network, X, (8, 8, 4))
    alone = np.concatenate([run_path(network, X[i : i + 1], (8, 8, 4)) for i in range(32)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_taken_and_joined_rows_run_as_the_whole(network, digits):
    state = network.run_block(network.start(digits[0][:20]), 0, 8)
    whole = network.head(network.run_block(state, 1, 8), 1, 8)
    rows = np.array([3, 17, 3, 0])
    part = network.run_block(network.take(state, rows), 1, 8)
    np.testing.assert_allclose(network.head(part, 1, 8), whole[rows], atol=1e-6)
    halves = [network.take(state, np.arange(12)), network.take(state, np.arange(12, 20))]
    joined = network.run_block(network.concat(halves), 1, 8)
    np.testing.assert_array_equal(network.head(joined, 1, 8), whole)


def test_heads_learn_while_the_backbone_and_the_global_generator_stay(digits, make_backbone):
    X, y = digits
    backbone = make_backbone(num_classes=0)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    network = MultiExitNetwork(backbone, exits=(2, 3), random_state=0).fit(X, y)
    assert (network.validation_accuracy_ > 0.5).all()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_a_seed_makes_a_named_backbone_and_its_heads_the_same(digits):
    X, y = digits
    grey = np.repeat((X[:60, :, :, None] * 255).astype(np.uint8), 3, axis=3)

    def fit(seed):
        network = MultiExitNetwork(
            "vit_tiny_patch16_224",
            exits=(1, 2),
            img_size=8,
            backbone_kwargs={"patch_size": 4, "depth": 2, "embed_dim": 12},
            trainer=HeadTrainer(max_epochs=2),
            random_state=seed,
        )
        return run_path(network.fit(grey, y[:60]), grey[:5], (32, 32))

    np.testing.assert_array_equal(fit(1), fit(1))
    assert not np.array_equal(fit(1), fit(2))


def test_training_keeps_the_best_weights_of_each_head_its_first_included(digits, make_backbone):
    X, y = digits
    trained = MultiExitNetwork(make_backbone(), exits=(1, 3), random_state=0).fit(
        X[:200], y[:200], validation_data=(X[300:], y[300:])
    )
    # One more fit that starts from the best final head must not end below it.
    start = make_backbone()
    final = trained.exit_heads[-1].state_dict()
    start.head.load_state_dict(final)
    again = MultiExitNetwork(
        start, exits=(1, 3), trainer=HeadTrainer(max_epochs=3, learning_rate=10.0), random_state=0
    )
    again.fit(X[:200], y[:200], validation_data=(X[300:], y[300:]))
    assert again.validation_accuracy_[-1] >= trained.validation_accuracy_[-1]
    answers = again.classes_[run_path(again, X[300:], (32, 32)).argmax(axis=1)]
    assert (answers == y[300:]).mean() == pytest.approx(again.validation_accuracy_[-1])


def test_images_of_every_kind_give_the_same_answer(digits, make_backbone):
    X, y = digits
    codes = (X * 255).round().astype(np.uint8)
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=1), random_state=0
    )
    network.fit(codes, y)
    expected = network.start(codes)
    kinds = [
        codes[..., None],
        codes.astype(np.float64) / 255,
        codes.tolist() and (codes / 255).tolist(),
        torch.from_numpy(codes)[:, None],
        (torch.from_numpy(codes)[:, None] / 255 - 0.5) / 0.5,
    ]
    for images in kinds:
        torch.testing.assert_close(network.start(images), expected)


def test_labels_may_be_words_or_lack_a_class(digits, make_backbone):
    X, y = digits
    words = np.array([f"digit {label}" for label in y])
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 3), trainer=HeadTrainer(max_epochs=1)
    ).fit(X, words)
    assert network.classes_.tolist() == sorted(set(words))
    assert network.paths_.classes == tuple(network.classes_)
    few = y < 4
    network = MultiExitNetwork(
        make_backbone(), exits=(3,), n_classes=10, trainer=HeadTrainer(max_epochs=1)
    )
    network.fit(X[few], y[few])
    assert network.classes_.tolist() == list(range(10))


def test_a_pickle_answers_the_same(network, digits):
    check_is_fitted(network)
    loaded = pickle.loads(pickle.dumps(network))
    X = digits[0][:10]
    np.testing.assert_array_equal(run_path(loaded, X, (8, 4)), run_path(network, X, (8, 4)))


def test_summary_has_a_row_for_each_path(network, make_backbone):
    summary = network.summary()
    tree = network.paths_
    assert tuple(summary.index) == tree.names
    np.testing.assert_allclose(summary["bitops"] / summary["bitops"].max(), tree.path_costs)
    assert summary.loc["16-16-8", "exit"] == 3
    head, whole = 16 * 10 + 10, sum(p.numel() for p in make_backbone().parameters())
    final_norm = 2 * 16
    assert summary.loc["16-16-8", "parameters"] == whole - final_norm
    assert summary.loc["16", "parameters"] < whole - final_norm - head
    assert "levels=(4, 8, 16)" in repr(network)


@pytest.mark.parametrize("exits", [(2, 1, 3), (2, 2, 3), (1, 4), (0, 3), (1, 2), ()])
def test_exits_that_do_not_fit_the_backbone_are_refused(exits, digits, make_backbone):
    with pytest.raises(ValueError, match="exits must be increasing .* last layer, 3"):
        MultiExitNetwork(make_backbone(), exits=exits).fit(*digits)


@pytest.mark.parametrize("levels", [(1, 4), (8, 33), (4, 4), (), (4.5, 8)])
def test_levels_that_are_no_bit_widths_are_refused(levels, network, digits):
    with pytest.raises(ValueError, match="levels must be"):
        network.quantize(levels=levels, calibration=digits[0][:8])
    assert network.levels_ == (4, 8, 16)


def test_images_that_do_not_fit_are_refused(network, digits):
    X, y = digits
    with pytest.raises(ValueError, match=r"shape \(2, 1, 9, 9\).*takes \(n, 1, 8, 8\)"):
        network.quantize(levels=(4,), calibration=torch.zeros(2, 1, 9, 9))
    with pytest.raises(ValueError, match=r"shape \(2, 9, 9, 3\).*takes \(n, 8, 8, 1\)"):
        network.quantize(levels=(4,), calibration=np.zeros((2, 9, 9, 3)))
    with pytest.raises(ValueError, match="calibration images are the same"):
        network.quantize(levels=(4,), calibration=np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match=r"takes \(n, 1, 8, 8\)"):
        network.start(torch.zeros(2, 8, 8, 1))
    with pytest.raises(ValueError, match="holds no image"):
        network.quantize(levels=(4,), calibration=X[:0])
    with pytest.raises(ValueError, match="Image 1 holds NaN"):
        network.start(np.where(np.arange(3)[:, None, None] == 1, np.nan, X[:3]))
    with pytest.raises(ValueError, match="scale of the values is not known"):
        network.start((X[:3] * 16).astype(int))


def test_labels_that_do_not_fit_are_refused(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(make_backbone(), exits=(3,), n_classes=4)
    with pytest.raises(ValueError, match="10 classes .* n_classes=4"):
        network.fit(X, y)
    with pytest.raises(ValueError, match="400 images"):
        network.fit(X, y[:7])
    network = MultiExitNetwork(make_backbone(), exits=(3,))
    with pytest.raises(ValueError, match=r"hold \[11\], unknown"):
        network.fit(X, y, validation_data=(X[:1], [11]))
    with pytest.raises(ValueError, match="at least 2 classes"):
        network.fit(X, np.zeros(400))


def test_backbones_of_another_kind_are_refused(digits):
    with pytest.raises(ValueError, match=r"ResNet is not .* blocks=.* It has \['conv1', 'bn1'"):
        MultiExitNetwork("resnet10t", exits=(1,)).fit(*digits)
    with pytest.raises(TypeError, match="name of a timm model or a torch module, got 3"):
        MultiExitNetwork(3, exits=(1,)).fit(*digits)


def test_unfitted_use_and_unknown_levels_are_refused(network, digits, make_backbone):
    X = digits[0][:2]
    unfitted = MultiExitNetwork(make_backbone(), exits=(3,))
    for use in (
        lambda: unfitted.start(X),
        lambda: unfitted.quantize(calibration=X),
        unfitted.summary,
        lambda: check_is_fitted(unfitted),
    ):
        with pytest.raises(NotFittedError):
            use()
    with pytest.raises(ValueError, match=r"no level 5; .*\(4, 8, 16\)"):
        network.run_block(network.start(X), 0, 5)
