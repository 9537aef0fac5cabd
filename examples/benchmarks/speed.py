"""Speed on the clock of networks with exits, routed and fixed.

``python examples/benchmarks/speed.py --out speed_vit.csv`` trains a vision transformer of ViT-S
width first where that was not done (examples/_cifar_vit.py says how; minutes on a GPU, an hour
and a half on two hyperthreads), then measures for a quarter of an hour. ``--network t2t`` and
``resnet56`` take T2T-ViT-7 and ResNet-56 with their weights of ../shared/data. ``--row`` measures
rows of the short tables, each engine in its turn; ``--row lite`` tunes its networks first
(examples/_cifar_lite.py, minutes on a GPU). Run it where nothing else runs. ``skquee bench`` does
the same for a network that was saved. ``--memory torch`` tells what three levels take instead.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _cascade import cascade_rows, lite_cascade, resnet_cascade, resnet_options
from _cifar_resnet import MEAN as RESNET_MEAN
from _cifar_resnet import STD as RESNET_STD
from _cifar_resnet import load_resnet
from _cifar_t2t_vit import DATA_CONFIG
from _cifar_vit import EXITS, load_vit
from _data import cache_folder, data_folder, load_images
from _exits import exit_rows
from _train import MEAN, STD

from skquee.networks import HeadTrainer, MultiExitNetwork
from skquee.report import measure_speed, speed_text, write_speed

LITES = ((0, 128), (2, 192), (2, 224))  # EfficientNet-Lite 0 and 2, pixels a side
N_HEADS = 20_000  # images that heads learn from, of those the backbone was trained on


def backbone_of(name: str) -> tuple[Any, dict[str, Any]]:
    """Return a backbone and what else the network is made with."""
    if name in EXITS:
        return load_vit(name), {"exits": EXITS[name], "data_config": {"mean": MEAN, "std": STD}}
    if name == "resnet56":
        config = {"mean": RESNET_MEAN, "std": RESNET_STD}
        blocks = ["layer1", "layer2", "layer3"]
        return load_resnet(56), {"blocks": blocks, "data_config": config, "img_size": 32}
    weights = data_folder("t2t_vit_7_cifar10") / "model.safetensors"
    options = {"exits": (2, 4, 7), "data_config": DATA_CONFIG, "img_size": 64}
    return "t2t_vit_7", {**options, "weights": weights}


def fitted_network(name: str, n_heads: int = N_HEADS) -> tuple[MultiExitNetwork, tuple, tuple]:
    """Return the network with heads, which are kept, validation rows and test rows."""
    images, labels = load_images("cifar10", "train")
    rows = np.random.default_rng(0).permutation(len(labels))
    held, train = rows[:5000], rows[5000:]
    validation, test = (images[held], labels[held]), load_images("cifar10", "test")
    if name == "resnet56":  # it was trained on all training images
        held, kept = np.random.default_rng(1).permutation(len(test[1])).reshape(2, -1)
        validation, test = ((test[0][part], test[1][part]) for part in (held, kept))
    backbone, options = backbone_of(name)
    saved = cache_folder() / f"cifar10_{name}"
    if saved.exists():
        known = {} if isinstance(backbone, str) else {"backbone": backbone}
        return MultiExitNetwork.load(saved, **known), validation, test
    network = MultiExitNetwork(
        backbone, trainer=HeadTrainer(max_epochs=20), random_state=0, **options
    )
    network.fit(images[train[:n_heads]], labels[train[:n_heads]], validation_data=validation)
    network.save(saved)
    return network, validation, test


def table_rows(names: list[str], rounds: int, n_heads: int) -> None:
    """Print rows of the table."""
    for name in names:
        if name == "lite":
            points: dict[str, Any] = {"loss": 0.004, "allowed": 0.005, "n_images": 5000}
            # OpenVINO: torch takes longer, at every level.
            points.update(calls=256, runtime="openvino")
            networks = lite_cascade(LITES)
            cascade_rows("EfficientNet-Lites", networks, (64, 256), rounds=rounds, **points)
        elif name in ("cascade", "three"):
            # On rows of fit, which it does better on than on others; 0.2 points less are allowed.
            members, loss = ((20, 32, 56), 0.0) if name == "three" else ((8, 20, 32, 56), -0.001)
            what, networks = f"ResNets {members}", resnet_cascade(members)
            points = {"loss": loss, "allowed": 0.002, **resnet_options()}
            cascade_rows(what, networks, (64, 256), rounds=rounds, **points)
        else:
            loss = 0.002 if name == "resnet56" else 0.005
            network, *_ = fitted_network(name, n_heads)
            points = {"loss": loss, "allowed": loss}
            exit_rows(f"{name} with exits", network, (1, 64), rounds=rounds, **points)


def resident() -> float:
    """Return the megabytes of memory this process holds."""
    gc.collect()
    text = Path("/proc/self/status").read_text(encoding="utf8")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def memory(runtime: str) -> None:
    """Print how much memory three levels take, in weights of the float network."""
    torch.set_num_threads(1)
    network = MultiExitNetwork(
        load_vit(), exits=EXITS["vit"], data_config={"mean": MEAN, "std": STD}
    )
    images = np.random.default_rng(0).integers(0, 255, (200, 32, 32, 3), dtype=np.uint8)
    network.set_params(trainer__max_epochs=1).fit(images, np.arange(200) % 10)
    weights = sum(p.numel() for p in network.float_blocks.parameters()) * 4 / 2**20
    with torch.inference_mode():
        state = network.start(images[:64])
        for block in network.float_blocks:
            state = block(state)
    alone = resident()
    kept = []
    for engine in ("int8", "bf16", "fp32"):  # each alone: whether it pays here does not matter
        one = copy.copy(network).compile((engine,), calibration=images[:64], runtime=runtime)
        state = one.start(images[:64])
        for number in range(len(EXITS["vit"])):
            state, _ = one.run_exit(state, number, engine)
        kept.append(one)
    held = resident() - alone
    if sys.platform == "linux":  # give back what is free
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    used = resident() - alone
    print(
        f"{runtime}: float weights {weights:.0f} MB; {len(kept)} levels add {held:.0f} MB, "
        f"{used:.0f} of them in use: together {1 + held / weights:.2f} and "
        f"{1 + used / weights:.2f} times the float weights"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--network", choices=[*EXITS, "t2t", "resnet56"], default="vit")
    parser.add_argument("--levels", nargs="+", help="default: all that the device runs")
    parser.add_argument("--heads", type=int, default=N_HEADS, help="images that heads learn from")
    parser.add_argument("--images", type=int, default=512, help="images of a round")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave other engines out")
    rows = ["cascade", "three", "lite", "resnet56", "t2t", "vit"]
    parser.add_argument("--row", nargs="+", choices=rows)
    parser.add_argument("--memory", choices=["torch", "openvino"])
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads[0])
    if options.row:
        table_rows(options.row, options.repeats, options.heads)
        return
    network, validation, test = fitted_network(options.network, options.heads)
    print("accuracy of the float exits on validation rows", network.validation_accuracy_.round(4))
    network.compile(options.levels, calibration=validation[0][:256])
    print("levels kept:", network.runtimes_)
    found = measure_speed(
        network,
        validation,
        test,
        threads=options.threads,
        repeats=options.repeats,
        compiled=not options.no_compile,
        images_a_round=options.images,
    )
    if torch.cuda.is_available():
        print(f"memory taken at most: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
    print(f"On {network.latency_.machine}\n\n{speed_text(found)}")
    if options.out is not None:
        write_speed(found, options.out)


if __name__ == "__main__":
    main()
