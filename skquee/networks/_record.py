"""The JSON of a saved network: every field checked against the others and against the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import timm
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from skquee.networks._images import ImageFormat
from skquee.networks._parameters import MOST_PIXELS
from skquee.networks._parts import FLOAT
from skquee.networks.backbones._calls import Args, Calls, Function, Kwargs
from skquee.networks.backbones._pools import check_pool
from skquee.networks.engines import ENGINES, LatencyTable
from skquee.values import PathTree
from skquee.values._reading import field, read_json
from skquee.values._types import Json, TreeOptions

__all__ = ["FORMAT", "PARAMETERS", "bounded", "check_format", "read_record"]

FORMAT = 1
ARRAYS = ("flops_", "head_flops_", "validation_accuracy_", "path_accuracy_")
MOST_PATHS = 10**6
AXES = (1, 2, 3, 4, 5)  # of a state's channels
MOST_OPTION = 2**16  # a width, a depth, a number of classes
# Elements and tensors that building a network may make beside its weights: masks, positions,
# first drafts.
FREE, FREE_TENSORS = 2**24, 2000
RUNTIMES = ("torch", "openvino", "graphs")
# Grids of quantised operations: their options and their buffers.
GRIDS = {
    "UniformGrid": (("signed",), ("scale",)),
    "SoftmaxGrid": ((), ("scale", "ratio")),
    "GELUGrid": ((), ("scale", "ratio")),
}

# Options of timm's models that say how large a network is and how its parts are joined. Others,
# such as those that name files and addresses of weights, are never passed on from a file.
OPTIONS = frozenset(
    "attn_drop_rate attn_layer attn_ratio base_width bottle_ratio cardinality channels class_token "
    "conv_bias conv_mlp conv_ratio depth depth_mult depths distilled drop_block_rate "
    "drop_path_rate drop_rate dynamic_img_pad dynamic_img_size embed_dim embed_dims embed_norm "
    "expand_ratio fc_norm final_norm growth_rate global_pool head_bias head_dim head_hidden_size "
    "head_norm_first hidden_sizes in_chans init_values kernel_size kernel_sizes layers "
    "ls_init_value mlp_bias mlp_ratio mlp_ratios no_embed_class norm_eps num_classes num_features "
    "num_heads num_kv_heads num_reg_tokens out_features output_stride patch_drop_rate patch_norm "
    "patch_padding patch_size pos_drop_rate pos_embed pre_norm proj_bias proj_drop_rate qk_norm "
    "qkv_bias reg_tokens replace_stem_pool rope_theta se_ratio sr_ratios stem_chs stem_kernel_size "
    "stem_stride stem_type stem_width strict_img_size token_dim use_abs_pos use_rel_pos_bias "
    "weight_init widths width_factor width_mult window_ratio window_size window_sizes "
    "zero_init_last act_layer norm_layer mlp_layer".split()
)
PARAMETERS: dict[str, tuple[type, ...]] = {
    "exits": (list, type(None)),
    "blocks": (list, type(None)),
    "final_head": (str,),
    "n_classes": (int, type(None)),
    "img_size": (int, list, type(None)),
    "in_chans": (int,),
    "pretrained": (bool,),
    "backbone_kwargs": (dict, type(None)),
    "data_config": (dict, type(None)),
    "max_epochs": (int,),
    "patience": (int,),
    "learning_rate": (int, float),
    "weight_decay": (int, float),
    "batch_size": (int,),
    "amp_dtype": (str, type(None)),
}


def read_record(file: Path, *, named: bool = True) -> Json:
    """Read the description of a network and check what does not need its weights.

    `file`: of :meth:`skquee.networks.MultiExitNetwork.save`. `named`: whether its backbone is to
    be made by name; the user may give the module instead. Returns every field there, of its type,
    in agreement with the others; ``tree`` is a PathTree and ``latency`` a LatencyTable or None.
    Raises ValueError: naming the file and the field.
    """
    record = read_json(file, "description of a network")
    if field(record, "format", int, file) != FORMAT:
        raise ValueError(
            f"{file} is of format {record['format']}, this release reads format {FORMAT}: a later "
            "release of skquee wrote it, or it is damaged."
        )
    for name, kinds, default in (
        ("n_outputs", (int, type(None)), ...),
        ("final_head_kept", (bool,), ...),
        ("seed", (int,), ...),
        ("tree_options", (dict,), ...),
        ("arrays", (dict,), ...),
        ("level_accuracy", (list,), ...),
        ("quantized", (dict,), ...),
        ("image_format", (dict,), ...),
        ("ranges", (dict,), {}),
        ("group", (int, type(None)), None),
        ("runtimes", (dict,), {}),
        ("latency", (dict, type(None)), None),
        ("pool", (str, list, type(None)), "auto"),
        ("pools", (list,), []),
    ):
        extra: tuple[object, ...] = () if default is ... else (default,)
        record[name] = field(record, name, kinds, file, *extra)
    _check(record["seed"] >= 0, file, "seed", "from 0 up", record["seed"])
    _check((record["n_outputs"] or 0) >= 0, file, "n_outputs", "from 0 up", record["n_outputs"])
    _check(record["group"] is None or record["group"] >= 1, file, "group", "positive", record)
    name = field(record, "backbone", (str, type(None)), file)
    if named:
        _check_backbone(name, file)
    field(record, "heads", (str, type(None)), file)
    if record["heads"] not in (None, "linear"):
        raise ValueError(f"{file}: 'heads' must be 'linear' or null, got {record['heads']!r:.60}.")
    record["params"] = _check_params(field(record, "params", dict, file), named, file)
    _check_structure(record, file)
    _check_measured(record, file)
    return record


def check_format(image_format: Json, built: ImageFormat, file: Path) -> Json:
    """Return the arguments of a saved image format that fits that of the network built."""
    where = f"{file}, 'image_format'"
    known = {"channels", "size", "mean", "std", "interpolation", "crop_pct"}
    if set(image_format) != known:
        raise ValueError(f"{where} must hold {sorted(known)}, got {sorted(image_format)[:8]}.")
    size = field(image_format, "size", (list, type(None)), where)
    size = None if size is None else tuple(size)
    if built.size is None and size is not None:  # settled in fit, by the images
        good = len(size) == 2 and all(type(n) is int and 1 <= n <= MOST_PIXELS for n in size)
        _check(good, where, "size", f"two numbers of pixels, 1 to {MOST_PIXELS}", size)
    if image_format["channels"] != built.channels or size != built.size and built.size is not None:
        raise ValueError(
            f"{where} says {image_format['channels']!r:.20} channels and size {size!r:.40}, the "
            f"network takes {built.channels} and {built.size}."
        )
    for name in ("mean", "std"):
        numbers = field(image_format, name, list, where)
        good = len(numbers) == built.channels and all(map(_is_number, numbers))
        if not good or (name == "std" and min(numbers) <= 0):
            raise ValueError(
                f"{where}: {name!r} must hold {built.channels} finite numbers"
                f"{' above 0' if name == 'std' else ''}, got {numbers!r:.60}."
            )
    names = [mode.value for mode in InterpolationMode]
    share = image_format["crop_pct"]
    if image_format["interpolation"] not in names or not (_is_number(share) and 0 < share <= 1):
        raise ValueError(f"{where}: 'interpolation' or 'crop_pct' is none that resizing knows.")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in image_format.items()}


@contextmanager
def bounded(tensors: Mapping[str, Tensor], file: Path) -> Iterator[None]:
    """Let torch make no larger tensors inside than the weights of a file need."""
    total = sum(tensor.numel() for tensor in tensors.values())
    try:
        with _Bounded(4 * total + FREE, 8 * len(tensors) + FREE_TENSORS):
            yield
    except _TooLargeError:
        raise ValueError(
            f"{file} describes a network many times larger than the weights beside it."
        ) from None


class _TooLargeError(Exception):
    """More was asked for than a file's weights need."""


