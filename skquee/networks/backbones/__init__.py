"""Backbones and how they are cut into blocks."""

from skquee.networks.backbones import _t2t_vit  # noqa: F401  registers T2T-ViT with timm
