"""Examples run in the modules that define them, not once more in the packages that offer them.

``skquee.values._public`` says why doctest would find them there.
"""

import os

# Threads that wait by spinning cost the small arrays of tests more than they save, and take the
# cores from other workers. Read when a library is first loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = ["skquee/*/__init__.py", "skquee/*/*/__init__.py"]
collect_ignore = [
    f"skquee/{name}.py"
    for name in ("answers", "auto", "gates", "monitoring", "policy", "report", "router")
]
