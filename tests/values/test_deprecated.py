"""Names of before work for one release, and say what to write instead."""

import inspect
import warnings

import pytest
from sklearn.base import BaseEstimator, clone

from skquee.values._deprecated import old_keywords, renamed_function


class Trained(BaseEstimator):
    @old_keywords(
        {"epochs": "trainer=Trainer(epochs=...)", "rate": "trainer=Trainer(rate=...)"},
        version="0.3",
        convert=lambda old: {"trainer": tuple(sorted(old.items()))},
    )
    def __init__(self, size=1, *, trainer=None):
        self.size = size
        self.trainer = trainer

    @old_keywords({"costs": "path_costs"}, version="0.3")
    def total(self, *, path_costs):
        return sum(path_costs)

    sum_of = renamed_function(total, "sum_of", version="0.3")


def test_old_keywords_of_a_constructor_say_the_class_and_become_the_new_ones():
    with pytest.warns(FutureWarning) as heard:
        made = Trained(2, epochs=3, rate=0.1)
    assert made.trainer == (("epochs", 3), ("rate", 0.1))
    said = [str(one.message) for one in heard]
    assert said == [
        f"`{name}` of Trained: use trainer=Trainer({name}=...); removed in version 0.3."
        for name in ("epochs", "rate")
    ]


def test_the_warning_points_at_the_line_that_uses_the_old_name():
    with pytest.warns(FutureWarning) as heard:
        Trained(epochs=3)
    assert heard[0].filename == __file__


def test_parameters_are_the_new_ones_only_and_new_ones_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = clone(Trained(3, trainer=()))
        assert made.total(path_costs=[1, 2]) == 3
    assert list(made.get_params()) == ["size", "trainer"]
    assert list(inspect.signature(Trained).parameters) == ["size", "trainer"]


def test_a_method_says_its_own_name():
    with pytest.warns(FutureWarning, match=r"^`costs` of Trained\.total\(\): use path_costs; rem"):
        assert Trained().total(costs=[1, 2]) == 3


def test_both_names_at_once_are_refused():
    with (
        pytest.warns(FutureWarning),
        pytest.raises(TypeError, match=r"Trained got \['trainer'\] and \['epochs'\], its name"),
    ):
        Trained(trainer=(), epochs=3)


def test_an_unknown_keyword_is_still_an_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'eppochs'"):
        Trained(eppochs=3)


def test_a_renamed_function_warns_and_does_the_same():
    with pytest.warns(FutureWarning, match=r"^sum_of\(\): use Trained\.total\(\); removed in ve"):
        assert Trained().sum_of(path_costs=[1, 2]) == 3
    assert Trained.sum_of.__name__ == "sum_of"
