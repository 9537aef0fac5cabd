"""Cutting a vision transformer into blocks, through its public structure alone."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.backbones._t2t_vit import T2TViT

__all__ = ["Pool", "Transformer", "build_backbone", "check_exits", "cut_blocks"]

Transformer = VisionTransformer | T2TViT


def build_backbone(
    backbone: str | Transformer,
    *,
    img_size: int | tuple[int, int] | None,
    in_chans: int,
    pretrained: bool,
    backbone_kwargs: dict[str, Any] | None,
    seed: int,
) -> Transformer:
    """Build a backbone by name, or copy the one given.

    Parameters
    ----------
    backbone : str, VisionTransformer or T2TViT
        Name of a timm model, or the model itself (never changed).
    img_size, in_chans, pretrained, backbone_kwargs
        For timm, where `backbone` is a name.
    seed : int
        Seed of its initial weights.

    Returns
    -------
    VisionTransformer or T2TViT
        In evaluation mode, without gradients.
    """
    if isinstance(backbone, str):
        kwargs = dict(backbone_kwargs or {})
        if img_size is not None:
            kwargs["img_size"] = img_size
        # timm draws initial weights from torch's global generator: keep the caller's state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = timm.create_model(backbone, pretrained=pretrained, in_chans=in_chans, **kwargs)
    else:
        model = copy.deepcopy(backbone)
    if not isinstance(model, Transformer):
        raise TypeError(
            "backbone must be a timm VisionTransformer, a T2TViT or the name of one, got "
            f"{backbone!r} "
            f"({type(model).__name__})."
        )
    return model.float().eval().requires_grad_(False)


def check_exits(exits: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return exits as a tuple, or raise.

    Parameters
    ----------
    exits : sequence of int
        Layers, counted from 1, after which a head can answer.
    depth : int
        Number of layers of the backbone.

    Returns
    -------
    tuple of int
    """
    found = tuple(int(layer) for layer in exits)
    increasing = all(a < b for a, b in zip((0, *found), found, strict=False))
    if not found or not increasing or found[-1] != depth:
        raise ValueError(
            f"exits must be increasing layer numbers from 1 that end at the backbone's last layer, "
            f"{depth}, got {tuple(exits)}."
        )
    return found


def cut_blocks(backbone: Transformer, exits: Sequence[int]) -> nn.ModuleList:
    """Cut a backbone after each exit.

    Parameters
    ----------
    backbone : VisionTransformer or T2TViT
        The backbone.
    exits : sequence of int
        Layers, counted from 1, that end a block.

    Returns
    -------
    ModuleList
        Block 0 maps images to tokens: its patch embedding counts with it. The others map
        tokens (n, n_tokens, embed_dim) to tokens. Weights are the backbone's own.
    """
    blocks = nn.ModuleList()
    for first, end in zip((0, *exits), exits, strict=False):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if first == 0:
            layers["embed"] = _Embedding(backbone)
        for layer in range(first, end):
            layers[f"layer{layer + 1}"] = backbone.blocks[layer]
        blocks.append(nn.Sequential(layers))
    return blocks


class _Embedding(nn.Module):
    """Images to tokens with positions."""

    def __init__(self, backbone: Transformer) -> None:
        super().__init__()
        # timm has no public call for the embedding alone (`_pos_embed` is private), but
        # forward_features of a transformer without layers is just that.
        emptied = copy_sharing_weights(backbone)
        emptied.blocks, emptied.norm = nn.Sequential(), nn.Identity()
        if hasattr(emptied, "fc_norm"):
            emptied.fc_norm = nn.Identity()
        emptied.reset_classifier(0, "")
        self.transformer = emptied

    def forward(self, images: Tensor) -> Tensor:
        return self.transformer.forward_features(images)


class Pool(nn.Module):
    """Tokens to the features a head reads: the backbone's own final norm and pooling.

    Parameters
    ----------
    backbone : VisionTransformer or T2TViT
        The backbone.
    """

    def __init__(self, backbone: Transformer) -> None:
        super().__init__()
        emptied = copy_sharing_weights(backbone)
        emptied.blocks, emptied.head = nn.Sequential(), nn.Identity()
        for embedding in ("patch_embed", "tokens_to_token"):
            if hasattr(emptied, embedding):
                setattr(emptied, embedding, nn.Identity())
        self.transformer = emptied

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the features of each image.

        Parameters
        ----------
        tokens : Tensor of shape (n, n_tokens, embed_dim)
            Output of a block.

        Returns
        -------
        Tensor of shape (n, n_features)
        """
        transformer = self.transformer
        return transformer.forward_head(transformer.norm(tokens), pre_logits=True)
