"""Checks of files and folders that users name, before any work is done for them."""

from __future__ import annotations

import os
from pathlib import Path

from skquee.values._shown import shown

__all__ = ["check_folder", "check_output", "check_path"]


def check_path(value: str | os.PathLike[str], name: str = "file") -> Path:
    """Return a path.

    >>> from skquee.values._file_checks import check_path
    >>> check_path(3, "cache")
    Traceback (most recent call last):
        ...
    TypeError: cache must be a path, a text or a pathlib.Path, got 3.
    """
    text = value if isinstance(value, str) else getattr(value, "__fspath__", lambda: None)()
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, a text or a pathlib.Path, got {shown(value)}.")
    try:
        if not text:
            raise ValueError("it is empty")
        os.lstat(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # what that means is for the caller to say
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{name} must be a path, got {shown(text)}: {why}.") from None
    return Path(text)


def check_output(file: str | os.PathLike[str], name: str = "file") -> Path:
    """Return where a file is to be written, while nothing has been worked out yet."""
    target = check_path(file, name)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of {name}, {target.parent}, does not exist: make it first."
        )
    if target.is_dir():
        raise IsADirectoryError(f"{name}={str(target)!r} is a folder: give a file's name in it.")
    _check_writable(target.parent, target, name)
    return target


def check_folder(folder: str | os.PathLike[str], name: str = "folder") -> Path:
    """Return a folder to write in, which may be made."""
    target = check_path(folder, name)
    for part in (target, *target.absolute().parents):
        if part.exists():
            if not part.is_dir():
                raise NotADirectoryError(
                    f"{name}={str(target)!r} must be a folder, but {str(part)!r} is a file."
                )
            _check_writable(part, target, name)
            break
    return target


def _check_writable(folder: Path, target: Path, name: str) -> None:
    # A file is written under another name and moved, so that its folder's permissions count.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{name}={str(target)!r} cannot be written: no file can be made in {folder}. Choose "
            "another folder, or change its permissions."
        )