class _Bounded(Calls):
    """Counts what torch's factories are asked for, before they make it."""

    def __init__(self, elements: int, tensors: int) -> None:
        super().__init__()
        self.elements, self.tensors = elements, tensors

    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        if func in _FACTORIES:
            size = kwargs.get("size", args)
            if len(size) == 1 and not isinstance(size[0], int):
                size = size[0]
            self._take(math.prod(n for n in size if isinstance(n, int)))
        elif func is torch.full:
            size = kwargs.get("size", args[0] if args else ())
            self._take(math.prod((size,) if isinstance(size, int) else size))
        elif func in (torch.arange, torch.linspace):
            numbers = [*args, *kwargs.values()]
            self._take(int(max((abs(n) for n in numbers if _is_number(n)), default=0)))
        return func(*args, **kwargs)

    def _take(self, elements: int) -> None:
        self.elements, self.tensors = self.elements - elements, self.tensors - 1
        if self.elements < 0 or self.tensors < 0:
            raise _TooLargeError


_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)


# ---------------------------------------------------------------------- fields


def _check_backbone(name: str | None, file: Path) -> None:
    """Take a name that timm knows, and no address, hub or folder."""
    if name is not None and not timm.is_model(name):
        raise ValueError(
            f"{file}: 'backbone' must be the name of a model that the installed timm has, got "
            f"{name!r:.60}. Build the module yourself and give it: backbone=."
        )


