from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)


def test_every_example_of_the_readme_shows_what_it_prints():
    assert SNIPPETS
    assert len(SNIPPETS) == README.count("```python")


def parts(text: str) -> tuple[list[str], list[float]]:
    """Words and numbers of a text."""
    number = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.])"
    words = re.split(r"\s+", re.sub(number, "#", text).strip())
    return words, [float(found) for found in re.findall(number, text)]


@pytest.mark.parametrize(("code", "printed"), SNIPPETS)
def test_readme_example_prints_what_it_says(code, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    (words, numbers), (said, told) = parts(capsys.readouterr().out), parts(printed)
    assert words == said
    # Forests of another release may answer some rows otherwise.
    assert numbers == pytest.approx(told, rel=0.1, abs=0.006)


def test_readme_commands_are_those_the_checks_run():
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install .", "skquee demo", "pip install '.[test]'", "pytest -n auto"):
        assert command in README
        assert command in checks


def test_readme_links_to_files_that_exist():
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_readme_command_is_the_one_the_package_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"skquee": "skquee.cli:main"}
