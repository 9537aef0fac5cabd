from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import skquee
from skquee import CostAwareRouter, MultiPathClassifierBank, RoutedClassifier
from skquee.persistence import trusted_types


def test_mlflow_keeps_what_is_fitted_in_its_skops_format(tmp_path):
    reason = "mlflow is not installed"
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn", reason=reason, exc_type=ImportError)
    X, y = load_iris(return_X_y=True)
    small, large = LogisticRegression(max_iter=1000), LogisticRegression(C=9, max_iter=1000)
    router = CostAwareRouter(0.1, targets="bernoulli", regressor="logistic", random_state=0)
    bank = MultiPathClassifierBank([("a", small), ("b", large)], step_costs=[1, 9])
    clf = RoutedClassifier(bank, router).fit(X, y)
    folder = tmp_path / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mlflow itself
        mlflow_sklearn.save_model(
            clf,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=trusted_types(),
            pip_requirements=[],
        )
        loaded = mlflow_sklearn.load_model(str(folder))
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))
    again = skquee.load(folder / "model.skops")
    np.testing.assert_array_equal(again.predict(X), clf.predict(X))
