"""Products that code takes by functions: reached, quantised, restored, or refused by name."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from skquee.networks import MatMul
from skquee.networks.quantization import PTQ4ViT, UniformPTQ, describe, restore
from skquee.networks.quantization._functional import Functional
from skquee.networks.quantization._operations import (
    explicit_copies,
    float_name,
    operations,
    searched_ranges,
)
from skquee.networks.quantization._routes import running

WIDTH = 8


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """Code of somebody's own, between two layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.spare = nn.Linear(WIDTH, WIDTH)
        self.filters = nn.Parameter(randn(WIDTH, 1, 3))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.function(self, self.first(x)))


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, -1)).transpose(1, 2)


def attend(own: Own, x: Tensor, **options) -> Tensor:
    q = heads(x)
    return F.scaled_dot_product_attention(q, q, q, **options).transpose(1, 2).flatten(2)


def mask(own: Own, x: Tensor) -> Tensor:
    return attend(own, x, attn_mask=torch.eye(x.shape[1], dtype=torch.bool), scale=0.3)


KINDS = {
    "operator": (lambda own, x: (x @ x.mT).softmax(-1) @ x, 2),
    "matmul": (lambda own, x: torch.matmul(x, torch.linalg.matmul(x.mT, x)), 2),
    "bmm": (lambda own, x: torch.bmm(x, x.mT.bmm(x)), 2),
    "baddbmm": (lambda own, x: torch.baddbmm(x, x @ x.mT, x, beta=0.5, alpha=0.1), 2),
    "einsum": (lambda own, x: torch.einsum("nik, njk -> nij", x, x) @ x, 2),
    "einsum of heads": (
        lambda own, x: torch.einsum("nhid,nhjd->nhij", heads(x), heads(x)).mean(1) @ x,
        2,
    ),
    "einsum that turns": (lambda own, x: torch.einsum("nik,nil->lkn", x, x).mean() * x, 1),
    "vector": (lambda own, x: (x @ x[0, 0]).unsqueeze(-1) * x, 1),
    "parameter right": (lambda own, x: x @ own.spare.weight, 1),
    "parameter left": (lambda own, x: (own.spare.weight @ x.mT).mT, 1),
    "linear of a layer": (lambda own, x: F.linear(x, own.spare.weight, own.spare.bias), 1),
    "linear of a part": (lambda own, x: F.linear(x, own.spare.weight[:4]).repeat(1, 1, 2), 1),
    "linear of activations": (lambda own, x: F.linear(x, x[0].T @ x[0]), 2),
    "attention": (attend, 2),
    "masked attention": (mask, 2),
    "causal attention": (lambda own, x: attend(own, x, is_causal=True), 2),
    "conv1d": (lambda own, x: F.conv1d(x.mT, own.filters, None, 1, 1, 1, WIDTH).mT, 1),
    "standardised conv2d": (
        lambda own, x: (
            F.conv2d(
                x.mT.unsqueeze(2),
                (own.filters / own.filters.std()).unsqueeze(2),
                None,
                padding=(0, 1),
                groups=WIDTH,
            )
            .squeeze(2)
            .mT
        ),
        1,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_functions_are_quantised(kind: str) -> None:
    torch.manual_seed(0)
    function, n_products = KINDS[kind]
    block, x = nn.Sequential(Own(function)).requires_grad_(False), randn(6, 5, WIDTH)
    (explicit,) = explicit_copies([block], x[:2])
    assert [name for name, _ in operations(explicit)] == [
        *("0.module.first", "0.module.last", "0.module.spare"),
        *(f"0.own_products.{k}" for k in range(n_products)),
    ]
    exact = block(x)
    torch.testing.assert_close(explicit(x), exact)
    for method in (UniformPTQ(), PTQ4ViT(max_rows=64)):
        by_level = method.quantize([block], x, (2, 8), head=nn.Flatten())
        errors = [(by_level[b][0](x) - exact).square().mean().sqrt() for b in (2, 8)]
        assert 0 < errors[1] < 0.05 * exact.std() and errors[1] < errors[0]
        products = by_level[8][0][0].own_products
        assert all(type(product).__name__.startswith("Quantized") for product in products)
        restored = restore([block], describe(by_level[8]), x[3:4])
        restored.load_state_dict(by_level[8].state_dict())
        for again in (restored, copy.deepcopy(by_level[8])):
            assert torch.equal(again[0](x), by_level[8][0](x))
    assert running.stack == []


def test_each_product_is_rounded_and_nothing_else_is() -> None:
    block, x = Own(lambda own, x: x @ x.mT @ x).requires_grad_(False), randn(4, 5, WIDTH)
    quantized = UniformPTQ().quantize([block], x, (3,))[3][0]
    first, last, products = quantized.module.first, quantized.module.last, quantized.own_products
    inner = first(x)
    wanted = last(x + products[1](products[0](inner, inner.mT), inner))
    assert torch.equal(quantized(x), wanted)


def test_torchs_attention_and_encoder_layers_are_quantised() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
            self.other = nn.MultiheadAttention(WIDTH, 2, bias=False, kdim=4, vdim=4)
            self.encoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), 2
            )

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.zeros(len(x), 5, dtype=torch.bool)
            hidden[:, 4] = True
            y, weights = self.attention(x, x, x, key_padding_mask=hidden)
            assert weights.shape == (len(x), 5, 5)
            z, none = self.other(y, x[..., :4], x[..., :4], need_weights=False)
            assert none is None
            return self.encoder(z)

    net, x = Net().eval().requires_grad_(False), randn(6, 5, WIDTH)
    (explicit,) = explicit_copies([net], x[:2])
    names = [name for name, _ in operations(explicit)]
    counts = {
        part: sum(n.startswith(f"{part}.own") for n in names) for part in dict(net.named_children())
    }
    assert counts == {"attention": 4, "other": 6, "encoder": 0}
    assert sum("encoder" in n and "own_products" in n for n in names) == 2 * 4
    with torch.no_grad():
        exact = net(x)
        torch.testing.assert_close(explicit(x), exact)
        found = UniformPTQ().quantize([net], x, (8,))[8][0]
        assert 0 < (found(x) - exact).std() < 0.1 * exact.std()


