"""Engines: each against a short literal version, and what compile keeps of them."""

from __future__ import annotations

import copy
import pickle
import warnings
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import Mlp
from torch import nn

from skquee import CostAwareRouter, MultiPathClassifierBank
from skquee.networks import MultiExitNetwork, PTQ4ViT, UniformPTQ, _compiling
from skquee.networks.backbones._modules import cut_modules
from skquee.networks.engines import (
    ENGINES,
    Int8Linear,
    LatencyTable,
    _engines,
    build_engine,
    check_engines,
    device_engines,
    input_ranges,
)
from skquee.networks.engines._int8 import (
    Int8Mlp,
    grid,
    int8_available,
    suits_int8,
    to_int8,
    weight_top,
)
from skquee.networks.engines._openvino import FakeInt8Linear, OpenVinoBlock, openvino_available
from skquee.networks.quantization._grids import UniformGrid
from skquee.networks.quantization._operations import QuantizedLinear

needs_openvino = pytest.mark.skipif(not openvino_available(), reason="OpenVINO is not installed")
needs_int8 = pytest.mark.skipif(
    not int8_available(), reason="no oneDNN int8 products, or they overflow"
)


def simulated(linear: nn.Linear, x: torch.Tensor, span: tuple[float, float]) -> torch.Tensor:
    """The int8 product in float64, from its definition."""
    scale, zero = grid(span)
    codes = torch.floor(x.double() / scale + zero + 0.5).clamp(0, 255)
    weight = linear.weight.double()
    weight_scale = weight.abs().amax(dim=1) / weight_top()
    weight_codes = (weight / weight_scale[:, None]).round()
    y = (codes - zero) @ weight_codes.T * scale * weight_scale
    return y if linear.bias is None else y + linear.bias.double()


@needs_int8
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 12), (2, 7, 12), (1, 12)])
def test_an_int8_layer_is_its_simulation(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(12, 9, bias=bias).requires_grad_(False), torch.randn(shape)
    span = (float(x.min()), float(x.max()) * 0.8)  # some inputs are cut off
    found = Int8Linear(linear, span)(x)
    torch.testing.assert_close(found.double(), simulated(linear, x, span), atol=1e-5, rtol=1e-5)


@needs_int8
def test_an_int8_mlp_is_its_simulation_to_one_code() -> None:
    torch.manual_seed(0)
    mlp, x = Mlp(16, 32).requires_grad_(False), torch.randn(40, 16)
    with torch.inference_mode():
        inner = mlp.act(mlp.fc1(x))
    first, second = (float(x.min()), float(x.max())), (float(inner.min()), float(inner.max()))
    fast = Int8Mlp(mlp.fc1, mlp.fc2, first, second)
    scale, zero = grid(second)
    hidden = nn.functional.gelu(simulated(mlp.fc1, x, first))
    wanted = (hidden / scale + zero).round().clamp(0, 255)
    codes = fast.fc1(x)
    assert codes.dtype == torch.uint8
    assert (codes.double() - wanted).abs().max() <= 1
    assert (codes.double() != wanted).double().mean() < 0.05
    expected = simulated(mlp.fc2, (codes.double() - zero) * scale, second)
    torch.testing.assert_close(fast(x).double(), expected, atol=1e-4, rtol=1e-4)


@needs_int8
def test_only_plain_gelu_is_fused_and_layers_without_a_range_stay_float() -> None:
    torch.manual_seed(0)
    odd = Mlp(8, 8, act_layer=nn.ReLU).requires_grad_(False)
    row = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8), nn.Dropout())
    module = nn.ModuleDict({"odd": odd, "idle": nn.Linear(8, 8), "plain": Mlp(8, 8), "row": row})
    ranges = {f"{n}.{layer}": (-1.0, 1.0) for n in ("odd", "plain") for layer in ("fc1", "fc2")}
    ranges |= {"row.0": (-1.0, 1.0), "row.2": (-1.0, 1.0)}
    to_int8(module.requires_grad_(False), ranges)
    assert isinstance(module["plain"], Int8Mlp) and isinstance(module["row"], Int8Mlp)
    assert type(module["idle"]) is nn.Linear
    assert isinstance(module["odd"].fc1, Int8Linear) and module["odd"].fc1.gelu_span is None


