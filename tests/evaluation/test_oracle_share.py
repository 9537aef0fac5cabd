"""The share of the oracle gap: its two ends, its equation, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from skquee import PathTree
from skquee.baselines import FixedPath, OracleRouter, ThresholdRouter
from skquee.evaluation import oracle_share
from skquee.testing import make_path_probabilities

TABLE, Y = make_path_probabilities(400, PathTree.cascade([1, 2, 5]))


def curve_of(router, table=TABLE, y=Y):
    return router.fit(table, y).cost_curve(None, table, y)


OURS, FIXED, ORACLE = (curve_of(r) for r in (ThresholdRouter(), FixedPath(), OracleRouter()))


def test_fixed_paths_close_none_of_the_gap_and_the_oracle_all_of_it() -> None:
    assert oracle_share(FIXED, FIXED, ORACLE) == 0
    assert oracle_share(ORACLE, FIXED, ORACLE) == 1
    share = (OURS.area() - FIXED.area()) / (ORACLE.area() - FIXED.area())
    assert oracle_share(OURS, FIXED, ORACLE) == pytest.approx(share)
    assert share < 1


def test_the_range_of_cost_can_be_chosen() -> None:
    span = (2.0, 4.0)
    share = (OURS.area(span) - FIXED.area(span)) / (ORACLE.area(span) - FIXED.area(span))
    assert oracle_share(OURS, FIXED, ORACLE, cost_range=span) == pytest.approx(share)


def test_without_a_gap_there_is_no_share() -> None:
    assert np.isnan(oracle_share(OURS, FIXED, FIXED))


def test_other_rows_and_other_units_are_refused() -> None:
    with pytest.raises(ValueError, match=r"on \[400, 400, 300\] rows"):
        oracle_share(OURS, FIXED, curve_of(OracleRouter(), TABLE[:300], Y[:300]))
    tree = PathTree.cascade([1, 2, 5], cost_unit="ms")
    other = curve_of(OracleRouter(), TABLE.with_paths(tree), Y)
    dollars = curve_of(FixedPath(), TABLE.with_paths(PathTree.cascade([1, 2, 5], cost_unit="$")), Y)
    with pytest.raises(ValueError, match="unit"):
        oracle_share(OURS, dollars, other)
