"""What a policy of one's own has to offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Policy", "PolicyFunction", "PolicyLike"]

# ``policy(predicted_errors, costs, lambda_)``, as `open_loop`.
PolicyFunction = Callable[[NDArray[np.floating], NDArray[np.float64], float], NDArray[np.intp]]


class Policy(Protocol):
    """What ``CostAwareRouter(policy=)`` takes, besides names and functions.

    Held to by :func:`skquee.testing.check_policy`. A policy with
    ``fit(survey, wrong, tree)`` (and, where it takes them, ``sample_weight``) is cloned and fitted
    with the gates: see :meth:`skquee.policy.OptionValue.fit`.

    Examples
    --------
    Exit where nothing promises to be better by a tenth:

    >>> import numpy as np
    >>> from skquee.policy import open_loop
    >>> from skquee.testing import check_policy
    >>> class OnlyForATenth:
    ...     def aim(self, errors, costs, lambda_, *, prefix):
    ...         aimed = open_loop(errors, costs, lambda_)
    ...         if prefix is None:  # nothing has run: no exit is among the candidates
    ...             return aimed
    ...         gain = errors[:, 0] - errors[np.arange(len(errors)), aimed]
    ...         return np.where(gain < 0.1, 0, aimed)
    >>> check_policy(OnlyForATenth())
    >>> OnlyForATenth().aim(np.array([[0.3, 0.25], [0.3, 0.1]]), [0, 0.01], 0.1, prefix=0)
    array([0, 1])
    """

    def aim(
        self,
        errors: NDArray[np.floating],
        costs: NDArray[np.float64],
        lambda_: float,
        *,
        prefix: int | None,
    ) -> NDArray[np.intp]:
        """Return the position of the candidate to aim at.

        Parameters
        ----------
        errors : ndarray of shape (n_samples, n_candidates)
            Predicted errors; the prefix itself comes first.
        costs : ndarray of shape (n_candidates,) or (n_samples, n_candidates)
            Cost of each, where it differs that for each sample.
        lambda_ : float
            Price of one unit of cost.
        prefix : int or None
            Path taken; None before anything has run, where no exit is among the candidates.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        ...


# ``CostAwareRouter(policy=)``: a name, a policy or a function.
PolicyLike = str | Policy | PolicyFunction
