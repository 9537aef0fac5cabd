from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_readme_has_an_example():
    assert SNIPPETS


@pytest.mark.parametrize("code", SNIPPETS)
def test_readme_example_runs_as_printed(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_readme_commands_are_those_the_checks_run():
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install .", "skquee demo", "pip install '.[test]'", "pytest"):
        assert command in README
        assert command in checks


def test_readme_links_to_files_that_exist():
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_readme_command_is_the_one_the_package_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"skquee": "skquee.cli:main"}