def _check_params(params: Json, named: bool, file: Path) -> Json:
    where = f"{file}, 'params'"
    unknown = sorted(set(params) - set(PARAMETERS))
    if unknown:
        raise ValueError(f"{where} holds {unknown[:5]}, which no parameter is named.")
    for name, kinds in PARAMETERS.items():
        value = field(params, name, kinds, where)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            fits = math.isfinite(value) and 0 <= value <= 2**31
            _check(fits, where, name, "a number from 0 up", value)
    for name in ("exits", "blocks"):
        for value in params[name] or []:
            _check(isinstance(value, (int, str)), where, name, "layers or names", value)
    size = params["img_size"]
    sides = [size] * 2 if isinstance(size, int) else size or []
    whole = all(isinstance(side, int) and 1 <= side <= MOST_PIXELS for side in sides)
    _check(len(sides) in (0, 2) and whole, where, "img_size", f"1 to {MOST_PIXELS}", size)
    _check(1 <= params["in_chans"] <= 4096, where, "in_chans", "1 to 4096", params["in_chans"])
    for name, value in (params["backbone_kwargs"] or {}).items() if named else ():
        if name not in OPTIONS:
            raise ValueError(
                f"{where}: 'backbone_kwargs' holds {name!r:.40}, which no file passes on to timm. "
                "Build the module yourself and give it: backbone=timm.create_model(...)."
            )
        _check(_is_plain(value), where, f"backbone_kwargs[{name!r}]", "a plain value", value)
    return {**params, "img_size": tuple(size) if isinstance(size, list) else size}


