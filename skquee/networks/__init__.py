"""Multi-exit networks run at several bit widths; importing this loads torch."""

from skquee.networks import backbones  # noqa: F401
from skquee.networks._multi_exit import MultiExitNetwork
from skquee.networks._training import train_backbone
from skquee.networks.quantization import UniformPTQ

__all__ = ["MultiExitNetwork", "UniformPTQ", "train_backbone"]
