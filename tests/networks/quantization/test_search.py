from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skquee.networks.quantization import _search
from skquee.networks.quantization._grids import UniformGrid
from skquee.networks.quantization._products import Factors, importance, output_as, take
from skquee.networks.quantization._search import (
    Product,
    coarse_to_fine,
    cosine_errors,
    search,
    softmax_candidates,
    squared_errors,
    uniform_candidates,
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def literal_round(x, scale, bits):
    return np.clip(np.round(x / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def all_numbers(candidates):
    groups, rows = candidates.shape
    return torch.arange(candidates.n).view(1, -1, 1).expand(groups, -1, rows)


@pytest.mark.parametrize("chunk", [2**20, 50])  # whole, and in many parts
@pytest.mark.parametrize("errors", [squared_errors, cosine_errors])
def test_errors_of_input_scales_are_the_literal_sums(errors, chunk, monkeypatch):
    monkeypatch.setattr(_search, "CHUNK", chunk)
    x, w, g = randn(20, 6), randn(4, 6, seed=1), randn(20, 4, seed=2)
    product = Product(x[None, None], w.T[None, None], g[None, None])
    candidates = uniform_candidates(x.abs().amax().view(1, 1), 4, (0.5, 1.2), 7)
    fixed = w.round()  # any rounded weight
    found = errors(product, candidates, fixed.T[None, None], all_numbers(candidates))
    for number, part in enumerate(np.linspace(0.5, 1.2, 7)):
        scale = part * float(x.abs().amax()) / (2**3 - 0.5)
        out, target = literal_round(x.numpy(), scale, 4) @ fixed.numpy().T, (x @ w.T).numpy()
        if errors is squared_errors:
            expected = np.sum(g.numpy() ** 2 * (out - target) ** 2)
        else:
            lengths = np.linalg.norm(out, axis=1) * np.linalg.norm(target, axis=1)
            expected = -np.sum((out * target).sum(axis=1) / np.maximum(lengths, 1e-30))
        np.testing.assert_allclose(found[0, number, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("chunk", [2**20, 50])
def test_errors_of_a_weight_are_summed_for_each_channel(chunk, monkeypatch):
    monkeypatch.setattr(_search, "CHUNK", chunk)
    x, w, g = randn(20, 6), randn(4, 6, seed=1), randn(20, 4, seed=2)
    product = Product(x[None, None], w.T[None, None], g[None, None]).transposed
    candidates = uniform_candidates(w.abs().amax(dim=1)[None], 3, (0.01, 1.2), 5)
    found = squared_errors(product, candidates, x.T[None, None], all_numbers(candidates))
    for channel in range(4):
        for number, part in enumerate(np.linspace(0.01, 1.2, 5)):
            row = w[channel].numpy()
            rounded = literal_round(row, part * np.abs(row).max() / (2**2 - 0.5), 3)
            error = (x.numpy() @ rounded - x.numpy() @ row) * g[:, channel].numpy()
            np.testing.assert_allclose(found[0, number, channel], np.sum(error**2), rtol=1e-4)


def test_heads_have_errors_of_their_own(monkeypatch):
    monkeypatch.setattr(_search, "CHUNK", 100)
    left, right = randn(5, 2, 3, 4).softmax(dim=-1), randn(5, 2, 4, 6, seed=1)
    candidates = softmax_candidates(torch.ones(2, 1), 4)
    found = squared_errors(Product(left, right), candidates, right, all_numbers(candidates))
    for head in range(2):
        alone = softmax_candidates(torch.ones(1, 1), 4)
        part = Product(left[:, head : head + 1], right[:, head : head + 1])
        expected = squared_errors(part, alone, part.right, all_numbers(alone))
        torch.testing.assert_close(found[head], expected[0])


@pytest.mark.parametrize("best", [0, 3, 41, 99])
def test_the_coarse_search_ends_at_the_minimum_of_a_smooth_error(best):
    seen = []

    def errors(numbers):
        seen.append(numbers.shape[1])
        return (numbers - best).double() ** 2

    start = torch.zeros(1, 1, dtype=torch.int64)
    assert coarse_to_fine(errors, 100, start, stride=20, near=False).item() == best
    assert sum(seen) < 25
    near = coarse_to_fine(errors, 100, torch.tensor([[max(best - 9, 0)]]), stride=20, near=True)
    assert near.item() == best
    assert coarse_to_fine(errors, 100, start, stride=1, near=False).item() == best


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_the_coarse_search_is_nearly_as_good_as_trying_all(bits):
    x, w = randn(300, 32) * torch.linspace(0.2, 3, 32), randn(24, 32, seed=1)
    product = Product(x[None, None], w.T[None, None], randn(300, 24, seed=2)[None, None])
    sides = (
        uniform_candidates(x.abs().amax().view(1, 1), bits, (0.01, 1.2), 100),
        uniform_candidates(w.abs().amax(dim=1)[None], bits, (0.01, 1.2), 100),
    )
    error = {}
    for stride in (1, 20):
        numbers = search(
            product, *sides, errors=squared_errors, rounds=3, stride=stride, left_first=False
        )
        rounded = sides[1].quantise(product.transposed.left, numbers[1].unsqueeze(1)).squeeze(2)
        total = squared_errors(product, sides[0], rounded.mT, numbers[0].unsqueeze(1))
        error[stride] = total.item()
    assert error[20] <= 1.05 * error[1]


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"groups": 2, "dilation": 2},
        {"groups": 4, "padding": "same", "kernel_size": 3},
        {"padding": "valid", "bias": False},
    ],
)
def test_a_convolution_is_the_product_of_its_patches(options):
    convolution = nn.Conv2d(4, 8, **{"kernel_size": (3, 2), **options})
    x = randn(3, 4, 9, 8)
    with torch.no_grad():
        out = convolution(x)
        if convolution.bias is not None:
            out -= convolution.bias.view(-1, 1, 1)
    factors = Factors.of(convolution, [x])
    product = factors.left @ Factors.weight(convolution)
    torch.testing.assert_close(product, output_as(convolution, out))


def test_rows_are_drawn_by_their_gradient_and_sums_stay_unbiased():
    x, gradient = randn(400, 5), randn(400, 3, seed=1) * 0.01
    gradient[7] = 5.0  # a class token
    factors, g = Factors(x[None, None], None), gradient[None, None]
    exact = (gradient.square() * x[:, :3].square()).sum()
    estimates = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        rows, weight = importance(factors, g, 40, generator)
        left, _, kept = take(factors, g, rows)
        assert len(rows) == 40 and 7 in rows
        estimates.append((weight * kept.square() * left[..., :3].square()).sum())
    mean, spread = torch.stack(estimates).mean(), torch.stack(estimates).std()
    assert abs(mean - exact) < 4 * spread / 200**0.5 + 1e-6 * exact
    assert spread < 0.1 * exact  # far less than with equal chances
    assert importance(factors, g, 400, torch.Generator()) == (None, None)


def test_scales_of_weights_do_not_depend_on_chunks(monkeypatch):
    x, w = randn(64, 8), randn(40, 8, seed=1)
    chosen = []
    for chunk in (2**20, 600):
        monkeypatch.setattr(_search, "CHUNK", chunk)
        product = Product(x[None, None], w.T[None, None])
        sides = (
            uniform_candidates(x.abs().amax().view(1, 1), 4, (0.01, 1.2), 100),
            uniform_candidates(w.abs().amax(dim=1)[None], 4, (0.01, 1.2), 100),
        )
        chosen.append(
            search(product, *sides, errors=squared_errors, rounds=2, stride=8, left_first=False)
        )
    assert all(torch.equal(a, b) for a, b in zip(*chosen, strict=True))
    assert UniformGrid  # grids are those of the modules
