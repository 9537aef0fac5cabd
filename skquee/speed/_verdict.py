"""What was measured of speed in one line a batch size: route, one path, or neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skquee.values._checks import check_number
from skquee.values._public import publish

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["speed_verdict"]

REFERENCE = "float32, eager"
ANSWERS = {
    "routed": "route",
    "path": "one path for all",
    "engine": "neither: the whole network on one engine",
}


def speed_verdict(found: pd.DataFrame, *, max_loss: float = 0.005) -> str:
    """Say whether routing is worth it on the clock, for each number of rows given together.

    Of everything that is at most `max_loss` less accurate on the test images than the float
    network, the fastest decides: a routed network, one path of it for all images, or neither
    (an engine that runs the whole float network). Where the quartiles of two kinds overlap, they
    are level, and the simpler one is named.

    Parameters
    ----------
    found : DataFrame
        Of :func:`measure_speed`.
    max_loss : float, default=0.005
        Accuracy that may be lost, as a share.

    Returns
    -------
    str
        A line for each number of threads and of rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from skquee.report import speed_verdict
    >>> found = pd.DataFrame(
    ...     {
    ...         "alternative": ["float32, eager", "int8, every block", "routed (paper), 0 points"],
    ...         "threads": 1, "batch": 64, "accuracy": [0.9, 0.9, 0.9],
    ...         "images_per_second": [100.0, 180.0, 300.0],
    ...         "low": [99.0, 170.0, 290.0], "high": [101.0, 190.0, 310.0],
    ...     }
    ... )
    >>> print(speed_verdict(found))  # doctest: +ELLIPSIS
    Verdict, at most 0.5 points under the float network's accuracy:
      64 images, 1 thread(s): route: routed (paper), 0 points, 1.67 times int8, every block
    """
    check_number(max_loss, "max_loss", at_least=0, at_most=1)
    lines = [f"Verdict, at most {100 * max_loss:g} points under the float network's accuracy:"]
    for (threads, size), part in found.groupby(["threads", "batch"]):
        rows = "1 image" if size == 1 else f"{size} images"
        lines.append(f"  {rows}, {threads} thread(s): {_of(part, max_loss)}")
    return "\n".join(lines)


def _kind(alternative: str) -> str:
    if alternative.startswith("routed ("):
        return "routed"
    of_levels = alternative.endswith((", every block", ", alone"))
    return "path" if of_levels or alternative.startswith("one path,") else "engine"


def _of(part: pd.DataFrame, max_loss: float) -> str:
    """Judge one number of rows and of threads."""
    least = float(part.loc[part["alternative"] == REFERENCE, "accuracy"].iloc[0]) - max_loss
    good = part[part["accuracy"] >= least - 1e-9]
    good = good.assign(kind=good["alternative"].map(_kind))
    best = {
        kind: rows.loc[rows["images_per_second"].idxmax()] for kind, rows in good.groupby("kind")
    }
    # Simplest first: what is no faster beyond the spread does not take its place.
    order = [kind for kind in ("engine", "path", "routed") if kind in best]
    chosen = order[0]
    for kind in order[1:]:
        if best[kind]["low"] > best[chosen]["high"]:
            chosen = kind
    others = [best[kind] for kind in order if kind != chosen]
    winner = best[chosen]
    text = f"{ANSWERS[chosen]}: {winner['alternative']}{_milliseconds(winner)}"
    if others:
        other = max(others, key=lambda row: row["images_per_second"])
        ratio = winner["images_per_second"] / other["images_per_second"]
        text += f", {ratio:.2f} times {other['alternative']}{_milliseconds(other)}"
    return text


def _milliseconds(row: pd.Series) -> str:
    if not row.get("p50_ms", 0) > 0:
        return ""
    return f" (p50 {row['p50_ms']:.3g} ms, p99 {row['p99_ms']:.3g} ms)"


publish("skquee.report", speed_verdict)
