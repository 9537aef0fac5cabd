"""Serving: a fitted classifier behind HTTP, whose concurrent requests share batches."""

from skquee.serving._app import make_app
from skquee.serving._run import serve
from skquee.values._public import publish

__all__ = ["make_app", "serve"]

publish(__name__, *(globals()[name] for name in __all__))
