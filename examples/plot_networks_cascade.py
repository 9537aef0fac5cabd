"""
A cascade of whole networks
===========================

Two networks that were trained apart: a small one that is quick, a large one that is right more
often. Nothing is cut, quantised or trained again. The bank runs the small network first, and the
large one only on the images that a router sends on. Costs are milliseconds, measured here, and the
question is one of them: is asking twice worth it on this machine?

The networks here are trained in seconds on scikit-learn's digits; yours come as they are, or by a
name of timm. :ref:`sphx_glr_auto_examples_plot_cifar10_resnets.py` does the same with four
published networks on CIFAR-10.
"""

# %%
# Two networks
# ------------
# 700 images train the networks, 600 fit the router, 497 measure.

import textwrap
import time

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.display import CostCurveDisplay, PathUsageDisplay

X, y = load_digits(return_X_y=True)
images = (X.reshape(-1, 8, 8, 1) / 16).astype("float32").repeat(3, axis=3)
X_train, X_rest, y_train, y_rest = train_test_split(
    images, y, train_size=700, stratify=y, random_state=0
)
X_fit, X_test, y_fit, y_test = train_test_split(
    X_rest, y_rest, train_size=600, stratify=y_rest, random_state=0
)


def stage(n_in, n_out):
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU())


def train(network, epochs):
    pixels, target = torch.tensor(X_train).permute(0, 3, 1, 2), torch.tensor(y_train)
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(pixels[rows]), target[rows]).backward()
            optimizer.step()
    return network.eval()


torch.manual_seed(0)
small = nn.Sequential(stage(3, 6), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 4 * 4, 10))
large = nn.Sequential(
    *(stage(n_in, n_out) for n_in, n_out in ((3, 48), (48, 96), (96, 96))),
    *(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(96 * 2 * 2, 10)),
)
networks = {"small": train(small, 4), "large": train(large, 6)}

# %%
# The bank
# --------
# ``levels`` names engines: float32 as torch runs it everywhere; ``"int8"`` and ``"bf16"`` are kept
# where they pay. ``path_costs="latency"`` times each network for several numbers of images.

bank = MultiPathClassifierBank.from_networks(
    networks,
    levels=("fp32",),
    path_costs="latency",
    img_size=8,
    data_config={"mean": (0, 0, 0), "std": (1, 1, 1)},
    runtime="torch",
)
for name, cost in zip(bank.paths_.names, bank.paths_.path_costs, strict=True):
    print(f"{name:<22}{cost:.4f} ms an image")

# %%
# The decision
# ------------
# ``fit`` trains the router, chooses its price on rows it held out, and weighs the result against
# each network alone. The last lines look at the clock, the router's own time included.

clf = RoutedClassifier(bank, random_state=0).fit(X_fit, y_fit)
print(textwrap.fill(f"{clf.verdict_} - {clf.reason_}", 80))
summary = clf.summary(X_test, y_test)
shown = ["accuracy", "accuracy_low", "accuracy_high", "cost (ms)"]
print(summary[shown].round(3).to_string())


def milliseconds(call):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call(X_test)
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / len(X_test)


@torch.inference_mode()
def large_alone(images):
    for batch in torch.tensor(images).permute(0, 3, 1, 2).split(64):
        large(batch)


print(f"on the clock: routed {milliseconds(clf.predict):.3f} ms an image,")
print(f"the large network alone {milliseconds(large_alone):.3f} ms")

# %%
# The picture
# -----------
# Crosses are the networks alone, and the large one asked after the small one for every image. Any
# point of the line is one call away, without a fit: ``clf.at_budget(0.5)`` in milliseconds,
# ``clf.at_accuracy(0.97)`` on the rows that ``fit`` held out. Where ``verdict_`` names a network
# instead, use that one for all images.

CostCurveDisplay.from_estimator(clf, X_test, y_test, name="routed")
plt.show()

# %%
# Which digits need the large network? Those that look like others.

PathUsageDisplay.from_estimator(clf, X_test, y_test)
plt.show()
