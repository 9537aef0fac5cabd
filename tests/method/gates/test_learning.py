"""What the gate network learns by, against torch; and its training where there is none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from skquee.method.gates._learning import Adam, GateData, GateLoss

N, FEATURES, LINES, CANDIDATES, CODE, EMBEDDING, HIDDEN = 40, 7, 3, 4, 5, 6, 8


def drawn(weighted: bool) -> tuple[GateData, dict[str, Any], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    targets = rng.random((N, CANDIDATES)).astype(np.float32)
    targets[rng.random(targets.shape) < 0.2] = np.nan
    weights = rng.random(N).astype(np.float32) if weighted else None
    lines = rng.integers(LINES, size=N)
    data = GateData(values(N, FEATURES), lines, values(LINES, CANDIDATES, CODE), targets, weights)
    parameters = {
        "sample": values(FEATURES, EMBEDDING),
        "path": values(CODE, EMBEDDING),
        "bias": values(EMBEDDING),
        "hidden": values(EMBEDDING, HIDDEN),
        "hidden_bias": values(HIDDEN),
        "output": values(HIDDEN),
        "output_bias": values(1),
    }
    return data, parameters, values(FEATURES), np.abs(values(FEATURES)) + 0.5


def of_torch(
    torch: Any, p: dict[str, Any], data: GateData, centre: Any, scale: Any, sigmoid: bool
) -> tuple[Any, Any]:
    """Equations 15 and 16 on the joined input: sums of weighted squared errors and weights."""
    u = (torch.from_numpy(data.features) - torch.from_numpy(centre)) / torch.from_numpy(scale)
    codes = torch.from_numpy(data.codes)[torch.from_numpy(data.lines)]
    first = torch.relu((u @ p["sample"])[:, None] + codes @ p["path"] + p["bias"])
    out = torch.relu(first @ p["hidden"] + p["hidden_bias"]) @ p["output"] + p["output_bias"]
    out = torch.sigmoid(out) if sigmoid else out
    goal = torch.from_numpy(data.targets)
    weight = (~torch.isnan(goal)).float()
    if data.weights is not None:
        weight = weight * torch.from_numpy(data.weights)[:, None]
    return ((out - torch.nan_to_num(goal)) ** 2 * weight).sum(), weight.sum()


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_loss_and_gradients_are_those_of_the_network(weighted: bool, sigmoid: bool) -> None:
    torch = pytest.importorskip("torch")
    data, parameters, centre, scale = drawn(weighted)
    loss = GateLoss(data.codes, centre, scale, sigmoid)
    (square, share), gradients = loss.gradients(parameters, data, slice(None))
    assert loss.forward(parameters, data, slice(None)) == (square, share)

    p = {key: torch.tensor(value, requires_grad=True) for key, value in parameters.items()}
    total, weight = of_torch(torch, p, data, centre, scale, sigmoid)
    (total / weight).backward()
    assert square == pytest.approx(total.item(), rel=1e-4)
    assert share == pytest.approx(weight.item(), rel=1e-5)
    for key, value in p.items():
        np.testing.assert_allclose(gradients[key], value.grad, rtol=1e-3, atol=1e-4, err_msg=key)


def test_the_optimiser_is_adam() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = {"v": rng.normal(size=4), "w": rng.normal(size=(3, 2))}
    start = {key: value.astype(np.float32) for key, value in start.items()}
    theirs = {key: torch.tensor(value, requires_grad=True) for key, value in start.items()}
    ours = Adam(start, 0.01, 1e-2)
    other = torch.optim.Adam(theirs.values(), lr=0.01, weight_decay=1e-2)
    for step in range(20):
        if step == 10:
            ours.rate = other.param_groups[0]["lr"] = 0.005
        gradients = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in start.items()}
        ours.step(gradients)
        for key, value in theirs.items():
            value.grad = torch.tensor(gradients[key])
        other.step()
        for key, value in theirs.items():
            found = ours.parameters[key]
            np.testing.assert_allclose(found, value.detach(), rtol=1e-4, atol=1e-6)


def test_training_goes_the_way_torch_would_go() -> None:
    """Whole batches from the same start: losses of both go down alike, step by step."""
    torch = pytest.importorskip("torch")
    data, parameters, centre, scale = drawn(weighted=True)
    loss, ours = GateLoss(data.codes, centre, scale, True), Adam(parameters, 0.01, 1e-4)
    theirs = {key: torch.tensor(value, requires_grad=True) for key, value in parameters.items()}
    other = torch.optim.Adam(theirs.values(), lr=0.01, weight_decay=1e-4)
    for _ in range(50):
        sums, gradients = loss.gradients(ours.parameters, data, slice(None))
        ours.step(gradients)
        total, weight = of_torch(torch, theirs, data, centre, scale, sigmoid=True)
        other.zero_grad()
        (total / weight).backward()
        other.step()
        assert sums[0] / sums[1] == pytest.approx((total / weight).item(), rel=1e-4)


def test_the_papers_router_trains_without_torch() -> None:
    code = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "torchvision"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from skquee import CostAwareRouter
from skquee.testing import make_path_probabilities
table, y = make_path_probabilities(200)
assert CostAwareRouter(0.1, random_state=0).fit(table, y).predict(table).shape == (200,)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
