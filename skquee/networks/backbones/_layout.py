"""Which axis of a state holds channels: learned from the network, and checked on data."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from skquee.networks.backbones._calls import Args, Calls, Function, Kwargs
from skquee.networks.backbones._sharing import copy_sharing_weights
from skquee.networks.backbones._types import Level

__all__ = ["channel_axes"]

# Sides added to an image, one after the other until the network takes one: both sides change,
# by what most strides and windows divide.
LARGER = ((64, 96), (128, 192), (32, 64))
N_IMAGES = 4
BUMP = 10.0
# What the distance between two shares of change along an axis says (0: none, 1: disjoint).
LOCAL, FLAT = 0.4, 0.25
# State k is coded as FIRST + STEP k: past the bends of activations, and on no other code after
# a shift or a doubling. Beyond MOST codes float32 rounds.
FIRST, STEP, MOST = 129, 4, 2**22


def channel_axes(
    blocks: Iterable[nn.Module], tail: nn.Module | None, image: Tensor, names: Sequence[Level]
) -> tuple[int, ...]:
    """Return the axis of each block's state that holds channels; all others are positions.

    Nothing goes by names of layers or networks. Three observations are made:

    1. an image of another height and width changes every axis but that of channels;
    2. the next piece is run on a state whose values tell their places: the axis that its
       convolutions and norms run over holds channels, those that its pooling averages do not;
       and where one channel of a block's last layer is changed, one channel of its state is;
    3. a change in one half of an image shows along positions in another place than a change in
       the other half, and along channels in the same.

    The first decides where the network takes images of another size, unless the second
    disagrees; else the second, unless the third disagrees; else the third alone. Linear layers
    may mix positions (MLP-Mixer): alone they count as an observation only where those on both
    sides of a state agree.

    `blocks`: each takes what the one before gives. `tail`: takes what the last one gives. `image`
    (1, C, H, W): an image as the first takes it. `names`: after what each block ends, for
    messages. Returns from 1; 1 also where a state is (n, C). Raises ValueError if the observations
    disagree, or tell nothing.
    """
    last = [] if tail is None else [tail]
    # A copy: some networks keep masks and tables for the size they saw last.
    pieces = copy_sharing_weights(nn.ModuleList([*blocks, *last])).eval()
    n_blocks = len(names)
    with torch.inference_mode(), _quiet():
        states = _run(pieces[:n_blocks], image[:1])
        shapes = [tuple(state.shape) for state in states]
        if all(len(_open_axes(shape)) == 1 for shape in shapes):
            return tuple(_open_axes(shape)[0] for shape in shapes)
        kept = _kept_at_another_size(pieces[:n_blocks], image[:1], shapes)
        followers = [*pieces[1:], *([] if last else [None])]
        shifts: list[list[float]] = []
        axes = []
        for number, shape in enumerate(shapes):
            seen = _Seen(_open_axes(shape), kept[number])
            seen.add(*_read(followers[number], states[number]))
            before = states[number - 1] if number else image[:1]
            seen.add(*_made(pieces[number], before, states[number]))
            if seen.needs_shifts:
                shifts = shifts or _shifts(pieces[:n_blocks], image)
                seen.shifts = shifts[number]
            axis = seen.axis()
            if axis is None:
                raise ValueError(_unclear(names[number], shape, seen))
            axes.append(axis)
    return tuple(axes)


class _Seen:
    """What was observed of one state: the axes that each observation takes for channels."""

    def __init__(self, open_axes: list[int], kept: int | None) -> None:
        self.open, self.kept = open_axes, kept
        self.told: set[int] = set()  # by convolutions, norms and pools
        self.linear: list[set[int]] = []  # by linear layers, before and after
        self.shifts: list[float] | None = None

    def add(self, strong: set[int], weak: set[int]) -> None:
        self.told |= strong
        self.linear.append(weak)

    @property
    def needs_shifts(self) -> bool:
        return len(self.open) > 1 and self.kept is None

    def axis(self) -> int | None:
        """Return the axis of channels, or None where it is not clear."""
        if len(self.open) == 1:
            return self.open[0]
        if self.kept is not None:
            return self.kept if self.told <= {self.kept} else None
        shifts = self.shifts or []
        local = {axis for axis in self.open if shifts[axis] > LOCAL}
        flat = [axis for axis in self.open if shifts[axis] < FLAT]
        told = self.told or set.intersection(*self.linear) - local
        if told:
            return None if len(told) > 1 or told & local else min(told)
        return flat[0] if len(flat) == 1 and len(local) == len(self.open) - 1 else None


def _open_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the axes longer than one; the first where there is none."""
    return [axis for axis in range(1, len(shape)) if shape[axis] > 1] or [1]


