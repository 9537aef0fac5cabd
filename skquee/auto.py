"""The router that chooses its own kind."""

from skquee.routers.auto import AutoRouter, default_candidates

__all__ = ["AutoRouter", "default_candidates"]
