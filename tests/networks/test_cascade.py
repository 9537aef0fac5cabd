from __future__ import annotations

import pickle
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import Tensor, nn

import skquee
from skquee import CostAwareRouter, MultiPathClassifierBank, RoutedClassifier
from skquee.networks import HeadTrainer, MultiExitNetwork

SIDE, N_CLASSES = 8, 3


class Net(nn.Module):
    """A classifier that counts the rows it is given."""

    def __init__(self, width: int, n_classes: int = N_CLASSES, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, width, 3, padding=1)
            self.linear = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).relu().mean((2, 3)))


class Probabilities(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x).softmax(1)


def bank_of(networks: dict[str, Any] | None = None, **options: Any) -> MultiPathClassifierBank:
    networks = {"small": Net(4), "large": Net(64, seed=1)} if networks is None else networks
    options = {"levels": ("fp32",), "img_size": SIDE, "runtime": "torch", **options}
    return MultiPathClassifierBank.from_networks(networks, **options)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def two() -> MultiPathClassifierBank:
    """Networks on two engines each: those of the test, as timing would leave out one or other."""
    bank = bank_of()
    cascade = bank.classifiers
    for member in cascade.members.values():
        blocks = member.parts_.blocks
        half = {"bf16": blocks, "fp32": blocks}
        tree = type(member.paths_).from_paths([("bf16",), ("fp32",)], [1.0, 2.0])
        member.parts_ = member.parts_.with_levels(half, tree.with_classes(range(N_CLASSES)))
    return MultiPathClassifierBank(type(cascade)(cascade.members))


def test_every_network_on_every_engine_is_a_path_and_so_is_every_increasing_sequence(two):
    assert two.paths_.names == (
        "small@bf16", "small@fp32", "large@bf16", "large@fp32",
        "small@bf16-large@bf16", "small@bf16-large@fp32",
        "small@fp32-large@bf16", "small@fp32-large@fp32",
    )  # fmt: skip
    assert two.paths_.columns == (0, 1, 2, 3, 2, 3, 2, 3)
    assert two.paths_.path_costs.tolist() == [1, 2, 1, 2, 2, 3, 3, 4]
    assert two.paths_.cost_unit == "ms"


def test_a_chain_asks_each_network_after_the_one_before():
    networks = {"a": Net(4), "b": Net(8), "c": Net(16)}
    bank = bank_of(networks, paths="chain")
    assert bank.paths_.names == ("a@fp32", "a@fp32-b@fp32", "a@fp32-b@fp32-c@fp32")
    assert (bank.paths_.path_costs > 0).all()


def test_a_table_holds_what_the_networks_answer(images):
    networks = {"small": Net(4), "large": Net(64, seed=1)}
    config = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.1)}
    bank = bank_of(networks, data_config=config)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in config.values())
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    table = bank.materialize(images, batch_size=17)
    for name, network in networks.items():
        with torch.inference_mode():
            expected = network(x).softmax(1)
        np.testing.assert_allclose(table.path(f"{name}@fp32"), expected, atol=1e-6)
    np.testing.assert_allclose(bank.transform(images).path(2), table.path(2), atol=1e-6)
    np.testing.assert_allclose(bank.materialize(x).path(1), table.path(1), atol=1e-6)


def test_the_networks_given_stay_as_they_were(images):
    network = Net(4).train()
    bank = bank_of({"one": network})
    assert network.training and network.conv.weight.requires_grad
    before = np.asarray(bank.materialize(images))
    with torch.no_grad():
        network.conv.weight.zero_()
    np.testing.assert_array_equal(np.asarray(bank.materialize(images)), before)


def test_each_network_runs_once_on_the_same_rows(two, images, monkeypatch):
    run, seen = MultiExitNetwork.run_exit, Counter()

    def counted(self: MultiExitNetwork, state: Tensor, block: int, level: Any) -> Any:
        seen[self.exits_[0], level] += len(state)
        return run(self, state, block, level)

    monkeypatch.setattr(MultiExitNetwork, "run_exit", counted)
    two.materialize(images)
    assert seen == dict.fromkeys([(n, e) for n in ("small", "large") for e in ("bf16", "fp32")], 60)


