"""Benchmarks of the quantisers: one command prints every figure.

Run ``python examples/benchmarks/quantization.py`` (about 25 minutes on one core; set
``OMP_NUM_THREADS=1`` where other work runs beside it), or name the parts wanted:
``accuracy shortcuts large``. ``--images 2000`` tests on fewer images.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _data import data_folder, load_images

from skquee.networks import BasePTQ, PTQ4ViT, UniformPTQ

MEAN, STD = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]]).view(2, 3, 1, 1)


class Embed(nn.Module):
    """Images to the tokens the first layer takes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.tokens_to_token = model.tokens_to_token
        self.cls_token, self.pos_embed = model.cls_token, model.pos_embed

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.tokens_to_token(images)
        return torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), 1) + self.pos_embed


class Head(nn.Module):
    """Tokens to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.norm, self.head = model.norm, model.head

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(tokens)[:, 0])


def t2t_vit_7() -> tuple[nn.ModuleList, nn.Module]:
    """Return the CIFAR-10 network as one block, and its head."""
    model = timm.create_model("t2t_vit_7", img_size=64, num_classes=10)
    state = load_file(data_folder("t2t_vit_7_cifar10") / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    model.eval().requires_grad_(False)
    return nn.ModuleList([nn.Sequential(Embed(model), *model.blocks)]), Head(model)


def prepare(images: np.ndarray) -> Tensor:
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return F.interpolate((values - MEAN) / STD, (64, 64), mode="bicubic", align_corners=False)


def calibration_images() -> Tensor:
    images, _ = load_images("cifar10", "train")
    order = np.random.default_rng(0).permutation(len(images))
    return prepare(images[order[5000:5128]])  # the first 5,000 are the checkpoint's validation


def logits_of(blocks: nn.ModuleList, head: nn.Module, images: np.ndarray) -> Tensor:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), 200):
            state = prepare(images[start : start + 200])
            for block in blocks:
                state = block(state)
            parts.append(head(state))
    return torch.cat(parts)


def report(name: str, logits: Tensor, exact: Tensor, y: np.ndarray, seconds: float = 0.0) -> None:
    answers = logits.argmax(1)
    accuracy = 100 * float((answers.numpy() == y).mean())
    agreement = 100 * float((answers == exact.argmax(1)).float().mean())
    error = float((logits - exact).square().mean())
    print(
        f"{name:<44} accuracy {accuracy:5.2f} %  agrees with float {agreement:6.2f} %  "
        f"squared error of logits {error:7.4f}  {seconds:6.1f} s",
        flush=True,
    )


def accuracy(n_images: int) -> None:
    """T2T-ViT-7 at 64 x 64, 128 calibration images, every operation at one width."""
    (blocks, head), calibration = t2t_vit_7(), calibration_images()
    images, y = (part[:n_images] for part in load_images("cifar10", "test"))
    exact = logits_of(blocks, head, images)
    report("float", exact, exact, y)
    for bits in (8, 6, 5, 4):
        for method in (UniformPTQ(), BasePTQ(), PTQ4ViT()):
            start = time.perf_counter()
            quantized = method.quantize(blocks, calibration, [bits], head=head)[bits]
            seconds = time.perf_counter() - start
            name = f"{type(method).__name__}, {bits} bits"
            report(name, logits_of(quantized, head, images), exact, y, seconds)


def shortcuts(n_images: int) -> None:
    """What the coarse search and the choice of rows cost against trying all on all."""
    (blocks, head), calibration = t2t_vit_7(), calibration_images()[:32]
    images, y = (part[:n_images] for part in load_images("cifar10", "test"))
    exact = logits_of(blocks, head, images)
    for bits in (6, 4):
        for options in (
            {"stride": 1, "max_rows": None},
            {"stride": 1, "max_rows": 512},
            {"max_rows": None},
            {"max_rows": 512},
        ):
            start = time.perf_counter()
            method = PTQ4ViT(**options)
            quantized = method.quantize(blocks, calibration, [bits], head=head)[bits]
            seconds = time.perf_counter() - start
            report(f"{bits} bits, {options}", logits_of(quantized, head, images), exact, y, seconds)


def large(n_images: int) -> None:
    """ViT-S/16 at 224 x 224 with random weights, 32 images: time and memory."""
    del n_images
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("vit_small_patch16_224").eval().requires_grad_(False)
        nn.init.normal_(model.head.weight, std=0.02)  # timm's starts at zero
        images = torch.randn(32, 3, 224, 224)
    tokens = (model.patch_embed, Positions(model))
    block = nn.Sequential(*tokens, *model.blocks)
    start = time.perf_counter()
    PTQ4ViT().quantize([block], images, [6], head=Head(model))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"ViT-S/16, 32 images, 6 bits: {seconds:.0f} s, peak {peak:.2f} GiB", flush=True)


class Positions(nn.Module):
    """Patches to tokens with positions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = model.cls_token, model.pos_embed

    def forward(self, patches: Tensor) -> Tensor:
        return torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), 1) + self.pos_embed


PARTS = {"large": large, "accuracy": accuracy, "shortcuts": shortcuts}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=" ".join(PARTS))
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        PARTS[part](options.images)
