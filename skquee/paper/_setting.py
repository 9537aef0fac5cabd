"""What the paper's experiment leaves to choose."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Setting"]


@dataclass(frozen=True)
class Setting:
    """Everything the experiment leaves to choose; the defaults are the paper's for CIFAR-10.

    Parameters
    ----------
    n_clusters : int, default=20
        Clusters a path of the router's error targets (K, table 3).
    embedding_size, hidden_size : int, default=8, 16
        Of the gates (table 3).
    lambdas : tuple of float
        Trade-offs of JEI-DNN, each a training (section 7.1.4).
    alphas : tuple of float
        Prices of a bit of DQNet, each a training for every target (section 7.1.4).
    jei_epochs, dqnet_epochs : int, default=15, 10
        Epochs of a training.
    batch_size : int, default=512
        Rows a step.
    ece_clusters, curve_clusters : tuple of int
        K of figures 5B and 9, and of figure 5C.
    shown_clusters : (int, int), default=(6, 20)
        K of figures 6 and 7.
    many_clusters : int, default=40
        K of figure 8.
    next_step_lambdas : tuple of float
        Trade-offs of the next-best-step variant, each a training (section 7.3).
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0
        Seed of everything random.

    Examples
    --------
    >>> from skquee.report import Setting
    >>> Setting(n_clusters=70).lambdas[:3]
    (0.0, 0.01, 0.05)
    >>> len(Setting.quick().lambdas)
    4
    """

    n_clusters: int = 20
    embedding_size: int = 8
    hidden_size: int = 16
    lambdas: tuple[float, ...] = (0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0)
    alphas: tuple[float, ...] = (0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 2.0, 10.0)
    jei_epochs: int = 15
    dqnet_epochs: int = 10
    batch_size: int = 512
    ece_clusters: tuple[int, ...] = (1, 2, 5, 10, 20, 30, 40, 50, 70, 100, 150, 200)
    curve_clusters: tuple[int, ...] = (1, 5, 20, 50, 70, 100)
    shown_clusters: tuple[int, int] = (6, 20)
    many_clusters: int = 40
    next_step_lambdas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0)
    n_resamples: int = 1000
    random_state: int = 0

    @classmethod
    def quick(cls, **changes: Any) -> Setting:
        """Return a setting with few values of everything, for a small network.

        Parameters
        ----------
        **changes
            Fields to set otherwise.

        Returns
        -------
        Setting
        """
        few: dict[str, Any] = {
            "n_clusters": 10,
            "lambdas": (0.0, 0.1, 0.5, 2.0),
            "alphas": (0.0, 0.1, 2.0),
            "jei_epochs": 5,
            "dqnet_epochs": 5,
            "ece_clusters": (1, 2, 5, 10, 20, 40),
            "curve_clusters": (1, 5, 20),
            "many_clusters": 20,
            "next_step_lambdas": (0.03, 0.2, 1.0),
            "n_resamples": 200,
        }
        return cls(**{**few, **changes})

    def to_dict(self) -> dict[str, object]:
        """Return the fields, fit for JSON.

        Returns
        -------
        dict
        """
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
