"""A bank whose members are whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from sklearn.utils.validation import check_is_fitted

from skquee.values._types import Json, Rows

if TYPE_CHECKING:
    from torch import nn

    from skquee.networks import MultiExitNetwork

__all__ = ["OfNetworks"]


class OfNetworks:
    """Gives a bank its way from several torch networks."""

    @classmethod
    def from_networks(
        cls,
        networks: Mapping[str, nn.Module | str | MultiExitNetwork],
        levels: Sequence[str] | None = None,
        *,
        paths: str = "cascade",
        calibration: Rows = None,
        classes: Sequence[object] | None = None,
        img_size: int | tuple[int, int] | None = None,
        data_config: Json | None = None,
        batch_size: int = 64,
        runtime: str = "auto",
        device: str | None = None,
        **options: Any,
    ) -> Self:
        """Make a bank of several trained networks, each compiled and timed on several engines.

        Every (network, engine) is a path, and so is every way to ask a dearer network after a
        cheaper one: ``"small@int8-large@fp32"``. A network starts from the images, whatever ran
        before it, and runs on the same rows only once. Costs are measured milliseconds a row.

        Parameters
        ----------
        networks : dict of str to Module, str or MultiExitNetwork
            Cheapest first: torch modules of images to logits (or probabilities) over the same
            classes; names of timm models, whose pretrained weights timm fetches; or fitted
            networks, whose last exit answers.
        levels : sequence of str, default=None
            Engines, as of :meth:`skquee.networks.MultiExitNetwork.compile`. Of each network those
            are kept that pay here. Default: all that the device runs.
        paths : {"cascade", "chain"}, default="cascade"
            Any increasing sequence of networks, starting with any; or each after the one before.
        calibration : images, default=None
            For the ranges of int8 inputs, some 128.
        classes : sequence, default=None
            Labels, in the order of the logits. Default: those of fitted networks, else 0, 1, ...
        img_size : int or (int, int), default=None
            Height and width of images in pixels. Default: as a network's own configuration says.
        data_config : dict, default=None
            Any of ``mean``, ``std``, ``interpolation`` and ``crop_pct``, in place of the modules'
            own (timm's have one, else 0.5).
        batch_size : int, default=64
            Rows run together while engines are timed, and on a CPU at most so many afterwards.
        runtime : {"auto", "torch", "openvino", "graphs"}, default="auto"
            As of ``compile``.
        device : str, default=None
            Where to run. Default: CUDA where there is one.
        **options
            Of the bank: ``path_costs``, ``merge_groups`` and others. ``path_costs="latency"``
            measures every network for several numbers of rows, gates included.

        Returns
        -------
        MultiPathClassifierBank
            Ready: ``transform`` takes whatever images a network takes.

        Warns
        -----
        UserWarning
            Where an engine does not pay for a network and is left out.

        Raises
        ------
        TypeError
            If `networks` is no such mapping.
        ValueError
            If a network does not run, answers other classes than the others, or something it
            needs is missing; the network is named.

        See Also
        --------
        skquee.networks.MultiExitNetwork : One network with exits, whose blocks are shared.

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> from skquee import MultiPathClassifierBank
        >>> _ = torch.manual_seed(0)
        >>> small = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.Flatten(), nn.Linear(256, 5))
        >>> large = nn.Sequential(nn.Conv2d(3, 32, 3, 1), nn.Flatten(), nn.Linear(28800, 5))
        >>> bank = MultiPathClassifierBank.from_networks(
        ...     {"small": small, "large": large}, levels=("fp32",), img_size=32, runtime="torch"
        ... )
        >>> bank.paths_.names
        ('small@fp32', 'large@fp32', 'small@fp32-large@fp32')
        >>> bank.paths_.cost_unit
        'ms'
        >>> bank.transform(torch.zeros(10, 3, 32, 32)).shape
        (10, 2, 5)
        """
        from skquee.networks import NetworkCascade

        bank = cls(None, **options)  # type: ignore[call-arg]  # says what is none of its options
        cascade = NetworkCascade.compiled(
            networks,
            levels,
            paths=paths,
            calibration=calibration,
            classes=classes,
            img_size=img_size,
            data_config=data_config,
            batch_size=batch_size,
            runtime=runtime,
            device=device,
        )
        costs = options.get("path_costs")
        if isinstance(costs, str) and costs == "latency":
            cascade.measure_costs()
        bank.set_params(classifiers=cascade)  # type: ignore[attr-defined]
        check_is_fitted(bank)  # nothing is left to fit: classes and costs are settled here
        return bank
