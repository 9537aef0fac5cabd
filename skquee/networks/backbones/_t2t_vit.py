"""T2T-ViT, registered with timm.

Yuan et al., *Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet*,
ICCV 2021. Parameter names and shapes are those of the authors' checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from timm.layers import Mlp, trunc_normal_
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from skquee.networks.backbones._checkpoint import unwrap
from skquee.networks.backbones._matmul import MatMul
from skquee.networks.backbones._types import Options, Size

__all__ = ["T2TViT"]  # timm adds the variants

TOKEN_WIDTH = 64  # of the tokens inside the tokens-to-token module


class TokenPerformer(nn.Module):
    """Attention of linear cost among soft-split tokens (Performer, positive random features)."""

    float_products = True  # the random features, whose exponential is taken: no quantiser's

    def __init__(self, dim: int, token_dim: int, proj_drop: float) -> None:
        super().__init__()
        self.n_features = token_dim // 2
        self.norm1 = nn.LayerNorm(dim)
        self.kqv = nn.Linear(dim, 3 * token_dim)
        self.proj = nn.Linear(token_dim, token_dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.norm2 = nn.LayerNorm(token_dim)
        self.mlp = nn.Sequential(
            nn.Linear(token_dim, token_dim),
            nn.GELU(),
            nn.Linear(token_dim, token_dim),
            nn.Dropout(proj_drop),
        )
        directions = nn.init.orthogonal_(torch.empty(self.n_features, token_dim))
        self.w = nn.Parameter(directions * math.sqrt(self.n_features), requires_grad=False)
        self.key_value = MatMul()
        self.query_product = MatMul()

    def _features(self, x: Tensor) -> Tensor:
        """``exp(w x - |x|^2 / 2) / sqrt(m)``, whose products estimate ``exp(x . y)``."""
        half_norm = x.square().sum(dim=-1, keepdim=True) / 2
        return torch.exp(x @ self.w.T - half_norm) / math.sqrt(self.n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (n, n_tokens, dim) to (n, n_tokens, token_dim)."""
        key, query, value = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        key, query = self._features(key), self._features(query)
        # The authors divide query (key value) by query (sum of keys) + 1e-8. Shares of keys and
        # of features give the same, and both products then take averages: their factors have
        # no range of many powers of ten, which no few bits could hold.
        sums = key.sum(dim=1, keepdim=True)
        averages = self.key_value((key / sums.clamp(min=1e-37)).transpose(1, 2), value)
        shares = query * sums
        shares = shares / (shares.sum(dim=-1, keepdim=True) + 1e-8)
        # Widths differ, so the value takes the place of the residual.
        x = value + self.proj_drop(self.proj(self.query_product(shares, averages)))
        return x + self.mlp(self.norm2(x))


class TokenAttention(nn.Module):
    """Plain attention of one head that changes the width of tokens."""

    def __init__(self, dim: int, token_dim: int) -> None:
        super().__init__()
        self.scale = dim**-0.5  # by the width that comes, as the authors' checkpoints want it
        self.qkv = nn.Linear(dim, 3 * token_dim, bias=False)
        self.proj = nn.Linear(token_dim, token_dim)
        self.query_key = MatMul()
        self.weight_value = MatMul()

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (n, n_tokens, dim) to (n, n_tokens, token_dim)."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        weights = self.query_key(query * self.scale, key.transpose(1, 2)).softmax(dim=-1)
        return value + self.proj(self.weight_value(weights, value))


