#!/usr/bin/env bash
# torchcp 1.2.1 (torch 2.14.1): WeightedPredictor pairs scores with other rows' weights; WSC looks for slices by label.
#
# For a shift of the features WeightedPredictor sorts the scores of calibration, and its weights by themselves: the
# largest weights fall on the largest scores, whoever's they are, and the sets are far too large. WSC, the coverage of
# the worst slice of the features, hands labels on where coverage is meant: it reports a slice of small labels, which
# covers what all rows cover. Where labels happen to be 1 for covered rows and 0 for the others it finds the bad slice.
#
# Seen, coverage (size of sets): "weighted quantile 0.895 (0.91), WeightedPredictor 0.999 (2.23)"; of rows whose worst
# slice covers 0.31: "WSC 0.87, with labels that say what is covered 0.31". The script fails if that changes.
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
from torchcp.classification.predictor import WeightedPredictor
from torchcp.classification.score import LAC
from torchcp.classification.utils.metrics import Metrics


class Network(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def odds(x):
    """How much more often than in calibration such rows come later: easy ones, of small x, do."""
    return torch.exp(3 - 6 * x[:, 0])


def draw(x):
    """Rows of x and five logits that tell less the larger x is, and their labels."""
    y = torch.randint(5, (n,))
    logits = 2 * torch.randn(n, 5)
    logits[torch.arange(n), y] += 8 * (1 - x[:, 0])
    return torch.cat([x, logits], 1), y


def covered(sets, y):
    return sets[torch.arange(n), y].float().mean().item(), sets.sum(1).float().mean().item()


torch.manual_seed(0)
n = 20_000
x = torch.rand(4 * n, 1)
(rows, y), (later, y_later) = draw(x[:n]), draw(x[torch.multinomial(odds(x), n, replacement=True)])
predictor = WeightedPredictor(
    LAC(),
    Network(lambda x: x[:, 1:]),
    image_encoder=Network(lambda x: x[:, :1]),
    domain_classifier=Network(lambda x: torch.stack([torch.ones(len(x)), odds(x)], 1)),
    device="cpu",
)
predictor.calibrate(DataLoader(TensorDataset(rows, y), 1000), 0.1)
found = list(predictor.evaluate(DataLoader(TensorDataset(later, y_later), 1000)).values())
scores, order = LAC()(rows[:, 1:], y).sort()
mass = odds(rows)[order].cumsum(0)
at = torch.searchsorted(mass, 0.9 * (mass[-1] + odds(later))).clamp(max=n - 1)
right = covered(LAC()(later[:, 1:]) <= scores[at][:, None], y_later)
print("weighted quantile {:.3f} ({:.2f}), WeightedPredictor {:.3f} ({:.2f})".format(*right, *found))

n = 4000
x, y = torch.randn(n, 3), torch.randint(4, (n,))
hit = torch.rand(n) < torch.where(x[:, 0] > 1, 0.3, 0.97)
sets = torch.nn.functional.one_hot(y, 4).bool() & hit[:, None]
worst = Metrics()("WSC")
blind = worst(x, sets, y, M=200)
only_1 = torch.tensor([False, True]).expand(n, 2)
told = worst(x, only_1, hit.long(), M=200)
print(f"WSC {blind:.2f}, with labels that say what is covered {told:.2f}")
assert abs(right[0] - 0.9) < 0.02 and found[0] > 0.98 and found[1] > 2 * right[1]
assert hit[x[:, 0] > 1].float().mean() < 0.35 and told < 0.5 and blind > 0.8
PY
