#!/usr/bin/env bash
# ONNX Runtime 1.32.0 (and torch 2.14.1): dynamic int8 makes a row's answer depend on the rows beside it.
#
# onnxruntime.quantization.quantize_dynamic and torch.ao.quantization.quantize_dynamic take one scale for the
# whole input of a linear layer, from its largest value. A row of ordinary size beside one that is 100 times as
# large is rounded to next to nothing, and is answered otherwise than alone, without a warning. Whoever groups
# requests, or rows that survive an early exit, gets answers that depend on the grouping. torchao 0.18 takes a scale
# a row, and does not.
#
# Seen, how far the answer moves, of its own size: ONNX Runtime 38.1 % (with reduce_range=True, which is right on
# every processor), torch 76.8 %, torchao 0.0 %. The script fails if the first two fall below 30 %, or the
# last moves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnxruntime==1.32.0 onnx torch==2.14.1 torchao==0.18.0 numpy==2.4.6
cd "$folder"
env/bin/python -W ignore - <<'PY'
import copy

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

torch.manual_seed(0)
layer = torch.nn.Linear(64, 32).eval()
row = torch.randn(1, 64)
beside = torch.cat([row, 100 * torch.randn(1, 64)])
weights = layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
    "linear",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
    [numpy_helper.from_array(w, n) for w, n in zip(weights, "Wb")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 8
onnx.save(model, "linear.onnx")
quantize_dynamic("linear.onnx", "dynamic.onnx", reduce_range=True)
session = onnxruntime.InferenceSession("dynamic.onnx")
dynamic = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear})
per_row = torch.nn.Sequential(copy.deepcopy(layer))
quantize_(per_row, Int8DynamicActivationInt8WeightConfig())
engines = {
    "ONNX Runtime": lambda x: session.run(None, {"x": x.numpy()})[0],
    "torch": lambda x: dynamic(x).numpy(),
    "torchao": lambda x: per_row(x).numpy(),
}
moved = {}
with torch.inference_mode():
    size = layer(row).abs().max().item()
    for name, call in engines.items():
        moved[name] = float(np.abs(call(beside)[:1] - call(row)).max() / size)
        print(f"{name}: {100 * moved[name]:.1f} %")
assert moved["ONNX Runtime"] > 0.3 and moved["torch"] > 0.3
assert moved["torchao"] < 1e-3
PY
