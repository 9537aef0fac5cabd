#!/usr/bin/env bash
# OpenVINO 2026.4.1: a compiled model keeps the activations of its largest batch, whatever runs after it.
#
# The memory between the layers grows with the first large batch and is not given back when the call returns, nor by
# smaller batches after it, nor by Python's garbage collector: only CompiledModel.release_memory() gives most of
# it back. Whoever compiles a network in parts (blocks between early exits, levels of a cascade) holds the
# activations of every part at once, where one model held those of one layer at a time.
#
# Seen, eight layers of 8 MiB together and 65,536 rows of 128 MiB, resident MiB: "one row 236, all rows 620, one row
# again 620, released 364". The script fails if less than one input's size stays after the small batch,
# or if release_memory() gives back less than that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import gc
import os

import numpy as np
import openvino
from openvino import opset13 as ops


def resident() -> float:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


rng = np.random.default_rng(0)
x = ops.parameter([-1, 512], np.float32)
y = x
for _ in range(8):
    weight = rng.standard_normal((512, 512), dtype=np.float32) / 512**0.5
    y = ops.relu(ops.matmul(y, ops.constant(weight), False, False))
model = openvino.Core().compile_model(openvino.Model([y], [x]), "CPU", {"INFERENCE_NUM_THREADS": 1})
rows = rng.standard_normal((65536, 512), dtype=np.float32)

model(rows[:1])
before = resident()
model(rows)
after = resident()
model(rows[:1])
small = resident()
model.release_memory()
released = resident()
print(
    f"one row {before:.0f}, all rows {after:.0f}, one row again {small:.0f}, released {released:.0f}"
)
size = rows.nbytes / 2**20
assert small - before > size
assert small - released > size
PY
