"""An operating curve as one HTML file to play with.

Plain SVG and a few hundred lines of JavaScript in ``page/``, instead of a charting library: a file
that needs no network has to carry its library (plotly 4.8 MB, bokeh with widgets 1.7 MB, vega with
vega-lite and vega-embed 0.8 MB), and has to stay under 1 MB with 10,000 rows in it. Sliders, tables
and live regions, which keyboards and screen readers need, are HTML's own in any case.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skquee._version import __version__
from skquee.evaluation import CostCurve
from skquee.values._checks import check_integer, check_labels_given
from skquee.values._types import Json

__all__ = ["page_of", "report_data", "report_page"]

# Rows to inspect, and bytes of the file for each; with fewer rows it is held to the least.
MAX_ROWS, BYTES_A_ROW, LEAST_BYTES = 10_000, 100, 1_000_000
# The point where a run starts is one byte.
MAX_POINTS, FEWEST_POINTS, FEWEST_ROWS = 255, 32, 500
# Predicted errors are whole numbers of 1 / ERRORS, NONE where there is none; so are gradings.
ERRORS, NONE, GRADES = 10_000, 65_535, 250
NAME_LENGTH = 60
N_HUES = 7

# Columns (n_points, n_rows) of the errors predicted along a curve, for some rows.
PredictedErrors = Callable[[NDArray[np.intp]], "NDArray[np.floating] | None"]


def report_page(
    curve: CostCurve,
    *,
    labels: ArrayLike | None = None,
    predicted_errors: PredictedErrors | None = None,
    row_names: Sequence[object] | None = None,
    max_rows: int = MAX_ROWS,
    **texts: Any,
) -> str:
    """Return the HTML page of a curve, within 1 MB, or 100 bytes a row where rows are many.

    `curve`: what is shown. `labels` (n_samples,): True label of each row. `predicted_errors`: from
    indices of rows to the error predicted for each at every point, shape (n_points, n_rows), or
    None. `row_names`: what rows are called besides their number. `max_rows`: rows to inspect at
    most; of more as many are drawn. Curve and path shares are of all. `**texts`: ``title``,
    ``verdict``, ``models`` and ``chosen`` of :func:`report_data`. Returns ASCII only.
    """
    n_samples = curve.paths.shape[1]
    n_rows = min(check_integer(max_rows, "max_rows", at_least=1), n_samples)
    rows = np.arange(n_samples)
    if n_rows < n_samples:
        rows = np.sort(np.random.default_rng(0).choice(n_samples, size=n_rows, replace=False))
    errors = None if predicted_errors is None else predicted_errors(rows)
    n_points, limit = MAX_POINTS, max(LEAST_BYTES, BYTES_A_ROW * n_rows)
    while True:
        data = report_data(
            curve,
            labels=labels,
            rows=rows,
            predicted_errors=errors,
            row_names=row_names,
            max_points=n_points,
            **texts,
        )
        page = page_of(data)
        n_shown = len(data["points"]["cost"])
        if len(page) <= limit or (n_shown <= FEWEST_POINTS and len(rows) <= FEWEST_ROWS):
            return page
        if n_shown > FEWEST_POINTS:
            n_points = max(FEWEST_POINTS, n_shown // 2)
        else:  # every other row
            errors = None if errors is None else errors[:, ::2]
            rows = rows[::2]


def report_data(
    curve: CostCurve,
    *,
    labels: ArrayLike | None = None,
    rows: NDArray[np.intp] | None = None,
    predicted_errors: NDArray[np.floating] | None = None,
    row_names: Sequence[object] | None = None,
    models: Sequence[tuple[str, float, float]] = (),
    chosen: int | None = None,
    title: str | None = None,
    verdict: str | None = None,
    max_points: int = MAX_POINTS,
) -> Json:
    """Return what the page shows as plain values, arrays in base64.

    `curve`: what is shown. `labels` (n_samples,): True label of each row. `rows` (n_rows,): rows
    to inspect. Default: all. `predicted_errors` (n_points, n_rows): of these rows. `row_names`:
    what rows are called besides their number. `models`: single models or paths to compare with.
    `chosen`: place of the point in use. `title`, `verdict`: heading, and a sentence below it.
    `max_points`: of more points as many are kept: ends, corners of the hull, and others evenly.
    Returns of what ``json`` knows. ``rows`` holds runs: for each row in turn, stretches of points
    on which path, answer, predicted error and cost are the same. ``notes`` says what was rounded
    and left out.
    """
    n_points, n_samples = curve.paths.shape
    rows = np.arange(n_samples) if rows is None else rows
    kept = _thinned(curve, chosen, max_points)
    mass = curve.path_shares.max(axis=0)
    used = np.flatnonzero(mass > 0)
    used = used[np.argsort(curve.tree.path_costs[used], kind="stable")]
    place = np.full(curve.tree.n_paths, -1)
    place[used] = np.arange(len(used))
    names, codes, cut = None, None, False
    if labels is not None:
        given = check_labels_given(labels, "y")
        if given.shape != (n_samples,):
            raise ValueError(f"y must hold {n_samples} labels, one a row, got {given.shape}.")
        classes, every = np.unique(given, return_inverse=True)
        names, cut = _cut(classes.tolist())
        codes = _packed(every[rows], _narrow(len(classes)))
    called = None if row_names is None else _cut([row_names[row] for row in rows.tolist()])
    shares = curve.path_shares[kept]
    weights = curve.sample_weight[rows]
    path_names, cut_paths = _cut([curve.tree.names[path] for path in used])
    accuracy, cost = curve.accuracy, curve.cost
    return {
        "title": title or f"{curve.label or 'Router'}: accuracy and cost",
        "verdict": verdict or "",
        "source": _rows_of(curve.source, n_samples),
        "version": __version__,
        "knob": curve.knob,
        "unit": curve.tree.cost_unit or "",
        "n_samples": n_samples,
        "chosen": None if chosen is None else int(np.flatnonzero(kept == chosen)[0]),
        "points": {
            "knob": [f"{knob:.4g}" for knob in curve.knobs[kept].tolist()],
            "cost": _all_rounded(cost[kept]),
            "accuracy": _all_rounded(accuracy[kept]),
            # Only paths that are taken: [path, share, path, share, ...].
            "shares": [
                [v for p in used if line[p] > 0 for v in (int(place[p]), _rounded(line[p]))]
                for line in shares
            ],
        },
        "hull": [_all_rounded(corner) for corner in zip(*curve.hull(), strict=True)],
        "paths": {
            "name": path_names,
            "cost": _all_rounded(curve.tree.path_costs[used]),
            **_colours(curve.tree.depths[used]),
        },
        "models": [[_cut([name])[0][0], *_all_rounded((c, a))] for name, c, a in models],
        "classes": names,
        "rows": {
            "n": len(rows),
            "row": _packed(rows, "<u4"),
            "name": None if called is None else called[0],
            "label": codes,
            "weight": None if (weights == weights[0]).all() else _packed(weights, "<f4"),
            "errors": ERRORS,
            "grades": GRADES,
            **_runs(curve, kept, rows, place, predicted_errors),
        },
        "notes": _notes(
            curve,
            len(kept),
            len(rows),
            len(used),
            labels is not None,
            predicted_errors is not None,
            cut or cut_paths or (called is not None and called[1]),
        ),
    }


def page_of(data: Json) -> str:
    """Return the page that shows some data.

    `data`: from :func:`report_data`. Names from outside stand in it escaped: as HTML in
    headings and the table of points, and as JSON without ``<``, ``>`` and ``&``, from where the
    script puts them in as text. A policy in the page lets the browser run its own script alone,
    and fetch nothing.
    """
    home = files("skquee.display") / "page"
    page, style, script = (
        (home / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    points, knob, unit = data["points"], data["knob"], data["unit"]
    head = [knob, f"Mean cost ({unit})" if unit else "Mean cost", "Accuracy"]
    lines = zip(points["knob"], points["cost"], points["accuracy"], strict=True)
    parts = {
        "title": escape(data["title"]),
        "what": escape(f"Operating points: {len(points['cost'])}. Measured on {data['source']}."),
        "verdict": f"<p>{escape(data['verdict'])}</p>" if data["verdict"] else "",
        "head": "".join(f'<th scope="col">{escape(name)}</th>' for name in head),
        "points": "\n".join(
            f'<tr><th scope="row">{escape(k)}</th><td>{c:.6g}</td><td>{a:.4f}</td></tr>'
            for k, c, a in lines
        ),
        "notes": "\n".join(f"<li>{escape(note)}</li>" for note in data["notes"]),
        "data": _json(data),
        "style": style,
        "script": script,
        "style_hash": _digest(style),
        "script_hash": _digest(script),
    }
    # In one pass: what stands in a part is not looked at again.
    whole = re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], page)
    return whole.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _json(data: Json) -> str:
    """Return JSON that ends no script element, in ASCII."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode()


