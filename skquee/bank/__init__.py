"""Banks: fixed classifiers behind one table of probabilities."""

from skquee.bank._bank import MultiPathClassifierBank
from skquee.bank._calls import CallError, Calls
from skquee.bank._estimators import Member
from skquee.bank._network import run_exit
from skquee.bank._times import CallTimes
from skquee.bank._walk import LazyPathProbabilities
from skquee.values._public import publish
from skquee.values._rows import take_rows

__all__ = [
    "CallError",
    "CallTimes",
    "LazyPathProbabilities",
    "MultiPathClassifierBank",
    "run_exit",
    "take_rows",
]

publish(__name__, *(globals()[name] for name in __all__))
# Not offered, but stored in files under these names.
publish(__name__, Calls, Member)
