"""What becomes of networks of many families: the table of docs/appendix/families.rst.

``python tests/networks/families.py`` measures all anew and rewrites docs/appendix/families.csv
(minutes); with names, only their rows. A test measures a few and compares.
"""

from __future__ import annotations

import argparse
import csv
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ
from skquee.networks.backbones._modules import cut_modules
from skquee.networks.backbones._pools import make_pools, run_once

TABLE = Path(__file__).parents[2] / "docs" / "appendix" / "families.csv"
SIZE, N_CLASSES, N_IMAGES = 64, 4, 12


@dataclass(frozen=True)
class Family:
    """One network: what builds it, where it is cut, and how wide the states are by its own word."""

    name: str
    make: Callable[[], nn.Module]
    cuts: tuple[str, ...]
    widths: tuple[int, ...] | None = None


HEADER = (
    "Network", "Cut after", "States", "Features", "MFLOPs", "Layers' own count", "At 8 bits",
    "At 4 bits", "int8", "Whole output",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    network: str
    cuts: str
    states: str
    widths: str
    mflops: str
    counted_otherwise: str
    at_8_bits: str
    at_4_bits: str
    int8: str
    output: str


# ---------------------------------------------------------------------- families


def _timm(name: str, *at: int, **options: Any) -> Family:
    """Take a network of timm, cut after some of the stages that it names itself."""

    def make() -> nn.Module:
        return timm.create_model(name, num_classes=N_CLASSES, **options)

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stages = make().feature_info
    stages = [stages[k] for k in (at or (len(stages) // 2, len(stages) - 1))]
    cuts = tuple(stage["module"] for stage in stages)
    return Family(name, make, cuts, tuple(stage["num_chs"] for stage in stages))


def _torchvision(name: str, *cuts: str, **options: Any) -> Family:
    def make() -> nn.Module:
        return torchvision.models.get_model(name, weights=None, num_classes=N_CLASSES, **options)

    return Family(f"torchvision {name}", make, cuts)


SIZED: dict[str, Any] = {"img_size": SIZE}
FAMILIES: dict[str, Callable[[], Family]] = {}


def _add(make: Callable[..., Family], name: str, *args: Any, **options: Any) -> None:
    key = name if make is _timm else f"torchvision {name}"
    FAMILIES[key] = lambda: make(name, *args, **options)


for _name in (
    "resnet18 resnext50_32x4d seresnet50 regnety_002 densenet121 vgg11_bn dla34 res2net50_14w_8s "
    "mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_lite0 "
    "efficientnet_b0 tf_efficientnetv2_b0 mnasnet_small ghostnet_100 repvgg_a0 mobileone_s0 "
    "convnext_atto convnextv2_atto inception_next_atto edgenext_xx_small poolformer_s12 "
    "caformer_s18 fastvit_t8 repvit_m1 starnet_s1 mambaout_femto sequencer2d_s nf_regnet_b0 "
    "mobilevit_xxs davit_tiny pvt_v2_b0 focalnet_tiny_srf tresnet_m csatv2"
).split():
    _add(_timm, _name)
for _name in (
    "swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 coatnet_nano_rw_224 hiera_tiny_224 "
    "levit_128s mixer_s32_224 gmlp_ti16_224 resmlp_12_224 volo_d1_224 nest_tiny "
    "vit_tiny_patch16_224 deit3_small_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224 "
    "vit_small_patch16_dinov3 xcit_nano_12_p8_224"
).split():
    _add(_timm, _name, **SIZED)
_add(_torchvision, "resnet18", "layer2", "layer4")
_add(_torchvision, "convnext_tiny", "features.3", "features.7")
_add(_torchvision, "swin_t", "features.1", "features.7")
_add(_torchvision, "shufflenet_v2_x0_5", "stage3", "conv5")
_add(_torchvision, "squeezenet1_1", "features.7", "features.12")
_add(
    _torchvision, "vit_b_32", "encoder.layers.encoder_layer_5", "encoder.layers.encoder_layer_11",
    image_size=SIZE,
)  # fmt: skip


# ---------------------------------------------------------------------- another count


class Counting(TorchFunctionMode):
    """Counts FLOPs where layers are called, by the formula of each: no operator is looked at.

    Written apart from the counter of skquee, which sees what torch runs in the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("linear", "matmul", "__matmul__", "bmm", "mm", "__rmatmul__"):
            left = args[1] if name == "__rmatmul__" else args[0]
            self.flops += 2 * made.numel() * left.shape[-1]
        elif name in ("conv1d", "conv2d", "conv3d"):
            self.flops += 2 * made.numel() * math.prod(args[1].shape[1:])
        elif name == "scaled_dot_product_attention":
            query, key, value = args[:3]
            pairs = math.prod(query.shape[:-1]) * key.shape[-2]
            self.flops += 2 * pairs * (query.shape[-1] + value.shape[-1])
        elif name == "multi_head_attention_forward":
            query, key = args[0], args[1]
            n, m, width = query[..., 0].numel(), key[..., 0].numel(), query.shape[-1]
            self.flops += 2 * width * width * (2 * n + 2 * m)
            self.flops += 4 * n * key.shape[0] * width
        elif name == "einsum":
            self.flops += _einsum(args[0], *args[1:])
        elif name == "lstm":
            steps = args[0].shape[0] * args[0].shape[1]
            weights = [w for w in args[2] if w.ndim == 2]
            self.flops += 2 * steps * sum(w.numel() for w in weights)
        return made


def _einsum(equation: str, *operands: Any) -> int:
    tensors = operands[0] if len(operands) == 1 else operands
    if len(tensors) != 2:
        return 0
    sizes: dict[str, int] = {}
    for letters, tensor in zip(equation.split("->")[0].split(","), tensors, strict=True):
        sizes |= dict(zip(letters.strip(), tensor.shape, strict=True))
    return 2 * math.prod(sizes.values())


def count_otherwise(module: nn.Module, image: Tensor) -> int:
    """Return the FLOPs of a module on one image, by the formulas of its layers."""
    with torch.inference_mode(), Counting() as counting:
        module(image)
    return counting.flops


# ---------------------------------------------------------------------- one network


def measure(family: Family) -> Row:
    """Fit, quantise, compile and run a network, and say what became of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = family.make().eval().requires_grad_(False)
    generator = np.random.default_rng(0)
    X = generator.integers(0, 256, (N_IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    y = np.arange(N_IMAGES) % N_CLASSES
    trainer = HeadTrainer(max_epochs=0, final_head="keep")
    network = MultiExitNetwork(
        module, blocks=family.cuts, img_size=SIZE, trainer=trainer, random_state=0
    ).fit(X, y)
    images = network.start(X[:2])
    blocks, tail = cut_modules(module, family.cuts, tuple(images.shape[1:]))
    states = run_once(blocks, images[:1], family.cuts)
    pools = make_pools("auto", blocks, tail, states, family.cuts)
    widths = tuple(p(state).shape[1] for p, state in zip(pools, states[1:], strict=True))
    if family.widths is not None and widths != family.widths:
        raise AssertionError(f"{family.name}: heads read {widths}, timm says {family.widths}")
    with torch.inference_mode():
        plain = module(images).softmax(1).numpy()
    answers = MultiPathClassifierBank(network).transform(X[:2]).path(len(family.cuts) - 1)
    counted = int(network.flops_.sum() + network.head_flops_[-1])
    shapes = [f"({', '.join(['n', *map(str, state.shape[1:])])})" for state in states[1:]]
    return Row(
        family.name,
        ", ".join(family.cuts),
        ", ".join(shapes),
        ", ".join(map(str, widths)),
        f"{counted / 1e6:.4g}",
        f"{count_otherwise(module, images[:1]) / counted:.4f}",
        *_quantised(network, X),
        _compiled(network, X),
        "equal" if np.array_equal(answers, plain) else f"{np.abs(answers - plain).max():.0e} off",
    )


def _quantised(network: MultiExitNetwork, X: Any) -> tuple[str, str]:
    """Return the shares of the multiplications that run at 8 and at 4 bits."""
    try:
        network.quantize((4, 8), calibration=X[:4], method=UniformPTQ())
    except (TypeError, ValueError) as error:
        return (_reason(error),) * 2
    shares = network.coverage()
    return tuple(f"{shares.loc[(bits, 'all'), bits]:.3f}" for bits in (8, 4))


def _compiled(network: MultiExitNetwork, X: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network.compile(("int8",), calibration=X[:8], batch_size=2, runtime="torch")
        except (TypeError, ValueError, ImportError) as error:
            return _reason(error)
    found = MultiPathClassifierBank(network).transform(X[:2])
    return "yes" if np.isfinite(np.asarray(found)).all() else "NaN"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"refused: {text[:80]}{'...' if len(text) > 80 else ''}"


# ---------------------------------------------------------------------- the table


def read_table() -> dict[str, Row]:
    """Return the rows that the documentation shows."""
    with TABLE.open(encoding="utf8", newline="") as stream:
        return {row[0]: Row(*row) for row in list(csv.reader(stream))[1:]}


def write_table(rows: dict[str, Row]) -> None:
    """Write rows in the order of the families."""
    with TABLE.open("w", encoding="utf8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(asdict(rows[name]).values() for name in FAMILIES if name in rows)


def main() -> None:
    """Measure the families named, or all, and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    for name in names or FAMILIES:
        row = measure(FAMILIES[name]())
        print(*asdict(row).values(), sep=" | ", flush=True)  # noqa: T201
        write_table((read_table() if TABLE.exists() else {}) | {name: row})


if __name__ == "__main__":
    main()
