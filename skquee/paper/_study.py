"""The paper's experiment on one network: tables, routers, baselines and their curves."""

from __future__ import annotations

import warnings
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeRegressor
from tqdm import tqdm

from skquee.evaluation import CostCurve
from skquee.method.gates import PathErrorRegressor
from skquee.paper._experiment import PARTS, Experiment
from skquee.paper._methods import MAKERS, METHODS
from skquee.routers import CostAwareRouter
from skquee.values._public import publish

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METHODS", "Study"]

# Trains as slowly as the paper's gates.
SLOW = {"schedule": "constant", "learning_rate": 1e-3}


class Study(Experiment):
    """Everything the figures need, computed once and kept in a folder.

    Parameters
    ----------
    network : MultiExitNetwork
        Fitted and quantised at two widths or more.
    splits : mapping of str to (images, labels)
        ``"train"``: rows that train gates and controllers; ``"val"``: rows the network was not
        trained on, for clusters and thresholds; ``"test"``: rows that measure.
    folder : path
        Where results are kept (``folder/cache``) and found again.
    title : str
        What the network and the data are, for headings.
    setting : Setting, default=None
        Default: the paper's for CIFAR-10.
    class_names : sequence of str, default=None
        Names of the classes, in their order. Default: the labels.

    Attributes
    ----------
    tree : PathTree
        The network's paths.
    images, labels : dict of str to images, to ndarray
        Of each part.

    Raises
    ------
    ValueError
        If a part is missing, the network has one level only, or `folder` holds results of
        another setting, of other paths or of other labels.

    Examples
    --------
    >>> from skquee.report import Study
    >>> study = Study(network, splits, "results")  # doctest: +SKIP
    >>> study.curves()  # doctest: +SKIP
    """

    def curve(self, name: str) -> CostCurve:
        """Return the curve of a method on the test rows.

        Parameters
        ----------
        name : str
            "QuEE", "JEI-DNN", "DQNet", "PTQ4ViT", "Thresholding", "QuEE on validation rows",
            "Fixed paths", "Oracle" or "Next step".

        Returns
        -------
        CostCurve
            Read from the folder where an earlier run has kept it.
        """
        if name not in MAKERS:
            raise ValueError(f"name must be one of {list(MAKERS)}, got {name!r}.")

        def make() -> CostCurve:
            found = MAKERS[name](self)
            found.source, found.label = "test images", name
            return found

        return self._remember(("curve", name), lambda: self.store.curve(_slug(name), make))

    # ------------------------------------------------------------------ error models and clusters

    def by_regressor(self) -> list[tuple[str, float, CostCurve]]:
        """Return gates of differing quality: name, error on test rows, curve (figure 4).

        Returns
        -------
        list of (str, float, CostCurve)
            The error is the root mean squared difference between predicted errors and error
            targets, over every prefix and every path that starts with it.
        """
        curves = {
            name: self.store.curve(f"gates_{_slug(name)}", partial(self._gate_curve, gate))
            for name, gate in self._gates().items()
        }

        def errors() -> pd.DataFrame:
            import pandas as pd

            found = {
                name: self._rmse(self._gate_router(gate)) for name, gate in self._gates().items()
            }
            return pd.DataFrame({"rmse": found})

        rmse = self.store.frame("gates_rmse", errors)["rmse"]
        return [(name, float(rmse[name]), curve) for name, curve in curves.items()]

    def _gates(self) -> dict[str, dict[str, object]]:
        """Return gates of falling quality, which all learn the same targets."""
        code = FunctionTransformer(_path_code, kw_args={"size": self.tree.n_exits + 1})
        return {
            "trained to the end": {},
            "3 epochs": {**SLOW, "max_epochs": 3},
            "1 epoch": {**SLOW, "max_epochs": 1},
            "each path's mean": {"estimator": make_pipeline(code, DecisionTreeRegressor())},
        }

    def _gate_curve(self, gate: dict[str, object]) -> CostCurve:
        return self.measured(self._gate_router(gate))

    def _gate_router(self, gate: dict[str, Any]) -> CostAwareRouter:
        with warnings.catch_warnings():
            # Too few epochs are the point here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.router(**gate)

    def _rmse(self, router: CostAwareRouter) -> float:
        table, tree = self.table("test"), self.tree
        goals = self.targets().transform(table)
        gates = router.regressor_
        assert isinstance(gates, PathErrorRegressor)
        total, count = 0.0, 0
        for prefix in range(tree.n_paths):
            if tree.is_leaf(prefix):
                continue
            candidates = tree.descendants(prefix)
            found = gates.predict(table, prefix=prefix)[:, candidates]
            total += float(((found - goals[:, candidates]) ** 2).sum())
            count += found.size
        return float(np.sqrt(total / count))

    def calibration_by_clusters(self) -> pd.DataFrame:
        """Return the calibration error of the targets by number of clusters (appendix 7.2).

        Returns
        -------
        DataFrame
            Index K, column ``ece``, on test rows.
        """

        def make() -> pd.DataFrame:
            import pandas as pd

            counts = [k for k in self.setting.ece_clusters if k <= len(self.labels["val"])]
            errors = [
                self.targets(k).calibration_error(self.table("test"), self.labels["test"])
                for k in tqdm(counts, desc="clusters", disable=None, leave=False)
            ]
            return pd.DataFrame({"ece": errors}, index=pd.Index(counts, name="K"))

        return self.store.frame("calibration_by_clusters", make)

    def curves_by_clusters(self) -> dict[int, CostCurve]:
        """Return the router's curve by number of clusters (figure 5C).

        Returns
        -------
        dict of int to CostCurve
        """
        return {
            k: self.store.curve(f"clusters_{k}", partial(self._cluster_curve, k))
            for k in self.setting.curve_clusters
            if k <= len(self.labels["val"])
        }

    def _cluster_curve(self, k: int) -> CostCurve:
        return self.measured(self.router(k))

    def usage(self, cost: float) -> tuple[float, NDArray[np.intp]]:
        """Return the routes of the router where its mean cost is nearest a wanted one (figure 1).

        Parameters
        ----------
        cost : float
            Mean cost wanted.

        Returns
        -------
        lambda_ : float
        paths : ndarray of shape (n_test,)
        """
        curve = self.curve("QuEE")
        point = int(np.abs(curve.cost - cost).argmin())
        return float(curve.knobs[point]), curve.paths[point]

    def run(self) -> Study:
        """Compute everything, with progress; what is there already is only read.

        Returns
        -------
        Study
            Itself.
        """
        stages: list[tuple[str, object]] = [
            *((f"{part} table", partial(self.table, part)) for part in PARTS),
            *((name, partial(self.curve, name)) for name in MAKERS),
            ("gates of differing quality", self.by_regressor),
            ("calibration of clusters", self.calibration_by_clusters),
            ("curves by clusters", self.curves_by_clusters),
        ]
        with tqdm(stages, unit="stage", disable=None) as bar:
            for name, stage in bar:
                bar.set_description(name)
                stage()
        return self


def _path_code(X: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """Return what a gate's input tells of the path alone (equation 14)."""
    return X[:, -size:]


@cache
def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


publish("skquee.report", Study)
