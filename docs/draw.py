"""Draw the pictures of the guide again: each page's snippets run, and its last figure is kept.

``python docs/draw.py [PAGE ...]``, a page as "start/models"; default: all of them, and the README's
picture, which is that of ``examples/plot_api_routing.py``. ``--script`` prints the four ways
in as the one script that a newcomer would copy together.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
import tempfile
import textwrap
from pathlib import Path

DOCS = Path(__file__).resolve().parent
README = "../examples/plot_api_routing"
PAGES = ("index", "start/models", "start/networks", "start/tables", "start/services")


def snippets(page: str) -> list[str]:
    """Return the Python of a page, in order."""
    text = (DOCS / f"{page}.rst").read_text(encoding="utf-8")
    found = re.findall(r"^( *)\.\. code-block:: python\n\n((?:\1   .*\n|\n)+)", text, re.M)
    return [textwrap.dedent(code) for _, code in found]


def run(page: str) -> dict[str, object]:
    """Run the snippets of a page one after the other, and return the names they leave."""
    names: dict[str, object] = {"__name__": page}
    for code in snippets(page):
        exec(compile(code, f"{page}.rst", "exec"), names)
    return names


def main(pages: list[str]) -> None:
    """Run each page in an empty folder, and save the figure that is open at its end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if README in pages:
        sys.path.insert(0, str(DOCS.parent / "examples"))
        plt.show = lambda: None
        runpy.run_path(str(DOCS / f"{README}.py"))
        plt.gcf().savefig(DOCS / "_static" / "cost_curve.png", dpi=120, bbox_inches="tight")
        plt.close("all")
    for page in (page for page in pages if page != README):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            run(page)
            os.chdir(DOCS)
        figure = plt.gcf()
        figure.set_size_inches(8, 4.4)
        figure.savefig(DOCS / "_static" / f"{Path(page).name}.png", dpi=120, bbox_inches="tight")
        plt.close("all")


def newcomer() -> str:
    """Return the snippets of the four ways in, one after the other."""
    parts = []
    for page in PAGES[1:]:
        parts += [f"print('== {page}')", *snippets(page)]
    return "\n".join(parts)


if __name__ == "__main__" and sys.argv[1:] == ["--script"]:
    sys.stdout.write(newcomer())
elif __name__ == "__main__":
    main(sys.argv[1:] or [README, *PAGES])
