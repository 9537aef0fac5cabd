"""Plain values that all else is made of: the tree of paths and its costs."""
