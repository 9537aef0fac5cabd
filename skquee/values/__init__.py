"""Plain values: trees of paths, tables of probabilities, and what checks, builds and keeps them."""

from skquee.values._table import PathProbabilities
from skquee.values._tree import PathTree

__all__ = ["PathProbabilities", "PathTree"]
