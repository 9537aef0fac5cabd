"""Bank and router as one classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skquee import (
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorRegressor,
    RoutedClassifier,
)
from skquee.baselines import ThresholdRouter
from skquee.evaluation import price_scorer

X, Y = make_classification(300, 6, n_informative=4, n_classes=3, random_state=0)
NAMES = np.array(["ant", "bee", "cat"])[Y]


class Memory(DecisionTreeClassifier):
    """Notes the rows it was fitted on."""

    rows: list[Any] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        Memory.rows = [X, sample_weight]
        return super().fit(X, y, sample_weight)


class NotingRouter(ThresholdRouter):
    """Notes what it was fitted on."""

    seen: list[Any] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        NotingRouter.seen = [X, y, sample_weight]
        return super().fit(X, y, sample_weight)


def bank() -> MultiPathClassifierBank:
    return MultiPathClassifierBank(
        [("stump", Memory(max_depth=1, random_state=0)), ("linear", LogisticRegression())],
        step_costs=[0.2, 0.8],
    )


def quick() -> CostAwareRouter:
    return CostAwareRouter(
        0.2,
        targets=ClusteredErrorTargets(n_clusters=4, n_init=1),
        regressor=PathErrorRegressor(DecisionTreeRegressor(max_depth=3)),
        random_state=0,
    )


def test_the_router_learns_from_rows_the_classifiers_never_saw() -> None:
    weights = np.arange(1.0, 301.0)
    model = RoutedClassifier(bank(), NotingRouter(0.7), router_fraction=0.4)
    model.fit(X, NAMES, sample_weight=weights)
    table, labels, router_weights = NotingRouter.seen
    rows = np.vstack([Memory.rows[0], np.asarray(table._input())])
    assert (len(Memory.rows[0]), len(labels)) == (180, 120)
    assert np.array_equal(np.unique(rows, axis=0), np.unique(X, axis=0))
    assert sorted(np.concatenate([Memory.rows[1], router_weights])) == weights.tolist()
    assert min(np.unique(labels, return_counts=True)[1]) >= 38  # by class


def test_a_frozen_bank_leaves_every_row_to_the_router() -> None:
    frozen = MultiPathClassifierBank(
        [(name, FrozenEstimator(m.fit(X, NAMES))) for name, m in bank().classifiers],
        step_costs=[0.2, 0.8],
    )
    RoutedClassifier(frozen, NotingRouter(0.7)).fit(X, NAMES)
    assert len(NotingRouter.seen[1]) == 300


def test_it_answers_as_its_parts_do_and_runs_only_what_rows_need() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    table = model.bank_.transform(X)
    routes = model.route(X)
    assert np.array_equal(model.predict(X), model.router_.predict(table))
    assert np.array_equal(model.predict_path(X), routes.paths)
    assert np.array_equal(model.predict_error(X), routes.predicted_error)
    assert np.array_equal(model.classes_, np.unique(NAMES))
    assert model.score(X, NAMES) == pytest.approx(
        np.mean(routes.labels == NAMES) - 0.2 * routes.costs.mean()
    )
    assert routes.counts["stump"] == 300
    assert routes.counts["linear"] == (routes.paths == 1).sum() < 300
    assert model.paths_.names == ("stump", "linear")


def test_curves_come_from_rows_given_or_held_out() -> None:
    model = RoutedClassifier(bank(), quick()).fit(X, NAMES)
    assert "15 rows held out in fit" in repr(model.cost_curve([0.1]))
    curve = model.cost_curve([0.0, 5.0], X, NAMES)
    assert curve.cost[1] == pytest.approx(0.2)
    assert curve.paths.shape == (2, 300)


def test_parameters_of_both_parts_can_be_searched() -> None:
    search = GridSearchCV(
        RoutedClassifier(bank(), quick()),
        {"router__lambda_": [0.05, 3.0], "bank__batch_size": [16, 512]},
        cv=2,
        scoring=price_scorer(0.05),
        error_score="raise",
    ).fit(X, NAMES)
    assert search.best_params_["router__lambda_"] == 0.05
    defaults = RoutedClassifier().set_params(router__lambda_=0.4, bank__batch_size=8)
    assert (defaults.router.lambda_, defaults.bank.batch_size) == (0.4, 8)


def test_the_split_depends_on_the_seed_alone_and_given_parts_stay_unfitted() -> None:
    model = RoutedClassifier(bank(), quick(), random_state=3)
    one, two = clone(model).fit(X, Y), clone(model).fit(X, Y)
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))
    model.fit(X, Y)
    assert not hasattr(model.router, "classes_")
    assert not hasattr(model.bank, "classes_")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_a_bad_share_of_rows_fails(fraction: float) -> None:
    with pytest.raises(ValueError, match="router_fraction must lie between 0 and 1"):
        RoutedClassifier(bank(), quick(), router_fraction=fraction).fit(X, Y)


def test_bad_input_fails() -> None:
    model = RoutedClassifier(bank(), quick())
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="requires y"):
        model.fit(X, None)
    with pytest.raises(ValueError, match="expected .300,."):
        model.fit(X, Y, sample_weight=[1.0])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 2, np.nan, X), Y)
    with pytest.raises(ValueError, match="1 class"):
        model.fit(X, np.zeros(300, dtype=int))
