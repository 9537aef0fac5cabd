"""Classifiers of a bank: reached by name, whatever they are, and aligned by label."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.baselines import ThresholdRouter

X, Y = make_classification(200, 6, n_informative=4, n_classes=3, random_state=0)
NAMES = np.array(["ant", "bee", "cat"])[Y]


def small_bank(**options: Any) -> MultiPathClassifierBank:
    return MultiPathClassifierBank(
        [("lr", LogisticRegression()), ("rf", RandomForestClassifier(5, random_state=0))],
        step_costs=[1, 10],
        **options,
    )


class Plain:
    """A classifier that scikit-learn has never heard of."""

    def fit(self, X: Any, y: Any) -> None:
        self.classes_, counts = np.unique(y, return_counts=True)
        self.share = counts / counts.sum()

    def predict_proba(self, X: Any) -> Any:
        return np.tile(self.share, (len(X), 1))


class Stubborn(GaussianNB):
    """Takes no labels but 0, 1, ..., as gradient-boosting libraries do."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        if not np.array_equal(np.unique(y), np.arange(len(np.unique(y)))):
            raise ValueError("Invalid classes inferred from unique values of `y`.")
        return super().fit(X, y, sample_weight)


class Numbered:
    """Answers with fixed probabilities under labels of its own numbering."""

    def __init__(self, classes: Any, row: Any) -> None:
        self.classes_ = np.array(classes)
        self.row = row

    def predict_proba(self, X: Any) -> Any:
        return np.tile(self.row, (len(X), 1))


# ---------------------------------------------------------------------- parameters


def test_classifiers_and_their_parameters_are_parameters() -> None:
    bank = small_bank()
    params = bank.get_params()
    assert params["rf"] is bank.classifiers[1][1]
    assert params["rf__n_estimators"] == 5
    assert params["step_costs"] == [1, 10]
    assert "rf" not in bank.get_params(deep=False)
    bank.set_params(rf__n_estimators=7, lr__C=0.5)
    assert bank.classifiers[1][1].n_estimators == 7
    assert bank.classifiers[0][1].C == 0.5


def test_a_classifier_is_replaced_by_name_and_then_set() -> None:
    bank = small_bank()
    given = bank.classifiers
    bank.set_params(rf=DecisionTreeClassifier(), rf__max_depth=2)
    assert [name for name, _ in bank.classifiers] == ["lr", "rf"]
    assert bank.classifiers[1][1].max_depth == 2
    assert isinstance(given[1][1], RandomForestClassifier), "the list that was given stays"
    bank.set_params(classifiers=[("nb", GaussianNB())], nb__var_smoothing=0.1)
    assert bank.classifiers[0][1].var_smoothing == 0.1


def test_a_parameter_of_no_classifier_is_refused() -> None:
    for name in ("svm__C", "rf__trees", "costs"):
        with pytest.raises(ValueError, match="Invalid parameter"):
            small_bank().set_params(**{name: 1})


@pytest.mark.parametrize(
    ("names", "message"),
    [(["paths", "b"], "as parameters of the bank"), (["a__b", "b"], "two underscores")],
)
def test_names_that_would_hide_parameters_are_refused(names: list[str], message: str) -> None:
    bank = MultiPathClassifierBank([(n, GaussianNB()) for n in names], step_costs=[1, 2])
    with pytest.raises(ValueError, match=message):
        bank.fit(X, Y)


def test_a_clone_has_classifiers_of_its_own() -> None:
    bank = small_bank()
    copied = clone(bank).set_params(rf__n_estimators=2)
    assert bank.classifiers[1][1].n_estimators == 5
    assert copied.fit(X, Y).classifiers_[1][1].n_estimators == 2


@pytest.mark.filterwarnings("ignore:The classifiers of this table were fitted")
@pytest.mark.parametrize("kind", ["pipeline", "routed"])
def test_a_search_reaches_into_a_classifier(kind: str) -> None:
    router = ThresholdRouter(0.7)
    model: Any = make_pipeline(small_bank(), router)
    prefix = "multipathclassifierbank"
    if kind == "routed":
        model, prefix = RoutedClassifier(small_bank(), router), "bank"
    key = f"{prefix}__rf__min_samples_leaf"
    search = GridSearchCV(model, {key: [1, 90]}, cv=2, error_score="raise").fit(X, Y)
    assert set(search.cv_results_["param_" + key].tolist()) == {1, 90}
    best = search.best_estimator_
    bank = best.bank_ if kind == "routed" else best[0]
    assert bank.classifiers_[1][1].min_samples_leaf == search.best_params_[key]


# ---------------------------------------------------------------------- any classifier


def test_a_classifier_needs_no_base_estimator() -> None:
    bank = MultiPathClassifierBank([("plain", Plain()), ("nb", GaussianNB())], step_costs=[1, 2])
    values = np.asarray(bank.fit(X, NAMES).transform(X[:4]))
    assert np.allclose(values[:, 0], np.bincount(Y) / 200)
    frozen = Plain()
    frozen.fit(X, NAMES)
    ready = MultiPathClassifierBank([("plain", FrozenEstimator(frozen))]).fit(X, NAMES)
    assert ready.transform(X).shape == (200, 1, 3)


