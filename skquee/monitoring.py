"""Monitoring: a router in service, its samples and its budget."""

from skquee.routers.monitoring import ConformalMartingale, OnlineLambdaRouter, RouteMonitor

__all__ = ["OnlineLambdaRouter", "RouteMonitor"]

# Stored in files under this name.
_KEPT = (ConformalMartingale,)
