"""What every estimator that routes has in common; see :mod:`skquee.walk`."""

from skquee.walk import Routes, RoutingMixin, Visit

__all__ = ["Routes", "RoutingMixin", "Visit"]
