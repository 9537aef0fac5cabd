from __future__ import annotations

import numpy as np
import pytest

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork, PTQ4ViT, UniformPTQ
from skquee.networks._levels import keep_levels

FOUND = {3: 0.2, 4: 0.86, 5: 0.88, 6: 0.897, 7: 0.90, 8: 0.902, 32: 0.90}


@pytest.mark.parametrize(
    ("max_drop", "top", "kept"),
    [
        (0.05, 0.005, [4, 5, 6]),
        (0.05, 0.0, [4, 5, 6, 7]),
        (0.02, 0.005, [5, 6]),
        (1.0, -1.0, [3, 4, 5, 6, 7, 8]),  # none is that good: the most bits are the top
        (0.0, 0.0, [7]),
    ],
)
def test_levels_are_kept_by_the_rule_of_the_paper(max_drop, top, kept):
    assert keep_levels(FOUND, range(3, 9), max_drop, top) == kept


def test_levels_of_no_use_are_an_error_that_shows_the_accuracies():
    with pytest.raises(ValueError, match=r"Every level loses more than max_drop=0.1.*3: 20.00%"):
        keep_levels(FOUND, (3,), 0.1, 0.005)


@pytest.fixture(scope="module")
def trained(digits, make_backbone):
    X, y = digits
    network = MultiExitNetwork(
        make_backbone(), exits=(1, 2, 3), trainer=HeadTrainer(final_head="train"), random_state=0
    )
    return network.fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))


def test_selection_measures_levels_and_paths(trained, digits):
    X, y = digits[0][300:], digits[1][300:]
    trained.quantize((2, 6, 8), calibration=digits[0][:64], method=UniformPTQ(), first="free")
    trained.select_levels(X, y, max_drop=0.04)
    assert set(trained.level_accuracy_) == {2, 6, 8, 32}
    kept = keep_levels(trained.level_accuracy_, (2, 6, 8), 0.04, 0.005)
    assert trained.levels_ == tuple(kept) and 2 not in kept
    assert trained.level_accuracy_[32] == pytest.approx(trained.validation_accuracy_[-1])
    table = np.asarray(MultiPathClassifierBank(trained).transform(X))
    right = (trained.classes_[table.argmax(axis=2)] == y[:, None]).mean(axis=0)
    np.testing.assert_allclose(trained.path_accuracy_, right)
    np.testing.assert_allclose(trained.summary()["accuracy"], right)
    assert trained.paths_.roots.size == len(trained.levels_)  # first="free" is remembered
    top = "-".join([str(max(trained.levels_))] * 3)
    assert trained.summary().loc[top, "accuracy"] == trained.level_accuracy_[max(trained.levels_)]
    with pytest.raises(ValueError, match="There is no level 2"):
        trained.run_block(trained.start(X[:1]), 0, 2)


def test_a_selection_that_keeps_nothing_changes_nothing(trained, digits):
    X, y = digits
    trained.quantize((2, 3), calibration=X[:64], method=UniformPTQ())
    with pytest.raises(ValueError, match="Every level loses"):
        trained.select_levels(X[300:], y[300:], max_drop=0.0)
    assert trained.levels_ == (2, 3)
    assert not hasattr(trained, "path_accuracy_")
    assert "accuracy" not in trained.summary()
    frame = trained.evaluate(X[300:], y[300:])
    assert frame["accuracy"].between(0, 1).all()


def test_an_interrupted_quantisation_leaves_the_levels_and_goes_on_where_it_stopped(
    trained, digits, tmp_path, monkeypatch
):
    X = digits[0]
    trained.quantize((2, 8), calibration=X[:32], method=UniformPTQ())
    before = np.asarray(MultiPathClassifierBank(trained).transform(X[:9]))
    find, calls = PTQ4ViT.grids, []

    def interrupted(self, observed, bits):
        calls.append(bits)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return find(self, observed, bits)

    monkeypatch.setattr(PTQ4ViT, "grids", interrupted)
    options = {"calibration": X[:32], "method": PTQ4ViT(), "cache": tmp_path / "cache"}
    with pytest.raises(KeyboardInterrupt):
        trained.quantize((4, 6), **options)
    assert trained.levels_ == (2, 8)
    table = np.asarray(MultiPathClassifierBank(trained).transform(X[:9]))
    np.testing.assert_array_equal(table, before)
    n_before = len(calls)
    trained.quantize((4, 6), **options)
    resumed = np.asarray(MultiPathClassifierBank(trained).transform(X[:9]))
    n_resumed = len(calls) - n_before
    trained.quantize((4, 6), calibration=X[:32], method=PTQ4ViT())
    whole = np.asarray(MultiPathClassifierBank(trained).transform(X[:9]))
    np.testing.assert_array_equal(resumed, whole)
    assert n_resumed < len(calls) - n_before - n_resumed  # what was found is not sought again
    n_before = len(calls)
    trained.quantize((4, 6), **options)
    assert len(calls) == n_before
