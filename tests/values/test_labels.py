"""Labels, weights and held-out rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skquee.values._halves import widened
from skquee.values._labels import hold_out


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fraction=st.floats(0.2, 0.6),
    seed=st.integers(0, 2**32 - 1),
)
def test_held_out_rows_are_a_share_of_each_class_that_has_several(
    sizes: list[int], fraction: float, seed: int
) -> None:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    n_held = round(fraction * len(codes))
    if n_held >= len(codes):
        return
    train, held = hold_out(codes, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(len(codes)))
    assert len(held) == n_held
    several = np.array(sizes) >= 2
    shared = int(np.sum(sizes, where=several))
    if n_held and 0 < several.sum() <= min(n_held, shared - n_held):
        found = np.bincount(codes[held], minlength=len(sizes))
        assert not found[~several].any()
        assert (np.abs(found - n_held * np.array(sizes) / shared)[several] < 1).all()


@given(hnp.arrays(np.uint16, (3, 4), elements=st.integers(0, 2**16 - 1)), st.booleans())
def test_half_precision_widens_to_the_same_numbers_whatever_their_bits(
    bits: np.ndarray, plain: bool
) -> None:
    halves = (bits % 0x7C00 if plain else bits).view(np.float16)
    for values in (halves, halves[:, ::2], halves.T, halves[:0], halves.astype(">f2")):
        found = widened(values)
        assert found.dtype == np.float32
        assert np.array_equal(found, values.astype(np.float32), equal_nan=True)


def test_every_number_of_half_precision_is_widened() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    assert np.array_equal(widened(halves), halves.astype(np.float32))
