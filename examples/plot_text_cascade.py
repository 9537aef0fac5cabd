"""
A cascade of text classifiers
=============================

Questions of TREC fall into six types (a place, a number, a person ...). Many give themselves away
by one word, which a classifier on single words finds in microseconds; others need n-grams of words
and letters, and ten times the work. The classifiers are Pipelines over plain lists of strings.

Three parts of the data keep the figures honest: 3,000 questions train the classifiers, the other
2,452 training questions fit the router, and the 500 official test questions are only measured.
"""

# %%
# Data and classifiers
# --------------------

import time

import matplotlib.pyplot as plt
import numpy as np
from _data import load_trec
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from skquee import CostAwareRouter, MultiPathClassifierBank, PathTree
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.display import CostCurveDisplay
from skquee.evaluation import paired_bootstrap

texts, labels, X_test, y_test = load_trec()
X_train, X_val, y_train, y_val = train_test_split(
    texts, labels, train_size=3000, stratify=labels, random_state=0
)

models = {
    "bayes": make_pipeline(CountVectorizer(binary=True), MultinomialNB(alpha=0.3)),
    "words": make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)),
    "letters": make_pipeline(
        make_union(
            TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 3), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        CalibratedClassifierCV(LinearSVC(C=0.5), ensemble=False),
    ),
}
for model in models.values():
    model.fit(X_train, y_train)

# %%
# Costs are measured
# ------------------
# Milliseconds for one text, the fastest of five passes over 500 texts, on one core. They differ
# from machine to machine, and a little from run to run; the router's training does not depend on
# them.


def milliseconds(call, texts, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(texts)
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / len(texts)


costs = [milliseconds(model.predict_proba, X_val[:500]) for model in models.values()]
for (name, model), cost in zip(models.items(), costs, strict=True):
    print(f"{name:<10}{cost:.3f} ms   accuracy {model.score(X_test, y_test):.1%}")

# %%
# Bank and router
# ---------------
# The tree holds all increasing sequences of the three: a text may start with any model and skip
# any. Texts are what the bank eats; no vectors pass between it and the router. A threshold needs a
# sequence chosen by hand.

tree = PathTree.cascade(costs, names=list(models), cost_unit="ms")
bank = MultiPathClassifierBank(
    [(name, FrozenEstimator(model)) for name, model in models.items()], paths=tree
)
val_probs = bank.fit(X_val, y_val).materialize(X_val)
test_probs = bank.materialize(X_test)

methods = {
    "router": CostAwareRouter(random_state=0),
    "threshold, words then letters": ThresholdRouter(along="words-letters"),
    "threshold, all three": ThresholdRouter(),
    "fixed": FixedPath(),
    "oracle": OracleRouter(),
}
curves = {
    name: method.fit(val_probs, y_val).cost_curve(None, test_probs, y_test)
    for name, method in methods.items()
}

budgets = np.round(np.quantile([costs[0], costs[2]], [0.25, 0.5, 0.75, 1.0]), 3)
print(f"{'accuracy at ms':<32}" + "".join(f"{b:>8}" for b in budgets))
for name, curve in curves.items():
    print(f"{name:<32}" + "".join(f"{a:>8.1%}" for a in curve.accuracy_at(budgets)))
for name in list(methods)[1:3]:
    result = paired_bootstrap(
        curves["router"],
        curves[name],
        cost_range=(costs[0], costs[2]),
        n_resamples=500,
        random_state=0,
    )
    print(
        f"area of router less {name}: {result.difference:+.4f} "
        f"(95 % from {result.low:+.4f} to {result.high:+.4f})"
    )

# %%
# The router finds by itself that words beat Bayes at the same price, and starts with them. Against
# the threshold with the right sequence it gains little, and how much moves with the measured
# milliseconds; against the threshold through all three, the sequence one would write down first,
# it gains clearly.
#
# What really runs
# ----------------
# ``bank.transform`` runs nothing. The router then asks for the answers it needs, and counts. The
# trade-off is chosen on the router's own held-out rows: the cheapest point within half a percent
# of the best.

router = methods["router"]
held_out = router.cost_curve()
close = np.flatnonzero(held_out.accuracy >= held_out.accuracy.max() - 0.005)
router.set_params(lambda_=held_out.lambdas[close[np.argmin(held_out.cost[close])]])

routes = router.route(bank.transform(X_test))
accuracy = np.mean(routes.labels == y_test)
print(f"lambda_ = {router.lambda_:.3g} chosen on {held_out.source}")
print(f"texts run by each model: {routes.counts} of {len(X_test)}")
print(f"accuracy {accuracy:.1%} at {routes.costs.mean():.3f} ms of models a text")

# %%
# The gates take time too. The clock sees both:

routed = milliseconds(lambda texts: router.predict(bank.transform(texts)), X_test)
alone = milliseconds(models["letters"].predict_proba, X_test)
print(f"measured, routing included: {routed:.3f} ms")
print(f"the largest model alone:    {alone:.3f} ms")

# %%
# The picture
# -----------

display = CostCurveDisplay.from_predictions(
    [curves[name] for name in list(methods)[:3]],
    fixed=curves["fixed"],
    oracle=curves["oracle"],
    names=list(methods)[:3],
)
display.ax_.set_xlabel("Milliseconds a text")
plt.show()