@pytest.mark.parametrize("lambda_", [0.0, 0.05, 0.5])
def test_live_networks_route_as_their_table_and_run_what_is_chosen(two, images, lambda_):
    y = np.arange(60) % N_CLASSES
    router = CostAwareRouter(
        lambda_, targets="bernoulli", regressor="logistic", random_state=0
    ).fit(two.materialize(images), y)
    stored, lazy = two.materialize(images), two.transform(images)
    routes = router.route(lazy)
    np.testing.assert_array_equal(routes.paths, router.predict_path(stored))
    np.testing.assert_array_equal(routes.labels, router.predict(stored))
    assert sum(routes.counts.values()) == two.paths_.depths[routes.paths].sum()
    server = router.freeze()
    single = [server.predict_path(two.transform(images[k : k + 1]))[0] for k in range(5)]
    np.testing.assert_array_equal(single, routes.paths[:5])


def test_a_routed_classifier_fits_and_predicts_on_images(images):
    bank = bank_of(classes=["cat", "dog", "frog"])
    labels = np.array(["cat", "dog", "frog"])[np.arange(60) % 3]
    router = CostAwareRouter(0.01, targets="bernoulli", regressor="logistic", random_state=0)
    model = RoutedClassifier(bank, router).fit(images, labels)
    assert set(model.predict(images)) <= {"cat", "dog", "frog"}
    assert clone(model).fit(images, labels).predict(images).tolist() == (
        model.predict(images).tolist()
    )
    assert bank.fit(images, labels).classes_.tolist() == ["cat", "dog", "frog"]


def test_latencies_are_costs_of_a_bank_and_sum_over_steps():
    bank = bank_of()
    with pytest.raises(ValueError, match="call measure_costs"):
        bank.classifiers.path_costs()
    frame = bank.classifiers.measure_costs((1, 4))
    assert (frame.to_numpy() >= 0).all() and frame.attrs["unit"] == "ms"
    timed = MultiPathClassifierBank(bank.classifiers, path_costs="latency")
    small, large, both = timed.costs_
    gate = bank.classifiers.latency_.step_costs(64)[0] - bank.classifiers.latency_.step_costs(64)[1]
    assert both == pytest.approx(small + large - gate[1])
    assert timed.paths_.cost_unit == "ms"


def test_operations_are_costs_too():
    flops = bank_of().classifiers.path_costs("flops")
    by_hand = [2 * 64 * 27 * width + 2 * width * N_CLASSES for width in (4, 64)]
    assert flops.tolist() == [*by_hand, sum(by_hand)]
    assert bank_of().classifiers.path_costs("bitops").tolist() == (32 * flops).tolist()
    assert bank_of(path_costs="flops").costs_.tolist() == (flops / flops.max()).tolist()


def test_answers_that_are_probabilities_already_stay_so(images):
    logits, ready = Net(4), Probabilities(Net(4))
    table = bank_of({"logits": logits, "ready": ready}).materialize(images)
    np.testing.assert_allclose(table.path("ready@fp32"), table.path("logits@fp32"), atol=1e-6)


def test_networks_for_images_of_other_sizes_share_a_bank(images):
    big = Net(8, seed=2)
    big.pretrained_cfg = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    small = Net(4)
    small.pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.4,) * 3, "std": (0.2,) * 3}
    bank = bank_of({"small": small, "large": big}, img_size=None)
    cascade = bank.classifiers
    state = cascade.start(images[:4])
    assert cascade.head(state, 0, "small@fp32").shape == (4, N_CLASSES)
    assert {f: tuple(ready.shape) for f, ready in state.images.items()} == {0: (4, 3, 8, 8)}
    cascade.head(state, 0, "large@fp32")
    assert tuple(state.images[1].shape) == (4, 3, 16, 16)
    table = bank.materialize(images)
    with torch.inference_mode():
        expected = big(state.images[1]).softmax(1)
    np.testing.assert_allclose(table.path("large@fp32")[:4], expected, atol=1e-6)
    joined = cascade.concat([cascade.take(state, np.array([2])), cascade.take(state, [0, 1])])
    np.testing.assert_allclose(
        cascade.head(joined, 0, "large@fp32"), expected[[2, 0, 1]], atol=1e-6
    )
    with pytest.raises(ValueError, match="taken as normalised, but these networks"):
        bank.transform(torch.zeros(2, 3, 8, 8))


