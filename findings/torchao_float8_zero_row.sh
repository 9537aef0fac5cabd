#!/usr/bin/env bash
# torchao 0.18.0 (torch 2.14.1): float8 weights of a row that is all zeros become NaN.
#
# quantize_(layer, Float8WeightOnlyConfig()) divides each row of weights by its largest magnitude over
# 448. A row of zeros, as pruning leaves them or an output that was never used, has scale 0, its codes
# are 0 / 0 = NaN, and the layer answers NaN there, without a warning. Int8WeightOnlyConfig keeps a
# smallest scale and answers 0. The dynamic float8 scheme treats rows of the input alike.
#
# Seen: "float8: [nan]" and "int8: [0.0]". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchao==0.18.0 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import torch
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

found = {}
for name, config in (("float8", Float8WeightOnlyConfig()), ("int8", Int8WeightOnlyConfig())):
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 4, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        layer.weight[3] = 0  # right answer: 0
    quantize_(layer, config)
    found[name] = layer(torch.ones(1, 16, dtype=torch.bfloat16))[0]
    print(f"{name}: {found[name][3:].tolist()}")
assert found["float8"][3].isnan() and found["float8"][:3].isfinite().all()
assert found["int8"][3] == 0
PY
