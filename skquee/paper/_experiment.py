"""What the paper's experiment computes from: tables, targets and routers, each once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skquee.bank import MultiPathClassifierBank
from skquee.evaluation import CostCurve
from skquee.method._targets import ClusteredErrorTargets
from skquee.method.gates import PathErrorRegressor
from skquee.paper._setting import Setting
from skquee.paper._store import Store
from skquee.routers import CostAwareRouter
from skquee.values import PathProbabilities, PathTree

__all__ = ["PARTS", "Experiment"]

PARTS = ("train", "val", "test")
Made = TypeVar("Made")


class Experiment:
    """A network, its splits and what is fitted on them; parameters are those of `Study`."""

    def __init__(
        self,
        network: Any,
        splits: Mapping[str, tuple[ArrayLike, ArrayLike]],
        folder: Path | str,
        *,
        title: str,
        setting: Setting | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        missing = [part for part in PARTS if part not in splits]
        if missing:
            raise ValueError(f"splits must have {list(PARTS)}; {missing} are missing.")
        if len(network.levels_) < 2:
            raise ValueError(
                f"The experiment combines widths, but the network has {network.levels_} only: "
                "quantize at two or more."
            )
        self.network = network
        self.title = title
        self.setting: Setting = Setting() if setting is None else setting
        self.folder = Path(folder)
        self.tree: PathTree = network.paths_
        self.labels = {part: np.asarray(splits[part][1]) for part in PARTS}
        known = [str(label) for label in network.classes_]
        self.class_names = known if class_names is None else list(class_names)
        if len(self.class_names) != len(known):
            raise ValueError(f"class_names must be {len(known)}, got {len(self.class_names)}.")
        self.store = Store(self.folder / "cache")
        rows = {f"{part} rows": _digest(y.tolist()) for part, y in self.labels.items()}
        self.store.bind(
            "settings", {**self.setting.to_dict(), "paths": _digest(self.tree.to_dict()), **rows}
        )
        self.bank = MultiPathClassifierBank(network).fit(splits["test"][0])
        self.images = {part: splits[part][0] for part in PARTS}
        self._memo: dict[Hashable, Any] = {}

    # ------------------------------------------------------------------ tables

    def table(self, part: str) -> PathProbabilities:
        """Return the probabilities of every path on the rows of a part.

        Parameters
        ----------
        part : {"train", "val", "test"}
            Which rows.

        Returns
        -------
        PathProbabilities
            Memory-mapped, float16; an interrupted run goes on where it stopped.
        """
        if part not in PARTS:
            raise ValueError(f"part must be one of {PARTS}, got {part!r}.")
        file = self.store.folder / f"{part}.npy"
        if not file.exists():
            images = self.images[part]
            self.store.timed(
                f"{part} table",
                lambda: self.bank.materialize(images, out=file, dtype="float16"),
            )
        return PathProbabilities.load(file)

    @property
    def full_levels(self) -> tuple[object, ...]:
        """Level of each block on the fullest path."""
        return self.tree.steps(self.tree.fullest)

    # ------------------------------------------------------------------ the router

    def targets(self, n_clusters: int | None = None) -> ClusteredErrorTargets:
        """Return error targets, clustered on the validation rows.

        Parameters
        ----------
        n_clusters : int, default=None
            K. Default: the setting's.

        Returns
        -------
        ClusteredErrorTargets
        """
        k = self.setting.n_clusters if n_clusters is None else n_clusters
        return self._remember(
            ("targets", k),
            lambda: self.new_targets(k).fit(self.table("val"), self.labels["val"]),
        )

    def router(self, n_clusters: int | None = None, **gate: object) -> CostAwareRouter:
        """Return the router of the paper: clusters of validation rows, gates of training rows.

        Parameters
        ----------
        n_clusters : int, default=None
            K. Default: the setting's.
        **gate
            Parameters of the gates that differ from the setting's.

        Returns
        -------
        CostAwareRouter
            Fitted.
        """
        k = self.setting.n_clusters if n_clusters is None else n_clusters

        def make() -> CostAwareRouter:
            router = self.new_router(k, **gate)
            return router.fit(self.table("val"), self.labels["val"], unlabeled=self.table("train"))

        return self._remember(("router", k, repr(sorted(gate.items()))), make)

    def new_targets(self, n_clusters: int) -> ClusteredErrorTargets:
        """Return error targets as the setting says, not fitted.

        Parameters
        ----------
        n_clusters : int
            K.

        Returns
        -------
        ClusteredErrorTargets
        """
        return ClusteredErrorTargets(n_clusters, random_state=self.setting.random_state)

    def new_router(self, n_clusters: int, **gate: object) -> CostAwareRouter:
        """Return a router as the setting says, not fitted.

        Parameters
        ----------
        n_clusters : int
            K.
        **gate
            Parameters of the gates that differ from the setting's.

        Returns
        -------
        CostAwareRouter
        """
        setting = self.setting
        options: dict[str, Any] = {
            "embedding_size": setting.embedding_size,
            "hidden_size": setting.hidden_size,
            "batch_size": setting.batch_size,
            **gate,
        }
        return CostAwareRouter(
            targets=self.new_targets(n_clusters),
            regressor=PathErrorRegressor(**options),
            validation_fraction=0,
            random_state=setting.random_state,
        )

    def _remember(self, key: Hashable, make: Callable[[], Made]) -> Made:
        if key not in self._memo:
            self._memo[key] = make()
        made: Made = self._memo[key]
        return made

    def measured(self, method: BaseEstimator) -> CostCurve:
        """Sweep a fitted method over the test table."""
        found = method.cost_curve(None, self.table("test"), self.labels["test"])
        found.source = "test images"
        return found


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
