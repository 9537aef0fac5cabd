"""Plain values that all else is made of: trees of paths, their costs, tables of probabilities."""
