"""Checks for people who write routers and parts of them, and the data they use."""

from skquee.testing._parts import check_answer_rule, check_error_model, check_policy
from skquee.testing._routers import check_router, router_checks
from skquee.testing._tables import TableNetwork, make_path_probabilities
from skquee.values._public import publish

__all__ = [
    "TableNetwork",
    "check_answer_rule",
    "check_error_model",
    "check_policy",
    "check_router",
    "make_path_probabilities",
    "router_checks",
]

publish(__name__, *(globals()[name] for name in __all__))
