"""What runs on a GPU, its logic on a CPU: which engines, 8-bit layers, and blocks by graphs."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from skquee.networks.engines._cuda import (
    MOST,
    GraphedBlock,
    Run,
    cuda_engines,
    filled,
    has_8_bit_layers,
    torchao_available,
    with_8_bits,
)
from skquee.networks.engines._engines import Cast, check_engines, device_engines

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
is_available = torch.cuda.is_available  # before the tests hide the GPU


class Tape:
    """Records a block as a graph does: the same memory read and filled at each replay."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, run: Run, static: Tensor) -> tuple[Callable[[], None], list[Tensor]]:
        self.sizes.append(len(static))
        answers = [answer.clone() for answer in run(static)]

        def replay() -> None:
            for answer, found in zip(answers, run(static), strict=True):
                answer.copy_(found)

        return replay, answers


class Mean(nn.Module):
    def forward(self, state: Tensor) -> Tensor:
        return state.mean(dim=1)


def make_block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)).eval()


@pytest.mark.parametrize(
    ("capability", "torchao", "expected"),
    [
        ((7, 5), True, ("fp16", "fp32")),  # bfloat16 is emulated before Ampere
        ((8, 0), True, ("int8", "fp16", "bf16", "fp32")),
        ((8, 6), False, ("fp16", "bf16", "fp32")),
        ((8, 9), True, ("int8", "fp8", "fp16", "bf16", "fp32")),
        ((9, 0), True, ("int8", "fp8", "fp16", "bf16", "fp32")),
    ],
)
def test_a_gpu_gets_the_engines_it_has_kernels_for(
    capability: tuple[int, int], torchao: bool, expected: tuple[str, ...]
) -> None:
    runs = cuda_engines(capability, torchao)
    assert runs == check_engines(None, runs) == expected
    assert check_engines(("fp32", "fp16"), runs) == ("fp16", "fp32")
    if "fp8" not in runs:
        with pytest.raises(ValueError, match=r"\['fp8'\] do not run on this device.*torchao"):
            check_engines(("fp8",), runs)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=6))
def test_a_graphed_block_answers_as_the_block_for_any_number_of_rows(sizes: list[int]) -> None:
    block, tape = make_block(), Tape()
    graphed = GraphedBlock(block, capture=tape)
    random = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        given_, found = [], []
        for n in sizes:
            given_.append(torch.randn(n, 3, 16, generator=random))
            found.append(graphed(given_[-1]))
        for state, answer in zip(given_, found, strict=True):  # no later replay has changed them
            torch.testing.assert_close(answer, block(state))
    assert tape.sizes == list(dict.fromkeys(filled(n) for n in sizes if n <= MOST))


def test_a_graph_wastes_little_and_few_serve_all_numbers_of_rows() -> None:
    sizes = [filled(n) for n in range(1, MOST + 1)]
    assert len(set(sizes)) == 19 and sizes == sorted(sizes)
    assert all(n <= size < max(2 * n, 2) for n, size in enumerate(sizes, start=1))
    assert all(size <= 1.25 * n for n, size in enumerate(sizes, start=1) if n > 64)


def test_a_graph_answers_with_the_exit_too() -> None:
    block, head, tape = make_block(), nn.Linear(16, 4).eval(), Tape()
    graphed = GraphedBlock(block, Mean(), head, capture=tape)
    assert graphed.exit_head is head and GraphedBlock(block).exit_head is None
    x = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        state, answer = graphed.run(x)
        torch.testing.assert_close(state, block(x))
        torch.testing.assert_close(answer, head(block(x).mean(dim=1)).softmax(dim=1))
        graphed(x)  # without the exit: another graph
    assert tape.sizes == [8, 8]
    # The exit is not the block's own: neither its weights nor its name.
    assert not [name for name, _ in graphed.named_parameters() if not name.startswith("block.")]
    again = pickle.loads(pickle.dumps(GraphedBlock(block, Mean(), head)))
    assert again.exit_head is not None


def test_a_graph_serves_one_type_and_shape() -> None:
    tape = Tape()
    graphed = GraphedBlock(Cast(nn.Identity(), torch.float32), capture=tape)
    for shape, dtype in (
        ((4, 2), torch.float32),
        ((4, 2), torch.bfloat16),
        ((4, 3), torch.float32),
    ):
        graphed(torch.ones(shape, dtype=dtype))
        graphed(torch.ones(shape, dtype=dtype))
    assert tape.sizes == [4, 4, 4]


def test_graphs_are_not_pickled() -> None:
    graphed = GraphedBlock(make_block())
    graphed._graphs = {"any": (torch.zeros(1), print, [torch.zeros(1)])}
    again = pickle.loads(pickle.dumps(graphed))
    assert again._graphs == {} and copy.deepcopy(graphed)._graphs == {}
    x = torch.randn(3, 16)
    torch.testing.assert_close(again.block(x), graphed.block(x))


@pytest.mark.parametrize("version", ["2.6.0+cu124", "2.10.1"])
def test_torchao_is_not_at_hand_with_a_torch_too_old_for_it(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch, "__version__", "2.11.0a0+there")
    assert torchao_available()
    monkeypatch.setattr(torch, "__version__", version)
    assert not torchao_available()


@pytest.mark.skipif(not torchao_available(), reason="needs torchao: pip install skquee[cuda]")
def test_8_bit_layers_are_near_the_float_ones() -> None:
    blocks = nn.ModuleList([make_block(), nn.Linear(16, 10)])
    made = with_8_bits(blocks, "int8")
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = blocks[0](x)
        found = made[0](x.to(torch.bfloat16)).float()
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())
    assert not torch.equal(found, expected)
    # Ten columns suit no 8-bit kernel: the layer stays in bfloat16.
    assert type(made[1].weight) is nn.Parameter and made[1].weight.dtype == torch.bfloat16
    assert type(made[0][0].weight.data) is not Tensor
    assert blocks[0][0].weight.dtype == torch.float32


def test_layers_that_suit_8_bit_products_have_multiples_of_16_columns() -> None:
    assert has_8_bit_layers(nn.ModuleList([nn.Conv2d(16, 16, 3), make_block()]))
    odd = nn.ModuleList([nn.Conv2d(16, 16, 3), nn.Linear(16, 10), nn.Linear(12, 16)])
    assert not has_8_bit_layers(odd)


@gpu
def test_engines_of_this_gpu_answer_as_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    from skquee.networks.engines import build_engine

    blocks: Any = nn.ModuleList([make_block()]).cuda()
    x = torch.randn(37, 5, 16).cuda()
    with torch.inference_mode():
        expected = blocks[0](x).cpu().numpy()
        for engine in device_engines(torch.device("cuda")):
            (built,) = build_engine(engine, blocks, {})
            # torchao's int8 product waits for the device, which no graph can record.
            for run in (built,) if engine == "int8" else (built, GraphedBlock(built)):
                found = run(x).float().cpu().numpy()
                assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max(), engine
