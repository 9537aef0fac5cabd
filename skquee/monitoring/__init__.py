"""Monitoring: a router in service, its samples and its budget."""

from skquee.monitoring._monitor import RouteMonitor
from skquee.monitoring._online import OnlineLambdaRouter

__all__ = ["OnlineLambdaRouter", "RouteMonitor"]
