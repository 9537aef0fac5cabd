"""Options of head training are an object of their own; the keywords of before go on working."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skquee import MultiPathClassifierBank
from skquee.baselines import JEIDNN, FixedPath
from skquee.networks import HeadTrainer, MultiExitNetwork

OLD = {
    "heads": "linear",
    "final_head": "train",
    "max_epochs": 3,
    "patience": 2,
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "batch_size": 16,
    "augmentation": abs,
    "n_views": 2,
    "amp_dtype": "bfloat16",
}


def probabilities(network, X):
    return np.asarray(MultiPathClassifierBank(network).transform(X))


def test_a_network_has_few_parameters_and_a_trainer_the_rest():
    network = MultiExitNetwork("t2t_vit_7")
    assert len(network.get_params(deep=False)) == 12
    assert set(OLD) | {"pool"} == set(HeadTrainer().get_params())
    assert not set(OLD) & set(network.get_params())


def test_parameters_of_the_trainer_are_reached_from_the_network():
    network = MultiExitNetwork("t2t_vit_7", trainer=HeadTrainer(patience=3))
    assert network.get_params()["trainer__patience"] == 3
    assert network.set_params(trainer__max_epochs=7).trainer.max_epochs == 7
    bare = MultiExitNetwork("t2t_vit_7")
    assert bare.trainer is None
    assert bare.set_params(trainer__max_epochs=7).trainer.max_epochs == 7
    with pytest.raises(ValueError, match="Invalid parameter 'epochs' for estimator HeadTrainer"):
        bare.set_params(trainer__epochs=7)


@pytest.mark.parametrize("name", OLD)
def test_old_keywords_work_and_name_the_new_ones(name):
    with pytest.warns(FutureWarning, match=rf"trainer=HeadTrainer\({name}=\.\.\.\)") as heard:
        network = MultiExitNetwork("t2t_vit_7", **{name: OLD[name]})
    assert heard[0].filename == __file__
    assert getattr(network.trainer, name) == OLD[name]
    with pytest.warns(
        FutureWarning, match=rf"use trainer__{name}; removed in version 0\.3"
    ) as heard:
        MultiExitNetwork("t2t_vit_7").set_params(**{name: OLD[name]})
    assert heard[0].filename == __file__


def test_old_keywords_of_weights_work():
    def made(**options):
        with pytest.warns(FutureWarning, match="weights="):
            return MultiExitNetwork("t2t_vit_7", **options)

    assert made(pretrained=True).weights == "pretrained"
    assert made(pretrained=False).weights is None
    assert made(checkpoint="a.pth").weights == "a.pth"
    assert made(checkpoint="a.pth", pretrained=False).weights == "a.pth"
    with pytest.raises(ValueError, match="not both"):
        made(checkpoint="a.pth", pretrained=True)
    network = MultiExitNetwork("t2t_vit_7", weights="a.pth")
    with pytest.warns(FutureWarning):
        assert network.set_params(pretrained=False).weights == "a.pth"


def test_a_network_made_with_old_keywords_clones_without_a_warning():
    with pytest.warns(FutureWarning):
        network = MultiExitNetwork("t2t_vit_7", exits=(2, 7), max_epochs=3, batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = clone(network)
    assert repr(again.get_params()) == repr(network.get_params())


def test_old_and_new_at_once_are_refused():
    with (
        pytest.warns(FutureWarning),
        pytest.raises(TypeError, match="give one"),
    ):
        MultiExitNetwork("t2t_vit_7", max_epochs=3, trainer=HeadTrainer())
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        MultiExitNetwork("t2t_vit_7", epochs=3)


def test_a_clone_is_fresh_and_refitting_it_leaves_the_original(network, digits):
    X, y = digits
    before = probabilities(network, X[:20])
    other = clone(network)
    assert other is not network and not other.__sklearn_is_fitted__()
    assert other.backbone is not network.backbone
    other.set_params(trainer__max_epochs=1, random_state=3).fit(X[:100], y[:100])
    assert network.trainer is None
    np.testing.assert_array_equal(probabilities(network, X[:20]), before)


def test_what_holds_a_fitted_network_shares_it_when_cloned(network, digits):
    X, y = digits
    for holder in (MultiPathClassifierBank(network, batch_size=9), JEIDNN(network)):
        other = clone(holder)
        assert other is not holder and type(other) is type(holder)
        shared = [p for p in other.get_params(deep=False).values() if p is network]
        assert len(shared) == 1
        assert repr(other) == repr(holder)
    pipe = clone(make_pipeline(MultiPathClassifierBank(network), FixedPath()))
    routed = pipe.fit(X[:60], y[:60]).predict_proba(X[:60])
    table = probabilities(network, X[:60])
    assert any(np.array_equal(routed, table[:, column]) for column in range(table.shape[1]))


def test_a_grid_search_goes_over_the_options_of_the_trainer(digits, make_backbone):
    X, y = digits

    def last_exit(network, X, y):
        return network.evaluate(X, y)["accuracy"].iloc[-1]

    network = MultiExitNetwork(make_backbone(), exits=(1, 3), random_state=0)
    options = {"trainer__final_head": ["train"], "trainer__learning_rate": [0.05]}
    grid = {"trainer__max_epochs": [0, 40], **options}
    search = GridSearchCV(network, grid, scoring=last_exit, cv=2).fit(X[:200], y[:200])
    assert search.best_params_["trainer__max_epochs"] == 40
    assert search.best_estimator_.trainer.max_epochs == 40
    assert network.trainer is None


def test_what_fit_found_is_one_frozen_value(network, digits):
    parts = network.parts_
    with pytest.raises(AttributeError):
        parts.levels = {}
    with pytest.raises(AttributeError):
        network.paths_ = parts.paths
    names = vars(network)
    assert {name for name in names if name not in network.get_params(deep=False)} == {"parts_"}
    assert not hasattr(network, "latency_") and not hasattr(network, "runtimes_")
    copied = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(
        probabilities(copied, digits[0][:9]), probabilities(network, digits[0][:9])
    )
