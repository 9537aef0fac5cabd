"""Writing files and folders whole or not at all, and one writer at a time."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from skquee.values._checks import check_output

__all__ = ["heal_folder", "held", "whole_file", "whole_folder", "write_text"]

# `<name>.<8 hex digits>.partial` is being written, or was when its writer was killed;
# `<name>.<8 hex digits>.old` is a folder that is being replaced.
TOKEN = r"\.[0-9a-f]{8}"
# Where files cannot be locked, a leftover is one that nobody has touched for so long.
DAY = 24 * 3600.0


@contextmanager
def whole_file(file: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file under another name, and move it into place once it is whole.

    An exception leaves what was there before. What earlier writers of this file left behind
    when they were killed is removed.

    Yields binary, open for writing and reading. FileNotFoundError, IsADirectoryError if its folder
    does not exist, or it is a folder.

    >>> import os, tempfile
    >>> from skquee.values._atomic import whole_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(os.path.join(folder, "a.bin")) as stream:
    ...         written, seen = stream.write(b"whole"), os.listdir(folder)
    ...     os.listdir(folder), written, "a.bin" in seen
    (['a.bin'], 5, False)
    """
    target = check_output(file)
    _sweep(target)
    fresh, handle = _fresh_file(target)
    stream = os.fdopen(handle, "w+b")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            # Moved while it is open, so that its lock keeps sweepers off; Windows moves no
            # open file.
            if sys.platform != "win32":
                os.replace(fresh, target)
        if sys.platform == "win32":
            os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_text(file: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole_file(file) as stream:
        stream.write(text.encode("utf8"))


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder under another name, and put it in the place of an earlier one.

    A folder cannot be replaced in one step: a process killed between the two leaves the
    earlier one under the name ``<folder>.<8 digits>.old``, from where :func:`heal_folder`
    brings it back.

    `folder`: where to. What is there is replaced: check first that it may be. Yields an empty
    folder to fill.
    """
    target = Path(folder).absolute()
    heal_folder(target)
    _sweep(target)
    fresh, handle = _fresh_folder(target)
    try:
        yield fresh
        _swap(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        heal_folder(target)
        raise
    finally:
        if handle is not None:
            os.close(handle)


def heal_folder(folder: str | os.PathLike[str], names: frozenset[str] | None = None) -> None:
    """Bring a folder back whose replacement was cut short between its two steps.

    `folder`: that is looked for. Nothing happens where it exists, or where nothing was left.
    `names`: of its files. Given, a folder ``<folder>.old`` that holds just these is brought back as
    well: earlier releases gave that name.
    """
    target = Path(folder).absolute()
    if target.exists() or not target.parent.is_dir():
        return
    pattern = re.compile(re.escape(target.name) + TOKEN + r"\.old")
    left = [p for p in target.parent.iterdir() if pattern.fullmatch(p.name) and p.is_dir()]
    plain = target.with_name(target.name + ".old")
    if names is not None and plain.is_dir() and {p.name for p in plain.iterdir()} == names:
        left.append(plain)
    for old in sorted(left, key=lambda p: p.stat().st_mtime, reverse=True)[:1]:
        with suppress(OSError):  # another process was faster
            os.replace(old, target)


@contextmanager
def held(file: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Be the only one who works on a file, in this process and on this machine.

    `file`: what is worked on; ``<file>.lock`` stands beside it meanwhile. A process that is killed
    gives its lock back. `what`: for the message: ``"writing answers.npy"``. BlockingIOError if
    somebody else is at it.

    >>> import os, tempfile
    >>> from skquee.values._atomic import held
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "a.npy")
    ...     with held(file, "writing a.npy"):
    ...         try:
    ...             with held(file, "writing a.npy"):
    ...                 pass
    ...         except BlockingIOError as error:
    ...             print(error)
    Another process is writing a.npy: wait until it is done, or give another name.
    """
    lock = Path(file).with_name(Path(file).name + ".lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(handle) is False:
            os.close(handle)
            raise BlockingIOError(
                f"Another process is {what}: wait until it is done, or give another name."
            )
        if _is_still(lock, handle):
            break
        os.close(handle)  # its last holder removed it meanwhile
    try:
        yield
    finally:
        if sys.platform == "win32":
            os.close(handle)
            with suppress(OSError):
                lock.unlink()
        else:
            lock.unlink(missing_ok=True)
            os.close(handle)


def _fresh_file(target: Path) -> tuple[Path, int]:
    """Make a file beside the target under a name that only we give, locked."""
    while True:
        fresh = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        binary = getattr(os, "O_BINARY", 0)
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | binary, 0o666)
        # A sweeper may have come between the two: then it is gone, and another is made.
        if _lock(handle) is not False and _is_still(fresh, handle):
            return fresh, handle
        os.close(handle)


def _fresh_folder(target: Path) -> tuple[Path, int | None]:
    """Make a folder beside the target under a name that only we give, locked."""
    while True:
        fresh = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        fresh.mkdir()
        if sys.platform == "win32":
            return fresh, None
        with suppress(FileNotFoundError):
            handle = os.open(fresh, os.O_RDONLY)
            if _lock(handle) is not False and _is_still(fresh, handle):
                return fresh, handle
            os.close(handle)


def _swap(fresh: Path, target: Path) -> None:
    """Put a folder in the place of another."""
    old = target.with_name(f"{target.name}.{secrets.token_hex(4)}.old")
    for attempt in range(1000):
        try:
            if target.exists():
                os.replace(target, old)
            os.replace(fresh, target)
            break
        except OSError as error:
            # Another process saves there too, or has just brought the earlier folder back.
            lost = error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
            if not lost or not fresh.is_dir() or attempt == 999:
                raise
            shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what writers of a file or folder left when they were killed."""
    pattern = re.compile(re.escape(target.name) + TOKEN + r"\.(partial|old)")
    for left in target.parent.iterdir():
        if pattern.fullmatch(left.name) and (left.suffix == ".partial" or target.exists()):
            with suppress(OSError):
                _remove_leftover(left)


def _remove_leftover(left: Path) -> None:
    folder = left.is_dir()
    free: bool | None = None
    handle = None
    if not (folder and sys.platform == "win32"):
        handle = os.open(left, os.O_RDONLY if folder else os.O_RDWR)
        free = _lock(handle)
    try:
        if free is None:
            free = time.time() - left.stat().st_mtime > DAY
        if free and sys.platform == "win32" and handle is not None:
            os.close(handle)
            handle = None
        if free:
            shutil.rmtree(left) if folder else left.unlink()
    finally:
        if handle is not None:
            os.close(handle)


def _is_still(file: Path, handle: int) -> bool:
    """Whether a name still means the file that was opened by it."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(handle))
    except FileNotFoundError:
        return False


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(handle: int) -> bool | None:
        """Lock a file: True, False where another has it, None where that cannot be."""
        # A byte far beyond the end, as a locked byte can be neither read nor written.
        os.lseek(handle, 2**40, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool | None:
        """Lock a file: True, False where another has it, None where that cannot be."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
        return True
