from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from skquee.networks import UniformPTQ
from skquee.networks.backbones._checkpoint import load_checkpoint, read_checkpoint
from skquee.networks.backbones._modules import cut_modules
from skquee.networks.backbones._sharing import copy_sharing_weights


class Gated(nn.Module):
    """A layer whose control flow depends on values: torch.fx cannot trace it."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else x


class Small(nn.Module):
    """All that a forward may hold between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.position = nn.Parameter(torch.randn(6))
        self.register_buffer("scale", torch.rand(6) + 0.5)
        self.first, self.second, self.third = Gated(), Gated(), Gated()
        self.unused = nn.Linear(6, 6)
        self.layers = nn.ModuleList([self.third])
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor, scaled: bool = True, name: str | None = None) -> Tensor:
        offset = self.position * 2
        x = self.first(self.embed(x) + offset)
        x = self.act(x)
        if scaled and name is None:
            x = x * self.scale + torch.arange(6)
        x = self.second(x)
        x = self.act(F.dropout(x, 0.5, training=self.training)) + offset
        return self.head(F.gelu(self.third(x)).view(-1, 6))


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.stride, self.pad = 1 if n_in == n_out else 2, (n_out - n_in) // 2
        self.conv1 = nn.Conv2d(n_in, n_out, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class CifarResNet(nn.Module):
    def __init__(self, n_blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (n_in, n_out) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            blocks = [Block(n_in if i == 0 else n_out, n_out) for i in range(n_blocks)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def chain(pieces: tuple[nn.ModuleList, nn.Module], x: Tensor) -> Tensor:
    blocks, tail = pieces
    with torch.inference_mode():
        for block in blocks:
            x = block(x)
        return tail(x)


def whole(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return module(x)


def make_small() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


def inputs(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


SMALL_CUTS = [["first"], ["embed", "second"], ["first", "second", "third"], ["third", "head"]]


@pytest.mark.parametrize("names", SMALL_CUTS)
def test_blocks_and_tail_in_a_row_give_the_output_of_the_module(names):
    module, x = make_small(), inputs(5, 4)
    pieces = cut_modules(module, names)
    assert len(pieces[0]) == len(names)
    assert torch.equal(chain(pieces, x), whole(module, x))
    assert torch.equal(chain(pieces, x[:1]), whole(module, x[:1]))  # no batch size is kept


def test_functional_operations_stay_in_the_piece_where_they_run():
    module, x = make_small(), inputs(5, 4)
    blocks, tail = cut_modules(module, ["first", "second"])
    with torch.inference_mode():
        first = module.first(module.embed(x) + module.position * 2)
        second = module.second(F.relu(first) * module.scale + torch.arange(6))
        assert torch.equal(blocks[0](x), first)
        assert torch.equal(blocks[1](first), second)
        third = module.third(F.relu(second) + module.position * 2)
        assert torch.equal(tail(second), module.head(F.gelu(third)))


def test_parameters_and_constants_go_to_the_pieces_that_use_them():
    blocks, tail = cut_modules(make_small(), ["first", "second", "third"])
    tensors = [
        {name for name, _ in (*piece.named_parameters(), *piece.named_buffers())}
        for piece in (*blocks, tail)
    ]
    of = {"first.linear.weight", "first.linear.bias"}
    assert tensors[0] == {"embed.weight", "embed.bias", "position"} | of
    assert "scale" in tensors[1] and "position" not in tensors[1]
    assert "position" in tensors[2] and "scale" not in tensors[2]
    assert tensors[3] == {"head.weight", "head.bias"}


def test_a_tensor_made_in_forward_moves_with_its_piece():
    blocks, _ = cut_modules(make_small(), ["first", "second"])
    moved = copy.deepcopy(blocks[1]).to("meta")
    assert {tensor.device.type for tensor in moved.state_dict().values()} == {"meta"}
    assert any(name.startswith("_tensor_constant") for name in moved.state_dict())


def test_the_module_is_left_as_it_was():
    module = make_small().train()
    names = [name for name, _ in module.named_modules()]
    state, attributes = set(module.state_dict()), set(vars(module))
    blocks, _ = cut_modules(module, ["first", "second"])
    blocks[0].set_submodule("embed", nn.Identity())
    blocks[0].set_submodule("first.linear", nn.Identity())
    assert module.training and module.first.training
    assert [name for name, _ in module.named_modules()] == names
    assert (set(module.state_dict()), set(vars(module))) == (state, attributes)
    assert isinstance(module.first.linear, nn.Linear)


def test_pieces_run_in_evaluation_mode_whatever_mode_the_module_is_in():
    module, x = make_small(), inputs(5, 4)
    expected = whole(module, x)
    blocks, tail = pieces = cut_modules(module.train(), ["layers.0"])
    assert not any(part.training for piece in (blocks, tail) for part in piece.modules())
    assert torch.equal(chain(pieces, x), expected)


def test_weights_are_those_of_the_module_also_in_copies():
    module = make_small()
    own = {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    blocks, tail = cut_modules(module, ["first", "second"])
    for pieces in ((*blocks, tail), (*copy_sharing_weights(blocks), copy_sharing_weights(tail))):
        for piece in pieces:
            tensors = {**dict(piece.named_parameters()), "scale": getattr(piece, "scale", None)}
            assert {t.data_ptr() for t in tensors.values() if t is not None} <= own
    with torch.no_grad():
        module.embed.weight.zero_()
    assert not blocks[0].embed.weight.any()


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        copy_sharing_weights,
        lambda pieces: pickle.loads(pickle.dumps(pieces)),
        lambda pieces: copy.deepcopy(pickle.loads(pickle.dumps(pieces))),
    ],
)
def test_copies_and_pickles_give_the_same(copied):
    module, x = make_small(), inputs(5, 4)
    blocks, tail = cut_modules(module, ["first", "second"])
    together = copied(nn.ModuleList([*blocks, tail]))
    assert torch.equal(chain((together[:2], together[2]), x), whole(module, x))
    layers = [part for part in together.modules() if part is not together]
    # Exactly nn.Module: an empty holder of dotted names, which computes nothing.
    assert not any(layer.training for layer in layers if type(layer) is not nn.Module)


def test_a_piece_leaves_the_state_it_was_given_as_it_was():
    module = nn.Sequential(nn.Linear(3, 3), nn.Hardswish(inplace=True), nn.Linear(3, 3)).eval()
    blocks, tail = cut_modules(module, ["0"])
    with torch.inference_mode():
        state = blocks[0](inputs(4, 3))
        before = state.clone()
        first = tail(state)
        assert torch.equal(state, before)
        assert torch.equal(tail(state), first)


def test_names_in_a_piece_are_those_in_the_module():
    blocks, tail = cut_modules(resnet18(weights=None), ["layer1", "layer4"])
    assert isinstance(blocks[0].get_submodule("layer1.0.conv1"), nn.Conv2d)
    layers = [n for n, m in blocks[1].named_modules() if isinstance(m, nn.Conv2d)]
    assert layers[0] == "layer2.0.conv1" and layers[-1] == "layer4.1.conv2"
    assert [n for n, _ in tail.named_children()] == ["avgpool", "fc"]


def test_layers_inside_a_piece_can_be_replaced():
    module, x = make_small(), inputs(5, 4)
    blocks, tail = cut_modules(module, ["first", "second"])
    for piece in (*blocks, tail):
        for name, layer in list(piece.named_modules()):
            if isinstance(layer, nn.Linear):
                piece.set_submodule(name, nn.Linear(layer.in_features, layer.out_features))
    changed = chain((blocks, tail), x)
    assert not torch.allclose(changed, whole(module, x))
    assert torch.equal(chain(pickle.loads(pickle.dumps((blocks, tail))), x), changed)


def test_pieces_can_be_quantised():
    module, x = resnet18(weights=None, num_classes=5).eval(), inputs(2, 3, 32, 32)
    blocks, tail = cut_modules(module, ["layer2", "layer4"])
    levels = UniformPTQ().quantize(blocks, x, [4, 16])
    expected = whole(module, x)
    errors = [(chain((levels[bits], tail), x) - expected).abs().max() for bits in (4, 16)]
    assert errors[1] < 1e-2 * expected.abs().max()
    assert errors[0] > errors[1]
    assert isinstance(module.layer1[0].conv1, nn.Conv2d)


@pytest.mark.parametrize(
    "names", [["layer1", "layer2", "layer3", "layer4"], ["layer3.0"], ["conv1", "avgpool", "fc"]]
)
def test_a_torchvision_resnet_is_cut(names):
    module, x = resnet18(weights=None, num_classes=7).eval(), inputs(2, 3, 48, 48)
    assert torch.equal(chain(cut_modules(module, names), x), whole(module, x))


def test_a_sequential_is_cut_at_any_depth():
    inner = nn.Sequential(nn.Linear(4, 6), Gated(), nn.ReLU())
    module, x = nn.Sequential(inner, Gated(), nn.Linear(6, 3)).eval(), inputs(5, 4)
    for names in (["0"], ["0.0", "1"], ["0.1", "1", "2"]):
        assert torch.equal(chain(cut_modules(module, names), x), whole(module, x))


def test_a_timm_transformer_is_cut(make_backbone: Callable[..., VisionTransformer]):
    module, x = make_backbone(), inputs(2, 1, 8, 8)
    assert torch.equal(chain(cut_modules(module, ["blocks.0", "blocks.2"]), x), whole(module, x))


@pytest.mark.parametrize("names", [["layer1", "layer2", "layer3"], ["bn1", "layer1", "layer3.4"]])
def test_a_trained_resnet_keeps_its_logits_and_accuracy(
    names: list[str], shared_data: Callable[[str], Any]
):
    network = CifarResNet(9).eval()
    (file,) = shared_data("weights_cifar10_resnet").glob("resnet56-*.th")
    load_checkpoint(network, read_checkpoint(file), source=file.name)
    with np.load(shared_data("cifar10") / "cifar10_test_webp.npz") as archive:
        ends, labels = archive["offsets"][:201], archive["labels"][:200]
        data = archive["data"][: ends[-1]].tobytes()
    pixels = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(data[start:stop])).convert("RGB"))
            for start, stop in zip(ends, ends[1:], strict=False)
        ]
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    logits = chain(cut_modules(network, names), images)
    assert torch.equal(logits, whole(network, images))
    assert np.mean(logits.argmax(dim=1).numpy() == labels) > 0.9


# ---------------------------------------------------------------------- what is refused


class Skip(nn.Module):
    """A skip connection around two layers, and a size taken early."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        stem = self.stem(x)
        return self.c((self.b(F.relu(self.a(stem))) + stem).view(n, -1))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.b(self.a(x)))


class OfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.a(x) * mask


class ToTwo(OfTwo):
    def forward(self, x: Tensor) -> Any:
        return self.a(x), x


class Branching(OfTwo):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else x


class Constant(OfTwo):
    def forward(self, x: Tensor) -> Tensor:
        self.a(x)
        return self.a.bias * 2


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))


@pytest.mark.parametrize(
    ("make", "names", "message"),
    [
        (sequential, [], "names is empty"),
        (sequential, ["7"], "no submodule '7'; Sequential holds '0', '1', '2'"),
        (sequential, [""], "no submodule ''"),
        (sequential, ["2.5"], "no submodule '2.5'; '2' holds '0', '1'"),
        (sequential, ["1.x"], "'1' holds none"),
        (sequential, ["1", "0"], r"in the order they run, \['0', '1'\], got \['1', '0'\]"),
        (sequential, ["0", "0"], "one submodule twice: '0' and '0'"),
        (sequential, ["2.0", "2"], "'2.0' lies inside '2'"),
        (Small, ["third", "layers.0"], "twice: 'third' and 'layers.0'"),
        (Small, ["layers"], "'layers' is never called .* of a ModuleList, its last element"),
        (Small, ["unused"], "'unused' is never called when Small runs"),
        (Small, ["act"], "'act' is called 2 times"),
        (Twice, ["a", "b"], "'a' is called 2 times"),
        (Skip, ["stem"], r"2 values .* 'stem': the result 'size' of size, needed by 'view'"),
        (Skip, ["a"], "3 values .* the output of 'stem', needed by 'add'; the output of 'a'"),
        (OfTwo, ["a"], "must take one tensor, but it takes x: 'Tensor', mask: 'Tensor'"),
        (ToTwo, ["a"], "must return one tensor, but it returns a tuple"),
        (Constant, ["a"], "Nothing that depends on the input is used after 'a'"),
        (
            Branching,
            ["a"],
            r"cannot trace this module \(TraceError: symbolically traced variables .*the "
            "Branching itself.* nn.Sequential",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(make, names, message):
    with pytest.raises(ValueError, match=message):
        cut_modules(make(), names)


@pytest.mark.parametrize(
    ("module", "names", "message"),
    [
        ("resnet18", ["layer1"], "module must be a torch Module, got a str"),
        (nn.Sequential(), "layer1", "names must be a sequence of str, got 'layer1'"),
        (nn.Sequential(), [1], r"names must be a sequence of str, got \[1\]"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(module, names, message):
    with pytest.raises(TypeError, match=message):
        cut_modules(module, names)


def test_long_lists_of_submodules_are_shortened_in_the_error():
    module = nn.Sequential(*(nn.ReLU() for _ in range(30)))
    with pytest.raises(ValueError, match=r"'19', \.\.\.\.$"):
        cut_modules(module, ["relu"])
