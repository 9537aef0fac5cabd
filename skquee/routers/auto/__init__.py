"""The router that chooses its own kind."""

from skquee.routers.auto._auto import AutoRouter
from skquee.routers.auto._candidates import default_candidates
from skquee.values._public import publish

__all__ = ["AutoRouter", "default_candidates"]

publish("skquee.auto", *(globals()[name] for name in __all__))
