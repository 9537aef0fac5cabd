"""Reading checkpoints without running code from them, and loading them strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

__all__ = ["load_checkpoint", "read_checkpoint", "unwrap"]

CONTAINERS = ("state_dict_ema", "state_dict", "model_ema", "model", "net")
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile
PICKLES = (".bin", ".pt", ".pth", ".tar", ".th")
N_SHOWN = 5


def unwrap(state: Mapping[str, object]) -> dict[str, Tensor]:
    """Take the weights out of what training scripts save.

    `state`: a state dict, or a container that holds one under ``state_dict_ema``, ``state_dict``,
    ``model_ema``, ``model`` or ``net``, the first that is there. A prefix that all keys share
    because the module was wrapped in training (``module.``, ``_orig_mod.``) goes. Returns tensors
    alone, by name. Raises ValueError if no tensor is found.

    >>> import torch
    >>> from skquee.networks.backbones._checkpoint import unwrap
    >>> list(unwrap({"epoch": 3, "state_dict": {"module.head.bias": torch.zeros(2)}}))
    ['head.bias']
    """
    for key in CONTAINERS:
        if isinstance(inner := state.get(key), Mapping):
            return unwrap(inner)
    weights = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        held = _some([f"{key} ({type(value).__name__})" for key, value in state.items()])
        raise ValueError(
            f"The checkpoint holds no tensors, neither itself nor under {', '.join(CONTAINERS)}. "
            f"It holds: {held or 'nothing'}. Save the state dict of the module alone."
        )
    while wrapper := next((w for w in WRAPPERS if all(k.startswith(w) for k in weights)), None):
        weights = {key.removeprefix(wrapper): value for key, value in weights.items()}
    return weights


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read weights from a file; no code in it is run.

    `path`: a ``.safetensors`` file, or one of ``torch.save`` that ends in ``.pth``, ``.pt``,
    ``.th``, ``.bin`` or ``.tar``. Returns weights by name, on the CPU, out of containers and
    wrappers (see :func:`unwrap`). Raises FileNotFoundError if there is no such file. Raises
    ValueError if the suffix is another, or the file is damaged, holds no tensors or can only be
    read by running code from it.

    >>> import tempfile
    >>> import torch
    >>> from skquee.networks.backbones._checkpoint import read_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"net": torch.nn.Linear(2, 1).state_dict()}, f"{folder}/a.pth.tar")
    ...     list(read_checkpoint(f"{folder}/a.pth.tar"))
    ['weight', 'bias']
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".safetensors" and suffix not in PICKLES:
        raise ValueError(
            f"A checkpoint must end in .safetensors or one of {', '.join(PICKLES)}, got "
            f"{str(path)!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {str(path)!r}.")
    try:
        if suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is no safetensors file, or damaged: {error}.") from error
    except (MemoryError, OSError):
        raise
    except Exception as error:  # torch raises many types, UnpicklingError for code
        raise ValueError(
            f"{str(path)!r} is refused: it is damaged, or holds more than tensors and plain "
            "values, and reading that would run code from the file. If you trust its origin, "
            "convert it once: safetensors.torch.save_file(torch.load(path, weights_only=False)"
            "['state_dict'], 'weights.safetensors'), without ['state_dict'] where the file is one."
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{str(path)!r} must hold a state dict, or a dict around one, got a "
            f"{type(state).__name__}. Save module.state_dict()."
        )
    return unwrap(state)


def load_checkpoint(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str = "The checkpoint"
) -> None:
    """Load weights into a module: all of them, or none where anything is wrong.

    Floating-point weights are cast to the module's own types, so that a checkpoint in half
    precision gives a module in float32. Counters of batch normalisation
    (``num_batches_tracked``), which old checkpoints lack, may be missing.

    `module`: changed in place. `state`: weights by name, of :func:`read_checkpoint`. `source`:
    what errors call `state`, such as the name of its file. Raises ValueError if a weight is
    missing, left over, of another shape or kind than the module's, or NaN.

    >>> import torch
    >>> from skquee.networks.backbones._checkpoint import load_checkpoint
    >>> layer = torch.nn.Linear(2, 1)
    >>> load_checkpoint(layer, {"weight": torch.ones(1, 2).half(), "bias": torch.zeros(1)})
    >>> layer.weight.tolist(), layer.weight.dtype
    ([[1.0, 1.0]], torch.float32)
    >>> load_checkpoint(layer, {"weight": torch.ones(1, 3)}, source="old.pth")
    Traceback (most recent call last):
    ...
    ValueError: old.pth does not fit Linear.
    missing (1): bias
    of another shape or type (1): weight ((1, 3) float32, expected (1, 2) float32)
    Only 0 of 2 weights fit: it is likely of another architecture.
    """
    expected = module.state_dict()
    missing = [
        key
        for key in expected
        if key not in state and key.rpartition(".")[2] != "num_batches_tracked"
    ]
    left_over = [key for key in state if key not in expected]
    shared = [key for key in expected if key in state]
    unlike = [key for key in shared if not _alike(state[key], expected[key])]
    problems = {
        "missing": missing,
        "left over": left_over,
        "of another shape or type": [
            f"{key} ({_kind(state[key])}, expected {_kind(expected[key])})" for key in unlike
        ],
    }
    if any(problems.values()):
        lines = [f"{source} does not fit {type(module).__name__}."]
        lines += [f"{what} ({len(keys)}): {_some(keys)}" for what, keys in problems.items() if keys]
        fitting = len(shared) - len(unlike)
        if 2 * fitting < len(expected):
            lines.append(
                f"Only {fitting} of {len(expected)} weights fit: it is likely of another "
                "architecture."
            )
        raise ValueError("\n".join(lines))
    broken = [key for key in shared if torch.isnan(state[key]).any()]
    if broken:
        raise ValueError(
            f"{source} holds NaN in {len(broken)} of {len(shared)} weights: {_some(broken)}. "
            "Take a checkpoint from before training diverged."
        )
    module.load_state_dict({**expected, **state})


def _alike(received: Tensor, expected: Tensor) -> bool:
    both_floating = received.is_floating_point() and expected.is_floating_point()
    return received.shape == expected.shape and (both_floating or received.dtype == expected.dtype)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:N_SHOWN]) + (", ..." if len(items) > N_SHOWN else "")
