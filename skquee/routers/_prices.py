"""Prices of calls that are not known before: predicted from what is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

__all__ = ["CallCostModel"]


class CallCostModel(BaseEstimator):
    """Predict the price of a call of each classifier from the context of a row.

    The mean is what a decision needs, since ``lambda_ * cost`` is linear in it: ridge regression
    on standardised context; the plain mean where a price never varies or there is no context.

    `random_state`: unused: the fit draws nothing.
    """

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(
        self,
        context: NDArray[np.float64] | None,
        call_costs: NDArray[np.float64],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> CallCostModel:
        """Learn prices.

        `context` (n_samples, n_context): known before a call. `call_costs` (n_samples, n_columns).
        `sample_weight` (n_samples,).
        """
        self.means_ = np.average(call_costs, axis=0, weights=sample_weight)
        self.models_: list[BaseEstimator | None] = [None] * call_costs.shape[1]
        if context is not None:
            for column, prices in enumerate(call_costs.T):
                if np.ptp(prices) > 0:
                    model = make_pipeline(StandardScaler(), Ridge())
                    with threadpool_limits(limits=1):
                        self.models_[column] = model.fit(
                            context, prices, ridge__sample_weight=sample_weight
                        )
        return self

    def predict(self, context: NDArray[np.float64] | None, n_samples: int) -> NDArray[np.float64]:
        """Predict prices.

        `context` (n_samples, n_context). Returns shape (n_samples, n_columns).
        """
        found = np.tile(self.means_, (n_samples, 1))
        if context is not None:
            for column, model in enumerate(self.models_):
                if model is not None:
                    found[:, column] = np.maximum(model.predict(context), 0)
        return found
