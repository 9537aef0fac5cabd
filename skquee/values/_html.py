"""Small HTML for notebooks: tables and curves that load nothing and follow the page's colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ROWS", "block", "curve_svg", "facts", "folded", "table"]

# Rows of a table at most: of more the first and the last are shown.
MOST_ROWS = 12

_CELL = "padding:2px 8px;border-bottom:1px solid #8884;font-variant-numeric:tabular-nums"
_MARGIN = 34


def block(title: str, *parts: str) -> str:
    """Return a titled block of parts."""
    return (
        '<div style="font-size:0.9em;line-height:1.4;max-width:60em">'
        f"<div><strong>{escape(title)}</strong></div>{''.join(parts)}</div>"
    )


def facts(known: Mapping[str, object]) -> str:
    """Return names and values in one line."""
    told = (
        f"{escape(name)} <strong>{escape(_cell(value))}</strong>" for name, value in known.items()
    )
    return f"<div>{', '.join(told)}</div>"


def folded(summary: str, content: str) -> str:
    """Return content that a click unfolds."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    bar: int | None = None,
) -> str:
    """Return a table, its numbers to the right; of many rows the first and the last.

    Column `bar`, of shares between 0 and 1, is shown as percentages with a bar behind.
    """
    given = [list(row) for row in rows]
    half = MOST_ROWS // 2
    cut = len(given) > MOST_ROWS + 1
    lines = []
    for place, row in enumerate(given):
        if cut and half <= place < len(given) - half:
            if place == half:
                lines.append(
                    f'<tr><td colspan="{len(header)}" style="{_CELL}">'
                    f"{len(given) - 2 * half:,} more</td></tr>"
                )
            continue
        cells = []
        for column, value in enumerate(row):
            style = f"{_CELL};text-align:{_side(value)}"
            text = _cell(value)
            if column == bar and isinstance(value, (int, float, np.number)):
                width = 100 * float(value)
                text = f"{width:.1f} %"
                style += f";background:linear-gradient(to right,#5a9bd466 {width:.1f}%,#0000 0)"
            cells.append(f'<td style="{style}">{escape(text)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    sides = [_side(value) for value in given[0]] if given else ["left"] * len(header)
    head = "".join(
        f'<th scope="col" style="{_CELL};text-align:{side}">{escape(name)}</th>'
        for name, side in zip(header, sides, strict=True)
    )
    return (
        '<div style="overflow-x:auto">'
        '<table style="border-collapse:collapse;font-size:inherit;color:inherit">'
        f'<caption style="text-align:left;padding:2px 8px">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def curve_svg(
    cost: NDArray[np.float64],
    accuracy: NDArray[np.float64],
    hull: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    unit: str | None,
    width: int = 380,
    height: int = 230,
) -> str:
    """Return a picture of operating points and their hull."""
    left, low = float(np.min(cost)), float(np.min(accuracy))
    wide, high = float(np.ptp(cost)) or 1.0, float(np.ptp(accuracy)) or 1.0

    def placed(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
        across = _MARGIN + (np.asarray(x) - left) / wide * (width - 2 * _MARGIN)
        up = height - _MARGIN - (np.asarray(y) - low) / high * (height - 2 * _MARGIN)
        return list(zip(across.tolist(), up.tolist(), strict=True))

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed(*hull))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>'
        for x, y in dict.fromkeys(placed(cost, accuracy))
    )
    bottom, right = height - _MARGIN, width - _MARGIN
    told = f"cost {left:.4g} to {left + np.ptp(cost):.4g}"
    label = f"Accuracy {low:.4g} to {low + np.ptp(accuracy):.4g} against mean {told}"
    axis = f"Mean cost ({unit})" if unit else "Mean cost"
    texts = "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
        for x, y, anchor, text in (
            (_MARGIN, bottom + 14, "start", f"{left:.4g}"),
            (right, bottom + 14, "end", f"{left + np.ptp(cost):.4g}"),
            (width / 2, bottom + 28, "middle", axis),
            (4, _MARGIN - 20, "start", "Accuracy"),
            (4, _MARGIN - 6, "start", f"{low + np.ptp(accuracy):.4g}"),
            (4, bottom - 4, "start", f"{low:.4g}"),
        )
    )
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" style="max-width:100%;font-size:11px" '
        'fill="currentColor">'
        f'<path d="M{_MARGIN},{_MARGIN}V{bottom}H{right}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.4"/>'
        f'<polyline points="{line}" fill="none" stroke="#2f7fc1" stroke-width="2"/>'
        f'<g fill="#2f7fc1" fill-opacity="0.7">{dots}</g>{texts}</svg>'
    )


def _side(value: object) -> str:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return "right" if number else "left"


def _cell(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:.4g}"
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