def test_only_rows_that_reach_a_network_are_resized_for_it(images):
    large = Net(8, seed=2)
    large.pretrained_cfg = {"input_size": (3, 16, 16)}
    small = Net(4)
    small.pretrained_cfg = {"input_size": (3, 8, 8)}
    cascade = bank_of({"small": small, "large": large}, img_size=None).classifiers
    state = cascade.run_block(cascade.start(images[:6]), 0, "small@fp32")
    few = cascade.run_block(cascade.take(state, np.array([4, 1])), 1, "large@fp32")
    assert tuple(few.images[1].shape) == (2, 3, 16, 16) and 1 not in state.images
    whole = cascade.head(cascade.start(images[:6]), 0, "large@fp32")
    np.testing.assert_allclose(few.answers["large@fp32"], whole[[4, 1]], atol=1e-6)


def test_rows_of_several_batches_keep_their_images(images):
    big = Net(8, seed=2)
    big.pretrained_cfg = {"input_size": (3, 16, 16)}
    small = Net(4)
    small.pretrained_cfg = {"input_size": (3, 8, 8)}
    bank = bank_of({"small": small, "large": big}, img_size=None)
    cascade, batches = bank.classifiers, [images[:4], images[4:5], images[5:9]]
    states = [cascade.run_block(cascade.start(X), 0, "small@fp32") for X in batches]
    whole = cascade.head(cascade.start(images[:9]), 0, "large@fp32")
    joined = cascade.concat([states[0], cascade.take(states[1], []), *states[1:]])
    np.testing.assert_allclose(cascade.head(joined, 1, "large@fp32"), whole, atol=1e-6)
    rows = np.array([8, 0, 3, 4, 1])
    again = cascade.concat([cascade.take(cascade.concat(states), rows), states[1]])
    found = cascade.head(again, 1, "large@fp32")
    np.testing.assert_allclose(found, whole[[*rows, 4]], atol=1e-6)
    assert len(cascade.take(cascade.concat(states), []).rows) == 1
    table = bank.materialize(images)
    router = CostAwareRouter(lambda_=0.0, random_state=0).fit(table, np.arange(60) % N_CLASSES)
    router.set_params(lambda_=0.05)
    lone = router.route(bank.transform(images))
    told = list(router.stream(bank, np.split(images, 12), group_size=16))
    answers = np.concatenate([routes.probabilities for routes in told])
    np.testing.assert_allclose(answers, lone.probabilities, atol=1e-6)


def test_a_bank_may_be_made_with_measured_costs():
    bank = bank_of(path_costs="latency")
    assert bank.paths_.cost_unit == "ms"
    assert bank.costs_.tolist() == bank.classifiers.path_costs("latency").tolist()


def test_a_fitted_network_answers_by_its_last_exit(images):
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    stages = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU())
    network = MultiExitNetwork(
        stages, blocks=("1", "3"), img_size=SIDE, trainer=HeadTrainer(max_epochs=1), random_state=0
    ).fit(images, y)
    bank = bank_of({"plain": Net(4), "fitted": network}, classes=["a", "b", "c"])
    expected = MultiPathClassifierBank(network).transform(images).path("32-32")
    np.testing.assert_allclose(bank.materialize(images).path("fitted@fp32"), expected, atol=1e-6)
    assert bank_of({"fitted": network}, img_size=None).classes_.tolist() == ["a", "b", "c"]


