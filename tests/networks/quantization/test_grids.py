from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skquee.networks.quantization._grids import (
    GELU_MINIMUM,
    GELUGrid,
    Grid,
    SoftmaxGrid,
    UniformGrid,
)
from skquee.networks.quantization._operations import QuantizedLinear


def literal_softmax(x, split, bits):
    """One range a value: below the split on the fine step, else on the coarse."""
    high = 1 / (2 ** (bits - 1) - 1)
    low = split * high
    codes = np.where(x < split, np.round(x / low), np.round(x / high))
    return np.clip(codes, 0, 2 ** (bits - 1) - 1) * np.where(x < split, low, high)


def literal_gelu(x, step, bits):
    half = 2 ** (bits - 1)
    power = 0
    while step / 2 ** (power + 1) * half >= GELU_MINIMUM:
        power += 1
    low = step / 2**power
    negative = np.clip(np.round(x / low), -half, 0) * low
    return np.where(x < 0, negative, np.clip(np.round(x / step), 0, half - 1) * step)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("exponent", [0, 1, 4, 10])
def test_the_softmax_twin_is_the_literal_piecewise_form(bits, exponent):
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 4
    split = torch.tensor(2.0**-exponent, dtype=torch.float64)
    grid = SoftmaxGrid.split(split, bits)
    np.testing.assert_allclose(grid(x).numpy(), literal_softmax(x.numpy(), split.item(), bits))
    assert torch.equal(grid.codes(x), grid.codes(x).round())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("step", [0.001, 0.04, 0.7])
def test_the_gelu_twin_is_the_literal_form_and_covers_the_minimum(bits, step):
    x = nn.functional.gelu(2 * torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    x = x.double()
    grid = GELUGrid.above(torch.tensor(step, dtype=torch.float64), bits)
    np.testing.assert_allclose(grid(x).numpy(), literal_gelu(x.numpy(), step, bits), atol=1e-12)
    assert torch.equal(grid.codes(x), grid.codes(x).round())
    reach = grid.scale * 2 ** (bits - 1)
    power = torch.log2(grid.ratio)
    assert power == power.round() and power >= 0
    if power > 0:
        assert GELU_MINIMUM <= reach < 2 * GELU_MINIMUM


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_a_grid_without_sign_is_the_literal_formula(bits):
    x = 3 * torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = 2.5 / (2**bits - 1)
    expected = np.clip(np.round(x.numpy() / scale), 0, 2**bits - 1)
    grid = UniformGrid(torch.tensor(scale, dtype=torch.float64), bits, signed=False)
    np.testing.assert_array_equal(grid.codes(x).numpy(), expected)


@pytest.mark.parametrize(
    "grid",
    [
        UniformGrid(torch.full((3, 1, 1), 0.1), 5, signed=False),
        SoftmaxGrid.split(torch.tensor(0.125), 4),
        GELUGrid.above(torch.tensor(0.2), 6),
    ],
    ids=lambda grid: type(grid).__name__,
)
def test_a_grid_comes_back_from_its_description_and_buffers(grid):
    restored = Grid.placeholder(json.loads(json.dumps(grid.describe())))
    restored.load_state_dict(grid.state_dict())
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(restored.codes(x), grid.codes(x))
    assert type(restored).__name__ in repr(restored) and f"bits={grid.bits}" in repr(restored)


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from(["uniform", "softmax", "gelu"]),
    bits=st.integers(2, 8),
    rows=st.integers(1, 40),
    seed=st.integers(0, 2**16),
)
def test_outputs_do_not_depend_on_how_rows_are_batched(kind, bits, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 128, generator=generator)
    layer = nn.Linear(128, 24, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(24, 128, generator=generator))
    if kind == "uniform":
        grid: Grid = UniformGrid.over(x.abs().amax(), bits)
    elif kind == "softmax":
        x, grid = x.softmax(dim=-1), SoftmaxGrid.split(torch.tensor(2.0**-6), bits)
    else:
        x = nn.functional.gelu(x)
        grid = GELUGrid.above(x.amax() / 2 ** (bits - 1), bits)
    weight = UniformGrid.over(layer.weight.detach().abs().amax(dim=1, keepdim=True), bits)
    quantized = QuantizedLinear(layer, weight, grid)
    with torch.no_grad():
        alone = torch.cat([quantized(row) for row in x.split(1)])
        assert torch.equal(quantized(x), alone)
