"""
T2T-ViT on CIFAR-100
====================

The same as on CIFAR-10, with a network trained here: the CIFAR-10 weights, a new head, and
eight epochs of all layers on 45,000 training images of CIFAR-100 (AdamW, one cycle, shifted and
mirrored images), about an hour on two cores. Training goes on after an interruption. A network
so briefly trained is far from the state of the art; it is a second real case for quantisation and
routing, with a hundred classes.
"""

from _cifar_t2t_vit import run
from _train_cifar100 import trained_weights

run("cifar100", trained_weights())
