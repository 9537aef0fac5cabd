"""Milliseconds of calls: measured on a clock of our own, interpolated, taken as costs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.bank import CallTimes
from skquee.bank._times import measure_calls
from skquee.baselines import ThresholdRouter
from skquee.testing import TableNetwork, make_path_probabilities

X, Y = make_classification(90, 4, n_informative=3, n_redundant=0, random_state=0)


def literal(rows: Any, calls: Any, n: float) -> float:
    """Interpolate as a hand would: along the line between the two sizes around n."""
    if n == 0:
        return 0.0
    if n <= rows[0]:
        return float(calls[0])
    for (r0, r1), (c0, c1) in zip(
        zip(rows, rows[1:], strict=False), zip(calls, calls[1:], strict=False), strict=True
    ):
        if n <= r1:
            return float(c0 + (c1 - c0) * (n - r0) / (r1 - r0))
    if len(rows) == 1:
        return float(calls[0] * n / rows[0])
    slope = max(0.0, (calls[-1] - calls[-2]) / (rows[-1] - rows[-2]))
    return float(calls[-1] + slope * (n - rows[-1]))


@pytest.mark.filterwarnings("ignore:Calls were timed with up to")
@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 500), min_size=1, max_size=5),
    calls=st.lists(st.floats(0, 100), min_size=5, max_size=5),
    n=st.integers(0, 4000),
)
def test_times_between_and_beyond_sizes_are_on_straight_lines(
    steps: list[int], calls: list[float], n: int
) -> None:
    rows = np.cumsum(steps).tolist()
    mine = calls[: len(rows)]
    times = CallTimes(("other", "mine"), rows, [[1.0] * len(rows), mine])
    expected = pytest.approx(literal(rows, mine, n))
    assert times.milliseconds("mine", n) == times.milliseconds(1, n) == expected
    assert times.total({"mine": n}) == expected
    if n:
        assert times.per_row(n)[1] == pytest.approx(literal(rows, mine, n) / n)


def test_a_routed_call_takes_one_call_of_each_that_ran() -> None:
    times = CallTimes(("a", "b", "c"), [1, 11], [[1, 2], [10, 20], [5, 5]])
    assert times.total({"a": 11, "b": 6}) == 2 + 15
    assert times.total({}) == 0


def test_what_is_written_down_is_read_again() -> None:
    times = CallTimes(("a", "b"), [1, 11], [[1, 2], [10, 20]])
    again = CallTimes.from_dict(json.loads(json.dumps(times.to_dict())))
    assert again.names == ("a", "b")
    assert again.to_dict() == times.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [11, 1]}, "from 1 up, rising"),
        ({"rows": [0, 1]}, "from 1 up, rising"),
        ({"rows": [1, 1]}, "from 1 up, rising"),
        ({"rows": []}, "from 1 up, rising"),
        ({"rows": [[1, 2]]}, "from 1 up, rising"),
        ({"rows": [1, np.nan]}, "from 1 up, rising"),
        ({"calls": [[1, 2]]}, r"shape \(n_classifiers, n_sizes\) = \(2, 2\), got \(1, 2\)"),
        ({"calls": [1, 2]}, r"= \(2, 2\), got \(2,\)"),
        ({"calls": [[1, 2], [-1, 2]]}, "finite and not negative"),
        ({"calls": [[1, np.nan], [1, 2]]}, "finite and not negative"),
        ({"calls": [[1, np.inf], [1, 2]]}, "finite and not negative"),
        ({"names": ["a"]}, r"= \(1, 2\), got \(2, 2\)"),
        ({"names": ["a", "a"]}, "names must be different"),
    ],
)
def test_times_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    fields = {"names": ["a", "b"], "rows": [1, 11], "calls": [[1, 2], [10, 20]]} | change
    with pytest.raises(ValueError, match=message):
        CallTimes.from_dict(fields)


@pytest.mark.parametrize("fields", [{}, {"names": ["a"]}, {"rows": [1], "calls": [[1]]}])
def test_fields_that_lack_are_named(fields: Any) -> None:
    with pytest.raises(ValueError, match="lack"):
        CallTimes.from_dict(fields)


def test_questions_without_an_answer_are_refused() -> None:
    times = CallTimes(("a", "b"), [1, 11], [[1, 2], [10, 20]])
    with pytest.raises(ValueError, match="no classifier 'c' among"):
        times.milliseconds("c", 1)
    with pytest.raises(ValueError, match="not be negative, got -1"):
        times.milliseconds("a", -1)


def test_many_more_rows_than_were_timed_warn_once() -> None:
    times = CallTimes(("a", "b"), [1, 11], [[1, 2], [10, 20]])
    times.total({"a": 13, "b": 0})  # warnings are errors here
    with pytest.warns(UserWarning, match="up to 11 rows, .* extrapolated.*latency_rows=11") as told:
        times.per_row(14)
        times.total({"a": 500, "b": 11})
    assert len(told) == 1


class Clock:
    """Time that passes only where a classifier runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[int, int]] = []

    def __call__(self) -> float:
        return self.now

    def run(self, column: int, rows: Any) -> None:
        self.calls.append((column, len(rows)))
        self.now += (0.001, 0.02)[column] + (0.0001, 0.001)[column] * len(rows)


