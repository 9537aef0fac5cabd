from __future__ import annotations

import json
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from skquee import __version__
from skquee.cli import main

SMALL = "demo --seed 3 --epochs 1 --width 8 --depth 2 --levels 8 4".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def rows(folder):
    """The table the demo prints as JSON, and nothing else, on standard output."""
    printed = StringIO()
    with redirect_stdout(printed):
        assert main([*SMALL, "--json", "--out", str(folder)]) == 0
    return pd.DataFrame(json.loads(printed.getvalue()))


def test_demo_compares_the_router_with_every_baseline(rows):
    assert rows["method"].unique().tolist() == [
        "default",
        "router",
        "threshold",
        "fixed path",
        "oracle",
    ]
    fixed = rows[rows["method"] == "fixed path"]
    assert fixed["setting"].tolist() == ["8", "8-4", "8-8"]
    assert fixed["cost"].iloc[-1] == 1.0
    assert (rows["accuracy_low"] <= rows["accuracy"]).all()
    assert (rows["accuracy"] <= rows["accuracy_high"]).all()
    oracle = rows["accuracy"].iloc[-1]
    assert (rows["accuracy"] <= oracle).all()


def test_lazy_prediction_ran_exactly_the_blocks_of_the_chosen_paths(rows):
    routed = rows[rows["method"] != "oracle"]
    assert (routed["blocks_run"] == (routed["blocks"] * 497).round()).all()
    assert rows["blocks_run"].isna().sum() == 1  # the oracle has no lazy form


def test_shares_of_exits_and_levels_add_up(rows):
    for ending in (r"^exit", r"bits$"):
        assert rows.filter(regex=ending).sum(axis=1).to_numpy() == pytest.approx(1.0)
    whole = rows.set_index("setting").loc["8-4"]
    assert (whole["exit 2"], whole["4 bits"], whole["8 bits"]) == (1.0, 0.5, 0.5)


def test_demo_saves_the_picture_and_the_tables(rows, folder):
    assert (folder / "cost_curve.png").read_bytes().startswith(b"\x89PNG")
    saved = pd.read_csv(folder / "operating_points.csv")
    assert saved["accuracy"].to_numpy() == pytest.approx(rows["accuracy"].to_numpy(), abs=1e-5)
    paths = pd.read_csv(folder / "paths.csv", index_col="path")
    assert paths.index.tolist() == ["8", "8-4", "8-8"]
    assert set(pd.read_csv(folder / "curves.csv")["method"]) == set(rows["method"])


def test_a_seed_gives_the_same_report(rows, tmp_path, capsys):
    assert main([*SMALL, "--out", str(tmp_path / "new" / "folder")]) == 0
    printed, progress = capsys.readouterr()
    assert progress == ""
    assert "<NA>" not in printed
    assert "QuEE router" in printed and "oracle (sees the labels)" in printed
    assert "on the test images:\n" in printed and "Next: " in printed
    again = pd.read_csv(tmp_path / "new" / "folder" / "operating_points.csv")
    assert again["cost"].to_numpy() == pytest.approx(rows["cost"].to_numpy(), abs=1e-5)
    assert again["accuracy"].to_numpy() == pytest.approx(rows["accuracy"].to_numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--width 10", "--width must be a multiple of 4, got 10"),
        ("--exits 1 5", "--exits must be 2 or more that increase and end at 6, got 1 5"),
        ("--exits 3 1 6", "--exits must be 2 or more that increase and end at 6, got 3 1 6"),
        ("--exits 6", "--exits must be 2 or more that increase and end at 6, got 6"),
        ("--levels 4 4", "--levels must be distinct, got 4 4"),
        ("--levels 1 8", "must be a whole number from 2 to 32, got 1"),
        ("--epochs 0", "must be a whole number from 1 up, got 0"),
        ("--seed x", "must be a whole number from 0 to 4294967295, got 'x'"),
        (f"--seed {2**32}", "must be a whole number from 0 to 4294967295, got 4294967296"),
    ],
)
def test_bad_options_end_before_any_work(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *options.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_made_ends_before_any_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(SystemExit):
            main(["demo", "--out", str(place)])
        assert "must be a folder, but" in capsys.readouterr().err


def test_python_m_is_the_same_command():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "skquee", "--version"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"skquee {__version__}"


def test_without_a_command_all_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    told = capsys.readouterr()
    assert ended.value.code == 2 and not told.out
    for command in ("demo", "bank", "bench", "card", "reproduce", "serve"):
        assert f"\n    {command}" in told.err


def test_bank_without_an_action_says_which_there_are_and_in_which_order(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bank"])
    told = capsys.readouterr()
    assert ended.value.code == 2 and not told.out
    assert "build, fit-router, predict, in this order" in told.err
