"""Results kept in a folder: computed once, read back afterwards, never half written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from skquee.evaluation import CostCurve
from skquee.values import PathTree
from skquee.values._archives import open_arrays
from skquee.values._atomic import whole_file
from skquee.values._checks import check_folder
from skquee.values._reading import field, parse_json, read_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Store"]

Made = TypeVar("Made")


class Store:
    """Curves and tables by name, in a folder.

    `folder`: made where it is absent.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from skquee import PathTree
    >>> from skquee.evaluation import CostCurve
    >>> from skquee.paper._store import Store
    >>> curve = CostCurve([0.0], [[1, 1]], [[True, False]], PathTree.chain([1, 1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = Store(Path(folder)).curve("router", lambda: curve)
    ...     Store(Path(folder)).curve("router", lambda: None).accuracy  # not computed again
    array([0.5])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def curve(self, name: str, make: Callable[[], CostCurve]) -> CostCurve:
        """Return a curve, computing it where no earlier run has."""
        file = self.folder / f"{name}.npz"
        if not file.exists():
            found = self.timed(name, make)
            record = {
                "tree": found.tree.to_dict(),
                "knob": found.knob,
                "source": found.source,
                "label": found.label,
            }
            with whole_file(file) as fresh:
                np.savez_compressed(
                    fresh,
                    knobs=found.knobs,
                    paths=found.paths.astype(np.int16),
                    correct=np.packbits(found.correct, axis=1),
                    record=np.array(json.dumps(record)),
                )
        with open_arrays(file, "kept curve") as archive:
            record = parse_json(str(archive["record"]), f"{file}, 'record',", "kept curve")
            paths = archive["paths"]
            correct = np.unpackbits(
                archive["correct"].astype(np.uint8), axis=1, count=paths.shape[1]
            )
            tree = PathTree.from_dict(field(record, "tree", dict, file))
            kinds = str, type(None)
            texts = {k: field(record, k, kinds, file) for k in ("knob", "source", "label")}
            return CostCurve(archive["knobs"], paths, correct, tree, **texts)

    def frame(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table, computing it where no earlier run has; its first column is the index."""
        import pandas as pd

        file = self.folder / f"{name}.csv"
        if not file.exists():
            found = self.timed(name, make)
            with whole_file(file) as fresh:
                fresh.write(found.to_csv().encode("utf8"))
        return pd.read_csv(file, index_col=0)

    def bind(self, name: str, record: Mapping[str, object]) -> None:
        """Note what the results are of; refuse a folder with results of anything else.

        `name`: of the note. `record`: what the results depend on. Raises ValueError if an earlier
        run has kept results of another record.
        """
        file = self.folder / f"{name}.json"
        now = json.loads(json.dumps(record))
        # Notes alone bind nobody: that run failed before it kept a result.
        if file.exists() and any(kept.suffix != ".json" for kept in self.folder.iterdir()):
            earlier = read_json(file, "note of an earlier run")
            changed = [
                f"{k} {earlier.get(k)} -> {v}" for k, v in now.items() if earlier.get(k) != v
            ]
            if changed:
                raise ValueError(
                    f"{self.folder.parent} was made with other {name} ({'; '.join(changed)}). Give "
                    f"another folder, or the same {name} to go on."
                )
            return
        with whole_file(file) as fresh:
            fresh.write(json.dumps(now, indent=1).encode("utf8"))

    def timed(self, name: str, make: Callable[[], Made]) -> Made:
        """Compute something and note how long it took."""
        began = time.perf_counter()
        found = make()
        seconds = {**self.seconds, name: round(time.perf_counter() - began, 1)}
        with whole_file(self.folder / "seconds.json") as fresh:
            fresh.write(json.dumps(seconds, indent=1).encode("utf8"))
        return found

    @property
    def seconds(self) -> dict[str, float]:
        """How long each result took to compute."""
        file = self.folder / "seconds.json"
        return read_json(file, "note of an earlier run") if file.exists() else {}
