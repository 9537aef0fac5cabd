"""What runs on a GPU, its logic on a CPU: which engines, 8-bit layers, and blocks by graphs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from skquee.networks.engines._cuda import GraphedBlock, cuda_engines, with_8_bits
from skquee.networks.engines._engines import Cast, check_engines, device_engines

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Tape:
    """Records a block as a graph does: the same memory read and filled at each replay."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, block: nn.Module, static: Tensor) -> tuple[Callable[[], None], Tensor]:
        self.sizes.append(len(static))
        answer = block(static).clone()

        def replay() -> None:
            answer.copy_(block(static))

        return replay, answer


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
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_a_graphed_block_answers_as_the_block_for_any_number_of_rows(sizes: list[int]) -> None:
    block, tape = make_block(), Tape()
    graphed = GraphedBlock(block, tape)
    random = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        given_, found = [], []
        for n in sizes:
            given_.append(torch.randn(n, 3, 16, generator=random))
            found.append(graphed(given_[-1]))
        for state, answer in zip(given_, found, strict=True):  # no later replay has changed them
            torch.testing.assert_close(answer, block(state))
    assert tape.sizes == list(dict.fromkeys(1 << (n - 1).bit_length() for n in sizes))


def test_a_graph_serves_one_type_and_shape() -> None:
    tape = Tape()
    graphed = GraphedBlock(Cast(nn.Identity(), torch.float32), tape)
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
    graphed._graphs = {"any": (torch.zeros(1), print, torch.zeros(1))}
    again = pickle.loads(pickle.dumps(graphed))
    assert again._graphs == {} and copy.deepcopy(graphed)._graphs == {}
    x = torch.randn(3, 16)
    torch.testing.assert_close(again.block(x), graphed.block(x))


def test_8_bit_layers_are_near_the_float_ones() -> None:
    pytest.importorskip("torchao", reason="8 bits on a GPU need torchao: pip install skquee[cuda]")
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


@gpu
def test_engines_of_this_gpu_answer_as_the_block() -> None:
    from skquee.networks.engines import build_engine

    blocks: Any = nn.ModuleList([make_block()]).cuda()
    x = torch.randn(37, 5, 16).cuda()
    with torch.inference_mode():
        expected = blocks[0](x).cpu().numpy()
        for engine in device_engines(torch.device("cuda")):
            (built,) = build_engine(engine, blocks, {})
            for run in (built, GraphedBlock(built)):
                found = run(x).float().cpu().numpy()
                assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max(), engine
