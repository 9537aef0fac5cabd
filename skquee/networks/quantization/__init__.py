"""Post-training quantisers: from the blocks of a network to the same blocks at fewer bits."""

from skquee.networks.quantization._uniform import UniformPTQ

__all__ = ["UniformPTQ"]
