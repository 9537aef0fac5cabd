from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import skquee
from skquee import MultiPathClassifierBank, PathProbabilities, PathTree
from skquee.values._atomic import heal_folder, held, whole_file, whole_folder

ROOT = Path(skquee.__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    """Run code in another process, and wait until it says that it is ready."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_appears_whole_with_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").touch()
    with whole_file(tmp_path / "a") as stream:
        stream.write(b"1")
        assert names(tmp_path) != ["a", "other"]
    assert names(tmp_path) == ["a", "other"]
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as stream:
        stream.write(b"later")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "earlier"


@POSIX
def test_what_a_killed_writer_left_goes_with_the_next_write_and_no_other(tmp_path):
    writer = """
        from skquee.values._atomic import whole_file, whole_folder
        import threading
        with whole_file("a.npz") as stream, whole_folder("model") as folder:
            stream.write(b"half")
            (folder / "x").touch()
            print("ready", flush=True)
            threading.Event().wait()
        """
    killed, alive = start(writer, tmp_path), start(writer, tmp_path)
    kill(killed)
    (tmp_path / "a.npy.partial").touch()  # of a table that goes on where it stopped
    assert len(names(tmp_path)) == 5
    try:
        with whole_file(tmp_path / "a.npz"), whole_folder(tmp_path / "model"):
            pass
        left = names(tmp_path)
    finally:
        kill(alive)
    assert [name.count(".partial") for name in left] == [1, 0, 1, 0, 1]
    with whole_file(tmp_path / "a.npz"), whole_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == ["a.npy.partial", "a.npz", "model"]


def test_a_replacement_cut_short_is_healed(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "model") as fresh:
        (fresh / "weights").write_text("earlier")
    real = os.replace
    done = []

    def cut(source, target):
        done.append(target)
        if len(done) == 2:
            raise SystemExit
        real(source, target)

    # As killed between its two steps: what comes after the first does not run.
    monkeypatch.setattr("skquee.values._atomic.os.replace", cut)
    monkeypatch.setattr("skquee.values._atomic.heal_folder", lambda *_: None)
    monkeypatch.setattr("skquee.values._atomic.shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(SystemExit), whole_folder(tmp_path / "model") as fresh:
        (fresh / "weights").write_text("later")
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()
    heal_folder(tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "earlier"
    with whole_folder(tmp_path / "model") as fresh:
        (fresh / "weights").write_text("later")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "later"


def test_a_folder_of_ones_own_that_ends_in_old_stays(tmp_path):
    mine = tmp_path / "model.old"
    mine.mkdir()
    (mine / "notes").touch()
    heal_folder(tmp_path / "model", frozenset(["weights"]))
    with whole_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == ["model", "model.old"]


def test_one_at_a_time_holds_a_file(tmp_path):
    with held(tmp_path / "a", "writing a"):
        with pytest.raises(BlockingIOError, match="Another process is writing a: wait"):
            held(tmp_path / "a", "writing a").__enter__()
    with held(tmp_path / "a", "writing a"):
        pass
    assert names(tmp_path) == []


def test_saves_at_once_leave_one_whole_folder(tmp_path):
    def save(number):
        for _ in range(20):
            with whole_folder(tmp_path / "model") as fresh:
                for name in ("x", "y"):
                    (fresh / name).write_text(str(number))

    threads = [threading.Thread(target=save, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["model"]
    assert len({(tmp_path / "model" / name).read_text() for name in ("x", "y")}) == 1


def bank(started=None, release=None) -> MultiPathClassifierBank:
    def answer(rows):
        if started is not None:
            started.set()
            release.wait()
        return np.tile([0.25, 0.75], (len(rows), 1))

    tree = PathTree.chain([1, 2])
    return MultiPathClassifierBank([("a", answer), ("b", answer)], classes=[0, 1], paths=tree)


def test_a_table_is_written_by_one_at_a_time_and_nothing_is_lost(tmp_path):
    started, release = threading.Event(), threading.Event()
    X, out = np.zeros((5, 1)), tmp_path / "t.npy"
    thread = threading.Thread(target=lambda: bank(started, release).materialize(X, out=out))
    thread.start()
    try:
        assert started.wait(60)
        with pytest.raises(BlockingIOError, match=r"Another process is writing .*t\.npy: wait"):
            bank().materialize(X, out=out)
    finally:
        release.set()
        thread.join()
    assert names(tmp_path) == ["t.npy", "t.npy.json"]
    assert PathProbabilities.load(out).shape == (5, 2, 2)
    assert len(bank().materialize(X, out=out)) == 5


@POSIX
def test_a_killed_writer_of_a_table_gives_its_lock_back(tmp_path):
    killed = start(
        """
        from skquee.values._atomic import held
        import threading
        with held("t.npy", "writing t.npy"):
            print("ready", flush=True)
            threading.Event().wait()
        """,
        tmp_path,
    )
    kill(killed)
    assert names(tmp_path) == ["t.npy.lock"]
    bank().materialize(np.zeros((3, 1)), out=tmp_path / "t.npy")
    assert names(tmp_path) == ["t.npy", "t.npy.json"]


@POSIX
def test_ctrl_c_in_a_command_prints_one_line(tmp_path):
    code = """
        import signal, sys, threading
        from skquee import cli
        # Where tests run in the background of a shell, it is ignored, and so in their children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def run(options):
            print("ready", flush=True)
            threading.Event().wait()
        cli._run_demo = run
        sys.exit(cli.main(["demo", "--out", "demo"]))
        """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "skquee demo: interrupted\n")
