"""Post-training quantisers: from the blocks of a network to the same blocks at fewer bits."""

from skquee.networks.quantization._base_ptq import BasePTQ
from skquee.networks.quantization._ptq4vit import PTQ4ViT
from skquee.networks.quantization._restoring import describe, float_copies, restore
from skquee.networks.quantization._uniform import UniformPTQ
from skquee.values._public import publish

__all__ = ["BasePTQ", "PTQ4ViT", "UniformPTQ", "describe", "float_copies", "restore"]

publish(__name__, *(globals()[name] for name in __all__))
