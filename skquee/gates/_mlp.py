"""The paper's gate network: trained by torch, kept and run as numpy arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

__all__ = ["GateData", "GateNetwork", "train_gate"]

# Rows whose hidden layers are held at once: keeps them inside a core's cache.
_ROWS = 1024
# Steps an epoch has at least, as long as batches stay above 16 pairs.
_STEPS = 20


@dataclass(frozen=True)
class GateData:
    """Training material of one gate: m pairs of a sample and a prefix.

    Attributes
    ----------
    features : ndarray of shape (m, n_features)
        Sample part.
    lines : ndarray of shape (m,)
        Which line of `codes` belongs to each pair.
    codes : ndarray of shape (n_prefixes, n_candidates, n_exits + 1)
        Codes of the paths judged for each prefix.
    targets : ndarray of shape (m, n_candidates)
        Error targets, NaN where there is no candidate.
    weights : ndarray of shape (m,) or None
        Sample weights.
    """

    features: NDArray[np.float32]
    lines: NDArray[np.intp]
    codes: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None


class GateNetwork:
    """Two layers and an output over sample and path (equation 15).

    The first layer is split: the sample's part is computed once and added to the part of
    every candidate path.

    Parameters
    ----------
    weights : dict of str to ndarray
        ``sample`` (n_features, embedding_size), ``path`` (n_exits + 1, embedding_size),
        ``bias``, ``hidden`` (embedding_size, hidden_size), ``hidden_bias``,
        ``output`` (hidden_size,), ``output_bias`` (1,); float32.
    sigmoid : bool
        Squash the output into (0, 1).
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]], sigmoid: bool = True) -> None:
        self.weights = weights
        self.sigmoid = sigmoid

    def sample_part(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first layer's sample part, shape (m, embedding_size)."""
        part: NDArray[np.float32] = features @ self.weights["sample"]
        part += self.weights["bias"]
        return part

    def predict(
        self, sample_part: NDArray[np.float32], codes: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return the output for every sample and candidate.

        Parameters
        ----------
        sample_part : ndarray of shape (m, embedding_size)
            From :meth:`sample_part`.
        codes : ndarray of shape (n_candidates, n_exits + 1)
            Path codes.

        Returns
        -------
        ndarray of shape (m, n_candidates), float32
        """
        w = self.weights
        path_part = codes.astype(np.float32) @ w["path"]
        out = np.empty((len(sample_part), len(codes)), dtype=np.float32)
        for start in range(0, len(out), _ROWS):
            rows = slice(start, start + _ROWS)
            layer = sample_part[rows, None, :] + path_part
            np.maximum(layer, 0, out=layer)
            layer = layer.reshape(-1, layer.shape[-1]) @ w["hidden"]
            layer += w["hidden_bias"]
            np.maximum(layer, 0, out=layer)
            out[rows] = (layer @ w["output"]).reshape(-1, len(codes))
        out += w["output_bias"]
        if self.sigmoid:
            np.negative(out, out=out)
            np.minimum(out, 80, out=out)  # exp of more overflows float32
            np.exp(out, out=out)
            out += 1
            np.reciprocal(out, out=out)
        return out


def train_gate(
    data: GateData,
    validation: GateData,
    *,
    embedding_size: int,
    hidden_size: int,
    learning_rate: float,
    weight_decay: float,
    schedule: str,
    batch_size: int,
    max_epochs: int,
    patience: int,
    tol: float,
    sigmoid: bool,
    seed: int,
    name: str,
) -> tuple[GateNetwork, dict[str, Any]]:
    """Fit a gate network with Adam on the mean squared error (equation 16).

    The weights of the epoch with the least validation loss are kept. ``schedule="plateau"``
    halves the step whenever ``patience // 3`` epochs brought nothing and stops after
    `patience`; ``"constant"`` keeps the step and stops alike (the paper's).

    Parameters
    ----------
    data, validation : GateData
        Training and early-stopping pairs, of different samples.
    embedding_size, hidden_size : int
        Layer widths.
    learning_rate, weight_decay : float
        Adam's.
    schedule : {"plateau", "constant"}
        See above.
    batch_size : int
        Pairs a step.
    max_epochs, patience : int
        Epochs at most, and epochs without progress before stopping.
    tol : float
        Relative fall of the validation loss that counts as progress.
    sigmoid : bool
        Squash the output.
    seed : int
        Of weights and batches.
    name : str
        For the warning.

    Returns
    -------
    GateNetwork
    dict
        ``n_epochs``, ``converged``, ``train_loss``, ``validation_loss`` (lists).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    features, lines, targets, weights = _tensors(data)
    held = _tensors(validation)
    codes = torch.from_numpy(data.codes)
    # Training sees standardised input: the scaling acts on the weights, which are far smaller,
    # and is folded into them at the end. The floor keeps rare classes from blowing up.
    centre = features.mean(0)
    scale = features.std(0, correction=0).clamp_min(0.02)
    code_scale = codes.abs().amax((0, 1)).clamp_min(1.0)
    codes = codes / code_scale
    # Biases start where the first output is the mean target.
    present = ~torch.isnan(targets)
    mean = float(targets[present].mean()) if bool(present.any()) else 0.5
    start = float(np.log((mean + 1e-3) / (1 - mean + 1e-3))) if sigmoid else mean

    n_features, n_code = features.shape[1], codes.shape[2]

    def uniform(*shape: int, fan_in: int) -> Any:
        bound = fan_in**-0.5
        drawn = torch.rand(*shape, generator=generator) * 2 - 1
        return (drawn * bound).requires_grad_()

    fan_in = n_features + n_code
    parameters = {
        "sample": uniform(n_features, embedding_size, fan_in=fan_in),
        "path": uniform(n_code, embedding_size, fan_in=n_code),
        "bias": uniform(embedding_size, fan_in=n_code),
        "hidden": uniform(embedding_size, hidden_size, fan_in=embedding_size),
        "hidden_bias": uniform(hidden_size, fan_in=embedding_size),
        "output": uniform(hidden_size, fan_in=hidden_size),
        "output_bias": torch.full((1,), start).requires_grad_(),
    }
    optimiser = torch.optim.Adam(
        list(parameters.values()), lr=learning_rate, weight_decay=weight_decay
    )

    def loss(u: Any, which: Any, goal: Any, weight: Any) -> tuple[Any, Any]:
        """Sum of weighted squared errors, and of weights."""
        p = parameters
        sample = p["sample"] / scale[:, None]
        layer = u @ sample + (p["bias"] - centre @ sample)
        layer = torch.relu(layer[:, None, :] + (codes @ p["path"])[which])
        layer = torch.relu(layer @ p["hidden"] + p["hidden_bias"])
        out = layer @ p["output"] + p["output_bias"]
        if sigmoid:
            out = torch.sigmoid(out)
        known = ~torch.isnan(goal)
        share = known.to(out.dtype) if weight is None else known * weight[:, None]
        square = (out - torch.nan_to_num(goal)) ** 2
        return (square * share).sum(), share.sum()

    def evaluate() -> float:
        total = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for first in range(0, len(held[0]), 8192):
                part = slice(first, first + 8192)
                weight = None if held[3] is None else held[3][part]
                pair = loss(held[0][part], held[1][part], held[2][part], weight)
                total += torch.stack(pair).double()
        return float(total[0] / total[1].clamp_min(1e-12))

    # Few rows make few steps an epoch, and patience is counted in epochs.
    size = min(batch_size, max(16, len(features) // _STEPS))
    history: dict[str, list[float]] = {"train_loss": [], "validation_loss": []}
    best, kept, since, since_cut = np.inf, None, 0, 0
    converged = False
    for _ in range(max_epochs):
        order = torch.randperm(len(features), generator=generator)
        running = torch.zeros(2)
        for part in order.split(size):
            weight = None if weights is None else weights[part]
            pair = loss(features[part], lines[part], targets[part], weight)
            optimiser.zero_grad(set_to_none=True)
            (pair[0] / pair[1].clamp_min(1e-12)).backward()
            optimiser.step()
            running += torch.stack(pair).detach()
        history["train_loss"].append(float(running[0] / running[1].clamp_min(1e-12)))
        current = evaluate()
        history["validation_loss"].append(current)
        if current < best * (1 - tol) or kept is None:
            since = since_cut = 0
        else:
            since, since_cut = since + 1, since_cut + 1
        if current < best:
            best = current
            kept = {key: value.detach().clone() for key, value in parameters.items()}
        if since >= patience:
            converged = True
            break
        if schedule == "plateau" and since_cut >= max(1, patience // 3):
            since_cut = 0
            for group in optimiser.param_groups:
                group["lr"] *= 0.5
    if not converged and schedule == "plateau":
        warnings.warn(
            f"{name} was still improving after max_epochs={max_epochs}; raise max_epochs.",
            ConvergenceWarning,
            stacklevel=3,
        )
    if not np.isfinite(best):
        raise ValueError(f"{name} did not train: its loss is {current}. Lower learning_rate.")
    assert kept is not None
    sample = kept["sample"] / scale[:, None]
    kept["bias"] = kept["bias"] - centre @ sample
    kept["sample"] = sample
    kept["path"] = kept["path"] / code_scale[:, None]
    arrays = {key: np.array(value.numpy(), dtype=np.float32) for key, value in kept.items()}
    report = {"n_epochs": len(history["validation_loss"]), "converged": converged, **history}
    return GateNetwork(arrays, sigmoid), report


def _tensors(data: GateData) -> tuple[Any, Any, Any, Any]:
    import torch

    return (
        torch.from_numpy(data.features),
        torch.from_numpy(np.asarray(data.lines, dtype=np.int64)),
        torch.from_numpy(data.targets),
        None if data.weights is None else torch.from_numpy(data.weights),
    )
