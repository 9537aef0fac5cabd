#!/usr/bin/env bash
# torchinfo 1.8.0 (torch 2.14.1): the multiply-adds of a linear layer do not count its tokens.
#
# summary().total_mult_adds multiplies a linear layer's parameters by the first dimension of its input alone. On
# images of a convolution that is right; a transformer's layer sees (batch, tokens, width), and is counted as
# if there were one token. Attention's products are not seen at all. One ViT-Ti layer of 197 tokens has 102 million
# multiply-adds; torchinfo says 0.3 million.
#
# Seen: "linear layer on 197 tokens: 36864 multiply-adds, in truth 7262208". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torchinfo==1.8.0 torch==2.14.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import torch
from torchinfo import summary

layer = torch.nn.Linear(192, 192, bias=False)
found = summary(layer, input_data=torch.zeros(1, 197, 192), verbose=0).total_mult_adds
print(f"linear layer on 197 tokens: {found} multiply-adds, in truth {197 * 192 * 192}")
assert found == 192 * 192
PY
