"""Monitoring: a router in service, its samples and its budget."""

from skquee.routers.monitoring._martingale import ConformalMartingale
from skquee.routers.monitoring._monitor import RouteMonitor
from skquee.routers.monitoring._online import OnlineLambdaRouter
from skquee.values._public import publish

__all__ = ["OnlineLambdaRouter", "RouteMonitor"]

publish("skquee.monitoring", *(globals()[name] for name in __all__))
# Not offered, but stored in files under this name.
publish("skquee.monitoring", ConformalMartingale)
