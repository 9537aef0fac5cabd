"""Callables: every form of answer, failures, and answers that were paid for."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.naive_bayes import GaussianNB

from skquee import MultiPathClassifierBank, RoutedClassifier
from skquee.bank import CallError
from skquee.bank._answers import read_answers
from skquee.bank._calls import AnswerStore, Calls, row_digest
from skquee.baselines import FixedPath, ThresholdRouter

CLASSES = np.array(["ant", "bee", "cat"])
TEXTS = [f"text {i}" for i in range(12)]
NAN = [np.nan] * 3


async def awaited(texts: Any) -> Any:
    return ["ant"] * len(texts)


class Page:
    """Has the repr of all objects: an address, which another one may have later."""

    def __init__(self, text: str) -> None:
        self.text = text


class Api:
    """Answers texts "text i" with class i modulo 3, notes calls, and fails where it is told."""

    def __init__(self, fails: Callable[[str, int], bool] = lambda text, tries: False) -> None:
        self.asked: list[str] = []
        self.sizes: list[int] = []
        self.fails, self.lock = fails, Lock()

    def __call__(self, texts: Any) -> Any:
        with self.lock:
            self.asked += texts
            self.sizes.append(len(texts))
        for text in texts:
            if self.fails(text, self.asked.count(text)):
                raise ConnectionError(f"no line for {text!r}")
        return [(CLASSES[number(text) % 3], 0.5) for text in texts]


def number(text: str) -> int:
    return int(text.split()[1])


def ask(api: Any, texts: Any = TEXTS, **options: Any) -> Any:
    calls = Calls(**options, sleep=lambda seconds: None)
    return calls.ask("api", api, list(texts), len(texts), CLASSES)


def expected(texts: Any = TEXTS) -> Any:
    return np.eye(3)[[number(text) % 3 for text in texts]] * 0.25 + 0.25


# ---------------------------------------------------------------------- forms of answers

BEE, ANT_HALF = [0, 1, 0], [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        (np.array([BEE, ANT_HALF]), [BEE, ANT_HALF]),
        ([BEE, ANT_HALF], [BEE, ANT_HALF]),
        ([tuple(BEE), tuple(ANT_HALF)], [BEE, ANT_HALF]),
        (pd.DataFrame([BEE, ANT_HALF]), [BEE, ANT_HALF]),
        (np.array([BEE, ANT_HALF], dtype=np.float16), [BEE, ANT_HALF]),
        (["bee", "bee"], [BEE, BEE]),
        (np.array(["bee", "bee"]), [BEE, BEE]),
        (pd.Series(["bee", "bee"]), [BEE, BEE]),
        ((["bee", "ant"], [1.0, 0.5]), [BEE, ANT_HALF]),
        ((np.array(["bee", "ant"]), np.array([1.0, 0.5])), [BEE, ANT_HALF]),
        ([("bee", 1.0), ("ant", np.float32(0.5))], [BEE, ANT_HALF]),
        ([("bee", 1.0), np.array(ANT_HALF)], [BEE, ANT_HALF]),
        (["bee", ("ant", 0.5)], [BEE, ANT_HALF]),
        ([None, "bee"], [NAN, BEE]),
        ([(None, 0.5), "bee"], [NAN, BEE]),
        ((["bee", None], [1.0, np.nan]), [BEE, NAN]),
        ([float("nan"), "bee"], [NAN, BEE]),
        (None, [NAN, NAN]),
    ],
)
def test_every_form_of_answer_is_read(answer: Any, rows: Any) -> None:
    assert np.array_equal(read_answers(answer, 2, CLASSES), rows, equal_nan=True)


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        ("bee", BEE),
        (np.str_("bee"), BEE),
        (("ant", 0.5), ANT_HALF),
        (ANT_HALF, ANT_HALF),
        (np.array(ANT_HALF), ANT_HALF),
        ([ANT_HALF], ANT_HALF),
        (["bee"], BEE),
        ([("ant", 0.5)], ANT_HALF),
        ((["ant"], [0.5]), ANT_HALF),
        (None, NAN),
        ([None], NAN),
    ],
)
def test_one_row_may_be_answered_without_a_list(answer: Any, row: Any) -> None:
    assert np.array_equal(read_answers(answer, 1, CLASSES), [row], equal_nan=True)


def test_numbers_are_labels_where_the_classes_are_numbers() -> None:
    numbers = np.array([0, 5])
    assert read_answers(np.array([5, 0]), 2, numbers).tolist() == [[0, 1], [1, 0]]
    assert read_answers([5, (0, 0.75)], 2, numbers).tolist() == [[0, 1], [0.75, 0.25]]
    assert read_answers(np.array([True, False]), 2, np.array([False, True])).tolist() == [
        [0, 1],
        [1, 0],
    ]


def test_a_score_below_chance_leaves_its_label_ahead() -> None:
    row = read_answers([("cat", 0.0)], 1, CLASSES)[0]
    assert row.argmax() == 2
    assert row.sum() == pytest.approx(1)


def test_tensors_are_read_whatever_their_type() -> None:
    torch = pytest.importorskip("torch")
    rows = torch.tensor([BEE, ANT_HALF])
    for tensor in (rows, rows.bfloat16(), rows.half(), rows.double().requires_grad_()):
        assert read_answers(tensor, 2, CLASSES).tolist() == [BEE, ANT_HALF]
    listed = [("bee", torch.tensor(1.0)), rows[1].bfloat16()]
    assert read_answers(listed, 2, CLASSES).tolist() == [BEE, ANT_HALF]
    assert read_answers((["bee", "ant"], torch.tensor([1.0, 0.5])), 2, CLASSES).tolist() == [
        BEE,
        ANT_HALF,
    ]
    assert read_answers(rows[:1].requires_grad_(), 1, CLASSES).tolist() == [BEE]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((2, 2)), r"shape \(2, 2\), but .* = \(2, 3\) is expected"),
        (np.zeros((3, 3)), r"shape \(3, 3\), but"),
        (["bee"], "1 answers for 2 rows"),
        (["bee", "ant", "ant"], "3 answers for 2 rows"),
        (["bee", "dog"], r"label 'dog', which is not among the classes \['ant', 'bee', 'cat'\]"),
        ([("bee", 1.5), "ant"], "score 1.5, which is not between 0 and 1"),
        ([("bee", -0.5), "ant"], "score -0.5"),
        ([("bee", np.nan), "ant"], "score nan"),
        ([[0.5, 0.5], "ant"], r"vector of shape \(2,\), but 3 probabilities"),
        ((["bee", "ant"], [0.5]), "2 labels and 1 scores"),
        ("bee", "answers for 2 rows"),
    ],
)
def test_answers_that_do_not_fit_are_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_answers(answer, 2, CLASSES)
    bank = MultiPathClassifierBank([("api", lambda texts: answer)], classes=CLASSES)
    with pytest.raises(ValueError, match=f"Classifier 'api': it returned .*{message}"):
        bank.materialize(TEXTS[:2])


def test_vectors_that_are_no_probabilities_are_refused_with_row_and_path() -> None:
    for vector, message in (([0.5, np.nan, 0.5], "contains NaN"), ([2, 3, 1], "must sum to 1")):
        half = [[1, 0, 0], vector]
        bank = MultiPathClassifierBank([("api", lambda t, half=half: half)], classes=CLASSES)
        with pytest.raises(ValueError, match=f"{message}.* row 1, path 'api'"):
            bank.materialize(TEXTS[:2])


# ---------------------------------------------------------------------- missing answers


def test_a_missing_answer_leaves_that_of_the_path_before() -> None:
    bank = MultiPathClassifierBank(
        [
            ("cheap", lambda texts: ["bee"] * len(texts)),
            ("dear", lambda texts: [None if t == "text 1" else "cat" for t in texts]),
        ],
        step_costs=[1, 8],
        classes=CLASSES,
    )
    y = CLASSES[[number(text) % 3 for text in TEXTS]]
    routed = RoutedClassifier(bank, FixedPath("dear")).fit(TEXTS, y)
    found = routed.route(TEXTS[:3])
    assert found.labels.tolist() == ["cat", "bee", "cat"]
    assert found.costs.tolist() == [9, 9, 9]  # it was asked all the same
    assert routed.freeze().predict(["text 1"]).tolist() == ["bee"]
    stored = FixedPath("dear").fit(bank.materialize(TEXTS), y)
    assert stored.predict(bank.materialize(TEXTS[:3])).tolist() == ["cat", "bee", "cat"]


# ---------------------------------------------------------------------- failures


def test_a_call_is_tried_again_after_longer_and_longer_waits() -> None:
    waits: list[float] = []
    api = Api(lambda text, tries: tries <= 3)
    calls = Calls(retries=3, sleep=waits.append)
    assert np.allclose(calls.ask("api", api, TEXTS[:1], 1, CLASSES), expected(TEXTS[:1]))
    assert api.sizes == [1, 1, 1, 1]
    for wait, most in zip(waits, [0.5, 1.0, 2.0], strict=True):
        assert most / 2 <= wait <= most


def test_waits_end_at_half_a_minute() -> None:
    waits: list[float] = []
    with pytest.raises(CallError):
        Calls(retries=12, sleep=waits.append).ask(
            "api", Api(lambda *_: True), ["text 0"], 1, CLASSES
        )
    assert len(waits) == 12
    assert max(waits) <= 30


def test_without_options_a_group_is_one_call_and_its_error_is_told() -> None:
    api = Api(lambda text, tries: text == "text 4")
    with pytest.raises(CallError, match="'api' raised ConnectionError on 12 of 12 rows"):
        ask(api)
    assert api.sizes == [12]


def test_a_group_that_fails_is_asked_row_by_row_and_keeps_what_came() -> None:
    api = Api(lambda text, tries: text == "text 4")
    with pytest.raises(CallError, match=r"1 of 12 rows \(first: \[4\]\): no line") as caught:
        ask(api, retries=1)
    error = caught.value
    assert error.rows.tolist() == [4]
    assert np.isnan(error.probabilities[4]).all()
    rest = np.delete(np.arange(12), 4)
    assert np.allclose(error.probabilities[rest], expected()[rest])
    assert isinstance(error.__cause__, ConnectionError)
    again = pickle.loads(pickle.dumps(error))
    assert again.rows.tolist() == [4]
    assert np.array_equal(again.probabilities, error.probabilities, equal_nan=True)
    assert str(again) == str(error)


def test_a_row_that_fails_for_good_falls_back_to_the_path_before() -> None:
    bank = MultiPathClassifierBank(
        [("cheap", Api()), ("dear", Api(lambda text, tries: text == "text 4"))],
        step_costs=[1, 8],
        classes=CLASSES,
        fallback="previous",
    )
    y = CLASSES[[number(text) % 3 for text in TEXTS]]
    routes = RoutedClassifier(bank, FixedPath("dear")).fit(TEXTS, y).route(TEXTS)
    assert routes.labels.tolist() == y.tolist()
    assert np.allclose(np.asarray(bank.transform(TEXTS))[4, 1], 1 / 3)


def test_an_error_reaches_whoever_predicts() -> None:
    down = Api(lambda text, tries: True)
    bank = MultiPathClassifierBank([("api", down)], classes=CLASSES)
    router = ThresholdRouter(0.5).fit(
        MultiPathClassifierBank([("api", Api())], classes=CLASSES).materialize(TEXTS),
        CLASSES[[number(text) % 3 for text in TEXTS]],
    )
    for run in (router.predict, router.freeze().predict):
        with pytest.raises(CallError, match="12 of 12 rows"):
            run(bank.transform(TEXTS))


def test_clones_share_callables_which_may_hold_what_cannot_be_copied() -> None:
    api = Api()  # it holds a lock
    bank = MultiPathClassifierBank([("api", api), ("method", api.__call__)], step_costs=[1, 2])
    copied = clone(bank.fit(TEXTS, CLASSES[[number(text) % 3 for text in TEXTS]]))
    assert copied.classifiers[0][1] is api
    assert copied.classifiers[1][1].__self__ is api
    assert copied.step_costs == [1, 2]
    assert not hasattr(copied, "classes_")


# ---------------------------------------------------------------------- side by side


def test_rows_are_sent_side_by_side_and_answers_keep_their_order() -> None:
    together = Barrier(4, timeout=60)

    def api(texts: Any) -> Any:
        assert len(texts) == 1
        together.wait()  # passes only once four calls are under way at once
        return CLASSES[number(texts[0]) % 3], 0.5

    assert np.allclose(ask(api, max_workers=4), expected())


def test_a_failure_half_way_keeps_the_answers_of_the_other_workers() -> None:
    api = Api(lambda text, tries: text in ("text 4", "text 7"))
    with pytest.raises(CallError, match="2 of 12 rows") as caught:
        ask(api, max_workers=3)
    assert caught.value.rows.tolist() == [4, 7]
    assert sorted(api.asked) == sorted(TEXTS)
    assert np.isfinite(caught.value.probabilities).all(axis=1).sum() == 10


# ---------------------------------------------------------------------- kept on disk


@pytest.mark.parametrize("max_workers", [None, 3])
def test_a_second_call_pays_only_for_what_is_missing(tmp_path: Path, max_workers: Any) -> None:
    options = {"cache": tmp_path, "max_workers": max_workers}
    with pytest.raises(CallError, match="They are in the cache: a second call goes on"):
        ask(Api(lambda text, tries: text == "text 4"), **options)
    second = Api()
    assert np.allclose(ask(second, **options), expected())
    assert second.asked == ["text 4"]
    third = Api()
    assert np.allclose(ask(third, [*TEXTS, "text 12"], **options), expected([*TEXTS, "text 12"]))
    assert third.asked == ["text 12"]


def test_a_bank_asks_its_callables_once_for_a_row(tmp_path: Path) -> None:
    api = Api()
    bank = MultiPathClassifierBank([("api", api)], classes=CLASSES, cache=tmp_path / "answers")
    first = np.asarray(bank.transform(TEXTS))
    again = MultiPathClassifierBank([("api", api)], classes=CLASSES, cache=tmp_path / "answers")
    assert np.array_equal(np.asarray(again.transform(TEXTS[::-1])), first[::-1])
    assert sorted(api.asked) == sorted(TEXTS)


def test_a_missing_answer_is_an_answer_and_not_asked_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def api(texts: Any) -> Any:
        asked.append(len(texts))

    for _ in range(2):
        assert np.isnan(ask(api, cache=tmp_path)).all()
    assert asked == [12]


def test_equal_rows_are_asked_once_a_call(tmp_path: Path) -> None:
    api = Api()
    assert np.allclose(ask(api, ["text 1"] * 5, cache=tmp_path), expected(["text 1"] * 5))
    assert api.asked == ["text 1"]


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="must be a folder: it is a file"):
        ask(Api(), cache=tmp_path / "file")


def test_names_and_classes_keep_answers_apart(tmp_path: Path) -> None:
    digests = [row_digest("text 0")]
    AnswerStore(tmp_path, "a/b c", CLASSES).put(digests, np.array([[0.5, 0.25, 0.25]]))
    assert AnswerStore(tmp_path, "a/b c", CLASSES).get(digests)[digests[0]].tolist() == ANT_HALF
    assert AnswerStore(tmp_path, "a b/c", CLASSES).get(digests) == {}
    assert AnswerStore(tmp_path, "a/b c", CLASSES[::-1]).get(digests) == {}
    assert all(file.parent == tmp_path for file in tmp_path.rglob("*.sqlite"))


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ("a", "b"),
        (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
        (np.array([1.0, 2.0]), np.array([[1.0, 2.0]])),
        (["a", 1], ["a", 2]),
        ({"a": 1}, {"a": 2}),
        (np.array(["a", 1], dtype=object), np.array(["a", 2], dtype=object)),
        # What repr leaves out: the middle of long arrays, digits, and the contents of objects.
        ({"a": np.zeros(2000)}, {"a": np.eye(1, 2000, 1000)[0]}),
        ([np.array([0.1])], [np.array([0.1 + 1e-12])]),
        ([Fraction(1, 3), {"a", "b"}], [Fraction(1, 3), {"a", "c"}]),
        ([Page("one")], [Page("two")]),
    ],
)
def test_equal_rows_and_only_these_have_one_digest(row: Any, other: Any) -> None:
    assert row_digest(row) == row_digest(pickle.loads(pickle.dumps(row)))
    assert row_digest(row) != row_digest(other)


def test_rows_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(TypeError, match="cache= cannot tell rows with function in them apart"):
        row_digest([lambda: None])


@pytest.mark.parametrize("make", [dict, "arrow", pd.DataFrame])
def test_rows_of_columns_are_kept_apart_by_all_of_them(tmp_path: Path, make: Any) -> None:
    if make == "arrow":
        make = pytest.importorskip("pyarrow").table
    rows = make({"always": ["same", "same", "same"], "which": [0, 1, 2]})

    def api(part: Any) -> Any:
        return CLASSES[np.asarray(part["which"])]

    bank = MultiPathClassifierBank([("api", api)], classes=CLASSES, cache=tmp_path)
    for _ in range(2):
        found = np.asarray(bank.transform(rows))[:, 0]
        assert found.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rows: [("ant", None)] * len(rows), "the score None, which is not between"),
        (lambda rows: [{"label": "ant"}] * len(rows), "neither a label, a pair .label, score. nor"),
        (awaited, "it returned a coroutine"),
    ],
)
def test_answers_of_another_kind_are_told(answer: Any, message: str) -> None:
    bank = MultiPathClassifierBank([("api", answer)], classes=CLASSES)
    with pytest.raises(ValueError, match=message):
        np.asarray(bank.transform(TEXTS))


def test_a_generator_answers_row_by_row() -> None:
    assert read_answers((text for text in ["bee", "ant"]), 2, CLASSES).argmax(axis=1).tolist() == [
        1,
        0,
    ]


def test_a_frame_whose_columns_are_the_classes_is_read_by_name() -> None:
    frame = pd.DataFrame({"cat": [0.7, 0.2], "ant": [0.2, 0.7], "bee": [0.1, 0.1]})
    assert read_answers(frame, 2, CLASSES).tolist() == [[0.2, 0.1, 0.7], [0.7, 0.1, 0.2]]
    other = frame.set_axis(["p0", "p1", "p2"], axis=1)
    assert read_answers(other, 2, CLASSES).tolist() == frame.to_numpy().tolist()


def test_two_threads_share_one_cache(tmp_path: Path) -> None:
    together = Barrier(2, timeout=60)

    def run(_: int) -> Any:
        together.wait()
        return ask(Api(), cache=tmp_path, max_workers=2)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(run, range(2)):
            assert np.allclose(found, expected())
    silent = Api()
    assert np.allclose(ask(silent, cache=tmp_path), expected())
    assert silent.asked == []


FILL = """
import sys
from skquee import MultiPathClassifierBank
call = lambda texts: [("ant", "bee", "cat")[int(t.split()[1]) % 3] for t in texts]
bank = MultiPathClassifierBank(
    [("api", call)], classes=["ant", "bee", "cat"], cache=sys.argv[1], max_workers=2
)
bank.materialize([f"text {i}" for i in range(12)])
"""


def test_two_processes_share_one_cache(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.communicate()[1].count("Error") == 0
        assert worker.returncode == 0
    silent = Api()
    assert ask(silent, cache=tmp_path).argmax(axis=1).tolist() == [0, 1, 2] * 4
    assert silent.asked == []


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries must be an integer >= 0, got -1"),
        ({"retries": 1.5}, "retries must be an integer"),
        ({"retries": True}, "retries must be an integer"),
        ({"max_workers": 0}, "max_workers must be an integer >= 1, got 0"),
        ({"batch_size": "many"}, "batch_size must be an integer >= 1, got 'many'"),
        ({"merge_groups": True}, "is for a network"),
        ({"fallback": "next"}, "fallback must be 'previous' or None, got 'next'"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"step_costs": "latency"}, "may cost money: give numbers"),
    ],
)
def test_bad_options_fail_before_any_call(options: Any, message: str) -> None:
    api = Api()
    bank = MultiPathClassifierBank([("api", api)], classes=CLASSES, **options)
    for run in (bank.fit, bank.transform):
        with pytest.raises(ValueError, match=message):
            run(TEXTS)
    assert api.asked == []


def test_parameters_for_callables_are_warned_of_where_none_is_called(tmp_path: Path) -> None:
    X, y = np.arange(8.0)[:, None], np.arange(8) % 2
    bank = MultiPathClassifierBank(
        [("a", GaussianNB()), ("b", GaussianNB())],
        step_costs=[1, 2],
        retries=3,
        cache=tmp_path / "answers",
    )
    with pytest.warns(UserWarning, match="retries, cache are for classifiers that are callables"):
        bank.fit(X, y)
    assert not (tmp_path / "answers").exists()
