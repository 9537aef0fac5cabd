from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from skquee import __version__

project = "skquee"
author = "The skquee developers"
copyright = "2026, The skquee developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "inherited-members": True}
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"  # "fit()" beside the page, where the class is its title
copybutton_exclude = ".linenos, .gp, .go"

# Where the real data is missing, the examples that need it are shown and not run.
has_data = "SKQUEE_DATA" in os.environ or (ROOT.parent / "shared" / "data").is_dir()
examples = [
    file.stem
    for file in (ROOT / "examples").glob("plot_*.py")
    if has_data or "from _data import" not in file.read_text(encoding="utf-8")
]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": rf"/({'|'.join(examples)})\.py$",
    "ignore_pattern": r"(^|/)(benchmarks/|_|cifar100_)",
    "nested_sections": False,
    "backreferences_dir": "auto_examples/used",
    "doc_module": ("skquee",),
    "inspect_global_variables": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "write_computation_times": False,  # a page that would load scripts from elsewhere
    "abort_on_example_error": False,
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files, html_js_files = ["reading.css"], ["names.js"]
html_title = f"skquee {version}"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}


def skip_foreign_members(app, what, name, obj, skip, options):
    """Leave out what base classes of scikit-learn and torch bring: it is documented there."""
    module = getattr(getattr(obj, "fget", obj), "__module__", None) or ""
    return True if module.split(".")[0] in ("sklearn", "torch") else None


def formula(self, node, block=False):
    """Write a formula as MathML, which browsers draw themselves: no script, no network.

    An accented letter with an index needs a space, ``{\\bar e\\,}_s``: docutils would set the index
    under the letter.
    """
    drawn = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{drawn}</div>' if block else drawn)
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (formula, None), (partial(formula, block=True), None))
    app.connect("autodoc-skip-member", skip_foreign_members)
