"""Reading files that may be cut short, damaged or forged: checked before anything is made."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skquee.values._types import Json

__all__ = [
    "check_file",
    "field",
    "not_whole",
    "parse_json",
    "read_json",
    "tree_fields",
]

MIB = 2**20
# JSON of ours is a few kB, of a forest a few dozen MB.
MOST_JSON = 512 * MIB
SCALARS = (str, int, float, bool)


def not_whole(source: object, what: str, why: object) -> ValueError:
    """Return the error of a file that is damaged or something else.

    `what`: what it should be, e.g. ``"table file"``.
    """
    return ValueError(f"{source} is not a whole {what} ({str(why).rstrip('.')}).")


def check_file(file: str | os.PathLike[str], what: str) -> Path:
    """Return the path of a file that exists and is none but a file.

    FileNotFoundError if nothing is there. ValueError if it is a folder or a device.
    """
    source = Path(file)
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {source}: a {what} was expected.") from None
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise not_whole(source, what, f"it is {found}")
    return source


# ---------------------------------------------------------------------- JSON


def read_json(file: str | os.PathLike[str], what: str) -> Json:
    """Read a JSON file that holds one object.

    ValueError if it is too large, no UTF-8, no JSON, nested too deep, or no object.
    """
    source = check_file(file, what)
    size = source.stat().st_size
    if size > MOST_JSON:
        raise not_whole(source, what, f"{size} bytes, {MOST_JSON} at most")
    return parse_json(source.read_bytes(), source, what)


def parse_json(text: str | bytes, source: object, what: str) -> Json:
    """Return the one object that a JSON text holds.

    `source`: where it is from, for messages.

    >>> from skquee.values._reading import parse_json
    >>> parse_json("[]", "tree.json", "tree")
    Traceback (most recent call last):
        ...
    ValueError: tree.json is not a whole tree (a list where an object with named fields belongs).
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise not_whole(source, what, "its JSON is nested too deep") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both
        raise not_whole(source, what, f"its JSON cannot be read: {error}") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise not_whole(source, what, f"a {kind} where an object with named fields belongs")
    return found


_NOTHING = object()


def field(
    record: Mapping[str, object],
    name: str,
    kinds: type | tuple[type, ...],
    source: object,
    default: object = _NOTHING,
) -> Any:
    """Return a field of a JSON object, of a type that it may have.

    `kinds`: what it may be. Truth values are no integers. `source`: where it is from, for messages.
    `default`: for a field that earlier releases did not write. Without: the field must be there.
    ValueError if it is missing or of another type.

    >>> from skquee.values._reading import field
    >>> field({"seed": "x"}, "seed", int, "network.json")
    Traceback (most recent call last):
        ...
    ValueError: network.json: 'seed' must be a whole number, got 'x'.
    """
    if name not in record:
        if default is not _NOTHING:
            return default
        raise ValueError(f"{source}: {name!r} is missing.")
    value = record[name]
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        words = " or ".join(_KINDS[kind] for kind in wanted)
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise ValueError(f"{source}: {name!r} must be {words}, got {shown}.")
    return value


_KINDS: dict[type, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
    type(None): "null",
}


def tree_fields(record: object) -> Json:
    """Return the fields of a tree from JSON, each of the type that a tree writes.

    `record`: what :meth:`skquee.PathTree.to_dict` wrote, read back. Returns arguments of
    :class:`skquee.PathTree`, which checks what they say. ValueError naming the field that is
    missing, unknown or of another type.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"The tree must be an object with named fields, got {record!r:.60}.")
    known = ("names", "parents", "levels", "costs", "columns", "classes", "cost_unit")
    unknown = sorted(set(record) - set(known), key=str)
    if unknown:
        raise ValueError(f"The tree has fields that this release does not know: {unknown[:5]}.")
    source = "The tree"
    names = field(record, "names", list, source)
    for name, kinds, word in (
        ("names", (str,), "texts"),
        ("parents", (int,), "whole numbers"),
        ("levels", SCALARS, "texts or numbers"),
        ("costs", (int, float), "numbers"),
        ("columns", (int,), "whole numbers"),
        ("classes", SCALARS, "texts or numbers"),
    ):
        needless = name in ("columns", "classes")
        maybe = (list, type(None)) if needless else list
        values = field(record, name, maybe, source, None if needless else _NOTHING) or []
        for value in values:
            loose = isinstance(value, bool) and bool not in kinds
            endless = isinstance(value, float) and not math.isfinite(value)
            if not isinstance(value, kinds) or loose or endless:
                raise ValueError(f"The tree's {name!r} must hold {word}, got {value!r:.60}.")
    for column in record.get("columns") or []:
        if not 0 <= column < len(names):
            raise ValueError(f"The tree's 'columns' must be from 0 up, fewer than paths: {column}.")
    field(record, "cost_unit", (str, type(None)), source, None)
    return dict(record)
