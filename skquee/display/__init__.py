"""Pictures of what routers do. Importing this loads no matplotlib; plotting does."""

from skquee.display._calibration import ErrorCalibrationDisplay
from skquee.display._clusters import ClusterDisplay
from skquee.display._cost_curve import CostCurveDisplay
from skquee.display._path_usage import PathUsageDisplay
from skquee.values._public import publish

__all__ = ["ClusterDisplay", "CostCurveDisplay", "ErrorCalibrationDisplay", "PathUsageDisplay"]

publish(__name__, *(globals()[name] for name in __all__))
