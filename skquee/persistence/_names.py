"""Names of types in files: ours, and parts of scikit-learn that are safe to make."""

from __future__ import annotations

__all__ = ["PREDICTOR", "TREE", "allowed_types", "current_name", "trusted_types"]

# Under the names that files hold, which say nothing of where the code stands.
OURS = (
    "skquee.AutoRouter",
    "skquee.BudgetRouter",
    "skquee.ClusteredErrorTargets",
    "skquee.CostAwareRouter",
    "skquee.MultiPathClassifierBank",
    "skquee.PathErrorClassifier",
    "skquee.PathErrorRegressor",
    "skquee.PathTree",
    "skquee.RiskControlledRouter",
    "skquee.RoutedClassifier",
    "skquee.TunedCostAwareRouterCV",
    "skquee.answers.EnsembleAnswer",
    "skquee.answers.RecallAnswer",
    "skquee.bank.CallTimes",
    "skquee.bank.Calls",
    "skquee.bank.Member",
    "skquee.baselines.BudgetedThresholdRouter",
    "skquee.baselines.DQNetGate",
    "skquee.baselines.FixedPath",
    "skquee.baselines.JEIDNN",
    "skquee.baselines.NextStepRouter",
    "skquee.baselines.OracleRouter",
    "skquee.baselines.PatienceRouter",
    "skquee.baselines.RandomMixing",
    "skquee.baselines.ThresholdRouter",
    "skquee.evaluation.CostCurve",
    "skquee.evaluation._Scorer",
    "skquee.gates.ClassErrorRates",
    "skquee.gates.GateInputs",
    "skquee.gates.GateLayout",
    "skquee.gates.GateNetwork",
    "skquee.gates._Linear",
    "skquee.gates._Several",
    "skquee.monitoring.ConformalMartingale",
    "skquee.monitoring.OnlineLambdaRouter",
    "skquee.monitoring.RouteMonitor",
    "skquee.networks.engines.LatencyTable",
    "skquee.policy.ClosedLoop",
    "skquee.policy.OptionValue",
    "skquee.policy.Pessimistic",
    "skquee.router.CallCostModel",
    "skquee.router.OperatingPoints",
)
# Of scikit-learn and numpy: they hold numbers and text, or are called with data alone.
PARTS = (
    "functools.partial",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer._RemainderColsList",  # scikit-learn 1.6
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.model_selection._split.GroupKFold",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.ShuffleSplit",
    "sklearn.model_selection._split.StratifiedGroupKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.model_selection._split.StratifiedShuffleSplit",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "sklearn.utils.validation.check_array",
)
# Trees index memory by numbers in the file: taken once `_trees` has checked these.
TREE = "sklearn.tree._tree.Tree"
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"

_BY_CLASS = {name.rsplit(".", 1)[1]: name for name in OURS}


def trusted_types() -> list[str]:
    """Return the types that :func:`load` trusts besides those that skops does.

    For other readers of skops files, such as MLflow. Trees of forests and of boosting are not
    among them: what is in such a tree has to be checked, as :func:`load` does and others do not.

    Returns
    -------
    list of str
        Names, as ``trusted`` of ``skops.io.load`` takes them.

    Examples
    --------
    >>> from skquee.persistence import trusted_types
    >>> "skquee.CostAwareRouter" in trusted_types()
    True
    """
    return [*OURS, *PARTS]


def allowed_types() -> list[str]:
    """Return the types that may be made once their content has been checked."""
    return [*OURS, *PARTS, TREE, PREDICTOR]


def current_name(module: str, name: str) -> tuple[str, str]:
    """Return module and name of a class as they are now; as they were where it is none of ours.

    Early files name the private module that held the class.
    """
    private = module.startswith("skquee.") and f"{module}.{name}" not in OURS
    if private and name in _BY_CLASS:
        module = _BY_CLASS[name].rsplit(".", 1)[0]
    return module, name
