"""The paper's experiment on a network of one's own: everything computed once, then drawn.

Importing this loads neither torch nor matplotlib; running it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from skquee.paper._setting import Setting
from skquee.values._public import publish

if TYPE_CHECKING:
    from skquee.paper._page import reproduce, write_report
    from skquee.paper._study import Study

__all__ = [
    "Setting",
    "Study",
    "reproduce",
    "write_report",
]

_HOMES = {
    "Study": "skquee.paper._study",
    "reproduce": "skquee.paper._page",
    "write_report": "skquee.paper._page",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skquee.paper' has no attribute {name!r}")


# Others are published where they are defined.
publish("skquee.report", Setting)
