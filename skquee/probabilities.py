"""The table of probabilities every estimator of the package eats, stored or lazy."""

from skquee.values._table import PathProbabilities

__all__ = ["PathProbabilities"]