def _rows_of(source: str, n_samples: int) -> str:
    # "450 rows held out in fit" brings its own count.
    return source if source[:1].isdigit() else f"{n_samples:,} {source}"


def _thinned(curve: CostCurve, chosen: int | None, most: int) -> NDArray[np.intp]:
    """Return points by their knob, at most so many: ends, corners, the chosen one, and others."""
    order = np.argsort(curve.knobs, kind="stable")
    if len(order) <= most:
        return order
    cost, accuracy = curve.cost, curve.accuracy
    corner = np.zeros(len(order), dtype=bool)
    for x, y in zip(*curve.hull(), strict=True):
        corner[np.flatnonzero((cost == x) & (accuracy == y))[0]] = True
    places = np.flatnonzero(corner[order])
    if len(places) > most // 2:
        places = places[_evenly(len(places), most // 2)]
    kept = {0, len(order) - 1, *places.tolist()}
    if chosen is not None:
        kept.add(int(np.flatnonzero(order == chosen)[0]))
    others = np.setdiff1d(np.arange(len(order)), list(kept))
    kept.update(others[_evenly(len(others), most - len(kept))].tolist())
    return order[sorted(kept)]


def _evenly(n: int, most: int) -> NDArray[np.intp]:
    return np.linspace(0, n - 1, most).round().astype(np.intp)


def _runs(
    curve: CostCurve,
    points: NDArray[np.intp],
    rows: NDArray[np.intp],
    place: NDArray[np.intp],
    predicted_errors: NDArray[np.floating] | None,
) -> dict[str, dict[str, str] | None]:
    """Return stretches of points on which nothing changes for a row, row after row."""
    paths = place[curve.paths[np.ix_(points, rows)]]
    right = np.rint(GRADES * curve.correct[np.ix_(points, rows)].astype(np.float64))
    told: dict[str, NDArray[np.generic]] = {"path": paths, "right": right}
    types = {"path": _narrow(int(place.max()) + 1), "right": "<u1"}
    if predicted_errors is not None:
        errors = np.asarray(predicted_errors, dtype=np.float64)[points]
        codes = np.rint(ERRORS * np.clip(np.nan_to_num(errors), 0, 1))
        told["error"], types["error"] = np.where(np.isnan(errors), NONE, codes), "<u2"
    if curve.row_costs is not None:
        told["cost"] = curve.row_costs[rows, curve.paths[np.ix_(points, rows)]]
        types["cost"] = "<f4"
    fresh = np.zeros(paths.shape, dtype=bool)
    fresh[0] = True
    for values in told.values():
        fresh[1:] |= values[1:] != values[:-1]
    at_row, at_point = np.nonzero(fresh.T)
    found = {name: _packed(told[name][at_point, at_row], types[name]) for name in told}
    return {
        "runs": _packed(fresh.sum(axis=0), "<u1"),
        "start": _packed(at_point, "<u1"),
        "path": found["path"],
        "right": found["right"],
        "error": found.get("error"),
        "cost": found.get("cost"),
    }


def _notes(
    curve: CostCurve,
    n_points: int,
    n_rows: int,
    n_paths: int,
    labelled: bool,
    judged: bool,
    cut: bool,
) -> list[str]:
    """Return what was rounded, and what is not in the file."""
    every, n_samples = curve.paths.shape
    notes = ["Costs, accuracies and shares are kept to 6 digits."]
    if judged:
        notes.append(f"Predicted errors are rounded to the nearest {1 / ERRORS:g}.")
    else:
        notes.append("Predicted errors of these rows are not known here.")
    if curve.correct.dtype != np.bool_:
        notes.append(f"Gradings of answers are rounded to the nearest {1 / GRADES:g}.")
    if not labelled:
        notes.append("Labels of these rows are not known here, so there is nothing by class.")
    if n_points < every:
        notes.append(
            f"{n_points} of {every} operating points are in this file: the ends, corners of the "
            "hull, and others evenly by their order."
        )
    if n_rows < n_samples:
        notes.append(
            f"{n_rows:,} of {n_samples:,} rows are in this file, drawn at random: rows to inspect, "
            "and shares by class, are of these; the curve and the path shares are of all."
        )
    if n_paths < curve.tree.n_paths:
        notes.append(
            f"{curve.tree.n_paths - n_paths} of {curve.tree.n_paths} paths are taken by no row at "
            "any point, and are not listed."
        )
    if (curve.sample_weight != curve.sample_weight[0]).any():
        notes.append("Rows are weighted; accuracies, costs and shares are weighted means.")
    if cut:
        notes.append(f"Names are cut after {NAME_LENGTH} characters.")
    return notes


def _colours(depths: NDArray[np.intp]) -> dict[str, list[int]]:
    """Return hue and strength of each path: a hue each, or an exit where there are many."""
    if len(depths) <= N_HUES:
        return {"hue": list(range(len(depths))), "strength": [100] * len(depths)}
    strength = np.empty(len(depths))
    for depth in np.unique(depths):
        mine = np.flatnonzero(depths == depth)
        strength[mine] = np.linspace(35, 100, len(mine)) if len(mine) > 1 else 100
    return {"hue": ((depths - 1) % N_HUES).tolist(), "strength": strength.astype(int).tolist()}


def _cut(names: Sequence[object]) -> tuple[list[str], bool]:
    """Return names as texts of bearable length, and whether any was cut."""
    texts = [str(name) for name in names]
    long = [len(text) > NAME_LENGTH for text in texts]
    shown = [t[:NAME_LENGTH] + "\u2026" if cut else t for t, cut in zip(texts, long, strict=True)]
    return shown, any(long)


def _rounded(value: float) -> float:
    """Return a number to 6 significant digits."""
    return float(f"{value:.6g}")


def _all_rounded(values: Iterable[float]) -> list[float]:
    return [_rounded(value) for value in values]


def _narrow(n: int) -> str:
    """Return the least type of unsigned numbers below `n`."""
    return "<u1" if n <= 256 else "<u2" if n <= 65_536 else "<u4"


def _packed(values: NDArray[np.generic], dtype: str) -> dict[str, str]:
    """Return an array's type and its little-endian bytes in base64."""
    data = np.ascontiguousarray(values).astype(dtype).tobytes()
    return {"type": dtype[1:], "data": base64.b64encode(data).decode()}
