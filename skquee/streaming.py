"""Routing a stream of batches; see :mod:`skquee.walk`."""

from skquee.walk import StreamError, stream

__all__ = ["StreamError", "stream"]
