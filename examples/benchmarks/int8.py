"""How fast int8 blocks are beside float ones, and how near their simulation, by architecture.

Run it from the repository: ``python examples/benchmarks/int8.py``. Weights are random: neither
time nor rounding needs others. One thread; CPU time, the least of several rounds in which the
engines take turns.
"""

from __future__ import annotations

import argparse
import time
import warnings

import timm
import torch
from torch import Tensor, nn

from skquee.networks.backbones._modules import cut_modules
from skquee.networks.engines import build_engine, input_ranges
from skquee.networks.engines._int8 import weight_top
from skquee.networks.engines._openvino import openvino_available, openvino_blocks
from skquee.networks.quantization import UniformPTQ
from skquee.networks.quantization._operations import searched_ranges

# The blocks, and pixels of a side.
NETWORKS = {
    "resnet18": (["layer2", "layer4"], 64),
    "efficientnet_lite0": (["blocks.2", "blocks.6"], 96),
    "mobilenetv3_large_100": (["blocks.2", "blocks.6"], 96),
    "convnext_tiny": (["stages.1", "stages.3"], 64),
    "vit_tiny_patch16_224": (["blocks.5", "norm"], 224),
}


def built(name: str) -> nn.ModuleList:
    """Return a network's float blocks, their batch normalisations with statistics."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return cut_modules(model, NETWORKS[name][0])[0]


def run(blocks: nn.ModuleList, state: Tensor) -> Tensor:
    """Run blocks one after another."""
    with torch.inference_mode():
        for block in blocks:
            state = block(state)
    return state


def fastest(engines: dict[str, nn.ModuleList], images: Tensor, rounds: int) -> dict[str, float]:
    """Return the least milliseconds of CPU that each took; they take turns."""
    found = dict.fromkeys(engines, float("inf"))
    for _ in range(rounds):
        for name, made in engines.items():
            began = time.process_time()
            run(made, images)
            found[name] = min(found[name], 1000 * (time.process_time() - began))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"largest weight code {weight_top()}, {options.rows} images, one thread, CPU time in ms")
    for name in options.networks:
        blocks, size = built(name), NETWORKS[name][1]
        images = torch.randn(options.rows, 3, size, size)
        simulated = UniformPTQ().quantize(blocks, images, (8,))[8]
        ranges = {**input_ranges(blocks, [images]), **searched_ranges(simulated)}
        states = [images]
        for block in blocks:
            states.append(run(nn.ModuleList([block]), states[-1]))
        # A pool and head that take next to no time, which OpenVINO compiles along.
        exits = [(nn.Flatten(), nn.Identity())] * len(blocks)
        engines = {
            f"{engine} torch": build_engine(engine, blocks, ranges, states[:-1])
            for engine in ("fp32", "int8")
        }
        if openvino_available():
            for engine in ("fp32", "int8"):
                engines[f"{engine} OpenVINO"] = openvino_blocks(
                    engine, blocks, exits, ranges, states[:-1]
                )
        wanted, exact = run(simulated, images), states[-1]
        near = {
            engine: float((run(made, images) - wanted).square().mean().sqrt() / exact.std())
            for engine, made in engines.items()
            if engine.startswith("int8")
        }
        took = fastest(engines, images, options.rounds)
        print(f"\n{name}, {size} pixels")
        for engine, ms in took.items():
            runtime = engine.split()[1]
            ratio = f", {took[f'fp32 {runtime}'] / ms:.2f} times" if engine in near else ""
            far = f", {near[engine]:.3f} from the simulation" if engine in near else ""
            print(f"  {engine:14} {ms:8.1f}{ratio}{far}", flush=True)


if __name__ == "__main__":
    main()