def _unclear(name: Level, shape: tuple[int, ...], seen: _Seen) -> str:
    told = []
    if seen.kept is not None:
        told.append(f"images of another size leave axis {seen.kept} as it is")
    if seen.told:
        told.append(f"layers before and after take {sorted(seen.told)} for channels")
    if seen.shifts is not None:
        shown = ", ".join(f"{axis}: {seen.shifts[axis]:.2f}" for axis in seen.open)
        told.append(f"where a part of the image changes moves it along {shown}")
    axes = ("n", *map(str, shape[1:]))
    return (
        f"It is not clear which axis of the state after {name!r}, ({', '.join(axes)}), holds "
        f"channels ({'; '.join(told) or 'nothing tells'}). Say what heads read: "
        "trainer=HeadTrainer(pool='channels_first'), 'channels_last', a function of the state to "
        "features (n, n_features), or a list of these, one a block."
    )


def _run(blocks: Iterable[nn.Module], state: Tensor) -> list[Tensor]:
    states = []
    for block in blocks:
        state = block(state)
        states.append(state)
    return states


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep traced modules from printing their code where one does not run."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


# ---------------------------------------------------------------------- another size


def _kept_at_another_size(
    blocks: Iterable[nn.Module], image: Tensor, shapes: Sequence[tuple[int, ...]]
) -> list[int | None]:
    """Return the only axis of each state that an image of another size leaves as long."""
    height, width = image.shape[2:]
    for down, right in LARGER:
        other = torch.zeros(1, image.shape[1], height + down, width + right, device=image.device)
        try:
            states = _run(blocks, other)
        except Exception:  # whatever a network makes of a size that it does not take
            continue
        return [_only_kept(shape, tuple(s.shape)) for shape, s in zip(shapes, states, strict=True)]
    return [None] * len(shapes)


def _only_kept(shape: tuple[int, ...], other: tuple[int, ...]) -> int | None:
    if len(shape) != len(other):
        return None
    kept = [axis for axis in range(1, len(shape)) if shape[axis] == other[axis]]
    return kept[0] if len(kept) == 1 and len(shape) > 2 else None


# ---------------------------------------------------------------------- layers around a state

# Axis of the channels of what goes in and of what comes out.
SECOND = ("conv1d", "conv2d", "conv3d", "batch_norm", "group_norm", "instance_norm")
LAST = ("layer_norm", "rms_norm")
POOLS = {"adaptive_avg_pool1d": 1, "adaptive_avg_pool2d": 2, "adaptive_avg_pool3d": 3}


def _channels_of(name: str, args: Args, kwargs: Kwargs) -> int | None:
    """Return the axis of channels of the tensor that a function of torch takes first."""
    given = args[0] if args else kwargs.get("input")
    if not isinstance(given, Tensor) or given.ndim < 2:
        return None
    if name in LAST:
        shape = args[1] if len(args) > 1 else kwargs.get("normalized_shape", ())
        return given.ndim - 1 if len(shape) == 1 else None
    return 1 if name in SECOND else given.ndim - 1 if name == "linear" else None