def test_ranges_hold_every_input_and_zero(network: MultiExitNetwork, digits: Any) -> None:
    X = digits[0][:50]
    found = input_ranges(network.float_blocks, network.rows(X).batches(16))
    seen: dict[str, list[torch.Tensor]] = {}
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, []).append(inputs[0])
        )
        for name, module in network.float_blocks.named_modules()
        if suits_int8(module)
    ]
    state = network.start(X)
    for block in network.float_blocks:
        state = block(state)
    for handle in handles:
        handle.remove()
    assert set(found) == set(seen) and len(found) >= 12
    for name, inputs in seen.items():
        low, high = found[name]
        assert low == pytest.approx(min(0.0, float(inputs[0].min())), abs=1e-4)
        assert high == pytest.approx(max(0.0, float(inputs[0].max())), rel=1e-4)
    assert not any(module._forward_pre_hooks for module in network.float_blocks.modules())


# ---------------------------------------------------------------------- compile


@pytest.fixture(params=["torch", pytest.param("openvino", marks=needs_openvino)])
def compiled(
    network: MultiExitNetwork, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> MultiExitNetwork:
    """All three engines, whatever pays on the machine of the test."""
    speed = {"int8": 1.0, "bf16": 2.0, "fp32": 4.0}

    def times(runs: Any, states: Any, **options: Any) -> Any:
        return {name: np.full(len(states), speed.get(name.split()[0], 0.5)) for name in runs}

    monkeypatch.setattr(_compiling, "time_blocks", times)
    return copy.copy(network).compile(batch_size=4, runtime=request.param)


@needs_int8
def test_compiled_levels_answer_nearly_as_float_and_share_its_weights(
    compiled: MultiExitNetwork, network: MultiExitNetwork, digits: Any
) -> None:
    X = digits[0][:60]
    assert compiled.levels_ == device_engines(torch.device("cpu"))
    assert compiled.paths_.names[0] == "int8", "the first block may run on any engine"
    assert compiled.paths_.n_paths == 3 + 6 + 10
    table = np.asarray(MultiPathClassifierBank(compiled).transform(X))
    exact = compiled.paths_.index("fp32-fp32-fp32")
    state = network.start(X)
    for block in network.float_blocks:
        state = block(state)
    np.testing.assert_allclose(table[:, exact], network.head(state, 2, 8), atol=1e-5)
    assert np.abs(table - table[:, [exact]]).max() > 0
    mixed = compiled.paths_.index("fp32-bf16-int8")
    assert np.abs(table[:, mixed] - table[:, exact]).max() < 0.15
    own = {p.data_ptr() for p in network.float_blocks.parameters()}
    int8 = list(compiled.parts_.levels["int8"].parameters())
    # What OpenVINO compiles keeps weights of its own.
    assert bool(int8) == ("torch" in compiled.runtimes_["int8"])
    assert all(p.data_ptr() in own for p in int8)


@needs_int8
def test_a_compiled_network_routes_live_as_stored(compiled: MultiExitNetwork, digits: Any) -> None:
    X, y = digits
    bank = MultiPathClassifierBank(compiled, batch_size=50)
    stored = bank.materialize(X[:250])
    router = CostAwareRouter(0.2, random_state=0).fit(stored, y[:250])
    live, read = router.route(bank.transform(X[:250])), router.route(stored)
    # Groups of other sizes may sum in another order.
    assert np.mean(live.paths == read.paths) > 0.98
    assert set(live.counts) <= {f"block {b} at {e}" for b in (1, 2, 3) for e in ENGINES}


def test_an_engine_that_does_not_pay_is_left_out_with_a_message(
    network: MultiExitNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = {"int8": 1.0, "bf16": 9.0, "fp32": 4.0}
    monkeypatch.setattr(
        _compiling,
        "time_blocks",
        lambda runs, states: {name: np.full(len(states), speed[name.split()[0]]) for name in runs},
    )
    other = copy.copy(network)
    with pytest.warns(UserWarning, match=r"bf16 takes 27 ms .* \(fp32 12 ms\): bf16 is left out"):
        other.compile(("fp32", "bf16"))
    assert other.levels_ == ("fp32",)
    np.testing.assert_allclose(other.paths_.path_costs, [0.0625, 0.125, 0.1875])
    assert network.levels_ == (4, 8, 16), "the original stays"


def test_an_engine_that_is_the_fastest_at_one_block_stays() -> None:
    times = {"int8": [5.0, 1.0], "bf16": [3.0, 3.0], "fp32": [4.0, 9.0]}
    found = {name: np.array(values) for name, values in times.items()}
    assert _compiling._that_pay(found) == ["int8", "bf16", "fp32"]


def test_an_engine_that_is_faster_by_chance_does_not_pay() -> None:
    found = {"fp16": np.array([1.99, 3.0]), "bf16": np.array([2.0, 3.0])}
    with pytest.warns(UserWarning, match="fp16 is left out"):
        assert _compiling._that_pay(found) == ["bf16"]


def test_an_engine_that_overflows_is_left_out_with_a_message(
    network: MultiExitNetwork, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflowing(nn.Module):
        def forward(self, state: torch.Tensor) -> torch.Tensor:
            return state.float() * np.inf

    def build(engine: str, blocks: nn.ModuleList, ranges: Any, states: Any) -> nn.ModuleList:
        built = build_engine(engine, blocks, ranges, states)
        if engine == "bf16":
            built[1] = Overflowing()
        return built

    monkeypatch.setattr(_compiling, "build_engine", build)
    with pytest.warns(UserWarning, match="bf16 answers NaN or infinity after block 2"):
        kept = copy.copy(network).compile(
            ("bf16", "fp32"), calibration=digits[0][:5], runtime="torch"
        )
    assert kept.levels_ == ("fp32",)
    with (
        pytest.warns(UserWarning, match="bf16 is left out"),
        pytest.raises(ValueError, match="No engine is left"),
    ):
        copy.copy(network).compile(("bf16",), runtime="torch")


@needs_int8
def test_really_timed_engines_are_in_the_order_of_their_speed(network: MultiExitNetwork) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        kept = copy.copy(network).compile(batch_size=2)
    costs = kept.paths_.path_costs
    assert set(kept.levels_) <= set(ENGINES)
    assert (costs > 0).all()


@needs_int8
def test_a_compiled_network_survives_pickle_copy_and_file(
    compiled: MultiExitNetwork, make_backbone: Any, digits: Any, tmp_path: Any
) -> None:
    X = digits[0][:20]
    compiled.measure_costs((1, 8))
    want = np.asarray(MultiPathClassifierBank(compiled).transform(X))
    pickled = pickle.loads(pickle.dumps(compiled))  # our own bytes, made a line ago
    compiled.save(tmp_path / "network")
    loaded = MultiExitNetwork.load(tmp_path / "network", backbone=make_backbone())
    for other in (pickled, copy.deepcopy(compiled), loaded):
        np.testing.assert_array_equal(np.asarray(MultiPathClassifierBank(other).transform(X)), want)
        assert other.levels_ == compiled.levels_
        np.testing.assert_array_equal(other.latency_.blocks, compiled.latency_.blocks)
    assert loaded.latency_.machine == compiled.latency_.machine


@needs_int8
def test_latency_and_bit_operations_as_costs_of_a_bank(
    compiled: MultiExitNetwork, network: MultiExitNetwork
) -> None:
    with pytest.raises(ValueError, match="call network.measure_costs"):
        _ = MultiPathClassifierBank(compiled, path_costs="latency").paths_
    frame = compiled.measure_costs((1, 16))
    assert list(frame.columns) == [1, 16] and frame.attrs["unit"] == "ms"
    ms = compiled.path_costs("latency", batch_size=16)
    table = compiled.latency_
    path = compiled.paths_.index("fp32-int8-int8")
    expected = sum(
        float(table.milliseconds(block, level, 16)) / 16
        for block, level in enumerate(("fp32", "int8", "int8"))
    )
    assert ms[path] == pytest.approx(expected)
    tree = MultiPathClassifierBank(compiled, path_costs="latency").paths_
    np.testing.assert_allclose(tree.path_costs, compiled.path_costs("latency"))
    assert tree.cost_unit == compiled.paths_.cost_unit == "ms"
    bits = compiled.path_costs("bitops")
    flops = compiled.flops_
    assert bits[path] == pytest.approx(flops[0] * 32 + flops[1] * 8 + flops[2] * 8)
    np.testing.assert_allclose(
        network.path_costs("flops"), np.cumsum(flops)[network.paths_.depths - 1]
    )
    assert "bitops" in compiled.summary()


def test_a_processor_whose_int8_products_overflow_gets_none(
    network: MultiExitNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_engines, "int8_available", lambda: False)
    assert device_engines(torch.device("cpu")) == ("bf16", "fp32")
    with pytest.raises(ValueError, match=r"\['int8'\] do not run .* overflow"):
        network.compile(("int8", "fp32"))
    with pytest.raises(RuntimeError, match="or they overflow"):
        build_engine("int8", network.float_blocks, {})


def test_bad_input_says_what_to_do(
    network: MultiExitNetwork, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"distinct, of \('int8', 'fp8', 'fp16', 'bf16'"):
        network.compile(("int4",))
    with pytest.raises(ValueError, match="distinct"):
        check_engines((), ("int8", "fp32"))
    with pytest.raises(ValueError, match=r"\['fp16'\] do not run on this device"):
        network.compile(("fp16", "fp32"))
    with pytest.raises(ValueError, match=r"runtime must be one of \['auto', .* on cpu"):
        network.compile(runtime="graphs")
    with pytest.raises(ValueError, match="cannot be used here|network is on cpu"):
        network.compile(device="cuda:9")
    bare = copy.copy(network)
    bare.parts_ = replace(bare.parts_, ranges={})
    monkeypatch.setattr(_compiling, "device_engines", lambda device: ("int8", "bf16", "fp32"))
    with pytest.raises(ValueError, match="give calibration="):
        bare.compile()
    with pytest.raises(ValueError, match="holds no image"):
        network.compile(calibration=digits[0][:0])
    for bad in ((), (0,), (1.5,)):
        with pytest.raises(ValueError, match="batch_sizes"):
            network.measure_costs(bad)
    with pytest.raises(ValueError, match="threads must be"):
        network.measure_costs((1,), threads=0)
    with pytest.raises(ValueError, match="kind must be"):
        network.path_costs("dollars")
    with pytest.raises(ValueError, match="give path_costs, not step_costs"):
        MultiPathClassifierBank(network, step_costs="latency").fit(digits[0])
    half = copy.copy(network).compile(("fp32",))
    with pytest.raises(ValueError, match="are engines"):
        half.select_levels(*digits)


# ---------------------------------------------------------------------- OpenVINO


def test_the_layer_openvino_reads_is_the_simulation() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(12, 9).requires_grad_(False), torch.randn(40, 12)
    span = (float(x.min()), float(x.max()) * 0.8)
    found = FakeInt8Linear(linear, span)(x).double()
    wanted = simulated(linear, x, span)
    # Halves may round to the other side: one code of one input.
    assert (found - wanted).abs().max() <= grid(span)[0] * float(linear.weight.abs().max()) + 1e-5
    assert ((found - wanted).abs() > 1e-4).double().mean() < 0.05


@needs_openvino
@needs_int8
def test_openvino_runs_the_engine_that_torch_runs(network: MultiExitNetwork, digits: Any) -> None:
    X = digits[0][:40]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ours, theirs = (
            copy.copy(network).compile(("int8",), runtime=runtime, batch_size=16)
            for runtime in ("torch", "openvino")
        )
    assert theirs.runtimes_ == {"int8": ("openvino",) * 3}
    assert ours.runtimes_ == {"int8": ("torch",) * 3}
    table, other = (np.asarray(MultiPathClassifierBank(net).transform(X)) for net in (ours, theirs))
    np.testing.assert_allclose(other, table, atol=0.03)
    state, answer = theirs.run_exit(theirs.start(X), 0, "int8")
    np.testing.assert_array_equal(answer, other[:, theirs.paths_.index("int8")])
    np.testing.assert_allclose(theirs.head(state, 0, "int8"), answer, atol=1e-5)


@needs_openvino
@pytest.mark.parametrize("convolves", [True, False])
def test_openvino_answers_a_row_alone_as_among_others(convolves: bool) -> None:
    torch.manual_seed(0)
    block = nn.Conv2d(3, 8, 3, padding=1) if convolves else nn.Linear(6, 8)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if convolves else nn.Flatten()
    head = nn.Linear(8 if convolves else 24, 5)
    states = torch.randn(7, 3, 6, 6) if convolves else torch.randn(7, 3, 6)
    compiled = OpenVinoBlock("fp32", block, pool, head, {}, states)
    whole = compiled.run(states)
    for few in (1, 2, 3, 4):  # some of which run one by one
        kept = [part.clone() for part in compiled.run(states[:few])]
        compiled.run(states[few:])  # which must not change what was answered
        compiled.forget_one()
        for found, together in zip(kept, whole, strict=True):
            torch.testing.assert_close(found, together[:few], rtol=1e-4, atol=1e-5)
    assert [len(part) for part in compiled.run(states[:0])] == [0, 0]


@needs_openvino
def test_a_row_runs_on_the_graph_of_any_number_where_it_gets_none_of_its_own() -> None:
    options = {"img_size": 32, "depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 4}
    network = timm.create_model("xcit_nano_12_p8_224", **options).eval()
    block = cut_modules(network, ["blocks.0"], (3, 32, 32))[0][0]
    X = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = input_ranges(nn.ModuleList([block]), [X])
    ranges = {name.removeprefix("0."): span for name, span in found.items()}
    compiled = OpenVinoBlock("int8", block, nn.Identity(), nn.Identity(), ranges, X)
    with torch.inference_mode():
        together = compiled.run(X)[0]
        for few in (1, 2, 1):
            alone = compiled.run(X[:few])[0]
            torch.testing.assert_close(alone, together[:few], rtol=1e-4, atol=1e-5)


@needs_openvino
def test_other_heads_are_not_those_compiled_with_the_block(
    network: MultiExitNetwork, digits: Any
) -> None:
    state = network.start(digits[0][:6])
    net = copy.copy(network).compile(("fp32",), runtime="openvino", batch_size=4)
    heads = nn.ModuleList(copy.deepcopy(net.exit_heads))
    with torch.no_grad():
        heads[0].bias += torch.arange(10.0)
    other = net.with_paths(net.paths_, heads=heads)
    after, found = other.run_exit(state, 0, "fp32")
    np.testing.assert_array_equal(found, other.head(after, 0, "fp32"))
    assert np.abs(found - net.run_exit(state, 0, "fp32")[1]).max() > 0.1


@needs_openvino
def test_a_block_that_openvino_cannot_run_stays_with_torch(
    network: MultiExitNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: OpenVinoBlock, state: torch.Tensor) -> Any:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(OpenVinoBlock, "run", fail)
    net = copy.copy(network)
    with pytest.warns(UserWarning, match=r"run the blocks \[1, 2, 3\], torch does: no such"):
        net.compile(("fp32",), batch_size=2)
    assert net.runtimes_ == {"fp32": ("torch",) * 3}


@needs_openvino
@pytest.mark.parametrize("part", [0, 1])
def test_a_block_that_openvino_answers_wrongly_stays_with_torch(
    network: MultiExitNetwork, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    run = OpenVinoBlock.run

    def shuffled(self: OpenVinoBlock, state: torch.Tensor) -> Any:
        made = run(self, state)
        if len(state) > 1:  # rows of a batch only, and the first of them only
            made[part][0] = made[part][0].flip(-1)
        return made

    monkeypatch.setattr(OpenVinoBlock, "run", shuffled)
    net = copy.copy(network)
    with pytest.warns(UserWarning, match=r"torch does: in a batch of 2 it answers otherwise"):
        net.compile(("fp32",), batch_size=2)
    assert "openvino" not in net.runtimes_["fp32"]


def test_a_machine_without_openvino_loads_what_was_saved_with_it(
    compiled: MultiExitNetwork, make_backbone: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    compiled.save(tmp_path / "network")
    monkeypatch.setattr(_compiling, "openvino_available", lambda: False)
    found = nullcontext()
    if "openvino" in compiled.runtimes_["fp32"]:
        found = pytest.warns(UserWarning, match="call measure_costs again")
    with found:
        loaded = MultiExitNetwork.load(tmp_path / "network", backbone=make_backbone())
    assert set(loaded.runtimes_["fp32"]) == {"torch"}
    with pytest.raises(ImportError, match=r"pip install skquee\[openvino\]"):
        loaded.compile(("fp32",), runtime="openvino")
    with pytest.raises(ValueError, match="runtime must be"):
        loaded.compile(("fp32",), runtime="tensorrt")


# ---------------------------------------------------------------------- groups


@needs_int8
def test_few_rows_join_a_dearer_group_where_that_is_faster(
    compiled: MultiExitNetwork, digits: Any
) -> None:
    X, tree = digits[0][:40], compiled.paths_
    with pytest.raises(ValueError, match="merge_groups=True needs measured times"):
        MultiPathClassifierBank(compiled, merge_groups=True).transform(X)
    sizes, levels = (1, 40), compiled.levels_
    # A run takes a millisecond and as good as nothing for each row: whoever joins is free.
    flat = np.ones((3, 3, 2)) + np.array([0.0, 0.01, 0.02])[None, :, None]
    compiled.parts_ = replace(
        compiled.parts_, latency=LatencyTable(levels, sizes, flat, np.zeros(2), 1, "here")
    )
    walk = MultiPathClassifierBank(compiled, merge_groups=True).transform(X).walk()
    cheap, dear = tree.index("int8"), tree.index("fp32")
    goal = np.array([cheap] * 3 + [dear] * 37)
    assert (walk.merge(goal) == dear).all() and (goal[:3] == cheap).all()
    assert (walk.merge(goal[:3]) == cheap).all(), "nobody to join"
    inner = np.array([tree.index("int8-int8"), tree.index("fp32-fp32")])
    assert tree.names[walk.merge(inner)[0]] in ("int8-int8", "int8-fp32")
    # Time by the row: apart is as good.
    steep = np.stack([flat[..., 0] / 40, flat[..., 0]], axis=-1)
    compiled.parts_ = replace(
        compiled.parts_, latency=LatencyTable(levels, sizes, steep, np.zeros(2), 1, "here")
    )
    walk = MultiPathClassifierBank(compiled, merge_groups=True).transform(X).walk()
    np.testing.assert_array_equal(walk.merge(goal), goal)
    plain = MultiPathClassifierBank(compiled).transform(X).walk()
    np.testing.assert_array_equal(plain.merge(goal), goal)


@needs_int8
def test_routes_tell_what_merged_rows_ran(compiled: MultiExitNetwork, digits: Any) -> None:
    X, y = digits
    flat = np.ones((3, 3, 2))
    compiled.parts_ = replace(
        compiled.parts_,
        latency=LatencyTable(compiled.levels_, (1, 40), flat, np.zeros(2), 1, "here"),
    )
    bank = MultiPathClassifierBank(compiled, merge_groups=True)
    router = CostAwareRouter(0.2, random_state=0).fit(bank.materialize(X[:200]), y[:200])
    routes = router.route(bank.transform(X[:60]))
    for step, n_rows in routes.counts.items():
        block, level = int(step.split()[1]) - 1, step.split()[-1]
        there = routes.visited[:, block]
        assert n_rows == sum(compiled.paths_.levels[path] == level for path in there[there >= 0])


# ---------------------------------------------------------------------- times


def table() -> LatencyTable:
    blocks = np.array([[[1.0, 5.0], [2.0, 12.0]], [[3.0, 3.0], [4.0, 8.0]]])
    gates = np.array([0.01, 0.02])
    return LatencyTable(("int8", "fp32"), (1, 5), blocks, gates, 1, "here")


def test_what_deciding_takes_is_learned_from_routed_batches() -> None:
    rng = np.random.default_rng(0)
    counts = [
        {f"block {block + 1} at {level}": int(rng.integers(1, 9)) for block in range(depth)}
        for depth in (1, 2, 3)
        for level in ("int8", "fp32")
        for _ in range(2)
    ]
    blocks = np.concatenate([table().blocks, table().blocks[:1]])
    bare = replace(table(), blocks=blocks)
    judged = [[n for step, n in batch.items() if "block 3" not in step] for batch in counts]
    took = [
        bare.predict(batch) + 0.7 + 0.2 * len(rows) + 0.03 * sum(rows)
        for batch, rows in zip(counts, judged, strict=True)
    ]
    known = bare.calibrated(counts, took)
    assert known.start == pytest.approx(0.7)
    np.testing.assert_allclose(known.gates, bare.gates + 0.2 + 0.03 * np.array([1, 5]))
    np.testing.assert_allclose([known.predict(batch) for batch in counts], took)
    assert LatencyTable.from_dict(known.to_dict()).start == known.start
    # Nothing is negative, where batches took less than their blocks.
    quick = bare.calibrated(counts, [0.5 * bare.predict(batch) for batch in counts])
    assert quick.start == 0 and np.array_equal(quick.gates, bare.gates)
    for bad in ([], [1.0], [-1.0] * len(counts)):
        with pytest.raises(ValueError, match="one for each of 12 counts"):
            bare.calibrated(counts, bad)


def test_times_are_straight_lines_between_and_beyond_the_measured_sizes() -> None:
    found = table().milliseconds(0, "int8", [0, 1, 3, 5, 9])
    np.testing.assert_allclose(found, [0, 1.01, 3.015, 5.02, 5.02 + 4 * (5.02 - 1.01) / 4])
    assert table().milliseconds(1, "fp32", 5) == pytest.approx(8.0), "no gate after the last"
    assert table().predict({"block 1 at fp32": 5, "block 2 at int8": 1}) == pytest.approx(
        12.02 + 3.0
    )
    with pytest.raises(ValueError, match="level must be one of"):
        table().milliseconds(0, "bf16", 1)
    with pytest.raises(ValueError, match="keyed like"):
        table().predict({"first": 3})


def test_a_table_survives_json() -> None:
    again = LatencyTable.from_dict(table().to_dict())
    np.testing.assert_array_equal(again.blocks, table().blocks)
    assert again.levels == ("int8", "fp32") and again.batch_sizes == (1, 5)


def test_engines_built_alone_run_in_their_type(network: MultiExitNetwork, digits: Any) -> None:
    state = network.start(digits[0][:3])
    types = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    for engine, dtype in types.items():
        block = build_engine(engine, network.float_blocks, {})[0]
        with torch.inference_mode():
            assert block(state).dtype == dtype


def test_features_of_a_bfloat16_path_are_floats_its_heads_read(
    network: MultiExitNetwork, digits: Any
) -> None:
    half = copy.copy(network).compile(("bf16",))
    features = half.features(digits[0][:30], ("bf16",) * 3)
    assert all(x.dtype == torch.float32 for x in features)
    answers = half.exit_heads[2](features[2]).softmax(dim=1).numpy()
    whole = MultiPathClassifierBank(half).transform(digits[0][:30]).path("bf16-bf16-bf16")
    np.testing.assert_allclose(answers, whole, atol=1e-5)


def test_quantize_after_compile_goes_back_to_bit_widths(
    network: MultiExitNetwork, digits: Any
) -> None:
    other = copy.copy(network).compile(("fp32",))
    other.measure_costs((1,))
    other.quantize((4, 8), calibration=digits[0][:32], method=UniformPTQ())
    assert other.levels_ == (4, 8) and not hasattr(other, "latency_")
    assert other.select_levels(*digits, max_drop=1.0).levels_


@needs_int8
def test_int8_takes_the_scales_that_a_quantiser_searched(
    network: MultiExitNetwork, digits: Any
) -> None:
    searched = copy.copy(network).quantize((8,), calibration=digits[0][:64], method=PTQ4ViT())
    quantized = dict(searched.parts_.levels[8].named_modules())
    uniform = {
        name: module.input_grid
        for name, module in quantized.items()
        if isinstance(module, QuantizedLinear) and isinstance(module.input_grid, UniformGrid)
    }
    twins = [
        name
        for name, module in quantized.items()
        if isinstance(module, QuantizedLinear) and name not in uniform
    ]
    assert uniform and twins
    searched.compile(("int8",), runtime="torch")
    for name, found in uniform.items():
        low, high = searched.parts_.ranges[name]
        assert (high - low) / 255 == pytest.approx(float(found.scale))
        x = torch.linspace(-3 * high, 3 * high, 1001)
        step = (high - low) / 255
        ours = ((x / step).round() - round(low / step)).clamp(0, 255) + round(low / step)
        torch.testing.assert_close(ours, found.codes(x))
    for name in twins:
        assert searched.parts_.ranges[name] == network.parts_.ranges[name]
    plain = copy.copy(network)
    plain.parts_ = replace(plain.parts_, levels={})  # nothing was quantised
    assert plain.compile(("int8",), runtime="torch").parts_.ranges == network.parts_.ranges
