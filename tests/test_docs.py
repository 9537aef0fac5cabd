from __future__ import annotations

import re
from pathlib import Path

import pytest

import skquee

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize(
    "module",
    [
        "skquee",
        "baselines",
        "datasets",
        "display",
        "evaluation",
        "networks",
        "persistence",
        "testing",
    ],
)
def test_api_reference_lists_every_public_name(module):
    listed = re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.M)
    if module == "skquee":
        public = set(skquee.__all__) - {"__version__"}
    else:
        public = {f"{module}.{name}" for name in getattr(skquee, module).__all__}
    assert public <= set(listed)


@pytest.mark.parametrize("page", ["idea.rst", "data.rst", "networks.rst", "paper.rst", "api.rst"])
def test_names_in_the_pages_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in set(re.findall(r":(?:class|meth|func|attr):`[^`<]*?<?(skquee[\w.]+)>?`", text)):
        found = skquee
        for part in target.split(".")[1:]:
            found = getattr(found, part)
