"""The table of families in the documentation: some of its rows at every run."""

from __future__ import annotations

import pytest

from tests.networks.families import FAMILIES, measure, read_table

# Of each layout and kind of product one that is quick: convolutions, tokens, channels last.
ALWAYS = ("mobilenetv3_small_050", "regnety_002", "levit_128s", "mambaout_femto")


@pytest.mark.parametrize("name", ALWAYS)
def test_a_row_of_the_table_is_what_becomes_of_the_network(name):
    assert measure(FAMILIES[name]()) == read_table()[name]


def test_the_table_has_a_row_for_every_family():
    assert list(read_table()) == list(FAMILIES)
    assert len(FAMILIES) >= 30


def test_every_row_counts_alike_and_gives_the_whole_network_s_output():
    for row in read_table().values():
        assert row.counted_otherwise == "1.0000", row
        assert row.output == "equal" or row.output.endswith("off"), row