class _Reading(Calls):
    """Notes which axes of a coded state convolutions, norms, layers and pools run over."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.strong: set[int] = set()
        self.weak: set[int] = set()

    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        name = getattr(func, "__name__", "")
        axis = _channels_of(name, args, kwargs)
        if axis is not None:
            found = self.weak if name == "linear" else self.strong
            found |= self._whole(args[0] if args else kwargs["input"], axis)
        elif name in POOLS and args and args[0].ndim > POOLS[name]:
            pooled = [self._whole(args[0], args[0].ndim - 1 - k) for k in range(POOLS[name])]
            rest = set(_open_axes(self.shape)) - set().union(*pooled)
            self.strong |= rest if all(pooled) and len(rest) == 1 else set()
        return func(*args, **kwargs)

    def _whole(self, given: Tensor, axis: int) -> set[int]:
        """Return the axis of the state that runs whole along an axis of what was made of it."""
        lines = given.detach().movedim(axis, -1).reshape(-1, given.shape[axis]).double()
        codes = (lines - FIRST) / STEP
        known = (codes == codes.round()) & (codes >= 0) & (codes < math.prod(self.shape))
        whole = known.all(dim=1).nonzero()  # padding and class tokens are no codes
        if not len(whole):
            return set()
        places, found = codes[whole[0, 0]].long(), set()
        for number in range(len(self.shape) - 1, 0, -1):
            size = self.shape[number]
            if size > 1 and len((places % size).unique()) == size:
                found.add(number)
            places = places // size
        return found if len(found) == 1 else set()


def _read(piece: nn.Module | None, state: Tensor) -> tuple[set[int], set[int]]:
    """Return axes that the next piece takes for channels: for sure, and by its linear layers."""
    if piece is None or state.ndim < 3 or state.numel() > MOST:
        return set(), set()
    places = torch.arange(state.numel(), dtype=torch.float32, device=state.device)
    reading = _Reading(tuple(state.shape))
    with reading, contextlib.suppress(Exception):  # what does not run has been read up to there
        piece((FIRST + STEP * places).view(state.shape))
    return reading.strong, reading.weak


class _Bumping(Calls):
    """Counts layers, and changes one channel of what one of them gives."""

    def __init__(self, at: int = -1) -> None:
        super().__init__()
        self.at, self.count, self.name = at, 0, ""

    def called(self, func: Function, args: Args, kwargs: Kwargs) -> object:
        name = getattr(func, "__name__", "")
        axis = _channels_of(name, args, kwargs)
        made = func(*args, **kwargs)
        if axis is None:
            return made
        self.count += 1
        if self.count == self.at:
            self.name, made = name, made.clone()
            made.select(axis, made.shape[axis] // 2).add_(BUMP * (1 + made.abs().max()))
        return made


def _made(block: nn.Module, state: Tensor, after: Tensor) -> tuple[set[int], set[int]]:
    """Return axes along which one channel of the last layer is one place: for sure, or linear."""
    if after.ndim < 3:
        return set(), set()
    counted = _Bumping()
    with counted:
        block(state)
    bumped = _Bumping(counted.count)
    with bumped:
        change = (block(state) - after).abs()
    changed = change > 1e-4 * change.max()
    found = set()
    for axis in _open_axes(tuple(after.shape)):
        others = [other for other in range(after.ndim) if other != axis]
        if int(changed.sum(dim=others).count_nonzero()) == 1:
            found.add(axis)
    found = found if len(found) == 1 else set()
    return (set(), found) if bumped.name == "linear" else (found, set())


# ---------------------------------------------------------------------- where changes show


def _shifts(blocks: Iterable[nn.Module], image: Tensor) -> list[list[float]]:
    """Return how far a change moves along each axis of each state as it moves in the image.

    Noise replaces one half of random images, then the other. Of each axis, the shares of the
    squared change at its places are compared between halves: 0 where they are as alike as those
    of two sets of images, 1 where they are disjoint.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (N_IMAGES, *image.shape[1:])
    images, noise = (torch.randn(shape, generator=generator).to(image.device) for _ in range(2))
    first = _run(blocks, images)
    found = [[0.0] * state.ndim for state in first]
    rows = torch.arange(image.shape[2], device=image.device).view(1, 1, -1, 1)
    columns = torch.arange(image.shape[3], device=image.device).view(1, 1, 1, -1)
    for places, side in ((rows, image.shape[2]), (columns, image.shape[3])):
        upper = places < side // 2
        halves = [_run(blocks, torch.where(half, noise, images)) for half in (upper, ~upper)]
        for state, one, other, axes in zip(first, *halves, found, strict=True):
            changes = [(half - state).double().square() for half in (one, other)]
            for axis in range(1, state.ndim):
                axes[axis] = max(axes[axis], _moved(changes, axis))
    return found


def _moved(changes: Sequence[Tensor], axis: int) -> float:
    """Return the distance of shares along an axis, less that between two sets of images."""
    shares = [_shares(change, axis) for change in changes]
    apart = _distance(shares[0].mean(dim=0), shares[1].mean(dim=0))
    chance = [_distance(share[::2].mean(dim=0), share[1::2].mean(dim=0)) / 2 for share in shares]
    return max(0.0, apart - max(chance))


def _shares(change: Tensor, axis: int) -> Tensor:
    """Return (n_images, n_places), each row of sum 1."""
    others = [other for other in range(1, change.ndim) if other != axis]
    summed = change.sum(dim=others) if others else change
    return summed / summed.sum(dim=1, keepdim=True).clamp_min(torch.finfo(summed.dtype).tiny)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().sum() / 2)
