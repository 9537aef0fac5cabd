"""A network in a folder: weights in safetensors, the rest in JSON."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skquee._version import __version__
from skquee.networks._compiling import rebuilt
from skquee.networks._execution import choose_device
from skquee.networks._fit import assemble
from skquee.networks._head_trainer import HeadTrainer
from skquee.networks._images import ImageFormat
from skquee.networks._parameters import PRETRAINED, NetworkParameters, trainer_of
from skquee.networks._parts import FLOAT, Parts
from skquee.networks._record import FORMAT, PARAMETERS, bounded, check_format, read_record
from skquee.networks._training import HeadKind
from skquee.networks.backbones._checkpoint import load_checkpoint
from skquee.networks.backbones._cut import Cut
from skquee.networks.backbones._pools import (
    GlobalPool,
    PoolKind,
    check_pool,
    plain_pool,
    restored_pools,
)
from skquee.networks.backbones._types import Level
from skquee.networks.engines import ENGINES
from skquee.networks.quantization import describe, restore
from skquee.networks.quantization._restoring import needs_images
from skquee.values._atomic import heal_folder, whole_folder
from skquee.values._checks import check_folder, check_path
from skquee.values._reading import not_whole
from skquee.values._types import Json

Network = TypeVar("Network", bound=NetworkParameters)

__all__ = ["RECORD", "check_target", "load", "save"]


class Builder(Protocol):
    """Makes the pieces of a network whose weights follow, as ``assemble`` does."""

    def __call__(
        self, network: NetworkParameters, seed: int, *, n_outputs: int | None, empty: bool
    ) -> tuple[nn.Module, Cut, ImageFormat]:
        """Return the backbone, its pieces and what it takes."""


RECORD, WEIGHTS = "network.json", "weights.safetensors"
# Parameters that a file holds as they are. Not those that it cannot hold, or that speak of another
# machine: the module, callables, seeds, places of files, devices.
PLAIN = ("exits", "blocks", "n_classes", "img_size", "in_chans", "backbone_kwargs", "data_config")
TRAINER = tuple(name for name in PARAMETERS if name not in (*PLAIN, "pretrained"))


def check_target(
    folder: str | os.PathLike[str], known: frozenset[str] = frozenset((RECORD, WEIGHTS))
) -> Path:
    """Return where a network is to be written.

    `folder`: where to. `known`: what a saved one holds. Raises ValueError if it holds something
    else. Raises OSError if it is a file, or nothing can be written there.
    """
    target = check_folder(folder)
    if target.exists() and (not target.is_dir() or ({p.name for p in target.iterdir()} - known)):
        raise ValueError(f"{target} holds something else than a saved network; nothing is written.")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder of {target}, {target.absolute().parent}, is missing.")
    return target


def save(network: NetworkParameters, parts: Parts, folder: str | os.PathLike[str]) -> None:
    """Write a fitted network, its parameters and its parts, to a folder."""
    target = check_target(folder)
    quantized = {
        level: blocks
        for level, blocks in parts.levels.items()
        if blocks is not parts.blocks and level not in ENGINES
    }
    heads = trainer_of(network).heads
    arrays = {
        "flops_": parts.flops,
        "head_flops_": parts.head_flops,
        "validation_accuracy_": parts.validation_accuracy,
        "path_accuracy_": parts.path_accuracy,
    }
    record = {
        "format": FORMAT,
        "skquee": __version__,
        "backbone": network.backbone if isinstance(network.backbone, str) else None,
        "heads": heads if isinstance(heads, str) else None,
        "pool": plain_pool(trainer_of(network).pool),
        "pools": [pool.axis if isinstance(pool, GlobalPool) else None for pool in parts.pools],
        "params": _params_of(network),
        "n_outputs": (
            getattr(parts.backbone, "num_classes", None)
            if isinstance(network.backbone, str)
            else None
        ),
        "image_format": asdict(parts.format),
        "head_widths": parts.head_widths,
        "final_head_kept": parts.final_head_kept,
        "seed": parts.seed,
        "exits": parts.exits,
        "levels": list(parts.levels),
        "tree": parts.paths.to_dict(),
        "tree_options": dict(parts.tree_options),
        "arrays": {name: array.tolist() for name, array in arrays.items() if array is not None},
        "level_accuracy": list((parts.level_accuracy or {}).items()),
        "ranges": dict(parts.ranges),
        "group": parts.group,
        "runtimes": dict(parts.runtimes),
        "latency": None if parts.latency is None else parts.latency.to_dict(),
        "quantized": {str(level): describe(blocks) for level, blocks in quantized.items()},
    }
    try:
        text = json.dumps(record, indent=1)
    except TypeError as error:
        raise ValueError(
            f"A parameter, label or option of this network does not fit JSON: {error}."
        ) from None
    whole = {"backbone": parts.backbone, "heads": parts.heads}
    tensors = {
        f"{part}.{key}": value
        for part, module in whole.items()
        for key, value in module.state_dict().items()
    }
    shared = _addresses(parts.blocks)
    for level, blocks in quantized.items():
        for key, value in blocks.state_dict().items():
            if value.data_ptr() not in shared:
                tensors[f"levels.{level}.{key}"] = value
    with whole_folder(target) as fresh:
        # Copies: safetensors refuses tensors that share memory, as tied weights do.
        copies = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        written = text.encode("utf8")
        sums = {"skquee.record": str(zlib.crc32(written)), "skquee.tensors": _sum(copies)}
        save_file(copies, fresh / WEIGHTS, metadata=sums)
        (fresh / RECORD).write_bytes(written)


def load(
    cls: Callable[..., Network],
    folder: str | os.PathLike[str],
    *,
    backbone: nn.Module | None,
    heads: HeadKind | None,
    pool: PoolKind | None,
    device: str | None,
    build: Builder = assemble,
) -> tuple[Network, Parts]:
    """Read a network that was saved, as :meth:`MultiExitNetwork.load` takes its arguments.

    `cls`: makes a network of its parameters. `build`: makes its pieces, as ``assemble`` does.
    Returns it, not fitted, and its parts.
    """
    source = check_path(folder, "folder")
    if backbone is not None and not isinstance(backbone, nn.Module):
        raise TypeError(f"backbone must be a torch module, got {backbone!r:.60}.")
    if heads is not None and heads != "linear" and not callable(heads):
        raise TypeError(f"heads must be the callable that made them, got {heads!r:.60}.")
    where = choose_device(device)
    heal_folder(source, frozenset((RECORD, WEIGHTS)))
    for name in (RECORD, WEIGHTS):
        if not (source / name).is_file():
            raise FileNotFoundError(f"{source} holds no saved network: {name} is missing.")
    described = source / RECORD
    record = read_record(described, named=backbone is None)
    try:
        tensors = load_file(source / WEIGHTS)
        with safe_open(source / WEIGHTS, "pt") as opened:
            sums = opened.metadata() or {}
    except SafetensorError as error:
        raise not_whole(source / WEIGHTS, "safetensors file", error) from None
    _check_sums(sums, tensors, source)
    if pool is not None:
        check_pool(pool)
    for given, kept, what in (
        (backbone, "backbone", "module"),
        (heads, "heads", "callable"),
        (pool, "pool", "function as pool"),
    ):
        if given is None and record[kept] is None:
            raise ValueError(f"The network was made with a {what}: give it again, {kept}=.")
    tree = record["tree"]
    network = cls(
        record["backbone"] if backbone is None else backbone,
        device=device,
        **_arguments_of(
            record["params"],
            heads=record["heads"] if heads is None else heads,
            pool=record["pool"] if pool is None else pool,
        ),
    )
    trainer = trainer_of(network)
    with _described(described), bounded(tensors, described):
        module, cut, picture = build(
            network, record["seed"], n_outputs=record["n_outputs"], empty=True
        )
    if len(cut.blocks) != len(record["exits"]):
        raise ValueError(
            f"{described}: 'exits' names {len(record['exits'])}, the network has {len(cut.blocks)}."
        )
    picture = ImageFormat(**check_format(record["image_format"], picture, described))
    load_checkpoint(module, _part(tensors, "backbone."), source=str(source / WEIGHTS))
    generator = torch.Generator().manual_seed(record["seed"])
    classes = list(tree.classes)
    with bounded(tensors, described):
        heads_ = trainer.make(record["head_widths"], len(classes), generator)
    pools = restored_pools(cut.pools, record["pools"], trainer.pool, cut.exits)
    if record["final_head_kept"]:
        if cut.tail is None:
            raise ValueError(f"{described}: 'final_head_kept' is true, the backbone has no head.")
        pools[-1], heads_[-1] = cut.tail
    load_checkpoint(heads_, _part(tensors, "heads."), source=f"{source / WEIGHTS}, heads")
    blocks = cut.blocks.to(where)
    shared = _addresses(blocks)
    levels: dict[Level, nn.ModuleList] = {FLOAT: blocks}
    for level, description in record["quantized"].items():
        with _described(described), bounded(tensors, described):
            sample = picture.noise(2, where) if needs_images(description) else None
            quantized = restore(blocks, description, sample)
        own = _part(tensors, f"levels.{level}.")
        state = quantized.state_dict()
        lacking = [k for k, v in state.items() if k not in own and v.data_ptr() not in shared]
        if lacking or set(own) - set(state):
            raise ValueError(
                f"{source / WEIGHTS} does not fit its record at level {level}: {lacking[:3]} are "
                f"missing, {sorted(set(own) - set(state))[:3]} left over."
            )
        unlike = [k for k, v in own.items() if v.shape != state[k].shape]
        if unlike:
            raise ValueError(f"{source / WEIGHTS}: {unlike[:3]} are of another shape at {level}.")
        quantized.load_state_dict(own, strict=False)
        levels[int(level)] = quantized.to(where)
    arrays = {name.removesuffix("_"): np.array(v) for name, v in record["arrays"].items()}
    parts = Parts(
        backbone=module,
        blocks=blocks,
        pools=pools.to(where),
        heads=heads_.requires_grad_(False).eval().to(where),
        head_widths=tuple(record["head_widths"]),
        final_head_kept=record["final_head_kept"],
        format=picture,
        device=where,
        seed=record["seed"],
        exits=tuple(record["exits"]),
        classes=np.array(classes),
        levels=levels,
        paths=tree,
        tree_options=record["tree_options"],
        ranges={name: tuple(span) for name, span in record["ranges"].items()},
        group=record["group"],
        runtimes={engine: tuple(chosen) for engine, chosen in record["runtimes"].items()},
        latency=record["latency"],
        level_accuracy=dict(record["level_accuracy"]) or None,
        **arrays,
    )
    runtimes = dict(parts.runtimes)
    for level in record["levels"]:
        if level in ENGINES:
            levels[level], runtimes[level] = rebuilt(parts, level)
    levels = {level: levels[level] for level in record["levels"]}
    return network, replace(parts, levels=levels, runtimes=runtimes)


def _params_of(network: NetworkParameters) -> Json:
    """Return the parameters of a network as a file holds them, the trainer's beside its own."""
    trainer = trainer_of(network)
    found = {name: getattr(network, name) for name in PLAIN}
    found["pretrained"] = network.weights == PRETRAINED
    return found | {name: getattr(trainer, name) for name in TRAINER}