def test_int8_is_a_level_where_it_pays_and_is_left_out_by_name_where_not(images):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        bank = bank_of({"only": Net(8)}, levels=("int8", "fp32"), calibration=images)
    kept = bank.classifiers.levels_
    assert set(kept) <= {"only@int8", "only@fp32"}
    assert len(kept) == 2 or any("Network 'only'" in str(w.message) for w in told)
    answers = bank.materialize(images)
    assert np.allclose(np.asarray(answers).sum(axis=2), 1, atol=1e-5)


def test_a_bank_of_networks_pickles(images):
    bank = bank_of()
    again = pickle.loads(pickle.dumps(bank))
    np.testing.assert_array_equal(
        np.asarray(again.materialize(images)), np.asarray(bank.materialize(images))
    )


def test_a_bank_of_networks_is_in_no_skops_file(tmp_path):
    with pytest.raises(TypeError, match="NetworkCascade.* Save it by network.save"):
        skquee.dump(bank_of(), tmp_path / "bank.skops")


def test_small_groups_join_at_a_dearer_engine_only_where_times_were_measured(images):
    cascade = bank_of().classifiers
    with pytest.raises(ValueError, match="call network.measure_costs"):
        MultiPathClassifierBank(cascade, merge_groups=True).transform(images)
    cascade.measure_costs((1, 8))
    bank = MultiPathClassifierBank(cascade, merge_groups=True, path_costs="latency")
    table = bank.transform(images)
    np.testing.assert_array_equal(np.asarray(table), np.asarray(bank_of().materialize(images)))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("networks", "error", "message"),
    [
        ([Net(4)], TypeError, "must be a mapping of names"),
        ({}, TypeError, "must be a mapping of names"),
        ({3: Net(4)}, ValueError, "texts without '@', got 3"),
        ({"a@b": Net(4)}, ValueError, "texts without '@', got 'a@b'"),
        ({"a": Net}, TypeError, "'a' must be a torch module"),
        ({"a": 3}, TypeError, "'a' must be a torch module, the name of a timm model"),
        ({"a": "no_such_model"}, ValueError, "'a': timm cannot build 'no_such_model'"),
        ({"a": MultiExitNetwork(Net(4), blocks=("conv",))}, ValueError, "'a': it is not fitted"),
        ({"a": Net(4), "b": Net(4, 5)}, ValueError, "'b': it answers 5 classes, those before it 3"),
        ({"a": nn.Conv2d(3, 4, 3)}, ValueError, "'a': it must answer 4 images with"),
        ({"a": torch.jit.ScriptModule()}, TypeError, "'a': backbone is a ScriptModule, whose"),
        ({"a": nn.Linear(5, 3)}, ValueError, "'a': it does not run on images"),
    ],
)
def test_networks_that_do_not_fit_are_refused_by_name(networks, error, message):
    with pytest.raises(error, match=message):
        bank_of(networks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (8, 4)}, r"levels must be engines, .*got \(8, 4\)"),
        ({"levels": ()}, "'small': levels must be distinct, of"),
        ({"levels": ("int7",)}, "'small': levels must be distinct, of"),
        ({"levels": ("int8", "fp32")}, "'small': int8 needs the ranges .* calibration="),
        ({"img_size": None}, "'small': the size of its images is not known: give img_size="),
        ({"classes": ["a", "b"]}, "'small': it answers 3 classes, but classes has 2 labels"),
        ({"paths": "tree"}, "paths must be one of .*'cascade', 'chain'.*got 'tree'"),
        ({"batch_size": 0}, "'small': batch_size"),
        ({"runtime": "fast"}, "'small': runtime must be"),
        ({"data_config": {"mean": (0.5,)}}, "'small': "),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        bank_of(**options)


def test_options_of_no_bank_are_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(MultiExitNetwork, "compile", None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'step_cost'"):
        bank_of(step_cost=[1, 2])


def test_too_many_paths_are_refused():
    networks = {f"n{k}": Net(2) for k in range(9)}
    with pytest.raises(ValueError, match="9 networks .* make 511 paths, more than 255"):
        bank_of(networks)
