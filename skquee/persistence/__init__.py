"""Files of everything fitted, without pickle."""

from skquee.persistence._loading import load
from skquee.persistence._names import trusted_types
from skquee.persistence._saving import dump
from skquee.values._public import publish

__all__ = ["dump", "load", "trusted_types"]

publish(__name__, *(globals()[name] for name in __all__))
