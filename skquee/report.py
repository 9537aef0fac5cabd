"""The paper's experiment on a network of one's own, and speed on the clock.

Importing this loads neither torch nor matplotlib; running it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skquee.paper import Setting, Study, reproduce, write_report
    from skquee.speed._measure import measure_speed
    from skquee.speed._page import speed_text, write_speed
    from skquee.speed._verdict import speed_verdict

__all__ = [
    "Setting",
    "Study",
    "measure_speed",
    "reproduce",
    "speed_text",
    "speed_verdict",
    "write_report",
    "write_speed",
]

_HOMES = {
    "Setting": "skquee.paper._setting",
    "Study": "skquee.paper._study",
    "measure_speed": "skquee.speed._measure",
    "reproduce": "skquee.paper._page",
    "speed_text": "skquee.speed._page",
    "speed_verdict": "skquee.speed._verdict",
    "write_report": "skquee.paper._page",
    "write_speed": "skquee.speed._page",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skquee.report' has no attribute {name!r}")
