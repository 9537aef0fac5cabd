"""What a router trades by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skquee.values._checks import check_option

__all__ = ["Knob"]


@dataclass(frozen=True)
class Knob:
    """The parameter by which a router trades accuracy for cost.

    Parameters
    ----------
    name : str
        The parameter: ``"lambda_"``.
    order : {"falls", "rises"} or None, default=None
        "falls": the mean cost falls as the value rises, as for a price. "rises": it rises along
        the router's own grid (``default_knobs``). None: the values have no order.
    kind : {float, int}, default=float
        int where values between whole numbers mean nothing.

    Raises
    ------
    ValueError
        If one is none of these.

    Examples
    --------
    >>> from skquee import CostAwareRouter
    >>> from skquee.baselines import PatienceRouter
    >>> CostAwareRouter.knob
    Knob(name='lambda_', order='falls', kind=<class 'float'>)
    >>> PatienceRouter.knob.of(2.0)
    2
    """

    name: str
    order: Literal["falls", "rises"] | None = None
    kind: type[float] | type[int] = float

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise ValueError(f"name must be that of a parameter, got {self.name!r}.")
        if self.order is not None:
            check_option(self.order, "order", ("falls", "rises"), besides=" or None")
        if self.kind not in (float, int):
            raise ValueError(f"kind must be float or int, got {self.kind!r}.")

    def of(self, value: float) -> float:
        """Return a number of a grid as the parameter takes it.

        Parameters
        ----------
        value : float
            From ``CostCurve.knobs``.

        Returns
        -------
        float or int
            A float stays one where it is not whole: the router's own check says what is wrong.
        """
        return int(value) if self.kind is int and float(value).is_integer() else value