class TokenTransformer(nn.Module):
    """A transformer layer among soft-split tokens, of the ``t`` variants."""

    def __init__(self, dim: int, token_dim: int, proj_drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = TokenAttention(dim, token_dim)
        self.norm2 = nn.LayerNorm(token_dim)
        self.mlp = Mlp(token_dim, token_dim, drop=proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (n, n_tokens, dim) to (n, n_tokens, token_dim)."""
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokensToToken(nn.Module):
    """Images to tokens: overlapping patches, twice mixed by attention and split again.

    `layer`: TokenPerformer or TokenTransformer. `img_size`: height and width in pixels, multiples
    of 16. `in_chans`, `embed_dim`: channels of images, width of tokens. `proj_drop`: dropout.
    """

    def __init__(
        self,
        layer: type[nn.Module],
        img_size: tuple[int, int],
        in_chans: int,
        embed_dim: int,
        proj_drop: float,
    ) -> None:
        super().__init__()
        self.img_size, self.in_chans = img_size, in_chans
        self.grids = [(img_size[0] // step, img_size[1] // step) for step in (4, 8)]
        self.soft_split0 = nn.Unfold(kernel_size=7, stride=4, padding=2)
        self.soft_split1 = nn.Unfold(kernel_size=3, stride=2, padding=1)
        self.soft_split2 = nn.Unfold(kernel_size=3, stride=2, padding=1)
        self.attention1 = layer(in_chans * 7 * 7, TOKEN_WIDTH, proj_drop)
        self.attention2 = layer(TOKEN_WIDTH * 3 * 3, TOKEN_WIDTH, proj_drop)
        self.project = nn.Linear(TOKEN_WIDTH * 3 * 3, embed_dim)
        self.n_tokens = (img_size[0] // 16) * (img_size[1] // 16)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, C, H, W) to tokens (n, n_tokens, embed_dim)."""
        x = self.attention1(self.soft_split0(images).transpose(1, 2))
        x = self.soft_split1(x.transpose(1, 2).unflatten(2, self.grids[0])).transpose(1, 2)
        x = self.attention2(x)
        x = self.soft_split2(x.transpose(1, 2).unflatten(2, self.grids[1])).transpose(1, 2)
        return self.project(x)


class T2TViT(nn.Module):
    """Tokens-to-token vision transformer.

    Build one with ``timm.create_model("t2t_vit_7")``; see the module's list of variants.

    `img_size`: height and width of images in pixels, multiples of 16. `in_chans`, `num_classes`:
    channels of images, outputs of the head (0 for none). `tokens_type` {"performer",
    "transformer"}: attention of the tokens-to-token module. `embed_dim`, `depth`, `num_heads`:
    width of tokens, number of layers and heads an attention. `mlp_ratio`: hidden width of an MLP
    over `embed_dim`. `proj_drop_rate`, `attn_drop_rate`, `drop_path_rate`: dropout of projections,
    of attention, and stochastic depth of the last layer. Raises ValueError if `img_size` is no
    multiple of 16.

    >>> import timm
    >>> import torch
    >>> import skquee.networks
    >>> model = timm.create_model("t2t_vit_7", img_size=64, num_classes=10).eval()
    >>> with torch.no_grad():
    ...     logits = model(torch.zeros(2, 3, 64, 64))
    >>> tuple(logits.shape)
    (2, 10)
    """

    def __init__(
        self,
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        tokens_type: str = "performer",
        embed_dim: int = 256,
        depth: int = 7,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if len(size) != 2 or size[0] % 16 or size[1] % 16:
            raise ValueError(f"img_size must be a multiple of 16, got {img_size}.")
        layers = {"performer": TokenPerformer, "transformer": TokenTransformer}
        if tokens_type not in layers:
            raise ValueError(f"tokens_type must be one of {sorted(layers)}, got {tokens_type!r}.")
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dim
        self.tokens_to_token = TokensToToken(
            layers[tokens_type], size, in_chans, embed_dim, proj_drop_rate
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        positions = _sinusoids(self.tokens_to_token.n_tokens + 1, embed_dim)
        self.pos_embed = nn.Parameter(positions.unsqueeze(0), requires_grad=False)
        paths = [drop_path_rate * layer / max(1, depth - 1) for layer in range(depth)]
        self.blocks = nn.Sequential(
            *(
                Block(
                    embed_dim,
                    num_heads,
                    mlp_ratio,
                    proj_drop=proj_drop_rate,
                    attn_drop=attn_drop_rate,
                    drop_path=path,
                )
                for path in paths
            )
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        trunc_normal_(self.cls_token, std=0.02)

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new head in place, or none (0 classes); the pooling is for timm's convention."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.embed_dim, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """Return normalised tokens (n, 1 + n_tokens, embed_dim), the class token first."""
        tokens = self.tokens_to_token(images)
        tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return self.norm(self.blocks(tokens + self.pos_embed))

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of what ``forward_features`` gave, or the class token they read."""
        return tokens[:, 0] if pre_logits else self.head(tokens[:, 0])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, C, H, W)."""
        return self.forward_head(self.forward_features(images))


def _sinusoids(n_positions: int, width: int) -> Tensor:
    position = torch.arange(n_positions, dtype=torch.float64).unsqueeze(1)
    column = torch.arange(width, dtype=torch.float64)
    angle = position / 10000 ** (2 * (column // 2) / width)
    return torch.where(column.long() % 2 == 0, angle.sin(), angle.cos()).float()


def _weights_of(state: Mapping[str, object], model: nn.Module) -> dict[str, Tensor]:
    return unwrap(state)


def _cfg(file: str) -> dict[str, object]:
    return {
        "url": f"https://github.com/yitu-opensource/T2T-ViT/releases/download/main/{file}",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "fixed_input_size": True,
        "classifier": "head",
        "first_conv": None,
        "license": "bsd-3-clause-clear",
    }


_LITE = {"embed_dim": 256, "num_heads": 4, "mlp_ratio": 2.0}
_14 = {"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3.0}
_19 = {"embed_dim": 448, "depth": 19, "num_heads": 7, "mlp_ratio": 3.0}
_24 = {"embed_dim": 512, "depth": 24, "num_heads": 8, "mlp_ratio": 3.0}
_PLAIN = {"tokens_type": "transformer"}  # attention between tokens
# The authors' weights, with their accuracy on ImageNet, and what each variant is.
VARIANTS: dict[str, tuple[str, Options]] = {
    "t2t_vit_7": ("71.7_T2T_ViT_7", {**_LITE, "depth": 7}),  # 4.3 M parameters
    "t2t_vit_10": ("75.2_T2T_ViT_10", {**_LITE, "depth": 10}),  # 5.9 M
    "t2t_vit_12": ("76.5_T2T_ViT_12", {**_LITE, "depth": 12}),  # 6.9 M
    "t2t_vit_14": ("81.5_T2T_ViT_14", _14),  # 21.5 M
    "t2t_vit_19": ("81.9_T2T_ViT_19", _19),  # 39.2 M
    "t2t_vit_24": ("82.3_T2T_ViT_24", _24),  # 64.1 M
    "t2t_vit_t_14": ("81.7_T2T_ViTt_14", {**_14, **_PLAIN}),
    "t2t_vit_t_19": ("82.4_T2T_ViTt_19", {**_19, **_PLAIN}),
    "t2t_vit_t_24": ("82.6_T2T_ViTt_24", {**_24, **_PLAIN}),
}
default_cfgs = generate_default_cfgs(
    {f"{name}.authors_in1k": _cfg(f"{file}.pth.tar") for name, (file, _) in VARIANTS.items()}
)


def _registered(name: str, own: Options) -> Callable[..., T2TViT]:
    """Make a variant known to timm."""

    def build(pretrained: bool = False, **kwargs: Any) -> T2TViT:
        options = {**own, **kwargs}
        return build_model_with_cfg(
            T2TViT, name, pretrained, pretrained_filter_fn=_weights_of, **options
        )

    build.__name__ = build.__qualname__ = name
    return register_model(build)


globals().update({name: _registered(name, own) for name, (_, own) in VARIANTS.items()})
