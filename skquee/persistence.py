"""Save and load fitted routers without pickle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from skquee._atomic import whole_file

__all__ = ["dump", "load"]

# Types of ours, and parts of scikit-learn's calibration, that hold nothing but numbers and text.
_TRUSTED = (
    "skquee.auto._auto.AutoRouter",
    "skquee.baselines._dqnet.DQNetGate",
    "skquee.baselines._fixed.FixedPath",
    "skquee.baselines._fixed.RandomMixing",
    "skquee.baselines._jeidnn.JEIDNN",
    "skquee.baselines._next_step.NextStepRouter",
    "skquee.baselines._oracle.OracleRouter",
    "skquee.baselines._threshold.BudgetedThresholdRouter",
    "skquee.baselines._threshold.PatienceRouter",
    "skquee.baselines._threshold.ThresholdRouter",
    "skquee.answers.EnsembleAnswer",
    "skquee.answers.RecallAnswer",
    "skquee.gates._classifier.PathErrorClassifier",
    "skquee.gates._classifier._Linear",
    "skquee.gates._classifier._Several",
    "skquee.gates._features.GateLayout",
    "skquee.gates._mlp.GateNetwork",
    "skquee.gates._regressor.PathErrorRegressor",
    "skquee.gates._rich.ClassErrorRates",
    "skquee.gates._rich.GateInputs",
    "skquee.paths.PathTree",
    "skquee.policy._closed_loop.ClosedLoop",
    "skquee.policy._rules.OptionValue",
    "skquee.policy._rules.Pessimistic",
    "skquee.router._budget.BudgetRouter",
    "skquee.router._mixing.OperatingPoints",
    "skquee.router._prices.CallCostModel",
    "skquee.router._risk.RiskControlledRouter",
    "skquee.router._router.CostAwareRouter",
    "skquee.router._tuned.TunedCostAwareRouterCV",
    "skquee.evaluation._curve.CostCurve",
    "skquee.targets.ClusteredErrorTargets",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
)


def dump(router: Any, file: str | os.PathLike[str]) -> None:
    """Write a fitted router or baseline to a skops file, whole or not at all.

    Parameters
    ----------
    router : estimator
        Fitted. A router over a bank is saved without the bank.
    file : path
        Where to.

    Raises
    ------
    TypeError
        If the router was fitted on a network: weights are no part of a skops file.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skquee import PathTree
    >>> from skquee.baselines import FixedPath
    >>> from skquee.persistence import dump, load
    >>> probs = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]])
    >>> router = FixedPath(paths=PathTree.chain([1, 1])).fit(probs, [0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump(router, os.path.join(folder, "router.skops"))
    ...     load(os.path.join(folder, "router.skops")).predict(probs)
    array([0, 1])
    """
    from skops import io

    if any(getattr(router, name, None) is not None for name in ("network", "_network")):
        raise TypeError(
            f"{type(router).__name__} was fitted on a network, which a skops file does not hold. "
            "Save the network by network.save(folder) and fit again, or fit on a stored table."
        )
    with whole_file(file) as stream:
        stream.write(io.dumps(router))


def load(file: str | os.PathLike[str], trusted: Sequence[str] = ()) -> Any:
    """Read a router that :func:`dump` wrote.

    Parameters
    ----------
    file : path
        A skops file.
    trusted : sequence of str, default=()
        Further type names to accept, e.g. of an error model of your own. Types that are
        neither skops' own, skquee's, nor these are refused.

    Returns
    -------
    estimator

    Raises
    ------
    skops.io.exceptions.UntrustedTypesFoundException
        If the file holds another type.
    """
    from skops import io

    return io.load(file, trusted=[*_TRUSTED, *trusted])
