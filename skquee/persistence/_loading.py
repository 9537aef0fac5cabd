"""Reading skops files: checked as text, made, and checked again before they are handed out."""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from skquee._version import __version__
from skquee.persistence._names import PREDICTOR, TREE, allowed_types, current_name
from skquee.persistence._objects import everything, is_ours
from skquee.persistence._saving import FORMAT, RECORD, SCHEMA
from skquee.persistence._trees import check_arguments, check_trees
from skquee.values._archives import open_archive
from skquee.values._optional import require
from skquee.values._reading import not_whole, parse_json
from skquee.values._types import Json
from skquee.walk import RoutingMixin

__all__ = ["load"]

WHAT = "skops file"


def load(file: str | os.PathLike[str], trusted: Sequence[str] = ()) -> Any:
    """Read what :func:`dump` wrote. No code runs from the file.

    Types of skquee are trusted, and those of scikit-learn that skops trusts. Trees of decision
    trees, forests and boosting are looked through, since scikit-learn itself follows their
    numbers without a check: a tree that leads out of its own memory is refused.

    Parameters
    ----------
    file : path
        A skops file.
    trusted : sequence of str, default=()
        Further type names to accept, e.g. of an error model of your own.

    Returns
    -------
    object

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, written by a newer release, holds nothing of skquee's, a parameter that
        the estimator itself would refuse, or a tree that does not hold together.
    skops.io.exceptions.UntrustedTypesFoundException
        If it holds another type.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If estimators of scikit-learn in it were fitted with another version.

    See Also
    --------
    dump : Write it.

    Examples
    --------
    >>> import os, tempfile
    >>> import skquee
    >>> from skquee.baselines import ThresholdRouter
    >>> from skquee.testing import make_path_probabilities
    >>> table, y = make_path_probabilities(200)  # 3 exits at 2 levels
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "router.skops")
    ...     skquee.dump(ThresholdRouter(0.7).fit(table, y), file)
    ...     skquee.load(file).threshold
    0.7
    """
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a sequence of names, got the text {trusted!r}.")
    with open_archive(file, WHAT) as archive:
        schema = _read_schema(archive, Path(file), trusted)
        n_trees = _check_schema(archive, schema, file)
        renamed = _rename(schema)
        content = _repacked(archive, schema) if renamed else None
    return _made(Path(file), content, trusted, n_trees)


def _read_schema(archive: zipfile.ZipFile, file: Path, trusted: Sequence[str]) -> Json:
    names = archive.namelist()
    if SCHEMA not in names:
        raise not_whole(file, WHAT, f"it has no {SCHEMA}")
    if RECORD in names:
        record = parse_json(archive.read(RECORD), f"{file}, {RECORD},", WHAT)
        made, by = record.get("format"), record.get("skquee", "?")
        if type(made) is not int or not 1 <= made <= FORMAT:
            raise ValueError(
                f"{file} was written by skquee {by} in format {made}; skquee {__version__} reads "
                f"up to {FORMAT}. Update skquee."
            )
    schema = parse_json(archive.read(SCHEMA), f"{file}, {SCHEMA},", WHAT)
    modules = {str(node.get("__module__")).split(".")[0] for node in _nodes(schema)}
    root = f"{schema.get('__module__')}.{schema.get('__class__')}"
    if "skquee" not in modules and root not in trusted:
        raise ValueError(
            f"{file} holds a {root}, and nothing of skquee's: read it by skops.io.load, or name "
            "the type in trusted=."
        )
    return schema


def _nodes(schema: Json) -> list[Json]:
    """Return every node: a JSON object that names its class and how it is read."""
    found: list[Json] = []
    waiting: list[Json | list[object]] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and "__class__" in part and "__loader__" in part:
            found.append(part)
        values = part.values() if isinstance(part, dict) else part
        waiting.extend(value for value in values if isinstance(value, (dict, list)))
    return found


def _check_schema(archive: zipfile.ZipFile, schema: Json, file: str | os.PathLike[str]) -> int:
    """Check what trees are made with; return how many there are."""
    trees: set[object] = set()
    nodes = _nodes(schema)
    try:
        _check_numbers(nodes)
    except (TypeError, ValueError) as error:
        raise not_whole(file, WHAT, error) from None
    for node in nodes:
        name = f"{node.get('__module__')}.{node['__class__']}"
        loader = node["__loader__"]
        if loader == "CachedNode":
            continue
        if (name == TREE or loader == "TreeNode") and (name, loader) != (TREE, "TreeNode"):
            raise not_whole(file, WHAT, f"a {name} is read by {loader!r}")
        if name == PREDICTOR and loader != "ObjectNode":
            raise not_whole(file, WHAT, f"a {name} is read by {loader!r}")
        if name in (TREE, PREDICTOR):
            number = node.get("__id__")
            trees.add(number if isinstance(number, int) and number else id(node))
        if name == TREE:
            try:
                made_with = _content(node["__reduce__"]["args"], "TupleNode")
                state = _content(node["content"], "DictNode")
                n_features, n_outputs, count = (
                    json.loads(_content(part, "JsonNode"))
                    for part in (made_with[0], made_with[2], state["node_count"])
                )
                n_classes = _array(archive, made_with[1])
                check_arguments(
                    n_features, n_classes, n_outputs, count, _length(archive, state["nodes"])
                )
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise not_whole(file, WHAT, error) from None
    return len(trees)


