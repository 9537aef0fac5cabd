"""Which warnings fail a test: all of ours, and of others what is no announcement."""

from __future__ import annotations

import warnings

import pytest

ANNOUNCEMENTS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def warn_of(message: str, category: type[Warning], module: str) -> None:
    warnings.warn_explicit(message, category, "a_file.py", 1, module=module, registry={})


@pytest.mark.parametrize("module", ["skquee.routers._router", "skquee", "tests.router.test_router"])
@pytest.mark.parametrize("category", [*ANNOUNCEMENTS, UserWarning, RuntimeWarning])
def test_what_our_modules_or_tests_are_told_is_an_error(
    category: type[Warning], module: str
) -> None:
    with pytest.raises(category, match="old"):
        warn_of("this is old", category, module)


@pytest.mark.parametrize("category", [*ANNOUNCEMENTS, UserWarning])
@pytest.mark.parametrize("module", ["sklearn.base", "torch.nn.modules.module"])
def test_what_we_say_is_an_error_whoever_is_told(category: type[Warning], module: str) -> None:
    with pytest.raises(category, match="removed"):
        warn_of("lambda is removed in skquee 1.0", category, module)


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning, ResourceWarning])
def test_what_others_warn_of_here_and_now_is_an_error(category: type[Warning]) -> None:
    with pytest.raises(category, match="wrong"):
        warn_of("this is wrong", category, "sklearn.base")


@pytest.mark.parametrize("category", ANNOUNCEMENTS)
def test_an_announcement_of_others_fails_nothing(category: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as said:  # the filters of the run stay
        warn_of("this is for later", category, "sklearn.base")
    assert [warning.category for warning in said] == [category]


def test_a_test_is_told_of_what_it_uses_itself() -> None:
    with pytest.raises(FutureWarning, match="for later"):
        warnings.warn("this is for later", FutureWarning, stacklevel=1)
