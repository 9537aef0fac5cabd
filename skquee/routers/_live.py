"""Parameters set after fit: those that act at prediction do so at once, others ask for a fit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skquee.bank import MultiPathClassifierBank
from skquee.walk import RoutingMixin
from skquee.walk._fitted import Trace, as_now, with_tree

__all__ = ["LiveParameters", "check_rows"]

# Parameters that act at prediction, besides the knob that a router's curve sweeps.
BANK = {"step_costs", "path_costs", "cost_unit", "batch_size", "merge_groups"}
ROUTER = {"path_costs", "policy", "first", "n_jobs", "max_cost_per_sample"}


class LiveParameters:
    """Gives an estimator of ``bank_`` and ``router_`` parameters that act after ``fit``."""

    bank_: MultiPathClassifierBank
    router_: RoutingMixin
    best_lambda_: float | None
    _of_fit: dict[str, Trace]
    _parts: ClassVar[dict[str, Callable[[], BaseEstimator]]]

    def set_params(self, **params: object) -> Self:
        """Set parameters; those that act at prediction do so at once, without a fit.

        Parameters
        ----------
        **params
            Parameters, nested ones with a double underscore. After ``fit``, the router's knob
            (``router__lambda_``; None: back to the chosen one), its policy and costs, and the
            bank's costs reach the fitted parts. Any other that changes has to be fitted, and
            prediction says so until it is.

        Returns
        -------
        self
        """
        before = {part: getattr(self, part) for part in ("bank", "router")}
        super().set_params(**params)  # type: ignore[misc]
        if hasattr(self, "router_"):
            for part, given in before.items():
                if given is None and part not in params and getattr(self, part) is not None:
                    # Made in place of the default, to hold what is set.
                    self._note(part, self._parts[part]())
            for name, value in params.items():
                part, _, inner = name.partition("__")
                if inner and inner in self._acting(part) and self._set_fitted(part, inner, value):
                    self._note(name, value)
        return self

    def _note(self, name: str, value: object) -> None:
        """Keep in mind that a parameter's value needs no fit."""
        self._of_fit = as_now(getattr(self, "_of_fit", {}), name, value)

    def _acting(self, part: str) -> set[str]:
        """Return the parameters of a part that act at prediction."""
        if part == "bank":
            return BANK & set(self.bank_.get_params(deep=False))
        if part != "router":
            return set()
        return (ROUTER | {self.router_.knob.name}) & set(self.router_.get_params(deep=False))

    def _set_fitted(self, part: str, name: str, value: object) -> bool:
        """Give a copy of a fitted part another value; whoever holds the part keeps it as it is.

        It returns whether there is such a value: no price may have been chosen in fit.
        """
        if part == "bank":
            self.bank_ = copy.copy(self.bank_).set_params(**{name: value})
            if name.startswith("cost") or name.endswith("costs"):
                self.router_ = with_tree(self.router_, self.bank_.paths_)
            return True
        acting = self.best_lambda_ if name == "lambda_" and value is None else value
        if name == "lambda_" and acting is None:
            return False
        self.router_ = copy.copy(self.router_).set_params(**{name: acting})
        return True


def check_rows(X: ArrayLike, feature_names: Sequence[str] | None) -> ArrayLike:
    """Raise where X is one row of a data frame instead of rows.

    `feature_names`: columns seen in fit. Returns x itself.
    """
    one = hasattr(X, "iloc") and getattr(X, "ndim", 2) == 1
    if one and feature_names is not None and list(getattr(X, "index", ())) == list(feature_names):
        raise ValueError(
            "X is one row of a data frame as a Series: give rows, df.iloc[[0]] instead of "
            "df.iloc[0]."
        )
    return X
