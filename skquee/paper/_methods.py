"""The methods of figure 3, each from a study to its curve on the test rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator

from skquee.bank import MultiPathClassifierBank
from skquee.baselines import (
    JEIDNN,
    DQNetGate,
    FixedPath,
    NextStepRouter,
    OracleRouter,
    ThresholdRouter,
)
from skquee.evaluation import CostCurve
from skquee.method.gates import PathErrorRegressor
from skquee.paper._experiment import Experiment
from skquee.values import PathTree
from skquee.values._tree import relative_to_whole

__all__ = ["MAKERS", "METHODS"]

METHODS = ("QuEE", "JEI-DNN", "DQNet", "PTQ4ViT", "Thresholding")


def _fitted(study: Experiment, method: BaseEstimator) -> CostCurve:
    return study.measured(method.fit(study.table("val"), study.labels["val"]))


def _jei_dnn(study: Experiment) -> CostCurve:
    setting = study.setting
    jei = JEIDNN(
        study.network,
        setting.lambdas[0],
        lambdas=setting.lambdas,
        max_epochs=setting.jei_epochs,
        batch_size=setting.batch_size,
        random_state=setting.random_state,
    )
    jei.fit(study.images["train"], study.labels["train"])
    return jei.cost_curve(None, study.images["test"], study.labels["test"])


def _dqnet(study: Experiment) -> CostCurve:
    setting = study.setting
    settings = [(level, alpha) for level in study.network.levels_ for alpha in setting.alphas]
    gate = DQNetGate(
        study.network,
        *settings[0],
        settings=settings,
        max_epochs=setting.dqnet_epochs,
        batch_size=setting.batch_size,
        random_state=setting.random_state,
    )
    gate.fit(study.images["train"], study.labels["train"], probabilities=study.table("train"))
    return gate.cost_curve(
        None, study.images["test"], study.labels["test"], probabilities=study.table("test")
    )


def _uniform(study: Experiment) -> CostCurve:
    """Run the whole network at each width: PTQ4ViT alone."""
    network = study.network
    flops = np.cumsum(network.flops_)
    steps = [(level,) * depth for level in network.levels_ for depth in range(1, len(flops) + 1)]
    # In the unit of the network's tree: 1 is all blocks at the highest level.
    operations = [flops[len(path) - 1] * path[0] for path in steps]
    tree = relative_to_whole(PathTree.from_paths(steps, operations))
    bank = MultiPathClassifierBank(network.with_paths(tree))
    table, y = bank.materialize(study.images["test"]), study.labels["test"]
    whole = np.flatnonzero(tree.depths == tree.n_exits)
    return FixedPath().fit(table, y).cost_curve(whole, table, y)


def _next_step(study: Experiment) -> CostCurve:
    setting = study.setting
    regressor = study.new_router(setting.n_clusters).regressor
    assert isinstance(regressor, PathErrorRegressor)
    router = NextStepRouter(
        setting.next_step_lambdas[0],
        lambdas=setting.next_step_lambdas,
        targets=study.new_targets(setting.n_clusters),
        regressor=regressor,
        random_state=setting.random_state,
    )
    return _fitted(study, router)


MAKERS: dict[str, Callable[[Experiment], CostCurve]] = {
    "QuEE": lambda study: study.measured(study.router()),
    "JEI-DNN": _jei_dnn,
    "DQNet": _dqnet,
    "PTQ4ViT": _uniform,
    "Thresholding": lambda study: _fitted(study, ThresholdRouter()),
    "QuEE on validation rows": lambda study: _fitted(
        study, study.new_router(study.setting.n_clusters)
    ),
    "Fixed paths": lambda study: _fitted(study, FixedPath()),
    "Oracle": lambda study: _fitted(study, OracleRouter()),
    "Next step": _next_step,
}