def test_a_classifier_that_takes_codes_only_answers_for_the_labels() -> None:
    bank = MultiPathClassifierBank([("s", Stubborn()), ("nb", GaussianNB())], step_costs=[1, 2])
    values = np.asarray(bank.fit(X, NAMES).transform(X))
    assert np.allclose(values[:, 0], values[:, 1])
    shifted = np.asarray(bank.fit(X, Y + 1).transform(X))
    assert np.allclose(shifted, values)


def test_xgboost_takes_texts_as_labels() -> None:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1)
    bank = MultiPathClassifierBank([("nb", GaussianNB()), ("xgb", model)], step_costs=[1, 2])
    values = np.asarray(bank.fit(X, NAMES).transform(X))
    assert np.allclose(values[:, 1], clone(model).fit(X, Y).predict_proba(X))


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("labels", [[0, 5], [-1, 0], [0, 1]])
def test_classes_are_aligned_by_label_not_by_place(labels: list[int]) -> None:
    bank = MultiPathClassifierBank(
        [
            ("own", FrozenEstimator(Numbered(labels, [0.75, 0.25]))),
            ("turned", FrozenEstimator(Numbered(labels[::-1], [0.75, 0.25]))),
        ],
        step_costs=[1, 2],
    )
    values = np.asarray(bank.fit(X[:4], labels * 2).transform(X[:4]))
    assert bank.classes_.tolist() == labels
    assert (values == [[[0.75, 0.25], [0.25, 0.75]]]).all()


def test_models_that_know_different_classes_share_the_axis() -> None:
    bank = MultiPathClassifierBank(
        [
            ("few", FrozenEstimator(Numbered([0, 5], [0.75, 0.25]))),
            ("more", FrozenEstimator(Numbered([5, -1, 0], [0.5, 0.375, 0.125]))),
        ],
        step_costs=[1, 2],
    )
    values = np.asarray(bank.transform(X[:2]))
    assert bank.classes_.tolist() == [-1, 0, 5]
    assert (values == [[[0, 0.75, 0.25], [0.375, 0.125, 0.5]]]).all()


def test_a_frozen_bank_refuses_labels_that_no_classifier_knows() -> None:
    bank = MultiPathClassifierBank([("nb", FrozenEstimator(GaussianNB().fit(X, NAMES)))])
    with pytest.raises(ValueError, match=r"labels \['ANT', 'BEE', 'CAT'\], which no classifier"):
        bank.fit(X, np.char.upper(NAMES))
    with pytest.raises(ValueError, match="no classifier of this frozen bank"):
        RoutedClassifier(bank, ThresholdRouter(0.5)).fit(X, np.char.upper(NAMES))
    wider = bank.set_params(classes=["ant", "bee", "cat", "dog"]).fit(X, NAMES)
    assert wider.transform(X).shape == (200, 1, 4)


def test_what_is_not_ready_is_told_by_name() -> None:
    bank = MultiPathClassifierBank([("nb", FrozenEstimator(GaussianNB()))])
    for run in (lambda: bank.fit(X, Y), lambda: bank.transform(X)):
        with pytest.raises(NotFittedError, match="'nb' is frozen but not fitted"):
            run()
    with pytest.raises(TypeError, match=r"'nb' is the class GaussianNB: give an instance"):
        MultiPathClassifierBank([("nb", GaussianNB)]).fit(X, Y)


@pytest.mark.parametrize("labels", [[None, 1] * 100, ["a", 1] * 100, [np.nan, 1.0] * 100])
def test_labels_that_are_missing_or_mixed_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"^y |Input y"):
        small_bank().fit(X, np.array(labels, dtype=object if labels[0] in (None, "a") else float))


# ---------------------------------------------------------------------- no copies


class Heavy(ClassifierMixin, BaseEstimator):
    """Counts how often it is copied."""

    copies = 0

    def __init__(self, weights: Any = None) -> None:
        self.weights = weights

    def __sklearn_clone__(self) -> Any:
        type(self).copies += 1
        return copy.copy(self)

    def __deepcopy__(self, memo: Any) -> Any:
        type(self).copies += 1
        return copy.copy(self)

    def fit(self, X: Any, y: Any) -> Heavy:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        return np.tile([0.5, 0.3, 0.2], (len(X), 1))


def test_prediction_copies_no_classifier() -> None:
    bank = MultiPathClassifierBank([("a", Heavy()), ("b", Heavy())], step_costs=[1, 2])
    routed = RoutedClassifier(bank, ThresholdRouter(0.9)).fit(X, Y)
    server = routed.freeze()
    Heavy.copies = 0
    routed.predict(X)
    routed.predict(X[:1])
    routed.bank_.transform(X)
    server.predict(X[:1])
    assert Heavy.copies == 0
