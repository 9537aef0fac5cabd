#!/usr/bin/env bash
# torchcp 1.2.1 (torch 2.14.1): sets and intervals that promise to cover 90 % cover 0 % and 57 %.
#
# SAPS(randomized=False) scores a true label that ranks first as 0 when it calibrates, and as the first probability when
# it predicts: once accuracy reaches 1 - alpha the threshold is 0 and every set is empty. CQRR is to widen an interval
# by a share of its width, but takes the width of an array of zeros, so that the model's own quantiles come back as they
# were. Nothing is said in either case. Randomized SAPS and CQR are right.
#
# Seen, coverage: "SAPS randomized 0.903, not 0.000" and "CQR 0.899, CQRR 0.573" (what the quantiles cover). The script
# fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 scikit-learn==1.9.1 numpy==2.4.6 pandas==3.1.1 \
    tqdm networkx
"$folder/env/bin/pip" install -q --no-deps torchcp==1.2.1
"$folder/env/bin/python" -W ignore - <<'PY'
import sys
from unittest.mock import MagicMock

for name in ("", ".nn", ".loader", ".utils", ".utils.convert"):  # for parts of torchcp not used here
    sys.modules["torch_geometric" + name] = MagicMock()
sys.modules["torchsort"] = sys.modules["transformers"] = MagicMock()

import torch
from torch.utils.data import DataLoader, TensorDataset
from torchcp.classification.predictor import SplitPredictor
from torchcp.classification.score import SAPS
from torchcp.regression.predictor import SplitPredictor as IntervalPredictor
from torchcp.regression.score import CQR, CQRR

torch.manual_seed(0)
n = 20_000
y = torch.randint(5, (2 * n,))
logits = 2 * torch.randn(2 * n, 5)
logits[torch.arange(2 * n), y] += 6
saps = {}
for randomized in (True, False):
    predictor = SplitPredictor(SAPS(randomized=randomized), device="cpu")
    predictor.calculate_threshold(logits[:n], y[:n], 0.1)
    sets = predictor.predict_with_logits(logits[n:])
    saps[randomized] = sets[torch.arange(n), y[n:]].float().mean().item()
print(f"SAPS randomized {saps[True]:.3f}, not {saps[False]:.3f}")


class Quantiles(torch.nn.Module):
    """Those of a normal distribution with deviation x, set too near to each other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-0.8 * x, 0.8 * x], 1)


x = 0.2 + torch.rand(2 * n, 1)
y = (x * torch.randn(2 * n, 1))[:, 0]
cqr = {}
for score in (CQR(), CQRR()):
    predictor = IntervalPredictor(score, Quantiles(), device="cpu")
    predictor.calibrate(DataLoader(TensorDataset(x[:n], y[:n]), 1000), 0.1)
    found = predictor.evaluate(DataLoader(TensorDataset(x[n:], y[n:]), 1000))
    cqr[type(score)] = found["coverage_rate"]
print(f"CQR {cqr[CQR]:.3f}, CQRR {cqr[CQRR]:.3f}")
assert abs(saps[True] - 0.9) < 0.02 and abs(cqr[CQR] - 0.9) < 0.02
assert saps[False] == 0 and cqr[CQRR] < 0.62
PY
