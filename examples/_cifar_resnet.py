"""The ResNets of He et al. for CIFAR-10, their weights, and a smaller one trained here."""

from __future__ import annotations

import torch
from _data import cache_folder, load_images, resnet_weights
from _train import train
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

# What they were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.stride = 1 if n_in == n_out else 2
        self.pad = (n_out - n_in) // 2
        self.conv1 = nn.Conv2d(n_in, n_out, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x):
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet(nn.Module):
    def __init__(self, n_blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 32, 64]
        for stage, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False), start=1):
            blocks = [Block(n_in if i == 0 else n_out, n_out) for i in range(n_blocks)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def load_resnet(depth):
    """Return ResNet-20, 32, 44 or 56 with its weights."""
    state = torch.load(resnet_weights(depth), weights_only=True, map_location="cpu")["state_dict"]
    network = ResNet((depth - 2) // 6)
    network.load_state_dict({key.removeprefix("module."): v for key, v in state.items()})
    return network.eval()


def prepare(images):
    """Return images (n, H, W, 3) uint8 as these networks take them."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def load_resnet8():
    """Return ResNet-8: the first block of each stage of ResNet-20, trained for 16 more epochs.

    Half an hour of one core, where that was not done yet.
    """
    network = ResNet(1)
    done = cache_folder() / "cifar10_resnet8.safetensors"
    if not done.exists():
        network.load_state_dict(load_resnet(20).state_dict(), strict=False)
        images = load_images("cifar10", "train")
        network.to(memory_format=torch.channels_last)
        train(network, *images, done, epochs=16, prepare=prepare, rate=5e-3, compiled=True)
    network.load_state_dict(load_file(done))
    return network.eval()


if __name__ == "__main__":
    load_resnet8()
