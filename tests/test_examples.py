from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[!_]*.py"))


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=cwd
    )


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_example_compiles_and_starts_with_a_titled_docstring(file):
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    title, line = code.co_consts[0].strip().splitlines()[:2]
    assert set(line) == {"="} and len(line) >= len(title)


@pytest.mark.parametrize(
    "name", ["plot_tune_budget", "plot_pipeline_gridsearch", "plot_networks_cascade"]
)
def test_digits_example_runs_and_ends_in_a_table(name, tmp_path):
    done = run(str(ROOT / "examples" / f"{name}.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert not list(tmp_path.iterdir())


def test_example_without_its_data_ends_well_and_says_why():
    done = run("-c", "import _data; _data.data_folder('no_such_data')", cwd=ROOT / "examples")
    assert done.returncode == 0
    assert "'no_such_data'" in done.stdout and done.stdout.count("\n") == 1
