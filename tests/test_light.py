"""Table routers need scikit-learn and no more; what needs another package asks for it by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skquee.values._optional import OPTIONAL, require

ROOT = Path(__file__).parents[1]
HIDE = "import sys; from light import Hidden; sys.meta_path.insert(0, Hidden()); "


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_every_table_router_works_where_optional_packages_are_absent() -> None:
    done = run(str(ROOT / "tests/light.py"), "--hide")
    assert done.returncode == 0, done.stderr


def test_routing_a_table_loads_no_optional_package_of_its_own_accord() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import sklearn; before = set(sys.modules)\n"  # which loads pandas where it can
        "from light import check_classifier, routers\n"
        "from skquee.testing import make_path_probabilities\n"
        "table, y = make_path_probabilities(100)\n"
        "for router in routers(table, y).values(): router.fit(table, y)\n"
        "check_classifier()\n"
        f"print({{name for name in {OPTIONAL!r} if name in set(sys.modules) - before}})"
    )
    done = run("-c", code)
    assert done.stdout.strip() == "set()", done.stderr


def test_commands_say_which_package_is_missing(tmp_path: Path) -> None:
    code = f"from skquee.cli import main; sys.exit(main(['demo', '--out', {str(tmp_path)!r}]))"
    done = run("-c", HIDE + code)
    assert done.returncode == 1
    assert "error: No module named 'pandas': pip install pandas" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_is_there_and_broken_says_itself_what_it_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import what_it_misses")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'what_it_misses'"):
        require("broken_package", "A test")
    with pytest.raises(ModuleNotFoundError, match="A test needs absent_package, which is not"):
        require("absent_package", "A test")


def test_an_ordinary_installation_brings_every_optional_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    listed = text.partition("dependencies = [")[2].partition("]")[0]
    assert all(f'"{name}>=' in listed for name in OPTIONAL)