def _check_structure(record: Json, file: Path) -> None:
    """Check exits, heads, levels and paths against each other."""
    exits, widths = field(record, "exits", list, file), field(record, "head_widths", list, file)
    _check(
        len(exits) == len(widths) > 0 and all(isinstance(e, (int, str)) for e in exits),
        file, "exits", "a layer or name for each of 'head_widths'", exits,
    )  # fmt: skip
    _check(
        all(type(width) is int and 1 <= width <= 2**24 for width in widths),
        file, "head_widths", "positive whole numbers", widths,
    )  # fmt: skip
    try:
        if record["pool"] is not None:
            check_pool(record["pool"])
    except ValueError as error:
        raise ValueError(f"{file}, 'pool': {error}") from None
    pools = record["pools"]
    _check(
        not pools or (len(pools) == len(exits) and all(p is None or p in AXES for p in pools)),
        file, "pools", f"an axis of {AXES} or null for each of 'exits'", pools,
    )  # fmt: skip
    levels = field(record, "levels", list, file)
    good = [level in ENGINES or (type(level) is int and 2 <= level <= FLOAT) for level in levels]
    _check(
        bool(levels) and all(good) and len(set(levels)) == len(levels),
        file, "levels", f"distinct: bit widths from 2 to {FLOAT} or some of {ENGINES}", levels,
    )  # fmt: skip
    described = {str(level) for level in levels if type(level) is int and level != FLOAT}
    _check(
        set(record["quantized"]) == described,
        file, "quantized", f"an entry for each of {sorted(described)}", sorted(record["quantized"]),
    )  # fmt: skip
    for level, operations in record["quantized"].items():
        _check_operations(operations, f"{file}, 'quantized', level {level}")
    try:
        tree = PathTree.from_dict(field(record, "tree", dict, file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}, 'tree': {error}") from None
    _check(
        tree.classes is not None and len(tree.classes) > 1,
        file, "tree", "a tree with 2 classes or more", tree.classes,
    )  # fmt: skip
    strange = sorted({str(level) for level in tree.levels if level not in levels})
    _check(not strange, file, "tree", f"a tree over the levels {levels}", strange)
    _check(
        tree.n_exits <= len(exits) and tree.n_paths <= MOST_PATHS,
        file, "tree", f"a tree of at most {len(exits)} steps", tree.n_exits,
    )  # fmt: skip
    record["tree"] = tree
    options = record["tree_options"]
    for name, kinds in (
        ("monotone", bool),
        ("first", str),
        ("max_paths", (int, type(None))),
        ("random_state", (int, type(None))),
    ):
        field(options, name, kinds, f"{file}, 'tree_options'", None)
    unknown = sorted(set(options) - set(TreeOptions.__annotations__))
    _check(not unknown, file, "tree_options", "options of PathTree.from_levels", unknown)


def _check_operations(operations: list[Json], where: str) -> None:
    """Check operations on grids, as ``describe`` says them."""
    _check(isinstance(operations, list), where, "it", "a list of operations", operations)
    for operation in operations:
        _check(isinstance(operation, dict), where, "operation", "an object", operation)
        name = field(operation, "name", str, where)
        field(operation, "kind", str, where)
        pair = field(operation, "grids", list, where)
        _check(len(pair) == 2, where, name, "an operation on two grids", pair)
        for grid in pair:
            good = _is_grid(grid)
            _check(good, where, name, "an operation on grids that this release knows", grid)


def _is_grid(grid: object) -> bool:
    """Whether a grid is described as those of this release are."""
    if not isinstance(grid, dict):
        return False
    kind, shapes, bits = (grid.get(name) for name in ("kind", "shapes", "bits"))
    if not isinstance(kind, str) or kind not in GRIDS or not isinstance(shapes, dict):
        return False
    fields, buffers = GRIDS[kind]
    if set(grid) != {"kind", "shapes", "bits", *fields} or set(shapes) != set(buffers):
        return False
    whole = all(
        isinstance(shape, list) and all(type(n) is int and 0 <= n <= 2**24 for n in shape)
        for shape in shapes.values()
    )
    return (
        whole
        and all(math.prod(shape) <= FREE for shape in shapes.values())
        and type(bits) is int
        and 1 <= bits <= FLOAT
        and isinstance(grid.get("signed", True), bool)
    )


def _check_measured(record: Json, file: Path) -> None:
    """Check what was counted and measured."""
    n_exits, n_paths, levels = len(record["exits"]), record["tree"].n_paths, record["levels"]
    for name, values in record["arrays"].items():
        _check(name in ARRAYS, file, "arrays", f"some of {ARRAYS}", name)
        wanted = n_paths if name == "path_accuracy_" else n_exits
        good = isinstance(values, list) and len(values) == wanted and all(map(_is_number, values))
        _check(good and min(values) >= 0, file, name, f"{wanted} numbers, not negative", values)
    for pair in record["level_accuracy"]:
        good = isinstance(pair, list) and len(pair) == 2 and _is_number(pair[1])
        good = good and isinstance(pair[0], (int, str)) and 0 <= pair[1] <= 1
        _check(good, file, "level_accuracy", "pairs of a level and a share", pair)
    for name, span in record["ranges"].items():
        good = isinstance(span, list) and len(span) == 2 and all(map(_is_number, span))
        _check(good and span[0] <= span[1], file, f"ranges[{name!r:.40}]", "two numbers", span)
    for engine, chosen in record["runtimes"].items():
        _check(engine in ENGINES, file, "runtimes", f"keyed by some of {ENGINES}", engine)
        good = isinstance(chosen, list) and len(chosen) == n_exits
        good = good and all(name in RUNTIMES for name in chosen)
        _check(good, file, "runtimes", f"one of {RUNTIMES} for each of {n_exits} blocks", chosen)
    if record["latency"] is not None:
        try:
            table = LatencyTable.from_dict(record["latency"])
        except ValueError as error:
            raise ValueError(f"{file}, 'latency': {error}") from None
        _check(
            len(table.blocks) == n_exits and set(table.levels) == {str(level) for level in levels},
            file, "latency", f"times of {n_exits} blocks at {levels}", table.levels,
        )  # fmt: skip
        record["latency"] = table


def _check(good: bool, where: object, name: str, wanted: str, got: object) -> None:
    if not good:
        shown = repr(got)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise ValueError(f"{where}: {name!r} must be {wanted}, got {shown}.")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_plain(value: object) -> bool:
    """Whether a value is one number, truth value or word, or a list of them."""
    if isinstance(value, list):
        return len(value) <= 1000 and all(map(_is_plain, value))
    if isinstance(value, str):
        return len(value) <= 40 and value.replace("_", "").isalnum()
    return (
        value is None
        or isinstance(value, bool)
        or (_is_number(value) and abs(value) <= MOST_OPTION)
    )