def test_every_size_up_to_the_rows_there_are_is_timed_after_a_warm_up() -> None:
    clock = Clock()
    times = measure_calls(
        ["a", "b"], clock.run, lambda rows: rows, 100, groups=(1, 10, 5000), clock=clock
    )
    assert times.rows.tolist() == [1, 10, 100]
    assert np.allclose(times.calls, [[1.1, 2, 11], [21, 30, 120]])
    assert clock.calls.count((0, 1)) == 1 + 7
    assert clock.calls.count((1, 100)) == 1 + 2, "a slow call is timed no longer than needed"
    assert max(size for _, size in clock.calls) == 100


@pytest.mark.parametrize(
    ("n_samples", "groups", "message"),
    [
        (0, (1,), "no rows to time"),
        (9, (), "at least one number of rows"),
        (9, (0, 5), "groups must be an integer >= 1, got 0"),
        (9, (1.5,), "groups must be an integer >= 1, got 1.5"),
    ],
)
def test_nothing_to_time_is_refused(n_samples: int, groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_calls(["a"], lambda *_: None, lambda rows: rows, n_samples, groups=groups)


# ---------------------------------------------------------------------- as costs of a bank


def latency_bank(**options: Any) -> MultiPathClassifierBank:
    return MultiPathClassifierBank(
        [("nb", GaussianNB()), ("lr", LogisticRegression())], step_costs="latency", **options
    )


def test_latency_as_cost_is_milliseconds_a_row() -> None:
    bank = latency_bank(latency_rows=50).fit(X, Y)
    assert bank.paths_.cost_unit == "ms"
    assert bank.times_ is not None
    assert np.allclose(bank.costs_, np.cumsum(bank.times_.per_row(50)))
    bank.set_params(latency_rows=1)
    assert np.allclose(bank.transform(X).paths.path_costs, np.cumsum(bank.times_.per_row(1)))
    with pytest.warns(UserWarning, match="timed with up to 90 rows"):
        assert latency_bank(latency_rows=1000).fit(X, Y).costs_.shape == (2,)
    bank = latency_bank().fit(X, Y)  # of fewer rows than a thousand: as many as there are
    assert bank.times_ is not None
    assert np.allclose(bank.costs_, np.cumsum(bank.times_.per_row(len(X))))
    routes = RoutedClassifier(latency_bank(), ThresholdRouter(0.9)).fit(X, Y).route(X)
    assert routes.tree.cost_unit == "ms"
    assert (routes.costs > 0).all()


def test_a_bank_measures_any_sizes_on_demand_and_keeps_its_costs() -> None:
    bank = MultiPathClassifierBank(
        [("nb", GaussianNB()), ("lr", LogisticRegression())], step_costs=[1, 5], cost_unit="$"
    ).fit(X, Y)
    assert bank.times_ is None
    times = bank.measure(X, groups=[3, 30])
    assert times is bank.times_
    assert times.names == ("nb", "lr")
    assert times.rows.tolist() == [3, 30]
    assert bank.costs_.tolist() == [1, 6]
    assert bank.paths_.cost_unit == "$"


def test_a_routed_call_takes_its_classifiers_and_deciding() -> None:
    times = CallTimes(("nb", "lr"), [1, 11], [[1.0, 2.0], [3.0, 5.0]], [0.5, 2.5])
    assert times.total({"nb": 11, "lr": 6}, 11) == pytest.approx(2 + 4 + 2.5)
    assert times.total({"nb": 6}, 6) == pytest.approx(1.5 + 1.5)
    assert times.total({"nb": 6}) == pytest.approx(1.5)
    again = CallTimes.from_dict(json.loads(json.dumps(times.to_dict())))
    assert again.total({"nb": 6}, 6) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="not what deciding takes"):
        CallTimes(("nb",), [1], [[1.0]]).total({"nb": 1}, 1)
    for deciding in ([1.0], [-1.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="deciding must be a finite time"):
            CallTimes(("nb", "lr"), [1, 11], [[1.0, 2.0], [3.0, 5.0]], deciding)


def test_a_routed_classifier_measures_its_calls_and_stays_as_it_is() -> None:
    clf = RoutedClassifier(latency_bank(), ThresholdRouter(0.9)).fit(X, Y)
    costs, own = clf.bank_.costs_, clf.bank_.times_
    times = clf.measure(X, groups=[1, 30])
    assert times.rows.tolist() == [1, 30]
    assert times.deciding is not None
    assert times.deciding.shape == (2,)
    routes = clf.route(X[:30])
    assert len(routes) == 30
    assert times.total(routes.counts, len(routes)) >= times.total(routes.counts) > 0
    assert clf.bank_.times_ is own
    assert np.array_equal(clf.bank_.costs_, costs)


def test_callables_and_networks_are_never_run_only_to_be_timed() -> None:
    asked: list[int] = []

    def call(rows: Any) -> Any:
        asked.append(len(rows))
        return np.full((len(rows), 2), 0.5)

    with pytest.raises(ValueError, match=r"would call \['api'\] only to time them"):
        MultiPathClassifierBank([("nb", GaussianNB()), ("api", call)], step_costs="latency").fit(
            X, Y
        )
    bank = MultiPathClassifierBank([("nb", GaussianNB()), ("api", call)], step_costs=[1, 5])
    with pytest.raises(TypeError, match=r"\['api'\] are callables"):
        bank.fit(X, Y).measure(X)
    assert asked == []
    network = MultiPathClassifierBank(TableNetwork(make_path_probabilities(20)[0]))
    with pytest.raises(TypeError, match="network.measure_costs"):
        network.measure(np.arange(20)[:, None])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_costs": "bitops"}, "numbers or 'latency', got 'bitops'"),
        ({"step_costs": None}, "step_costs is missing: give what running each of"),
        ({"step_costs": [0, 0]}, "zero"),
        ({"step_costs": [1, np.nan]}, "entry 1 is nan"),
        ({"step_costs": [1, 2], "path_costs": [1, 2]}, "step_costs .* or path_costs"),
        ({"step_costs": None, "path_costs": "latency"}, "path_costs='latency'"),
        ({"step_costs": "latency", "latency_rows": 0}, "latency_rows must be an integer"),
    ],
)
def test_costs_that_do_not_fit_fail_in_fit(options: Any, message: str) -> None:
    bank = MultiPathClassifierBank([("nb", GaussianNB()), ("lr", LogisticRegression())], **options)
    with pytest.raises(ValueError, match=message):
        bank.fit(X, Y)
