"""JEI-DNN: each formula against itself written out for one sample, then the estimator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.nn import functional as F

from skquee import CostAwareRouter, MultiPathClassifierBank, PathTree
from skquee.baselines import JEIDNN, FixedPath, ThresholdRouter
from skquee.baselines._jeidnn_training import (
    exit_shares,
    gate_inputs,
    gate_loss,
    head_loss,
    leaving,
)
from skquee.evaluation import compare
from skquee.networks import MultiExitNetwork
from skquee.persistence import dump, load
from skquee.testing import make_path_probabilities

LAMBDAS = [0.0, 0.3, 3.0]


def literal_shares(gates: list[float]) -> list[float]:
    shares = []
    for level, gate in enumerate([*gates, 1.0]):
        shares.append(max(0.0, min(gate, 1 - sum(gates[:level]))))
    return shares


def literal_exit(gates: list[float]) -> int:
    shares, past = literal_shares(gates), 1.0
    for level in range(len(gates)):
        q = min(max(shares[level] / past, 0.0), 1.0) if past > 0 else 1.0
        if q >= 0.5:
            return level
        past *= 1 - q
    return len(gates)


GATES = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(0, 1)
)


@given(GATES)
@settings(max_examples=200, deadline=None)
def test_exit_shares_and_exits_are_the_formulas(gates: np.ndarray) -> None:
    given_gates = torch.from_numpy(gates)
    shares, q = exit_shares(given_gates).numpy(), leaving(given_gates).numpy()
    for row, line in enumerate(gates.tolist()):
        np.testing.assert_allclose(shares[row], literal_shares(line), atol=1e-12)
        # At exactly one half a rounding error decides.
        if (np.abs(q[row] - 0.5) > 1e-9).all():
            leaves = [*(q[row] >= 0.5), True]
            assert leaves.index(True) == literal_exit(line)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-12)


def test_a_gate_sees_four_numbers_of_the_answer() -> None:
    p = np.array([0.1, 0.6, 0.3])
    squares = p**2 / (p**2).sum()
    expected = [0.6, -(p * np.log(p)).sum(), 0.3, -(squares * np.log(squares)).sum()]
    found = gate_inputs(torch.from_numpy(p)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def gradients(detach_ratio: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(7, 3, generator=generator, dtype=torch.float64).requires_grad_()
    shares = exit_shares(torch.rand(7, 2, generator=generator, dtype=torch.float64))
    value = head_loss(losses, shares, detach_ratio=detach_ratio)
    value.backward()
    assert losses.grad is not None
    return value.detach(), losses.grad, shares


def test_the_heads_loss_weighs_each_exit_by_its_share() -> None:
    value, gradient, shares = gradients(detach_ratio=True)
    ratio = gradient / shares.clamp(min=1e-300)
    seen = ratio[shares > 0]
    torch.testing.assert_close(seen, seen[:1].expand_as(seen))
    assert (gradient[shares == 0] == 0).all()
    reference, plain, _ = gradients(detach_ratio=False)
    torch.testing.assert_close(value, reference)
    # The public code's ratio has a gradient: what is left is the plain mean.
    torch.testing.assert_close(plain, torch.full_like(plain, 1 / plain.numel()))


def test_gates_learn_to_leave_from_the_best_exit_on() -> None:
    logits = torch.tensor([[0.3, -0.2], [1.0, 2.0]])
    weight = torch.tensor([2.0, 5.0])
    oracle = torch.tensor([1, 2])
    total = 0.0
    for row, best in enumerate([1, 2]):
        for gate in range(2):
            goal = float(gate >= best)
            p = torch.sigmoid(logits[row, gate])
            total -= weight[gate] * goal * torch.log(p) + (1 - goal) * torch.log(1 - p)
    torch.testing.assert_close(gate_loss(logits, oracle, weight), total / 4)


# ---------------------------------------------------------------------- with a network


@pytest.fixture(scope="module")
def fitted(network: MultiExitNetwork, train: Any) -> JEIDNN:
    jei = JEIDNN(network, 0.3, lambdas=LAMBDAS, max_epochs=4, batch_size=64, random_state=0)
    return jei.fit(*train)


def test_a_trade_off_moves_the_cost_and_images_lazy_tables_and_single_rows_agree(
    fitted: JEIDNN, bank: MultiPathClassifierBank, test: Any
) -> None:
    X, y = test
    fitted.set_params(lambda_=0.3)
    routes = fitted.route(X)
    assert routes.tree.names == ("8", "8-8", "8-8-8")
    np.testing.assert_allclose(routes.tree.path_costs[-1], 1.0)
    lazy = bank.transform(X)
    np.testing.assert_array_equal(fitted.predict_path(lazy), routes.paths)
    np.testing.assert_array_equal(fitted.predict(lazy[::7]), routes.labels[::7])
    one = fitted.route(X[3:4])
    assert one.paths[0] == routes.paths[3]
    np.testing.assert_allclose(one.probabilities[0], routes.probabilities[3], atol=1e-5)
    assert sum(routes.counts.values()) == routes.tree.depths[routes.paths].sum()
    costs = [fitted.set_params(lambda_=value).predict_cost(X).mean() for value in (0.0, 0.3, 3.0)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]
    accuracy = (fitted.set_params(lambda_=0.3).predict(X) == y).mean()
    np.testing.assert_allclose(fitted.score(X, y), accuracy - 0.3 * routes.costs.mean())


def test_the_curve_is_what_predict_does(fitted: JEIDNN, test: Any) -> None:
    X, y = test
    curve = fitted.cost_curve(None, X, y)
    assert curve.knobs.tolist() == LAMBDAS
    for point, knob in enumerate(LAMBDAS):
        fitted.set_params(lambda_=knob)
        np.testing.assert_array_equal(curve.paths[point], fitted.predict_path(X))
        assert curve.accuracy[point] == np.mean(fitted.predict(X) == y)
    assert len(fitted.cost_curve([3.0], X, y)) == 1


def test_routing_is_the_rule_applied_to_one_sample_after_the_other(
    fitted: JEIDNN, network: MultiExitNetwork, test: Any
) -> None:
    X = test[0][:40]
    fitted.set_params(lambda_=0.3)
    heads = fitted.heads_[0.3]
    features = network.features(X, (8, 8, 8))
    weight, bias = fitted.gates_[0.3][:, :4], fitted.gates_[0.3][:, 4]
    for row, path in enumerate(fitted.predict_path(X)):
        gates = []
        for exit_ in range(2):
            p = heads[exit_](features[exit_][row : row + 1]).softmax(dim=1)
            seen = gate_inputs(p)[0].numpy()
            gates.append(float(1 / (1 + np.exp(-(seen @ weight[exit_] + bias[exit_])))))
        assert path == literal_exit(gates)


def test_training_leaves_the_network_alone_and_is_seeded(
    network: MultiExitNetwork, train: Any, test: Any
) -> None:
    before = [p.clone() for p in network.exit_heads.parameters()]
    jei = JEIDNN(network, 0.3, max_epochs=2, batch_size=64, random_state=1)
    first = jei.fit(*train).predict_proba(test[0])
    for old, new in zip(before, network.exit_heads.parameters(), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=0)
    assert (clone(jei).fit(*train).predict_proba(test[0]) == first).all()
    changed = jei.heads_[0.3][0].weight
    assert not torch.equal(changed, network.exit_heads[0].weight), "heads are trained too"


def test_joint_training_helps_the_heads_of_an_undertrained_network(
    network: MultiExitNetwork, train: Any
) -> None:
    X, y = train
    blank = network.with_paths(
        network.paths_, heads=torch.nn.ModuleList(torch.nn.Linear(24, 10) for _ in range(3))
    )
    jei = JEIDNN(blank, 0.0, max_epochs=10, batch_size=32, learning_rate=1e-2, random_state=0)
    alone = FixedPath().fit(bank_of(blank).materialize(X), y).score(bank_of(blank).transform(X), y)
    assert jei.fit(X, y).score(X, y) > alone + 0.3


def bank_of(network: MultiExitNetwork) -> MultiPathClassifierBank:
    return MultiPathClassifierBank(network)


def test_along_chooses_the_levels_the_blocks_run_at(
    network: MultiExitNetwork, train: Any, test: Any
) -> None:
    jei = JEIDNN(network, 0.1, along="8-4-4", max_epochs=1, random_state=0).fit(*train)
    assert jei.paths_.names == ("8", "8-4", "8-4-4")
    tree = network.paths_
    expected = tree.path_costs[[tree.index(name) for name in jei.paths_.names]]
    np.testing.assert_allclose(jei.paths_.path_costs, expected)
    assert set(jei.route(test[0]).path_names) <= set(jei.paths_.names)


def test_cold_start_trains_each_trade_off_by_itself(network: MultiExitNetwork, train: Any) -> None:
    options = {"max_epochs": 2, "batch_size": 64, "random_state": 0}
    both = JEIDNN(network, 0.1, lambdas=[2.0], warm_start=False, **options).fit(*train)
    warm = JEIDNN(network, 0.1, lambdas=[2.0], **options).fit(*train)
    np.testing.assert_array_equal(both.gates_[0.1], warm.gates_[0.1])
    assert not np.allclose(both.gates_[2.0], warm.gates_[2.0])


def test_compare_takes_it_beside_routers_on_the_same_lazy_table(
    network: MultiExitNetwork, bank: MultiPathClassifierBank, train: Any, test: Any, fitted: JEIDNN
) -> None:
    table = bank.materialize(train[0])
    X, y = bank.transform(test[0]), test[1]
    methods = {
        "QuEE": CostAwareRouter(random_state=0).fit(table, train[1]),
        "JEI-DNN": fitted,
        "threshold": ThresholdRouter().fit(table, train[1]),
    }
    found = compare(methods, X, y, n_resamples=20, random_state=0)
    assert list(found.index) == ["QuEE", "JEI-DNN", "threshold"]
    assert (found["area"] > 0.1).all()


# ---------------------------------------------------------------------- on a table


def test_on_a_stored_table_only_gates_are_trained() -> None:
    table, y = make_path_probabilities(400)
    jei = JEIDNN(lambda_=0.1, lambdas=[1.0], random_state=0).fit(table, y)
    routes = jei.route(table)
    fullest = table.paths.prefixes(table.paths.fullest)
    assert set(routes.paths) <= set(fullest)
    chosen = np.asarray(table)[np.arange(400), routes.paths]
    np.testing.assert_allclose(routes.probabilities, chosen)
    assert jei.set_params(lambda_=1.0).predict_cost(table).mean() < routes.costs.mean()


def test_four_exits_on_a_chain_follow_the_rule() -> None:
    table, y = make_path_probabilities(300, PathTree.chain([1, 1, 2, 3]))
    jei = JEIDNN(lambda_=0.3, max_epochs=3, batch_size=32, random_state=0).fit(table, y)
    weight, bias = jei.gates_[0.3][:, :4], jei.gates_[0.3][:, 4]
    for row, path in enumerate(jei.predict_path(table)):
        gates = []
        for exit_ in range(3):
            p = torch.from_numpy(np.asarray(table.path(exit_)[row : row + 1]))
            value = gate_inputs(p)[0].numpy() @ weight[exit_] + bias[exit_]
            gates.append(float(1 / (1 + np.exp(-value))))
        assert path == literal_exit(gates)


# ---------------------------------------------------------------------- bad input


def test_it_goes_into_a_file_without_its_network(fitted: Any, tmp_path: Path) -> None:
    table, y = make_path_probabilities(100)
    router = JEIDNN(lambda_=0.3, max_epochs=1, random_state=0).fit(table, y)
    dump(router, tmp_path / "router.skops")
    again = load(tmp_path / "router.skops")
    np.testing.assert_array_equal(again.predict_path(table), router.predict_path(table))
    with pytest.raises(TypeError, match="network.save"):
        dump(fitted, tmp_path / "other.skops")
    assert [file.name for file in tmp_path.iterdir()] == ["router.skops"]


def test_bad_input_says_what_to_do(
    network: MultiExitNetwork, bank: MultiPathClassifierBank, train: Any
) -> None:
    X, y = train
    bare = MultiExitNetwork("t2t_vit_7", exits=(2, 7))
    with pytest.raises(NotFittedError, match="no fitted heads: call network.fit"):
        JEIDNN(bare).fit(X, y)
    with pytest.raises(TypeError, match="MultiExitNetwork"):
        JEIDNN(X).fit(X, y)
    stored = bank.materialize(X[:50])
    with pytest.raises(ValueError, match="stored table of probabilities does not hold"):
        JEIDNN(network).fit(stored, y[:50])
    for bad in ({"lambdas": [0.1, np.nan]}, {"lambda_": -1.0}, {"lambdas": [-1]}):
        with pytest.raises(ValueError, match="lambda_ and lambdas must hold finite numbers >= 0"):
            JEIDNN(network, **bad).fit(X, y)
    for bad in ({"ratio": "none"}, {"max_epochs": 0}, {"validation_fraction": 1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            JEIDNN(network, **bad).fit(X, y)
    with pytest.raises(ValueError, match="two exits"):
        JEIDNN(network, along="8").fit(X, y)
    jei = JEIDNN(lambda_=0.2, max_epochs=1, random_state=0).fit(stored, y[:50])
    with pytest.raises(ValueError, match="not trained"):
        jei.set_params(lambda_=0.7).predict(stored)
    with pytest.raises(ValueError, match="not trained"):
        jei.set_params(lambda_=0.2).cost_curve([0.2, 0.9], stored, y[:50])
    with pytest.raises(ValueError, match="non-empty"):
        jei.cost_curve([], stored, y[:50])
    with pytest.raises(ValueError, match="labels"):
        JEIDNN(network).fit(X, np.where(y == 0, 77, y))


def test_cross_entropy_of_a_table_is_that_of_its_probabilities() -> None:
    from skquee.baselines._jeidnn import _logarithms

    table, y = make_path_probabilities(20)
    values = np.asarray(table.path(0))
    found = F.cross_entropy(_logarithms(values), torch.from_numpy(y))
    np.testing.assert_allclose(found, -np.log(values[np.arange(20), y]).mean(), rtol=1e-5)


@pytest.mark.parametrize("knob", [0.02, 0.3])
def test_balanced_gates_let_samples_leave_earlier(knob: float) -> None:
    X, y = make_path_probabilities(600)
    plain, balanced = (
        JEIDNN(lambda_=knob, balance=balance, max_epochs=5, random_state=0).fit(X, y)
        for balance in (False, True)
    )
    assert not np.array_equal(plain.gates_[knob], balanced.gates_[knob])
    assert balanced.predict_cost(X).mean() < 0.9 * plain.predict_cost(X).mean()
