from __future__ import annotations

import ast
import importlib
import os
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import skquee
from skquee.values._optional import OPTIONAL

ROOT = Path(skquee.__file__).resolve().parents[1]
HEAVY = ("joblib", "matplotlib", "numpy", "pandas", "scipy", "sklearn", "timm", "torch")


def run(code: str) -> str:
    """Run code in a fresh interpreter that sees the same skquee."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return set(run(code).split())


def test_import_loads_no_heavy_dependency():
    assert loaded_after("import skquee; dir(skquee); skquee.__version__") == set()


@pytest.mark.parametrize(
    "name", ["PathTree", "PathProbabilities", "CostAwareRouter", "RoutedClassifier", "evaluation"]
)
def test_routing_without_a_network_loads_neither_torch_nor_matplotlib(name):
    assert loaded_after(f"import skquee; skquee.{name}").isdisjoint({"matplotlib", "torch"})


@pytest.mark.parametrize("name", [*skquee.__all__, *skquee._SUBMODULES])
def test_public_name_resolves_and_is_listed(name):
    assert getattr(skquee, name) is not None
    assert name in dir(skquee)


def test_type_checkers_see_the_names_that_exist_at_run_time():
    tree = ast.parse(Path(skquee.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen | {"__version__"} == set(skquee.__all__)


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="'skquee' has no attribute 'CostAwareRooter'"):
        skquee.CostAwareRooter  # noqa: B018


def test_star_import_gives_the_public_names():
    names = run("from skquee import *; print(*dir())").split()
    assert set(skquee.__all__) <= set(names)


def all_modules() -> list[str]:
    walk = pkgutil.walk_packages(skquee.__path__, "skquee.")
    return sorted(module.name for module in walk if not module.name.endswith("__main__"))


@pytest.mark.parametrize("module", all_modules())
def test_all_of_every_module_resolves(module):
    found = importlib.import_module(module)
    for name in getattr(found, "__all__", ()):
        assert getattr(found, name) is not None


def test_show_versions_prints_one_line_a_package(capsys):
    skquee.show_versions()
    printed = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert printed["skquee"].strip() == skquee.__version__
    assert printed["scikit-learn"].strip()[0].isdigit()
    assert {"python", "platform", *OPTIONAL} <= set(printed)


@pytest.mark.parametrize("module", ["skquee", *(f"skquee.{name}" for name in skquee._SUBMODULES)])
def test_what_is_offered_says_a_public_module_as_its_home(module):
    found = importlib.import_module(module)
    for name in getattr(found, "__all__", ()):
        item = getattr(found, name)
        if not isinstance(item, type) and not callable(item):
            continue
        home = item.__module__
        assert not any(part.startswith("_") for part in home.split(".")), f"{home}.{name}"
        assert home == "skquee" or module != "skquee", f"{home}.{name}"
        assert getattr(importlib.import_module(home), item.__qualname__) is item


def test_a_pickle_holds_the_public_name():
    pickled = pickle.dumps(skquee.CostAwareRouter())
    assert b"skquee\x94" in pickled
    assert b"_router" not in pickled
    code = f"import pickle; print(pickle.loads({pickled!r}))"
    assert run(code) == "CostAwareRouter()"


def test_workers_get_our_classes_by_name():
    pytest.importorskip("cloudpickle", reason="joblib brings it from 1.6 on")
    # Code of a class that is sent to a worker makes another class there: isinstance then fails.
    code = """
import sys
import cloudpickle
import skquee.routers, skquee.baselines, skquee.values, skquee.bank, skquee.walk, skquee.evaluation
loaded = [m for name, m in list(sys.modules.items()) if name.startswith("skquee.")]
ours = {v for m in loaded for v in vars(m).values() if isinstance(v, type)}
ours = {v for v in ours if v.__module__.split(".")[0] == "skquee"}
print(len(ours) > 40, *(v.__qualname__ for v in ours if len(cloudpickle.dumps(v)) > 200))
"""
    assert run(code) == "True"
