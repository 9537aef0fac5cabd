"""
Routing between commercial APIs
===============================

Three companies sell recognition of facial expressions; a small network from GitHub runs for next
to nothing. Each returns one label and one score. Run the small network on every picture, look at
its answer, then decide which service to ask, if any. The answers recorded by Chen, Zaharia and Zou
(FrugalML, 2020) for the pictures of FER+ let us replay any policy without paying for it.

No model is trained here, and none could be: the services are black boxes.
"""

# %%
# Prices and answers
# ------------------
# Prices are dollars for 10,000 calls. Half of the pictures fit the router, the other half measure.

import matplotlib.pyplot as plt
import numpy as np
from _data import load_frugalml
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import train_test_split

from skquee import CostAwareRouter, PathProbabilities, PathTree, TunedCostAwareRouterCV
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.display import CostCurveDisplay
from skquee.evaluation import paired_bootstrap

y, labels, scores, names, prices = load_frugalml("FERPLUS")
rows = np.arange(len(y))
fit_rows, test_rows = train_test_split(rows, test_size=0.5, stratify=y, random_state=0)
for name, price, own in zip(names, prices, labels.T, strict=True):
    print(f"{name:<10}{price:>8.3f} $   accuracy {np.mean(own == y):.1%}")

# %%
# One scale for all scores
# ------------------------
# What a score means differs from service to service: here 0.9 of one is 0.6 of another. Isotonic
# regression on the fitting half turns each score into the probability that the label is right.
# ``from_labels`` makes a probability vector of label and score.


def recalibrated(y, labels, scores, rows):
    """Return scores as probabilities of being right, learned on some rows."""
    new = np.empty(scores.shape)
    for i, (own, score) in enumerate(zip(labels.T, scores.T, strict=True)):
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        new[:, i] = model.fit(score[rows], own[rows] == y[rows]).predict(score)
    return new


def make_table(y, labels, scores, names, prices, rows):
    """Return the table of a cascade that starts with the cheapest service."""
    tree = PathTree.cascade(prices, first="lowest", names=names, cost_unit="$")
    classes = np.unique(np.append(labels, y)).tolist()
    return PathProbabilities.from_labels(
        labels, recalibrated(y, labels, scores, rows), classes, paths=tree
    )


table = make_table(y, labels, scores, names, prices, fit_rows)
tree = table.paths
for name, price in zip(tree.names, tree.costs, strict=True):
    print(f"{name:<36}{price:>8.3f} $")

# %%
# The costs stay in dollars, and so ``lambda_`` is the error probability that one dollar more for
# 10,000 calls is worth.
#
# Router and baselines
# --------------------

val_probs, y_val = table[fit_rows], y[fit_rows]
test_probs, y_test = table[test_rows], y[test_rows]
best = max(tree.names, key=lambda name: np.mean(val_probs.path(name).argmax(1) == y_val))
methods = {
    "router": CostAwareRouter(random_state=0),
    f"threshold along {best}": ThresholdRouter(along=best),
    "threshold through all": ThresholdRouter(),
    "fixed": FixedPath(),
    "oracle": OracleRouter(),
}
curves = {
    name: method.fit(val_probs, y_val).cost_curve(None, test_probs, y_test)
    for name, method in methods.items()
}
budgets = [2.5, 5.0, 7.5, 10.0]
print(f"{'accuracy at $':<36}" + "".join(f"{b:>8}" for b in budgets))
for name, curve in curves.items():
    print(f"{name:<36}" + "".join(f"{a:>8.1%}" for a in curve.accuracy_at(budgets)))
for name in list(methods)[1:3]:
    pair = curves["router"], curves[name]
    result = paired_bootstrap(*pair, n_resamples=500, random_state=0)
    print(
        f"router less {name}: area {result.difference:+.4f} "
        f"(95 % {result.low:+.4f} to {result.high:+.4f})"
    )

# %%
# On these pictures the router beats the best service at half its price, and beats both thresholds,
# which send every picture they doubt along one sequence.
#
# More data sets
# --------------
# The points above are read off curves of test rows. A user must choose beforehand:
# :class:`~skquee.TunedCostAwareRouterCV` finds, by cross-validation on the fitting half, the
# operating point for half the price of the best service. The table shows what it then reaches on
# the other half.

header = ("data", "best service", "price", "accuracy", "paid", "accuracy")
print("{:<10}{:<14}{:>8}{:>10}   | router: {:>7}{:>10}".format(*header))
for data in ("FERPLUS", "YELP", "IMDB"):
    y_all, labels, scores, names, prices = load_frugalml(data)
    first, second = train_test_split(
        np.arange(len(y_all)), test_size=0.5, stratify=y_all, random_state=0
    )
    probs = make_table(y_all, labels, scores, names, prices, first)
    top = int(np.argmax((labels[first] == y_all[first, None]).mean(axis=0)))
    tuned = TunedCostAwareRouterCV(
        CostAwareRouter(random_state=0), max_cost=prices[top] / 2, cv=3
    ).fit(probs[first], y_all[first])
    routes = tuned.route(probs[second])
    alone = np.mean(labels[second, top] == y_all[second])
    routed = np.mean(routes.labels == y_all[second])
    print(
        f"{data:<10}{names[top]:<14}{prices[top]:>8.2f}{alone:>10.1%}   |"
        f"         {routes.costs.mean():>7.2f}{routed:>10.1%}"
    )

# %%
# Half the price is enough on FER+, where the services err on different pictures. In the reviews of
# YELP and IMDB Google is far ahead of the others, and half its price costs accuracy.
#
# The picture
# -----------
# More money does not always buy accuracy: a threshold that asks everybody ends with the answer of
# the last service, which is not the best one.

display = CostCurveDisplay.from_predictions(
    [curves[name] for name in list(methods)[:3]],
    fixed=curves["fixed"],
    oracle=curves["oracle"],
    names=list(methods)[:3],
)
display.ax_.set_xlabel("Dollars for 10,000 calls")
plt.show()
