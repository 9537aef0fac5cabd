"""Levels that are fast on the clock: blocks on the kernels a machine really has."""

from skquee.networks.engines._engines import (
    BITS,
    ENGINES,
    build_engine,
    check_engines,
    device_engines,
)
from skquee.networks.engines._int8 import Int8Linear, input_ranges
from skquee.networks.engines._latency import LatencyTable
from skquee.values._public import publish

__all__ = [
    "BITS",
    "ENGINES",
    "Int8Linear",
    "LatencyTable",
    "build_engine",
    "check_engines",
    "device_engines",
    "input_ranges",
]

publish(__name__, *(globals()[name] for name in __all__))
