"""The report page: every figure, its table, and the claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike
from tqdm import tqdm

from skquee._version import __version__
from skquee.paper._claims import RULE, claims
from skquee.paper._figures import CAPTIONS, FIGURES, TITLES
from skquee.paper._setting import Setting
from skquee.paper._study import Study
from skquee.values._atomic import whole_file, write_text
from skquee.values._checks import check_folder
from skquee.values._public import publish

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["reproduce", "write_report"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 1rem 0; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: left;
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.yes { color: #00674b; } .no { color: #a03c00; } .level, .not { color: #666; }
"""


def write_report(study: Study, folder: Path | str | None = None) -> Path:
    """Draw every figure of a study and write the page that shows them.

    Parameters
    ----------
    study : Study
        What it lacks is computed first.
    folder : path, default=None
        Where to. Default: the study's own.

    Returns
    -------
    Path
        ``report.html``; beside it a ``.png`` and a ``.csv`` a figure, and the claims as
        ``claims.csv`` and ``claims.md``.

    Examples
    --------
    >>> from skquee.report import Study, write_report
    >>> write_report(Study(network, splits, "results"))  # doctest: +SKIP
    """
    target = study.folder if folder is None else check_folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    sections = []
    with tqdm(FIGURES.items(), unit="figure", disable=None, leave=False) as bar:
        for name, draw in bar:
            bar.set_description(name)
            figure, table = draw(study)
            picture = target / f"{name}.png"
            with whole_file(picture) as stream:
                figure.savefig(stream, format="png", dpi=150)
            write_text(target / f"{name}.csv", table.to_csv(float_format="%.6g"))
            sections.append(
                f"<h2>{escape(TITLES[name])}</h2>\n<p>{escape(CAPTIONS[name])}</p>\n"
                f'<a href="{name}.png"><img src="{name}.png" alt="{escape(CAPTIONS[name])}"></a>\n'
                f"{_table(table)}"
            )
    found = claims(study)
    write_text(target / "claims.csv", found.to_csv(index=False))
    write_text(target / "claims.md", _markdown(found))
    page = target / "report.html"
    write_text(page, _page(study, found, sections))
    return page


def _page(study: Study, found: pd.DataFrame, sections: list[str]) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(study.title)}: QuEE's experiment</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(study.title)}: QuEE's experiment</h1>
<p>{escape(_what(study))}</p>
<h2>The paper's claims</h2>
<p>{escape(RULE)}</p>
{_claims(found)}
{chr(10).join(sections)}
<h2>The paths</h2>
{_table(study.network.summary().assign(test=study.curve("Fixed paths").accuracy))}
<h2>Setting and time</h2>
{_table(_settings(study))}
<p>Seconds spent on each result, computed once: {escape(_seconds(study))}.</p>
<p>skquee {escape(__version__)}. Each figure's numbers are beside it as a .csv file.
A click on a figure enlarges it.</p>
</body>
</html>
"""


def _what(study: Study) -> str:
    network = study.network
    sizes = ", ".join(f"{len(y):,} {part}" for part, y in study.labels.items())
    levels = ", ".join(map(str, network.levels_))
    exits = ", ".join(map(str, network.exits_))
    text = (
        f"Exits after {exits}; bit widths {levels}; {study.tree.n_paths} paths. Rows: {sizes}. "
        "Cost is BitOPS over that of the whole network at the highest width. QuEE's clusters are "
        "made of validation rows, its gates trained on training rows, as in the paper."
    )
    if hasattr(network, "level_accuracy_"):
        found = ", ".join(f"{k}: {v:.2%}" for k, v in network.level_accuracy_.items())
        text += f" Validation accuracy of the last exit by width (32 is float): {found}."
    return text


def _settings(study: Study) -> pd.DataFrame:
    import pandas as pd

    rows = {
        key: ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
        for key, value in study.setting.to_dict().items()
    }
    return pd.DataFrame({"value": rows})


def _seconds(study: Study) -> str:
    seconds = study.store.seconds
    parts = [f"{name.replace('_', ' ')} {value:.0f}" for name, value in seconds.items()]
    return ", ".join([*parts, f"together {sum(seconds.values()):.0f}"])


def _claims(found: pd.DataFrame) -> str:
    rows = "\n".join(
        f"<tr><td>{escape(row.claim)}</td><td>{escape(row.paper)}</td>"
        f"<td>{escape(row.measured)}</td>"
        f'<td class="{escape(row.holds)}"><b>{escape(row.holds)}</b></td>'
        f"<td>{escape(row.why)}</td></tr>"
        for row in found.itertuples()
    )
    return (
        '<div class="wide"><table>\n<tr><th>Claim</th><th>Where</th><th>Measured</th>'
        f"<th>Holds</th><th>Why</th></tr>\n{rows}\n</table></div>"
    )


def _markdown(found: pd.DataFrame) -> str:
    rows = [list(found.columns), ["---"] * found.shape[1], *found.to_numpy().tolist()]
    lines = (
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows
    )
    return f"{RULE}\n\n" + "\n".join(lines) + "\n"


def _table(frame: pd.DataFrame) -> str:
    numeric = [frame[column].dtype.kind in "iuf" for column in frame]
    kinds = [' class="number"' if number else "" for number in numeric]
    head = "".join(f"<th{k}>{escape(str(c))}</th>" for k, c in zip(kinds, frame, strict=True))
    rows = "\n".join(
        f"<tr><th>{escape(str(index))}</th>"
        + "".join(f"<td{k}>{escape(_cell(v))}</td>" for k, v in zip(kinds, row, strict=True))
        + "</tr>"
        for index, row in zip(frame.index, frame.itertuples(index=False), strict=True)
    )
    return f'<div class="wide"><table>\n<tr><th></th>{head}</tr>\n{rows}\n</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def reproduce(
    network: object,
    splits: Mapping[str, tuple[ArrayLike, ArrayLike]],
    folder: Path | str,
    *,
    title: str,
    setting: Setting | None = None,
    class_names: Sequence[str] | None = None,
) -> Study:
    """Run the paper's experiment on a network and write its report.

    Parameters
    ----------
    network, splits, folder, title, setting, class_names
        As of :class:`Study`.

    Returns
    -------
    Study
        Everything computed; ``folder/report.html`` shows it.

    Examples
    --------
    >>> from skquee.report import reproduce
    >>> splits = {"train": train, "val": validation, "test": test}  # doctest: +SKIP
    >>> reproduce(network, splits, "results").table()  # doctest: +SKIP
    """
    study = Study(
        network, splits, folder, title=title, setting=setting, class_names=class_names
    ).run()
    write_report(study)
    return study


publish("skquee.report", reproduce, write_report)
