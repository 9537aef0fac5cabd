"""Speed on the clock of a vision transformer of ViT-S width, routed and fixed.

``python examples/benchmarks/speed.py --out speed_vit.csv`` trains the network first where that was
not done (examples/_cifar_vit.py says how; an hour and a half on two hyperthreads), then measures
for a quarter of an hour. Run it where nothing else runs. ``skquee bench`` does the same for a
network that was saved. ``--memory torch`` tells what three levels take instead.
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _cifar_vit import load_vit
from _data import cache_folder, load_images
from _train import MEAN, STD

from skquee.networks import MultiExitNetwork
from skquee.report import measure_speed, speed_text, write_speed

EXITS = (1, 2, 4, 6, 8)


def fitted_network() -> tuple[MultiExitNetwork, tuple, tuple]:
    """Return the network with heads, which are kept, validation rows and test rows."""
    images, labels = load_images("cifar10", "train")
    rows = np.random.default_rng(0).permutation(len(labels))
    held, train = rows[:5000], rows[5000:]
    validation, test = (images[held], labels[held]), load_images("cifar10", "test")
    saved = cache_folder() / "cifar10_vit"
    if saved.exists():
        return MultiExitNetwork.load(saved, backbone=load_vit()), validation, test
    network = MultiExitNetwork(
        load_vit(),
        exits=EXITS,
        data_config={"mean": MEAN, "std": STD},
        max_epochs=20,
        random_state=0,
    )
    # Heads take 20,000 of the images that the backbone was trained on.
    network.fit(images[train[:20_000]], labels[train[:20_000]], validation_data=validation)
    network.save(saved)
    return network, validation, test


def resident() -> float:
    """Return the megabytes of memory this process holds."""
    gc.collect()
    text = Path("/proc/self/status").read_text(encoding="utf8")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def memory(runtime: str) -> None:
    """Print how much memory three levels take, in weights of the float network."""
    torch.set_num_threads(1)
    network = MultiExitNetwork(load_vit(), exits=EXITS, data_config={"mean": MEAN, "std": STD})
    images = np.random.default_rng(0).integers(0, 255, (200, 32, 32, 3), dtype=np.uint8)
    network.set_params(max_epochs=1).fit(images, np.arange(200) % 10)
    weights = sum(p.numel() for p in network.float_blocks.parameters()) * 4 / 2**20
    with torch.inference_mode():
        state = network.start(images[:64])
        for block in network.float_blocks:
            state = block(state)
    alone = resident()
    network.compile(("int8", "bf16", "fp32"), calibration=images[:64], runtime=runtime)
    for level in network.levels_:
        state = network.start(images[:64])
        for number in range(len(EXITS)):
            state, _ = network.run_exit(state, number, level)
    added = resident() - alone
    print(
        f"{runtime}: float weights {weights:.0f} MB; levels {network.levels_} add {added:.0f} MB: "
        f"together {1 + added / weights:.2f} times the float weights"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--levels", nargs="+", default=["int8", "bf16", "fp32"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave other engines out")
    parser.add_argument("--memory", choices=["torch", "openvino"])
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads[0])
    network, validation, test = fitted_network()
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
    )
    print(f"On {network.latency_.machine}\n\n{speed_text(found)}")
    if options.out is not None:
        write_speed(found, options.out)


if __name__ == "__main__":
    main()
