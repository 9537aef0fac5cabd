"""
ResNet-56 on CIFAR-10: the whole experiment on a strong network
===============================================================

The paper's experiment on a third network, one that is right on 93 of 100 test images: ResNet-56
of He et al., trained by somebody else, cut after each of its three stages. Heads for the first two
are trained here; PTQ4ViT quantises every block.

The network has seen all 50,000 training images and is nearly always right on them, so clusters,
thresholds and the choice of bit widths read 5,000 test images, and the other 5,000 measure. The
gates of the paper learn on training images all the same: what that costs shows beside a router
fitted on the validation rows alone. 15,000 training images keep it to half an hour on two cores.
Everything computed is kept in the cache folder: a run that was interrupted goes on.
"""

# sphinx_gallery_thumbnail_path = '_static/resnet56_figure_3.png'

import numpy as np
import pandas as pd
from _cifar_resnet import MEAN, STD, load_resnet
from _data import cache_folder, load_images

from skquee.networks import MultiExitNetwork, PTQ4ViT
from skquee.report import Setting, reproduce

folder = cache_folder() / "cifar10_resnet56"
images, labels = load_images("cifar10", "train")
rows = np.random.default_rng(0).permutation(len(labels))[:15_000]
test_images, test_labels = load_images("cifar10", "test")
validation, test = np.random.default_rng(1).permutation(len(test_labels)).reshape(2, -1)
splits = {
    "train": (images[rows], labels[rows]),
    "val": (test_images[validation], test_labels[validation]),
    "test": (test_images[test], test_labels[test]),
}

backbone = load_resnet(56)
saved = folder / "network"
if saved.exists():
    network = MultiExitNetwork.load(saved, backbone=backbone)
else:
    network = MultiExitNetwork(
        backbone,
        blocks=["layer1", "layer2", "layer3"],
        data_config={"mean": MEAN, "std": STD},
        random_state=0,
    )
    network.fit(*splits["train"], validation_data=splits["val"])
    network.quantize(
        (3, 4, 5, 6, 7, 8),
        calibration=splits["train"][0][:128],
        method=PTQ4ViT(random_state=0),
        cache=folder / "quantization",
    )
    network.select_levels(*splits["val"])
    network.save(saved)
print(network.summary().to_string())

# %%
# Everything else is one call. Its report is a page with every figure of the paper, and the paper's
# claims as they came out here.

names = "airplane automobile bird cat deer dog frog horse ship truck".split()
study = reproduce(
    network,
    splits,
    folder,
    title="ResNet-56 on CIFAR-10",
    setting=Setting(n_clusters=20),
    class_names=names,
)
areas = pd.read_csv(folder / "figure_3.csv", index_col=0)
print(areas[["area", "difference", "difference_low", "difference_high"]].to_string())
print(pd.read_csv(folder / "claims.csv")[["holds", "claim", "measured"]].to_string())
print(f"report: {folder / 'report.html'}")
