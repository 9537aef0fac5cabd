"""The verdict of a benchmark: the fastest of what is accurate enough, the simpler where level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skquee.report import speed_verdict

FLOAT, ENGINE = "float32, eager", "OpenVINO, int8"
PATH, ROUTED = "one path, 0.5 points allowed", "routed (paper), 0.5 points allowed"


def found(spread: float = 0.01, batch: int = 64, **speeds: tuple[float, float]) -> pd.DataFrame:
    """Speeds and accuracies of alternatives, with the reference."""
    names = {"engine": ENGINE, "path": PATH, "routed": ROUTED}
    rows = [(FLOAT, 100.0, 0.90), *((names[name], *pair) for name, pair in speeds.items())]
    frame = pd.DataFrame(rows, columns=["alternative", "images_per_second", "accuracy"])
    frame["low"] = frame["images_per_second"] * (1 - spread)
    frame["high"] = frame["images_per_second"] * (1 + spread)
    if batch == 1:
        frame["p50_ms"] = 1000 / frame["images_per_second"]
        frame["p99_ms"] = 2000 / frame["images_per_second"]
    return frame.assign(threads=1, batch=batch)


def last(frame: pd.DataFrame, **options: float) -> str:
    return speed_verdict(frame, **options).splitlines()[-1]


def test_the_fastest_kind_is_named_with_what_comes_next():
    text = last(found(engine=(200, 0.9), path=(300, 0.9), routed=(450, 0.9)))
    assert text == f"  64 images, 1 thread(s): route: {ROUTED}, 1.50 times {PATH}"
    text = last(found(engine=(200, 0.9), path=(300, 0.9), routed=(250, 0.9)))
    assert text == f"  64 images, 1 thread(s): one path for all: {PATH}, 1.20 times {ROUTED}"
    text = last(found(engine=(400, 0.9), path=(300, 0.9), routed=(250, 0.9)))
    assert "neither: the whole network on one engine: OpenVINO, int8, 1.33 times" in text


def test_what_loses_more_accuracy_than_allowed_does_not_count():
    frame = found(path=(300, 0.9), routed=(900, 0.894))
    assert "one path for all" in last(frame)
    assert "route:" in last(frame, max_loss=0.006)
    assert "neither" in last(found(path=(300, 0.5)))


def test_where_quartiles_overlap_the_simpler_is_named():
    frame = found(0.1, engine=(200, 0.9), path=(300, 0.9), routed=(330, 0.9))
    assert "one path for all" in last(frame)
    assert "neither" in last(found(0.5, engine=(200, 0.9), routed=(300, 0.9)))


def test_single_images_show_their_quantiles_and_each_size_has_a_line():
    frame = pd.concat([found(batch=size, routed=(400, 0.9)) for size in (1, 16)])
    lines = speed_verdict(frame).splitlines()
    assert lines[0].startswith("Verdict, at most 0.5 points")
    assert "(p50 2.5 ms, p99 5 ms)" in lines[1] and "p50" not in lines[2]
    assert len(lines) == 3


@pytest.mark.parametrize("max_loss", [-1, np.nan, "a"])
def test_a_loss_that_is_no_share_is_refused(max_loss):
    with pytest.raises(ValueError, match="max_loss must be a finite number >= 0 and <= 1"):
        speed_verdict(found(), max_loss=max_loss)