def test_a_traced_graph_and_modules_inside_one_another_keep_their_own_products() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.layer = Own(lambda own, x: x @ x.mT @ x), nn.Linear(WIDTH, WIDTH)
            self.product = MatMul()

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(self.inner(x) @ x.mT @ x)
            return self.product(y, y.mT) @ x

    outer, x = Outer().requires_grad_(False), randn(6, 5, WIDTH)
    for block in (outer, fx.symbolic_trace(outer)):
        (explicit,) = explicit_copies([block], x[:2])
        assert isinstance(explicit, Functional) and explicit.layer is explicit.module.layer
        torch.testing.assert_close(explicit(x), outer(x))
        by_level = UniformPTQ().quantize([block], x, (8,))
        found, exact = by_level[8][0](x), outer(x)
        assert 0 < (found - exact).std() < 0.05 * exact.std()
        assert f"0.{float_name(explicit, 'module.layer')}" == "0.layer"
        assert "0.layer" in searched_ranges(by_level[8])


def test_quantised_blocks_run_in_threads_and_pickle() -> None:
    encoder = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True).eval()
    x = randn(6, 5, WIDTH)
    block = UniformPTQ().quantize([nn.Sequential(encoder.requires_grad_(False))], x, (8,))[8][0]
    block = pickle.loads(pickle.dumps(block))  # our own bytes, made a line ago
    wanted, found = block(x), {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: block(x)})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(torch.equal(out, wanted) for out in found.values())


def test_a_weight_that_is_read_beside_the_layer_is_that_of_its_codes() -> None:
    layer, x = nn.Linear(WIDTH, 4).requires_grad_(False), randn(6, WIDTH)
    rounded = UniformPTQ().quantize([nn.Sequential(layer)], x, (8,))[8][0][0]
    assert rounded.weight.device == layer.weight.device
    step = layer.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((rounded.weight - layer.weight).abs() <= 0.51 * step).all()


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda own, x: torch.tensordot(x, x[0], dims=1), r"multiplies by tensordot\(\)"),
        (lambda own, x: x[0].clone().addmm_(x[0], x[0, :1].mT @ x[0, :1]) + x, r"addmm_\(\)"),
        (lambda own, x: torch.einsum("nii->ni", x[:, :, :5]).mean() * x, "einsum"),
        (lambda own, x: torch.einsum("nij,nkl->nj", x, x)[:, None], "einsum"),
        (lambda own, x: attend(own, x, dropout_p=0.5), "with dropout"),
        (
            lambda own, x: F.conv2d(x[:2][None], x[:2, None, :2, :2].repeat(1, 2, 1, 1)).mean() * x,
            "weights depend on the input",
        ),
        (lambda own, x: torch.matmul(x, x.mT, out=torch.empty(len(x), 5, 5)) @ x, "with out="),
        (
            lambda own, x: F.conv_transpose1d(x.mT, own.filters.mT.mT[:, :, :1]).mean() * x,
            "conv_tr",
        ),
    ],
)
def test_what_cannot_be_quantised_is_refused_by_name(function, what: str) -> None:
    block = nn.Sequential(nn.Identity(), Own(function).requires_grad_(False))
    with pytest.raises(TypeError, match="Layer '1', a Own, multiplies by .*cannot be") as error:
        UniformPTQ().quantize([block], randn(6, 5, WIDTH), (8,))
    assert error.match(what) and error.match("float_products = True")
    with pytest.raises(TypeError, match="a recurrent layer"):
        UniformPTQ().quantize([nn.Sequential(nn.GRU(WIDTH, 4))], randn(6, 5, WIDTH), (8,))


def test_products_that_are_to_stay_float_do() -> None:
    block, x = Own(lambda own, x: torch.tensordot(x, x[0].T, dims=1) @ x[0]), randn(6, 5, WIDTH)
    block.requires_grad_(False).float_products = True
    found = UniformPTQ().quantize([block], x, (8,))[8][0]
    assert type(found) is Own and type(found.first).__name__ == "QuantizedLinear"


def test_other_products_at_each_call_are_refused() -> None:
    class Turning(Own):
        turn = 0

        def forward(self, x: Tensor) -> Tensor:
            Turning.turn += 1
            return super().forward(x @ x.mT @ x if Turning.turn % 2 else x)

    block, x = Turning(lambda own, x: x @ x.mT @ x).requires_grad_(False), randn(6, 5, WIDTH)
    with pytest.raises(TypeError, match="other products at each call"):
        UniformPTQ().quantize([block], x, (8,))
    steady = Own(lambda own, x: x if own.skip else x @ x.mT @ x).requires_grad_(False)
    steady.skip = False
    found = UniformPTQ().quantize([steady], x, (8,))[8][0]
    found.module.skip = True
    with pytest.raises(RuntimeError, match="took 2 products when it was quantised and 0"):
        found(x)
    assert running.stack == []


def test_a_description_of_own_products_needs_images() -> None:
    block, x = Own(lambda own, x: x @ x.mT @ x).requires_grad_(False), randn(6, 5, WIDTH)
    described = describe(UniformPTQ().quantize([block], x, (8,))[8])
    with pytest.raises(ValueError, match="give images="):
        restore([block], described)
