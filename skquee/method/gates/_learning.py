"""What the paper's gate network learns by: its loss and gradients written out, and Adam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adam", "GateData", "GateLoss"]

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class GateData:
    """Training material of one gate: m pairs of a sample and a prefix.

    `features` (m, n_features). `lines` (m,): which line of `codes` belongs to each pair. `codes`
    (n_prefixes, n_candidates, n_exits + 1): codes of the paths judged for each prefix. `targets`
    (m, n_candidates): error targets, NaN where there is no candidate. `weights` (m,).
    """

    features: NDArray[np.float32]
    lines: NDArray[np.intp]
    codes: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None


class GateLoss:
    """The weighted squared error of a gate network in training (equations 15 and 16).

    Layers lie on their side, width first and pairs last, so that every operation runs along
    the pairs, which are many.

    `codes` (n_prefixes, n_candidates, n_exits + 1). `centre`, `scale` (n_features,): standardise
    the sample part.
    """

    def __init__(
        self,
        codes: NDArray[np.float32],
        centre: NDArray[np.float32],
        scale: NDArray[np.float32],
        sigmoid: bool,
    ) -> None:
        self.codes = np.ascontiguousarray(codes.transpose(2, 1, 0))
        self.centre, self.scale, self.sigmoid = centre, scale, sigmoid

    def forward(
        self, p: Weights, data: GateData, rows: NDArray[np.intp] | slice
    ) -> tuple[float, float]:
        """Return the sum of the squared errors of some pairs, and of their weights.

        `p`: weights as of :class:`GateNetwork`, for standardised input.
        """
        return self._forward(p, data, rows)[0]

    def gradients(
        self, p: Weights, data: GateData, rows: NDArray[np.intp] | slice
    ) -> tuple[tuple[float, float], Weights]:
        """Return :meth:`forward` and the gradients of the mean error by every weight."""
        sums, (u, codes, first, second, out, away) = self._forward(p, data, rows)
        # Backwards: by the output, then layer by layer.
        slope = away
        slope *= np.float32(2 / max(sums[1], 1e-12))
        if self.sigmoid:
            slope *= out * (1 - out)
        of_second = p["output"][:, None] * slope
        of_second *= second > 0
        of_first = p["hidden"] @ of_second
        of_first *= first > 0
        of_sample = of_first.reshape(len(of_first), -1, len(u)).sum(axis=1)
        of_bias = of_sample.sum(axis=1)
        of_weights = u.T @ of_sample.T
        of_weights -= np.multiply.outer(self.centre, of_bias)
        of_weights /= self.scale[:, None]
        return sums, {
            "sample": of_weights,
            "path": codes @ of_first.T,
            "bias": of_bias,
            "hidden": first @ of_second.T,
            "hidden_bias": of_second.sum(axis=1),
            "output": second @ slope,
            "output_bias": slope.sum(keepdims=True),
        }

    def _forward(
        self, p: Weights, data: GateData, rows: NDArray[np.intp] | slice
    ) -> tuple[tuple[float, float], tuple[NDArray[np.floating], ...]]:
        u, goal = data.features[rows], data.targets[rows].T.ravel()
        codes = self.codes.take(data.lines[rows], axis=2).reshape(len(self.codes), -1)
        sample = p["sample"] / self.scale[:, None]
        # One candidate after the other, the pairs of each side by side.
        first = p["path"].T @ codes
        layers = first.reshape(len(first), -1, len(u))
        layers += (sample.T @ u.T + (p["bias"] - self.centre @ sample)[:, None])[:, None, :]
        np.maximum(first, 0, out=first)
        second = p["hidden"].T @ first
        second += p["hidden_bias"][:, None]
        np.maximum(second, 0, out=second)
        out: NDArray[np.floating] = p["output"] @ second
        out += p["output_bias"]
        if self.sigmoid:
            out = 1 / (1 + np.exp(np.minimum(-out, 80)))  # exp of more overflows float32
        known = ~np.isnan(goal)
        away = np.where(known, out - goal, np.float32(0))
        if data.weights is None:
            total, weighted = float(known.sum()), away
        else:
            weight = np.tile(data.weights[rows], len(goal) // len(u)) * known
            total, weighted = float(weight.sum(dtype=np.float64)), away * weight
        square = float((weighted * away).sum(dtype=np.float64))
        return (square, total), (u, codes, first, second, out, weighted)


class Adam:
    """Adam, with weight decay added to the gradient (Kingma and Ba, 2015, algorithm 1).

    `rate`, `decay`: step size and weight decay. `parameters`: where it is: views of one vector,
    changed in place.
    """

    def __init__(self, parameters: Weights, rate: float, decay: float) -> None:
        self.rate, self.decay, self.n_steps = rate, decay, 0
        self._values = np.concatenate([value.ravel() for value in parameters.values()])
        self._mean, self._square = np.zeros_like(self._values), np.zeros_like(self._values)
        ends = np.cumsum([value.size for value in parameters.values()])
        self.parameters = {
            key: self._values[end - value.size : end].reshape(value.shape)
            for (key, value), end in zip(parameters.items(), ends, strict=True)
        }

    def step(self, gradients: Weights) -> None:
        """Take one step; gradients are in the order of the parameters."""
        self.n_steps += 1
        first, second = 0.9, 0.999
        gradient = np.concatenate([gradients[key].ravel() for key in self.parameters])
        gradient += np.float32(self.decay) * self._values
        self._mean += np.float32(1 - first) * (gradient - self._mean)
        self._square += np.float32(1 - second) * (gradient * gradient - self._square)
        root = np.sqrt(self._square)
        root /= np.float32((1 - second**self.n_steps) ** 0.5)
        root += np.float32(1e-8)
        self._values -= np.float32(self.rate / (1 - first**self.n_steps)) * self._mean / root
