"""Multi-exit networks run at several bit widths; importing this loads torch.

T2T-ViT is registered with timm on import.
"""

from skquee.networks import _needed, backbones  # noqa: F401
from skquee.networks._cascade import NetworkCascade
from skquee.networks._head_trainer import HeadTrainer
from skquee.networks._multi_exit import MultiExitNetwork
from skquee.networks._training import train_backbone
from skquee.networks.backbones._matmul import MatMul
from skquee.networks.quantization import BasePTQ, PTQ4ViT, UniformPTQ
from skquee.values._public import publish

__all__ = [
    "BasePTQ",
    "HeadTrainer",
    "MatMul",
    "MultiExitNetwork",
    "NetworkCascade",
    "PTQ4ViT",
    "UniformPTQ",
    "train_backbone",
]

publish(__name__, *(globals()[name] for name in __all__))
