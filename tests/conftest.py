from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"

ROOT = Path(__file__).resolve().parents[1]


def find_data(name: str) -> Path | None:
    """Return the folder of a real data set, looked for in SKQUEE_DATA, then beside the checkout."""
    places = [os.environ.get("SKQUEE_DATA"), ROOT.parent / "shared" / "data"]
    found = (Path(place) / name for place in places if place)
    return next((folder for folder in found if folder.is_dir()), None)


@pytest.fixture(scope="session", autouse=True)
def on_the_processor() -> Iterator[None]:
    """Run networks that name no device on the CPU, also where a GPU would be their default."""
    torch = sys.modules.get("torch")  # tests that need it have it by now
    if torch is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Give the folder of a real data set by name, or skip the test that asks for it."""

    def folder(name: str) -> Path:
        path = find_data(name)
        if path is None:
            pytest.skip(f"real data {name!r} is in neither $SKQUEE_DATA nor ../shared/data")
        return path

    return folder