def _arguments_of(params: Json, *, heads: HeadKind, pool: PoolKind) -> Json:
    """Return the arguments of a network whose parameters were read from a file."""
    found: Json = {name: params[name] for name in PLAIN}
    found["weights"] = PRETRAINED if params["pretrained"] else None
    trainer = HeadTrainer(heads=heads, pool=pool, **{name: params[name] for name in TRAINER})
    return {**found, "trainer": trainer}


@contextmanager
def _described(file: Path) -> Iterator[None]:
    """Say which file described what could not be built."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError) as error:
        raise ValueError(f"{file} describes no network that can be built: {error!r:.300}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} describes no network that can be built: {error}") from None


def _sum(tensors: dict[str, Tensor]) -> str:
    """Return a checksum of names, shapes, types and values."""
    found = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        found = zlib.crc32(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return str(found)


def _check_sums(sums: dict[str, str], tensors: dict[str, Tensor], source: Path) -> None:
    """Find damage that leaves files readable. Development files of 0.1.0 hold no checksums."""
    if "skquee.tensors" in sums and sums["skquee.tensors"] != _sum(tensors):
        raise not_whole(source / WEIGHTS, "file of weights", "its checksum differs")
    record = str(zlib.crc32((source / RECORD).read_bytes()))
    if "skquee.record" in sums and sums["skquee.record"] != record:
        raise ValueError(
            f"{source / RECORD} is not the description that was saved with the weights beside it: "
            "it was changed, damaged, or belongs to another network."
        )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _addresses(module: nn.Module) -> set[int]:
    return {value.data_ptr() for value in module.state_dict().values()}
