"""Asks for the packages that networks need, before any other module of theirs misses one."""

from skquee.values._optional import require

for package in ("torch", "torchvision", "timm", "safetensors"):
    require(package, "skquee.networks")
