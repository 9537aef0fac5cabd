"""The laws of a bank, on a network that PTQ4ViT has quantised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skquee import CostAwareRouter, MultiPathClassifierBank, PathErrorRegressor
from skquee.networks import MultiExitNetwork, PTQ4ViT


@pytest.fixture(scope="module")
def quantized(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 2, 3), final_head="train", random_state=0
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
