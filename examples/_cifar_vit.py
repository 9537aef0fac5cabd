"""Vision transformers for CIFAR-10, trained here.

``"vit"``: of ViT-S width, eight layers, 16 tokens. ``"vit_b"``: of ViT-B width, twelve layers, 64
tokens, which takes a GPU.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from _data import cache_folder, load_images
from _train import train
from _train_gpu import train_on_gpu
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZES: dict[str, dict[str, int]] = {
    "vit": {"patch_size": 8, "embed_dim": 384, "num_heads": 6, "depth": 8},
    "vit_b": {"patch_size": 4, "embed_dim": 768, "num_heads": 12, "depth": 12},
}
EXITS = {"vit": (1, 2, 4, 6, 8), "vit_b": (2, 4, 6, 9, 12)}
EPOCHS = 7
GPU_EPOCHS = 250


class ConvStem(nn.Module):
    """Images to tokens by three strided convolutions, which train faster than large patches.

    "Early Convolutions Help Transformers See Better" (Xiao et al. 2021).
    """

    def __init__(
        self,
        img_size: int,
        in_chans: int,
        embed_dim: int,
        patch_size: int,
        **options: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        halvings = patch_size.bit_length() - 1
        widths = (in_chans, *(embed_dim >> step for step in range(halvings, 0, -1)))
        layers: list[nn.Module] = []
        for n_in, n_out in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, 1))
        # What timm's own patch embedding tells of itself.
        self.num_patches, self.img_size = (img_size // patch_size) ** 2, (img_size, img_size)
        self.patch_size = (patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(2).transpose(1, 2)


def make_vit(name: str = "vit", **options: float) -> VisionTransformer:
    """Return a model with initial weights."""
    return VisionTransformer(
        img_size=32,
        embed_layer=ConvStem,
        num_classes=10,
        **SIZES[name],
        **options,
    )


def load_vit(name: str = "vit") -> VisionTransformer:
    """Return the trained model; train it first where that was not done."""
    model = make_vit(name)
    state = load_file(trained_weights(name))
    # Weights near zero, which a CPU multiplies many times slower, are zero.
    model.load_state_dict(
        {k: v.where(v.abs() > 1e-30, 0) if v.is_floating_point() else v for k, v in state.items()}
    )
    return model.eval()


def trained_weights(name: str = "vit", seconds: float = math.inf) -> Path:
    """Return the file of the trained weights; train them first where there is none.

    On a GPU, where minutes do for many epochs, all exits are trained together and images are
    changed more; a CPU trains the last one for as long as is bearable.
    """
    done = cache_folder() / f"cifar10_{name}.safetensors"
    if done.exists():
        return done
    torch.manual_seed(0)
    if torch.cuda.is_available():
        model, data = make_vit(name, drop_path_rate=0.1), load_images("cifar10", "train")
        exits, epochs = EXITS[name], GPU_EPOCHS
        return train_on_gpu(model, *data, done, exits=exits, epochs=epochs, seconds=seconds)
    return train(make_vit(name), *load_images("cifar10", "train"), done, epochs=EPOCHS, mixed=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", choices=list(SIZES), default="vit")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="time that a GPU has, for fewer epochs"
    )
    given = parser.parse_args()
    print(trained_weights(given.name, given.seconds))
