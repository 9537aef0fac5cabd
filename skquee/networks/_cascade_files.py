"""A cascade of networks in a folder: each in one of its own, what joins them in JSON."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import nn

from skquee._version import __version__
from skquee.networks._files import RECORD as MEMBER
from skquee.networks._files import check_target, load
from skquee.networks._images import ImageFormat
from skquee.networks._members import (
    MOST_PATHS,
    Logs,
    build_member,
    check_classes,
    joined_blocks,
    named,
)
from skquee.networks._multi_exit import MultiExitNetwork
from skquee.networks._parameters import NetworkParameters
from skquee.networks.backbones._cut import Cut
from skquee.networks.backbones._sized import channels_of
from skquee.networks.engines import LatencyTable
from skquee.values._atomic import heal_folder, whole_folder
from skquee.values._checks import check_option, check_path
from skquee.values._reading import field, read_json
from skquee.values._types import Json

__all__ = ["load_members", "save_members"]

RECORD, FORMAT = "cascade.json", 1
NAMES = frozenset((RECORD, *map(str, range(MOST_PATHS))))  # a chain has a path a member


def save_members(
    folder: str | os.PathLike[str],
    members: Mapping[str, MultiExitNetwork],
    paths: str,
    latency: LatencyTable | None,
) -> None:
    """Write members to a folder, as :meth:`NetworkCascade.save` says."""
    target = check_target(folder, NAMES)
    for part in target.iterdir() if target.is_dir() else ():
        if part.name != RECORD:
            check_target(part)
    with whole_folder(target) as fresh:
        described = []
        for number, (name, member) in enumerate(members.items()):
            own = fresh / str(number)
            with named(name):
                member.save(own)
            described.append(
                {
                    "name": name,
                    "named": isinstance(member.backbone, str),
                    "probabilities": isinstance(member.parts_.heads[0], Logs),
                    "sum": _sum(own),
                }
            )
        record = {
            "format": FORMAT,
            "skquee": __version__,
            "paths": paths,
            "members": described,
            "latency": None if latency is None else latency.to_dict(),
        }
        (fresh / RECORD).write_text(json.dumps(record, indent=1), encoding="utf8")


def load_members(
    folder: str | os.PathLike[str],
    networks: Mapping[str, nn.Module | MultiExitNetwork] | None,
    device: str | None,
) -> tuple[dict[str, MultiExitNetwork], str, LatencyTable | None]:
    """Read what :func:`save_members` wrote; arguments as of :meth:`NetworkCascade.load`."""
    source = check_path(folder, "folder")
    heal_folder(source)
    if not (source / RECORD).is_file():
        raise FileNotFoundError(f"{source} holds no saved cascade: {RECORD} is missing.")
    record = _read(source / RECORD)
    given = _given(networks, record["members"])
    members: dict[str, MultiExitNetwork] = {}
    for number, described in enumerate(record["members"]):
        name, own = described["name"], source / str(number)
        with named(name):
            member = _load_member(described, own, given.get(name), device)
            if members:
                check_classes(member, next(iter(members.values())))
        members[name] = member
    table = record["latency"]
    levels = tuple(f"{name}@{level}" for name, m in members.items() for level in m.levels_)
    if table is not None and (table.levels != levels or len(table.blocks) != len(members)):
        raise ValueError(f"{source / RECORD}: 'latency' must hold times of {levels}.")
    return members, record["paths"], table


def _load_member(
    described: Json, folder: Path, given: nn.Module | MultiExitNetwork | None, device: str | None
) -> MultiExitNetwork:
    """Read one member; `given`: what it was made of, where that has no name."""
    if isinstance(given, MultiExitNetwork):
        given = joined_blocks(given, None)[0]
    network, parts = load(
        MultiExitNetwork,
        folder,
        backbone=given,
        heads=None,
        pool=None,
        device=device,
        build=partial(_whole, described),
    )
    if described["sum"] != _sum(folder) or parts.exits != (described["name"],):
        raise ValueError(f"{folder} holds another network than the one that was saved there.")
    network.parts_ = parts
    return network


def _whole(
    described: Json, network: NetworkParameters, seed: int, *, n_outputs: int | None, empty: bool
) -> tuple[nn.Module, Cut, ImageFormat]:
    """Return a network as one block, where others are cut."""
    module = build_member(network.backbone, seed=seed, n_outputs=n_outputs)
    pool, head = nn.Identity(), Logs() if described["probabilities"] else nn.Identity()
    channels = channels_of(module)
    cut = Cut(
        nn.ModuleList([module]),
        nn.ModuleList([pool]),
        (pool, head),
        (described["name"],),
        channels,
        None,
    )
    return module, cut, ImageFormat.of(channels, None, {})


def _read(file: Path) -> Json:
    """Return a description whose every field is of its type."""
    record = read_json(file, "description of a cascade")
    if field(record, "format", int, file) != FORMAT:
        raise ValueError(
            f"{file} is of format {record['format']}, this release reads format {FORMAT}: a later "
            "release of skquee wrote it, or it is damaged."
        )
    check_option(field(record, "paths", str, file), f"{file}: 'paths'", ("cascade", "chain"))
    described = field(record, "members", list, file)
    names = []
    for number, member in enumerate(described):
        where = f"{file}, 'members', {number}"
        if not isinstance(member, dict):
            raise ValueError(f"{where} must be an object, got {member!r:.60}.")
        kinds = {"name": str, "named": bool, "probabilities": bool, "sum": int}
        names.append([field(member, key, kind, where) for key, kind in kinds.items()][0])
    if not 1 <= len(names) == len(set(names)) <= MOST_PATHS or any("@" in n for n in names):
        raise ValueError(f"{file}: 'members' must be 1 to {MOST_PATHS} of distinct names.")
    table = field(record, "latency", (dict, type(None)), file)
    try:
        return {**record, "latency": None if table is None else LatencyTable.from_dict(table)}
    except ValueError as error:
        raise ValueError(f"{file}, 'latency': {error}") from None


def _given(
    networks: Mapping[str, nn.Module | MultiExitNetwork] | None, described: list[Json]
) -> Mapping[str, nn.Module | MultiExitNetwork]:
    """Return the networks that a user hands again, checked against those that are asked for."""
    if networks is not None and not isinstance(networks, Mapping):
        raise TypeError(f"networks must be a dict of names to modules, got {networks!r:.60}.")
    given = networks or {}
    names = [member["name"] for member in described]
    unknown = sorted(set(given) - set(names), key=str)
    if unknown:
        raise ValueError(f"networks holds {unknown}, but the cascade's are {names}.")
    for name, network in given.items():
        if not isinstance(network, (nn.Module, MultiExitNetwork)):
            raise TypeError(
                f"Network {name!r} must be a torch module or a fitted MultiExitNetwork, got "
                f"{network!r:.60}."
            )
    missing = [m["name"] for m in described if not m["named"] and m["name"] not in given]
    if missing:
        raise ValueError(
            f"The networks {missing} were made of modules: give them again, networks={{name: "
            "module}, of the same architecture; their weights are in the folder."
        )
    return given


def _sum(folder: Path) -> int:
    """Return a checksum of a description, beside which weights of another one are refused."""
    return zlib.crc32((folder / MEMBER).read_bytes())
