"""The paper's gate network, trained as numpy arrays."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skquee.method.gates._learning import Adam, GateData, GateLoss
from skquee.method.gates._network import ROWS, GateNetwork

__all__ = ["train_gate"]

# Columns whose deviations are worked out at once.
_COLUMNS = 64
# Steps an epoch has at most: on many pairs, patience would otherwise go by long passes.
_MOST_STEPS = 64
# Steps an epoch has at least, as long as batches stay above 16 pairs.
_STEPS = 20


def _deviations(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the standard deviation of each column; numpy's, of all at once, copies them twice."""
    found = np.empty(features.shape[1])
    for first in range(0, len(found), _COLUMNS):
        some = slice(first, first + _COLUMNS)
        features[:, some].std(axis=0, dtype=np.float64, out=found[some])
    return found


def _parted(order: NDArray[np.intp], size: int, steps: int) -> list[list[NDArray[np.intp]]]:
    """Return the batches of one pass, in even parts of so many steps at most."""
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    n_parts = -(-len(batches) // steps)
    ends = np.linspace(0, len(batches), n_parts + 1).round().astype(int).tolist()
    return [batches[low:high] for low, high in pairwise(ends)]


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
) -> tuple[GateNetwork, dict[str, object]]:
    """Fit a gate network with Adam on the mean squared error (equation 16).

    The weights of the epoch with the least validation loss are kept. ``schedule="plateau"``
    halves the step whenever ``patience // 3`` epochs, of 64 steps at most, brought nothing and
    stops after `patience`; ``"constant"`` keeps the step and stops alike (the paper's).

    `data`, `validation`: training and early-stopping pairs, of different samples. `max_epochs`,
    `patience`: epochs at most, and epochs without progress before stopping. `tol`: relative fall of
    the validation loss that counts as progress. `seed`: of weights and batches. Returns :
    ``n_epochs``, ``converged``, ``train_loss``, ``validation_loss`` (lists).
    """
    rng = np.random.default_rng(seed)
    # Training sees standardised input: the scaling acts on the weights, which are far smaller,
    # and is folded into them at the end. The floor keeps rare classes from blowing up.
    centre = data.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.maximum(_deviations(data.features), 0.02).astype(np.float32)
    code_scale = np.maximum(np.abs(data.codes).max(axis=(0, 1)), np.float32(1))
    # Biases start where the first output is the mean target.
    present = data.targets[~np.isnan(data.targets)]
    mean = float(present.mean(dtype=np.float64)) if present.size else 0.5
    start = float(np.log((mean + 1e-3) / (1 - mean + 1e-3))) if sigmoid else mean

    n_features, n_code = data.features.shape[1], data.codes.shape[2]
    fans = {
        "sample": ((n_features, embedding_size), n_features + n_code),
        "path": ((n_code, embedding_size), n_code),
        "bias": ((embedding_size,), n_code),
        "hidden": ((embedding_size, hidden_size), embedding_size),
        "hidden_bias": ((hidden_size,), embedding_size),
        "output": ((hidden_size,), hidden_size),
    }
    parameters = {
        key: rng.uniform(-(fan_in**-0.5), fan_in**-0.5, size=shape).astype(np.float32)
        for key, (shape, fan_in) in fans.items()
    }
    parameters["output_bias"] = np.full(1, start, dtype=np.float32)
    model = GateLoss(data.codes / code_scale, centre, scale, sigmoid)
    optimiser = Adam(parameters, learning_rate, weight_decay)
    parameters = optimiser.parameters

    def evaluate() -> float:
        total = np.zeros(2)
        for first in range(0, len(validation.features), ROWS):
            total += model.forward(parameters, validation, slice(first, first + ROWS))
        return float(total[0] / max(total[1], 1e-12))

    # Few rows make few steps an epoch, and patience is counted in epochs.
    size = min(batch_size, max(16, len(data.features) // _STEPS))
    history: dict[str, list[float]] = {"train_loss": [], "validation_loss": []}
    best, kept, since, since_cut = np.inf, None, 0, 0
    converged = False
    parts: list[list[NDArray[np.intp]]] = []
    steps = _MOST_STEPS if schedule == "plateau" else len(data.features)
    for _ in range(max_epochs):
        parts = parts or _parted(rng.permutation(len(data.features)), size, steps)
        running = np.zeros(2)
        for rows in parts.pop(0):
            sums, gradients = model.gradients(parameters, data, rows)
            optimiser.step(gradients)
            running += sums
        history["train_loss"].append(float(running[0] / max(running[1], 1e-12)))
        current = evaluate()
        history["validation_loss"].append(current)
        if current < best * (1 - tol) or kept is None:
            since = since_cut = 0
        else:
            since, since_cut = since + 1, since_cut + 1
        if current < best:
            best = current
            kept = {key: value.copy() for key, value in parameters.items()}
        if since >= patience:
            converged = True
            break
        if schedule == "plateau" and since_cut >= max(1, patience // 3):
            since_cut = 0
            optimiser.rate *= 0.5
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
    report = {"n_epochs": len(history["validation_loss"]), "converged": converged, **history}
    return GateNetwork(kept, sigmoid), report
