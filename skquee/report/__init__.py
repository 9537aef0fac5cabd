"""The paper's experiment on a network of one's own: everything computed once, then drawn.

Importing this loads neither torch nor matplotlib; running it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skquee._public import publish
from skquee.report._setting import Setting

if TYPE_CHECKING:
    from skquee.report._page import write_report
    from skquee.report._speed import measure_speed
    from skquee.report._speed_page import speed_text, write_speed
    from skquee.report._study import Study, reproduce

__all__ = [
    "Setting",
    "Study",
    "measure_speed",
    "reproduce",
    "speed_text",
    "write_report",
    "write_speed",
]

_HOMES = {
    "measure_speed": "skquee.report._speed",
    "speed_text": "skquee.report._speed_page",
    "write_speed": "skquee.report._speed_page",
    "Study": "skquee.report._study",
    "reproduce": "skquee.report._study",
    "write_report": "skquee.report._page",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skquee.report' has no attribute {name!r}")


# Others are published where they are defined.
publish(__name__, Setting)
