"""Draw the charts of measured pages from the tables of their appendix: ``python docs/charts.py``.

One source for both: a number that changes in the table changes in the picture.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parent
INTERVAL = re.compile(r"([+-]\d+\.\d+) \(([+-]\d+\.\d+) to ([+-]\d+\.\d+)\)")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def read_tables(page: str) -> list[list[list[str]]]:
    """Return the list tables of a page, as rows of cells."""
    text = (DOCS / page).read_text(encoding="utf-8")
    tables = []
    for block in re.findall(r"\.\. list-table::\n(?:   .*\n|\n)+", text):
        rows = re.split(r"\n   \* - ", block)[1:]
        tables.append([[" ".join(c.split()) for c in re.split(r"\n     - ", r)] for r in rows])
    return tables


def draw_intervals(
    table: list[list[str]], columns: dict[int, str], name: str, xlabel: str, sides: tuple[str, str]
) -> None:
    """Draw some columns of differences with their intervals, a row a data set."""
    rows = table[1:]
    figure, ax = plt.subplots(figsize=(8, 0.5 * len(rows) + 1.2), layout="constrained")
    step = 0.8 / len(columns)
    for k, (column, label) in enumerate(columns.items()):
        for i, row in enumerate(rows):
            found = INTERVAL.search(row[column])
            if found is None:
                continue
            middle, low, high = map(float, found.groups())
            y = i + (k - (len(columns) - 1) / 2) * step
            colour = COLOURS[k]
            ax.plot([low, high], [y, y], color=colour, lw=2, solid_capstyle="butt")
            clear = row[column].startswith("*")  # bold or italic: significant
            ax.plot(
                middle,
                y,
                "osD^"[k],
                color=colour,
                mfc=colour if clear else "white",
                ms=6,
                label=label if i == 0 else None,
            )
    ax.axvline(0, color="0.3", lw=1)
    ax.set_yticks(range(len(rows)), [row[0] for row in rows])
    ax.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    for edge in ("top", "right", "left"):
        ax.spines[edge].set_visible(False)
    ax.tick_params(axis="y", length=0)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.6), high)
    for text, offset, side in ((sides[0], -8, "right"), (sides[1], 8, "left")):
        ax.annotate(
            text,
            (0, 1.0),
            xytext=(offset, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            va="bottom",
            color="0.3",
        )
    figure.legend(loc="outside lower center", ncols=len(columns), frameon=False)
    figure.savefig(DOCS / "_static" / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw all charts."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "skquee", "font.size": 10})
    _, loss, *_, default = read_tables("appendix/decisions.rst")
    draw_intervals(
        loss,
        {3: "the paper's router", 5: "a threshold a stage", 2: "best baseline, in hindsight"},
        "auto_loss",
        "Points of error plus priced cost",
        ("AutoRouter worse", "AutoRouter better"),
    )
    draw_intervals(
        default,
        {1: "threshold chosen on the rows of fit", 4: "the paper's router"},
        "default_area",
        "Points of area",
        ("default worse", "default better"),
    )


if __name__ == "__main__":
    main()
