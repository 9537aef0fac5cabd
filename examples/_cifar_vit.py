"""A vision transformer of ViT-S width for CIFAR-10, trained here: eight layers, 16 tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from _data import cache_folder, load_images
from _train import train
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

EPOCHS = 7


class ConvStem(nn.Module):
    """Images to tokens by three strided convolutions, which train faster than large patches.

    "Early Convolutions Help Transformers See Better" (Xiao et al. 2021).
    """

    def __init__(
        self, img_size: int, in_chans: int, embed_dim: int, **options: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        widths = (in_chans, embed_dim // 8, embed_dim // 4, embed_dim // 2)
        layers: list[nn.Module] = []
        for n_in, n_out in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, 1))
        # What timm's own patch embedding tells of itself.
        self.num_patches, self.img_size = (img_size // 8) ** 2, (img_size, img_size)
        self.patch_size = (8, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(2).transpose(1, 2)


def make_vit() -> VisionTransformer:
    """Return the model with initial weights."""
    return VisionTransformer(
        img_size=32,
        embed_layer=ConvStem,
        patch_size=8,
        embed_dim=384,
        num_heads=6,
        depth=8,
        num_classes=10,
    )


def load_vit() -> VisionTransformer:
    """Return the trained model; train it first where that was not done."""
    model = make_vit()
    state = load_file(trained_weights())
    # Weights near zero, which a CPU multiplies many times slower, are zero.
    model.load_state_dict(
        {k: v.where(v.abs() > 1e-30, 0) if v.is_floating_point() else v for k, v in state.items()}
    )
    return model.eval()


def trained_weights() -> Path:
    """Return the file of the trained weights; train them first where there is none."""
    done = cache_folder() / "cifar10_vit.safetensors"
    if done.exists():
        return done
    torch.manual_seed(0)
    return train(make_vit(), *load_images("cifar10", "train"), done, epochs=EPOCHS, mixed=True)


if __name__ == "__main__":
    print(trained_weights())
