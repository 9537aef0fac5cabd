"""
Pipeline and GridSearchCV
=========================

A router is a scikit-learn estimator: it ends a Pipeline, and a search tunes it. Two rules keep a
search fast and meaningful. Run the classifiers once and search over their table; and score with
something that does not move with ``lambda_``.
"""

# %%
# From images to labels
# ---------------------
# Three random forests of growing size read scikit-learn's digits; the cost of each is its number
# of trees. 600 digits train the forests, 700 fit the router, 497 measure. ``FrozenEstimator``
# keeps the forests as they are. The Pipeline takes images, runs for each only what it needs, and
# says what it ran.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from skquee import MultiPathClassifierBank
from skquee.display import PathUsageDisplay
from skquee.evaluation import area_scorer, budget_scorer, price_scorer, route
from skquee.router import default_router

X, y = load_digits(return_X_y=True)
X_train, X_rest, y_train, y_rest = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
X_val, X_test, y_val, y_test = train_test_split(
    X_rest, y_rest, train_size=700, stratify=y_rest, random_state=0
)
sizes = [4, 20, 100]
forests = [RandomForestClassifier(n, random_state=0).fit(X_train, y_train) for n in sizes]
for n, forest in zip(sizes, forests, strict=True):
    print(f"{n:>4} trees: accuracy {forest.score(X_test, y_test):.1%}")
bank = MultiPathClassifierBank(
    [(f"{len(forest)} trees", FrozenEstimator(forest)) for forest in forests],
    step_costs=sizes,
    cost_unit="trees",
)
pipe = make_pipeline(bank, default_router(0.001)).fit(X_val, y_val)

# %%
# The trade-off changes without fitting again: ``lambda_`` is the error probability that one tree
# more is worth. The last column counts the images each forest saw.

for lambda_ in (0.0003, 0.001, 0.003, 0.01):
    pipe.set_params(costawarerouter__lambda_=lambda_)
    routes = route(pipe, X_test)
    print(
        f"{lambda_:<6} accuracy {np.mean(routes.labels == y_test):.1%}, "
        f"{routes.costs.mean():.1f} trees, {routes.counts}"
    )

# %%
# Searches
# --------
# ``materialize`` runs every forest once. A search then fits routers on rows of a table and never
# runs a forest again. Three scorers answer three questions:
#
# * ``price_scorer(p)``: accuracy less ``p`` times mean cost, for a fixed ``p``;
# * ``budget_scorer(c)``: accuracy, where the mean cost is at most ``c``; a point beyond it gets
#   about -100, in every fold where it is beyond;
# * ``area_scorer()``: the whole curve at once. It does not depend on ``lambda_``, and so judges
#   the other parameters.
#
# ``refit`` says which of the first two decides. The guard is for systems that start worker
# processes by importing the script again.

if __name__ == "__main__":
    val_probs, test_probs = bank.materialize(X_val), bank.materialize(X_test)
    search = GridSearchCV(
        default_router(0.001),
        {"lambda_": [0.0003, 0.001, 0.01]},
        scoring={"price": price_scorer(0.001), "budget": budget_scorer(50)},
        refit="budget",
        cv=3,
        n_jobs=2,
    ).fit(val_probs, y_val)
    columns = ["param_lambda_", "mean_test_price", "mean_test_budget"]
    print(pd.DataFrame(search.cv_results_)[columns].round(4).to_string(index=False))
    routes = route(search, test_probs)
    print(
        f"a budget of 50 trees chooses {search.best_params_}: on test rows accuracy "
        f"{np.mean(routes.labels == y_test):.1%} at {routes.costs.mean():.1f} trees"
    )

    penalties = GridSearchCV(
        default_router(0.001),
        {"regressor__penalty": [1, 10, 100]},
        scoring=area_scorer(),
        cv=3,
        n_jobs=2,
    ).fit(val_probs, y_val)
    print("area by penalty:", penalties.cv_results_["mean_test_score"].round(4))

    # The classes that need the large forest.
    PathUsageDisplay.from_estimator(search, test_probs, y_test)
    plt.show()
