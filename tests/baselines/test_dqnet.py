"""The DQNet gate: its loss and draws against literal versions, then the estimator."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.nn import functional as F

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.baselines import DQNetGate
from skquee.baselines._dqnet_training import (
    bit_loss,
    feature_map,
    sample_paths,
    train_controller,
)
from skquee.evaluation import compare
from skquee.networks import MultiExitNetwork
from skquee.persistence import dump, load
from skquee.testing import make_path_probabilities, router_checks

OPTIONS: dict[str, Any] = {
    "hidden_size": 16,
    "dropout": 0.0,
    "temperature": 1.0,
    "max_epochs": 60,
    "batch_size": 64,
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "seed": 0,
}


@pytest.mark.parametrize(
    "check",
    [check for check in router_checks() if check.__name__ != "check_curve_equals_predict"],
    ids=lambda check: check.__name__,
)
def test_it_passes_the_checks_of_routers(check: Any) -> None:
    check(DQNetGate(target_bits=5, max_epochs=2, random_state=0))


# ---------------------------------------------------------------------- formulas


def test_with_every_combination_each_block_draws_its_level_as_gumbel_softmax_does() -> None:
    n_blocks, n_levels, n = 2, 3, 50
    combinations = list(product(range(n_levels), repeat=n_blocks))
    marks = torch.zeros(len(combinations), n_blocks, n_levels)
    for choice, combination in enumerate(combinations):
        for block, level in enumerate(combination):
            marks[choice, block, level] = 1
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(n, n_blocks * n_levels, generator=generator, requires_grad=True)
    torch.manual_seed(1)
    noise = -torch.empty(n, n_blocks, n_levels).exponential_().log()
    choice = sample_paths(scores, marks.flatten(1), noise.flatten(1), 0.7)
    drawn = (choice @ marks.flatten(1)).unflatten(1, (n_blocks, n_levels))
    torch.manual_seed(1)  # torch's own function draws the same noise
    expected = F.gumbel_softmax(scores.unflatten(1, (n_blocks, n_levels)), tau=0.7, hard=True)
    torch.testing.assert_close(drawn, expected)
    # The same gradient too, where the loss adds up over blocks.
    weights = torch.rand(n, n_blocks, n_levels, generator=generator)
    (ours,) = torch.autograd.grad((drawn * weights).sum(), scores, retain_graph=True)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), scores)
    torch.testing.assert_close(ours, theirs)


def test_the_bit_loss_counts_mean_bits_above_the_target_only() -> None:
    choice = torch.eye(3)[[0, 0, 2, 1]]
    bits = torch.tensor([8.0, 6.0, 4.0])
    assert bit_loss(choice, bits, 6.0).item() == pytest.approx((8 + 8 + 4 + 6) / 4 - 6)
    assert bit_loss(choice, bits, 7.0).item() == 0


def test_a_feature_map_keeps_extra_tokens_and_averages_the_grid() -> None:
    state = torch.arange(2 * 17 * 3, dtype=torch.float32).reshape(2, 17, 3)
    found = feature_map(state, 2)
    assert found.shape == (2, 3 + 4 * 3)
    torch.testing.assert_close(found[:, :3], state[:, 0])
    corner = state[:, [1, 2, 5, 6]].mean(dim=1)
    torch.testing.assert_close(found[:, 3::4], corner)
    assert feature_map(state, 9).shape == (2, 17 * 3)
    picture = torch.rand(2, 5, 8, 8)
    torch.testing.assert_close(
        feature_map(picture, 4).reshape(2, 5, 4, 4)[:, :, 0, 0], picture[:, :, :2, :2].mean((2, 3))
    )
    assert feature_map(torch.zeros(2, 7), 4).shape == (2, 7)


def controller_choice(target_bits: float, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Train on rows whose first feature says which of two paths is right."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 4)).astype(np.float32) * [1, 5, 1, 1] + [0, 7, 0, 0]
    hard = features[:, 0] > 0
    losses = np.where(hard[:, None], [0.1, 2.0], [0.1, 0.1]).astype(np.float32)
    weight, bias = train_controller(
        torch.from_numpy(features.astype(np.float32)),
        torch.from_numpy(losses),
        torch.eye(2),
        torch.tensor([8.0, 4.0]),
        target_bits=target_bits,
        alpha=alpha,
        **OPTIONS,
    )
    return (features @ weight.T + bias).argmax(axis=1), hard


def test_a_controller_spends_bits_where_they_pay() -> None:
    chosen, hard = controller_choice(target_bits=4, alpha=0.1)
    assert np.mean((chosen == 0) == hard) > 0.9, "8 bits for hard rows only"
    chosen, _ = controller_choice(target_bits=4, alpha=50.0)
    assert (chosen == 1).all(), "bits are too dear"
    chosen, hard = controller_choice(target_bits=8, alpha=50.0)
    assert (chosen[hard] == 0).mean() > 0.9, "below the target bits are free"


# ---------------------------------------------------------------------- with a network

SETTINGS = [(4.0, 0.0), (3.0, 10.0), (8.0, 0.1)]


@pytest.fixture(scope="module")
def fitted(network: MultiExitNetwork, train: Any) -> DQNetGate:
    options = {"max_epochs": 20, "batch_size": 32, "learning_rate": 1e-2, "random_state": 2}
    return DQNetGate(network, 4.0, 0.0, settings=SETTINGS[1:], **options).fit(*train)


def test_nothing_exits_early_and_live_equals_lazy(
    fitted: DQNetGate, bank: MultiPathClassifierBank, test: Any
) -> None:
    X, _ = test
    routes = fitted.set_params(target_bits=3.0, alpha=10.0).route(X)
    assert (routes.tree.depths[routes.paths] == 3).all()
    assert set(routes.path_names) <= {"8-3-3", "8-4-3", "8-4-4"}, "bits are dear"
    free = fitted.set_params(target_bits=4.0, alpha=0.0).route(X)
    assert sum(free.counts.values()) == 3 * len(X)
    lazy = bank.transform(X)
    np.testing.assert_array_equal(fitted.predict_path(lazy), free.paths)
    np.testing.assert_array_equal(fitted.predict_path(lazy[5:9]), free.paths[5:9])
    stored = np.asarray(bank.materialize(X))
    np.testing.assert_allclose(free.probabilities, stored[np.arange(len(X)), free.paths], atol=1e-5)


def test_the_curve_is_what_predict_does(
    fitted: DQNetGate, bank: MultiPathClassifierBank, test: Any
) -> None:
    X, y = test
    curve = fitted.cost_curve(None, X, y)
    assert curve.knob == "setting" and len(curve) == 3
    for point, (target, alpha) in enumerate(fitted.settings_):
        fitted.set_params(target_bits=target, alpha=alpha)
        np.testing.assert_array_equal(curve.paths[point], fitted.predict_path(X))
    table = bank.materialize(X)
    again = fitted.cost_curve(None, X, y, probabilities=table)
    np.testing.assert_array_equal(again.paths, curve.paths)
    assert set(fitted.settings_) == set(SETTINGS)


def test_a_table_given_in_fit_changes_nothing(
    fitted: DQNetGate, network: MultiExitNetwork, bank: Any, train: Any, test: Any
) -> None:
    table = bank.materialize(train[0])
    other = clone(fitted).set_params(target_bits=4.0, alpha=0.0)
    other.fit(*train, probabilities=table)
    fitted.set_params(target_bits=4.0, alpha=0.0)
    np.testing.assert_array_equal(other.predict_path(test[0]), fitted.predict_path(test[0]))
    with pytest.raises(ValueError, match="table of the same images"):
        clone(fitted).fit(*train, probabilities=table[:10])


def test_the_network_is_found_in_a_lazy_table(lazy: Any, train: Any, test: Any) -> None:
    gate = DQNetGate(target_bits=3, alpha=0.1, max_epochs=1, random_state=0).fit(lazy, train[1])
    assert gate.predict(test[0]).shape == (200,)


def test_on_a_stored_table_it_reads_the_first_head() -> None:
    table, y = make_path_probabilities(500)
    gate = DQNetGate(target_bits=4, alpha=0.3, settings=[(8, 0.0)], random_state=0).fit(table, y)
    changed = np.array(table)
    others = [p for p in range(table.shape[1]) if p != table.paths.roots[0]]
    changed[:, others] = changed[:, others][:, :, ::-1]
    taken = gate.predict_path(table)
    assert (gate.predict_path(PathProbabilities(changed, table.paths)) == taken).all()
    curve = gate.cost_curve(None, table, y)
    assert np.array_equal(curve.paths[gate.settings_.index((4.0, 0.3))], taken)
    router = CostAwareRouter(0.3, random_state=0).fit(table, y)
    assert len(compare({"QuEE": router, "DQNet": gate}, table, y, n_resamples=10)) == 2


def test_it_goes_into_a_file_without_its_network(fitted: Any, tmp_path: Path) -> None:
    table, y = make_path_probabilities(100)
    router = DQNetGate(target_bits=5, max_epochs=1, random_state=0).fit(table, y)
    dump(router, tmp_path / "router.skops")
    again = load(tmp_path / "router.skops")
    np.testing.assert_array_equal(again.predict_path(table), router.predict_path(table))
    with pytest.raises(TypeError, match="network.save"):
        dump(fitted, tmp_path / "other.skops")
    assert [file.name for file in tmp_path.iterdir()] == ["router.skops"]


def test_bad_input_says_what_to_do(network: MultiExitNetwork, bank: Any, train: Any) -> None:
    X, y = train
    with pytest.raises(NotFittedError, match="no fitted heads"):
        DQNetGate(MultiExitNetwork("t2t_vit_7", exits=(2, 7))).fit(X, y)
    with pytest.raises(ValueError, match="stored table of probabilities does not hold"):
        DQNetGate(network).fit(bank.materialize(X[:50]), y[:50])
    for bad in ({"alpha": -1}, {"target_bits": 0}, {"settings": [(6, np.inf)]}, {"settings": [6]}):
        with pytest.raises(ValueError, match="target_bits > 0, alpha >= 0"):
            DQNetGate(network, **bad).fit(X, y)
    with pytest.raises(ValueError, match="temperature"):
        DQNetGate(network, temperature=0).fit(X, y)
    table, labels = make_path_probabilities(60, PathTree.from_levels(3, (8,)))
    with pytest.raises(ValueError, match=r"nothing to choose: the tree has 1 level"):
        DQNetGate().fit(table, labels)
    named, labels = make_path_probabilities(60, PathTree.cascade([1, 2, 3], names=list("abc")))
    with pytest.raises(ValueError, match="DQNet"):
        DQNetGate().fit(named, labels)
    table, labels = make_path_probabilities(60)
    gate = DQNetGate(target_bits=4, max_epochs=1, random_state=0).fit(table, labels)
    with pytest.raises(ValueError, match="was not trained"):
        gate.set_params(target_bits=7).predict(table)
    with pytest.raises(ValueError, match="positions in settings_"):
        gate.set_params(target_bits=4).cost_curve([3], table, labels)
