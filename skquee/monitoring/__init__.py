"""Monitoring: a router in service, its samples and its budget."""

from skquee._public import publish
from skquee.monitoring._martingale import ConformalMartingale
from skquee.monitoring._monitor import RouteMonitor
from skquee.monitoring._online import OnlineLambdaRouter

__all__ = ["OnlineLambdaRouter", "RouteMonitor"]

publish(__name__, *(globals()[name] for name in __all__))
# Not offered, but stored in files under this name.
publish(__name__, ConformalMartingale)
