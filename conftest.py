"""Examples run in the modules that define them, not once more in the packages that offer them.

``skquee._public`` says why doctest would find them there.
"""

collect_ignore_glob = ["skquee/*/__init__.py"]
