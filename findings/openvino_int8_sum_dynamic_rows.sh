#!/usr/bin/env bash
# OpenVINO 2026.4.1 on x86 (CPU plugin): a residual sum of int8 convolutions without a bias is wrong where the
# number of rows is left open, and right where it is fixed. No error, no warning.
#
# The graph is what quantisation of convolutions gives: an unsigned 8-bit input of one scale and a signed 8-bit
# weight of one scale a channel at each 1 x 1 convolution; a = conv(x), answer = a + conv(relu(conv(a))). Weights
# use 63 of their 127 codes, so that no sum of two products saturates on a CPU without VNNI, and torch computes
# the same fake-quantised graph as the reference. Compiled for 16 rows or for one, OpenVINO agrees with torch to
# rounding. Compiled for any number of rows (-1 in the shape, the usual form for a server) the same rows are off by
# a fifth of the answer's norm. With a bias that is not zero, without the sum or with float convolutions, an open
# number of rows is right as well. Whole networks with untrained norms, cut after such a block, were off by 0.2 to
# 0.9 of the norm. Seen on a CPU with AVX2 and without VNNI.
#
# Seen: sum, 16 rows 0.000; sum, one row 0.000; sum, any number 0.227; no sum, any number 0.000; float sum, any
# number 0.000. The script fails if that changes (the third below 0.1, or another above 0.003).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q openvino==2026.4.1 torch==2.14.1 numpy==2.4.6
cat >"$folder/see.py" <<'PY'
import numpy as np
import openvino as ov
import torch
from torch import nn
from torch.nn import functional as F


class Int8(nn.Module):
    def __init__(self, conv, seen):
        super().__init__()
        low, high = min(float(seen.min()), 0.0), max(float(seen.max()), 0.0)
        self.scale = (high - low) / 255
        self.zero = round(-low / self.scale)
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("step", self.weight.abs().amax((1, 2, 3)) / 63)
        self.register_buffer("zeros", torch.zeros(len(self.weight), dtype=torch.int32))

    def forward(self, x):
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, 255)
        w = torch.fake_quantize_per_channel_affine(self.weight, self.step, self.zeros, 0, -127, 127)
        return F.conv2d(x, w)


class Net(nn.Module):
    def __init__(self, convs, residual=True):
        super().__init__()
        self.convs, self.residual = nn.ModuleList(convs), residual

    def forward(self, x):
        first, second, third = self.convs
        a = first(x)
        b = third(second(a).relu())
        return a + b if self.residual else b


torch.manual_seed(0)
x = torch.randn(16, 32, 16, 16).relu()
convs = [nn.Conv2d(n, m, 1, bias=False) for n, m in ((32, 16), (16, 32), (32, 16))]
with torch.no_grad():
    a = convs[0](x)
    seen = x, a, convs[1](a).relu()
int8 = [Int8(conv, values) for conv, values in zip(convs, seen)]


def away(net, rows):
    with torch.no_grad():
        want = net(x).numpy()
    model = ov.convert_model(net.eval(), example_input=x[:2], input=ov.PartialShape([rows, 32, 16, 16]))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    run = ov.Core().compile_model(model, "CPU", options)
    size = rows if rows > 0 else len(x)
    made = [run(x[n : n + size].numpy())[0].copy() for n in range(0, len(x), size)]
    return float(np.linalg.norm(np.concatenate(made) - want) / np.linalg.norm(want))


found = {
    "sum, 16 rows": away(Net(int8), 16),
    "sum, one row": away(Net(int8), 1),
    "sum, any number": away(Net(int8), -1),
    "no sum, any number": away(Net(int8, residual=False), -1),
    "float sum, any number": away(Net(convs), -1),
}
for name, value in found.items():
    print(f"{name}: off by {value:.3f} of the norm")
wrong = found.pop("sum, any number")
assert wrong > 0.1 and max(found.values()) < 0.003, (wrong, found)
PY
OPENVINO_TELEMETRY_OPT_OUT=1 "$folder/env/bin/python" -W ignore "$folder/see.py"
