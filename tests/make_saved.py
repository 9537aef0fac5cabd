"""Write the files in tests/saved that later releases have to read: one of each kind.

Run it from the root of the repository, only where no earlier release can be met:
``python tests/make_saved.py``. Networks have a script of their own, tests/networks/make_saved.py.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import skquee
from skquee import (
    BudgetRouter,
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    PathTree,
    RiskControlledRouter,
    RoutedClassifier,
    TunedCostAwareRouterCV,
)
from skquee.baselines import NextStepRouter, PatienceRouter, RandomMixing, ThresholdRouter
from skquee.testing import make_path_probabilities

FOLDER = Path(__file__).parent / "saved"
SEED = {"random_state": 0}


def routers() -> dict[str, Any]:
    """Return fitted routers by name, small ones."""
    tree = PathTree.chain([1, 2, 4], names=["small", "medium", "large"], cost_unit="ms")
    table, y = make_path_probabilities(120, tree, n_classes=3)
    table = table.with_context(np.arange(120.0) % 7)
    linear = CostAwareRouter(0.05, targets="bernoulli", regressor="logistic", **SEED)
    rich = CostAwareRouter(
        0.03,
        targets="shrunken",
        regressor="logistic",
        features="rich",
        answer="recall",
        policy="option-value",
        **SEED,
    )
    gates = PathErrorRegressor(hidden_size=4, embedding_size=2, max_epochs=40, **SEED)
    paper = CostAwareRouter(0.05, targets=ClusteredErrorTargets(3, **SEED), regressor=gates, **SEED)
    fitted = linear.fit(table, y)
    made = {
        "linear": linear,
        "rich": rich,
        "paper": paper,
        "tuned": TunedCostAwareRouterCV(linear, price=0.05, cv=2),
        "budget": BudgetRouter(fitted, budget=3.0, **SEED),
        "risk": RiskControlledRouter(fitted, max_error=0.3, **SEED),
        "threshold": ThresholdRouter(0.7),
        "patience": PatienceRouter(2),
        "mixing": RandomMixing(2.0, **SEED),
        "next_step": NextStepRouter(0.05),
    }
    return {name: router.fit(table, y) for name, router in made.items()}


def classifier() -> RoutedClassifier:
    """Return a fitted classifier over three kinds of models."""
    X, y = load_iris(return_X_y=True)
    models = [
        ("lr", LogisticRegression(max_iter=1000)),
        ("hgb", HistGradientBoostingClassifier(max_iter=2, max_leaf_nodes=4)),
        ("rf", RandomForestClassifier(3, max_depth=2, **SEED)),
    ]
    router = CostAwareRouter(0.01, targets="bernoulli", regressor="logistic", **SEED)
    bank = MultiPathClassifierBank(models, step_costs=[0.5, 2, 4], cost_unit="ms")
    return RoutedClassifier(bank, router).fit(X[:, :2], np.array(["a", "b", "c"])[y])


def _column(values: Any, number: int) -> Any:
    """Return a classifier that looks its answers up by row number."""
    return lambda rows: values[rows[:, 0].astype(int), number]


def main() -> None:
    warnings.simplefilter("ignore")  # of so few rows and epochs
    FOLDER.mkdir(exist_ok=True)
    tree = PathTree.chain([1, 2, 4], names=["small", "medium", "large"], cost_unit="ms")
    table, _ = make_path_probabilities(20, tree, n_classes=3, random_state=1)
    table = table.with_context(np.arange(20.0) % 7)
    table.save(FOLDER / "table.npz", dtype="float32")
    values = np.asarray(table).astype(np.float16)
    names = ["small", "medium", "large"]
    models = [(name, _column(values, number)) for number, name in enumerate(names)]
    bank = MultiPathClassifierBank(models, classes=[0, 1, 2], step_costs=[1, 2, 4])
    bank.materialize(np.arange(20.0)[:, None], out=FOLDER / "table.npy", dtype="float16")
    answers: dict[str, Any] = {
        "skquee": skquee.__version__,
        "sklearn": sklearn.__version__,
        "table": np.asarray(table).round(6).tolist(),
    }
    fitted = routers()
    for name, router in fitted.items():
        skquee.dump(router, FOLDER / f"{name}.skops")
        routes = router.route(table)
        answers[name] = {
            "paths": routes.paths.tolist(),
            "labels": routes.labels.tolist(),
            "probabilities": np.asarray(routes.probabilities, dtype=float).round(6).tolist(),
        }
    skquee.dump(tree, FOLDER / "tree.skops")
    answers["tree"] = tree.to_dict()
    curve = fitted["linear"].cost_curve([0.0, 0.05, 0.5])
    skquee.dump(curve, FOLDER / "curve.skops")
    answers["curve"] = {"cost": curve.cost.tolist(), "accuracy": curve.accuracy.tolist()}
    clf = classifier()
    skquee.dump(clf, FOLDER / "classifier.skops")
    X, _ = load_iris(return_X_y=True)
    answers["classifier"] = {
        "paths": clf.route(X[::10, :2]).paths.tolist(),
        "labels": clf.predict(X[::10, :2]).tolist(),
    }
    (FOLDER / "answers.json").write_text(json.dumps(answers), encoding="utf8")


if __name__ == "__main__":
    main()
