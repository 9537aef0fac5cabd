"""Writing what is fitted to a skops file."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from functools import partial
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import IO, Any

from sklearn.base import BaseEstimator

from skquee._version import __version__
from skquee.persistence._objects import everything, is_ours
from skquee.values import PathProbabilities
from skquee.values._atomic import whole_file
from skquee.values._checks import check_output
from skquee.values._optional import require
from skquee.walk import Snapshot

__all__ = ["FORMAT", "RECORD", "SCHEMA", "dump"]

SCHEMA, RECORD = "schema.json", "skquee.json"
FORMAT = 1  # counted up when an earlier release could not read what this one writes


def dump(obj: object, file: str | os.PathLike[str]) -> None:
    """Write what is fitted to a skops file, whole or not at all.

    A router or baseline, one with its bank of scikit-learn estimators, a bank, a Pipeline or
    search that holds them, a tree, a curve, targets, gates or measured times. Nothing is
    pickled. Files of this release are read by later ones.

    Parameters
    ----------
    obj : object
        What to save.
    file : path
        Where to, usually ``.skops``.

    Raises
    ------
    TypeError
        If a part cannot be saved so: a network (``network.save(folder)``), a table
        (``table.save(file)``), a snapshot of ``freeze()``, a function of your own. The message
        says which and what to do.
    FileNotFoundError, IsADirectoryError
        If the folder of `file` does not exist, or it is one.

    See Also
    --------
    load : Read it.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import skquee
    >>> from skquee import PathTree
    >>> from skquee.baselines import FixedPath
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]])
    >>> router = FixedPath(paths=PathTree.chain([1, 1])).fit(probs, [0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skquee.dump(router, os.path.join(folder, "router.skops"))
    ...     skquee.load(os.path.join(folder, "router.skops")).predict(probs)
    array([0, 1])
    """
    target = check_output(file)
    check_savable(obj)
    require("skops", "dump")
    from skops import io as skops_io

    try:
        written = skops_io.dumps(obj)
    except (RecursionError, TypeError, ValueError) as error:
        raise TypeError(f"{type(obj).__name__} holds what no skops file can: {error}") from error
    with whole_file(target) as stream:
        pack(written, stream)


def check_savable(obj: object) -> None:
    """Raise where a part has no place in a skops file, and say what to do with it."""
    owner, found = type(obj).__name__, False
    for path, item in everything(obj):
        where = f"{owner}.{path}" if path else owner
        found = found or is_ours(item)
        if _is_network(item):
            whole = "Save it by network.save(folder)"
            if not hasattr(item, "save"):  # a class of the user's own
                whole = "Make it again from its modules"
            raise TypeError(
                f"{where} is a network ({type(item).__name__}), which a skops file does not hold. "
                f"{whole} and what was fitted on it by fitting on a stored table, or save the "
                "router alone: dump(clf.router_, file)."
            )
        if isinstance(item, PathProbabilities):
            raise TypeError(f"{where} is a table: save it by table.save(file).")
        if isinstance(item, Snapshot):
            raise TypeError(
                f"{where} is a snapshot: save the router it was made of, and call freeze() again "
                "once it is loaded."
            )
        if type(item).__name__ == "MultiPathClassifierBank" and is_ours(item):
            _check_members(item, where)
        if isinstance(item, (FunctionType, MethodType)) and not _is_importable(item):
            raise TypeError(
                f"{where} is a function that a file cannot name ({item.__qualname__}): define it "
                "at the top of a module, or leave it out."
            )
    if not found:
        raise TypeError(
            f"{owner} is no object of skquee and holds none: skops.io.dump saves other estimators."
        )


def _check_members(bank: BaseEstimator, where: str) -> None:
    for entry in bank.classifiers if isinstance(bank.classifiers, (list, tuple)) else []:
        name, model = entry
        if not hasattr(model, "predict_proba") and callable(model):
            raise TypeError(
                f"Member {name!r} of {where} is a function or other callable, and a file holds no "
                "code. Save the router alone, dump(clf.router_, file), and hand it the bank's "
                "table again: load(file).predict(bank.transform(X))."
            )


def _is_network(item: object) -> bool:
    if hasattr(type(item), "run_block"):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(item, torch.nn.Module)


def _is_importable(function: Any) -> bool:
    """Whether a name in a file leads back to a function or bound method."""
    if isinstance(function, MethodType):
        return True  # skops saves the object it is bound to
    if isinstance(function, (partial, BuiltinFunctionType)):
        return True
    try:
        return getattr(import_module(function.__module__), function.__name__) is function
    except (AttributeError, ImportError, TypeError, ValueError):
        return False


def pack(written: bytes, stream: IO[bytes]) -> None:
    """Write an archive of skops again: compressed, each object once, the same bytes every time.

    skops names objects and arrays by where they are in memory, and writes one that comes twice
    (a fitted forest in ``classifiers`` and in ``classifiers_``) twice, to read the first alone.

    `written`: what ``skops.io.dumps`` returned.
    """
    with zipfile.ZipFile(io.BytesIO(written)) as source:
        schema = json.loads(source.read(SCHEMA))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, numbers, files)
        record = {"format": FORMAT, "skquee": __version__}
        with zipfile.ZipFile(stream, "w") as target:
            for old, new in files.items():
                _add(target, new, source.read(old))
            _add(target, SCHEMA, json.dumps(schema, separators=(",", ":")).encode())
            _add(target, RECORD, json.dumps(record).encode())


def _add(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    # An entry of its own has a fixed date, where a name alone would have today's.
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    target.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=3)


def _renumber(schema: dict[str, object], numbers: dict[int, int], files: dict[str, str]) -> None:
    """Count objects and files from 0 in reading order; leave out objects that came before."""
    waiting: list[object] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
            continue
        if not isinstance(node, dict):
            continue
        number = node.get("__id__")
        if isinstance(number, int) and "__loader__" in node:
            # Reading makes the first and gives it again: only the first needs its content.
            if number in numbers and node["__loader__"] in ("ObjectNode", "TreeNode"):
                kept = {"__class__": node["__class__"], "__module__": node["__module__"]}
                node.clear()
                node.update(kept, __loader__="CachedNode")
            node["__id__"] = numbers.setdefault(number, len(numbers) + 1)
        if isinstance(node.get("file"), str) and "__loader__" in node:
            name = node["file"]
            node["file"] = files.setdefault(name, f"{len(files)}{os.path.splitext(name)[1]}")
        waiting.extend(reversed([part for part in node.values() if isinstance(part, (dict, list))]))
