"""
T2T-ViT on CIFAR-10: exits, bit widths and a router
===================================================

The paper's setting on real images: a T2T-ViT-7 for CIFAR-10 at 64 x 64 pixels gets exits after
its layers 2, 4 and 7; PTQ4ViT quantises every block; the bit widths that stay within five
points of the float network are kept; the router steps through the tree of paths.

The weights are those of ``t2t_vit_7_cifar10``, a small network trained from scratch (77.8 % on
test images), in the layout of the authors' checkpoints. It has not seen the 5,000 validation
images. It takes a quarter of an hour on two cores. Results are kept in the cache folder: a second
run starts from them, and one that was interrupted goes on.
"""

# sphinx_gallery_thumbnail_path = '_static/cifar10_t2t_vit.png'

from _cifar_t2t_vit import run
from _data import data_folder

run("cifar10", data_folder("t2t_vit_7_cifar10") / "model.safetensors")
