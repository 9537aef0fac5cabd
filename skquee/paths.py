"""The tree of paths: which classifiers exist, what they share and what they cost."""

from skquee.values._tree import PathTree

__all__ = ["PathTree"]
