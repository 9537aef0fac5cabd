"""The router that chooses its own kind."""

from skquee._public import publish
from skquee.auto._auto import AutoRouter
from skquee.auto._candidates import default_candidates

__all__ = ["AutoRouter", "default_candidates"]

publish(__name__, *(globals()[name] for name in __all__))
