"""The whole experiment in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from skquee.paper._page import write_report
from skquee.paper._setting import Setting
from skquee.paper._study import Study
from skquee.values._public import publish

__all__ = ["reproduce"]


def reproduce(
    network: object,
    splits: Mapping[str, tuple[ArrayLike, ArrayLike]],
    folder: Path | str,
    *,
    title: str,
    setting: Setting | None = None,
    class_names: Sequence[str] | None = None,
) -> Study:
    """Run the paper's experiment on a network and write its report.

    Parameters
    ----------
    network, splits, folder, title, setting, class_names
        As of :class:`Study`.

    Returns
    -------
    Study
        Everything computed; ``folder/report.html`` shows it.
    """
    study = Study(
        network, splits, folder, title=title, setting=setting, class_names=class_names
    ).run()
    write_report(study)
    return study


publish("skquee.report", reproduce)
