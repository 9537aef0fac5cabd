"""Cutting a vision transformer into blocks, through its public structure alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.backbones._t2t_vit import T2TViT
from skquee.networks.backbones._types import Level

__all__ = ["Pool", "Transformer", "check_exits", "cut_blocks", "image_shape", "own_head"]

Transformer = VisionTransformer | T2TViT


def check_exits(exits: Sequence[Level], depth: int) -> tuple[int, ...]:
    """Return exits, layers counted from 1, as a tuple, or raise where they do not fit a depth."""
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

    `backbone`: the backbone. `exits`: layers, counted from 1, that end a block. Returns block 0
    maps images to tokens: its patch embedding counts with it. The others map tokens (n, n_tokens,
    embed_dim) to tokens. Weights are the backbone's own.
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

    A distilled transformer answers with two tokens: its features are both, side by side.
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
        """Return features (n, n_features) of tokens (n, n_tokens, embed_dim)."""
        transformer = self.transformer
        tokens = transformer.norm(tokens)
        if hasattr(transformer, "dist_token"):
            return tokens[:, :2].flatten(1)
        features = transformer.forward_head(tokens, pre_logits=True)
        if features.ndim == 2:
            return features
        # Without a pooling of its own (global_pool=""): as timm's other transformers have it.
        return features[:, 0] if transformer.has_class_token else features.mean(dim=1)


def own_head(backbone: Transformer) -> nn.Linear | None:
    """Return a copy of a backbone's head as one linear layer on the features of :class:`Pool`.

    None where it has no linear head.
    """
    head = backbone.get_classifier()
    found = head if isinstance(head, tuple) else (head,)
    parts = [part for part in found if isinstance(part, nn.Linear)]
    if len(parts) < len(found):
        return None
    # The mean of the answers of two tokens is one layer on both, of half the weights.
    weight = torch.cat([part.weight.detach() for part in parts], dim=1) / len(parts)
    copied = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        copied.weight.copy_(weight)
        copied.bias.zero_()
        for part in parts:
            if part.bias is not None:
                copied.bias.add_(part.bias / len(parts))
    return copied


def image_shape(backbone: Transformer) -> tuple[int, tuple[int, int] | None]:
    """Return channels and size (height, width; None where it takes any) of a backbone's images."""
    if isinstance(backbone, T2TViT):
        return backbone.tokens_to_token.in_chans, backbone.tokens_to_token.img_size
    patches = backbone.patch_embed
    size = None if patches.img_size is None else tuple(patches.img_size)
    # The first convolution: that of a hybrid's patches reads features of a network before it.
    first = next(module for module in patches.modules() if isinstance(module, nn.Conv2d))
    return first.in_channels, size
