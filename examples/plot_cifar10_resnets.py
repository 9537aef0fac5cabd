"""
A cascade of ResNets on CIFAR-10
================================

Four residual networks of growing depth, trained by somebody else and left as they are, classify
the 10,000 test images of CIFAR-10. Most images are easy: the smallest network gets 92 in 100
right; the largest, at three times the operations, fewer than two more. A router that sees the
answer of one network decides whether a dearer one is worth running, and which.

The networks have seen all 50,000 training images, so on those they are nearly always right and
nearly always sure. A router fitted there would learn that the smallest network never errs. Its
rows come from the test images, therefore: 5,000 to fit it, the other 5,000 to measure.
"""

# %%
# The network
# -----------
# The CIFAR variant of He et al. (2015): three stages of basic blocks, shortcuts without
# parameters. The weights are loaded with ``weights_only=True``: no code runs from the files.

import matplotlib.pyplot as plt
import numpy as np
import torch
from _cifar_resnet import MEAN, STD, load_resnet
from _data import cache_folder, load_images
from sklearn.model_selection import train_test_split
from torch.utils.flop_counter import FlopCounterMode

from skquee import CostAwareRouter, MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.display import CostCurveDisplay
from skquee.evaluation import paired_bootstrap

networks = {f"resnet{depth}": load_resnet(depth) for depth in (20, 32, 44, 56)}

# %%
# The bank
# --------
# A classifier of the bank may be any callable from rows to probabilities. The step cost of each is
# its number of floating-point operations for one image, counted by torch. Every image starts with
# the smallest network; from there the tree holds every increasing sequence: eight paths that read
# the answers of four networks. (With ``first="free"`` an image may start anywhere. But before
# anything has run all images look alike, so all would start with the same network, and at some
# prices the dearer one.)

mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))


def as_callable(network):
    def probabilities(images):
        channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        x = torch.from_numpy(channels_first).float() / 255
        with torch.inference_mode():
            return network((x - mean) / std).softmax(dim=1).numpy()

    return probabilities


def operations(network):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops()


X, y = load_images("cifar10", "test")

flops = [operations(network) for network in networks.values()]
shares = np.array(flops) / sum(flops)  # of the operations of all four
unit = {"names": list(networks), "cost_unit": "of all four networks"}
tree = PathTree.cascade(shares, first="lowest", **unit)
bank = MultiPathClassifierBank(
    [(name, as_callable(network)) for name, network in networks.items()],
    classes=range(10),
    paths=tree,
    batch_size=250,
)

# %%
# Running four networks on 10,000 images takes some minutes on two cores, with a progress bar. The
# table is kept in the cache folder, so that the next run of this script starts from it; an
# interrupted run goes on where it stopped.

file = cache_folder() / "cifar10_test_resnets.npy"
if not file.exists():
    bank.fit(X).materialize(X, out=file, dtype="float32")
table = PathProbabilities.load(file).with_paths(tree.with_classes(range(10)))

print(f"{'network':<10}{'MFLOP':>8}{'accuracy':>10}")
answers = np.asarray(table).argmax(axis=2)
for name, count, own in zip(networks, flops, answers.T, strict=True):
    accuracy = np.mean(own == y)
    print(f"{name:<10}{count / 1e6:>8.1f}{accuracy:>10.2%}")

# %%
# Router and baselines
# --------------------
# The confidence threshold is the usual cascade. It follows one fixed sequence, given here in two
# forms: through all four networks, and from the smallest straight to the largest. The sequence of
# a threshold must be chosen by hand; the router is given all eight paths. Fixed paths and oracle
# may start anywhere, so that each network alone is among them.

fit_rows, test_rows = train_test_split(
    np.arange(len(y)), test_size=5000, stratify=y, random_state=0
)
val_probs, y_val = table[fit_rows], y[fit_rows]
test_probs, y_test = table[test_rows], y[test_rows]

anywhere = PathTree.cascade(shares, **unit)
methods = {
    "router": CostAwareRouter(random_state=0),
    "threshold, all four": ThresholdRouter(),
    "threshold, 20 then 56": ThresholdRouter(along="resnet20-resnet56"),
    "fixed": FixedPath(paths=anywhere),
    "oracle": OracleRouter(paths=anywhere),
}
curves = {}
for name, method in methods.items():
    paths = (method.paths or tree).with_classes(range(10))
    method.fit(val_probs.with_paths(paths), y_val)
    curves[name] = method.cost_curve(None, test_probs.with_paths(paths), y_test)

# %%
# All four networks in a row would cost 1. Running ResNet-56 alone costs 0.38 of that.

budgets = [0.15, 0.2, 0.25, 0.3, 0.38]
span = (shares[0], shares[3])
header = "".join(f"{budget:>8}" for budget in budgets)
print(f"{'accuracy at mean cost':<24}{header}{'area':>8}")
for name, curve in curves.items():
    row = "".join(f"{a:>8.2%}" for a in curve.accuracy_at(budgets))
    print(f"{name:<24}{row}{curve.area(span):>8.4f}")

# %%
# Is a difference more than luck? The bootstrap resamples the same images for both curves.

for rival in ("threshold, all four", "threshold, 20 then 56", "fixed"):
    result = paired_bootstrap(
        curves["router"], curves[rival], cost_range=span, n_resamples=500, random_state=0
    )
    print(
        f"area of router less {rival}: {result.difference:+.4f} "
        f"(95 % from {result.low:+.4f} to {result.high:+.4f})"
    )

# %%
# The router, like both cascades, reaches the accuracy of ResNet-56 at about half of its operations:
# networks that err on different images help each other. It does not beat the confidence threshold
# here. The threshold through all four networks lies a little above it, though the interval of the
# difference holds zero. A likely reason: networks of one family, trained alike, have confidences
# on one scale, which is all a threshold needs; the gates learn from 4,500 images, and few of those
# are wrong.
# What the router adds is that nobody had to choose a sequence.
#
# The picture
# -----------
# The oracle, which knows the label and stops at the first right answer, stays above the frame.

shown = ["router", "threshold, all four", "threshold, 20 then 56"]
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
ax.set(xlim=(0.1, 0.4), ylim=(0.912, 0.942))
CostCurveDisplay.from_predictions(
    [curves[name] for name in shown], fixed=curves["fixed"], names=shown, ax=ax
)
plt.show()
