from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from skquee.networks.backbones._matmul import MatMul
from skquee.networks.quantization import PTQ4ViT, UniformPTQ
from skquee.networks.quantization._calibration import cut_units, sample_labels, walk
from skquee.networks.quantization._operations import QuantizedConv2d, explicit_copy


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def blocks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 5))
        return nn.ModuleList([first, nn.Sequential(nn.Linear(5, 4))])


@pytest.fixture
def head():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(4, 3)


def test_gradients_are_those_of_the_loss_at_labels_the_model_draws(blocks, head):
    x = randn(10, 6)
    explicit = nn.ModuleList(explicit_copy(block) for block in blocks)
    seen = {}
    units = cut_units(explicit)
    options = {"random_state": 5, "batch_size": 4, "max_rows": float("inf")}
    for _, observed in walk(units, x, range(len(units)), head=head, **options):
        seen.update(observed)
    assert list(seen) == ["1.0", "0.2", "0.0"]  # the last unit first

    hidden = [x]
    for layer in [*explicit[0], *explicit[1]]:
        hidden.append(layer(hidden[-1]))
        hidden[-1].retain_grad()
    logits = head(hidden[-1])
    generator = torch.Generator().manual_seed(5)
    labels = torch.cat([sample_labels(part, generator) for part in logits.split(4)])
    F.cross_entropy(logits, labels, reduction="sum").backward()
    for name, place in (("0.0", 1), ("0.2", 3), ("1.0", 4)):
        gradient = torch.cat(seen[name].gradient, dim=2)[0, 0]
        torch.testing.assert_close(gradient, hidden[place].grad)
        left = torch.cat(seen[name].left, dim=2)[0, 0]
        torch.testing.assert_close(left, hidden[place - 1].detach())


def test_labels_follow_the_probabilities_of_the_model():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).expand(4000, 3)
    labels = sample_labels(logits, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.bincount(labels) / 4000, [0.7, 0.2, 0.1], atol=0.03)


@pytest.mark.parametrize("method", [UniformPTQ(), PTQ4ViT()])
def test_all_levels_share_the_runs_of_the_float_blocks(method, blocks, head):
    runs = []
    hook = blocks[0][0].register_forward_hook(lambda *_: runs.append(1))
    counts = []
    for levels in ([8], [3, 4, 5, 6, 8]):
        runs.clear()
        method.quantize(blocks, randn(16, 6), levels, head=head)
        counts.append(len(runs))
    hook.remove()
    assert counts[0] == counts[1] <= 1 + 2  # one of two images, to see what products there are


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("method", [UniformPTQ(), PTQ4ViT()])
def test_a_value_that_is_not_finite_names_its_layer(method, with_head, blocks, head):
    with torch.no_grad():
        blocks[0][0].bias[0] = float("inf")
    message = "(input of layer '2'|output of unit '0.0') holds NaN or infinity"
    with pytest.raises(ValueError, match=message):
        method.quantize(blocks, randn(4, 6), [8], head=head if with_head else None)


def test_a_gradient_that_is_not_finite_names_its_layer(blocks, head):
    class Cusp(nn.Module):  # finite, with an infinite slope where it is 0
        def forward(self, x):
            return x + (0 * x).abs().sqrt()

    blocks[1] = nn.Sequential(nn.Linear(5, 4), Cusp())
    with pytest.raises(ValueError, match="loss gradient at the output of layer '0' holds NaN"):
        PTQ4ViT().quantize(blocks, randn(30, 6), [8], head=head)


@pytest.mark.parametrize("method", [UniformPTQ(), PTQ4ViT()])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.ones(3, 6), "All 3 calibration images are the same"),
        (torch.ones(0, 6), "hold no image"),
        (torch.full((1, 6), float("nan")), "images hold NaN"),
    ],
)
def test_images_that_tell_nothing_are_refused(method, images, message, blocks):
    with pytest.raises(ValueError, match=message):
        method.quantize(blocks, images, [8])


@pytest.mark.parametrize("levels", [[1], [32], [4.5]])
def test_levels_that_are_no_bit_widths_are_refused(levels, blocks):
    with pytest.raises(ValueError, match="whole numbers of bits from 2 to 31"):
        UniformPTQ().quantize(blocks, randn(3, 6), levels)


def test_any_module_is_a_block_and_a_traced_one_too():
    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

        def forward(self, x):
            return x + self.second(torch.relu(self.first(x)))

    stage, x = Stage().eval(), randn(8, 2, 6, 6)
    for block in (stage, fx.symbolic_trace(stage)):
        for method in (UniformPTQ(), PTQ4ViT()):
            quantized = method.quantize([block], x, [8])[8][0]
            assert isinstance(quantized.second, QuantizedConv2d)
            error = (quantized(x) - stage(x)).square().mean() / stage(x).square().mean()
            assert error < 1e-3


def test_a_block_may_be_one_operation():
    x = randn(8, 6)
    layer = nn.Linear(6, 4)
    quantized = PTQ4ViT().quantize([layer], x, [8])[8][0]
    assert (quantized(x) - layer(x)).abs().max() < 0.1


def test_what_the_loss_does_not_depend_on_is_still_quantised(head):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.product = nn.Linear(6, 4), nn.Linear(6, 4), MatMul()

        def forward(self, x):
            self.unused(x)
            return self.used(x)

    block, x = Aside(), randn(8, 6)
    quantized = PTQ4ViT().quantize([block], x, [8], head=head)[8][0]
    assert (quantized.unused(x) - block.unused(x)).abs().max() < 0.1
    assert type(quantized.product) is MatMul  # has not run