def _check_numbers(nodes: list[Json]) -> None:
    """Refuse two nodes of one number that differ: a number stands for one object."""
    seen: dict[object, list[object]] = {}
    for node in nodes:
        number, loader = node.get("__id__"), node["__loader__"]
        if number is None or loader == "CachedNode":
            continue
        leaf = loader in ("JsonNode", "NdArrayNode")
        said = [loader, node.get("__module__"), node["__class__"], leaf and node.get("file")]
        said.append(leaf and node.get("content"))
        if seen.setdefault(number, said) != said:
            raise ValueError(f"two objects have the number {number!r}")


def _content(node: Json, loader: str) -> Any:
    if node["__loader__"] != loader:
        raise ValueError(f"a tree is described by a {node['__loader__']!r}")
    return node["content"]


def _file(node: Json) -> str:
    said = node["__loader__"], node["type"], node["__module__"], node["__class__"]
    if said != ("NdArrayNode", "numpy", "numpy", "ndarray"):
        raise ValueError(f"a tree is described by {said}")
    return node["file"]


def _array(archive: zipfile.ZipFile, node: Json) -> NDArray[np.generic]:
    with archive.open(_file(node)) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _length(archive: zipfile.ZipFile, node: Json) -> int:
    with archive.open(_file(node)) as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.names is None or len(shape) != 1:
        raise ValueError(f"the nodes of a tree are an array of {dtype} of shape {shape}")
    return shape[0]


def _rename(schema: Json) -> bool:
    """Give types of earlier releases the names they have now; return whether there were any."""
    renamed = False
    for node in _nodes(schema):
        module, name = node["__module__"], node["__class__"]
        if isinstance(module, str) and isinstance(name, str):
            now, _ = current_name(module, name)
            renamed, node["__module__"] = renamed or now != module, now
    return renamed


def _repacked(archive: zipfile.ZipFile, schema: Json) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for entry in archive.infolist():
            if entry.filename != SCHEMA:
                target.writestr(entry.filename, archive.read(entry))
        target.writestr(SCHEMA, json.dumps(schema))
    return stream.getvalue()


def _made(file: Path, content: bytes | None, trusted: Sequence[str], n_trees: int) -> object:
    require("skops", "load")
    from skops import io as skops_io
    from skops.io.exceptions import UntrustedTypesFoundException

    names = [*allowed_types(), *trusted]
    try:
        if content is None:
            made = skops_io.load(file, trusted=names)
        else:
            made = skops_io.loads(content, trusted=names)
    except (UntrustedTypesFoundException, Warning):  # a warning where warnings are errors
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError, RecursionError) as error:
        raise not_whole(file, WHAT, error) from None
    except Exception as error:  # skops reads what it expects, and fails where it is not there
        raise not_whole(file, WHAT, f"{type(error).__name__}: {error}") from error
    try:
        items = [item for _, item in everything(made)]
        for item in items:
            _check_attributes(item)
        check_trees(items, n_trees, elsewhere=TREE in trusted or PREDICTOR in trusted)
    except Exception as error:
        raise not_whole(file, WHAT, error) from error
    for item in items:
        _check_ours(item, file)
    return made


def _check_attributes(item: object) -> None:
    """Refuse an object that carries something in the place of one of its methods."""
    kind = type(item)
    if isinstance(item, type) or kind.__module__.split(".")[0] not in ("skquee", "sklearn"):
        return
    for name in getattr(item, "__dict__", ()):
        if callable(getattr(kind, name, None)):
            raise ValueError(f"a {kind.__name__} has {name!r} in place of its method")


def _check_ours(item: Any, file: Path) -> None:
    """Let an object of ours check its own parameters, as it would when it is used."""
    if not is_ours(item):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when it was fitted
            if hasattr(type(item), "__post_init__"):  # a data class that checks its fields
                type(item)(**{field.name: getattr(item, field.name) for field in fields(item)})
            elif isinstance(item, RoutingMixin) and hasattr(item, "classes_"):
                item.check_knobs()
    except NotFittedError:
        return
    except Exception as error:
        raise ValueError(
            f"{file} holds a {type(item).__name__} that cannot be used: {error}"
        ) from error
