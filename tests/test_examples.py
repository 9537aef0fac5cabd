from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
REAL_DATA = [file for file in EXAMPLES if "_data" in file.read_text(encoding="utf-8")]


def run(file: Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    return subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, env=env, cwd=cwd
    )


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_example_compiles_and_starts_with_a_titled_docstring(file):
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    title, line = code.co_consts[0].strip().splitlines()[:2]
    assert set(line) == {"="} and len(line) >= len(title)


@pytest.mark.parametrize("name", ["plot_tune_budget", "plot_pipeline_gridsearch"])
def test_digits_example_runs_and_ends_in_a_table(name, tmp_path):
    done = run(ROOT / "examples" / f"{name}.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert not list(tmp_path.iterdir())
