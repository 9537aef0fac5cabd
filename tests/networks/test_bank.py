"""The laws of a bank, on a network that PTQ4ViT has quantised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skquee import CostAwareRouter, MultiPathClassifierBank, PathErrorRegressor, PathTree
from skquee.networks import HeadTrainer, MultiExitNetwork, PTQ4ViT


@pytest.fixture(scope="module")
def quantized(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 2, 3), trainer=HeadTrainer(final_head="train"), random_state=0
    ).fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))
    return network.quantize((3, 5, 8), calibration=X[:64], method=PTQ4ViT())


@pytest.fixture(scope="module")
def whole(quantized, digits):
    return np.asarray(MultiPathClassifierBank(quantized, batch_size=1000).transform(digits[0]))


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 90), first=st.integers(0, 300), n=st.integers(1, 60))
def test_a_table_does_not_depend_on_chunks_or_company(
    quantized, whole, digits, batch_size, first, n
):
    X = digits[0][first : first + n]
    table = MultiPathClassifierBank(quantized, batch_size=batch_size).transform(X)
    np.testing.assert_allclose(np.asarray(table), whole[first : first + n], atol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.1, 0.5])
def test_a_live_network_routes_as_its_table_and_runs_the_chosen_blocks_only(
    quantized, digits, lambda_
):
    X, y = digits
    bank = MultiPathClassifierBank(quantized, batch_size=37)
    regressor = PathErrorRegressor(max_epochs=500, patience=20)
    router = CostAwareRouter(lambda_=lambda_, regressor=regressor, random_state=0)
    router.fit(bank.materialize(X[:250]), y[:250])
    stored, lazy = bank.materialize(X[250:]), bank.transform(X[250:])
    routes = router.route(lazy)
    np.testing.assert_array_equal(routes.paths, router.predict_path(stored))
    np.testing.assert_array_equal(routes.labels, router.predict(stored))
    assert sum(routes.counts.values()) == quantized.paths_.depths[routes.paths].sum()


def test_single_images_on_plain_numbers_answer_and_run_as_in_groups(quantized, digits):
    X, y = digits
    bank = MultiPathClassifierBank(quantized)
    regressor = PathErrorRegressor(max_epochs=100, patience=20)
    router = CostAwareRouter(lambda_=0.1, regressor=regressor, random_state=0)
    router.fit(bank.materialize(X[:250]), y[:250])
    server, routes = router.freeze(), router.route(bank.transform(X[250:265]))
    found = [server.predict_path(bank.transform(X[row : row + 1]))[0] for row in range(250, 265)]
    np.testing.assert_array_equal(found, routes.paths)
    run = bank.transform(X[:1]).walk()
    deep = int(np.argmax(quantized.paths_.depths))
    answers = [run.one(int(step)) for step in quantized.paths_.prefixes(deep)]
    np.testing.assert_allclose(answers[-1], bank.transform(X[:1]).path(deep)[0], atol=1e-5)
    assert sum(run.counts.values()) == len(answers) == quantized.paths_.depths[deep]


def test_an_interrupted_materialise_goes_on_and_a_half_file_is_never_used(
    quantized, whole, digits, tmp_path, monkeypatch
):
    X, file = digits[0][:50], tmp_path / "probs.npy"
    bank = MultiPathClassifierBank(quantized, batch_size=10)
    run, calls = MultiExitNetwork.run_block, []

    def interrupted(self, state, block, level):
        calls.append(len(state))
        if len(calls) == 30:
            raise KeyboardInterrupt
        return run(self, state, block, level)

    monkeypatch.setattr(MultiExitNetwork, "run_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bank.materialize(X, out=file)
    assert not file.exists()
    n_before = len(calls)
    table = bank.materialize(X, out=file)
    np.testing.assert_allclose(np.asarray(table), whole[:50], atol=1e-5)
    n_whole = 5 * quantized.paths_.n_paths
    assert len(calls) - n_before < n_whole


def test_other_paths_over_the_same_blocks(quantized, digits, whole):
    uniform = PathTree.from_paths(
        [(5,), (5, 5), (5, 5, 5), (8,), (8, 8), (8, 8, 8)], [1, 2, 3, 4, 5, 6]
    )
    view = quantized.with_paths(uniform)
    X = digits[0][:40]
    table = MultiPathClassifierBank(view).transform(X)
    own = quantized.paths_.index("8-8-8")
    np.testing.assert_allclose(table.path("8-8-8"), whole[:40, own], atol=1e-5)
    state = quantized.start(X)
    for block in range(3):
        state = quantized.run_block(state, block, 5)
    np.testing.assert_allclose(table.path("5-5-5"), quantized.head(state, 2, 5), atol=1e-5)
    assert quantized.paths_.n_paths == 10, "the network itself keeps its paths"
    doubled = torch.nn.ModuleList(
        torch.nn.Sequential(head, torch.nn.Identity()) for head in quantized.exit_heads
    )
    again = quantized.with_paths(uniform, heads=doubled)
    np.testing.assert_allclose(
        MultiPathClassifierBank(again).transform(X).path("8-8-8"), whole[:40, own], atol=1e-5
    )
    for features, head, name in zip(
        quantized.features(X, (8, 8, 8)), quantized.exit_heads, ("8", "8-8", "8-8-8"), strict=True
    ):
        found = head(features).softmax(dim=1).numpy()
        np.testing.assert_allclose(found, whole[:40, quantized.paths_.index(name)], atol=1e-5)


def test_other_paths_must_fit_the_network(quantized):
    with pytest.raises(ValueError, match=r"levels \[6\]; quantize made \(3, 5, 8\)"):
        quantized.with_paths(PathTree.from_paths([(6,)], [1]))
    with pytest.raises(ValueError, match="4 blocks, the network has 3"):
        quantized.with_paths(PathTree.from_paths([(8,) * d for d in range(1, 5)], [1, 2, 3, 4]))
    with pytest.raises(ValueError, match="heads must be 3"):
        quantized.with_paths(quantized.paths_, heads=torch.nn.ModuleList())
