"""From a table to an answer: what decides at a gate, and the walk that asks it."""

from skquee.values._public import publish
from skquee.walk._decider import Clipped, Decider, Follow, Mixed
from skquee.walk._estimator import RoutingMixin
from skquee.walk._knob import Knob
from skquee.walk._protocol import Router
from skquee.walk._snapshot import Snapshot
from skquee.walk._stream import StreamError, stream
from skquee.walk._visit import Routes, Visit
from skquee.walk._walk import walk

__all__ = [
    "Clipped",
    "Decider",
    "Follow",
    "Knob",
    "Mixed",
    "Router",
    "Routes",
    "RoutingMixin",
    "Snapshot",
    "StreamError",
    "Visit",
    "stream",
    "walk",
]

publish(__name__, *(globals()[name] for name in __all__))
