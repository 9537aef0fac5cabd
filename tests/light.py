"""Every table router where only scikit-learn and what it needs is installed, with tqdm.

Run by ``.ci/run`` in such an environment: ``python tests/light.py``. With ``--hide`` the packages
are hidden instead, for environments that have them.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from importlib.util import find_spec
from typing import Any

ABSENT = ("matplotlib", "pandas", "safetensors", "skops", "timm", "torch", "torchvision")


class Hidden:
    """An import finder that finds none of them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def routers(table: Any, y: Any) -> dict[str, Any]:
    """Return a router of every public class that needs no network, not fitted."""
    import skquee
    from skquee import baselines, monitoring, router

    seed = {"random_state": 0}
    linear = skquee.CostAwareRouter(0.3, regressor="logistic", targets="bernoulli", **seed)
    fitted = linear.fit(table, y)
    threshold = baselines.ThresholdRouter(0.7)
    return {
        "the paper's": skquee.CostAwareRouter(0.3, **seed),
        "boosting": skquee.CostAwareRouter(0.3, regressor="boosting", targets="bernoulli", **seed),
        "default": router.default_router().set_params(lambda_=0.3),
        "closed loop": skquee.CostAwareRouter(
            0.3, regressor="logistic", targets="shrunken", policy="closed-loop", **seed
        ),
        "option value": skquee.CostAwareRouter(
            0.3, regressor="logistic", policy="option-value", answer="recall", **seed
        ),
        "ensemble": skquee.CostAwareRouter(0.3, regressor="logistic", answer="ensemble", **seed),
        "tuned": skquee.TunedCostAwareRouterCV(linear, price=0.3, cv=2),
        "budget": skquee.BudgetRouter(fitted, budget=0.7, **seed),
        "risk": skquee.RiskControlledRouter(fitted, max_error=0.5, **seed),
        "threshold": threshold,
        "patience": baselines.PatienceRouter(2),
        "thresholds in a budget": baselines.BudgetedThresholdRouter(0.7),
        "fixed": baselines.FixedPath(),
        "mixing": baselines.RandomMixing(0.7, **seed),
        "oracle": baselines.OracleRouter(),
        "next step": baselines.NextStepRouter(0.3, **seed),
        "online": monitoring.OnlineLambdaRouter(fitted, budget=0.7),
    }


def check_routers() -> None:
    """Fit and predict with each, and with AutoRouter, which leaves no candidate out."""
    import skquee
    from skquee import PathTree, baselines, monitoring, router
    from skquee.routers.auto._candidates import default_candidates
    from skquee.testing import make_path_probabilities

    tree = PathTree.from_levels(2, (4, 8))
    table, y = make_path_probabilities(160, tree, n_classes=3)
    made = routers(table, y)
    public = {
        item
        for package in (skquee, router, baselines, monitoring)
        for name in package.__all__
        if name not in ("JEIDNN", "DQNetGate")
        and hasattr(item := getattr(package, name), "route")
        and hasattr(item, "fit")
    }
    left_out = public - {type(model) for model in made.values()}
    left_out -= {skquee.AutoRouter, skquee.RoutedClassifier}
    assert not left_out, f"not tried: {left_out}"
    for name, model in made.items():
        model.fit(table, y)
        given = (table, y) if name == "oracle" else (table,)
        labels = model.route(*given).labels
        assert labels.shape == (160,), name
    for kind in default_candidates(tree, 10_000).values():  # of many rows: more of them
        kind.fit(table, y)
    auto = skquee.AutoRouter(cv=2, random_state=0).fit(table, y)
    assert auto.predict(table).shape == (160,)
    assert not [line for line in auto._lines if line[-1]], auto._lines
    # Newer scikit-learn asks for every attribute in dir(), so for completion too.
    assert "router_" in dir(auto) and not hasattr(auto, "leaderboard_")


def check_classifier() -> None:
    """Route scikit-learn's own models by a threshold and by the default router; report."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    from skquee import MultiPathClassifierBank, RoutedClassifier
    from skquee.baselines import ThresholdRouter

    X, y = load_iris(return_X_y=True)
    models = [
        ("tree", DecisionTreeClassifier(max_depth=2)),
        ("lr", LogisticRegression(max_iter=500)),
    ]
    for router in (None, ThresholdRouter(0.8)):
        bank = MultiPathClassifierBank(models, step_costs=[1, 5])
        routed = RoutedClassifier(bank, router).fit(X, y)
        assert routed.score(X, y) > 0.8
        assert routed.verdict_ and routed.reason_
        with tempfile.TemporaryDirectory() as folder:
            assert routed.report(f"{folder}/report.html").is_file()


def check_errors() -> None:
    """What needs a package that is absent says which, and how to install it."""
    import skquee
    from skquee import PathProbabilities, baselines
    from skquee.evaluation import compare

    exec("from skquee.baselines import *", names := {})
    assert "ThresholdRouter" in names and "JEIDNN" not in names
    from skquee.testing import make_path_probabilities

    table, y = make_path_probabilities(60)
    router = baselines.ThresholdRouter(0.7).fit(table, y)
    curve = router.cost_curve(None, table, y)
    with tempfile.TemporaryDirectory() as folder:
        table.save(f"{folder}/table.npz")
        assert PathProbabilities.load(f"{folder}/table.npz").shape == table.shape
        asked = {
            "pandas": [
                router.route(table).to_frame,
                curve.to_frame,
                lambda: compare({"threshold": router}, table, y),
            ],
            "matplotlib": [curve.plot],
            "skops": [
                lambda: skquee.dump(router, f"{folder}/router.skops"),
                lambda: skquee.router.model_card(router, table, y),
            ],
            "torch": [
                lambda: baselines.JEIDNN,
                lambda: baselines.DQNetGate,
                lambda: skquee.networks.MultiExitNetwork,
            ],
        }
        for package, calls in asked.items():
            for call in calls:
                try:
                    call()
                except ImportError as error:
                    assert f"needs {package}, which is not installed" in str(error), error
                    assert f"pip install {package}" in str(error), error
                else:
                    raise AssertionError(f"{call} works without {package}")


def main() -> None:
    if "--hide" in sys.argv[1:]:
        sys.meta_path.insert(0, Hidden())
    else:
        there = [name for name in ABSENT if find_spec(name)]
        assert not there, f"{there} are installed here: use --hide"
    warnings.simplefilter("ignore")  # of so few rows
    check_routers()
    check_classifier()
    check_errors()
    sys.stdout.write("every table router works; absent packages are asked for by name\n")


if __name__ == "__main__":
    main()
