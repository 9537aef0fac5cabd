#!/usr/bin/env bash
# torch 2.14.1: FlopCounterMode counts no operation of a transformer's layer in evaluation, nor of an LSTM.
#
# torch.utils.flop_counter counts the operators that it has formulas for. In evaluation TransformerEncoderLayer runs as
# one fused operator, which has none, and an LSTM on a CPU runs as one of oneDNN: both count as zero, without a
# word, while the same layer in training, or with the library's fast paths switched off, is counted. A product of a
# matrix and a vector is zero, too. Costs of early exits measured this way are too small by whole blocks.
#
# Seen, operations of the layer in training and in evaluation, of the LSTM with and without oneDNN, of a matrix by a
# vector: "157824 0 442368 0 0". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count(run: Callable[..., object], *inputs: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(*inputs)
    return counter.get_total_flops()


layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
words = torch.randn(1, 9, 32)
lstm = nn.LSTM(32, 64, batch_first=True).eval()
found = [count(layer.train(), words), count(layer.eval(), words)]
with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
    found.append(count(lstm, words))
found.append(count(lstm, words))
found.append(count(torch.matmul, torch.ones(5, 7), torch.ones(7)))
print(*found)
assert found[0] > 0 and found[2] > 0
assert found[1] == found[3] == found[4] == 0
PY
